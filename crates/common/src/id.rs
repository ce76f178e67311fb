//! Typed identifiers.
//!
//! Every id is a random UUID (version 4, RFC 9562). The last four hexadecimal digits of a session's
//! id are shared by all its jobs, and the shard is computed from these digits: whoever holds an id
//! knows where its record lives, without asking.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

/// The prefix of a job's id wherever a model or a person sees it.
pub const JOB_ID_PREFIX: &str = "agent_task_";

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a {kind} id")]
pub struct ParseIdError {
    /// What kind of id was wanted.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
}

/// Declares a newtype over a UUID with its textual forms.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The UUID without prefix: the form used in key names.
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// The 16 raw bytes: the form used in indexes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads the 16 raw bytes of an index entry; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The shard of a namespace with `shards` shards that holds this id's record.
            pub fn shard(self, shards: u16) -> u16 {
                let bytes = self.0.as_bytes();
                u16::from_be_bytes([bytes[14], bytes[15]]) % shards.max(1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bare = text.strip_prefix($prefix).unwrap_or(text);
                Uuid::try_parse(bare)
                    .map(Self)
                    .map_err(|_| ParseIdError { kind: $kind, text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// One piece of delegated work. Shown as `agent_task_<uuid>`, in key names as the bare UUID.
    JobId,
    "job",
    JOB_ID_PREFIX
);
uuid_id!(
    /// One conversation of an orchestrating agent, and the unit of atomicity: all of its jobs live
    /// in the session's shard.
    SessionId,
    "session",
    ""
);
uuid_id!(
    /// The secret of one attempt. Random and new at each claim, so a worker whose lease was lost can
    /// prove nothing any more.
    RunToken,
    "run token",
    ""
);
uuid_id!(
    /// Names one call of a step, so that a repeat after a lost reply is answered as the first time.
    RequestId,
    "request",
    ""
);

/// The only place where randomness becomes an id.
#[expect(clippy::disallowed_methods, reason = "this is the typed constructor that the ban points to")]
fn random() -> Uuid {
    Uuid::new_v4()
}

impl JobId {
    /// A new id that lives in the shard of `session`.
    pub fn random_in(session: SessionId) -> Self {
        let mut bytes = *random().as_bytes();
        bytes[14..].copy_from_slice(&session.as_bytes()[14..]);
        Self(Uuid::from_bytes(bytes))
    }
}

impl SessionId {
    /// A new session in a random shard.
    pub fn random() -> Self {
        Self(random())
    }

    /// A new session in the shard of `job`.
    pub fn random_beside(job: JobId) -> Self {
        let mut bytes = *random().as_bytes();
        bytes[14..].copy_from_slice(&job.as_bytes()[14..]);
        Self(Uuid::from_bytes(bytes))
    }
}

impl RunToken {
    /// A new secret for one attempt.
    pub fn random() -> Self {
        Self(random())
    }
}

impl RequestId {
    /// A new name for one call.
    pub fn random() -> Self {
        Self(random())
    }
}

/// One worker process: a host name, cut to 40 bytes, and eight random hexadecimal digits.
///
/// At most 49 bytes of letters, digits, `-`, `_` and `.`, so that it fits a compact hash field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new id for a process on `host`; characters that a key name should not carry become `-`.
    pub fn random_on(host: &str) -> Self {
        let host: String = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' })
            .take(40)
            .collect();
        let digits = &random().simple().to_string()[..8];
        Self(format!("{host}-{digits}"))
    }

    /// Takes an id as it was stored.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who dispatched a job: a session's root agent, or another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dispatcher {
    /// The root of a session.
    Root(SessionId),
    /// A running job.
    Job(JobId),
}

impl Dispatcher {
    /// The UUID that names this dispatcher in keys.
    pub fn uuid(self) -> Uuid {
        match self {
            Self::Root(session) => session.uuid(),
            Self::Job(job) => job.uuid(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_job_lives_in_its_sessions_shard(shards in 1u16..64) {
            let session = SessionId::random();
            let job = JobId::random_in(session);
            prop_assert_eq!(job.shard(shards), session.shard(shards));
            prop_assert!(job.shard(shards) < shards);
            prop_assert!(job.to_string().ends_with(&session.to_string()[32..]));
        }
    }

    #[test]
    fn a_job_id_is_read_with_and_without_its_prefix() {
        let id = JobId::random_in(SessionId::random());
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert_eq!(id.uuid().to_string().parse::<JobId>(), Ok(id));
        assert_eq!(JobId::from_slice(id.as_bytes()), Some(id));
        let error = "agent_task_x".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "`agent_task_x` is not a job id");
    }

    #[test]
    fn a_worker_id_is_safe_in_a_key() {
        let id = WorkerId::random_on("häuschen {a}:b");
        assert!(id.as_str().starts_with("h-uschen--a--b-"));
        assert!(WorkerId::random_on(&"x".repeat(90)).as_str().len() == 49);
    }
}
