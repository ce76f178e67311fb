//! One attempt at a job, from claim to finish, as a struct piped through named steps.
//!
//! `take up → prepare → run → flush → settle`, with `prepare → run` again for an attempt that was suspended. Each step leaves the job so that, should the worker die
//! right after it, the next attempt goes on from what is stored.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_agent::Outcome;
use legwork_agent::journal::TurnEntry;
use legwork_agent::pruning::prune_replaced;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::policy::Policy;
use legwork_common::retry::Backoff;
use legwork_common::service::ServiceError;
use legwork_common::team::Team;
use legwork_common::trace::TraceParent;
use legwork_queue::Caller;
use legwork_queue::Observer;
use legwork_queue::QueueError;
use legwork_queue::Service;
use legwork_queue::port::Begun;
use legwork_queue::port::Claimed;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::Work;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::active_attempts::ActiveAttempts;
use crate::active_attempts::HeldAttempt;
use crate::cancel::CancelReason;
use crate::copied_turns;
use crate::copied_turns::CopiedTurns;
use crate::journal::AttemptJournal;
use crate::journal::TurnCounter;
use crate::lease_clock::LeaseClock;
use crate::log_writer::AttemptBuffer;
use crate::log_writer::AttemptBufferStart;
use crate::log_writer::LogWriter;
use crate::parking::OpenTurn;
use crate::parking::ParkingService;
use crate::runner::Run;
use crate::runner::RunEnd;
use crate::runner::Runner;
use crate::stall::StallDetector;
use crate::stall::StallSink;
use crate::supervisor::WorkerEvent;

/// The longest pause before a failed attempt is tried again.
const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(600);
/// The pause between two tries to read what an attempt needs, or to hand it back.
const PAUSE: Duration = Duration::from_millis(500);
/// How many times handing back is tried: a lease of the usual length runs out meanwhile, and then others
/// take the job by themselves.
const GIVE_BACK_TRIES: u32 = 20;

/// What all attempts of a worker share.
#[derive(Debug, Clone)]
pub struct AttemptContext {
    /// The worker.
    pub worker: WorkerId,
    /// The queue.
    pub work: Arc<dyn Work>,
    /// The queue and its hints, for the service that jobs see.
    pub observer: Observer,
    /// What runs.
    pub runner: Arc<dyn Runner>,
    /// Who writes.
    pub log_writer: LogWriter,
    /// All held attempts.
    pub held: ActiveAttempts,
    /// How long the leases hold.
    pub clock: LeaseClock,
    /// Cancelled when the worker drains.
    pub draining: CancellationToken,
    /// Where the supervisor hears of parking.
    pub events: mpsc::Sender<WorkerEvent>,
    /// The output cap of a job in bytes.
    pub output_cap: u64,
    /// What the fleet decides for the jobs that its jobs dispatch.
    pub policy: Arc<Policy>,
    /// How long nothing may be heard of an attempt before that is said.
    pub stall_after: Duration,
}

/// One attempt on its way.
#[derive(Debug)]
pub struct Attempt {
    context: AttemptContext,
    claimed: Claimed,
    begun: Begun,
    held: HeldAttempt,
    life: Arc<StallDetector>,
}

/// What an attempt needs from the queue before it can run.
struct Prepared {
    team: Option<(Arc<Team>, Arc<str>)>,
    recorded: Vec<TurnEntry>,
    /// The last recorded turn.
    open: Option<OpenTurn>,
    copied_turns: Option<CopiedTurns>,
}

impl Attempt {
    /// Takes up a claimed job whose fence is set.
    pub fn take_up(context: AttemptContext, claimed: Claimed, begun: Begun) -> Self {
        let held = context.held.insert(claimed.lease);
        Self { context, claimed, begun, held, life: Arc::default() }
    }

