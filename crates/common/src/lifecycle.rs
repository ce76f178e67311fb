//! The lifecycle of a job: its states, its events, and the total function that maps a state and an event to
//! the next state.
//!
//! ```text
//! state      event                next        step in Redis
//! scheduled  Due                  queued      reap, when the delay or backoff is over
//! scheduled  StopRequested            stopped     sweep of a stop
//! scheduled  Rejected             failed      (none yet)
//! queued     Claimed              running     claim
//! queued     StopRequested            stopped     sweep of a stop
//! queued     Rejected             failed      (none yet)
//! running    Parked               waiting     park
//! running    Released             queued      release, by a draining worker
//! running    Declined            scheduled   release, by a worker that lacks a requirement
//! running    Rejected             failed      release, when every live worker lacks it
//! running    StopRequested            stopping    sweep of a stop
//! running    Completed            completed   finish
//! running    Failed               failed      finish
//! running    RetryScheduled           scheduled   finish, while retries remain
//! running    Confirmed            stopped     finish of an attempt that stopped without a recorded stop
//! running    LeaseExpired         reaping     reap
//! waiting    Resumed              running     park
//! waiting    as running, except Parked, Declined and Rejected
//! stopping   Completed, Failed, RetryScheduled, Confirmed, Released, Declined   stopped
//! stopping   StopRequested, Parked, Resumed                                      stopping
//! stopping   LeaseExpired         reaping     reap
//! reaping    StopRequested            reaping     the stop mark decides when the reaper finishes
//! reaping    Requeued             queued      reaped
//! reaping    Confirmed            stopped     reaped, when a stop was requested
//! reaping    WorkerLost           failed      reaped, after too many crashes in a row
//! ```
//!
//! Every other pair is illegal and is returned as an [`IllegalEvent`]. The Lua steps guard their writes with
//! the same table; a test runs every pair through both.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

/// The state of a job. Each transition is one atomic step in Redis, so a crash leaves the job in the state
/// before or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for a point in time: a delay, the backoff of a retry, or a short delay after a worker gave the
    /// job back.
    ///
    /// No worker holds it, so no crash affects it. It becomes `queued` at the first `reap` after its time;
    /// without any live process that reaps, it becomes `queued` late but is not lost.
    Scheduled,
    /// Ready to run: its id is in the stream of its lane, or in the backlog of its session while the session
    /// has as many admitted jobs as its cap allows.
    ///
    /// No worker holds it, so no crash affects it. If a worker crashes after a claim whose reply it never
    /// saw, the job is `running` and its lease expires.
    Queued,
    /// An attempt runs: one worker holds the lease, renews it, and uses a slot.
    ///
    /// If the worker crashes or cannot renew, the lease expires and a reaper moves the job to `reaping`. A
    /// worker that is cut off from Redis suspends its attempt before that: the state stays `running` until
    /// the attempt resumes under its own lease, or the lease expires.
    Running,
    /// Like `running`, but the job waits for the jobs that it dispatched. The worker keeps the lease and has
    /// released the slot.
    ///
    /// A crash leads to `reaping` as from `running`, but is not counted against the job: it was not doing
    /// anything that could have caused the crash.
    Waiting,
    /// A stop was requested for the job or for an ancestor, and its worker has not confirmed it yet.
    ///
    /// The job can only end `stopped`. If the worker crashes before it confirms, the lease expires and the
    /// reaper ends the job.
    Stopping,
    /// Its lease expired, and a reaper is reclaiming it. Shown to users as `running`.
    ///
    /// The token of the attempt is gone, so the old worker can no longer change the job. The reaper seals the
    /// job's output, then requeues it, stops it or fails it. If the reaper crashes, the job is found again
    /// after one more lease.
    Reaping,
    /// Ended with a result. Terminal: no event changes it, and a crash of any process leaves it as it is.
    Completed,
    /// Ended without a result; [`Cause`](crate::job::Cause) says why. Terminal. All its descendants are
    /// stopped with the cause `parent`; the stop mark is written in the same step, so a crash cannot leave
    /// them running.
    Failed,
    /// Ended on request, together with its descendants. Terminal. No process, model call or tool call of the
    /// job is left.
    Stopped,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Stopping,
        Self::Reaping,
        Self::Completed,
        Self::Failed,
        Self::Stopped,
    ];

    /// The name in Redis, in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Reaping => "reaping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the job has ended. A terminal state never changes.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Stopped)
    }

    /// Whether an attempt is in progress: a worker holds the job's lease, or the lease just expired and the
    /// job is being reclaimed.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Running | Self::Waiting | Self::Stopping | Self::Reaping)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value that is not the name of a state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a job state")]
pub struct UnknownState(pub String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| UnknownState(name.to_owned()))
    }
}

