//! Versions of what is stored: a release recognizes what a later one wrote, and says so instead of failing.
//!
//! During a rolling upgrade programs of two releases share one Redis. Each form that a program stores for another one to
//! read has a version, which is raised when an earlier release would misread it. A form of version 1 does not state it,
//! so a new field that readers may ignore needs no new version.
//!
//! A reader that meets a later version gives the job to another worker, or shows one row that says what it cannot read.

mod sole_reply;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use self::sole_reply::SoleReply;

/// What a document of a version above 1 begins with, before the number.
const JSON_PREFIX: &str = "{\"v\":";
/// Longest name of a later release that is kept as it is; ours have at most 14 bytes.
const MAX_NAME_BYTES: usize = 40;
/// How many unknown names a program remembers. A release adds one or two; the bound is for a damaged Redis.
const MAX_NAMES: usize = 64;

/// A stored form: its name in messages, and the version that this release writes, which is the latest that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredForm {
    /// What the form holds, with its article: `the request`.
    pub name: &'static str,
    /// The version that this release writes, from 1. It reads all versions up to this one.
    pub version: u32,
}

/// The facts of a job, which its dispatch decided. They always state their version.
///
/// Version 3: its session has a limit in money. A worker that reads version 2 would run the job beyond it, so it lacks such
/// a job. All others are written as version 2.
pub const FACTS: StoredForm = StoredForm { name: "the line of facts", version: 3 };
/// The fields of a job's record, which change: state, attempt, cause, usage.
///
/// Version 3: the job has ended, and its result is the end of its output, where a release that reads version 2 does not
/// look for it. All other records state no version.
pub const RECORD: StoredForm = StoredForm { name: "the record", version: 3 };
/// What was dispatched, as JSON.
///
/// Version 2: its calls may wait for a person, or it has a safety mode, a limit of money, or a webhook. A worker that reads
/// version 1 would leave these out, so it lacks such a job.
pub const REQUEST: StoredForm = StoredForm { name: "the request", version: 2 };
/// One entry of the turns, as JSON.
///
/// Version 2: a call waits for a person, or one decided about it. All other entries are written as version 1, so that a
/// release that reads no later one runs the jobs without them.
pub const TURN: StoredForm = StoredForm { name: "a turn entry", version: 2 };
/// A question of a job, or its answer, as JSON.
pub const QUESTION: StoredForm = StoredForm { name: "a question", version: 1 };
/// A resolved team, as JSON.
///
/// Version 2 has something that holds an agent back and that a worker of version 1 would leave out, such as a hook or a
/// budget. A team without any of that is of version 1.
pub const TEAM: StoredForm = StoredForm { name: "the team", version: 2 };
/// A worker's heartbeat.
pub const HEARTBEAT: StoredForm = StoredForm { name: "the heartbeat", version: 1 };

/// Why a stored form cannot be read. Another release may be able to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// A later release wrote it.
    #[error("{form} has version {version}, and this release reads up to version {known}")]
    Later {
        /// The form's name.
        form: &'static str,
        /// The version that it states.
        version: u32,
        /// The latest that this release reads.
        known: u32,
    },
    /// It has a readable version and cannot be read all the same.
    #[error("{form} cannot be read: {detail}")]
    Unknown {
        /// The form's name.
        form: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl StoredForm {
    /// The form as an earlier version wrote it, for values that need no more: earlier releases read those.
    #[must_use]
    pub fn at_version(self, version: u32) -> Self {
        Self { version: version.min(self.version), ..self }
    }

    /// Checks the version that a form states; an empty text stands for version 1.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] for a later version, and for what is not a version.
    pub fn check(self, version: &str) -> Result<(), Unreadable> {
        if version.is_empty() {
            return Ok(());
        }
        let detail = || format!("`{version}` is not a version");
        let version: u32 =
            version.parse().map_err(|_| Unreadable::Unknown { form: self.name, detail: detail() })?;
        if version <= self.version {
            return Ok(());
        }
        Err(Unreadable::Later { form: self.name, version, known: self.version })
    }

    /// Reads a document that [`StoredForm::to_json`] wrote, of this release or another.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] for a later version, and for a document that is not a `T`.
    pub fn from_json<T: DeserializeOwned>(self, text: &str) -> Result<T, Unreadable> {
        if let Some(rest) = text.strip_prefix(JSON_PREFIX) {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            self.check(&rest[..end])?;
        }
        serde_json::from_str(text)
            .map_err(|error| Unreadable::Unknown { form: self.name, detail: error.to_string() })
    }

    /// The document of a value, which states its version unless that is 1.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] where the value has no JSON.
    pub fn to_json<T: Serialize>(self, value: &T) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(value)?;
        if self.version > 1 && text.starts_with('{') {
            let separator = if text == "{}" { "" } else { "," };
            text.replace_range(..1, &format!("{JSON_PREFIX}{}{separator}", self.version));
        }
        Ok(text)
    }
}

