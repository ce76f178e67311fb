//! What an entry of `providers` says, and what a model says beside its provider and its name.

use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::model::Api;
use crate::team::model::ModelSettings;
use crate::team::model::ProviderSettings;
use crate::team::model::ThinkingBudget;
use crate::team::names::listed;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::shown;
use crate::team::tree::Entry;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The largest number of tokens that a file may ask for.
const MAX_TOKENS: i64 = 100_000_000;

/// An entry of `providers`.
pub(super) fn read_provider(reader: &mut Reader<'_>, entry: &Entry) -> Option<ProviderSettings> {
    let fields = reader.fields(&entry.node, &keys::PROVIDER)?;
    let name = shown(&entry.key);
    if entry.key.contains('/') || entry.key.trim() != entry.key || entry.key.is_empty() {
        let message = format!("provider name '{name}' has a slash, a space at its edge, or nothing");
        reader.error(entry.key_at, message, Some("models are written `provider/model`".to_owned()));
    }
    let base_url = fields.text(reader, "base_url");
    if base_url.is_none() && !fields.has("base_url") {
        let hint = "add `base_url: https://…/v1`".to_owned();
        reader.error(entry.key_at, format!("provider '{name}' needs `base_url`"), Some(hint));
    }
    let api = match fields.text(reader, "api_type").as_deref() {
        None => Api::OpenaiChat,
        Some(word) => api_type(word).unwrap_or_else(|| {
            let at = fields.node("api_type").map_or(fields.at, |node| node.at);
            reader.error(at, format!("unknown api_type `{}`", shown(word)), Some(API_TYPES.to_owned()));
            Api::OpenaiChat
        }),
    };
    let token_keys = fields.text(reader, "token_key").into_iter().collect();
    Some(ProviderSettings { api, base_url, token_keys })
}

const API_TYPES: &str = "it is `openai_chatcompletions` or `openai_responses`";

/// The words of `api_type`.
fn api_type(word: &str) -> Option<Api> {
    match word {
        "openai_chatcompletions" => Some(Api::OpenaiChat),
        "openai_responses" => Some(Api::OpenaiResponses),
        _ => None,
    }
}

/// The keys of a model beside its provider and its name.
pub(super) fn read_settings(reader: &mut Reader<'_>, fields: &Fields<'_>, settings: &mut ModelSettings) {
    if let Some(base_url) = fields.text(reader, "base_url") {
        settings.base_url = Some(base_url);
    }
    if let Some(key) = fields.text(reader, "token_key") {
        settings.token_keys = vec![key];
    }
    settings.max_tokens =
        fields.integer(reader, "max_tokens", 1, MAX_TOKENS).and_then(|tokens| u32::try_from(tokens).ok());
    settings.temperature = fields.number(reader, "temperature", 0.0, 2.0);
    settings.top_p = fields.number(reader, "top_p", 0.0, 1.0);
    settings.frequency_penalty = fields.number(reader, "frequency_penalty", -2.0, 2.0);
    settings.presence_penalty = fields.number(reader, "presence_penalty", -2.0, 2.0);
    settings.parallel_tool_calls = fields.flag(reader, "parallel_tool_calls").or(Some(true));
    settings.track_usage = fields.flag(reader, "track_usage");
    settings.thinking_budget = read_thinking(reader, fields);
    settings.provider_opts = fields.json_map(reader, "provider_opts");
    warn_of_options(reader, fields, settings.api);
    let chosen = settings.provider_opts.get("api_type").and_then(|word| word.as_str()).and_then(api_type);
    if let (Some(api), Api::OpenaiChat | Api::OpenaiResponses) = (chosen, settings.api) {
        settings.api = api;
    }
}

