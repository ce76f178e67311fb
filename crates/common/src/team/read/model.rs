//! Reads `providers` and `models`, and resolves references to models.

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
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::tree::Entry;
use crate::team::tree::Node;

/// The maximum number of models in a list with commas. It bounds the size of a team.
const MAX_ALTERNATIVES: usize = 32;

/// The maximum nesting depth of lists that refer to other lists. Deeper ones are reported like cycles.
const MAX_NESTED_LISTS: usize = 8;

/// The providers and models of a file.
#[derive(Debug)]
pub(super) struct Models {
    providers: BTreeMap<String, ProviderSettings>,
    named: BTreeMap<String, Vec<ModelSettings>>,
    /// The approximate size of a copy of each named model, in bytes. Invalid models are included.
    sizes: BTreeMap<String, usize>,
    /// The names of invalid definitions. A reference to one is not reported as a second error.
    broken: BTreeSet<String>,
}

impl Models {
    /// Reads `providers` and `models`. The order matters: single models first, then the models of their
    /// summaries, then lists, which refer to them, then routing rules. Rules refer to single models as they are
    /// before that, so neither the target of a rule nor a model in a list has rules of its own.
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
        let mut choices = Vec::new();
        let mut with_routing = Vec::new();
        let mut with_summaries = Vec::new();
        for entry in file.map(reader, "models", "a map of names to models") {
            models.sizes.insert(entry.key.clone(), entry.node.size());
            let Some(fields) = reader.fields(&entry.node, &keys::MODEL) else {
                models.broken.insert(entry.key.clone());
                continue;
            };
            if let Some(node) = fields.node("first_available") {
                check_alone(reader, entry, &fields, node);
                choices.push((entry, fields));
                continue;
            }
            let may_be_list = !fields.has("provider") && !fields.has("type");
            if may_be_list && fields.string(reader, "model").is_some_and(|model| model.contains(',')) {
                lists.push((entry, fields));
                continue;
            }
            match models.read_one(reader, entry, &fields) {
                Some(model) => {
                    with_summaries.extend(models.summary_reference(reader, entry, &fields, &model));
                    models.named.insert(entry.key.clone(), vec![model]);
                }
                None => {
                    models.broken.insert(entry.key.clone());
                }
            }
            if fields.has("routing") {
                with_routing.push((entry, fields));
            }
        }
        models.read_summary_models(reader, with_summaries);
        let single = models.named.clone();
        for (entry, fields) in choices {
            models.read_choice(reader, &single, entry, &fields);
        }
        models.read_lists(reader, lists);
        for (entry, fields) in with_routing {
            models.read_routing(reader, &single, entry, &fields);
        }
        models
    }

    /// The models by name.
    pub(super) fn into_named(self) -> BTreeMap<String, Vec<ModelSettings>> {
        self.named
    }

    /// Resolves a reference: a name from `models`, `provider/model`, or several of these separated by commas.
    /// Returns `None` when an error was recorded. `subject` begins the messages: `agent 'root'`.
    pub(super) fn resolve(
        &self,
        reader: &mut Reader<'_>,
        subject: &str,
        reference: &str,
        at: Position,
    ) -> Option<Vec<ModelSettings>> {
        let mut found = Vec::new();
        for part in parts(reader, subject, reference, at)? {
            found.extend(self.resolve_one(reader, &self.named, subject, part, at)?);
        }
        Some(found)
    }

    /// Whether `models` has a valid definition with this name.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// Resolves a reference without commas.
    fn resolve_one(
        &self,
        reader: &mut Reader<'_>,
        named: &BTreeMap<String, Vec<ModelSettings>>,
        subject: &str,
        reference: &str,
        at: Position,
    ) -> Option<Vec<ModelSettings>> {
        let copied = self.sizes.get(reference).copied().unwrap_or_default() + size_of::<ModelSettings>();
        if !reader.charge_copy(copied, at) {
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
                format!("{subject} references non-existent model '{}'", excerpt(reference)),
                Some(hint),
            );
            return None;
        };
        let settings = self.provider(reader, subject, provider, at)?;
        if settings.base_url.is_none() && settings.needs_base_url {
            let message = format!("{subject} uses provider '{provider}', which needs a `base_url`");
            let hint = "define the model below `models:`, with a `base_url`".to_owned();
            reader.error(at, message, Some(hint));
            return None;
        }
        Some(vec![ModelSettings::of(settings, provider, model)])
    }

    /// The hint for a reference to a model that does not exist.
    fn hint_of_model(
        &self,
        reader: &Reader<'_>,
        named: &BTreeMap<String, Vec<ModelSettings>>,
        reference: &str,
    ) -> String {
        let names = named.keys().map(String::as_str);
        if self.sizes.contains_key(reference) {
            return format!("`{}` is a list; name one of its models", excerpt(reference));
        }
        if let Some(name) = reader.closest(reference, names.clone()) {
            return format!("did you mean `{name}`?");
        }
        match MODEL_PREFIXES.iter().find(|(prefix, _)| reference.starts_with(prefix)) {
            Some((_, provider)) => format!("did you mean `{provider}/{}`?", excerpt(reference)),
            None if named.is_empty() => {
                "write it as `provider/model`, or define it below `models:`".to_owned()
            }
            None => format!("models in this file: {}; or write `provider/model`", quoted_list(names)),
        }
    }

    /// The settings of a provider. A provider of the file replaces a built-in one with the same name.
    fn provider(
        &self,
        reader: &mut Reader<'_>,
        subject: &str,
        name: &str,
        at: Position,
    ) -> Option<ProviderSettings> {
        let known = self.providers.get(name).cloned().or_else(|| builtin(name).map(|known| known.settings()));
        if known.is_none() {
            let own = self.providers.keys().map(String::as_str);
            let names = own.chain(BUILTIN.iter().map(|known| known.name));
            let hint = match reader.closest(name, names.clone()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => {
                    format!("known providers: {}; define others below `providers:`", quoted_list(names))
                }
            };
            reader.error(
                at,
                format!("{subject} references unknown provider '{}'", excerpt(name)),
                Some(hint),
            );
        }
        known
    }

    /// Reads an entry of `models` that defines a single model.
    fn read_one(&self, reader: &mut Reader<'_>, entry: &Entry, fields: &Fields<'_>) -> Option<ModelSettings> {
        let subject = format!("model '{}'", excerpt(&entry.key));
        let before = reader.error_count();
        let (provider_key, provider) = match fields.string(reader, "provider") {
            None if reader.version == 0 => ("type", fields.string(reader, "type")),
            provider => ("provider", provider),
        };
        let model = fields.string(reader, "model");
        let (Some(provider), Some(model)) = (provider, model) else {
            if reader.error_count() == before {
                let missing = if fields.has("model") { "provider" } else { "model" };
                let example = if missing == "provider" { "openai" } else { "gpt-4o" };
                let hint = format!("example: `{missing}: {example}`");
                reader.error(entry.key_at, format!("{subject} needs `{missing}`"), Some(hint));
            }
            return None;
        };
        let at = fields.node(provider_key).map_or(entry.key_at, |node| node.at);
        let settings = self.provider(reader, &subject, &provider, at)?;
        let needs_base_url = settings.needs_base_url;
        let mut settings = ModelSettings::of(settings, &provider, &model);
        read_settings(reader, fields, &subject, &mut settings);
        if settings.base_url.is_none() && needs_base_url {
            let message = format!("{subject} uses provider '{provider}', which needs a `base_url`");
            reader.error(entry.key_at, message, None);
        }
        (reader.error_count() == before).then_some(settings)
    }

    /// The reference of the model that summarizes a model's conversations: its own, or that of its provider.
    fn summary_reference<'n>(
        &self,
        reader: &Reader<'_>,
        entry: &'n Entry,
        fields: &Fields<'_>,
        model: &ModelSettings,
    ) -> Option<(&'n Entry, String, Position)> {
        if let Some(node) = fields.node("compaction_model") {
            return Some((entry, reader.string_of(node)?, node.at));
        }
        let provider = self.providers.get(&model.provider)?;
        Some((entry, provider.defaults.compaction_model.clone()?, entry.key_at))
    }

    /// Adds the models of summaries to the single models that name them. They have none of their own.
    fn read_summary_models(&mut self, reader: &mut Reader<'_>, named: Vec<(&Entry, String, Position)>) {
        let single = self.named.clone();
        for (entry, reference, at) in named {
            let subject = format!("model '{}'", excerpt(&entry.key));
            let mut size = entry.node.size();
            let mut found = Vec::new();
            for part in parts(reader, &subject, &reference, at).unwrap_or_default() {
                size += self.sizes.get(part).copied().unwrap_or_default();
                found.extend(self.resolve_one(reader, &single, &subject, part, at).unwrap_or_default());
            }
            self.sizes.insert(entry.key.clone(), size);
            if let Some([model]) = self.named.get_mut(&entry.key).map(Vec::as_mut_slice) {
                model.compaction_models = found;
            }
        }
    }

    /// Reads an entry of `models` with `first_available`, after the single models that it refers to.
    fn read_choice(
        &mut self,
        reader: &mut Reader<'_>,
        single: &BTreeMap<String, Vec<ModelSettings>>,
        entry: &Entry,
        fields: &Fields<'_>,
    ) {
        let subject = format!("model '{}'", excerpt(&entry.key));
        let mut found = Vec::new();
        let mut size = entry.node.size();
        for (reference, at) in fields.positioned_strings(reader, "first_available") {
            let reference = reference.trim();
            if reference.is_empty() {
                reader.error(at, "a candidate of `first_available` must not be empty", None);
                continue;
            }
            size += self.sizes.get(reference).copied().unwrap_or_default();
            found.extend(self.resolve_one(reader, single, &subject, reference, at).unwrap_or_default());
        }
        self.sizes.insert(entry.key.clone(), size);
        if found.len() > MAX_ALTERNATIVES {
            let message = format!("{subject} lists more than {MAX_ALTERNATIVES} models");
            reader.error(entry.key_at, message, None);
        }
        let mut found = found.into_iter();
        match found.next() {
            Some(first) => {
                let first = ModelSettings { otherwise: found.collect(), ..first };
                self.named.insert(entry.key.clone(), vec![first]);
            }
            None => {
                self.broken.insert(entry.key.clone());
                if fields.list(reader, "first_available").is_empty() {
                    let message = "first_available must contain at least one candidate";
                    reader.error(
                        entry.key_at,
                        message,
                        Some("example: `[openai/gpt-4o, dmr/ai/qwen3]`".to_owned()),
                    );
                }
            }
        }
    }

    /// Reads the entries of `models` that are lists. They may refer to each other, so each round reads those
    /// whose references are all read; entries that are left over after the last round form a cycle or are
    /// nested too deeply.
    fn read_lists(&mut self, reader: &mut Reader<'_>, mut pending: Vec<(&Entry, Fields<'_>)>) {
        for _ in 0..MAX_NESTED_LISTS {
            let names: BTreeSet<&str> = pending.iter().map(|(entry, _)| entry.key.as_str()).collect();
            let (blocked, ready): (Vec<_>, Vec<_>) = pending.iter().partition(|(_, fields)| {
                let list = fields.node("model").and_then(|node| reader.string_of(node));
                list.unwrap_or_default().split(',').any(|part| names.contains(part.trim()))
            });
            for (entry, fields) in &ready {
                self.read_list(reader, entry, fields);
            }
            pending = blocked;
        }
        for (entry, _) in pending {
            let name = excerpt(&entry.key);
            let message = format!("model '{name}' refers to itself, or to lists that are nested too deeply");
            reader.error(entry.key_at, message, None);
            self.broken.insert(entry.key.clone());
        }
    }

    /// Reads an entry of `models` that is a list, after the models that it refers to.
    fn read_list(&mut self, reader: &mut Reader<'_>, entry: &Entry, fields: &Fields<'_>) {
        let subject = format!("model '{}'", excerpt(&entry.key));
        let Some(node) = fields.node("model") else {
            return;
        };
        let list = reader.string_of(node).unwrap_or_default();
        let parts = parts(reader, &subject, &list, node.at).unwrap_or_default();
        let mut found = Vec::new();
        let mut size = entry.node.size();
        for part in &parts {
            size += self.sizes.get(*part).copied().unwrap_or_default();
            found.extend(self.resolve_one(reader, &self.named, &subject, part, node.at).unwrap_or_default());
        }
        if found.len() > MAX_ALTERNATIVES {
            reader.error(node.at, format!("{subject} lists more than {MAX_ALTERNATIVES} models"), None);
        }
        self.sizes.insert(entry.key.clone(), size);
        if found.is_empty() {
            self.broken.insert(entry.key.clone());
        } else {
            self.named.insert(entry.key.clone(), found);
        }
    }

    /// Reads the routing rules of a model that has been read.
    fn read_routing(
        &mut self,
        reader: &mut Reader<'_>,
        single: &BTreeMap<String, Vec<ModelSettings>>,
        entry: &Entry,
        fields: &Fields<'_>,
    ) {
        let subject = format!("model '{}'", excerpt(&entry.key));
        let mut rules = Vec::new();
        let mut size = entry.node.size();
        for node in fields.list(reader, "routing") {
            let Some(rule) = reader.fields(node, &keys::ROUTING) else {
                continue;
            };
            let examples = rule.strings(reader, "examples");
            let Some(target) = rule.string(reader, "model") else {
                if !rule.has("model") {
                    reader.error(node.at, format!("a routing rule of {subject} needs `model`"), None);
                }
                continue;
            };
            let at = rule.node("model").map_or(node.at, |node| node.at);
            size += self.sizes.get(&target).copied().unwrap_or_default();
            let found = self.resolve_one(reader, single, &subject, &target, at).unwrap_or_default();
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

/// Checks that a model with `first_available` has no other key: they belong to the candidates.
fn check_alone(reader: &mut Reader<'_>, entry: &Entry, fields: &Fields<'_>, at: &Node) {
    for other in
        fields.entries.iter().filter(|other| other.key != "first_available" && !other.node.is_unset())
    {
        let message = format!(
            "model '{}': first_available cannot be combined with {}",
            excerpt(&entry.key),
            excerpt(&other.key)
        );
        let hint = format!("`first_available` is on line {}; set the key in its candidates", at.at.line);
        reader.error(other.key_at, message, Some(hint));
    }
}

/// Prefixes of well-known models with their providers, for hints.
const MODEL_PREFIXES: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("mistral", "mistral"),
    ("grok", "xai"),
];

/// Splits a list with commas into references; returns `None` after recording an error when there are none or
/// too many.
fn parts<'t>(reader: &mut Reader<'_>, subject: &str, list: &'t str, at: Position) -> Option<Vec<&'t str>> {
    let nonempty = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parts: Vec<&str> = nonempty.take(MAX_ALTERNATIVES + 1).collect();
    let message = match parts.len() {
        0 => format!("{subject} has no model"),
        1..=MAX_ALTERNATIVES => return Some(parts),
        _ => format!("{subject} lists more than {MAX_ALTERNATIVES} models"),
    };
    reader.error(at, message, None);
    None
}
