//! The journal of an attempt: what the agent writes goes to the log writer, and only while the lease is valid.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use legwork_agent::journal::Journal;
use legwork_agent::journal::JournalError;
use legwork_agent::journal::RunEvent;
use legwork_agent::journal::TurnEntry;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::waits_for::WaitsFor;
use tokio_util::sync::CancellationToken;

use crate::active_attempts::AttemptHandle;
use crate::cancel::CancelReason;
use crate::lease_clock::LeaseClock;
use crate::log_writer::AttemptBuffer;
use crate::log_writer::BufferClosed;
use crate::log_writer::LogWriter;
use crate::log_writer::Progress;
use crate::stall::StallDetector;

/// Where one run of an attempt writes. A resumed attempt gets a new one.
#[derive(Debug)]
pub struct AttemptJournal {
    pub(crate) job: JobId,
    pub(crate) log_writer: LogWriter,
    pub(crate) buffer: Arc<AttemptBuffer>,
    pub(crate) clock: LeaseClock,
    /// The lapses of the leases when this run began.
    pub(crate) lapses: u32,
    pub(crate) handle: Arc<AttemptHandle>,
    /// Cancelled when the worker drains: the job is released at the next boundary between turns.
    pub(crate) draining: CancellationToken,
    pub(crate) turns: TurnCounter,
    /// Cancelled with the first turn that is finished here; `None` for a job that is not in quarantine.
    pub(crate) finished_turn: Option<CancellationToken>,
    pub(crate) stall_detector: Arc<StallDetector>,
    /// The lines to be written before the next output. A std mutex: never held over an await.
    pub(crate) heading: Mutex<Option<String>>,
}

impl AttemptJournal {
    /// Writes this line before the next output. Where no output follows, it is not written at all.
    pub(crate) fn set_heading(&self, heading: String) {
        *self.heading() = Some(heading);
    }

    /// Adds a line to those that are written before the next output.
    fn add_heading(&self, line: &str) {
        self.heading().get_or_insert_default().push_str(line);
    }

    fn heading(&self) -> MutexGuard<'_, Option<String>> {
        self.heading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Suspends the attempt unless the lease is valid and was valid during the whole run. The lapses count too: a
    /// worker that was stopped for a while may renew its leases before this check, and the guard has killed the
    /// commands of the run in between.
    fn check_lease(&self) -> Result<(), JournalError> {
        if self.clock.may_act() && self.clock.lapses() == self.lapses {
            return Ok(());
        }
        self.handle.cancel.suspend();
        Err(JournalError::Lost)
    }

    /// Cancels the attempt: another one holds the lease, and nothing that this one writes counts.
    fn lost(&self, _closed: BufferClosed) -> JournalError {
        self.handle.cancel.cancel(CancelReason::LeaseLost);
        JournalError::Lost
    }
}

#[async_trait]
impl Journal for AttemptJournal {
    async fn output(&self, text: &str) -> Result<(), JournalError> {
        self.stall_detector.record_activity("its last output");
        let heading = if text.is_empty() { None } else { self.heading().take() };
        let text = heading.map_or(Cow::Borrowed(text), |heading| Cow::Owned(heading + text));
        self.log_writer.output(&self.buffer, &text).await.map_err(|closed| self.lost(closed))
    }

    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError> {
        if matches!(entry, TurnEntry::Result { .. }) {
            // The guard may have killed the command that this result is from.
            self.check_lease()?;
        }
        let progress = self.turns.count(entry);
        let text = entry.encode().map_err(|error| JournalError::Refused(Box::new(error)))?;
        let is_finished = progress.finished_turns.is_some();
        self.log_writer.record(&self.buffer, text, progress).await.map_err(|closed| self.lost(closed))?;
        if let Some(finished_turn) = self.finished_turn.as_ref().filter(|_| is_finished) {
            finished_turn.cancel();
        }
        Ok(())
    }

    fn note(&self, event: RunEvent) {
        self.stall_detector.record_event(&event);
        match event {
            RunEvent::Warning(text) => {
                tracing::warn!(job = %self.job, "{text}");
                self.add_heading(&format!("[warning: {text}]\n"));
            }
            RunEvent::ModelRetried { turn, reason } => {
                tracing::info!(job = %self.job, turn, reason, "retrying the model call");
            }
            RunEvent::ModelWaiting { why } => {
                let reason = why.map(|detail| WaitsFor::RateLimit { detail });
                self.log_writer.set_waits_for(&self.buffer, reason.as_ref());
            }
            RunEvent::BudgetWaiting { why } => {
                let reason = why.map(|detail| WaitsFor::Budget { detail });
                self.log_writer.set_waits_for(&self.buffer, reason.as_ref());
            }
            other => tracing::debug!(job = %self.job, event = ?other),
        }
    }

    async fn confirm_lease(&self) -> Result<(), JournalError> {
        self.check_lease()?;
        // A drain lets every call of the open turn run, and releases the job between turns: the next attempt then
        // repeats nothing.
        if self.draining.is_cancelled() && self.turns.is_between_turns() {
            self.handle.cancel.cancel(CancelReason::Release);
            return Err(JournalError::Lost);
        }
        Ok(())
    }
}

/// Counts finished turns and what their models used: a turn is finished once every tool call of its reply has a result.
///
/// What is reported as progress are the turns that were worked through: not those with a call that an attempt died of, which
/// the next one ends without making it. Otherwise a job that kills its worker with each command would count no crashes.
#[derive(Debug, Default)]
pub(crate) struct TurnCounter {
    finished: AtomicU32,
    worked: AtomicU32,
    open_calls: AtomicU32,
    /// Whether a call of the open turn was interrupted.
    is_interrupted: AtomicBool,
    /// A std mutex: never held over an await.
    usage: Mutex<Usage>,
}

