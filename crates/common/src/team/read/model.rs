//! `providers` and `models`, and what a reference to a model means.

use std::collections::BTreeMap;

use crate::team::keys;
use crate::team::model::Api;
use crate::team::model::BUILTIN;
use crate::team::model::ModelSettings;
use crate::team::model::ProviderSettings;
use crate::team::model::RoutingRule;
use crate::team::model::ThinkingBudget;
use crate::team::model::builtin;
use crate::team::reader::Fields;
use crate::team::reader::Reader;
use crate::team::reader::listed;
use crate::team::reader::nearest;
use crate::team::source::Position;
use crate::team::source::shown;
use crate::team::tree::Entry;
use crate::team::tree::Value;

/// The largest number of tokens that a file may ask for.
const MAX_TOKENS: i64 = 100_000_000;

/// Every model that the file defines, and what it takes to understand `provider/model`.
#[derive(Debug)]
pub(super) struct Models {
    providers: BTreeMap<String, ProviderSettings>,
    named: BTreeMap<String, Vec<ModelSettings>>,
    /// Names in `models` whose definition is wrong, so that references to them are no second mistake.
    broken: Vec<String>,
}

impl Models {
    /// Reads `providers` and `models`. Single models first, then those that list others, then the routing rules.
    pub(super) fn read(reader: &mut Reader<'_>, file: &Fields<'_>) -> Self {
        let mut models = Self {
            providers: BTreeMap::new(),
            named: BTreeMap::new(),
            broken: Vec::new(),
        };
        for entry in file.map(reader, "providers", "a map of names to providers") {
            if let Some(provider) = read_provider(reader, entry) {
                models.providers.insert(entry.key.clone(), provider);
            }
        }
        let mut lists = Vec::new();
        let mut routed = Vec::new();
        for entry in file.map(reader, "models", "a map of names to models") {
            let Some(fields) = reader.fields(&entry.node, &keys::MODEL) else {
                models.broken.push(entry.key.clone());
                continue;
            };
            let list = !fields.has("provider") && !fields.has("type");
            if list
                && fields
                    .text(reader, "model")
                    .is_some_and(|model| model.contains(','))
            {
                lists.push((entry, fields));
                continue;
            }
            match models.read_one(reader, entry, &fields) {
                Some(model) => models
                    .named
                    .insert(entry.key.clone(), vec![model])
                    .map_or((), drop),
                None => models.broken.push(entry.key.clone()),
            }
            if fields.has("routing") {
                routed.push((entry, fields));
            }
        }
        let single = models.named.clone();
        for (entry, fields) in lists {
            models.read_list(reader, &single, entry, &fields);
        }
        for (entry, fields) in routed {
            models.read_routing(reader, &single, entry, &fields);
        }
        models
    }

    /// The models by name.
    pub(super) fn into_named(self) -> BTreeMap<String, Vec<ModelSettings>> {
        self.named
    }

