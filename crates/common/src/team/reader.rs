//! Reads typed values out of the tree, and collects what is wrong and what is not acted on.
//!
//! A getter answers none both for a key that is absent and for one that is wrong; the wrong one is then among the errors, so
//! nothing that was built from the rest is ever handed out.

use std::collections::BTreeMap;

use super::error::TeamError;
use super::error::Warning;
use super::keys::Effect;
use super::keys::HOMES;
use super::keys::Key;
use super::keys::Keys;
use super::source::Position;
use super::source::Source;
use super::source::shown;
use super::tree::Entry;
use super::tree::Node;
use super::tree::Value;

/// What was found so far.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    pub(super) source: Source<'s>,
    /// The schema version of the file, 0 to 7.
    pub(super) version: u8,
    pub(super) errors: Vec<TeamError>,
    /// For each message its first place and the lines of the others.
    warnings: BTreeMap<String, (Position, Vec<u64>)>,
}

/// A map of the file whose keys are all known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) at: Position,
    pub(super) entries: &'n [Entry],
    keys: &'static Keys,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: Source<'s>, version: u8) -> Self {
        Self {
            source,
            version,
            errors: Vec::new(),
            warnings: BTreeMap::new(),
        }
    }

    /// Notes a mistake.
    pub(super) fn error(&mut self, at: Position, message: impl Into<String>, hint: Option<String>) {
        let error = self.source.error(Some(at), message.into(), hint);
        self.errors.push(error);
    }

    /// Notes something that is not acted on; the same message twice becomes one warning.
    pub(super) fn warn(&mut self, at: Position, message: impl Into<String>) {
        let (first, more) = self
            .warnings
            .entry(message.into())
            .or_insert_with(|| (at, Vec::new()));
        if *first != at && more.last() != Some(&at.line) {
            more.push(at.line);
        }
    }

    /// The warnings by place, each with the lines of its further places.
    pub(super) fn into_warnings(self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = self
            .warnings
            .into_iter()
            .map(|(message, (at, more))| Warning {
                line: at.line,
                column: at.column,
                message: message + &also(&more),
            })
            .collect();
        warnings
            .sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        warnings
    }

    /// A map with these keys; anything else in its place is a mistake, and so is any other key.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, keys: &'static Keys) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Value::Null => &[],
            Value::Map(entries) => entries.as_slice(),
            other => {
                let allowed = listed(keys.names(self.version));
                let message = format!("{} must be a map of keys, not {}", keys.noun, kind(other));
                self.error(node.at, message, Some(format!("its keys are: {allowed}")));
                return None;
            }
        };
        for entry in entries {
            match keys.find(&entry.key, self.version) {
                Some(key) => self.warn_of_key(entry, key, keys),
                None => self.unknown_key(entry, keys),
            }
        }
        Some(Fields {
            at: node.at,
            entries,
            keys,
        })
    }

    /// Warns of a key that is not acted on.
    fn warn_of_key(&mut self, entry: &Entry, key: &Key, keys: &Keys) {
        if let Effect::Instead(what) = key.effect {
            let message = format!(
                "`{}` in {} is accepted, not acted on yet: {what}",
                key.name, keys.noun
            );
            self.warn(entry.key_at, message);
        }
    }

    /// Says which key was meant.
    fn unknown_key(&mut self, entry: &Entry, keys: &Keys) {
        let version = self.version;
        let old = keys.keys.iter().find(|key| key.name == entry.key);
        let home = || {
            HOMES.iter().find(|(home, _)| {
                home.noun != keys.noun && home.find(&entry.key, version).is_some()
            })
        };
        let hint = if let Some(last) = old.and_then(|key| key.last_version) {
            format!(
                "version {last} of the schema was the last that had it; this file is read as version {version}"
            )
        } else if let Some(name) = nearest(&entry.key, keys.names(version)) {
            format!("did you mean `{name}`?")
        } else if let Some((_, place)) = home() {
            format!("`{}` is a key of {place}", entry.key)
        } else {
            format!(
                "the keys of {} are: {}",
                keys.noun,
                listed(keys.names(version))
            )
        };
        let message = format!("unknown key `{}` in {}", shown(&entry.key), keys.noun);
        self.error(entry.key_at, message, Some(hint));
    }

    /// Says that a value is of the wrong kind.
    pub(super) fn wrong_kind(&mut self, name: &str, wanted: &str, node: &Node) {
        let found = match &node.value {
            Value::Flag(_) | Value::Integer(_) | Value::Number(_) | Value::Text(_) => {
                format!(
                    "{} `{}`",
                    kind(&node.value),
                    shown(&self.text_of(node).unwrap_or_default())
                )
            }
            other => kind(other).to_owned(),
        };
        self.error(
            node.at,
            format!("`{}` must be {wanted}, not {found}", shown(name)),
            None,
        );
    }

    /// A scalar as it stands in the file, so that `version: 1.10` keeps its zero.
    pub(super) fn text_of(&self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Flag(flag) => Some(flag.to_string()),
            Value::Integer(_) | Value::Number(_) if !node.bytes.is_empty() => {
                Some(self.source.slice(node.bytes.clone()).to_owned())
            }
            Value::Integer(integer) => Some(integer.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The texts of a list, with their places.
    pub(super) fn texts_of(&mut self, name: &str, node: &Node) -> Vec<(String, Position)> {
        let Value::List(items) = &node.value else {
            self.wrong_kind(name, "a list of texts", node);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match self.text_of(item) {
                Some(text) => texts.push((text, item.at)),
                None => self.wrong_kind(&format!("an item of {name}"), "text", item),
            }
        }
        texts
    }

    /// The entries of a map whose keys are names that the file chooses.
    pub(super) fn entries_of<'n>(
        &mut self,
        name: &str,
        wanted: &str,
        node: &'n Node,
    ) -> &'n [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Flag(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_) => {
                self.wrong_kind(name, wanted, node);
                &[]
            }
        }
    }

    /// The value as JSON, its maps sorted by key.
    pub(super) fn json_of(&self, node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            Value::Integer(integer) => (*integer).into(),
            Value::Number(number) => (*number).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(|item| self.json_of(item)).collect(),
            Value::Map(entries) => {
                let sorted: BTreeMap<_, _> = entries
                    .iter()
                    .map(|entry| (&entry.key, &entry.node))
                    .collect();
                sorted
                    .into_iter()
                    .map(|(key, node)| (key.clone(), self.json_of(node)))
                    .collect()
            }
        }
    }
}

