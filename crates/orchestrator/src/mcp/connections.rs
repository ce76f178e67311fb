//! The connections of hosts that speak an older protocol over HTTP, kept where every replica finds them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::SessionId;
use legwork_queue::port::Connections;
use rmcp::transport::streamable_http_server::session::SessionState;
use rmcp::transport::streamable_http_server::session::SessionStore;
use rmcp::transport::streamable_http_server::session::SessionStoreError;

/// What hosts said when they connected. A name that is no session's was given by nobody.
#[derive(Debug)]
pub struct RedisSessionStore {
    /// Where they are kept.
    pub connections: Arc<dyn Connections>,
    /// For how long after a host was last heard of.
    pub keep: Duration,
}

#[async_trait]
impl SessionStore for RedisSessionStore {
    async fn load(&self, name: &str) -> Result<Option<SessionState>, SessionStoreError> {
        let Ok(session) = name.parse::<SessionId>() else { return Ok(None) };
        let said = self.connections.connection(session, self.keep).await?;
        Ok(said.map(|said| serde_json::from_slice(&said)).transpose()?)
    }

    async fn store(&self, name: &str, state: &SessionState) -> Result<(), SessionStoreError> {
        let said = serde_json::to_vec(state)?;
        Ok(self.connections.keep_connection(name.parse::<SessionId>()?, &said, self.keep).await?)
    }

    async fn delete(&self, name: &str) -> Result<(), SessionStoreError> {
        let Ok(session) = name.parse::<SessionId>() else { return Ok(()) };
        Ok(self.connections.drop_connection(session).await?)
    }
}
