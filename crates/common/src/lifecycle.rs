//! The life of a job: states, events, and the one function that says what may follow what.
//!
//! ```text
//! state      event                next        who
//! scheduled  Due                  queued      reap, when delay or backoff is over
//! scheduled  StopAsked            stopped     stop's sweep
//! scheduled  Rejected             failed      no live worker can run it
//! queued     Claimed              running     claim
//! queued     StopAsked            stopped     stop's sweep
//! queued     Rejected             failed
//! running    Parked               waiting     the job waits for its own jobs
//! running    Released             queued      drain
//! running    GivenBack            scheduled   this worker lacks what the job needs
//! running    Rejected             failed      every live worker lacks it
//! running    StopAsked            stopping
//! running    Completed            completed   finish
//! running    Failed               failed      finish
//! running    RetryLater           scheduled   finish, where retries remain
//! running    Confirmed            stopped     finish of a job that stopped by itself
//! running    LeaseExpired         reaping     reap
//! waiting    Resumed              running
//! waiting    (as running, but neither Parked nor GivenBack nor Rejected)
//! stopping   Completed, Failed, RetryLater, Confirmed, Released, GivenBack   stopped
//! stopping   StopAsked, Parked, Resumed                                      stopping
//! stopping   LeaseExpired         reaping
//! reaping    StopAsked            reaping     the mark decides when the reaper is done
//! reaping    Requeued             queued      the next attempt goes on
//! reaping    Confirmed            stopped     the tree was being stopped
//! reaping    WorkerLost           failed      too many crashes in a row
//! ```
//!
//! Every other pair is illegal and is answered as a value. The Lua steps guard with the same table:
//! a test walks every pair through both.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for a time: a delay, a retry's backoff, or a job that was given back.
    Scheduled,
    /// Waits for a worker, admitted to the stream or in its session's backlog.
    Queued,
    /// A worker holds its lease and runs it.
    Running,
    /// Running, with its worker slot given back while it waits for its own jobs.
    Waiting,
    /// A stop was asked for and its worker has not confirmed yet.
    Stopping,
    /// Its lease was lost and a reaper is taking it back. People see `running` or `stopping`.
    Reaping,
    /// Ended with a result.
    Completed,
    /// Ended without a result, for a cause.
    Failed,
    /// Ended because someone asked.
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

    /// The word stored in Redis and shown to people.
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

    /// Whether the job has ended. Terminal is final.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Stopped)
    }

    /// Whether a worker holds, or a moment ago held, the job.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Running | Self::Waiting | Self::Stopping | Self::Reaping)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no state of a job")]
pub struct UnknownState(pub String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// A fact about a job, in the past tense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The time that a scheduled job waited for has come.
    Due,
    /// A worker took the job; a new attempt begins.
    Claimed,
    /// The job gave its slot back to wait for its own jobs.
    Parked,
    /// A waiting job has a slot again.
    Resumed,
    /// A draining worker handed the job back.
    Released,
    /// A worker that lacks what the job needs gave it back.
    GivenBack,
    /// No live worker can run the job.
    Rejected,
    /// Someone asked for the job, or a tree above it, to stop.
    StopAsked,
    /// The agent ended with a result.
    Completed,
    /// The agent failed for good.
    Failed,
    /// The agent failed and retries remain.
    RetryLater,
    /// The job stopped and nothing of it runs any more.
    Confirmed,
    /// The worker did not renew in time.
    LeaseExpired,
    /// The reaper put the job back for another attempt.
    Requeued,
    /// The reaper gave up after too many crashes in a row.
    WorkerLost,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 15] = [
        Self::Due,
        Self::Claimed,
        Self::Parked,
        Self::Resumed,
        Self::Released,
        Self::GivenBack,
        Self::Rejected,
        Self::StopAsked,
        Self::Completed,
        Self::Failed,
        Self::RetryLater,
        Self::Confirmed,
        Self::LeaseExpired,
        Self::Requeued,
        Self::WorkerLost,
    ];
}

/// An event that cannot happen to a job in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a job that is {state} cannot take {event:?}")]
pub struct IllegalEvent {
    /// The state the job was in.
    pub state: State,
    /// The event that was offered.
    pub event: Event,
}

/// The state after `event`, or why there is none.
///
/// Total and pure: the same table guards every step in Redis.
///
/// # Errors
///
/// [`IllegalEvent`] for every pair that the table in the module's documentation does not list.
pub fn next(state: State, event: Event) -> Result<State, IllegalEvent> {
    use Event as E;
    use State as S;

    Ok(match (state, event) {
        (S::Scheduled, E::Due) => S::Queued,
        (S::Scheduled | S::Queued, E::StopAsked) => S::Stopped,
        (S::Scheduled | S::Queued | S::Running, E::Rejected) => S::Failed,
        (S::Queued, E::Claimed) => S::Running,

        (S::Running, E::Parked) => S::Waiting,
        (S::Waiting, E::Resumed) => S::Running,
        (S::Running, E::GivenBack) => S::Scheduled,
        (S::Running | S::Waiting, E::Released) => S::Queued,
        (S::Running | S::Waiting, E::StopAsked) => S::Stopping,
        (S::Running | S::Waiting, E::Completed) => S::Completed,
        (S::Running | S::Waiting, E::Failed) => S::Failed,
        (S::Running | S::Waiting, E::RetryLater) => S::Scheduled,
        (S::Running | S::Waiting, E::Confirmed) => S::Stopped,

        // A stop that was asked for wins over however the job ends.
        (
            S::Stopping,
            E::Completed | E::Failed | E::RetryLater | E::Confirmed | E::Released | E::GivenBack,
        ) => S::Stopped,
        (S::Stopping, E::StopAsked | E::Parked | E::Resumed) => S::Stopping,

        (S::Running | S::Waiting | S::Stopping, E::LeaseExpired) => S::Reaping,
        (S::Reaping, E::StopAsked) => S::Reaping,
        (S::Reaping, E::Requeued) => S::Queued,
        (S::Reaping, E::Confirmed) => S::Stopped,
        (S::Reaping, E::WorkerLost) => S::Failed,

        (state, event) => return Err(IllegalEvent { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_is_final() {
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
    fn every_live_state_reaches_an_end_within_three_events() {
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
    fn words_are_read_back() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>(), Ok(state));
        }
    }
}