    /// Runs the attempt to its end. Dropped in the middle, the lease runs out and the job is tried again.
    pub async fn run(self) {
        let lease = self.claimed.lease;
        let (attempt, spec) = (self.claimed.attempt, &self.claimed.spec);
        let trace = spec.trace.as_ref().map(TraceParent::trace_id);
        tracing::info!(job = %lease.id, attempt, agent = %spec.agent, trace_id = trace, "attempt began");
        let page = self.context.log_writer.open(AttemptBufferStart {
            lease,
            output_bytes: self.begun.output_bytes,
            last_entry: self.begun.last_entry,
            output_cap: self.context.output_cap,
        });
        let watched = Watched { attempt: &self, page: &page };
        let end = tokio::select! {
            end = self.run_until_settled(&page) => end,
            never = self.life.watch(self.context.stall_after, &watched) => match never {},
        };
        if self.context.log_writer.flushed(&page).await.is_ok() {
            self.settle(end, page.end()).await;
        }
        self.context.log_writer.close(lease);
        self.context.held.remove(lease);
    }

    /// Runs to the end; a run whose lease was not sure any more goes on in place once it is.
    async fn run_until_settled(&self, page: &Arc<AttemptBuffer>) -> RunEnd {
        let left = self.claimed.timeout.map(|timeout| timeout.saturating_sub(self.claimed.ran));
        let deadline = left.map(|left| Instant::now() + left);
        let mut resumed = false;
        loop {
            let end = match self.prepare(resumed).await {
                Ok(prepared) => self.run_prepared(prepared, page, resumed, deadline).await,
                Err(end) => return end,
            };
            let Some(usage) = self.suspended(&end) else { return end };
            tracing::warn!(job = %self.claimed.lease.id, "the lease is not sure; the attempt is suspended");
            if !self.is_ours_again(page, deadline).await {
                return RunEnd::Ended(Outcome::Stopped { usage });
            }
            tracing::info!(job = %self.claimed.lease.id, "the attempt goes on");
            self.held.cancel.go_on();
            resumed = true;
        }
    }

    /// What was used, if the run ended only because its lease was not sure.
    fn suspended(&self, end: &RunEnd) -> Option<Usage> {
        if !self.held.cancel.is_suspended() {
            return None;
        }
        match end {
            RunEnd::Ended(Outcome::Completed { .. }) | RunEnd::Lacks(_) => None,
            // Cut off, anything may fail.
            RunEnd::Ended(Outcome::Stopped { usage } | Outcome::Failed { usage, .. }) => Some(*usage),
            RunEnd::Ended(Outcome::Lost) => Some(Usage::default()),
        }
    }

    /// Waits until a renewal finds the lease to be ours, and all that was said until then is stored; false if the
    /// attempt is over instead.
    async fn is_ours_again(&self, page: &Arc<AttemptBuffer>, deadline: Option<Instant>) -> bool {
        let ours = async {
            self.context.clock.until_sure().await;
            self.context.log_writer.flushed(page).await.is_ok()
        };
        tokio::select! {
            ours = ours => ours,
            () = self.held.cancel.token().cancelled() => false,
            () = sleep_until(deadline) => {
                self.held.cancel.cancel(CancelReason::Deadline);
                false
            }
        }
    }

    async fn run_prepared(
        &self,
        mut prepared: Prepared,
        page: &Arc<AttemptBuffer>,
        resumed: bool,
        deadline: Option<Instant>,
    ) -> RunEnd {
        if let Some(copied_turns) = prepared.copied_turns.take()
            && copied_turns.take(&self.context.log_writer, page, &mut prepared.recorded).await.is_err()
        {
            return RunEnd::Ended(Outcome::Lost);
        }
        let journal = Arc::new(AttemptJournal {
            job: self.claimed.lease.id,
            log_writer: self.context.log_writer.clone(),
            page: Arc::clone(page),
            clock: self.context.clock.clone(),
            lapses: self.context.clock.lapses(),
            cancel: self.held.cancel.clone(),
            draining: self.context.draining.clone(),
            turns: TurnCounter::after(&prepared.recorded),
            life: Arc::clone(&self.life),
            heading: Mutex::default(),
        });
        let (run, background) = self.run_of(prepared, journal, resumed);
        let cancel = run.cancel.clone();
        let running = async {
            match cancel.run_until_cancelled(background.come_back()).await {
                // Where it shall stop, its cancellation is on the way.
                Some(Ok(()) | Err(ServiceError::Stopping)) => self.context.runner.run(run).await,
                Some(Err(error)) => {
                    tracing::warn!(job = %self.claimed.lease.id, %error, "the attempt could not come back");
                    RunEnd::Ended(Outcome::Lost)
                }
                None => RunEnd::Ended(Outcome::Stopped { usage: Usage::default() }),
            }
        };
        tokio::pin!(running);
        tokio::select! {
            end = &mut running => end,
            () = sleep_until(deadline) => {
                // The run is cancelled and awaited, so that nothing of it lives afterwards.
                self.held.cancel.cancel(CancelReason::Deadline);
                running.await
            }
        }
    }

