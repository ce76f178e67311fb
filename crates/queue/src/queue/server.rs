//! What the server says of itself.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use redis::Value;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;

const STEP: &str = "info";
/// Round trips that the latency is taken from.
const PINGS: usize = 21;

/// What a server says of itself. What it does not say, or does not let this user ask, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// `redis` or `valkey`, and the version of Redis that it is compatible with.
    pub name: Option<String>,
    /// Its own version.
    pub version: Option<String>,
    /// Whether it writes an append-only file.
    pub append_only: Option<bool>,
    /// When it writes that to the disk: `always`, `everysec` or `no`.
    pub append_fsync: Option<String>,
    /// What it drops when its memory is full.
    pub eviction_policy: Option<String>,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// Bytes that it may use; 0 for as many as there are.
    pub max_memory: Option<u64>,
    /// The median of a few round trips.
    pub latency: Duration,
}

impl Queue {
    /// The server's `maxmemory-policy`: anything but `noeviction` may cost jobs. `None` where it does not say.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be asked, or does not let this user ask.
    pub async fn eviction_policy(&self) -> Result<Option<String>, QueueError> {
        Ok(self.info("memory").await?.remove("maxmemory_policy"))
    }

    /// What the server says of itself.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be asked, or does not let this user ask for `INFO`.
    pub async fn server_facts(&self) -> Result<ServerFacts, QueueError> {
        let mut server = self.info("server").await?;
        let mut memory = self.info("memory").await?;
        let persistence = self.info("persistence").await?;
        let valkey = server.remove("valkey_version");
        let mut latencies = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            self.ping().await?;
            latencies.push(began.elapsed());
        }
        latencies.sort_unstable();
        Ok(ServerFacts {
            name: Some(if valkey.is_some() { "valkey" } else { "redis" }.to_owned()),
            version: valkey.or_else(|| server.remove("redis_version")),
            append_only: persistence.get("aof_enabled").map(|enabled| enabled == "1"),
            append_fsync: self.setting("appendfsync").await,
            eviction_policy: memory.remove("maxmemory_policy"),
            used_memory: memory.remove("used_memory").and_then(|bytes| bytes.parse().ok()),
            max_memory: memory.remove("maxmemory").and_then(|bytes| bytes.parse().ok()),
            latency: latencies[PINGS / 2],
        })
    }

    /// One setting, where this user may ask for it: managed servers mostly forbid `CONFIG`.
    async fn setting(&self, name: &str) -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let answer = Answer::of(STEP, self.link.command(&command).await.ok()?);
        answer.pairs().ok()?.pop()?.1.text().ok()
    }

    /// One section of `INFO`, by name.
    pub(crate) async fn info(&self, section: &str) -> Result<BTreeMap<String, String>, QueueError> {
        let mut command = redis::cmd("INFO");
        command.arg(section);
        let value = self.link.command(&command).await.map_err(|error| QueueError::from_redis(STEP, error))?;
        let text = match value {
            Value::VerbatimString { text, .. } => text,
            other => Answer::of(STEP, other).text()?,
        };
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
