//! Reads the entries of `providers`, and the settings of a model other than its provider and its name.

use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::model;
use crate::team::model::Api;
use crate::team::model::ModelSettings;
use crate::team::model::ProviderSettings;
use crate::team::model::ThinkingBudget;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::tree::Entry;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The maximum number of tokens in a setting: far above every model's context, and safe in arithmetic.
const MAX_TOKENS: i64 = 100_000_000;

/// Reads an entry of `providers`.
pub(super) fn read_provider(reader: &mut Reader<'_>, entry: &Entry) -> Option<ProviderSettings> {
    let fields = reader.fields(&entry.node, &keys::PROVIDER)?;
    let name = excerpt(&entry.key);
    if entry.key.contains('/') || entry.key.trim() != entry.key || entry.key.is_empty() {
        let message = format!(
            "provider name '{name}' must not be empty, contain a slash, or begin or end with a space"
        );
        reader.error(entry.key_at, message, Some("models are referenced as `provider/model`".to_owned()));
    }
    let base_url = fields.string(reader, "base_url");
    if base_url.is_none() && !fields.has("base_url") {
        let hint = "add `base_url: https://…/v1`".to_owned();
        reader.error(entry.key_at, format!("provider '{name}' needs `base_url`"), Some(hint));
    }
    let api = match fields.string(reader, "api_type").as_deref() {
        None => Api::OpenaiChat,
        Some(name) => api_type(name).unwrap_or_else(|| {
            let at = fields.node("api_type").map_or(fields.at, |node| node.at);
            reader.error(at, format!("unknown api_type `{}`", excerpt(name)), Some(API_TYPES.to_owned()));
            Api::OpenaiChat
        }),
    };
    let token_keys = fields.string(reader, "token_key").into_iter().collect();
    Some(ProviderSettings { api, base_url, token_keys })
}

/// The hint for an unknown `api_type`.
const API_TYPES: &str = "valid values: `openai_chatcompletions`, `openai_responses`";

/// The protocol of an `api_type`.
fn api_type(name: &str) -> Option<Api> {
    match name {
        "openai_chatcompletions" => Some(Api::OpenaiChat),
        "openai_responses" => Some(Api::OpenaiResponses),
        _ => None,
    }
}

/// Reads the keys of a model other than its provider and its name.
pub(super) fn read_settings(reader: &mut Reader<'_>, fields: &Fields<'_>, settings: &mut ModelSettings) {
    if reader.version <= 1 {
        fields.string_map(reader, "env");
    }
    if let Some(base_url) = fields.string(reader, "base_url") {
        settings.base_url = Some(base_url);
    }
    if let Some(key) = fields.string(reader, "token_key") {
        settings.token_keys = vec![key];
    }
    settings.max_tokens =
        fields.integer(reader, "max_tokens", 1, MAX_TOKENS).and_then(|tokens| u32::try_from(tokens).ok());
    settings.temperature = fields.number(reader, "temperature", 0.0, 2.0);
    settings.top_p = fields.number(reader, "top_p", 0.0, 1.0);
    settings.frequency_penalty = fields.number(reader, "frequency_penalty", -2.0, 2.0);
    settings.presence_penalty = fields.number(reader, "presence_penalty", -2.0, 2.0);
    settings.parallel_tool_calls = fields.bool(reader, "parallel_tool_calls").or(Some(true));
    settings.track_usage = fields.bool(reader, "track_usage");
    settings.thinking_budget = read_thinking(reader, fields);
    settings.provider_opts = fields.json_map(reader, "provider_opts");
    warn_of_options(reader, fields, settings.api);
    let chosen = settings.provider_opts.get("api_type").and_then(|name| name.as_str()).and_then(api_type);
    if let (Some(api), Api::OpenaiChat | Api::OpenaiResponses) = (chosen, settings.api) {
        settings.api = api;
    }
}