impl TurnCounter {
    /// A counter that has counted the turns of earlier attempts.
    pub(crate) fn after(recorded: &[TurnEntry]) -> Self {
        let counter = Self::default();
        for entry in recorded {
            counter.count(entry);
        }
        counter
    }

    /// Turns that are finished, over all attempts.
    pub(crate) fn finished(&self) -> u32 {
        self.finished.load(Ordering::SeqCst)
    }

    fn is_between_turns(&self) -> bool {
        self.open_calls.load(Ordering::SeqCst) == 0
    }

    /// Counts an entry; returns what it changed.
    fn count(&self, entry: &TurnEntry) -> Progress {
        let left = match entry {
            TurnEntry::Delivered { .. }
            | TurnEntry::Stderr { .. }
            | TurnEntry::Asked { .. }
            | TurnEntry::Decided { .. } => return Progress::default(),
            TurnEntry::Compacted { usage, .. } => {
                return Progress { finished_turns: None, usage: Some(self.add(*usage)) };
            }
            TurnEntry::Retried { .. } => {
                // What was used before was another job's.
                *self.usage() = Usage::default();
                return Progress::default();
            }
            TurnEntry::Reply { message, .. } => {
                let calls = u32::try_from(message.tool_calls.len()).unwrap_or(u32::MAX);
                self.open_calls.store(calls, Ordering::SeqCst);
                self.is_interrupted.store(false, Ordering::SeqCst);
                let usage = self.add(message.usage);
                return Progress { finished_turns: self.finish_if(calls == 0), usage: Some(usage) };
            }
            TurnEntry::Result { .. } => {
                self.is_interrupted.fetch_or(entry.is_interruption(), Ordering::SeqCst);
                let before = self
                    .open_calls
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| Some(open.saturating_sub(1)));
                before.unwrap_or(0).saturating_sub(1)
            }
        };
        Progress { finished_turns: self.finish_if(left == 0), usage: None }
    }

    fn finish_if(&self, is_finished: bool) -> Option<u32> {
        if !is_finished {
            return None;
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        let is_worked = !self.is_interrupted.load(Ordering::SeqCst);
        is_worked.then(|| self.worked.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn add(&self, usage: Usage) -> Usage {
        let mut total = self.usage();
        total.add(usage);
        *total
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use legwork_agent::journal::INTERRUPTED;
    use legwork_agent::message::AssistantMessage;
    use legwork_agent::message::ToolCall;
    use legwork_common::id::SessionId;

    use super::*;

    fn reply(turn: u32, calls: usize) -> TurnEntry {
        let call = |index: usize| ToolCall {
            id: index.to_string(),
            name: "think".into(),
            arguments: "{}".into(),
            thought_signature: None,
        };
        let message =
            AssistantMessage { tool_calls: (0..calls).map(call).collect(), ..AssistantMessage::default() };
        TurnEntry::Reply { turn, message }
    }

    fn result(turn: u32, index: u32) -> TurnEntry {
        TurnEntry::Result {
            turn,
            index,
            call_id: index.to_string(),
            text: String::new(),
            images: Vec::new(),
            is_error: false,
            ended: Vec::new(),
        }
    }

    #[test]
    fn a_turn_is_finished_with_its_last_result() {
        let counter = TurnCounter::default();
        assert_eq!(counter.count(&reply(1, 2)).finished_turns, None);
        assert!(!counter.is_between_turns());
        assert_eq!(counter.count(&result(1, 1)), Progress::default());
        assert_eq!(counter.count(&result(1, 0)).finished_turns, Some(1));
        assert!(counter.is_between_turns());
        assert_eq!(counter.count(&reply(2, 0)).finished_turns, Some(2));
        assert_eq!(TurnCounter::after(&[reply(1, 1), result(1, 0), reply(2, 1)]).finished(), 1);
    }

    #[test]
    fn a_turn_with_an_interrupted_call_is_finished_and_does_not_count_as_progress() {
        let counter = TurnCounter::default();
        counter.count(&reply(1, 2));
        counter.count(&result(1, 0));
        let interrupted = TurnEntry::Result {
            turn: 1,
            index: 1,
            call_id: "1".into(),
            text: INTERRUPTED.into(),
            images: Vec::new(),
            is_error: true,
            ended: Vec::new(),
        };
        assert_eq!(counter.count(&interrupted).finished_turns, None);
        assert_eq!((counter.finished(), counter.is_between_turns()), (1, true));
        counter.count(&reply(2, 1));
        assert_eq!(counter.count(&result(2, 0)).finished_turns, Some(1));
    }

    #[test]
    fn usage_counts_with_each_reply_and_summary_and_starts_anew_in_a_retry() {
        let used = |input_tokens, turns| Usage { input_tokens, turns, ..Usage::default() };
        let reply = |usage| TurnEntry::Reply {
            turn: 1,
            message: AssistantMessage { usage, ..AssistantMessage::default() },
        };
        let summary = |usage| TurnEntry::Compacted { turn: 2, kept: 1, summary: String::new(), usage };
        let of = JobId::random_in(SessionId::random());
        let counter = TurnCounter::after(&[reply(used(7, 1)), TurnEntry::Retried { of }]);
        assert_eq!(counter.count(&reply(used(3, 1))).usage, Some(used(3, 1)));
        assert_eq!(counter.count(&summary(used(2, 0))).usage, Some(used(5, 1)));
    }
}