/// A name that a later release stored where this one knows a fixed set, such as a cause. It is shown as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaterName(&'static str);

impl LaterName {
    /// The name of a stored text; `unknown` for a text that is not a name, or once too many were seen.
    pub fn of(text: &str) -> Self {
        // Never forgotten, so that the types that hold one stay as cheap to copy as their other values.
        static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let is_name = !text.is_empty()
            && text.len() <= MAX_NAME_BYTES
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(text) {
            return Self(known);
        }
        if !is_name || names.len() >= MAX_NAMES {
            return Self("unknown");
        }
        let name: &'static str = Box::leak(text.into());
        names.insert(name);
        Self(name)
    }

    /// The name as it was stored.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for LaterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const NOW: StoredForm = StoredForm { name: "the note", version: 2 };
    const NEXT: StoredForm = StoredForm { name: "the note", version: 3 };

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    #[test]
    fn a_form_of_this_or_an_earlier_version_is_read() {
        let note = Note { text: "x".to_owned() };
        for form in [StoredForm { version: 1, ..NOW }, NOW] {
            let json = form.to_json(&note).unwrap();
            assert_eq!(NOW.from_json::<Note>(&json).as_ref(), Ok(&note), "{json}");
        }
        assert_eq!(NOW.to_json(&note).unwrap(), r#"{"v":2,"text":"x"}"#);
        assert_eq!(NOW.to_json(&std::collections::BTreeMap::<u8, u8>::new()).unwrap(), r#"{"v":2}"#);
    }

    #[test]
    fn a_later_version_is_named_whatever_its_shape() {
        let json =
            NEXT.to_json(&[("words", 1)].into_iter().collect::<std::collections::BTreeMap<_, _>>()).unwrap();
        let error = NOW.from_json::<Note>(&json).unwrap_err();
        assert_eq!(error.to_string(), "the note has version 3, and this release reads up to version 2");
        assert_eq!(NOW.check("3"), Err(error));
        assert!(NOW.check("2").is_ok() && NOW.check("").is_ok());
        assert_eq!(NOW.check("x").unwrap_err().to_string(), "the note cannot be read: `x` is not a version");
    }

    #[test]
    fn unknown_names_are_kept_within_bounds() {
        assert_eq!(LaterName::of("sunspots"), LaterName::of("sunspots"));
        assert_eq!(LaterName::of("sunspots").as_str(), "sunspots");
        for no_name in ["", "Two words", "x\u{1b}[31m", &"x".repeat(41)] {
            assert_eq!(LaterName::of(no_name).as_str(), "unknown");
        }
        for number in 0..2 * MAX_NAMES {
            LaterName::of(&format!("name_{number}"));
        }
        assert_eq!(LaterName::of("one_more").as_str(), "unknown");
        assert_eq!(LaterName::of("name_0").as_str(), "name_0");
    }
}
