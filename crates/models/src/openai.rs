//! What OpenAI's two wires share: what its models take, the schema of a tool, the tokens counted.

pub(crate) mod strict_schema;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::conversation::ToolSpec;
use crate::conversation::Usage;
use crate::json;
use crate::json::put;
use crate::settings::Settings;
use crate::settings::Thinking;
use crate::settings::ToolChoice;
use crate::wire::Note;
use crate::wire::RequestError;

/// What a body of either wire begins with; `key` is where it has the conversation.
///
/// # Errors
///
/// [`RequestError::NothingAsked`] where there is nothing but system messages.
pub(crate) fn body(
    settings: &Settings,
    key: &str,
    conversation: Vec<Value>,
) -> Result<Map<String, Value>, RequestError> {
    if conversation.iter().all(|item| item["role"] == "system") {
        return Err(RequestError::NothingAsked);
    }
    let mut body = settings.extra.clone();
    put(&mut body, "model", Some(settings.model.as_str()));
    put(&mut body, key, Some(conversation));
    put(&mut body, "stream", Some(true));
    Ok(body)
}

/// Which tool the model must call; `None` leaves it to the model. `any` is the word for any of them.
pub(crate) fn tool_choice(settings: &Settings, any: &str, one: impl Fn(&str) -> Value) -> Option<Value> {
    match &settings.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::Never => Some(json!("none")),
        ToolChoice::Required => Some(json!(any)),
        ToolChoice::Tool(name) => Some(one(name)),
    }
}

/// What a model of OpenAI takes, by its name. A model of another vendor takes everything but an effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Model {
    /// Whether it thinks before it answers. Such a model refuses temperature, top_p and the penalties.
    pub(crate) reasons: bool,
    /// The words of effort that it takes; empty: it refuses all of them.
    pub(crate) efforts: &'static [&'static str],
    /// Whether it takes a word on several calls in one reply.
    pub(crate) takes_parallel: bool,
}

/// Families that think before they answer, apart from the numbered GPT models.
const REASONING: [&str; 4] = ["o1", "o3", "o4", "codex"];
/// The first version of the numbered GPT models that thinks before it answers.
const FIRST_REASONING: (u32, u32) = (5, 0);
/// Models of these names think, and refuse every effort.
const WITHOUT_EFFORT: [&str; 4] = ["o1-mini", "o1-preview", "-deep-research", "-chat"];

const MINIMAL_TO_HIGH: &[&str] = &["minimal", "low", "medium", "high"];
const LOW_TO_HIGH: &[&str] = &["low", "medium", "high"];
const LOW_TO_XHIGH: &[&str] = &["low", "medium", "high", "xhigh"];
const LOW_TO_MAX: &[&str] = &["low", "medium", "high", "xhigh", "max"];
const MEDIUM_TO_XHIGH: &[&str] = &["medium", "high", "xhigh"];

impl Model {
    /// The model of a name, which a router may begin with the vendor.
    pub(crate) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let version = version(&name);
        let is_family = REASONING.iter().any(|family| name.starts_with(family));
        let reasons = version.is_some_and(|version| version >= FIRST_REASONING) || is_family;
        // The one numbered chat model that does not think.
        let reasons = reasons && !name.starts_with("gpt-5-chat");
        Self {
            reasons,
            efforts: efforts(&name, version, reasons),
            takes_parallel: !(reasons && name.starts_with('o')),
        }
    }

    /// A model of another vendor that takes these words of effort.
    pub(crate) fn with_efforts(efforts: &'static [&'static str]) -> Self {
        Self { reasons: false, efforts, takes_parallel: true }
    }

    /// The effort that is sent for a word; none: the word is not known, or no effort is taken.
    fn effort(&self, thinking: &Thinking) -> Option<&'static str> {
        let Thinking::Effort(word) = thinking else { return None };
        let nearest = match word.as_str() {
            "minimal" => ["minimal", "low", "low"],
            "xhigh" => ["xhigh", "high", "high"],
            "max" => ["max", "xhigh", "high"],
            word => [word, word, word],
        };
        nearest.iter().find_map(|near| self.efforts.iter().copied().find(|known| known == near))
    }
}

/// The version of a numbered GPT model: `gpt-5.2-pro` is 5.2, `gpt-4o` is 4.0.
fn version(name: &str) -> Option<(u32, u32)> {
    let numbers = name.strip_prefix("gpt-")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(numbers.len());
    let (major, minor) = numbers[..end].split_once('.').unwrap_or((&numbers[..end], "0"));
    Some((major.parse().ok()?, minor.parse().unwrap_or(0)))
}

fn efforts(name: &str, version: Option<(u32, u32)>, reasons: bool) -> &'static [&'static str] {
    let has = |word: &str| name.contains(word);
    match version {
        _ if name.starts_with("gpt-oss") => LOW_TO_HIGH,
        _ if !reasons || WITHOUT_EFFORT.iter().any(|word| has(word)) => &[],
        Some((5, 0)) if has("-pro") => &["high"],
        Some((5, 0)) if has("-codex") => LOW_TO_HIGH,
        Some((5, 0)) => MINIMAL_TO_HIGH,
        Some((5, 1)) if has("-codex-max") => LOW_TO_XHIGH,
        Some((5, 1)) | None => LOW_TO_HIGH,
        Some(_) if has("-pro") => MEDIUM_TO_XHIGH,
        Some((5, 2..=5)) => LOW_TO_XHIGH,
        Some(_) => LOW_TO_MAX,
    }
}

