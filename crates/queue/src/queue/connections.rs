//! Connections of hosts, on Redis: one string each, with an end.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::SessionId;
use redis::Cmd;
use redis::cmd;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::Connections;
use crate::queue::Queue;

const STEP: &str = "connection";

#[async_trait]
impl Connections for Queue {
    async fn keep_connection(
        &self,
        session: SessionId,
        said: &[u8],
        keep: Duration,
    ) -> Result<(), QueueError> {
        let mut set = self.on_connection("SET", session);
        set.arg(said).arg("PX").arg(milliseconds(keep));
        self.asked(&set).await.map(drop)
    }

    async fn connection(&self, session: SessionId, keep: Duration) -> Result<Option<Vec<u8>>, QueueError> {
        let mut get = self.on_connection("GETEX", session);
        get.arg("PX").arg(milliseconds(keep));
        self.asked(&get).await?.bytes()
    }

    async fn drop_connection(&self, session: SessionId) -> Result<(), QueueError> {
        self.asked(&self.on_connection("DEL", session)).await.map(drop)
    }
}

impl Queue {
    fn on_connection(&self, command: &str, session: SessionId) -> Cmd {
        let mut cmd = cmd(command);
        cmd.arg(self.keys.connection(session));
        cmd
    }

    async fn asked(&self, command: &Cmd) -> Result<Answer, QueueError> {
        let value = self.link.command(command).await.map_err(|error| QueueError::from_redis(STEP, error))?;
        Ok(Answer::of(STEP, value))
    }
}

/// Redis takes no time to live of nothing.
fn milliseconds(keep: Duration) -> u64 {
    u64::try_from(keep.as_millis()).unwrap_or(u64::MAX / 2).max(1)
}