/// Something that happened to a job, in the past tense.
///
/// Each event is applied by one step in Redis. A caller that crashes before the step leaves the job
/// unchanged; a repeat of the step after a lost reply changes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The time that a scheduled job waited for has come. Caused by any process that reaps.
    Due,
    /// A worker claimed the job: a new attempt starts with a new run token. A worker that crashes right after
    /// the claim leaves its lease to expire.
    Claimed,
    /// The job's worker released its slot because the job waits for the jobs that it dispatched.
    Parked,
    /// The job's worker acquired a slot again for a waiting job.
    Resumed,
    /// A draining worker released the job. The next attempt resumes after the last finished turn, and no crash is
    /// counted. A worker that crashes while it drains leaves its lease to expire instead.
    Released,
    /// A worker released the job because it lacks a requirement, such as a key or a program. The job is
    /// scheduled for another worker, and this one does not claim it again.
    Declined,
    /// A worker released the job because it lacks a requirement, and so does every other live worker of the lane.
    Rejected,
    /// An operator, a dispatcher or the end of a session or an ancestor requested a stop of the job. The
    /// request is durable before it is applied, so the crash of the requester does not cancel it: a reaper
    /// continues the stop.
    StopRequested,
    /// The job's worker reported a result.
    Completed,
    /// The job's worker reported a failure that is not retried.
    Failed,
    /// The job's worker reported a failure with a retryable cause, and retries remain.
    RetryScheduled,
    /// The job has stopped, and nothing of it runs any more: reported by its worker, or by the reaper when
    /// the worker is gone.
    StopConfirmed,
    /// The lease expired without a renewal: the worker crashed, is frozen, or cannot reach Redis. Caused by
    /// any process that reaps.
    LeaseExpired,
    /// The reaper requeued the job. The next attempt resumes after the last recorded turn.
    Requeued,
    /// The reaper failed the job: too many workers in a row crashed without a finished turn in between.
    WorkerLost,
}

impl Event {
    /// Every event, in the order in which the variants are declared.
    pub const ALL: [Self; 15] = [
        Self::Due,
        Self::Claimed,
        Self::Parked,
        Self::Resumed,
        Self::Released,
        Self::Declined,
        Self::Rejected,
        Self::StopRequested,
        Self::Completed,
        Self::Failed,
        Self::RetryScheduled,
        Self::StopConfirmed,
        Self::LeaseExpired,
        Self::Requeued,
        Self::WorkerLost,
    ];
}

/// An event that is illegal in a state. The steps in Redis answer such a request without changing the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("event {event:?} is illegal for a job that is {state}")]
pub struct IllegalEvent {
    /// The current state of the job.
    pub state: State,
    /// The rejected event.
    pub event: Event,
}

/// Returns the state after `event`. Total and pure; the steps in Redis implement the same table.
///
/// # Errors
///
/// [`IllegalEvent`] for every pair that is not in the table of the [module documentation](self).
pub fn next(state: State, event: Event) -> Result<State, IllegalEvent> {
    use Event as E;
    use State as S;

    Ok(match (state, event) {
        (S::Scheduled, E::Due) => S::Queued,
        (S::Scheduled | S::Queued, E::StopRequested) => S::Stopped,
        (S::Scheduled | S::Queued | S::Running, E::Rejected) => S::Failed,
        (S::Queued, E::Claimed) => S::Running,

        (S::Running, E::Parked) => S::Waiting,
        (S::Waiting, E::Resumed) => S::Running,
        (S::Running, E::Declined) => S::Scheduled,
        (S::Running | S::Waiting, E::Released) => S::Queued,
        (S::Running | S::Waiting, E::StopRequested) => S::Stopping,
        (S::Running | S::Waiting, E::Completed) => S::Completed,
        (S::Running | S::Waiting, E::Failed) => S::Failed,
        (S::Running | S::Waiting, E::RetryScheduled) => S::Scheduled,
        (S::Running | S::Waiting, E::StopConfirmed) => S::Stopped,

        // A requested stop wins over any other ending, so a user never sees `completed` after `stopping`.
        (
            S::Stopping,
            E::Completed | E::Failed | E::RetryScheduled | E::StopConfirmed | E::Released | E::Declined,
        ) => S::Stopped,
        (S::Stopping, E::StopRequested | E::Parked | E::Resumed) => S::Stopping,

        (S::Running | S::Waiting | S::Stopping, E::LeaseExpired) => S::Reaping,
        (S::Reaping, E::StopRequested) => S::Reaping,
        (S::Reaping, E::Requeued) => S::Queued,
        (S::Reaping, E::StopConfirmed) => S::Stopped,
        (S::Reaping, E::WorkerLost) => S::Failed,

        (state, event) => return Err(IllegalEvent { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_states_accept_no_event() {
        for state in State::ALL.into_iter().filter(|s| s.is_terminal()) {
            for event in Event::ALL {
                assert_eq!(next(state, event), Err(IllegalEvent { state, event }));
            }
        }
    }

    #[test]
    fn a_stopping_job_can_only_stop() {
        for event in Event::ALL {
            if let Ok(after) = next(State::Stopping, event) {
                assert!(matches!(after, State::Stopping | State::Stopped | State::Reaping), "{event:?}");
            }
        }
    }

    #[test]
    fn every_state_can_reach_a_terminal_state_within_three_events() {
        let mut ends = State::ALL.map(|s| (s, s.is_terminal()));
        for _ in 0..3 {
            let known = ends;
            for (state, ended) in &mut ends {
                *ended |= Event::ALL
                    .iter()
                    .any(|&event| next(*state, event).is_ok_and(|after| known.contains(&(after, true))));
            }
        }
        assert!(ends.iter().all(|(_, ended)| *ended), "{ends:?}");
    }

    #[test]
    fn state_names_round_trip() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>(), Ok(state));
        }
    }
}
