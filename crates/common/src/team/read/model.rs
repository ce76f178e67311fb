//! `providers` and `models`, and what a reference to a model means.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::settings::read_provider;
use super::settings::read_settings;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::model::BUILTIN;
use crate::team::model::ModelSettings;
use crate::team::model::ProviderSettings;
use crate::team::model::RoutingRule;
use crate::team::model::builtin;
use crate::team::names::listed;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::shown;
use crate::team::tree::Entry;

/// So many models may stand in one list with commas.
const MAX_ALTERNATIVES: usize = 32;

/// Lists of models that list lists nest at most this deep.
const MAX_NESTED_LISTS: usize = 8;

/// Every model that the file defines, and what it takes to understand `provider/model`.
#[derive(Debug)]
pub(super) struct Models {
    providers: BTreeMap<String, ProviderSettings>,
    named: BTreeMap<String, Vec<ModelSettings>>,
    /// About how many bytes a copy of each named model takes.
    sizes: BTreeMap<String, usize>,
    /// Names in `models` whose definition is wrong, so that references to them are no second mistake.
    broken: BTreeSet<String>,
}

impl Models {
    /// Reads `providers` and `models`. Single models first, then those that list others, then the routing rules; a list has its models without their rules.
    pub(super) fn read(reader: &mut Reader<'_>, file: &Fields<'_>) -> Self {
        let mut models = Self {
            providers: BTreeMap::new(),
            named: BTreeMap::new(),
            sizes: BTreeMap::new(),
            broken: BTreeSet::new(),
        };
        for entry in file.map(reader, "providers", "a map of names to providers") {
            if let Some(provider) = read_provider(reader, entry) {
                models.providers.insert(entry.key.clone(), provider);
            }
        }
        let mut lists = Vec::new();
        let mut routed = Vec::new();
        for entry in file.map(reader, "models", "a map of names to models") {
            models.sizes.insert(entry.key.clone(), entry.node.size());
            let Some(fields) = reader.fields(&entry.node, &keys::MODEL) else {
                models.broken.insert(entry.key.clone());
                continue;
            };
            let list = !fields.has("provider") && !fields.has("type");
            if list && fields.text(reader, "model").is_some_and(|model| model.contains(',')) {
                lists.push((entry, fields));
                continue;
            }
            match models.read_one(reader, entry, &fields) {
                Some(model) => models.named.insert(entry.key.clone(), vec![model]).map_or((), drop),
                None => {
                    models.broken.insert(entry.key.clone());
                }
            }
            if fields.has("routing") {
                routed.push((entry, fields));
            }
        }
        let single = models.named.clone();
        models.read_lists(reader, lists);
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
        for part in parts(reader, who, reference, at)? {
            found.extend(self.resolve_one(reader, &self.named, who, part, at)?);
        }
        Some(found)
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
        let copied = self.sizes.get(reference).copied().unwrap_or_default() + size_of::<ModelSettings>();
        if !reader.may_copy(copied, at) {
            return None;
        }
        if let Some(models) = named.get(reference) {
            return Some(models.clone());
        }
        if self.broken.contains(reference) {
            return None;
        }
        let Some((provider, model)) =
            reference.split_once('/').filter(|(p, m)| !p.is_empty() && !m.is_empty())
        else {
            let hint = self.hint_of_model(reader, named, reference);
            reader.error(
                at,
                format!("{who} references non-existent model '{}'", shown(reference)),
                Some(hint),
            );
            return None;
        };
        let settings = self.provider(reader, who, provider, at)?;
        if settings.base_url.is_none() && builtin(provider).is_some_and(|known| known.needs_base_url) {
            let message = format!("{who} uses provider '{provider}', which needs a `base_url`");
            let hint = "define the model below `models:`, with its `base_url`".to_owned();
            reader.error(at, message, Some(hint));
            return None;
        }
        Some(vec![ModelSettings::of(settings, provider, model)])
    }

    /// What was likely meant by a reference that leads nowhere.
    fn hint_of_model(
        &self,
        reader: &Reader<'_>,
        named: &BTreeMap<String, Vec<ModelSettings>>,
        reference: &str,
    ) -> String {
        let names = named.keys().map(String::as_str);
        if self.sizes.contains_key(reference) {
            return format!("`{}` is itself a list; name one of its models", shown(reference));
        }
        if let Some(name) = reader.nearest(reference, names.clone()) {
            return format!("did you mean `{name}`?");
        }
        let known = MAKERS.iter().find(|(start, _)| reference.starts_with(start));
        match known {
            Some((_, provider)) => format!("did you mean `{provider}/{}`?", shown(reference)),
            None if named.is_empty() => {
                "write it as `provider/model`, or define it below `models:`".to_owned()
            }
            None => format!("the models of this file are: {}; or write `provider/model`", listed(names)),
        }
    }

    /// The settings of a provider by name: the file's own come before the built-in ones.
    fn provider(
        &self,
        reader: &mut Reader<'_>,
        who: &str,
        name: &str,
        at: Position,
    ) -> Option<ProviderSettings> {
        let known = self.providers.get(name).cloned().or_else(|| builtin(name).map(|known| known.custom()));
        if known.is_none() {
            let own = self.providers.keys().map(String::as_str);
            let names = own.chain(BUILTIN.iter().map(|known| known.name));
            let hint = match reader.nearest(name, names.clone()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => {
                    format!("the providers are: {}; others are defined below `providers:`", listed(names))
                }
            };
            reader.error(at, format!("{who} references unknown provider '{}'", shown(name)), Some(hint));
        }
        known
    }

