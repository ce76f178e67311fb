//! What the server reports about itself.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;

/// What these commands are called in messages.
const ASKED: &str = "info";
/// Round trips of which the latency is the median: an odd number, and few enough that a distant server answers in a
/// second or two.
const PINGS: usize = 21;

/// What a server reports about itself. What it does not report, or does not let this user ask for, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// `redis` or `valkey`.
    pub name: Option<String>,
    /// Its own version, not the version of Redis that a Valkey is compatible with.
    pub version: Option<String>,
    /// Whether it writes an append-only file.
    pub append_only: Option<bool>,
    /// When it writes that file to the disk: `always`, `everysec` or `no`.
    pub append_fsync: Option<String>,
    /// What it deletes when its memory is full.
    pub eviction_policy: Option<String>,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// Bytes that it may use; 0 without a limit.
    pub max_memory: Option<u64>,
    /// What this connection's user may do.
    pub access: Access,
    /// The median of a few round trips.
    pub latency: Duration,
}

/// What the user of a connection may do, besides its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// The server has no users, or does not report them.
    #[default]
    Unknown,
    /// No password is needed: everyone who reaches the server may do everything.
    Open,
    /// It may manage users, and so do everything.
    Administrator,
    /// It may not.
    Limited,
}

impl Queue {
    /// The server's `maxmemory-policy`: with anything but `noeviction` jobs may be lost. `None` where it is not
    /// reported.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached, or does not let this user ask for `INFO`.
    pub async fn eviction_policy(&self) -> Result<Option<String>, QueueError> {
        Ok(self.info("memory").await?.remove("maxmemory_policy"))
    }

    /// What the server reports about itself.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached, or does not let this user ask for `INFO`.
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
            access: self.access().await,
            latency: latencies[PINGS / 2],
        })
    }

    /// What this user may do, told from whether it may ask about the default one.
    async fn access(&self) -> Access {
        let asked = self.link.ask(ASKED, redis::cmd("ACL").arg("GETUSER").arg("default")).await;
        let facts = match asked.and_then(Answer::pairs) {
            Ok(facts) => facts,
            Err(QueueError::Refused { source, .. }) if source.code() == Some("NOPERM") => {
                return Access::Limited;
            }
            Err(_) => return Access::Unknown,
        };
        let flags = facts.into_iter().find(|(name, _)| name == "flags").map(|(_, flags)| flags.items());
        let Some(Ok(flags)) = flags else { return Access::Unknown };
        let flags: Vec<String> = flags.filter_map(|flag| flag.text().ok()).collect();
        let has = |name: &str| flags.iter().any(|flag| flag == name);
        if has("on") && has("nopass") { Access::Open } else { Access::Administrator }
    }

    /// One setting; `None` where this user may not ask for it, as on most managed servers.
    async fn setting(&self, name: &str) -> Option<String> {
        let answer = self.link.ask(ASKED, redis::cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
        answer.pairs().ok()?.pop()?.1.text().ok()
    }

    /// One section of `INFO`, by name.
    pub(crate) async fn info(&self, section: &str) -> Result<BTreeMap<String, String>, QueueError> {
        let text = self.link.ask(ASKED, redis::cmd("INFO").arg(section)).await?.text()?;
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
