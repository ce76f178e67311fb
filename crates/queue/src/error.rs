//! Why a step of the queue was not done.

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::service::ServiceError;
use legwork_common::stored::Unreadable;
use redis::RedisError;
use thiserror::Error;

use crate::link::NOT_DURABLE;

/// The forms of an address, for a hint.
const ADDRESS_FORMS: &str = "write redis://host:port, rediss://host:port, unix:///path, \
     redis+sentinel://host,host/master or redis+cluster://host:port,host:port";

/// Why a step of the queue was not done.
#[derive(Debug, Error)]
pub enum QueueError {
    /// A text that should say where Redis is, and does not.
    #[error("`{text}` is not the address of a Redis")]
    Address {
        /// The text, without user and password.
        text: String,
    },
    /// A file with a certificate or a key, named in the URL, cannot be read.
    #[error("`{path}` cannot be read: {source}")]
    Certificate {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Redis refused because its memory is full.
    #[error("Redis is out of memory, so `{step}` was refused: {source}")]
    Full {
        /// The step that was refused.
        step: &'static str,
        /// The error as Redis reported it.
        source: RedisError,
    },
    /// Redis refused the user or the password.
    #[error("Redis refused the credentials: {0}")]
    Credentials(#[source] RedisError),
    /// Redis could not be reached, or did not answer in time. The step may or may not have been done; every step may be
    /// repeated.
    #[error("Redis could not be reached for `{step}`: {source}")]
    Unreachable {
        /// The step that got no answer.
        step: &'static str,
        /// The error of the connection.
        source: RedisError,
    },
    /// The step was done, and files and replicas did not confirm it in time. It is not lost unless this server is; the step
    /// may be repeated.
    #[error("`{step}` was done and is not confirmed: {detail}")]
    NotDurable {
        /// The step.
        step: &'static str,
        /// Who has confirmed it.
        detail: String,
    },
    /// The server cannot confirm what it is sent, as `--durable` asks.
    #[error("`--durable` cannot be kept: {detail}")]
    CannotConfirm {
        /// Why.
        detail: String,
    },
    /// Redis answered with an error of its own.
    #[error("Redis refused `{step}`: {source}")]
    Refused {
        /// The step that was refused.
        step: &'static str,
        /// The error as Redis reported it.
        source: RedisError,
    },
    /// An answer does not have the shape that this release expects.
    #[error("Redis gave an unexpected answer to `{step}`: {detail}")]
    Unexpected {
        /// The step that was answered.
        step: &'static str,
        /// What was found instead.
        detail: String,
    },
    /// A later release stored this, or it is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The namespace has a data format or settings that this release or this process cannot use.
    #[error("namespace `{namespace}` {detail}")]
    Namespace {
        /// The namespace that cannot be used.
        namespace: String,
        /// What is wrong with it, as the rest of the sentence.
        detail: String,
    },
}

impl QueueError {
    /// Sorts an error of the Redis client by what a caller can do about it.
    pub(crate) fn from_redis(step: &'static str, source: RedisError) -> Self {
        if source.code() == Some("OOM") {
            return Self::Full { step, source };
        }
        if source.code() == Some(NOT_DURABLE) {
            let detail = source.detail().unwrap_or_default().to_owned();
            return Self::NotDurable { step, detail };
        }
        let refused_login = source.kind() == redis::ErrorKind::AuthenticationFailed
            || matches!(source.code(), Some("WRONGPASS" | "NOAUTH"));
        if refused_login {
            return Self::Credentials(source);
        }
        // Also while the Sentinels still name a master that is gone, or no node of a Cluster is connected.
        let no_master = matches!(
            source.kind(),
            redis::ErrorKind::MasterNameNotFoundBySentinel | redis::ErrorKind::ClusterConnectionNotFound
        );
        if no_master || source.is_io_error() || source.is_timeout() || source.is_connection_dropped() {
            return Self::Unreachable { step, source };
        }
        Self::Refused { step, source }
    }

    /// Whether a later repeat of the same step may succeed without any change by a user.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Full { .. } | Self::NotDurable { .. } => true,
            Self::Refused { source, .. } => {
                matches!(
                    source.code(),
                    Some(
                        "LOADING"
                            | "READONLY"
                            | "TRYAGAIN"
                            | "MASTERDOWN"
                            | "CLUSTERDOWN"
                            | "NOREPLICAS"
                            | "BUSY"
                    )
                )
            }
            Self::Address { .. }
            | Self::Certificate { .. }
            | Self::Credentials(_)
            | Self::CannotConfirm { .. }
            | Self::Unexpected { .. }
            | Self::Unreadable(_)
            | Self::Namespace { .. } => false,
        }
    }
}

