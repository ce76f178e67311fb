//! What a provider and a model make of chat completions: which fields they refuse or want.

use crate::ids;
use crate::openai::Model;
use crate::settings::Settings;

/// What is said to this model in another way than to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The field of the most output tokens.
    pub(super) output_limit: &'static str,
    /// Whether temperature, top_p and the penalties may be set.
    pub(super) sampling: bool,
    /// What the model itself takes.
    pub(super) model: Model,
    /// Whether usage in a stream has to be asked for. A provider that sends it anyway may refuse the field.
    pub(super) asks_for_usage: bool,
    /// The field in which the reasoning of a reply with calls must go back; none: it must not.
    pub(super) reasoning_back: Option<&'static str>,
    /// What a choice of any tool is called.
    pub(super) any_tool: &'static str,
    /// The most characters of the id of a call, and whether only letters and digits are taken.
    ids: (usize, bool),
}

/// Models that want their reasoning back with the results of their calls.
const REASONING_BACK: &[&str] = &["deepseek", "kimi"];

impl Dialect {
    /// The dialect of a model at its provider.
    pub(super) fn of(settings: &Settings) -> Self {
        // A router names the vendor first.
        let name = settings.model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let model = Model::of(&settings.model);
        let mistral = settings.provider == "mistral";
        let back = ["deepseek", "moonshot"].contains(&settings.provider.as_str())
            || starts_with(&name, REASONING_BACK);
        Self {
            output_limit: if model.reasons { "max_completion_tokens" } else { "max_tokens" },
            sampling: !model.reasons,
            model,
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
}

fn starts_with(name: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| name.starts_with(start))
}
