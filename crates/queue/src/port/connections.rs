//! What hosts of the Model Context Protocol said when they connected, so that any replica of a server can go on with
//! them.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::SessionId;

use crate::error::QueueError;

/// The connections of hosts, each by the session of its name. Nothing else depends on them: a lost one costs a host a
/// new connection.
#[async_trait]
pub trait Connections: Debug + Send + Sync {
    /// Keeps what a host said, for `keep` after the last time that somebody asked for it.
    async fn keep_connection(
        &self,
        session: SessionId,
        said: &[u8],
        keep: Duration,
    ) -> Result<(), QueueError>;

    /// What a host said; `None` for one that never came, left, or was not heard of for `keep`.
    async fn connection(&self, session: SessionId, keep: Duration) -> Result<Option<Vec<u8>>, QueueError>;

    /// Drops a connection whose host left. Its session's jobs go on.
    async fn drop_connection(&self, session: SessionId) -> Result<(), QueueError>;
}
