//! A journal that lets no secret through: neither to the store, nor to a display.
//!
//! An agent may see a secret in what a command printed, and a provider may repeat its key in an error or in a reply.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::secrets::RedactedStream;
use legwork_common::secrets::Secrets;
use tokio::time::timeout;

use super::Journal;
use super::JournalError;
use super::RunEvent;
use super::TurnEntry;

/// How long the last piece of output may take to be written, as any other text of a run that ends.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// Writes to another journal what is left without secrets.
#[derive(Debug)]
pub(crate) struct RedactingJournal {
    inner: Arc<dyn Journal>,
    secrets: Arc<Secrets>,
    // A std mutex: never held over an await.
    output: Mutex<RedactedStream>,
}

impl RedactingJournal {
    pub(crate) fn new(inner: Arc<dyn Journal>, secrets: Arc<Secrets>) -> Self {
        Self { inner, secrets, output: Mutex::default() }
    }

    /// Writes what was held back of the output because it might have become a secret.
    pub(crate) async fn flush(&self) -> Result<(), JournalError> {
        let rest = self.stream(RedactedStream::finish);
        if rest.is_empty() { Ok(()) } else { self.inner.output(&rest).await }
    }

    /// [`flush`](Self::flush) for a run that ends, and does not wait for a store that does not answer.
    pub(crate) async fn finish(&self) -> Result<(), JournalError> {
        timeout(FINISH_TIMEOUT, self.flush()).await.unwrap_or(Ok(()))
    }

    fn stream<T>(&self, change: impl FnOnce(&mut RedactedStream) -> T) -> T {
        change(&mut self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The entry without secrets; `None` for one that has none.
    fn redacted(&self, entry: &TurnEntry) -> Result<Option<TurnEntry>, JournalError> {
        if self.secrets.is_empty() {
            return Ok(None);
        }
        let refused = |error: serde_json::Error| JournalError::Refused(Box::new(error));
        let mut json = serde_json::to_value(entry).map_err(refused)?;
        if !self.secrets.redact_json(&mut json) {
            return Ok(None);
        }
        serde_json::from_value(json).map(Some).map_err(refused)
    }
}

#[async_trait]
impl Journal for RedactingJournal {
    async fn output(&self, text: &str) -> Result<(), JournalError> {
        let shown = self.stream(|stream| stream.push(&self.secrets, text));
        if shown.is_empty() { Ok(()) } else { self.inner.output(&shown).await }
    }

    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError> {
        self.flush().await?;
        match self.redacted(entry)? {
            Some(redacted) => self.inner.record(&redacted).await,
            None => self.inner.record(entry).await,
        }
    }

    fn note(&self, event: RunEvent) {
        let redacted = |text: String| self.secrets.redacted(&text).into_owned();
        self.inner.note(match event {
            RunEvent::ModelRetried { turn, reason } => {
                RunEvent::ModelRetried { turn, reason: redacted(reason) }
            }
            RunEvent::ModelWaiting { why } => RunEvent::ModelWaiting { why: why.map(redacted) },
            RunEvent::ToolStarted { call, name, arguments } => {
                RunEvent::ToolStarted { call, name, arguments: redacted(arguments) }
            }
            RunEvent::Warning(text) => RunEvent::Warning(redacted(text)),
            other @ (RunEvent::ModelAsked { .. }
            | RunEvent::ToolEnded { .. }
            | RunEvent::BudgetWaiting { .. }) => other,
        });
    }

    async fn confirm_lease(&self) -> Result<(), JournalError> {
        self.inner.confirm_lease().await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::FakeJournal;

    #[tokio::test]
    async fn neither_output_nor_entries_hold_a_secret() {
        let inner = Arc::new(FakeJournal::default());
        let secrets = Secrets::of(&BTreeMap::from([("A_KEY".to_owned(), "canary-canary".to_owned())]));
        let journal = RedactingJournal::new(inner.clone(), Arc::new(secrets));
        for piece in ["the key is canary-", "canary", ", and can"] {
            journal.output(piece).await.unwrap();
        }
        journal.record(&TurnEntry::Stderr { text: "bad key canary-canary".to_owned() }).await.unwrap();
        journal.output("ca").await.unwrap();
        journal.finish().await.unwrap();
        assert_eq!(FakeJournal::output(&inner), "the key is [hidden: A_KEY], and canca");
        assert_eq!(inner.entries(), [TurnEntry::Stderr { text: "bad key [hidden: A_KEY]".to_owned() }]);
    }
}
