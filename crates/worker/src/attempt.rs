//! One attempt at a job, from claim to finish, in named steps.
//!
//! ```text
//! new ─► prepare ─► run ─► flush ─► settle
//!           ▲         │                    │
//!           ├ suspended: until the lease is valid again
//!           └ completed while a message was on its way ┘
//! ```
//!
//! Each step leaves the job so that, should the worker die right after it, the next attempt resumes from what is stored.

mod settling;

use std::convert::Infallible;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_agent::Outcome;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::policy::Policy;
use legwork_common::service::ServiceError;
use legwork_common::waits_for::WaitsFor;
use legwork_queue::Caller;
use legwork_queue::Observer;
use legwork_queue::Service;
use legwork_queue::port::Begun;
use legwork_queue::port::Claimed;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Work;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing::Span;

use crate::active_attempts::ActiveAttempt;
use crate::active_attempts::ActiveAttempts;
use crate::active_attempts::AttemptHandle;
use crate::admission::Admission;
use crate::admission::AdmissionError;
use crate::admission::AttemptAdmission;
use crate::attempt_log::AttemptLog;
use crate::cancel::CancelReason;
use crate::claims::ClaimedJob;
use crate::deadline;
use crate::journal::AttemptJournal;
use crate::journal::TurnCounter;
use crate::lease_clock::LeaseClock;
use crate::log_writer::AttemptBuffer;
use crate::log_writer::AttemptBufferStart;
use crate::log_writer::LogWriter;
use crate::parking::ParkingService;
use crate::prepare;
use crate::prepare::PrepareError;
use crate::prepare::Prepared;
use crate::questions::LaterPerson;
use crate::runner::Follows;
use crate::runner::Run;
use crate::runner::RunEnd;
use crate::runner::Runner;
use crate::settlement;
use crate::spans;
use crate::stall::StallDetector;
use crate::stall::StallSink;
use crate::supervisor::WorkerEvent;
use crate::tally::Tally;
use crate::team_cache::TeamCache;

/// Delay before a failed read of what an attempt needs, or a failed release, is repeated. A Redis that is restarting
/// refuses connections at once; without a delay all attempts of a worker would hammer it.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a run may take to end after it was cancelled. Commands that ignore SIGTERM take two seconds; several times
/// that is for a machine that is busy. Longer than this means that a process cannot be killed, or that a tool hangs.
const CANCELLED_RUN_TIMEOUT: Duration = Duration::from_secs(15);

/// How long after its claim a first attempt may begin its first turn without reading its mailbox, which was empty then. Most do so
/// within a few milliseconds; one that waited for its tools may have been sent a message since.
const KNOWN_MAILBOX_TIME: Duration = Duration::from_millis(100);

/// What all attempts of a worker share.
#[derive(Debug)]
pub struct AttemptContext {
    /// The worker that releases jobs.
    pub worker: WorkerId,
    /// The queue.
    pub work: Arc<dyn Work>,
    /// The queue and its hints, for the service that jobs call.
    pub observer: Observer,
    /// Runs the agents.
    pub runner: Arc<dyn Runner>,
    /// Writes output, turns and ends.
    pub log_writer: LogWriter,
    /// All attempts of the worker, to be cancelled and granted slots from outside.
    pub active: ActiveAttempts,
    /// How long the leases are valid.
    pub clock: LeaseClock,
    /// Cancelled when the worker drains.
    pub draining: CancellationToken,
    /// Cancelled when the time of the drain is over: whatever still runs is dropped.
    pub abandoned: CancellationToken,
    /// Where parking is reported to the driver.
    pub events: mpsc::Sender<WorkerEvent>,
    /// The output cap of a job in bytes.
    pub output_cap: u64,
    /// What the fleet has decided for the jobs that its jobs dispatch.
    pub policy: Arc<Policy>,
    /// After how long without activity an attempt is reported as stalled; zero for never.
    pub stall_after: Duration,
    /// Counts what becomes of the attempts.
    pub tally: Tally,
    /// Logs what becomes of the attempts.
    pub log: AttemptLog,
    /// The teams that attempts have read.
    pub teams: TeamCache,
    /// Which signed jobs are run; `None` for all jobs, signed or not.
    pub admission: Option<Admission>,
}