impl<'n> Fields<'n> {
    /// The entry of this key, unless it is absent or null.
    pub(super) fn entry(&self, name: &str) -> Option<&'n Entry> {
        debug_assert!(
            self.keys.keys.iter().any(|key| key.name == name),
            "{name} is not in the table"
        );
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (entry.node.value != Value::Null).then_some(entry)
    }

    /// Whether this key is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The value of this key, unless it is absent or null.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// Text; a number or a truth value is taken as it is written.
    pub(super) fn text(&self, reader: &mut Reader<'_>, name: &str) -> Option<String> {
        let node = self.node(name)?;
        let text = reader.text_of(node);
        if text.is_none() {
            reader.wrong_kind(name, "text", node);
        }
        text
    }

    /// Text, empty where the key is absent.
    pub(super) fn text_or_empty(&self, reader: &mut Reader<'_>, name: &str) -> String {
        self.text(reader, name).unwrap_or_default()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, reader: &mut Reader<'_>, name: &str) -> Option<bool> {
        let node = self.node(name)?;
        if let Value::Flag(flag) = node.value {
            return Some(flag);
        }
        reader.wrong_kind(name, "`true` or `false`", node);
        None
    }

    /// A whole number from `least` to `most`.
    pub(super) fn integer(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        least: i64,
        most: i64,
    ) -> Option<i64> {
        let node = self.node(name)?;
        match node.value {
            Value::Integer(integer) if (least..=most).contains(&integer) => return Some(integer),
            Value::Integer(_) if most == i64::MAX => {
                reader.wrong_kind(name, &format!("a whole number of at least {least}"), node);
            }
            Value::Integer(_) => {
                reader.wrong_kind(
                    name,
                    &format!("a whole number from {least} to {most}"),
                    node,
                );
            }
            _ => reader.wrong_kind(name, "a whole number", node),
        }
        None
    }

    /// A number from `least` to `most`.
    pub(super) fn number(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        least: f64,
        most: f64,
    ) -> Option<f64> {
        let node = self.node(name)?;
        let number = match node.value {
            Value::Integer(integer) => Some(integer as f64),
            Value::Number(number) => Some(number),
            _ => None,
        };
        let inside = number.filter(|number| (least..=most).contains(number));
        if inside.is_none() {
            reader.wrong_kind(name, &format!("a number from {least} to {most}"), node);
        }
        inside
    }

    /// A list of texts, empty where the key is absent.
    pub(super) fn texts(&self, reader: &mut Reader<'_>, name: &str) -> Vec<String> {
        self.placed_texts(reader, name)
            .into_iter()
            .map(|(text, _)| text)
            .collect()
    }

    /// A list of texts with their places.
    pub(super) fn placed_texts(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
    ) -> Vec<(String, Position)> {
        self.node(name)
            .map_or_else(Vec::new, |node| reader.texts_of(name, node))
    }

    /// A map of texts, empty where the key is absent.
    pub(super) fn text_map(&self, reader: &mut Reader<'_>, name: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for entry in self.map(reader, name, "a map of names to texts") {
            match reader.text_of(&entry.node) {
                Some(text) => {
                    texts.insert(entry.key.clone(), text);
                }
                None if entry.node.value == Value::Null => {
                    texts.insert(entry.key.clone(), String::new());
                }
                None => reader.wrong_kind(&entry.key, "text", &entry.node),
            }
        }
        texts
    }

    /// A map of names that the file chooses, empty where the key is absent.
    pub(super) fn map(&self, reader: &mut Reader<'_>, name: &str, wanted: &str) -> &'n [Entry] {
        self.node(name)
            .map_or(&[], |node| reader.entries_of(name, wanted, node))
    }

    /// A list, empty where the key is absent.
    pub(super) fn list(&self, reader: &mut Reader<'_>, name: &str) -> &'n [Node] {
        match self.node(name) {
            None => &[],
            Some(Node {
                value: Value::List(items),
                ..
            }) => items,
            Some(node) => {
                reader.wrong_kind(name, "a list", node);
                &[]
            }
        }
    }

    /// Anything, as JSON.
    pub(super) fn json(&self, reader: &Reader<'_>, name: &str) -> Option<serde_json::Value> {
        self.node(name).map(|node| reader.json_of(node))
    }

    /// A map as JSON.
    pub(super) fn json_map(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
    ) -> BTreeMap<String, serde_json::Value> {
        let entries = self.map(reader, name, "a map");
        entries
            .iter()
            .map(|entry| (entry.key.clone(), reader.json_of(&entry.node)))
            .collect()
    }
}

/// The kind of a value, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Flag(_) => "the truth value",
        Value::Integer(_) | Value::Number(_) => "the number",
        Value::Text(_) => "the text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// ` (also on lines 3 and 9)`.
fn also(lines: &[u64]) -> String {
    let numbers: Vec<String> = lines.iter().take(8).map(u64::to_string).collect();
    match numbers.as_slice() {
        [] => String::new(),
        [line] => format!(" (also on line {line})"),
        _ if lines.len() > numbers.len() => {
            format!(" (also on lines {} and more)", numbers.join(", "))
        }
        [most @ .., last] => format!(" (also on lines {} and {last})", most.join(", ")),
    }
}

/// Names as `a`, `b`.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{}`", shown(name)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The one of the names that was most likely meant.
pub(super) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.len() > 100 {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let wrong = plain(wrong);
    names
        .into_iter()
        .map(|name| {
            (
                strsim::normalized_damerau_levenshtein(&wrong, &plain(name)),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
