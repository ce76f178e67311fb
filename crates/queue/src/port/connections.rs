//! How hosts of the Model Context Protocol initialized their connections, so that any replica of a server can serve
//! them.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::SessionId;

use crate::error::QueueError;

/// The connections of hosts, each by the session that it belongs to. Nothing else depends on them: a host whose
/// connection is lost connects again.
#[async_trait]
pub trait Connections: Debug + Send + Sync {
    /// Stores a host's initialization message. It expires `keep` after it was last read.
    async fn keep_connection(
        &self,
        session: SessionId,
        message: &[u8],
        keep: Duration,
    ) -> Result<(), QueueError>;

    /// A host's initialization message, whose expiry starts again. `None` for a host that never connected, left, or was
    /// not served for `keep`.
    async fn connection(&self, session: SessionId, keep: Duration) -> Result<Option<Vec<u8>>, QueueError>;

    /// Drops the connection of a host that left. The jobs of its session continue.
    async fn drop_connection(&self, session: SessionId) -> Result<(), QueueError>;
}
