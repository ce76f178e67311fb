//! YAML as a tree in which every key and every value has its position.
//!
//! The limits keep hostile files cheap: the parser rejects them long before they cost much time or memory.
//! Merge keys and aliases are resolved here; a value that came through an alias has the position where it was
//! written.

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

/// The maximum nesting depth of maps and lists. The parser recurses, so the depth bounds the stack that it
/// needs; the schema itself is less than ten levels deep.
pub(super) const MAX_DEPTH: usize = 48;
/// The maximum number of values in a file. The largest example of docker-agent has fewer than 500.
const MAX_NODES: usize = 50_000;
/// The maximum number of parser events that aliases and merge keys add. Without it a file of a few lines can
/// expand to gigabytes.
const MAX_REPLAYED: usize = 20_000;

/// A value with its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    /// The range of its text in bytes; empty when the parser does not know it.
    pub(super) bytes: Range<usize>,
    pub(super) value: Value,
}

/// A YAML value. Numbers keep their text in [`Node::bytes`], so that `1.10` does not become `1.1`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// An entry of a map: the key with its position, and the value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) node: Node,
}

impl Node {
    /// Whether the value is null or an empty string, which docker-agent treats alike.
    pub(super) fn is_blank(&self) -> bool {
        matches!(&self.value, Value::Null) || matches!(&self.value, Value::String(text) if text.is_empty())
    }

    /// Whether the value is the default of its type: blank, `false`, zero, an empty list or an empty map.
    pub(super) fn is_unset(&self) -> bool {
        match &self.value {
            Value::Bool(flag) => !flag,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Integer(number) => *number == 0,
            Value::Float(number) => *number == 0.0,
            Value::Null | Value::String(_) => self.is_blank(),
        }
    }

    /// The approximate memory that the value takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let inside = match &self.value {
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => 0,
            Value::String(text) => text.len(),
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.key.len() + entry.node.size()).sum(),
        };
        inside + size_of::<Self>()
    }
}

/// Parses one YAML document. Empty text is a null.
pub(super) fn read(text: &str) -> Result<Node, Box<serde_saphyr::Error>> {
    serde_saphyr::from_str_with_options(text, options()).map_err(Box::new)
}

/// Parses a document in which keys may be repeated: each occurrence is an entry of its map.
pub(super) fn read_with_repeated_keys(text: &str) -> Result<Node, Box<serde_saphyr::Error>> {
    let mut options = options();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    serde_saphyr::from_str_with_options(text, options).map_err(Box::new)
}

/// Parses a YAML document that is not an agent file, such as an OpenAPI description, into JSON. The limits of
/// agent files apply, so documents from untrusted servers are safe to parse.
///
/// # Errors
///
/// The message of the parser, with the position.
pub fn yaml_to_json(text: &str) -> Result<serde_json::Value, String> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| error.to_string())
}

/// The parser options: the limits, no duplicate keys, and booleans that are only `true` and `false`, as in
/// YAML 1.2.
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

/// Converts a location of the parser; `None` where it has none.
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

/// Builds a [`Value`] from any type that the parser reports.
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
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
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
