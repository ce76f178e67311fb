//! How much a Claude model thinks, and how much that leaves for its answer.
//!
//! Older models take a number of tokens, newer ones decide on their own and take a word of effort. What a model would
//! refuse is left out or adapted, with a note; a number that leaves nothing for the answer is an error of the settings.

use serde_json::Value;
use serde_json::json;

use crate::anthropic::model::Claude;
use crate::conversation::AssistantMessage;
use crate::conversation::Message;
use crate::conversation::Part;
use crate::settings::Settings;
use crate::settings::Thinking;
use crate::wire::Note;
use crate::wire::RequestError;

/// The setting, as the agent file names it.
const SETTING: &str = "thinking_budget";
/// The fewest tokens that may be given to thinking.
const MIN_TOKENS: u32 = 1024;
/// What is left for the answer where the agent file names no limit and the usual one is too low.
const ANSWER_TOKENS: u32 = 8192;

/// What a request sets of thinking.
#[derive(Debug)]
pub(crate) struct Thought {
    /// The field of that name.
    pub(crate) thinking: Option<Value>,
    /// The word of effort.
    pub(crate) effort: Option<&'static str>,
    /// Whether the model thinks before it answers, as far as this is known.
    pub(crate) thinks: bool,
    /// Whether the model decides how much. Such a model thinks between its calls of its own accord.
    pub(crate) is_adaptive: bool,
    /// The most tokens of the reply.
    pub(crate) output_tokens: u32,
}

/// Decides on thinking, and on the most tokens of the reply, which include it. `wire` is the one by which the model is
/// reached.
pub(crate) fn thought(
    settings: &Settings,
    model: Claude,
    wire: &str,
    messages: &[Message],
    notes: &mut Vec<Note>,
) -> Result<Thought, RequestError> {
    let mut thought = Thought {
        thinking: None,
        effort: None,
        thinks: model.thinks_by_default(),
        is_adaptive: false,
        output_tokens: settings.max_output_tokens.unwrap_or_else(|| model.default_output_tokens()),
    };
    match &settings.thinking {
        None => {}
        Some(Thinking::Off | Thinking::Tokens(0)) => off(model, &mut thought, notes),
        Some(Thinking::Adaptive) if model.takes_adaptive() => adaptive(&mut thought),
        Some(Thinking::Adaptive) => {
            notes.push(Note::left_out(SETTING, "this model wants a number of tokens"))
        }
        Some(Thinking::Effort(word)) => effort(word, model, &mut thought, notes),
        Some(Thinking::Tokens(_)) if !model.takes_budget() => {
            adaptive(&mut thought);
            notes.push(Note::sent_as(SETTING, "adaptive", "this model takes no number of tokens"));
        }
        Some(Thinking::Tokens(tokens)) if *tokens < MIN_TOKENS => {
            notes.push(Note::left_out(SETTING, &format!("the least is {MIN_TOKENS} tokens")));
        }
        Some(Thinking::Tokens(_)) if resumes_without_thinking(settings, wire, messages) => {
            notes
                .push(Note::left_out(SETTING, "the calls that this request continues came without thinking"));
        }
        Some(Thinking::Tokens(tokens)) => budget(*tokens, settings, &mut thought)?,
    }
    Ok(thought)
}

fn adaptive(thought: &mut Thought) {
    // Without this the newest models send signatures and no text.
    thought.thinking = Some(json!({"type": "adaptive", "display": "summarized"}));
    thought.thinks = true;
    thought.is_adaptive = true;
}

fn off(model: Claude, thought: &mut Thought, notes: &mut Vec<Note>) {
    if !model.can_stop_thinking() {
        notes.push(Note::left_out(SETTING, "this model always thinks"));
    } else if model.thinks_by_default() {
        thought.thinking = Some(json!({"type": "disabled"}));
        thought.thinks = false;
    }
}

/// A word of effort, which may follow `adaptive/`.
fn effort(word: &str, model: Claude, thought: &mut Thought, notes: &mut Vec<Note>) {
    let word = word.strip_prefix("adaptive/").unwrap_or(word);
    match model.effort(word) {
        Some(effort) => {
            thought.effort = Some(effort);
            if effort != word {
                notes.push(Note::sent_as(SETTING, effort, &format!("this model does not know `{word}`")));
            }
            if model.takes_adaptive() {
                adaptive(thought);
            }
        }
        None if model.efforts().is_empty() => {
            notes.push(Note::left_out(SETTING, "this model wants a number of tokens"));
        }
        None => {
            let known = model.efforts().join(", ");
            notes.push(Note::left_out(SETTING, &format!("this model knows {known}")));
        }
    }
}

fn budget(tokens: u32, settings: &Settings, thought: &mut Thought) -> Result<(), RequestError> {
    if tokens >= thought.output_tokens {
        if let Some(limit) = settings.max_output_tokens {
            let enough = tokens.saturating_add(MIN_TOKENS);
            let why = format!(
                "of {tokens} tokens must be less than `max_tokens`, which is {limit}: raise `max_tokens` to at least {enough}"
            );
            return Err(RequestError::Setting { setting: SETTING, why });
        }
        thought.output_tokens = tokens.saturating_add(ANSWER_TOKENS);
    }
    thought.thinking = Some(json!({"type": "enabled", "budget_tokens": tokens}));
    thought.thinks = true;
    Ok(())
}

/// Whether the request continues calls whose turn began without thinking: another model made them, or thinking was off.
/// Thinking cannot be switched on within a turn.
fn resumes_without_thinking(settings: &Settings, wire: &str, messages: &[Message]) -> bool {
    let turn = (0..messages.len()).rev().find(|&at| begins_turn(messages, at)).unwrap_or(0);
    let replies = messages[turn..].iter().filter_map(|message| match message {
        Message::Assistant(reply) => Some(reply),
        _ => None,
    });
    let replies: Vec<&AssistantMessage> = replies.collect();
    let continues = replies.last().is_some_and(|reply| reply.tool_calls().next().is_some());
    continues && !replies.iter().any(|reply| has_thinking(settings, wire, reply))
}

/// Whether a turn begins here: with words of the user that do not go along with the results of calls.
fn begins_turn(messages: &[Message], at: usize) -> bool {
    let is_reply_or_result =
        |message: &&Message| matches!(message, Message::Assistant(_) | Message::ToolResult(_));
    let before = messages[..at].iter().rev().find(is_reply_or_result);
    matches!(messages[at], Message::User { .. }) && !matches!(before, Some(Message::ToolResult(_)))
}

fn has_thinking(settings: &Settings, wire: &str, reply: &AssistantMessage) -> bool {
    let own = reply.origin.as_ref().is_some_and(|origin| origin.is(wire, &settings.provider));
    own && reply
        .parts
        .iter()
        .any(|part| matches!(part, Part::Thinking { signature: Some(_), .. } | Part::RedactedThinking { .. }))
}
