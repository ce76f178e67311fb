//! A map of the file whose keys are known, and the typed values behind them.
//!
//! A getter answers none both for a key that is absent and for one that is wrong; the wrong one is then among the reader's errors,
//! so nothing that was built from the rest is ever handed out.

use std::collections::BTreeMap;

use super::fix_hint::A_FLAG;
use super::keys::Keys;
use super::reader::Reader;
use super::source::Position;
use super::tree::Entry;
use super::tree::Node;
use super::tree::Value;

/// A map of the file whose keys are all known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) at: Position,
    pub(super) entries: &'n [Entry],
    pub(super) keys: &'static Keys,
}

impl<'n> Fields<'n> {
    /// The entry of this key, unless it is absent, null or an empty text.
    pub(super) fn entry(&self, name: &str) -> Option<&'n Entry> {
        debug_assert!(self.keys.keys.iter().any(|key| key.name == name), "{name} is not in the table");
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (!entry.node.is_blank()).then_some(entry)
    }

    /// Whether this key is there and says something.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The value of this key, unless it is absent, null or an empty text.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// About how much text the map holds.
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.key.len() + entry.node.size()).sum()
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
        reader.wrong_kind(name, A_FLAG, node);
        None
    }

    /// A whole number from `least` to `most`.
    pub(super) fn integer(&self, reader: &mut Reader<'_>, name: &str, least: i64, most: i64) -> Option<i64> {
        let node = self.node(name)?;
        match node.value {
            Value::Integer(integer) if (least..=most).contains(&integer) => return Some(integer),
            // Nobody means a number as large as that.
            Value::Integer(_) if most >= i64::from(u32::MAX) => {
                reader.wrong_kind(name, &format!("a whole number of at least {least}"), node);
            }
            Value::Integer(_) => {
                reader.wrong_kind(name, &format!("a whole number from {least} to {most}"), node);
            }
            _ => reader.wrong_kind(name, "a whole number", node),
        }
        None
    }

    /// A number from `least` to `most`.
    pub(super) fn number(&self, reader: &mut Reader<'_>, name: &str, least: f64, most: f64) -> Option<f64> {
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
        self.placed_texts(reader, name).into_iter().map(|(text, _)| text).collect()
    }

    /// A list of texts with their places.
    pub(super) fn placed_texts(&self, reader: &mut Reader<'_>, name: &str) -> Vec<(String, Position)> {
        self.node(name).map_or_else(Vec::new, |node| reader.texts_of(name, node))
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
        self.node(name).map_or(&[], |node| reader.entries_of(name, wanted, node))
    }

    /// A list, empty where the key is absent.
    pub(super) fn list(&self, reader: &mut Reader<'_>, name: &str) -> &'n [Node] {
        match self.node(name) {
            None => &[],
            Some(Node { value: Value::List(items), .. }) => items,
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

    /// A map, whatever is in it, as JSON.
    pub(super) fn json_object(&self, reader: &mut Reader<'_>, name: &str) -> Option<serde_json::Value> {
        let node = self.node(name)?;
        reader.entries_of(name, "a map", node);
        Some(reader.json_of(node))
    }

    /// A map as JSON.
    pub(super) fn json_map(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
    ) -> BTreeMap<String, serde_json::Value> {
        self.map(reader, name, "a map");
        self.entries_as_json(reader, name)
    }

    /// The same without a word about a value that is no map.
    pub(super) fn entries_as_json(
        &self,
        reader: &Reader<'_>,
        name: &str,
    ) -> BTreeMap<String, serde_json::Value> {
        let Some(Node { value: Value::Map(entries), .. }) = self.node(name) else { return BTreeMap::new() };
        entries.iter().map(|entry| (entry.key.clone(), reader.json_of(&entry.node))).collect()
    }
}
