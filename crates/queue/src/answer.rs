//! Reading answers of steps: small conversions, each with an error that names the step.

use std::str::FromStr;

use redis::Value;

use crate::error::QueueError;

/// An answer of a step, being read.
#[derive(Debug)]
pub(crate) struct Answer {
    step: &'static str,
    value: Value,
}

impl Answer {
    /// The answer of `step`.
    pub(crate) fn of(step: &'static str, value: Value) -> Self {
        Self { step, value }
    }

    /// The error for an answer of another shape than `wanted`.
    fn unexpected(&self, wanted: &str) -> QueueError {
        QueueError::Unexpected { step: self.step, detail: format!("{:?} is no {wanted}", self.value) }
    }

    /// The items of a list; a missing value is an empty list.
    pub(crate) fn list(self) -> Result<Vec<Self>, QueueError> {
        match self.value {
            Value::Array(items) => {
                Ok(items.into_iter().map(|value| Self { step: self.step, value }).collect())
            }
            Value::Nil => Ok(Vec::new()),
            _ => Err(self.unexpected("list")),
        }
    }

    /// The bytes of a string; a missing value is `None`.
    pub(crate) fn bytes(self) -> Result<Option<Vec<u8>>, QueueError> {
        match self.value {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::SimpleString(text) => Ok(Some(text.into_bytes())),
            Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
            Value::Double(number) => Ok(Some(number.to_string().into_bytes())),
            Value::Nil => Ok(None),
            _ => Err(self.unexpected("string")),
        }
    }

    /// The text of a string; a missing value is empty.
    pub(crate) fn text(self) -> Result<String, QueueError> {
        Ok(String::from_utf8_lossy(&self.bytes()?.unwrap_or_default()).into_owned())
    }

    /// A value of `T` from its text.
    pub(crate) fn parse<T: FromStr>(self) -> Result<T, QueueError> {
        let step = self.step;
        let text = self.text()?;
        text.parse().map_err(|_| QueueError::Unexpected {
            step,
            detail: format!("`{text}` is no {}", std::any::type_name::<T>()),
        })
    }

    /// A value of `T`, or `None` for an empty or missing text.
    pub(crate) fn parse_optional<T: FromStr>(self) -> Result<Option<T>, QueueError> {
        let step = self.step;
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        Self { step, value: Value::BulkString(text.into_bytes()) }.parse().map(Some)
    }

    /// A pair list (of HGETALL in RESP2 or RESP3) as names and values.
    pub(crate) fn pairs(self) -> Result<Vec<(String, Self)>, QueueError> {
        let step = self.step;
        if let Value::Map(pairs) = self.value {
            return pairs
                .into_iter()
                .map(|(name, value)| Ok((Self { step, value: name }.text()?, Self { step, value })))
                .collect();
        }
        let mut items = self.list()?.into_iter();
        let mut pairs = Vec::new();
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            pairs.push((name.text()?, value));
        }
        Ok(pairs)
    }

    /// An answer whose first item says how the step went: the word, and the rest.
    pub(crate) fn tagged(self) -> Result<(String, std::vec::IntoIter<Self>), QueueError> {
        let step = self.step;
        let mut items = self.list()?.into_iter();
        let word = items.next().ok_or(QueueError::Unexpected { step, detail: "an empty list".to_owned() })?;
        Ok((word.text()?, items))
    }
}

/// The next item of an answer, or an error that names the step.
pub(crate) fn next(step: &'static str, items: &mut std::vec::IntoIter<Answer>) -> Result<Answer, QueueError> {
    items.next().ok_or_else(|| QueueError::Unexpected { step, detail: "too few items".to_owned() })
}

/// The error for a word that no release of ours writes.
pub(crate) fn unknown_word(step: &'static str, word: &str) -> QueueError {
    QueueError::Unexpected { step, detail: format!("`{word}`") }
}
