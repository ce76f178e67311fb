//! Connections of hosts, on Redis: one string each, which expires.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::SessionId;
use redis::Cmd;
use redis::cmd;

use crate::error::QueueError;
use crate::port::Connections;
use crate::queue::Queue;

/// What these commands are called in messages.
const ASKED: &str = "connection";

#[async_trait]
impl Connections for Queue {
    async fn keep_connection(
        &self,
        session: SessionId,
        message: &[u8],
        keep: Duration,
    ) -> Result<(), QueueError> {
        let mut set = self.connection_command("SET", session);
        set.arg(message).arg("PX").arg(expiry_ms(keep));
        self.link.ask(ASKED, &set).await.map(drop)
    }

    async fn connection(&self, session: SessionId, keep: Duration) -> Result<Option<Vec<u8>>, QueueError> {
        let mut get = self.connection_command("GETEX", session);
        get.arg("PX").arg(expiry_ms(keep));
        self.link.ask(ASKED, &get).await?.bytes()
    }

    async fn drop_connection(&self, session: SessionId) -> Result<(), QueueError> {
        self.link.ask(ASKED, &self.connection_command("DEL", session)).await.map(drop)
    }
}

impl Queue {
    fn connection_command(&self, command: &str, session: SessionId) -> Cmd {
        let mut cmd = cmd(command);
        cmd.arg(self.keys.connection(session));
        cmd
    }
}

/// An expiry in milliseconds. Redis refuses 0, and sums that exceed 2^63.
fn expiry_ms(keep: Duration) -> u64 {
    u64::try_from(keep.as_millis()).unwrap_or(u64::MAX / 2).max(1)
}
