//! What a provider and a model make of chat completions: which fields they refuse or want.

use crate::ids;
use crate::settings::Settings;
use crate::settings::Thinking;

/// What is said to this model in another way than to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The field of the most output tokens.
    pub(super) output_limit: &'static str,
    /// Whether temperature, top_p and the penalties may be set.
    pub(super) sampling: bool,
    /// Which words of effort are taken; empty: none may be sent.
    pub(super) efforts: &'static [&'static str],
    /// Whether several calls may be switched on and off.
    pub(super) parallel: bool,
    /// Whether usage in a stream has to be asked for. A provider that sends it anyway may refuse the field.
    pub(super) asks_for_usage: bool,
    /// The field in which the reasoning of a reply with calls must go back; none: it must not.
    pub(super) reasoning_back: Option<&'static str>,
    /// What a choice of any tool is called.
    pub(super) any_tool: &'static str,
    /// The most characters of the id of a call, and whether only letters and digits are taken.
    ids: (usize, bool),
}

/// OpenAI's models that think before they answer.
const REASONING: &[&str] = &["o1", "o3", "o4", "gpt-5", "codex"];
/// Those of the same name that do not.
const NOT_REASONING: &str = "gpt-5-chat";
/// Models that want their reasoning back with the results of their calls.
const REASONING_BACK: &[&str] = &["deepseek", "kimi"];

impl Dialect {
    /// The dialect of a model at its provider.
    pub(super) fn of(settings: &Settings) -> Self {
        // A router names the vendor first.
        let name = settings.model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let reasons = starts_with(&name, REASONING) && !name.starts_with(NOT_REASONING);
        let mistral = settings.provider == "mistral";
        let back = ["deepseek", "moonshot"].contains(&settings.provider.as_str())
            || starts_with(&name, REASONING_BACK);
        Self {
            output_limit: if reasons { "max_completion_tokens" } else { "max_tokens" },
            sampling: !reasons,
            efforts: efforts(&name, reasons),
            parallel: !(reasons && name.starts_with('o')),
            asks_for_usage: !mistral,
            reasoning_back: back.then_some("reasoning_content"),
            any_tool: if mistral { "any" } else { "required" },
            ids: if mistral { (9, true) } else { (40, false) },
        }
    }

    /// The id of a call as this provider takes it.
    pub(super) fn id(&self, id: &str) -> String {
        let (longest, plain) = self.ids;
        ids::fitted(id, longest, |c| !plain || c.is_ascii_alphanumeric())
    }

    /// The effort that is sent for a word, and whether it is another one; none: this model takes none.
    pub(super) fn effort(&self, thinking: &Thinking) -> Option<&'static str> {
        let Thinking::Effort(word) = thinking else { return None };
        let nearest = match word.as_str() {
            "minimal" => ["minimal", "low"],
            "xhigh" | "max" => ["xhigh", "high"],
            word => [word, word],
        };
        nearest.iter().find_map(|near| self.efforts.iter().copied().find(|known| known == near))
    }
}

fn efforts(name: &str, reasons: bool) -> &'static [&'static str] {
    match () {
        () if name.starts_with("gpt-5.") => &["low", "medium", "high", "xhigh"],
        () if reasons && name.starts_with("gpt-5") => &["minimal", "low", "medium", "high"],
        () if reasons || name.starts_with("gpt-oss") => &["low", "medium", "high"],
        () => &[],
    }
}

fn starts_with(name: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| name.starts_with(start))
}
