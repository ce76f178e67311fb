//! What the server says of itself.

use std::collections::BTreeMap;

use redis::Value;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;

const STEP: &str = "info";

impl Queue {
    /// The server's `maxmemory-policy`: anything but `noeviction` may cost jobs. `None` where it does not say.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be asked, or does not let this user ask.
    pub async fn eviction_policy(&self) -> Result<Option<String>, QueueError> {
        Ok(self.info("memory").await?.remove("maxmemory_policy"))
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