/// Sets whether one reply may ask for several calls, where the model takes a word on that.
pub(crate) fn parallel(
    settings: &Settings,
    model: Model,
    body: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    match settings.parallel_tool_calls {
        Some(_) if !model.takes_parallel => {
            notes.push(Note::left_out("parallel_tool_calls", "this model refuses it"));
        }
        parallel => put(body, "parallel_tool_calls", parallel),
    }
}

/// The effort that is sent, with a note where it is not the one of the settings.
pub(crate) fn effort(settings: &Settings, model: Model, notes: &mut Vec<Note>) -> Option<&'static str> {
    const SETTING: &str = "thinking_budget";
    let thinking = settings.thinking.as_ref()?;
    let effort = model.effort(thinking);
    match (thinking, effort) {
        (Thinking::Off | Thinking::Adaptive | Thinking::Tokens(0), _) => {}
        (Thinking::Effort(word), Some(effort)) if word != effort => {
            notes.push(Note::sent_as(SETTING, effort, &format!("this model does not know `{word}`")));
        }
        (Thinking::Effort(_), Some(_)) => {}
        (Thinking::Effort(_) | Thinking::Tokens(_), None) if model.efforts.is_empty() => {
            notes.push(Note::left_out(SETTING, "this model has no effort to set"));
        }
        (Thinking::Tokens(_), _) => {
            notes.push(Note::left_out(SETTING, "this model takes words, not tokens"));
        }
        (Thinking::Effort(_), None) => {
            let known = model.efforts.join(", ");
            notes.push(Note::left_out(SETTING, &format!("this model knows {known}")));
        }
    }
    effort
}

/// The schema of the arguments of a tool. Some servers refuse one without a type and properties.
pub(crate) fn parameters(spec: &ToolSpec) -> Value {
    let mut parameters = match &spec.parameters {
        Value::Object(schema) => schema.clone(),
        _ => Map::new(),
    };
    parameters.entry("type").or_insert_with(|| json!("object"));
    parameters.entry("properties").or_insert_with(|| json!({}));
    Value::Object(parameters)
}

/// The tokens that a report counts, in the fields of either wire or of a vendor.
pub(crate) fn counted(usage: &Value) -> Usage {
    let tokens = |places: &[&str]| {
        places
            .iter()
            .filter_map(|place| usage.pointer(place))
            .map(json::count)
            .find(|&count| count > 0)
            .unwrap_or(0)
    };
    Usage {
        input_tokens: tokens(&["/prompt_tokens", "/input_tokens"]),
        cached_tokens: tokens(&[
            "/prompt_tokens_details/cached_tokens",
            "/input_tokens_details/cached_tokens",
            "/prompt_cache_hit_tokens",
            "/cached_tokens",
            "/cache_read_input_tokens",
        ]),
        cache_write_tokens: tokens(&[
            "/cache_creation_input_tokens",
            "/prompt_tokens_details/cache_write_tokens",
            "/input_tokens_details/cache_write_tokens",
        ]),
        output_tokens: tokens(&["/completion_tokens", "/output_tokens"]),
        reasoning_tokens: tokens(&[
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_model_takes() {
        let table: [(&str, bool, &[&str]); 22] = [
            ("gpt-4o", false, &[]),
            ("gpt-4.1-mini", false, &[]),
            ("gpt-5", true, MINIMAL_TO_HIGH),
            ("openai/GPT-5-mini", true, MINIMAL_TO_HIGH),
            ("gpt-5-chat-latest", false, &[]),
            ("gpt-5-codex", true, LOW_TO_HIGH),
            ("gpt-5-pro", true, &["high"]),
            ("gpt-5.1", true, LOW_TO_HIGH),
            ("gpt-5.1-chat-latest", true, &[]),
            ("gpt-5.1-codex-max", true, LOW_TO_XHIGH),
            ("gpt-5.2-2025-12-11", true, LOW_TO_XHIGH),
            ("gpt-5.2-pro", true, MEDIUM_TO_XHIGH),
            ("gpt-5.6-sol", true, LOW_TO_MAX),
            ("gpt-6-astra", true, LOW_TO_MAX),
            ("o1-mini", true, &[]),
            ("o3", true, LOW_TO_HIGH),
            ("o3-deep-research", true, &[]),
            ("codex-mini-latest", true, LOW_TO_HIGH),
            ("gpt-oss-20b", false, LOW_TO_HIGH),
            ("gpt-", false, &[]),
            ("grok-4", false, &[]),
            ("", false, &[]),
        ];
        for (name, reasons, efforts) in table {
            let model = Model::of(name);
            assert_eq!((model.reasons, model.efforts), (reasons, efforts), "{name}");
        }
        assert!(!Model::of("o3").takes_parallel && Model::of("gpt-5").takes_parallel);
    }

    #[test]
    fn the_nearest_effort_is_sent() {
        let table = [
            ("gpt-5", "minimal", Some("minimal")),
            ("gpt-5.2", "minimal", Some("low")),
            ("gpt-5.2", "max", Some("xhigh")),
            ("gpt-6-astra", "max", Some("max")),
            ("o3", "xhigh", Some("high")),
            ("gpt-5-pro", "low", None),
            ("gpt-5", "much", None),
            ("gpt-4o", "high", None),
        ];
        for (name, word, effort) in table {
            assert_eq!(Model::of(name).effort(&Thinking::Effort(word.into())), effort, "{name} {word}");
        }
    }
}