/// Reads `thinking_budget`: a level or a number of tokens; up to version 2 of the schema also a map with either.
fn read_thinking(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ThinkingBudget> {
    let node = fields.node("thinking_budget")?;
    match &node.value {
        Value::Integer(tokens) => return Some(ThinkingBudget::Tokens(*tokens)),
        Value::String(effort) => {
            check_effort(reader, effort, node.at);
            return Some(ThinkingBudget::Effort(effort.clone()));
        }
        Value::Map(_) if reader.version > 2 => {
            let message = "`thinking_budget` can be a map only up to schema version 2";
            let hint = "write the level or the number of tokens directly: `thinking_budget: high`".to_owned();
            reader.error(node.at, message, Some(hint));
        }
        Value::Map(_) => {
            let fields = reader.fields(node, &keys::THINKING)?;
            let tokens = fields.integer(reader, "tokens", -1, MAX_TOKENS).map(ThinkingBudget::Tokens);
            let effort = fields.string(reader, "effort");
            if let (Some(effort), Some(node)) = (&effort, fields.node("effort")) {
                check_effort(reader, effort, node.at);
            }
            return tokens.or(effort.map(ThinkingBudget::Effort));
        }
        _ => reader.wrong_type(
            "thinking_budget",
            "`none`, `minimal`, `low`, `medium`, `high` or a number of tokens",
            node,
        ),
    }
    None
}

/// The levels of a thinking budget. Not every provider supports each of them.
const EFFORTS: [&str; 8] = ["none", "minimal", "low", "medium", "high", "xhigh", "max", "adaptive"];

/// Checks the level of a thinking budget.
fn check_effort(reader: &mut Reader<'_>, effort: &str, at: Position) {
    if EFFORTS.contains(&effort) {
        return;
    }
    let near = reader.closest(effort, EFFORTS).map(|near| format!("did you mean `{near}`?"));
    let hint =
        near.unwrap_or_else(|| format!("valid values: {}, or a number of tokens", quoted_list(EFFORTS)));
    reader.error(at, format!("unknown thinking budget `{}`", excerpt(effort)), Some(hint));
}

/// What happens instead of the AWS credential options.
const KEYS_ONLY: &str = "Bedrock is called with the bearer token of AWS_BEARER_TOKEN_BEDROCK or `token_key`, or with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
/// What to do instead of setting options of Docker Model Runner.
const CONFIGURE_RUNNER: &str = "set it where the model runs, with `docker model configure`";

/// The known keys of `provider_opts`; those without effect have a text that says what happens instead.
const OPTIONS: &[(&str, Option<&str>)] = &[
    ("api_type", None),
    ("api_version", None),
    ("context_size", None),
    ("endpoint_url", None),
    (model::FIRST_BYTE_TIMEOUT, None),
    (model::IDLE_TIMEOUT, None),
    ("interleaved_thinking", None),
    ("location", None),
    ("project", None),
    ("region", None),
    ("disable_prompt_caching", Some("prompts are never marked for caching on Bedrock")),
    ("profile", Some(KEYS_ONLY)),
    ("role_arn", Some(KEYS_ONLY)),
    ("role_session_name", Some(KEYS_ONLY)),
    ("external_id", Some(KEYS_ONLY)),
    ("rerank_prompt", Some("no agent searches RAG sources")),
    ("runtime_flags", Some(CONFIGURE_RUNNER)),
    ("speculative_draft_model", Some(CONFIGURE_RUNNER)),
    ("speculative_num_tokens", Some(CONFIGURE_RUNNER)),
    ("speculative_acceptance_rate", Some(CONFIGURE_RUNNER)),
];

/// Warns of each option that has no effect, and says what happens instead.
fn warn_of_options(reader: &mut Reader<'_>, fields: &Fields<'_>, api: Api) {
    let Some(Node { value: Value::Map(entries), .. }) = fields.node("provider_opts") else { return };
    for entry in entries {
        check_timeout(reader, entry);
        let known = OPTIONS.iter().find(|(name, _)| *name == entry.key);
        let reason = match known {
            Some(("project", None)) if api == Api::Google && !fields.has("token_key") => {
                let message = "Vertex AI needs an access token: name its variable with `token_key`";
                reader.warn(entry.key_at, message);
                continue;
            }
            Some((_, None)) => continue,
            Some((_, Some(reason))) => (*reason).to_owned(),
            None => {
                let near = reader.closest(&entry.key, OPTIONS.iter().map(|(name, _)| *name));
                near.map_or_else(
                    || "no supported provider has this option".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                )
            }
        };
        let message = format!("`{}` in provider_opts has no effect: {reason}", excerpt(&entry.key));
        reader.warn(entry.key_at, message);
    }
}

/// Reports a timeout that is not a duration above zero.
fn check_timeout(reader: &mut Reader<'_>, entry: &Entry) {
    if ![model::FIRST_BYTE_TIMEOUT, model::IDLE_TIMEOUT].contains(&entry.key.as_str()) {
        return;
    }
    let text = match &entry.node.value {
        Value::Null => return,
        Value::String(text) => text.clone(),
        Value::Integer(seconds) => seconds.to_string(),
        _ => return reader.wrong_type(&entry.key, "a duration", &entry.node),
    };
    if model::timeout_of(&text).is_none() {
        let message = format!("`{}` must be a duration above zero, not `{}`", entry.key, excerpt(&text));
        reader.error(entry.node.at, message, Some("examples: 30s, 5m, 1h30m".to_owned()));
    }
}
