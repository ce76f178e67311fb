//! How much a Gemini model thinks: by a number of tokens up to version 2.5, by a word from version 3.

use std::ops::RangeInclusive;

use serde_json::Value;
use serde_json::json;

use crate::gemini::model::Control;
use crate::gemini::model::Model;
use crate::settings::Settings;
use crate::settings::Thinking;
use crate::wire::Note;

/// The setting, as the agent file names it.
const SETTING: &str = "thinking_budget";
/// Leaves the number of tokens to the model.
const ADAPTIVE: i64 = -1;
/// Tokens for a word, where a model takes numbers. Between what it may think and what it usually does.
const TOKENS: [(&str, u32); 6] = [
    ("minimal", 1000),
    ("low", 1000),
    ("medium", 8000),
    ("high", 24_000),
    ("xhigh", 24_000),
    ("max", 24_000),
];

/// What a request sets of thinking; none: nothing.
pub(super) fn config(settings: &Settings, model: Model, notes: &mut Vec<Note>) -> Option<Value> {
    let wanted = match &settings.thinking {
        Some(Thinking::Tokens(0)) => Some(&Thinking::Off),
        wanted => wanted.as_ref(),
    };
    let Some(control) = model.control() else {
        if wanted.is_some_and(|wanted| *wanted != Thinking::Off) {
            notes.push(Note::left_out(SETTING, "this model does not think"));
        }
        return None;
    };
    let amount = wanted.and_then(|wanted| amount(wanted, &control, model, notes));
    let stopped = amount == Some(budget(0));
    let shown = (!stopped).then_some(("includeThoughts", json!(true)));
    let fields = amount.into_iter().chain(shown).map(|(field, value)| (field.to_owned(), value));
    Some(Value::Object(fields.collect()))
}

/// The field that sets how much, and its value.
type Amount = (&'static str, Value);

fn amount(wanted: &Thinking, control: &Control, model: Model, notes: &mut Vec<Note>) -> Option<Amount> {
    match (control, wanted) {
        (Control::Levels(_), Thinking::Adaptive) => None,
        (Control::Levels(levels), Thinking::Effort(word)) => nearest_level(word, levels, notes),
        (Control::Levels(levels), Thinking::Off) => {
            let least = levels.first()?;
            notes.push(Note::sent_as(SETTING, least, "this model always thinks"));
            Some(level(least))
        }
        (Control::Tokens(_), Thinking::Adaptive) => Some(budget(ADAPTIVE)),
        (Control::Tokens(_), Thinking::Effort(word)) => tokens_of(word, notes),
        (Control::Tokens(Some(range)), Thinking::Off) if !model.can_stop_thinking() => {
            notes.push(Note::sent_as(SETTING, range.start(), "this model always thinks"));
            Some(budget(*range.start()))
        }
        (Control::Tokens(_), Thinking::Off) => Some(budget(0)),
        (Control::Tokens(Some(range)), Thinking::Tokens(tokens)) => Some(within(*tokens, range, notes)),
        (Control::Tokens(None) | Control::Levels(_), Thinking::Tokens(tokens)) => Some(budget(*tokens)),
    }
}

fn level(word: &str) -> Amount {
    ("thinkingLevel", json!(word.to_ascii_uppercase()))
}

fn budget(tokens: impl Into<Value>) -> Amount {
    ("thinkingBudget", tokens.into())
}

/// The level that comes nearest to a word, from below where there is one.
fn nearest_level(word: &str, levels: &[&'static str], notes: &mut Vec<Note>) -> Option<Amount> {
    let word = word.strip_prefix("adaptive/").unwrap_or(word);
    let nearest = match word {
        "minimal" => ["minimal", "low"],
        "medium" => ["medium", "high"],
        "xhigh" | "max" => ["high", "high"],
        word => [word, word],
    };
    let found = nearest.iter().find_map(|near| levels.iter().copied().find(|known| known == near));
    match found {
        Some(level) if level == word => {}
        Some(level) => {
            notes.push(Note::sent_as(SETTING, level, &format!("this model does not know `{word}`")));
        }
        None => notes.push(Note::left_out(SETTING, &format!("this model knows {}", levels.join(", ")))),
    }
    found.map(level)
}

fn tokens_of(word: &str, notes: &mut Vec<Note>) -> Option<Amount> {
    let word = word.strip_prefix("adaptive/").unwrap_or(word);
    let tokens = TOKENS.iter().find(|(known, _)| *known == word).map(|&(_, tokens)| tokens);
    match tokens {
        Some(tokens) => notes.push(Note::sent_as(SETTING, tokens, "this model wants a number of tokens")),
        None => notes.push(Note::left_out(SETTING, "this model wants a number of tokens")),
    }
    tokens.map(budget)
}

fn within(tokens: u32, range: &RangeInclusive<u32>, notes: &mut Vec<Note>) -> Amount {
    let taken = tokens.clamp(*range.start(), *range.end());
    if taken != tokens {
        let why = format!("this model takes from {} to {} tokens", range.start(), range.end());
        notes.push(Note::sent_as(SETTING, taken, &why));
    }
    budget(taken)
}
