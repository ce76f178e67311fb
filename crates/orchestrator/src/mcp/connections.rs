//! HTTP connections of older protocol versions, stored in Redis so that every replica and a restarted server can resume
//! them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::SessionId;
use legwork_queue::Connections;
use rmcp::transport::streamable_http_server::session::SessionState;
use rmcp::transport::streamable_http_server::session::SessionStore;
use rmcp::transport::streamable_http_server::session::SessionStoreError;

/// A store of the handshakes of connected hosts, by connection id. An id that does not parse as a session's is unknown,
/// because this server never issued it.
#[derive(Debug)]
pub struct RedisSessionStore {
    /// The queue's store of connections.
    pub connections: Arc<dyn Connections>,
    /// How long a connection is kept after its last use.
    pub keep: Duration,
}

#[async_trait]
impl SessionStore for RedisSessionStore {
    async fn load(&self, name: &str) -> Result<Option<SessionState>, SessionStoreError> {
        let Ok(session) = name.parse::<SessionId>() else { return Ok(None) };
        let handshake = self.connections.connection(session, self.keep).await?;
        Ok(handshake.map(|handshake| serde_json::from_slice(&handshake)).transpose()?)
    }

    async fn store(&self, name: &str, state: &SessionState) -> Result<(), SessionStoreError> {
        let handshake = serde_json::to_vec(state)?;
        Ok(self.connections.keep_connection(name.parse::<SessionId>()?, &handshake, self.keep).await?)
    }

    async fn delete(&self, name: &str) -> Result<(), SessionStoreError> {
        let Ok(session) = name.parse::<SessionId>() else { return Ok(()) };
        Ok(self.connections.drop_connection(session).await?)
    }
}
