//! What `legwork bench` measures on the server itself.

use redis::Value;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;

const STEP: &str = "bench";
/// Commands of one pipeline of the bare stream.
const PIPELINE: usize = 100;

/// What the server spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerCost {
    /// Commands, those inside scripts included.
    pub commands: f64,
    /// Processor time of the whole server in seconds.
    pub cpu_seconds: f64,
}

impl ServerCost {
    /// What was spent after `before`.
    pub fn since(self, before: Self) -> Self {
        Self { commands: self.commands - before.commands, cpu_seconds: self.cpu_seconds - before.cpu_seconds }
    }
}

impl Queue {
    /// What the server has spent since it started.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be asked.
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

    /// What the same number of entries cost as a bare stream: XADD, XREADGROUP, XACK and XDEL, 100 in a
    /// pipeline.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be asked.
    pub async fn bare_stream(&self, entries: u32, bytes: usize) -> Result<ServerCost, QueueError> {
        let failed = |error| QueueError::from_redis(STEP, error);
        let key = self.keys.bench_stream();
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&key).arg("group").arg("0").arg("MKSTREAM");
        self.link.command(&create).await.and_then(Value::extract_error).map_err(failed)?;
        let before = self.server_cost().await?;
        let payload = "x".repeat(bytes);
        let mut left = entries as usize;
        while left > 0 {
            let count = left.min(PIPELINE);
            let mut add = redis::pipe();
            for _ in 0..count {
                add.cmd("XADD").arg(&key).arg("*").arg("job").arg(&payload);
            }
            let ids = self.link.pipeline(&add).await.map_err(failed)?;
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP")
                .arg("group")
                .arg("reader")
                .arg("COUNT")
                .arg(count)
                .arg("STREAMS")
                .arg(&key)
                .arg(">");
            self.link.command(&read).await.and_then(Value::extract_error).map_err(failed)?;
            let mut end = redis::pipe();
            for id in ids {
                let id = Answer::of(STEP, id).text()?;
                end.cmd("XACK").arg(&key).arg("group").arg(&id);
                end.cmd("XDEL").arg(&key).arg(&id);
            }
            self.link.pipeline(&end).await.map_err(failed)?;
            left -= count;
        }
        Ok(self.server_cost().await?.since(before))
    }

    /// Deletes every key of this namespace. Only for namespaces that were made for a measurement.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be asked; then keys are left.
    pub async fn drop_namespace(&self) -> Result<(), QueueError> {
        let failed = |error| QueueError::from_redis(STEP, error);
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.keys.all_pattern()).arg("COUNT").arg(1000);
            let value = self.link.command(&scan).await.map_err(failed)?;
            let mut parts = Answer::of(STEP, value).list()?.into_iter();
            cursor = crate::answer::next(STEP, &mut parts)?.text()?;
            let mut drop_keys = redis::cmd("UNLINK");
            let mut any = false;
            for key in crate::answer::next(STEP, &mut parts)?.list()? {
                drop_keys.arg(key.bytes()?.unwrap_or_default());
                any = true;
            }
            if any {
                self.link.command(&drop_keys).await.map_err(failed)?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}
