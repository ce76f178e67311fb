//! How much a model thinks, in the field that its vendor has for it.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::anthropic::model::Claude;
use crate::anthropic::request::thinking;
use crate::bedrock_converse::BedrockConverse;
use crate::bedrock_converse::vendor::Vendor;
use crate::conversation::Message;
use crate::json::put;
use crate::openai::Model;
use crate::openai::effort;
use crate::settings::Settings;
use crate::wire::Note;
use crate::wire::RequestError;
use crate::wire::Wire as _;

/// The feature that thinks between tool calls, for Claude models that do not do so of their own accord.
const INTERLEAVED: &str = "interleaved-thinking-2025-05-14";
/// The feature that takes a word of effort, for Claude models that do not decide how much they think.
const EFFORT: &str = "effort-2025-11-24";
/// The effort at which Nova decides how long its reply is and how it is sampled.
const DECIDES_ALONE: &str = "high";

/// What a request sets of thinking.
#[derive(Debug, Default)]
pub(super) struct Thought {
    /// The vendor's own fields.
    pub(super) fields: Map<String, Value>,
    /// Whether the model thinks before it answers, as far as this is known.
    pub(super) thinks: bool,
    /// Whether the model refuses a limit of its output and sampling settings along with this.
    pub(super) decides_alone: bool,
    /// The most tokens of the reply; none: as many as the model can.
    pub(super) output_tokens: Option<u32>,
}

/// Decides on thinking.
pub(super) fn thought(
    settings: &Settings,
    vendor: Vendor,
    messages: &[Message],
    notes: &mut Vec<Note>,
) -> Result<Thought, RequestError> {
    let mut thought = Thought { output_tokens: settings.max_output_tokens, ..Thought::default() };
    match vendor {
        Vendor::Anthropic(claude) => return of_claude(settings, claude, messages, notes),
        Vendor::Amazon { reasons } => {
            let efforts: &[&str] = if reasons { &["low", "medium", "high"] } else { &[] };
            let effort = effort(settings, Model::with_efforts(efforts), notes);
            let config = |effort| json!({"type": "enabled", "maxReasoningEffort": effort});
            put(&mut thought.fields, "reasoningConfig", effort.map(config));
            thought.decides_alone = effort == Some(DECIDES_ALONE);
        }
        Vendor::Openai { model, is_open: true } => {
            put(&mut thought.fields, "reasoning_effort", effort(settings, model, notes));
        }
        Vendor::Openai { model, is_open: false } => {
            let effort = effort(settings, model, notes).map(|effort| json!({"effort": effort}));
            put(&mut thought.fields, "reasoning", effort);
        }
        Vendor::Meta { .. } | Vendor::Mistral | Vendor::Other { .. } => {
            effort(settings, Model::with_efforts(&[]), notes);
        }
    }
    Ok(thought)
}

fn of_claude(
    settings: &Settings,
    claude: Claude,
    messages: &[Message],
    notes: &mut Vec<Note>,
) -> Result<Thought, RequestError> {
    let own = thinking::thought(settings, claude, BedrockConverse::NAME, messages, notes)?;
    let mut fields = Map::new();
    let wants_interleaved = settings.interleaved_thinking && claude.takes_budget() && !own.is_adaptive;
    let wants_effort = own.effort.is_some() && !claude.takes_adaptive();
    let betas = [(wants_interleaved, INTERLEAVED), (wants_effort, EFFORT)];
    let betas: Vec<&str> = betas.into_iter().filter(|(wanted, _)| *wanted).map(|(_, beta)| beta).collect();
    put(&mut fields, "anthropic_beta", Some(betas).filter(|betas| !betas.is_empty()));
    put(&mut fields, "thinking", own.thinking);
    put(&mut fields, "output_config", own.effort.map(|effort| json!({"effort": effort})));
    Ok(Thought { fields, thinks: own.thinks, decides_alone: false, output_tokens: Some(own.output_tokens) })
}