/// One attempt in progress. What belongs to it is released by dropping it, also where it panics: its place among the
/// active attempts, and with it the renewal of its lease.
///
/// A worker runs thousands at once, which mostly wait for a model. So what all share is shared, what is large and rare is in
/// a box of its own, and functions take it by reference: a future holds what it is given for as long as it lives.
#[derive(Debug)]
pub struct Attempt {
    context: Arc<AttemptContext>,
    claimed: Arc<Claimed>,
    begun: Begun,
    active: ActiveAttempt,
    stall_detector: Arc<StallDetector>,
    /// Whether the agent of the last run hears mail that is sent to it.
    hears_mail: AtomicBool,
    /// Cancelled once the attempt has finished a turn; `None` for a job that is not in quarantine.
    finished_turn: Option<CancellationToken>,
    admission: AttemptAdmission,
    /// When it was made, which is when its job was claimed.
    launched: Instant,
    /// Its span, which is disabled where none is exported.
    span: Span,
}

impl Attempt {
    /// An attempt at a claimed job whose fence is set.
    ///
    /// What it starts and dispatches is in its span.
    pub fn new(context: Arc<AttemptContext>, job: ClaimedJob) -> Self {
        let ClaimedJob { mut claimed, begun, active } = job;
        let span = spans::of_attempt(&claimed, context.worker.as_str());
        if let Some(own) = legwork_spans::trace_parent(&span) {
            claimed.spec.trace = Some(own);
        }
        Self {
            admission: AttemptAdmission::new(context.admission.clone()),
            context,
            finished_turn: claimed.quarantine.map(|_crashes| CancellationToken::new()),
            claimed: Arc::new(claimed),
            begun,
            active,
            stall_detector: Arc::default(),
            hears_mail: AtomicBool::new(false),
            launched: Instant::now(),
            span,
        }
    }

    fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    fn handle(&self) -> &Arc<AttemptHandle> {
        self.active.handle()
    }

    /// Runs the attempt to its end. Dropped in the middle, the lease expires and the job is attempted again.
    ///
    /// Its lines in the log have the job, the session and the trace.
    pub fn run(self) -> impl Future<Output = ()> + Send {
        let (span, log) = (self.span.clone(), spans::log_context(self.claimed()));
        // Not of an `async fn`, which would hold the attempt twice.
        let attempt = async move {
            self.context.log.started(self.claimed());
            self.run_to_end().await;
        };
        attempt.instrument(log).instrument(span)
    }

    async fn run_to_end(&self) {
        let &Claimed { lease, attempt, timeout, ran, created, .. } = self.claimed();
        let began = Instant::now();
        if attempt == 1 {
            self.context.tally.count_start(created);
        }
        let opened = self.context.log_writer.open(AttemptBufferStart {
            lease,
            output_bytes: self.begun.output_bytes,
            last_entry: self.begun.last_entry,
            output_cap: self.context.output_cap,
        });
        let buffer = opened.buffer();
        let reporter = StallReporter { attempt: self, buffer };
        let remaining = timeout.map(|timeout| timeout.saturating_sub(ran));
        let deadline = remaining.map(|remaining| Instant::now() + remaining);
        let mut follows = Follows::Nothing;
        loop {
            let end = tokio::select! {
                end = self.run_until_ended(buffer, follows, deadline) => end,
                never = self.stall_detector.watch(self.context.stall_after, &reporter) => match never {},
                never = self.leave_quarantine() => match never {},
            };
            let Some(end) = end else {
                tracing::error!(job = %lease.id, "the run did not end after it was cancelled; its lease expires");
                break;
            };
            // A fenced attempt has nothing to settle.
            if self.context.log_writer.flush(buffer).await.is_err()
                || Box::pin(self.settle(end, buffer)).await.is_break()
            {
                break;
            }
            tracing::info!(job = %lease.id, "a message arrived as the agent completed, attempt continues");
            follows = Follows::Completion;
        }
        let written = buffer.end().saturating_sub(self.begun.output_bytes);
        self.context.tally.count_run(began.elapsed(), written);
    }

