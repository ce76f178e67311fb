//! Collects what is wrong in a file and what is not acted on, while the tree is read.

use std::collections::BTreeMap;

use super::error::TeamError;
use super::error::TeamErrors;
use super::error::Warning;
use super::fields::Fields;
use super::fix_hint;
use super::fix_hint::A_LIST;
use super::keys::Effect;
use super::keys::HOMES;
use super::keys::Key;
use super::keys::Keys;
use super::names::listed;
use super::names::nearest;
use super::source::Position;
use super::source::Source;
use super::source::shown;
use super::tree::Entry;
use super::tree::Node;
use super::tree::Value;

/// So many mistakes are noted with their words; more are only counted.
const MAX_NOTED: usize = 100;

/// So many bytes may be copied in all because several agents refer to the same thing.
const MAX_COPIED: usize = 16 * 1024 * 1024;

/// What was found so far.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    pub(super) source: Source<'s>,
    /// The schema version of the file, 0 to 7.
    pub(super) version: u8,
    errors: Vec<TeamError>,
    /// Mistakes beyond those that are noted.
    uncounted: usize,
    /// How much text was copied because several places refer to it, in bytes.
    copied: usize,
    /// For each message its first place and the lines of the others.
    warnings: BTreeMap<String, (Position, Vec<u64>)>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: Source<'s>, version: u8) -> Self {
        Self { source, version, errors: Vec::new(), uncounted: 0, copied: 0, warnings: BTreeMap::new() }
    }

    /// How many mistakes there are so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.len() + self.uncounted
    }

    /// All mistakes, when there is one.
    pub(super) fn into_errors(self) -> TeamErrors {
        TeamErrors::new(self.source, self.errors, self.uncounted)
    }

    /// Notes a mistake about the file as a whole.
    pub(super) fn error_of_file(&mut self, message: &str, hint: &str) {
        self.errors.push(self.source.error(None, message.to_owned(), Some(hint.to_owned())));
    }

    /// Allows a copy of something that the file defines once and refers to often, or notes that there were too many.
    pub(super) fn may_copy(&mut self, bytes: usize, at: Position) -> bool {
        let within = self.copied <= MAX_COPIED;
        self.copied = self.copied.saturating_add(bytes);
        if within && self.copied > MAX_COPIED {
            self.error(at, "what the agents refer to is too large, all copies taken together", None);
        }
        self.copied <= MAX_COPIED
    }

    /// The one of the names that was most likely meant; none once there are enough mistakes to report.
    pub(super) fn nearest<'a>(
        &self,
        wrong: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.errors.len() >= MAX_NOTED { None } else { nearest(wrong, names) }
    }

    /// Notes a mistake.
    pub(super) fn error(&mut self, at: Position, message: impl Into<String>, hint: Option<String>) {
        if self.errors.len() < MAX_NOTED {
            self.errors.push(self.source.error(Some(at), message.into(), hint));
        } else {
            self.uncounted += 1;
        }
    }

    /// Notes something that is not acted on; the same message twice becomes one warning.
    pub(super) fn warn(&mut self, at: Position, message: impl Into<String>) {
        let (first, more) = self.warnings.entry(message.into()).or_insert_with(|| (at, Vec::new()));
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
        warnings.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        warnings
    }

    /// A map with these keys; anything else in its place is a mistake, and so is any other key.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, keys: &'static Keys) -> Option<Fields<'n>> {
        let fields = self.fields_unwarned(node, keys)?;
        for entry in fields.entries {
            if let Some(key) = keys.find(&entry.key, self.version) {
                self.warn_of_key(entry, key, keys);
            }
        }
        Some(fields)
    }

    /// The same without warnings, for a map that is not acted on as a whole.
    pub(super) fn fields_unwarned<'n>(&mut self, node: &'n Node, keys: &'static Keys) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Value::Null => &[],
            Value::Map(entries) => entries.as_slice(),
            other => {
                let allowed = listed(keys.names(self.version));
                let message =
                    format!("{} must be a map of keys, not {}", keys.noun, self.described(node, other));
                self.error(node.at, message, Some(format!("its keys are: {allowed}")));
                return None;
            }
        };
        for entry in entries {
            if keys.find(&entry.key, self.version).is_none() {
                self.unknown_key(entry, keys);
            }
        }
        Some(Fields { at: node.at, entries, keys })
    }

    /// Warns of a key that is not acted on.
    fn warn_of_key(&mut self, entry: &Entry, key: &Key, keys: &Keys) {
        if let Effect::Instead(what) = key.effect {
            let message = format!("`{}` in {} is accepted, not acted on yet: {what}", key.name, keys.noun);
            self.warn(entry.key_at, message);
        }
    }

    /// Says which key was meant.
    fn unknown_key(&mut self, entry: &Entry, keys: &Keys) {
        let version = self.version;
        let old = keys.keys.iter().find(|key| key.name == entry.key);
        let home = || {
            HOMES.iter().find(|(home, _)| home.noun != keys.noun && home.find(&entry.key, version).is_some())
        };
        let hint = if let Some(last) = old.and_then(|key| key.last_version) {
            format!(
                "version {last} of the schema was the last that had it; this file is read as version {version}"
            )
        } else if let Some(name) = self.nearest(&entry.key, keys.names(version)) {
            format!("did you mean `{name}`?")
        } else if let Some((_, place)) = home() {
            format!("`{}` is a key of {place}", entry.key)
        } else {
            format!("the keys of {} are: {}", keys.noun, listed(keys.names(version)))
        };
        let message = format!("unknown key `{}` in {}", shown(&entry.key), keys.noun);
        self.error(entry.key_at, message, Some(hint));
    }

    /// Says that a value is of the wrong kind.
    pub(super) fn wrong_kind(&mut self, name: &str, wanted: &str, node: &Node) {
        self.wrong_kind_of(&format!("`{}`", shown(name)), name, wanted, node);
    }

    /// The same, with words for what is wrong, which the file need not name.
    fn wrong_kind_of(&mut self, what: &str, name: &str, wanted: &str, node: &Node) {
        let found = self.described(node, &node.value);
        let text = self.text_of(node);
        let hint = fix_hint::fix_hint(name, wanted, &node.value, text.as_deref());
        self.error(node.at, format!("{what} must be {wanted}, not {found}"), hint);
    }

    /// A value as messages speak of it, with its text where it has one.
    fn described(&self, node: &Node, value: &Value) -> String {
        match value {
            Value::Flag(_) | Value::Integer(_) | Value::Number(_) | Value::Text(_) => {
                format!("{} `{}`", kind(value), shown(&self.text_of(node).unwrap_or_default()))
            }
            Value::Null | Value::List(_) | Value::Map(_) => kind(value).to_owned(),
        }
    }

    /// A scalar as it stands in the file, so that `version: 1.10` keeps its zero.
    pub(super) fn text_of(&self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Flag(_) | Value::Integer(_) | Value::Number(_) if self.is_plain(node) => {
                Some(self.source.slice(node.bytes.clone()).to_owned())
            }
            Value::Flag(flag) => Some(flag.to_string()),
            Value::Integer(integer) => Some(integer.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Whether a scalar stands in the file without quotes.
    fn is_plain(&self, node: &Node) -> bool {
        let text = self.source.slice(node.bytes.clone());
        !text.is_empty() && !text.starts_with(['"', '\'', '|', '>'])
    }

    /// The texts of a list, with their places.
    pub(super) fn texts_of(&mut self, name: &str, node: &Node) -> Vec<(String, Position)> {
        let Value::List(items) = &node.value else {
            self.wrong_kind(name, A_LIST, node);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match self.text_of(item) {
                Some(text) => texts.push((text, item.at)),
                None => self.wrong_kind_of(&format!("an item of `{}`", shown(name)), name, "text", item),
            }
        }
        texts
    }

    /// The entries of a map whose keys are names that the file chooses.
    pub(super) fn entries_of<'n>(&mut self, name: &str, wanted: &str, node: &'n Node) -> &'n [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Flag(_) | Value::Integer(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
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
                let sorted: BTreeMap<_, _> = entries.iter().map(|entry| (&entry.key, &entry.node)).collect();
                sorted.into_iter().map(|(key, node)| (key.clone(), self.json_of(node))).collect()
            }
        }
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
