//! A map of the file with a fixed set of keys, and typed access to its values.
//!
//! A getter returns `None`, or an empty collection, both for a key that is absent and for one whose value is
//! invalid. An invalid value is recorded as an error of the reader, so a team that was built without it is
//! never returned.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fix_hint::BOOLEAN;
use super::fix_hint::STRING;
use super::keys::Keys;
use super::reader::Reader;
use super::source::Position;
use super::source::excerpt;
use super::tree::Entry;
use super::tree::Node;
use super::tree::Value;
use crate::duration;

/// A map of the file whose keys were checked against a table of keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) at: Position,
    pub(super) entries: &'n [Entry],
    pub(super) keys: &'static Keys,
}

impl<'n> Fields<'n> {
    /// The entry of this key, unless it is absent, null or an empty string.
    pub(super) fn entry(&self, name: &str) -> Option<&'n Entry> {
        debug_assert!(
            self.keys.keys.iter().any(|key| key.name == name),
            "{name} is not in the table of keys"
        );
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (!entry.node.is_blank()).then_some(entry)
    }

    /// Whether this key has a value other than null and the empty string.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The value of this key, unless it is absent, null or an empty string.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// The approximate memory that a copy of the map takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.key.len() + entry.node.size()).sum()
    }

    /// A string; a number or a boolean is taken as it is written.
    pub(super) fn string(&self, reader: &mut Reader<'_>, name: &str) -> Option<String> {
        let node = self.node(name)?;
        let text = reader.string_of(node);
        if text.is_none() {
            reader.wrong_type(name, STRING, node);
        }
        text
    }

    /// A string, empty when the key is absent.
    pub(super) fn string_or_empty(&self, reader: &mut Reader<'_>, name: &str) -> String {
        self.string(reader, name).unwrap_or_default()
    }

    /// A boolean.
    pub(super) fn bool(&self, reader: &mut Reader<'_>, name: &str) -> Option<bool> {
        let node = self.node(name)?;
        if let Value::Bool(flag) = node.value {
            return Some(flag);
        }
        reader.wrong_type(name, BOOLEAN, node);
        None
    }

    /// An integer between `min` and `max`.
    pub(super) fn integer(&self, reader: &mut Reader<'_>, name: &str, min: i64, max: i64) -> Option<i64> {
        let node = self.node(name)?;
        match node.value {
            Value::Integer(integer) if (min..=max).contains(&integer) => return Some(integer),
            // A limit of the type is not worth naming; only a negative number is a plausible error.
            Value::Integer(_) if max >= i64::from(u32::MAX) => {
                reader.wrong_type(name, &format!("an integer of at least {min}"), node);
            }
            Value::Integer(_) => {
                reader.wrong_type(name, &format!("an integer from {min} to {max}"), node);
            }
            _ => reader.wrong_type(name, "an integer", node),
        }
        None
    }

    /// A number between `min` and `max`.
    pub(super) fn number(&self, reader: &mut Reader<'_>, name: &str, min: f64, max: f64) -> Option<f64> {
        let node = self.node(name)?;
        let number = match node.value {
            Value::Integer(integer) => Some(integer as f64),
            Value::Float(number) => Some(number),
            _ => None,
        };
        let valid = number.filter(|number| (min..=max).contains(number));
        if valid.is_none() {
            reader.wrong_type(name, &format!("a number from {min} to {max}"), node);
        }
        valid
    }

    /// A duration: a text such as `30s`, or a number of seconds. Zero is `None`, the default of every such key.
    pub(super) fn duration(&self, reader: &mut Reader<'_>, name: &str) -> Option<Duration> {
        let text = self.string(reader, name)?;
        let found = duration::parse(&text).ok();
        if let (None, Some(node)) = (found, self.node(name)) {
            let hint = "examples: 30s, 5m, 1h30m".to_owned();
            reader.error(
                node.at,
                format!("`{name}` must be a duration, not `{}`", excerpt(&text)),
                Some(hint),
            );
        }
        found.filter(|time| !time.is_zero())
    }

    /// A list of strings, empty when the key is absent.
    pub(super) fn strings(&self, reader: &mut Reader<'_>, name: &str) -> Vec<String> {
        self.positioned_strings(reader, name).into_iter().map(|(text, _)| text).collect()
    }

    /// A list of strings with their positions, empty when the key is absent.
    pub(super) fn positioned_strings(&self, reader: &mut Reader<'_>, name: &str) -> Vec<(String, Position)> {
        self.node(name).map_or_else(Vec::new, |node| reader.strings_of(name, node))
    }

    /// A map of strings, empty when the key is absent. A null value is an empty string.
    pub(super) fn string_map(&self, reader: &mut Reader<'_>, name: &str) -> BTreeMap<String, String> {
        let mut strings = BTreeMap::new();
        for entry in self.map(reader, name, "a map of names to strings") {
            match reader.string_of(&entry.node) {
                Some(text) => {
                    strings.insert(entry.key.clone(), text);
                }
                None if entry.node.value == Value::Null => {
                    strings.insert(entry.key.clone(), String::new());
                }
                None => reader.wrong_type(&entry.key, STRING, &entry.node),
            }
        }
        strings
    }

    /// A map whose keys are names that the file defines, empty when the key is absent. `expected` describes
    /// it in errors.
    pub(super) fn map(&self, reader: &mut Reader<'_>, name: &str, expected: &str) -> &'n [Entry] {
        self.node(name).map_or(&[], |node| reader.entries_of(name, expected, node))
    }

    /// A list, empty when the key is absent.
    pub(super) fn list(&self, reader: &mut Reader<'_>, name: &str) -> &'n [Node] {
        match self.node(name) {
            None => &[],
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => {
                reader.wrong_type(name, "a list", node);
                &[]
            }
        }
    }

    /// A value of any type, as JSON.
    pub(super) fn json(&self, reader: &Reader<'_>, name: &str) -> Option<serde_json::Value> {
        self.node(name).map(|node| reader.json_of(node))
    }

    /// A map with any contents, as JSON.
    pub(super) fn json_object(&self, reader: &mut Reader<'_>, name: &str) -> Option<serde_json::Value> {
        let node = self.node(name)?;
        reader.entries_of(name, "a map", node);
        Some(reader.json_of(node))
    }

    /// A map with any contents, as JSON by key; empty when the key is absent.
    pub(super) fn json_map(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
    ) -> BTreeMap<String, serde_json::Value> {
        self.map(reader, name, "a map");
        self.entries_as_json(reader, name)
    }

    /// Like [`json_map`](Self::json_map), but a value that is not a map is not an error.
    pub(super) fn entries_as_json(
        &self,
        reader: &Reader<'_>,
        name: &str,
    ) -> BTreeMap<String, serde_json::Value> {
        let Some(Node { value: Value::Map(entries), .. }) = self.node(name) else { return BTreeMap::new() };
        entries.iter().map(|entry| (entry.key.clone(), reader.json_of(&entry.node))).collect()
    }
}