    /// Ends the quarantine of the job once the attempt has finished a turn: in the queue, then on this worker, which may run
    /// others alongside it from then on. Never returns.
    async fn leave_quarantine(&self) -> Infallible {
        if let Some(finished_turn) = &self.finished_turn {
            Box::pin(self.leave_quarantine_after(finished_turn)).await;
        }
        std::future::pending().await
    }

    async fn leave_quarantine_after(&self, finished_turn: &CancellationToken) {
        finished_turn.cancelled().await;
        let lease = self.claimed().lease;
        match self.context.work.leave_quarantine(lease).await {
            Ok(_) => tracing::info!(job = %lease.id, "the job has finished a turn and leaves quarantine"),
            Err(error) => tracing::warn!(job = %lease.id, %error, "could not end the job's quarantine"),
        }
        let _no_receiver = self.context.events.send(WorkerEvent::Cleared(lease)).await;
    }

    /// Runs until there is an end to settle. A run that was suspended is followed by another one in place, once the
    /// lease is valid again. `None` for a run that was cancelled and did not end: what it started may still run, so that
    /// neither an end nor a release may be recorded.
    async fn run_until_ended(
        &self,
        buffer: &Arc<AttemptBuffer>,
        mut follows: Follows,
        deadline: Option<Instant>,
    ) -> Option<RunEnd> {
        loop {
            let end = match self.prepare(follows).await {
                Ok(prepared) => self.run_prepared(prepared, buffer, follows, deadline).await?,
                Err(end) => return Some(end),
            };
            let suspended = self.handle().cancel.is_suspended();
            let cut_off = settlement::usage_if_cut_off(&end).filter(|_| suspended);
            let Some(usage) = cut_off else { return Some(end) };
            tracing::warn!(job = %self.claimed().lease.id, "the lease is in doubt, attempt suspended");
            if !self.until_lease_is_valid(buffer, deadline).await {
                return Some(RunEnd::Ended(Outcome::Stopped { usage }));
            }
            tracing::info!(job = %self.claimed().lease.id, "the lease is valid, attempt resumed");
            self.handle().cancel.resume();
            follows = Follows::Suspension;
        }
    }

    /// Waits until a renewal finds the lease to be ours, and everything that was written before is stored: the next run
    /// reads it. False if the attempt must end instead.
    async fn until_lease_is_valid(&self, buffer: &Arc<AttemptBuffer>, deadline: Option<Instant>) -> bool {
        let valid = async {
            self.context.clock.until_valid().await;
            self.context.log_writer.flush(buffer).await.is_ok()
        };
        tokio::select! {
            valid = valid => valid,
            () = self.handle().cancel.token().cancelled() => false,
            () = deadline::reached(deadline) => {
                self.handle().cancel.cancel(CancelReason::Deadline);
                false
            }
        }
    }

    async fn run_prepared(
        &self,
        mut prepared: Box<Prepared>,
        buffer: &Arc<AttemptBuffer>,
        follows: Follows,
        deadline: Option<Instant>,
    ) -> Option<RunEnd> {
        buffer.sign_turns(prepared.turn_signer.take());
        if let Some(turns) = prepared.copied_turns.take() {
            let copying = turns.copy_into(&self.context.log_writer, buffer, &mut prepared.recorded);
            match self.handle().cancel.token().run_until_cancelled(Box::pin(copying)).await {
                Some(Ok(())) => {}
                Some(Err(_closed)) => return Some(RunEnd::Ended(Outcome::Lost)),
                None => return Some(RunEnd::Ended(Outcome::Stopped { usage: Usage::default() })),
            }
        }
        let journal = Arc::new(AttemptJournal {
            job: self.claimed().lease.id,
            log_writer: self.context.log_writer.clone(),
            buffer: Arc::clone(buffer),
            clock: self.context.clock.clone(),
            lapses: self.context.clock.lapses(),
            handle: Arc::clone(self.handle()),
            draining: self.context.draining.clone(),
            turns: TurnCounter::after(&prepared.recorded),
            finished_turn: self.finished_turn.clone(),
            stall_detector: Arc::clone(&self.stall_detector),
            heading: Mutex::default(),
        });
        let (run, background) = self.assemble(*prepared, journal, follows);
        let cancel = run.cancel.clone();
        // Not started yet. It holds the run, which this future need not hold as well.
        let run = self.context.runner.run(run);
        let running = pin!(self.run_with_slot(run, &background, &cancel));
        self.until_run_ends(running, &cancel, deadline).await
    }

