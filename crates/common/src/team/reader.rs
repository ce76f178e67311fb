//! Collects errors and warnings while the tree of a file is read.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::error::Class;
use super::error::Found;
use super::error::TeamError;
use super::error::TeamErrors;
use super::error::Warning;
use super::fields::Fields;
use super::fix_hint;
use super::fix_hint::STRING;
use super::fix_hint::STRING_LIST;
use super::keys::KEY_LOCATIONS;
use super::keys::Key;
use super::keys::Keys;
use super::keys::Support;
use super::names::closest;
use super::names::quoted_list;
use super::source::Position;
use super::source::Source;
use super::source::excerpt;
use super::tree::Entry;
use super::tree::Node;
use super::tree::Value;

/// The maximum number of errors that are kept with their messages; further ones are only counted. It is
/// larger than the number of reported errors, because the reported ones are the first by position, not the
/// first that were found.
const MAX_KEPT_ERRORS: usize = 100;

/// The maximum number of bytes that are copied into the team because agents refer to the same model or
/// server. It is twice the size of the largest file, and keeps a small file from growing into gigabytes.
const MAX_COPIED_BYTES: usize = 16 * 1024 * 1024;

/// Keys that hold an agent back.
const RESTRAINTS: [&str; 8] =
    ["safety", "readonly", "permissions", "budget", "budgets", "max_iterations", "redact_secrets", "sandbox"];
/// Lists that hold an agent back. docker-agent cannot distinguish an empty one from an absent one.
const LISTS: [&str; 6] = ["deny", "ask", "allow_list", "deny_list", "allowed_domains", "blocked_domains"];