impl Coded for QueueError {
    fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "redis_address",
            Self::Certificate { .. } => "redis_certificate",
            Self::Full { .. } => "redis_full",
            Self::Credentials(_) => "redis_credentials",
            Self::Unreachable { .. } => "redis_unreachable",
            Self::NotDurable { .. } => "not_durable",
            Self::CannotConfirm { .. } => "cannot_confirm",
            Self::Refused { .. } => "redis_refused",
            Self::Unexpected { .. } => "redis_unexpected",
            Self::Unreadable(_) => "unreadable",
            Self::Namespace { .. } => "namespace",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Address { .. } | Self::Certificate { .. } | Self::CannotConfirm { .. } => ExitStatus::Usage,
            _ => ExitStatus::Redis,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some(ADDRESS_FORMS.to_owned()),
            Self::Certificate { .. } => {
                Some("`ca`, `cert` and `key` in the URL name PEM files that this process can read".to_owned())
            }
            Self::Full { .. } => Some("raise maxmemory; running jobs can still finish".to_owned()),
            Self::Credentials(_) => {
                Some("put user and password into the URL: redis://user:password@host".to_owned())
            }
            Self::Unreachable { .. } => Some(
                "check --redis (LEGWORK_REDIS_URL); without a URL the embedded server is used".to_owned(),
            ),
            Self::NotDurable { .. } => Some(
                "see that the replicas follow with `appendonly yes`; the job is stored: dispatched again with the same \
                 --key, it is found"
                    .to_owned(),
            ),
            Self::CannotConfirm { .. } => Some(
                "it needs Redis or Valkey 7.2 or newer, a master alone or behind Sentinels, and `appendonly yes`".to_owned(),
            ),
            Self::Refused { source, .. } => Some(refusal_hint(source.code()).to_owned()),
            Self::Unexpected { .. } | Self::Unreadable(_) => {
                Some("a different release may have written this namespace".to_owned())
            }
            Self::Namespace { .. } => {
                Some("use the same settings as its first user, or another --namespace".to_owned())
            }
        }
    }
}

/// What to do about an error that Redis answered with, by its code.
fn refusal_hint(code: Option<&str>) -> &'static str {
    match code {
        Some("READONLY") => {
            "this server is a replica; name its master, or redis+sentinel:// or redis+cluster:// so that it is found"
        }
        Some("MASTERDOWN") => "this replica has lost its master; name the new master, or redis+sentinel://",
        Some("CLUSTERDOWN") => "a part of the Cluster has no master; see CLUSTER INFO on any node",
        Some("MOVED" | "ASK" | "CROSSSLOT") => {
            "this server is a node of a Cluster; write redis+cluster://host:port"
        }
        Some("NOPERM") => "the user lacks a command or a key pattern; see deploy/redis/users.acl",
        Some("LOADING") => "the server reads its data after a start; try again once it is ready",
        Some("BUSY") => "a script blocks the server; SCRIPT KILL ends one that has written nothing",
        Some("MISCONF") => "the server cannot write its data to disk; see its log",
        Some("NOREPLICAS") => "the server wants more replicas than it has; see min-replicas-to-write",
        _ => "Legwork needs Redis 7.0 or Valkey 7.2, or newer",
    }
}

impl From<QueueError> for ServiceError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full { source, .. } => Self::Full { what: "Redis", detail: source.to_string() },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_a_connected_node_is_waited_for() {
        let none = RedisError::from((redis::ErrorKind::ClusterConnectionNotFound, "No connections found"));
        let error = QueueError::from_redis("connect", none);
        assert_eq!(error.code(), "redis_unreachable");
        assert!(error.is_transient());
    }

    #[test]
    fn a_master_without_the_replicas_that_it_wants_is_waited_for() {
        let answer = redis::parse_redis_value(b"-NOREPLICAS Not enough good replicas to write.\r\n").unwrap();
        let error = QueueError::from_redis("enqueue", answer.extract_error().unwrap_err());
        assert!(error.is_transient(), "{error}");
    }
}