    /// Runs what is to be run, once the attempt has a slot.
    async fn run_with_slot(
        &self,
        run: impl Future<Output = RunEnd>,
        background: &ParkingService,
        cancel: &CancellationToken,
    ) -> RunEnd {
        match cancel.run_until_cancelled(background.resume_if_parked()).await {
            // A job that is being stopped starts its run: the cancellation that follows ends it in good order.
            Some(Ok(()) | Err(ServiceError::Stopping)) => run.await,
            Some(Err(error)) => {
                tracing::warn!(job = %self.claimed().lease.id, %error, "the attempt could not take a slot again");
                RunEnd::Ended(Outcome::Lost)
            }
            None => RunEnd::Ended(Outcome::Stopped { usage: Usage::default() }),
        }
    }

    /// Waits for the end of a run, which `deadline` cancels. A run that was cancelled, for whatever reason, is awaited and
    /// not dropped, because no process and no request of it may outlive it; `None` for one that does not end in time.
    async fn until_run_ends(
        &self,
        mut running: Pin<&mut impl Future<Output = RunEnd>>,
        cancel: &CancellationToken,
        deadline: Option<Instant>,
    ) -> Option<RunEnd> {
        tokio::select! {
            end = &mut running => return Some(end),
            () = cancel.cancelled() => {}
            () = deadline::reached(deadline) => self.handle().cancel.cancel(CancelReason::Deadline),
        }
        tokio::time::timeout(CANCELLED_RUN_TIMEOUT, running).await.ok()
    }

