//! Reads the entries of `providers`, and the settings of a model other than its provider and its name.

use super::limits::read_threshold;
use crate::money::Money;
use crate::money::Price;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::model;
use crate::team::model::Api;
use crate::team::model::BUILTIN;
use crate::team::model::ModelDefaults;
use crate::team::model::ModelSettings;
use crate::team::model::ProviderSettings;
use crate::team::model::ThinkingBudget;
use crate::team::model::builtin;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::tree::Entry;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The maximum number of tokens in a setting: far above every model's context, and safe in arithmetic.
const MAX_TOKENS: i64 = 100_000_000;
/// The highest price in dollars for a million tokens: far above every model's, and safe in arithmetic.
const MAX_COST: f64 = 1_000_000.0;

/// Reads an entry of `providers`: the settings of the built-in provider that it names with `provider`, with its own in
/// their place.
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
    let mut settings = match fields.string(reader, "provider") {
        Some(base) => base_of_provider(reader, &fields, &base)?,
        None => unnamed_base(),
    };
    if base_url.is_none() && !fields.has("base_url") && (!fields.has("provider") || settings.needs_base_url) {
        let hint = "add `base_url: https://…/v1`, or name a built-in provider with `provider`".to_owned();
        reader.error(entry.key_at, format!("provider '{name}' needs `base_url`"), Some(hint));
    }
    if base_url.is_some() {
        settings.base_url = base_url;
        (settings.is_openai, settings.needs_base_url) = (false, false);
    }
    if let Some(name) = fields.string(reader, "api_type") {
        settings.is_openai = false;
        match api_type(&name) {
            Some(api) if is_openai_protocol(settings.api) => settings.api = api,
            Some(_) => {}
            None => {
                let at = fields.node("api_type").map_or(fields.at, |node| node.at);
                let message = format!("unknown api_type `{}`", excerpt(&name));
                reader.error(at, message, Some(API_TYPES.to_owned()));
            }
        }
    }
    // A provider with an address of its own needs only the key that it names.
    if settings.base_url.is_some() || fields.has("token_key") {
        let inherited = if fields.has("base_url") { Vec::new() } else { settings.token_keys };
        settings.token_keys = fields.string(reader, "token_key").map_or(inherited, |key| vec![key]);
    }
    settings.defaults = read_defaults(reader, &fields, settings.api);
    fields.string(reader, "unload_api");
    Some(settings)
}

/// What a provider without `provider` starts from: a server that speaks OpenAI's protocol.
fn unnamed_base() -> ProviderSettings {
    ProviderSettings {
        api: Api::OpenaiChat,
        base_url: None,
        token_keys: Vec::new(),
        is_openai: false,
        needs_base_url: false,
        defaults: ModelDefaults::default(),
    }
}

/// The built-in provider that a provider names with `provider`.
fn base_of_provider(reader: &mut Reader<'_>, fields: &Fields<'_>, base: &str) -> Option<ProviderSettings> {
    if let Some(known) = builtin(base) {
        return Some(known.settings());
    }
    let names = || BUILTIN.iter().map(|known| known.name);
    let hint = match reader.closest(base, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known providers: {}", quoted_list(names())),
    };
    let at = fields.node("provider").map_or(fields.at, |node| node.at);
    reader.error(at, format!("unknown provider '{}'", excerpt(base)), Some(hint));
    None
}