/// The errors and warnings of a file so far, and helpers that read values and record why they are invalid.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    pub(super) source: Source<'s>,
    /// The schema version of the file, 0 to 16.
    pub(super) version: u8,
    errors: Vec<TeamError>,
    /// The number of errors beyond [`MAX_KEPT_ERRORS`].
    unlisted: usize,
    /// The number of bytes that were copied because several agents refer to them.
    copied: usize,
    /// For each message its first position and the lines of the other occurrences.
    warnings: BTreeMap<String, (Position, Vec<u64>)>,
    /// The known keys of the file, with the lines where they are.
    found: BTreeMap<(Support, &'static str, &'static str), (&'static str, BTreeSet<u64>)>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: Source<'s>, version: u8) -> Self {
        Self {
            source,
            version,
            errors: Vec::new(),
            unlisted: 0,
            copied: 0,
            warnings: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }

    /// The number of errors so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.len() + self.unlisted
    }

    /// All errors; there must be at least one.
    pub(super) fn into_errors(self) -> TeamErrors {
        let found = self.found();
        TeamErrors::new(self.source, self.errors, self.unlisted, found)
    }

    /// Records an error of the file as a whole.
    pub(super) fn error_of_file(&mut self, message: &str, hint: &str) {
        self.errors.push(self.source.error(None, message.to_owned(), Some(hint.to_owned())));
    }

    /// Counts `bytes` towards [`MAX_COPIED_BYTES`]. Returns whether the copy is allowed; the first copy that
    /// is not records an error.
    pub(super) fn charge_copy(&mut self, bytes: usize, at: Position) -> bool {
        let was_within = self.copied <= MAX_COPIED_BYTES;
        self.copied = self.copied.saturating_add(bytes);
        if was_within && self.copied > MAX_COPIED_BYTES {
            let message =
                "the models and servers that the agents refer to exceed 16 MiB, counting each reference";
            self.error(at, message, None);
        }
        self.copied <= MAX_COPIED_BYTES
    }

    /// The most similar name; `None` once there are enough errors, because the search is the expensive part
    /// of an error.
    pub(super) fn closest<'a>(
        &self,
        misspelt: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.errors.len() >= MAX_KEPT_ERRORS { None } else { closest(misspelt, names) }
    }

    /// Records an error in a value.
    pub(super) fn error(&mut self, at: Position, message: impl Into<String>, hint: Option<String>) {
        self.error_of_class(Class::Value, at, message.into(), hint);
    }

    /// Records an error.
    fn error_of_class(&mut self, class: Class, at: Position, message: String, hint: Option<String>) {
        if self.errors.len() < MAX_KEPT_ERRORS {
            self.errors.push(TeamError { class, ..self.source.error(Some(at), message, hint) });
        } else {
            self.unlisted += 1;
        }
    }

    /// Records a valid setting that is an error, because running without its effect is not safe. `fix_hint` is its note.
    pub(super) fn refuse(&mut self, at: Position, setting: &str, fix_hint: &str) {
        let message = format!("{setting} is refused, because running without its effect is not safe");
        self.error_of_class(Class::Refused, at, message, Some(fix_hint.to_owned()));
    }

    /// Records a warning. Equal messages become one warning.
    pub(super) fn warn(&mut self, at: Position, message: impl Into<String>) {
        let (first, more) = self.warnings.entry(message.into()).or_insert_with(|| (at, Vec::new()));
        if *first != at && more.last() != Some(&at.line) {
            more.push(at.line);
        }
    }

    /// The warnings, sorted by position, each with the lines of its other occurrences.
    pub(super) fn into_warnings(self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = self
            .warnings
            .into_iter()
            .map(|(message, (at, more))| Warning {
                line: at.line,
                column: at.column,
                message: message + &also_on_lines(&more),
            })
            .collect();
        warnings.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        warnings
    }

    /// The known keys of the file, by what Legwork does with them, then by map and name.
    pub(super) fn found(&self) -> Vec<Found> {
        self.found
            .iter()
            .map(|((support, map, key), (note, lines))| Found {
                support: *support,
                map,
                key,
                note,
                lines: lines.iter().copied().collect(),
            })
            .collect()
    }

    /// Reads a map with a fixed set of keys. A value of another type and any other key are errors, and so is a key that
    /// is refused; a key without effect is a warning.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, keys: &'static Keys) -> Option<Fields<'n>> {
        let fields = self.fields_without_warnings(node, keys)?;
        for entry in fields.entries {
            if let Some(key) = keys.find(&entry.key, self.version) {
                self.judge(entry, key, keys);
                self.warn_of_nothing(entry, key);
            }
        }
        Some(fields)
    }

    /// Like [`fields`](Self::fields), for a map that has no effect as a whole: without warnings, and without refusals.
    pub(super) fn fields_without_warnings<'n>(
        &mut self,
        node: &'n Node,
        keys: &'static Keys,
    ) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Value::Null => &[],
            Value::Map(entries) => entries.as_slice(),
            other => {
                let allowed = quoted_list(keys.names(self.version));
                let message =
                    format!("{} must be a map of keys, not {}", keys.noun, self.describe(node, other));
                self.error(node.at, message, Some(format!("valid keys: {allowed}")));
                return None;
            }
        };
        for entry in entries {
            match keys.find(&entry.key, self.version) {
                Some(key) => self.note(key, keys, entry.key_at),
                None => self.unknown_key(entry, keys),
            }
        }
        Some(Fields { at: node.at, entries, keys })
    }

    /// Notes that the file has a key, or a value that has a row of its own.
    pub(super) fn note(&mut self, key: &Key, keys: &Keys, at: Position) {
        let (_, lines) = self
            .found
            .entry((key.support, keys.noun, key.name))
            .or_insert_with(|| (key.note, BTreeSet::new()));
        lines.insert(at.line);
    }

    /// Records a warning for a key without effect, and an error for one that is refused, unless it has the default of its
    /// type, which asks for nothing.
    pub(super) fn judge(&mut self, entry: &Entry, key: &Key, keys: &Keys) {
        match key.support {
            Support::Yes | Support::Partly => {}
            Support::No => {
                let message = format!("`{}` in {} has no effect yet: {}", key.name, keys.noun, key.note);
                self.warn(entry.key_at, message);
            }
            Support::Refused if entry.node.is_unset() => {}
            Support::Refused => {
                self.refuse(entry.key_at, &format!("`{}` in {}", key.name, keys.noun), key.note);
            }
        }
    }

    /// Warns of a key that is there to hold an agent back, and whose value says nothing.
    fn warn_of_nothing(&mut self, entry: &Entry, key: &Key) {
        let is_empty_list = matches!(&entry.node.value, Value::List(items) if items.is_empty());
        let what = match () {
            () if entry.node.is_blank() && (RESTRAINTS.contains(&key.name) || LISTS.contains(&key.name)) => {
                "has no value"
            }
            () if is_empty_list && LISTS.contains(&key.name) => "is an empty list",
            () => return,
        };
        self.warn(entry.key_at, format!("`{}` {what} and restricts nothing", key.name));
    }

    /// Records an unknown key, with the best available hint: a version that had the key, the map that the key
    /// belongs to, a similar key, or the list of valid keys.
    fn unknown_key(&mut self, entry: &Entry, keys: &Keys) {
        let version = self.version;
        let removed = keys.keys.iter().find(|key| key.name == entry.key);
        let location = || {
            KEY_LOCATIONS
                .iter()
                .find(|(map, _)| map.noun != keys.noun && map.find(&entry.key, version).is_some())
        };
        let hint = if let Some(removed) = removed
            && let Some(last) = removed.last_version
        {
            let first = removed.first_version;
            let fate = match first {
                _ if version > last => format!("it was removed after schema version {last}"),
                _ => format!("it is a key of schema versions {first} to {last}"),
            };
            format!("{fate}; this file is read as version {version}")
        } else if let Some((_, location)) = location() {
            format!("`{}` is a key of {location}", entry.key)
        } else if let Some(name) = self.closest(&entry.key, keys.names(version)) {
            format!("did you mean `{name}`?")
        } else {
            format!("valid keys of {}: {}", keys.noun, quoted_list(keys.names(version)))
        };
        let message = format!("unknown key `{}` in {}", excerpt(&entry.key), keys.noun);
        self.error_of_class(Class::UnknownKey, entry.key_at, message, Some(hint));
    }

    /// Records that the value of the key `name` has the wrong type; `expected` describes the right one.
    pub(super) fn wrong_type(&mut self, name: &str, expected: &str, node: &Node) {
        self.wrong_type_of(&format!("`{}`", excerpt(name)), name, expected, node);
    }

    /// Like [`wrong_type`](Self::wrong_type), with a subject for the message other than the key.
    fn wrong_type_of(&mut self, subject: &str, name: &str, expected: &str, node: &Node) {
        let found = self.describe(node, &node.value);
        let text = self.string_of(node);
        let hint = fix_hint::fix_hint(name, expected, &node.value, text.as_deref());
        self.error(node.at, format!("{subject} must be {expected}, not {found}"), hint);
    }

    /// A value as a message describes it: its type, and for a scalar its text.
    fn describe(&self, node: &Node, value: &Value) -> String {
        match value {
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {
                format!("{} `{}`", type_name(value), excerpt(&self.string_of(node).unwrap_or_default()))
            }
            Value::Null | Value::List(_) | Value::Map(_) => type_name(value).to_owned(),
        }
    }

    /// A scalar as text; `None` for null, lists and maps. An unquoted scalar keeps the spelling of the file,
    /// so that `version: 1.10` keeps its zero.
    pub(super) fn string_of(&self, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) if self.is_plain(node) => {
                Some(self.source.slice(node.bytes.clone()).to_owned())
            }
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Integer(integer) => Some(integer.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Whether a scalar is written without quotes and not as a block.
    fn is_plain(&self, node: &Node) -> bool {
        let text = self.source.slice(node.bytes.clone());
        !text.is_empty() && !text.starts_with(['"', '\'', '|', '>'])
    }

    /// The strings of a list, with their positions.
    pub(super) fn strings_of(&mut self, name: &str, node: &Node) -> Vec<(String, Position)> {
        let Value::List(items) = &node.value else {
            self.wrong_type(name, STRING_LIST, node);
            return Vec::new();
        };
        let mut strings = Vec::new();
        for item in items {
            match self.string_of(item) {
                Some(text) => strings.push((text, item.at)),
                None => self.wrong_type_of(&format!("an item of `{}`", excerpt(name)), name, STRING, item),
            }
        }
        strings
    }

    /// The entries of a map whose keys are names that the file defines.
    pub(super) fn entries_of<'n>(&mut self, name: &str, expected: &str, node: &'n Node) -> &'n [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) | Value::List(_) => {
                self.wrong_type(name, expected, node);
                &[]
            }
        }
    }

    /// The value as JSON. Maps are sorted by key, so that equal values have equal digests.
    pub(super) fn json_of(&self, node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Integer(integer) => (*integer).into(),
            Value::Float(number) => (*number).into(),
            Value::String(text) => text.clone().into(),
            Value::List(items) => items.iter().map(|item| self.json_of(item)).collect(),
            Value::Map(entries) => {
                let sorted: BTreeMap<_, _> = entries.iter().map(|entry| (&entry.key, &entry.node)).collect();
                sorted.into_iter().map(|(key, node)| (key.clone(), self.json_of(node))).collect()
            }
        }
    }
}

/// The type of a value for messages, with its article.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "the boolean",
        Value::Integer(_) | Value::Float(_) => "the number",
        Value::String(_) => "the string",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// The suffix of a merged warning: ` (also on lines 3 and 9)`, with at most eight lines.
fn also_on_lines(lines: &[u64]) -> String {
    let numbers: Vec<String> = lines.iter().take(8).map(u64::to_string).collect();
    match numbers.as_slice() {
        [] => String::new(),
        [line] => format!(" (also on line {line})"),
        _ if lines.len() > numbers.len() => {
            format!(" (also on lines {} and more)", numbers.join(", "))
        }
        [others @ .., last] => format!(" (also on lines {} and {last})", others.join(", ")),
    }
}
