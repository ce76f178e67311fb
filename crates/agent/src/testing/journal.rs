//! A journal in memory, with switches for its failures.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::journal::Journal;
use crate::journal::JournalError;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;

#[derive(Debug, Default)]
pub(crate) struct FakeJournal {
    output: watch::Sender<String>,
    entries: Mutex<Vec<TurnEntry>>,
    events: watch::Sender<Vec<RunEvent>>,
    /// Every call reports a lost lease.
    pub(crate) lost: AtomicBool,
    /// Every call is refused.
    pub(crate) refuses: AtomicBool,
    /// Output is taken, and its writing does not end: as while the store is away and the buffer is full.
    pub(crate) hangs: AtomicBool,
    /// The lease is lost once the first entry is recorded.
    pub(crate) lost_after_record: AtomicBool,
    order: Mutex<Vec<&'static str>>,
}

impl FakeJournal {
    pub(crate) fn output(&self) -> String {
        self.output.borrow().clone()
    }

    pub(crate) fn entries(&self) -> Vec<TurnEntry> {
        self.entries.lock().unwrap().clone()
    }

    pub(crate) fn events(&self) -> Vec<RunEvent> {
        self.events.borrow().clone()
    }

    /// The kinds of entries and events, in the order in which they arrived.
    pub(crate) fn order(&self) -> Vec<&'static str> {
        self.order.lock().unwrap().clone()
    }

    /// Waits until the output contains this.
    pub(crate) async fn saw_output(&self, text: &str) {
        self.output.subscribe().wait_for(|output| output.contains(text)).await.unwrap();
    }

    /// Waits until an event matches.
    pub(crate) async fn saw(&self, matches: impl Fn(&RunEvent) -> bool) {
        self.events.subscribe().wait_for(|events| events.iter().any(&matches)).await.unwrap();
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(JournalError::Refused("the store is full".into()));
        }
        if self.lost.load(Ordering::Relaxed) { Err(JournalError::Lost) } else { Ok(()) }
    }
}

#[async_trait]
impl Journal for FakeJournal {
    async fn output(&self, text: &str) -> Result<(), JournalError> {
        self.check()?;
        self.output.send_modify(|output| output.push_str(text));
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError> {
        self.check()?;
        self.order.lock().unwrap().push(match entry {
            TurnEntry::Reply { .. } => "reply",
            TurnEntry::Result { .. } => "result",
            TurnEntry::Delivered { .. } => "delivered",
            TurnEntry::Compacted { .. } => "compacted",
            TurnEntry::Asked { .. } => "asked",
            TurnEntry::Decided { .. } => "decided",
            TurnEntry::Retried { .. } => "retried",
            TurnEntry::Stderr { .. } => "stderr",
        });
        self.entries.lock().unwrap().push(entry.clone());
        if self.lost_after_record.load(Ordering::Relaxed) {
            self.lost.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn note(&self, event: RunEvent) {
        self.order.lock().unwrap().push(match event {
            RunEvent::ModelAsked { .. } => "asked",
            RunEvent::ModelRetried { .. } => "retried",
            RunEvent::ModelWaiting { .. } | RunEvent::BudgetWaiting { .. } => "waits",
            RunEvent::ToolStarted { .. } => "started",
            RunEvent::ToolEnded { .. } => "ended",
            RunEvent::Warning(_) => "warning",
        });
        self.events.send_modify(|events| events.push(event));
    }

    async fn confirm_lease(&self) -> Result<(), JournalError> {
        self.check()
    }
}
