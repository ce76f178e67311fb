//! YAML as a tree in which every key and every value knows its place.
//!
//! The limits keep a hostile file cheap: the parser refuses it long before it costs time or memory. Merge keys and aliases
//! are resolved here; a value that came through an alias has the place where it was written.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_saphyr::DuplicateKeyPolicy;
use serde_saphyr::Location;
use serde_saphyr::Options;
use serde_saphyr::Spanned;

use super::source::Position;

/// Maps and lists nest at most this deep.
pub(super) const MAX_DEPTH: usize = 48;
/// A file has at most this many values; docker-agent's own largest has fewer than 500.
const MAX_NODES: usize = 50_000;
/// Aliases add at most this many parser events, and merge keys at most this many copies.
const MAX_REPLAYED: usize = 20_000;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    /// Where its text stands, in bytes; empty when the parser does not know.
    pub(super) bytes: Range<usize>,
    pub(super) value: Value,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its place, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) node: Node,
}

impl Node {
    /// Whether nothing is said here: a null or an empty text, which docker-agent does not tell apart.
    pub(super) fn is_blank(&self) -> bool {
        matches!(&self.value, Value::Null) || matches!(&self.value, Value::Text(text) if text.is_empty())
    }

    /// Whether nothing is set here: blank, `false`, or a list or a map without entries.
    pub(super) fn is_unset(&self) -> bool {
        match &self.value {
            Value::Flag(flag) => !flag,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Null | Value::Integer(_) | Value::Number(_) | Value::Text(_) => self.is_blank(),
        }
    }
    /// About how much room the value takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let inside = match &self.value {
            Value::Null | Value::Flag(_) | Value::Integer(_) | Value::Number(_) => 0,
            Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.key.len() + entry.node.size()).sum(),
        };
        inside + size_of::<Self>()
    }
}

/// Reads one YAML document. Empty text is a null.
pub(super) fn read(text: &str) -> Result<Node, Box<serde_saphyr::Error>> {
    serde_saphyr::from_str_with_options(text, options()).map_err(Box::new)
}

/// A YAML document of others as JSON, within the limits that agent files have.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn yaml_value(text: &str) -> Result<serde_json::Value, String> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| error.to_string())
}

/// Strict booleans, no duplicate keys, and the limits.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4 * MAX_NODES,
            max_aliases: 2_000,
            max_anchors: 2_000,
            max_recorded_anchor_events: MAX_REPLAYED,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 2,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: 16 * 1024 * 1024,
            max_recorded_anchor_bytes: 16 * 1024 * 1024,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// The place of a parser's location, where it has one.
pub(super) fn position(location: Location) -> Option<Position> {
    (location.line() > 0).then(|| Position {
        line: location.line(),
        column: location.column().max(1),
        length: location.span().len(),
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let start = span.byte_offset().and_then(|offset| usize::try_from(offset).ok());
        let length = span.byte_len().and_then(|length| usize::try_from(length).ok());
        let bytes = start.zip(length).map_or(0..0, |(start, length)| start..start + length);
        let mut at = position(spanned.defined).unwrap_or_default();
        if matches!(spanned.value, Value::List(_) | Value::Map(_)) {
            at.length = 1;
        }
        Ok(Self { at, bytes, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Builds a `Value` from whatever the parser finds.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value()?;
            let key_at = position(key.defined).unwrap_or_default();
            entries.push(Entry { key: key.value, key_at, node });
        }
        Ok(Value::Map(entries))
    }
}
