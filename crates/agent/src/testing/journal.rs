//! A journal in memory.

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
    pub(crate) lost: AtomicBool,
    pub(crate) refuses: AtomicBool,
    /// The lease is lost with the first reply.
    pub(crate) loses_with_reply: AtomicBool,
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

    /// What was recorded and noted, in one order.
    pub(crate) fn order(&self) -> Vec<&'static str> {
        self.order.lock().unwrap().clone()
    }

    /// Waits until the output holds this.
    pub(crate) async fn saw_output(&self, text: &str) {
        self.output.subscribe().wait_for(|output| output.contains(text)).await.unwrap();
    }

    /// Waits until something like this was noted.
    pub(crate) async fn saw(&self, like: impl Fn(&RunEvent) -> bool) {
        self.events.subscribe().wait_for(|events| events.iter().any(&like)).await.unwrap();
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
        Ok(())
    }

    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError> {
        self.check()?;
        self.order.lock().unwrap().push(match entry {
            TurnEntry::Reply { .. } => "reply",
            TurnEntry::Result { .. } => "result",
            TurnEntry::Delivered { .. } => "delivered",
            TurnEntry::Compacted { .. } => "compacted",
            TurnEntry::Retried { .. } => "retried",
            TurnEntry::Stderr { .. } => "stderr",
        });
        self.entries.lock().unwrap().push(entry.clone());
        if self.loses_with_reply.load(Ordering::Relaxed) {
            self.lost.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn note(&self, event: RunEvent) {
        self.order.lock().unwrap().push(match event {
            RunEvent::ModelAsked { .. } => "asked",
            RunEvent::ModelRetried { .. } => "retried",
            RunEvent::ModelWaits { .. } => "waits",
            RunEvent::ToolStarted { .. } => "started",
            RunEvent::ToolEnded { .. } => "ended",
            RunEvent::Warning(_) => "warning",
        });
        self.events.send_modify(|events| events.push(event));
    }

    async fn gate(&self) -> Result<(), JournalError> {
        self.check()
    }
}