/// Whether a protocol is one of OpenAI's, between which `api_type` chooses.
fn is_openai_protocol(api: Api) -> bool {
    matches!(api, Api::OpenaiChat | Api::OpenaiResponses)
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

/// Reads the keys of a model other than its provider and its name. `subject` begins messages: `model 'fast'`.
pub(super) fn read_settings(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    subject: &str,
    settings: &mut ModelSettings,
) {
    if reader.version <= 1 {
        fields.string_map(reader, "env");
    }
    if let Some(base_url) = fields.string(reader, "base_url") {
        settings.base_url = Some(base_url);
    }
    if let Some(key) = fields.string(reader, "token_key") {
        settings.token_keys = vec![key];
    }
    let own = read_defaults(reader, fields, settings.api);
    settings.max_tokens = own.max_tokens.or(settings.max_tokens);
    settings.temperature = own.temperature.or(settings.temperature);
    settings.top_p = own.top_p.or(settings.top_p);
    settings.frequency_penalty = own.frequency_penalty.or(settings.frequency_penalty);
    settings.presence_penalty = own.presence_penalty.or(settings.presence_penalty);
    settings.parallel_tool_calls = own.parallel_tool_calls.or(settings.parallel_tool_calls).or(Some(true));
    settings.track_usage = own.track_usage.or(settings.track_usage);
    settings.thinking_budget = own.thinking_budget.or(settings.thinking_budget.take());
    settings.task_budget = own.task_budget.or(settings.task_budget);
    settings.provider_opts.extend(own.provider_opts);
    let chosen = settings.provider_opts.get("api_type").and_then(|name| name.as_str()).and_then(api_type);
    if let Some(api) = chosen.filter(|_| is_openai_protocol(settings.api)) {
        settings.api = api;
    }
    settings.compaction_threshold = read_threshold(reader, fields, subject);
    settings.takes_images = read_capabilities(reader, fields);
    settings.cost = read_cost(reader, fields);
    check_unused(reader, fields);
}

/// Reads the keys that a model and a provider have in common.
fn read_defaults(reader: &mut Reader<'_>, fields: &Fields<'_>, api: Api) -> ModelDefaults {
    warn_of_options(reader, fields, api);
    ModelDefaults {
        max_tokens: fields
            .integer(reader, "max_tokens", 1, MAX_TOKENS)
            .and_then(|tokens| u32::try_from(tokens).ok()),
        temperature: fields.number(reader, "temperature", 0.0, 2.0),
        top_p: fields.number(reader, "top_p", 0.0, 1.0),
        frequency_penalty: fields.number(reader, "frequency_penalty", -2.0, 2.0),
        presence_penalty: fields.number(reader, "presence_penalty", -2.0, 2.0),
        parallel_tool_calls: fields.bool(reader, "parallel_tool_calls"),
        track_usage: fields.bool(reader, "track_usage"),
        thinking_budget: read_thinking(reader, fields),
        task_budget: read_task_budget(reader, fields),
        provider_opts: fields.json_map(reader, "provider_opts"),
        compaction_model: fields.string(reader, "compaction_model"),
    }
}

/// Reads whether a model takes images. `capabilities` replaces what is known by its name, so what it leaves out is not
/// taken.
fn read_capabilities(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<bool> {
    let flags = reader.fields(fields.node("capabilities")?, &keys::CAPABILITIES)?;
    for name in ["pdf", "audio", "video"] {
        flags.bool(reader, name);
    }
    Some(flags.bool(reader, "image").unwrap_or(false))
}

/// Reads `cost`: dollars for a million tokens. Without a price of its own, input from the cache costs as other input.
fn read_cost(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Price> {
    let cost = reader.fields(fields.node("cost")?, &keys::COST)?;
    let mut dollars = |name| cost.number(reader, name, 0.0, MAX_COST).map(Money::of_dollars);
    let (input, output, cache_read) = (dollars("input"), dollars("output"), dollars("cache_read"));
    dollars("cache_write");
    Some(Price { input: input.unwrap_or_default(), output: output.unwrap_or_default(), cache_read })
}

/// Checks the keys of a model that have no effect.
fn check_unused(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    for name in ["title_model", "description"] {
        fields.string(reader, name);
    }
    fields.bool(reader, "bypass_models_gateway");
    if let Some(node) = fields.node("output_capabilities")
        && let Some(flags) = reader.fields(node, &keys::OUTPUT_CAPABILITIES)
    {
        flags.bool(reader, "image");
    }
}

/// Reads `task_budget`: a number of tokens, or a map with it. Zero means none.
fn read_task_budget(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<u64> {
    let node = fields.node("task_budget")?;
    let total = if matches!(node.value, Value::Map(_)) {
        let budget = reader.fields(node, &keys::TASK_BUDGET)?;
        if let Some(kind) = budget.string(reader, "type").filter(|kind| kind != "tokens") {
            let at = budget.node("type").map_or(budget.at, |node| node.at);
            let message = format!("task_budget.type `{}` is not supported", excerpt(&kind));
            reader.error(at, message, Some("write `tokens`".to_owned()));
        }
        budget.integer(reader, "total", 0, MAX_TOKENS)
    } else {
        fields.integer(reader, "task_budget", 0, MAX_TOKENS)
    };
    total.and_then(|total| u64::try_from(total).ok()).filter(|total| *total > 0)
}

/// Reads `thinking_budget`: a level or a number of tokens; up to version 2 of the schema also a map with either.
fn read_thinking(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ThinkingBudget> {
    let node = fields.node("thinking_budget")?;
    match &node.value {
        Value::Integer(tokens) => return Some(ThinkingBudget::Tokens(*tokens)),
        Value::String(effort) => {
            let effort = effort.trim().to_lowercase();
            check_effort(reader, &effort, node.at);
            return Some(ThinkingBudget::Effort(effort));
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
        _ => reader.wrong_type("thinking_budget", "a level such as `high`, or a number of tokens", node),
    }
    None
}

/// The levels of a thinking budget. Not every provider supports each of them.
const EFFORTS: [&str; 13] = [
    "none",
    "minimal",
    "low",
    "medium",
    "high",
    "xhigh",
    "max",
    "adaptive",
    "adaptive/low",
    "adaptive/medium",
    "adaptive/high",
    "adaptive/xhigh",
    "adaptive/max",
];

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

/// What happens instead of sampling options that not every provider has.
const NOT_SENT: &str = "it is not sent; the model samples by `temperature` and `top_p`";

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
    ("transport", Some("models are called over HTTP")),
    ("google_search", Some("the model has the tools of the agent; `fetch` reads pages")),
    ("google_maps", Some("the model has the tools of the agent")),
    ("code_execution", Some("the model has the tools of the agent; `shell` runs programs")),
    ("fallbacks", Some("write other models into `fallback` of the agent")),
    ("thinking_display", Some("thoughts are shown as the provider sends them")),
    ("unload_api", Some("no model is unloaded")),
    ("top_k", Some(NOT_SENT)),
    ("min_p", Some(NOT_SENT)),
    ("seed", Some(NOT_SENT)),
    ("repetition_penalty", Some(NOT_SENT)),
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
