//! A text that is read from its beginning.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::work;

/// What is left of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'t>(&'t str);

/// The fields of a JSON object, each as it is written.
pub(super) type Fields<'t> = BTreeMap<&'t str, &'t RawValue>;

impl<'t> Scan<'t> {
    /// All of a text.
    pub(super) fn new(text: &'t str) -> Self {
        Self(text)
    }

    /// Whether nothing but blanks is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.0.trim_start().is_empty()
    }

    /// Takes `mark` after blanks, if it stands there.
    pub(super) fn take(&mut self, mark: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(mark)?;
        Some(())
    }

    /// Takes `mark` if it stands there, and returns whether it did.
    pub(super) fn takes(&mut self, mark: &str) -> bool {
        let mut next = *self;
        let taken = next.take(mark).is_some();
        if taken {
            *self = next;
        }
        taken
    }

    /// Takes all up to `mark`, and the mark.
    pub(super) fn until(&mut self, mark: &str) -> Option<&'t str> {
        let (before, after) = self.0.split_once(mark).unwrap_or((self.0, ""));
        work::count(before.len());
        let is_there = before.len() < self.0.len();
        self.0 = after;
        is_there.then_some(before)
    }

    /// Takes what could be the name of a tool: no blanks and none of the characters that end names in any form.
    pub(super) fn name(&mut self) -> Option<&'t str> {
        let text = self.0.trim_start();
        let ends = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '[' | ']' | '{' | '}' | '"');
        let (name, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
        self.0 = rest;
        (!name.is_empty()).then_some(name)
    }

    /// Takes one JSON value, as it is written.
    pub(super) fn json(&mut self) -> Option<&'t RawValue> {
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter();
        let value = values.next();
        work::count(values.byte_offset());
        let value = value?.ok()?;
        self.0 = &self.0[values.byte_offset()..];
        Some(value)
    }
}

/// The fields of an object; none for any other value.
pub(super) fn fields(value: &RawValue) -> Option<Fields<'_>> {
    work::count(value.get().len());
    serde_json::from_str(value.get()).ok()
}
