//! Typed identifiers.
//!
//! Every id is a random UUID (version 4, RFC 9562), but for the sessions that are found again by name (version 8). A session and all of its jobs share the last four
//! hexadecimal digits of their ids, and the shard is computed from these digits. So any process that has an
//! id can address its record without a lookup.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

/// The prefix of a job id in everything that models and users see. It is part of the tools' contract.
pub const JOB_ID_PREFIX: &str = "agent_task_";

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a {kind} id")]
pub struct ParseIdError {
    /// The expected kind, for the message: `job`.
    pub kind: &'static str,
    /// The rejected text.
    pub text: String,
}

/// Declares a newtype over a UUID, with parsing, formatting and serialization as text.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The UUID without a prefix, as in key names.
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// The 16 raw bytes, as in indexes, where they take less than half the memory of text.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Converts the 16 raw bytes of an index entry; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The shard that holds the record of this id, in a namespace of `shards` shards. At most 65,536
            /// shards are possible, because two bytes of the id select the shard.
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
    /// The id of a job. Displayed as `agent_task_<uuid>`; key names contain the UUID alone. Unguessable,
    /// because a caller that knows an id may see the job.
    JobId,
    "job",
    JOB_ID_PREFIX
);
uuid_id!(
    /// The id of a session: one conversation of an orchestrating agent. A session is the unit of atomicity,
    /// because its jobs all live in its shard.
    SessionId,
    "session",
    ""
);
uuid_id!(
    /// The secret of one attempt, created anew for each claim. Every write of a worker must present it, so a
    /// worker that lost its lease can change nothing, however late its writes arrive.
    RunToken,
    "run token",
    ""
);
uuid_id!(
    /// The id of one call of a step. A repeat after a lost reply has the same id and gets the reply of the
    /// first call.
    RequestId,
    "request",
    ""
);

/// Creates a random UUID. Every id of the project comes from here, so that none is predictable.
#[expect(clippy::disallowed_methods, reason = "this is the typed constructor that the ban points to")]
fn random() -> Uuid {
    Uuid::new_v4()
}

impl JobId {
    /// A new job id in the shard of `session`.
    pub fn random_in(session: SessionId) -> Self {
        let mut bytes = *random().as_bytes();
        bytes[14..].copy_from_slice(&session.as_bytes()[14..]);
        Self(Uuid::from_bytes(bytes))
    }
}

impl SessionId {
    /// The session of a name, the same for the same parts: a UUID of version 8, made of their SHA-256. For sessions that a
    /// later process finds again without having stored their ids; a process that knows the parts knows the id.
    pub fn named(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.finalize()[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(Uuid::from_bytes(bytes))
    }

    /// A new session id in a random shard.
    pub fn random() -> Self {
        Self(random())
    }

    /// A new session id in the shard of `job`, so that the step that stores a retry of the job in this
    /// session can also extend the retention of the job.
    pub fn random_in_shard_of(job: JobId) -> Self {
        let mut bytes = *random().as_bytes();
        bytes[14..].copy_from_slice(&job.as_bytes()[14..]);
        Self(Uuid::from_bytes(bytes))
    }
}

impl RunToken {
    /// A new secret.
    pub fn random() -> Self {
        Self(random())
    }
}

impl RequestId {
    /// A new request id.
    pub fn random() -> Self {
        Self(random())
    }
}

/// The id of a worker process: its host name, cut to 40 bytes, and eight random hexadecimal digits, so that a
/// restarted worker has another id.
///
/// At most 49 bytes of letters, digits, `-`, `_` and `.`: Redis stores hash values of up to 64 bytes compactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new id for a process on `host`. Characters that are not safe in key names are replaced by `-`.
    pub fn random_on(host: &str) -> Self {
        let host: String = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' })
            .take(40)
            .collect();
        let digits = &random().simple().to_string()[..8];
        Self(format!("{host}-{digits}"))
    }

    /// Wraps an id that was read from Redis or given by a user, without validation.
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

/// The dispatcher of a job: the root agent of a session, or another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dispatcher {
    /// The root agent of this session, or an operator who dispatches into it.
    Root(SessionId),
    /// This job.
    Job(JobId),
}

impl Dispatcher {
    /// The UUID of this dispatcher in key names.
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
        fn a_job_is_in_the_shard_of_its_session(shards in 1u16..64) {
            let session = SessionId::random();
            let job = JobId::random_in(session);
            prop_assert_eq!(job.shard(shards), session.shard(shards));
            prop_assert!(job.shard(shards) < shards);
            prop_assert!(job.to_string().ends_with(&session.to_string()[32..]));
        }
    }

    #[test]
    fn a_job_id_parses_with_and_without_its_prefix() {
        let id = JobId::random_in(SessionId::random());
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert_eq!(id.uuid().to_string().parse::<JobId>(), Ok(id));
        assert_eq!(JobId::from_slice(id.as_bytes()), Some(id));
        let error = "agent_task_x".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "`agent_task_x` is not a job id");
    }

    #[test]
    fn a_worker_id_has_only_characters_that_are_safe_in_keys() {
        let id = WorkerId::random_on("häuschen {a}:b");
        assert!(id.as_str().starts_with("h-uschen--a--b-"));
        assert!(WorkerId::random_on(&"x".repeat(90)).as_str().len() == 49);
    }

    #[test]
    fn a_named_session_depends_on_each_part_and_its_end() {
        let session = SessionId::named(&[b"ab", b"c"]);
        assert_eq!(session, SessionId::named(&[b"ab", b"c"]));
        assert_ne!(session, SessionId::named(&[b"a", b"bc"]));
        assert_eq!(session.uuid().get_version_num(), 8);
        assert_eq!(session.to_string().parse(), Ok(session));
    }
}