    /// Reads what the run needs, and repeats that while Redis is unreachable and the attempt is not cancelled. The error
    /// is the end of an attempt that was cancelled, or whose turns cannot be read on this worker or at all.
    async fn prepare(&self, follows: Follows) -> Result<Box<Prepared>, RunEnd> {
        let usage = Usage::default();
        let token = self.handle().cancel.token();
        loop {
            let error = match token.run_until_cancelled(self.read_prepared(follows)).await {
                Some(Ok(prepared)) => return Ok(Box::new(prepared)),
                Some(Err(error)) => error,
                None => return Err(RunEnd::Ended(Outcome::Stopped { usage })),
            };
            tracing::warn!(job = %self.claimed().lease.id, %error, "could not read what the attempt needs");
            match error {
                // Another release stored it: its own workers can read it.
                PrepareError::Unreadable(error) => {
                    return Err(RunEnd::Lacks(format!(
                        "a release of Legwork that can read the job: {error}"
                    )));
                }
                PrepareError::Queue(error) if !error.is_transient() => {
                    let message = format!("what earlier attempts recorded cannot be read: {error}");
                    return Err(RunEnd::Ended(Outcome::Failed { cause: Cause::AgentError, message, usage }));
                }
                PrepareError::Admission(AdmissionError::Ledger(error)) => {
                    return Err(RunEnd::Lacks(format!("a ledger of the signed jobs that it ran: {error}")));
                }
                PrepareError::AlteredTeam | PrepareError::Admission(AdmissionError::Refused(_)) => {
                    let message = error.to_string();
                    return Err(RunEnd::Ended(Outcome::Failed { cause: Cause::Rejected, message, usage }));
                }
                PrepareError::Queue(_) => {}
            }
            if token.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                return Err(RunEnd::Ended(Outcome::Stopped { usage }));
            }
        }
    }

    async fn read_prepared(&self, follows: Follows) -> Result<Prepared, PrepareError> {
        if !self.context.runner.wants_team() {
            return Ok(Prepared::default());
        }
        let has_turns = self.begun.last_entry > 0 || follows != Follows::Nothing;
        let checks = (&self.context.teams, &self.admission);
        Box::pin(prepare::read(&*self.context.work, checks, self.claimed(), has_turns)).await
    }

    /// Everything that the runner needs, and the service in it.
    fn assemble(
        &self,
        prepared: Prepared,
        journal: Arc<AttemptJournal>,
        follows: Follows,
    ) -> (Box<Run>, Arc<ParkingService>) {
        let Prepared { team, recorded, open_turn, .. } = prepared;
        let caller = Caller {
            session: self.claimed().session,
            by: DispatchedBy::Job { id: self.claimed().lease.id, token: self.claimed().lease.token },
            team: self.claimed().spec.team.clone(),
            team_json: team.as_ref().map_or_else(|| Arc::from(""), |(_, json)| Arc::clone(json)),
            working_dir: self.claimed().spec.working_dir.clone(),
            keys_in_namespace: false,
            policy: Arc::clone(&self.context.policy),
            trace: self.claimed().spec.trace.clone(),
            root_agent: self.claimed().spec.root_agent.clone(),
            approvals: self.claimed().spec.approvals,
        };
        let service = Service::new(self.context.observer.clone(), caller)
            .signed_by(self.admission.signer())
            .trusting(self.admission.trust(), team.as_ref().map(|(team, _)| Arc::clone(team)));
        let work = Arc::clone(&self.context.work);
        let (handle, events) = (Arc::clone(self.handle()), self.context.events.clone());
        let mut background = ParkingService::new(service, work, handle, events, open_turn);
        if !self.claimed().has_session_budget {
            background = background.without_session_budget();
        }
        // Neither is there a job of its own yet whose end it could hear of.
        if self.claimed().attempt == 1 && follows == Follows::Nothing && !self.claimed().was_messaged {
            background = background.without_mail_until((self.launched + KNOWN_MAILBOX_TIME).into_std());
        }
        let background = Arc::new(background);
        let hears_mail =
            self.context.runner.hears_mail(self.claimed(), team.as_ref().map(|(team, _)| &**team));
        self.hears_mail.store(hears_mail, Ordering::SeqCst);
        let run = Box::new(Run {
            claimed: Arc::clone(&self.claimed),
            team: team.map(|(team, _)| team),
            finished_turns: journal.turns.finished(),
            recorded,
            journal,
            prices: self.context.policy.prices(),
            person: LaterPerson::of_job(&background, self.claimed().spec.approvals, &self.context.policy),
            background: Arc::clone(&background),
            cancel: self.handle().cancel.run_token(),
            follows,
        });
        (run, background)
    }
}

/// Reports the stalls of one attempt to the log and to the job's record.
struct StallReporter<'a> {
    attempt: &'a Attempt,
    buffer: &'a Arc<AttemptBuffer>,
}

impl StallSink for StallReporter<'_> {
    fn is_parked(&self) -> bool {
        self.attempt.handle().parked.load(Ordering::SeqCst)
    }

    fn stalled(&self, reason: &str) {
        tracing::warn!(job = %self.attempt.claimed().lease.id, "the job has stalled: {reason}");
        let reason = WaitsFor::Stalled { detail: reason.to_owned() };
        self.attempt.context.log_writer.set_waits_for(self.buffer, Some(&reason));
    }

    fn recovered(&self, is_waiting: bool) {
        tracing::info!(job = %self.attempt.claimed().lease.id, "the job is active again");
        // Its own reason is in the record already.
        if !is_waiting {
            self.attempt.context.log_writer.set_waits_for(self.buffer, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker holds the futures of ten thousand attempts at once. Who makes this one larger should box what is rare, or over
    /// before the agent runs; `-Zprint-type-sizes` shows what is in it.
    #[test]
    fn an_attempt_that_waits_for_its_agent_takes_little_memory() {
        fn bytes<F>(_run: impl FnOnce(Attempt) -> F) -> usize {
            size_of::<F>()
        }
        assert!(bytes(Attempt::run) <= 1600, "{} bytes", bytes(Attempt::run));
    }
}
