//! The end of an attempt: its settlement is carried out, repeated while Redis cannot be reached, and logged.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use legwork_common::error::Coded as _;
use legwork_common::id::Dispatcher;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_queue::port::Claimed;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::InOutput;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::attempt::RETRY_DELAY;
use crate::cancel::CancelReason;
use crate::log_writer::AttemptBuffer;
use crate::runner::RunEnd;
use crate::settlement;
use crate::settlement::Settlement;
use crate::spans;

impl Attempt {
    /// Ends the attempt in the queue, or releases the job. All its output is stored. Continues where the agent has mail
    /// to hear first.
    pub(super) async fn settle(&self, end: RunEnd, buffer: &AttemptBuffer) -> ControlFlow<()> {
        let reason = self.handle().cancel.reason();
        match settlement::decide(end, reason, self.claimed().timeout, self.context.output_cap) {
            Settlement::Nothing => {
                tracing::info!(job = %self.claimed().lease.id, "attempt lost its lease");
            }
            Settlement::Release(mode) => self.release(mode, buffer.end()).await,
            Settlement::Finish(ending, usage) => return self.finish(ending, usage, buffer).await,
        }
        ControlFlow::Break(())
    }

    async fn finish(&self, ending: Ending, usage: Usage, buffer: &AttemptBuffer) -> ControlFlow<()> {
        let &Claimed { lease, failures, retry_delay, session, dispatcher, attempt, .. } = self.claimed();
        let retry_delay = settlement::retry_delay(retry_delay, failures, rand::random());
        // A job whose timeout passed as it completed could not hear it.
        let is_overdue = self.handle().cancel.reason() == Some(CancelReason::Deadline);
        let hears_mail = !is_overdue && self.hears_mail.load(Ordering::SeqCst);
        let failure = match &ending {
            Ending::Failed { cause, message } => Some((*cause, first_line(message))),
            Ending::Completed { .. } | Ending::Stopped { .. } => None,
        };
        let in_output = match &ending {
            // What is to be durable is stored in its own place, with the end. So is what another job waits for: a worker of
            // an earlier release may run that one, and finds the result there only.
            Ending::Completed { result }
                if !self.context.work.confirms() && matches!(dispatcher, Dispatcher::Root(_)) =>
            {
                buffer.holds(result, usage)
            }
            _ => InOutput::Nothing,
        };
        let seal = self.admission.seal_end(self.claimed(), &ending);
        let finish = Finish {
            lease,
            ending,
            seal,
            in_output,
            output_bytes: buffer.end(),
            usage,
            retry_delay,
            hears_mail,
            belongs_to: Some((session, dispatcher)),
            is_first_attempt: attempt == 1,
        };
        let again = self.context.work.confirms().then(|| finish.clone());
        let mut finished = self.context.log_writer.finish(finish).await;
        if let (Ok(recorded @ Finished::Now(_)), Some(again)) = (&finished, again) {
            let recorded = *recorded;
            finished = Ok(self.confirmed(&again, recorded).await);
        }
        match finished {
            Ok(Finished::Now(state)) => {
                if state.is_terminal() {
                    self.admission.end(self.claimed()).await;
                }
                self.log_end(state, failure);
            }
            Ok(Finished::Mail) => return ControlFlow::Continue(()),
            Ok(Finished::Lost) => tracing::info!(job = %lease.id, "attempt had lost its lease"),
            Err(_) => {
                tracing::warn!(job = %lease.id, "the end of the attempt could not be recorded; its lease expires");
            }
        }
        ControlFlow::Break(())
    }

    /// Waits until the end of the attempt is confirmed, with its job's slot held: for a lease at most, repeats through a
    /// failover included. An end that is not confirmed by then stands all the same on the server that has it.
    async fn confirmed(&self, finish: &Finish, recorded: Finished) -> Finished {
        let deadline = Instant::now() + self.context.observer.queue().settings().lease;
        loop {
            let error = match self.context.work.confirm(finish).await {
                Ok(confirmed) => return confirmed.unwrap_or(recorded),
                Err(error) => error,
            };
            if !error.is_transient() || Instant::now() >= deadline {
                let code = error.code();
                tracing::warn!(job = %finish.lease.id, code, %error, "the end of the attempt is not confirmed");
                return recorded;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Counts and logs the end of the attempt.
    fn log_end(&self, state: State, failure: Option<(Cause, String)>) {
        let cause = failure.as_ref().map(|(cause, _)| *cause);
        self.context.tally.count_end(state, cause);
        spans::record_end(&self.span, state.as_str(), cause.map(Cause::as_str));
        self.context.log.ended(self.claimed(), state, failure);
    }

    /// Counts and logs a release.
    fn log_release(&self, mode: &ReleaseMode, outcome: Finished) {
        let Claimed { lease, attempt, spec, .. } = self.claimed();
        let state = match outcome {
            Finished::Now(state) => state.as_str(),
            Finished::Mail | Finished::Lost => "lost",
        };
        spans::record_end(&self.span, state, None);
        match mode {
            ReleaseMode::Lack(reason) => {
                self.context.tally.count_given_back(reason);
                self.context.log.gave_back(self.claimed(), state, &first_line(reason));
            }
            ReleaseMode::Drain => {
                tracing::info!(job = %lease.id, agent = %spec.agent, attempt, state, "released the job");
            }
        }
    }

    /// Releases the job, and repeats that while Redis cannot be reached, for the length of a lease: after that a reaper
    /// reclaims the job anyway.
    async fn release(&self, mode: ReleaseMode, output_bytes: u64) {
        let lease = self.claimed().lease;
        let release = Release { lease, worker: self.context.worker.clone(), mode, output_bytes };
        let deadline = Instant::now() + self.context.clock.lease();
        while Instant::now() < deadline {
            match self.context.work.release(&release).await {
                Ok(outcome) => {
                    self.log_release(&release.mode, outcome);
                    return;
                }
                Err(error) => tracing::warn!(job = %lease.id, %error, "could not release the job"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

/// The first line of a message, for the log.
fn first_line(message: &str) -> String {
    message.trim().lines().next().unwrap_or_default().to_owned()
}