    /// The models that a reference means: a name of `models`, `provider/model`, or several of them with commas. None where
    /// a mistake was noted. `who` is the subject of the messages: `agent 'root'`.
    pub(super) fn resolve(
        &self,
        reader: &mut Reader<'_>,
        who: &str,
        reference: &str,
        at: Position,
    ) -> Option<Vec<ModelSettings>> {
        let mut found = Vec::new();
        for part in reference
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            found.extend(self.resolve_one(reader, &self.named, who, part, at)?);
        }
        if found.is_empty() {
            reader.error(at, format!("{who} has no model"), None);
        }
        (!found.is_empty()).then_some(found)
    }

    /// Whether the file defines a model of this name.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// One reference without commas.
    fn resolve_one(
        &self,
        reader: &mut Reader<'_>,
        named: &BTreeMap<String, Vec<ModelSettings>>,
        who: &str,
        reference: &str,
        at: Position,
    ) -> Option<Vec<ModelSettings>> {
        if let Some(models) = named.get(reference) {
            return Some(models.clone());
        }
        if self.broken.iter().any(|name| name == reference) {
            return None;
        }
        let Some((provider, model)) = reference
            .split_once('/')
            .filter(|(p, m)| !p.is_empty() && !m.is_empty())
        else {
            let names = named.keys().map(String::as_str);
            let hint = match nearest(reference, names.clone()) {
                Some(name) => format!("did you mean `{name}`?"),
                None if named.is_empty() => {
                    "write it as `provider/model`, or define it below `models:`".to_owned()
                }
                None => format!(
                    "the models of this file are: {}; or write `provider/model`",
                    listed(names)
                ),
            };
            reader.error(
                at,
                format!("{who} references non-existent model '{}'", shown(reference)),
                Some(hint),
            );
            return None;
        };
        let settings = self.provider(reader, who, provider, at)?;
        if settings.base_url.is_none()
            && builtin(provider).is_some_and(|known| known.needs_base_url)
        {
            let message = format!("{who} uses provider '{provider}', which needs a `base_url`");
            let hint = "define the model below `models:`, with its `base_url`".to_owned();
            reader.error(at, message, Some(hint));
            return None;
        }
        Some(vec![ModelSettings::of(settings, provider, model)])
    }

    /// The settings of a provider by name: the file's own come before the built-in ones.
    fn provider(
        &self,
        reader: &mut Reader<'_>,
        who: &str,
        name: &str,
        at: Position,
    ) -> Option<ProviderSettings> {
        let known = self
            .providers
            .get(name)
            .cloned()
            .or_else(|| builtin(name).map(|known| known.custom()));
        if known.is_none() {
            let own = self.providers.keys().map(String::as_str);
            let names = own.chain(BUILTIN.iter().map(|known| known.name));
            let hint = match nearest(name, names.clone()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!(
                    "the providers are: {}; others are defined below `providers:`",
                    listed(names)
                ),
            };
            reader.error(
                at,
                format!("{who} references unknown provider '{}'", shown(name)),
                Some(hint),
            );
        }
        known
    }

    /// An entry of `models` that is one model.
    fn read_one(
        &self,
        reader: &mut Reader<'_>,
        entry: &Entry,
        fields: &Fields<'_>,
    ) -> Option<ModelSettings> {
        let who = format!("model '{}'", shown(&entry.key));
        let before = reader.errors.len();
        let (provider_key, provider) = match fields.text(reader, "provider") {
            None if reader.version == 0 => ("type", fields.text(reader, "type")),
            provider => ("provider", provider),
        };
        let model = fields.text(reader, "model");
        let (Some(provider), Some(model)) = (provider, model) else {
            if reader.errors.len() == before {
                let missing = if fields.has("model") {
                    "provider"
                } else {
                    "model"
                };
                let hint = "for example: `provider: openai` and `model: gpt-4o`".to_owned();
                reader.error(entry.key_at, format!("{who} needs `{missing}`"), Some(hint));
            }
            return None;
        };
        let at = fields
            .node(provider_key)
            .map_or(entry.key_at, |node| node.at);
        let settings = self.provider(reader, &who, &provider, at)?;
        let mut settings = ModelSettings::of(settings, &provider, &model);
        read_settings(reader, fields, &mut settings);
        if settings.base_url.is_none()
            && builtin(&provider).is_some_and(|known| known.needs_base_url)
        {
            let message = format!("{who} uses provider '{provider}', which needs a `base_url`");
            reader.error(entry.key_at, message, None);
        }
        (reader.errors.len() == before).then_some(settings)
    }

    /// An entry of `models` that lists several.
    fn read_list(
        &mut self,
        reader: &mut Reader<'_>,
        single: &BTreeMap<String, Vec<ModelSettings>>,
        entry: &Entry,
        fields: &Fields<'_>,
    ) {
        let who = format!("model '{}'", shown(&entry.key));
        let Some(node) = fields.node("model") else {
            return;
        };
        let list = reader.text_of(node).unwrap_or_default();
        let parts: Vec<&str> = list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        let mut found = Vec::new();
        for part in &parts {
            found.extend(
                self.resolve_one(reader, single, &who, part, node.at)
                    .unwrap_or_default(),
            );
        }
        if parts.is_empty() {
            reader.error(node.at, format!("{who} has no model"), None);
        }
        if found.is_empty() {
            self.broken.push(entry.key.clone());
        } else {
            self.named.insert(entry.key.clone(), found);
        }
    }

    /// The routing rules of a model that is read already.
    fn read_routing(
        &mut self,
        reader: &mut Reader<'_>,
        single: &BTreeMap<String, Vec<ModelSettings>>,
        entry: &Entry,
        fields: &Fields<'_>,
    ) {
        let who = format!("model '{}'", shown(&entry.key));
        let mut rules = Vec::new();
        for node in fields.list(reader, "routing") {
            let Some(rule) = reader.fields(node, &keys::ROUTING) else {
                continue;
            };
            let examples = rule.texts(reader, "examples");
            let Some(target) = rule.text(reader, "model") else {
                reader.error(
                    node.at,
                    format!("a routing rule of {who} needs `model`"),
                    None,
                );
                continue;
            };
            let at = rule.node("model").map_or(node.at, |node| node.at);
            let found = self
                .resolve_one(reader, single, &who, &target, at)
                .unwrap_or_default();
            if let Some(model) = found.into_iter().next() {
                rules.push(RoutingRule { model, examples });
            }
        }
        if let Some([model]) = self.named.get_mut(&entry.key).map(Vec::as_mut_slice) {
            model.routing = rules;
        }
    }
}

