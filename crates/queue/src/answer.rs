//! Answers of Redis, read into typed values. A conversion that fails names the step or command that was asked.

use std::str::FromStr;

use legwork_common::id::JobId;
use redis::Value;

use crate::error::QueueError;

/// One answer, yet to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    asked: &'static str,
    value: Value,
}

impl Answer {
    /// The answer of the step or command that is called `asked` in messages.
    pub(crate) fn of(asked: &'static str, value: Value) -> Self {
        Self { asked, value }
    }

    /// Whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Value::Array(_))
    }

    /// The items of a list, or of a set, which RESP2 answers as a list; a missing value is an empty list.
    pub(crate) fn items(self) -> Result<Items, QueueError> {
        match self.value {
            Value::Array(items) | Value::Set(items) => Ok(Items::of(self.asked, items)),
            Value::Nil => Ok(Items::of(self.asked, Vec::new())),
            other => Err(expected("a list", self.asked, &other)),
        }
    }

    /// The bytes of a string; a missing value is `None`.
    pub(crate) fn bytes(self) -> Result<Option<Vec<u8>>, QueueError> {
        match self.value {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(Some(text.into_bytes())),
            Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
            Value::Double(number) => Ok(Some(number.to_string().into_bytes())),
            // RESP2 answers a number.
            Value::Boolean(yes) => Ok(Some(u8::from(yes).to_string().into_bytes())),
            Value::Nil => Ok(None),
            other => Err(expected("a string", self.asked, &other)),
        }
    }

    /// The text of a string, or `None` for a missing value. Bytes that are not UTF-8 are replaced.
    pub(crate) fn optional_text(self) -> Result<Option<String>, QueueError> {
        Ok(self.bytes()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The text of a string; a missing value is empty.
    pub(crate) fn text(self) -> Result<String, QueueError> {
        Ok(self.optional_text()?.unwrap_or_default())
    }

    /// A value of `T` from its text.
    pub(crate) fn parse<T: FromStr>(self) -> Result<T, QueueError> {
        self.word()?.parse()
    }

    /// A value of `T`, or `None` for an empty or missing text.
    pub(crate) fn parse_optional<T: FromStr>(self) -> Result<Option<T>, QueueError> {
        let word = self.word()?;
        if word.text.is_empty() { Ok(None) } else { word.parse().map(Some) }
    }

    /// The job of a raw id, as the indexes hold it; `None` for bytes that are not an id.
    pub(crate) fn raw_id(self) -> Result<Option<JobId>, QueueError> {
        Ok(self.bytes()?.as_deref().and_then(JobId::from_slice))
    }

    /// The names and values of a map, which RESP2 answers as a flat list.
    pub(crate) fn pairs(self) -> Result<Vec<(String, Self)>, QueueError> {
        let asked = self.asked;
        if let Value::Map(pairs) = self.value {
            return pairs
                .into_iter()
                .map(|(name, value)| Ok((Self::of(asked, name).text()?, Self::of(asked, value))))
                .collect();
        }
        let mut items = self.items()?;
        let mut pairs = Vec::new();
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            pairs.push((name.text()?, value));
        }
        Ok(pairs)
    }

    /// A word that reports how a step went.
    pub(crate) fn word(self) -> Result<Word, QueueError> {
        Ok(Word { asked: self.asked, text: self.text()? })
    }

    /// A list whose first item is a word that reports how the step went: the word, and the rest.
    pub(crate) fn tagged(self) -> Result<(Word, Items), QueueError> {
        let mut items = self.items()?;
        Ok((items.item()?.word()?, items))
    }
}

/// The items of a list, yet to be read.
#[derive(Debug)]
pub(crate) struct Items {
    asked: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Items {
    /// The items of an answer to `asked`.
    pub(crate) fn of(asked: &'static str, values: Vec<Value>) -> Self {
        Self { asked, values: values.into_iter() }
    }

    /// The next item, which must be there.
    pub(crate) fn item(&mut self) -> Result<Answer, QueueError> {
        let asked = self.asked;
        self.next().ok_or_else(|| QueueError::Unexpected { step: asked, detail: "too few items".to_owned() })
    }
}

impl Iterator for Items {
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        self.values.next().map(|value| Answer::of(self.asked, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.values.size_hint()
    }
}

impl ExactSizeIterator for Items {}

/// A word of an answer, to be matched against those that the step knows.
#[derive(Debug)]
pub(crate) struct Word {
    asked: &'static str,
    text: String,
}

impl Word {
    /// The word as text; empty for a missing value.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The error for a word that no release of ours writes.
    pub(crate) fn unknown(&self) -> QueueError {
        QueueError::Unexpected { step: self.asked, detail: format!("`{}`", self.text) }
    }

    /// A value of `T`.
    pub(crate) fn parse<T: FromStr>(&self) -> Result<T, QueueError> {
        self.text.parse().map_err(|_| QueueError::Unexpected {
            step: self.asked,
            detail: format!("`{}` is not a {}", self.text, std::any::type_name::<T>()),
        })
    }
}

/// The error for an answer of another shape.
fn expected(wanted: &str, asked: &'static str, found: &Value) -> QueueError {
    QueueError::Unexpected { step: asked, detail: format!("expected {wanted}, found {found:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn texts(answer: Answer) -> Vec<String> {
        answer.items().unwrap().map(|item| item.text().unwrap()).collect()
    }

    #[test]
    fn an_answer_reads_alike_in_both_versions_of_the_protocol() {
        let of = |value| Answer::of("acl", value);
        let flags = || vec![text("on"), text("nopass")];
        for flags in [Value::Array(flags()), Value::Set(flags())] {
            assert_eq!(texts(of(flags)), ["on", "nopass"]);
        }
        let flat = Value::Array(vec![text("flags"), text("on"), text("db"), Value::Int(0)]);
        let map = Value::Map(vec![(text("flags"), text("on")), (text("db"), Value::Int(0))]);
        for pairs in [flat, map] {
            let pairs = of(pairs).pairs().unwrap().into_iter();
            let pairs: Vec<_> = pairs.map(|(name, value)| (name, value.text().unwrap())).collect();
            assert_eq!(pairs, [("flags".to_owned(), "on".to_owned()), ("db".to_owned(), "0".to_owned())]);
        }
        for yes in [Value::Int(1), Value::Boolean(true), Value::Double(1.0), text("1")] {
            assert_eq!(of(yes).parse::<u64>().unwrap(), 1);
        }
    }
}