/// `thinking_budget`: a word, a number of tokens, and up to version 2 a map of either.
fn read_thinking(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ThinkingBudget> {
    let node = fields.node("thinking_budget")?;
    match &node.value {
        Value::Integer(tokens) => return Some(ThinkingBudget::Tokens(*tokens)),
        Value::Text(word) => {
            check_effort(reader, word, node.at);
            return Some(ThinkingBudget::Effort(word.clone()));
        }
        Value::Map(_) if reader.version > 2 => {
            let message = "`thinking_budget` is a map in schema versions up to 2 only";
            let hint = "write the word or the number of tokens itself: `thinking_budget: high`".to_owned();
            reader.error(node.at, message, Some(hint));
        }
        Value::Map(_) => {
            let fields = reader.fields(node, &keys::THINKING)?;
            let tokens = fields.integer(reader, "tokens", -1, MAX_TOKENS).map(ThinkingBudget::Tokens);
            let effort = fields.text(reader, "effort");
            if let (Some(word), Some(node)) = (&effort, fields.node("effort")) {
                check_effort(reader, word, node.at);
            }
            return tokens.or(effort.map(ThinkingBudget::Effort));
        }
        _ => reader.wrong_kind(
            "thinking_budget",
            "`none`, `minimal`, `low`, `medium`, `high` or a number of tokens",
            node,
        ),
    }
    None
}

/// The words for how much a model thinks.
const EFFORTS: [&str; 8] = ["none", "minimal", "low", "medium", "high", "xhigh", "max", "adaptive"];

fn check_effort(reader: &mut Reader<'_>, word: &str, at: Position) {
    if EFFORTS.contains(&word) {
        return;
    }
    let near = reader.nearest(word, EFFORTS).map(|near| format!("did you mean `{near}`?"));
    let hint = near.unwrap_or_else(|| format!("it is {}, or a number of tokens", listed(EFFORTS)));
    reader.error(at, format!("unknown thinking budget `{}`", shown(word)), Some(hint));
}

const BY_TOKEN: &str = "Bedrock is reached by a bearer token, AWS_BEARER_TOKEN_BEDROCK or `token_key`";
const AT_THE_RUNNER: &str = "set it where the model runs, with `docker model configure`";

/// The keys of `provider_opts` that are known: what happens instead, for those that are not acted on.
const OPTIONS: &[(&str, Option<&str>)] = &[
    ("api_type", None),
    ("api_version", None),
    ("context_size", None),
    ("endpoint_url", None),
    ("interleaved_thinking", None),
    ("location", None),
    ("project", None),
    ("region", None),
    ("disable_prompt_caching", Some("no prompt is marked for caching on Bedrock anyway")),
    ("profile", Some(BY_TOKEN)),
    ("role_arn", Some(BY_TOKEN)),
    ("role_session_name", Some(BY_TOKEN)),
    ("external_id", Some(BY_TOKEN)),
    ("rerank_prompt", Some("no agent searches")),
    ("runtime_flags", Some(AT_THE_RUNNER)),
    ("speculative_draft_model", Some(AT_THE_RUNNER)),
    ("speculative_num_tokens", Some(AT_THE_RUNNER)),
    ("speculative_acceptance_rate", Some(AT_THE_RUNNER)),
];

/// Says of each option that has no effect what happens instead.
fn warn_of_options(reader: &mut Reader<'_>, fields: &Fields<'_>, api: Api) {
    let Some(Node { value: Value::Map(entries), .. }) = fields.node("provider_opts") else { return };
    for entry in entries {
        let known = OPTIONS.iter().find(|(name, _)| *name == entry.key);
        let instead = match known {
            Some(("project", None)) if api == Api::Google && !fields.has("token_key") => {
                let message = "Vertex takes an access token here: name its variable with `token_key`";
                reader.warn(entry.key_at, message);
                continue;
            }
            Some((_, None)) => continue,
            Some((_, Some(instead))) => (*instead).to_owned(),
            None => {
                let near = reader.nearest(&entry.key, OPTIONS.iter().map(|(name, _)| *name));
                near.map_or_else(
                    || "no provider here knows it".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                )
            }
        };
        let message = format!("`{}` in provider_opts has no effect: {instead}", shown(&entry.key));
        reader.warn(entry.key_at, message);
    }
}