    /// Reads team and turns; asks again while Redis cannot be reached and the attempt may still act. What
    /// can never be read ends the attempt, and so does a cancellation.
    async fn prepare(&self, resumed: bool) -> Result<Prepared, RunEnd> {
        let usage = Usage::default();
        loop {
            let error = match self.read_prepared(resumed).await {
                Ok(prepared) => return Ok(prepared),
                Err(error) => error,
            };
            tracing::warn!(job = %self.claimed.lease.id, %error, "could not read what the attempt needs");
            if !error.is_transient() {
                let message = format!("what earlier attempts recorded cannot be read: {error}");
                return Err(RunEnd::Ended(Outcome::Failed { cause: Cause::AgentError, message, usage }));
            }
            let token = self.held.cancel.token();
            if token.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Err(RunEnd::Ended(Outcome::Stopped { usage }));
            }
        }
    }

    async fn read_prepared(&self, resumed: bool) -> Result<Prepared, QueueError> {
        if !self.context.runner.wants_team() {
            return Ok(Prepared { team: None, recorded: Vec::new(), open: None, copied_turns: None });
        }
        let json = self.context.work.team(self.claimed.session, &self.claimed.spec.team).await?;
        let team = json.and_then(|json| match serde_json::from_str::<Team>(&json) {
            Ok(team) => Some((Arc::new(team), Arc::from(json))),
            Err(error) => {
                tracing::error!(job = %self.claimed.lease.id, %error, "the stored team cannot be read");
                None
            }
        });
        let mut recorded = Vec::new();
        let mut last_reply = None;
        if self.begun.last_entry > 0 || resumed {
            for (sequence, entry) in self.context.work.turns(self.claimed.lease.id, 0).await? {
                let entry = serde_json::from_str(&entry).map_err(|error| QueueError::Unexpected {
                    step: "turns",
                    detail: format!("entry {sequence}: {error}"),
                })?;
                if let TurnEntry::Reply { turn, .. } = &entry {
                    last_reply = Some((*turn, sequence));
                }
                let is_summary = matches!(entry, TurnEntry::Compacted { .. });
                recorded.push(entry);
                if is_summary {
                    prune_replaced(&mut recorded);
                }
            }
        }
        let copied_turns =
            copied_turns::still_to_take(&*self.context.work, &self.claimed.spec, &recorded).await?;
        let open = self.open_turn(last_reply).await?;
        Ok(Prepared { team, recorded, open, copied_turns })
    }

    /// When the calls of the last reply were asked for.
    async fn open_turn(&self, reply: Option<(u32, u64)>) -> Result<Option<OpenTurn>, QueueError> {
        let Some((turn, sequence)) = reply else { return Ok(None) };
        let age = self.context.work.turn_age(self.claimed.lease.id, sequence).await?;
        let asked = age.and_then(|age| std::time::Instant::now().checked_sub(age));
        Ok(asked.map(|asked| OpenTurn { turn, asked }))
    }

    /// What the runner is given, and the service in it.
    fn run_of(
        &self,
        prepared: Prepared,
        journal: Arc<AttemptJournal>,
        resumed: bool,
    ) -> (Run, Arc<ParkingService>) {
        let caller = Caller {
            session: self.claimed.session,
            by: DispatchedBy::Job { id: self.claimed.lease.id, token: self.claimed.lease.token },
            team: self.claimed.spec.team.clone(),
            team_json: prepared.team.as_ref().map_or_else(|| Arc::from(""), |(_, json)| Arc::clone(json)),
            working_dir: self.claimed.spec.working_dir.clone(),
            keys_in_namespace: false,
            policy: Arc::clone(&self.context.policy),
            trace: self.claimed.spec.trace.clone(),
        };
        let service = Service::new(self.context.observer.clone(), caller);
        let work = Arc::clone(&self.context.work);
        let (held, events) = (self.held.clone(), self.context.events.clone());
        let background = Arc::new(ParkingService::new(service, work, held, events, prepared.open));
        let run = Run {
            claimed: self.claimed.clone(),
            team: prepared.team.map(|(team, _)| team),
            finished_turns: journal.turns.finished(),
            recorded: prepared.recorded,
            journal,
            background: Arc::clone(&background),
            cancel: self.held.cancel.run(),
            resumed,
        };
        (run, background)
    }

    /// Ends the attempt in the queue, or hands the job back. All it wrote is stored.
    async fn settle(&self, end: RunEnd, output_bytes: u64) {
        let lease = self.claimed.lease;
        match decide(end, self.held.cancel.reason(), self.claimed.timeout) {
            Settlement::Nothing => tracing::info!(job = %lease.id, "attempt lost its lease"),
            Settlement::GiveBack(mode) => self.give_back(mode, output_bytes).await,
            Settlement::Finish(ending, usage) => {
                let cap = self.context.output_cap;
                let ending = match ending {
                    Ending::Completed { result } => Ending::Completed { result: capped(result, cap) },
                    Ending::Failed { cause, message } => {
                        Ending::Failed { cause, message: capped(message, cap) }
                    }
                    stopped @ Ending::Stopped { .. } => stopped,
                };
                let finish = Finish { lease, ending, output_bytes, usage, retry_delay: self.retry_delay() };
                match self.context.log_writer.finish(finish).await {
                    Ok(Finished::Now(state)) => tracing::info!(job = %lease.id, %state, "attempt ended"),
                    Ok(Finished::Lost) => tracing::info!(job = %lease.id, "attempt had lost its lease"),
                    Err(_) => {
                        tracing::warn!(job = %lease.id, "the worker ended before the attempt was recorded")
                    }
                }
            }
        }
    }

    /// The pause before the next try, should the job have retries left.
    fn retry_delay(&self) -> Duration {
        let Claimed { failures, retry_delay, .. } = self.claimed;
        let pauses = Backoff::exponential(retry_delay, LONGEST_RETRY_DELAY, failures.saturating_add(1));
        pauses.last().map_or(retry_delay, |pause| Backoff::jittered(pause, rand::random()))
    }

    /// Hands the job back; asks again, within a bound, while Redis cannot be reached.
    async fn give_back(&self, mode: ReleaseMode, output_bytes: u64) {
        let lease = self.claimed.lease;
        let release = Release { lease, worker: self.context.worker.clone(), mode, output_bytes };
        for _ in 0..GIVE_BACK_TRIES {
            match self.context.work.release(&release).await {
                Ok(outcome) => {
                    tracing::info!(job = %lease.id, ?outcome, "handed the job back");
                    return;
                }
                Err(error) => tracing::warn!(job = %lease.id, %error, "could not hand the job back"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// An attempt whose silence is noticed.
struct Watched<'a> {
    attempt: &'a Attempt,
    page: &'a Arc<AttemptBuffer>,
}

impl StallSink for Watched<'_> {
    fn is_excused(&self) -> bool {
        self.attempt.held.parked.load(Ordering::SeqCst)
    }

    fn silent(&self, text: &str) {
        tracing::warn!(job = %self.attempt.claimed.lease.id, "the job stalls; it waits for {text}");
        self.attempt.context.log_writer.wait_for(self.page, Some(text.to_owned()));
    }

    fn heard_again(&self, excused: bool) {
        tracing::info!(job = %self.attempt.claimed.lease.id, "the job goes on");
        if !excused {
            self.attempt.context.log_writer.wait_for(self.page, None);
        }
    }
}

/// Waits for the moment, or for ever where there is none.
pub(crate) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What the last message, or an error, keeps of a text that is longer than the output may be.
fn capped(mut text: String, cap: u64) -> String {
    let cap = usize::try_from(cap).unwrap_or(usize::MAX);
    if text.len() > cap {
        // Zero is a boundary.
        let whole = (0..=cap).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(whole);
        text.push_str(&format!("\n\n[cut at {cap} bytes, the output cap]"));
    }
    text
}

/// What becomes of a job whose attempt is over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Settlement {
    Nothing,
    GiveBack(ReleaseMode),
    Finish(Ending, Usage),
}

/// Decides from how the run ended and why it was cancelled, if it was. Pure.
fn decide(end: RunEnd, reason: Option<CancelReason>, timeout: Option<Duration>) -> Settlement {
    let stopped = |usage| Settlement::Finish(Ending::Stopped { cause: Cause::Operator }, usage);
    match (end, reason) {
        (_, Some(CancelReason::LeaseLost)) => Settlement::Nothing,
        (RunEnd::Ended(Outcome::Completed { result, usage }), _) => {
            Settlement::Finish(Ending::Completed { result }, usage)
        }
        (
            RunEnd::Ended(Outcome::Stopped { usage } | Outcome::Failed { usage, .. }),
            Some(CancelReason::StopWanted),
        ) => stopped(usage),
        (RunEnd::Ended(Outcome::Lost) | RunEnd::Lacks(_), Some(CancelReason::StopWanted)) => {
            stopped(Usage::default())
        }
        (RunEnd::Ended(Outcome::Failed { cause, message, usage }), _) => {
            Settlement::Finish(Ending::Failed { cause, message }, usage)
        }
        (RunEnd::Ended(Outcome::Stopped { usage }), Some(CancelReason::Deadline)) => {
            let seconds = timeout.unwrap_or_default().as_secs_f64();
            let message = format!("the timeout of {seconds} s passed");
            Settlement::Finish(Ending::Failed { cause: Cause::Deadline, message }, usage)
        }
        (RunEnd::Ended(Outcome::Stopped { .. } | Outcome::Lost), Some(_)) => {
            Settlement::GiveBack(ReleaseMode::Drain)
        }
        // The run ended itself although nobody cancelled it: its journal said that the lease is lost.
        (RunEnd::Ended(Outcome::Stopped { .. } | Outcome::Lost), None) => Settlement::Nothing,
        (RunEnd::Lacks(reason), _) => Settlement::GiveBack(ReleaseMode::Lack(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_no_longer_than_output_may_be() {
        assert_eq!(capped("four".to_owned(), 4), "four");
        assert_eq!(capped("fünf".to_owned(), 2), "f\n\n[cut at 2 bytes, the output cap]");
    }

    #[test]
    fn how_an_attempt_ends_depends_on_why_it_was_cancelled() {
        let usage = Usage::default();
        let cancelled = || RunEnd::Ended(Outcome::Stopped { usage });
        let completed = || RunEnd::Ended(Outcome::Completed { result: "x".into(), usage });
        let finish = |ending| Settlement::Finish(ending, usage);
        let deadline = Ending::Failed { cause: Cause::Deadline, message: "the timeout of 2 s passed".into() };
        let table = [
            (completed(), None, finish(Ending::Completed { result: "x".into() })),
            (completed(), Some(CancelReason::HandBack), finish(Ending::Completed { result: "x".into() })),
            (completed(), Some(CancelReason::LeaseLost), Settlement::Nothing),
            (cancelled(), Some(CancelReason::HandBack), Settlement::GiveBack(ReleaseMode::Drain)),
            (
                RunEnd::Ended(Outcome::Lost),
                Some(CancelReason::HandBack),
                Settlement::GiveBack(ReleaseMode::Drain),
            ),
            (cancelled(), Some(CancelReason::StopWanted), finish(Ending::Stopped { cause: Cause::Operator })),
            (cancelled(), Some(CancelReason::Deadline), finish(deadline)),
            (cancelled(), None, Settlement::Nothing),
            (RunEnd::Lacks("k".into()), None, Settlement::GiveBack(ReleaseMode::Lack("k".into()))),
        ];
        for (end, reason, expected) in table {
            assert_eq!(
                decide(end.clone(), reason, Some(Duration::from_secs(2))),
                expected,
                "{end:?} {reason:?}"
            );
        }
    }
}