    /// An entry of `models` that is one model.
    fn read_one(&self, reader: &mut Reader<'_>, entry: &Entry, fields: &Fields<'_>) -> Option<ModelSettings> {
        let who = format!("model '{}'", shown(&entry.key));
        let before = reader.error_count();
        let (provider_key, provider) = match fields.text(reader, "provider") {
            None if reader.version == 0 => ("type", fields.text(reader, "type")),
            provider => ("provider", provider),
        };
        let model = fields.text(reader, "model");
        let (Some(provider), Some(model)) = (provider, model) else {
            if reader.error_count() == before {
                let missing = if fields.has("model") { "provider" } else { "model" };
                let example = if missing == "provider" { "openai" } else { "gpt-4o" };
                let hint = format!("for example `{missing}: {example}`");
                reader.error(entry.key_at, format!("{who} needs `{missing}`"), Some(hint));
            }
            return None;
        };
        let at = fields.node(provider_key).map_or(entry.key_at, |node| node.at);
        let settings = self.provider(reader, &who, &provider, at)?;
        let mut settings = ModelSettings::of(settings, &provider, &model);
        read_settings(reader, fields, &mut settings);
        if settings.base_url.is_none() && builtin(&provider).is_some_and(|known| known.needs_base_url) {
            let message = format!("{who} uses provider '{provider}', which needs a `base_url`");
            reader.error(entry.key_at, message, None);
        }
        (reader.error_count() == before).then_some(settings)
    }

    /// The entries of `models` that list several, which may list each other.
    fn read_lists(&mut self, reader: &mut Reader<'_>, mut pending: Vec<(&Entry, Fields<'_>)>) {
        for _ in 0..MAX_NESTED_LISTS {
            let names: BTreeSet<&str> = pending.iter().map(|(entry, _)| entry.key.as_str()).collect();
            let (later, now): (Vec<_>, Vec<_>) = pending.iter().partition(|(_, fields)| {
                let list = fields.node("model").and_then(|node| reader.text_of(node));
                list.unwrap_or_default().split(',').any(|part| names.contains(part.trim()))
            });
            for (entry, fields) in &now {
                self.read_list(reader, entry, fields);
            }
            pending = later;
        }
        for (entry, _) in pending {
            let name = shown(&entry.key);
            let message = format!("model '{name}' lists itself, or lists of lists without end");
            reader.error(entry.key_at, message, None);
            self.broken.insert(entry.key.clone());
        }
    }

    /// An entry of `models` that lists several, all of them read.
    fn read_list(&mut self, reader: &mut Reader<'_>, entry: &Entry, fields: &Fields<'_>) {
        let who = format!("model '{}'", shown(&entry.key));
        let Some(node) = fields.node("model") else {
            return;
        };
        let list = reader.text_of(node).unwrap_or_default();
        let parts = parts(reader, &who, &list, node.at).unwrap_or_default();
        let mut found = Vec::new();
        let mut size = entry.node.size();
        for part in &parts {
            size += self.sizes.get(*part).copied().unwrap_or_default();
            found.extend(self.resolve_one(reader, &self.named, &who, part, node.at).unwrap_or_default());
        }
        if found.len() > MAX_ALTERNATIVES {
            reader.error(node.at, format!("{who} lists more than {MAX_ALTERNATIVES} models"), None);
        }
        self.sizes.insert(entry.key.clone(), size);

        if found.is_empty() {
            self.broken.insert(entry.key.clone());
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
        let mut size = entry.node.size();
        for node in fields.list(reader, "routing") {
            let Some(rule) = reader.fields(node, &keys::ROUTING) else {
                continue;
            };
            let examples = rule.texts(reader, "examples");
            let Some(target) = rule.text(reader, "model") else {
                if !rule.has("model") {
                    reader.error(node.at, format!("a routing rule of {who} needs `model`"), None);
                }
                continue;
            };
            let at = rule.node("model").map_or(node.at, |node| node.at);
            size += self.sizes.get(&target).copied().unwrap_or_default();
            let found = self.resolve_one(reader, single, &who, &target, at).unwrap_or_default();
            if let Some(model) = found.into_iter().next() {
                rules.push(RoutingRule { model, examples });
            }
        }
        self.sizes.insert(entry.key.clone(), size);
        if let Some([model]) = self.named.get_mut(&entry.key).map(Vec::as_mut_slice) {
            model.routing = rules;
        }
    }
}

/// How the models of some providers begin, for hints.
const MAKERS: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("mistral", "mistral"),
    ("grok", "xai"),
];

/// The references of a list with commas, at least one; else a mistake is noted.
fn parts<'t>(reader: &mut Reader<'_>, who: &str, list: &'t str, at: Position) -> Option<Vec<&'t str>> {
    let named = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parts: Vec<&str> = named.take(MAX_ALTERNATIVES + 1).collect();
    let message = match parts.len() {
        0 => format!("{who} has no model"),
        1..=MAX_ALTERNATIVES => return Some(parts),
        _ => format!("{who} lists more than {MAX_ALTERNATIVES} models"),
    };
    reader.error(at, message, None);
    None
}