/// An entry of `providers`.
fn read_provider(reader: &mut Reader<'_>, entry: &Entry) -> Option<ProviderSettings> {
    let fields = reader.fields(&entry.node, &keys::PROVIDER)?;
    let name = shown(&entry.key);
    if entry.key.contains('/') || entry.key.trim() != entry.key || entry.key.is_empty() {
        let message =
            format!("provider name '{name}' has a slash, a space at its edge, or nothing");
        reader.error(
            entry.key_at,
            message,
            Some("models are written `provider/model`".to_owned()),
        );
    }
    let base_url = fields.text(reader, "base_url");
    if base_url.is_none() && !fields.has("base_url") {
        let hint = "add `base_url: https://…/v1`".to_owned();
        reader.error(
            entry.key_at,
            format!("provider '{name}' needs `base_url`"),
            Some(hint),
        );
    }
    let api = match fields.text(reader, "api_type").as_deref() {
        None => Api::OpenaiChat,
        Some(word) => api_type(word).unwrap_or_else(|| {
            let at = fields.node("api_type").map_or(fields.at, |node| node.at);
            reader.error(
                at,
                format!("unknown api_type `{}`", shown(word)),
                Some(API_TYPES.to_owned()),
            );
            Api::OpenaiChat
        }),
    };
    let token_keys = fields.text(reader, "token_key").into_iter().collect();
    Some(ProviderSettings {
        api,
        base_url,
        token_keys,
    })
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
fn read_settings(reader: &mut Reader<'_>, fields: &Fields<'_>, settings: &mut ModelSettings) {
    if let Some(base_url) = fields.text(reader, "base_url") {
        settings.base_url = Some(base_url);
    }
    if let Some(key) = fields.text(reader, "token_key") {
        settings.token_keys = vec![key];
    }
    settings.max_tokens = fields
        .integer(reader, "max_tokens", 1, MAX_TOKENS)
        .and_then(|tokens| u32::try_from(tokens).ok());
    settings.temperature = fields.number(reader, "temperature", 0.0, 2.0);
    settings.top_p = fields.number(reader, "top_p", 0.0, 1.0);
    settings.frequency_penalty = fields.number(reader, "frequency_penalty", -2.0, 2.0);
    settings.presence_penalty = fields.number(reader, "presence_penalty", -2.0, 2.0);
    settings.parallel_tool_calls = fields.flag(reader, "parallel_tool_calls").or(Some(true));
    settings.track_usage = fields.flag(reader, "track_usage");
    settings.thinking_budget = read_thinking(reader, fields);
    settings.provider_opts = fields.json_map(reader, "provider_opts");
    let chosen = settings
        .provider_opts
        .get("api_type")
        .and_then(|word| word.as_str())
        .and_then(api_type);
    if let (Some(api), Api::OpenaiChat | Api::OpenaiResponses) = (chosen, settings.api) {
        settings.api = api;
    }
}

/// `thinking_budget`: a word, a number of tokens, and up to version 2 a map of either.
fn read_thinking(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ThinkingBudget> {
    let node = fields.node("thinking_budget")?;
    match &node.value {
        Value::Integer(tokens) => return Some(ThinkingBudget::Tokens(*tokens)),
        Value::Text(word) => return Some(ThinkingBudget::Effort(word.clone())),
        Value::Map(_) if reader.version <= 2 => {
            let fields = reader.fields(node, &keys::THINKING)?;
            let tokens = fields
                .integer(reader, "tokens", -1, MAX_TOKENS)
                .map(ThinkingBudget::Tokens);
            return tokens.or_else(|| fields.text(reader, "effort").map(ThinkingBudget::Effort));
        }
        _ => reader.wrong_kind(
            "thinking_budget",
            "`none`, `minimal`, `low`, `medium`, `high` or a number of tokens",
            node,
        ),
    }
    None
}
