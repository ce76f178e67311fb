//! What `legwork bench` measures on the server itself.

use std::time::Duration;
use std::time::Instant;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;

/// What these commands are called in messages.
const ASKED: &str = "bench";
/// Entries of one pipeline of the bare stream: enough that round trips hardly count in what is measured.
const PIPELINE: usize = 100;
/// How long a bare wake-up may take.
const WAKE_SECONDS: u32 = 2;
/// Poll interval for a client that blocks; not part of what is measured.
const BLOCKED_POLL: Duration = Duration::from_millis(1);
/// Keys that one `SCAN` looks for.
const SCAN_COUNT: usize = 1000;

/// What the server spent on some work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerCost {
    /// Commands, those inside scripts included.
    pub commands: f64,
    /// Processor time of the whole server in seconds.
    pub cpu_seconds: f64,
}

impl ServerCost {
    /// The cost of what was done between `before` and this.
    pub fn since(self, before: Self) -> Self {
        Self { commands: self.commands - before.commands, cpu_seconds: self.cpu_seconds - before.cpu_seconds }
    }
}

impl Queue {
    /// What the server has spent since it started, on all its clients.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached, or does not let this user ask for `INFO`.
    pub async fn server_cost(&self) -> Result<ServerCost, QueueError> {
        let cpu = self.info("cpu").await?;
        let commands = self.info("commandstats").await?;
        let second = |name: &str| cpu.get(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        let calls = commands.values().filter_map(|text| {
            text.split(',').find_map(|part| part.strip_prefix("calls=")?.parse::<f64>().ok())
        });
        Ok(ServerCost {
            commands: calls.sum(),
            cpu_seconds: second("used_cpu_sys") + second("used_cpu_user"),
        })
    }

    /// Bytes of memory that the server uses for its data and its clients.
    ///
    /// # Errors
    ///
    /// As for [`Queue::server_cost`].
    pub async fn used_memory(&self) -> Result<f64, QueueError> {
        let memory = self.info("memory").await?;
        Ok(memory.get("used_memory").and_then(|text| text.parse().ok()).unwrap_or(0.0))
    }

    /// What as many entries of a bare stream cost: XADD, XREADGROUP, XACK and XDEL, 100 in a pipeline. For comparison
    /// with what a job costs.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached, or the stream has a group already.
    pub async fn bare_stream(&self, entries: u32, bytes: usize) -> Result<ServerCost, QueueError> {
        let key = self.keys.bench_stream();
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&key).arg("group").arg("0").arg("MKSTREAM");
        self.link.ask(ASKED, &create).await?;
        let before = self.server_cost().await?;
        let payload = "x".repeat(bytes);
        let mut left = entries as usize;
        while left > 0 {
            let count = left.min(PIPELINE);
            let mut add = redis::pipe();
            for _ in 0..count {
                add.cmd("XADD").arg(&key).arg("*").arg("job").arg(&payload);
            }
            let ids = self.link.ask_all(ASKED, &add).await?;
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg("group").arg("reader");
            read.arg("COUNT").arg(count).arg("STREAMS").arg(&key).arg(">");
            self.link.ask(ASKED, &read).await?;
            let mut end = redis::pipe();
            for id in ids {
                let id = id.text()?;
                end.cmd("XACK").arg(&key).arg("group").arg(&id);
                end.cmd("XDEL").arg(&key).arg(&id);
            }
            self.link.ask_all(ASKED, &end).await?;
            left -= count;
        }
        let cost = self.server_cost().await?.since(before);
        self.link.ask(ASKED, redis::cmd("UNLINK").arg(&key)).await?;
        Ok(cost)
    }

    /// How long a bare `BLPOP` that waits takes from the `LPUSH` that wakes it until its answer, `count` times. Without
    /// other clients that block: the push waits until one does.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn bare_wake_ups(&self, count: usize) -> Result<Vec<Duration>, QueueError> {
        let key = self.keys.bench_stream();
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let groups = vec![vec![key.clone()]];
            let wake = async {
                self.until_blocked().await?;
                let pushed = Instant::now();
                self.link.ask(ASKED, redis::cmd("LPUSH").arg(&key).arg(1)).await?;
                Ok::<_, QueueError>(pushed)
            };
            let take = async {
                self.wake.take(self.target(), groups, WAKE_SECONDS, ASKED).await?;
                Ok::<_, QueueError>(Instant::now())
            };
            // Both to their ends: a wait that is dropped could take what the next one waits for.
            let (pushed, taken) = futures::join!(wake, take);
            all.push(taken?.saturating_duration_since(pushed?));
        }
        Ok(all)
    }

    /// Waits until a client of the server blocks; an error if none does while a wait lasts.
    async fn until_blocked(&self) -> Result<(), QueueError> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(u64::from(WAKE_SECONDS)) {
            if self.info("clients").await?.get("blocked_clients").is_some_and(|blocked| blocked != "0") {
                return Ok(());
            }
            tokio::time::sleep(BLOCKED_POLL).await;
        }
        let detail = "`INFO clients` counts no client that blocks".to_owned();
        Err(QueueError::Unexpected { step: ASKED, detail })
    }

    /// Deletes every key of this namespace, by scanning the whole server. Only for a namespace that was made for a
    /// measurement: a process that still uses it finds its jobs gone.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; keys are left then, for a repeat.
    pub async fn drop_namespace(&self) -> Result<(), QueueError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.keys.all_pattern()).arg("COUNT").arg(SCAN_COUNT);
            let mut parts = self.link.ask(ASKED, &scan).await?.items()?;
            cursor = parts.item()?.text()?;
            let keys = parts.item()?.items()?.map(Answer::bytes).collect::<Result<Vec<_>, _>>()?;
            if !keys.is_empty() {
                self.link.ask(ASKED, redis::cmd("UNLINK").arg(keys)).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}
