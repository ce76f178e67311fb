//! The operator's handle on a namespace: everything that a command, an HTTP server or a page does with jobs, sessions
//! and workers, decided here once for all of them.
//!
//! A caller of this handle sees every job of the namespace; the dispatching service sees only the jobs below its
//! caller. Callers parse what they were given, call one method, and show the answer.
//!
//! # Layout
//!
//! - `request`, `job_request` and `dispatch`: which requests are accepted, how programs write them, and storing them.
//! - `sessions`: opening, owning and leaving sessions.
//! - `find`: ids from what a person typed.
//! - `list`, `cursor`, `tree`: jobs by filter, a page at a time, and which job dispatched which.
//! - `view`: one job, its output and its turns; waiting for jobs.
//! - `staleness`: running jobs whose lease expired.
//! - `models`: which models jobs run with.
//! - `stop`, `retry`, `delete`, `send`: changing jobs, one result for each id.
//! - `questions`: what waits for a person, and answering it.
//! - `workers`: the fleet, and which lanes it serves. `pauses`: paused queues, and workers that are asked to end.
//! - `schedule`: jobs by cron expression, and firing those that are due.
//! - `signing`: the key that signs what is dispatched.
//! - `stats`: how many of all of these there are. `settings`: what the namespace agrees on.
//! - [`mod@bench`]: the queue's side of a measurement.
//!
//! # Many jobs
//!
//! An operation on many jobs is a [`Stream`](futures::Stream) with one result for each item, in the order of the
//! items. An item that fails does not end the stream: the caller decides whether to continue, and can show progress
//! after each result. Dropping the stream leaves the items that it has not answered undone.
//!
//! # Crashes
//!
//! Each item is one or several atomic steps that may be repeated. If the caller dies, items that were answered are
//! done, the current one is done or not done, and the rest is not started. A method documents what differs from that.
//!
//! No method reaps. Jobs of dead workers end only once a reaper has reclaimed them, so a caller that waits runs one
//! alongside, as every long-lived process does anyway.

pub mod bench;
mod cursor;
mod delete;
mod dispatch;
mod find;
mod job_request;
mod list;
mod models;
mod pauses;
mod questions;
mod request;
mod retry;
mod schedule;
mod send;
mod sessions;
mod settings;
mod signing;
mod staleness;
mod stats;
mod stop;
#[cfg(test)]
mod testing;
mod tree;
mod view;
mod workers;

pub use cursor::CursorError;
pub use delete::DeleteError;
pub use dispatch::DispatchError;
pub use dispatch::DispatchOrder;
pub use dispatch::Dispatched;
pub use dispatch::Dispatching;
pub use find::FindError;
pub use job_request::JobRequest;
pub use list::ListedJob;
pub use list::Listing;
pub use questions::AnswerError;
pub use questions::AnsweredQuestion;
pub use questions::Decision;
pub use questions::OpenQuestion;
pub use request::RequestError;
pub use request::check_agent;
pub use request::check_prices;
pub use request::check_request;
pub use retry::Retried;
pub use retry::RetryError;
pub use retry::RetryMode;
pub use retry::RetryPlan;
pub use schedule::CronError;
pub use schedule::LastFire;
pub use schedule::Missed;
pub use schedule::Overlap;
pub use schedule::Schedule;
pub use schedule::ScheduleError;
pub use schedule::ScheduleStatus;
pub use schedule::ShownSchedule;
pub use sessions::OwnerTerms;
pub use sessions::Ownership;
pub use sessions::SessionOptions;
pub use sessions::SessionOwner;
pub use signing::DispatcherKey;
pub use stats::AgentStats;
pub use stats::AskingStats;
pub use stats::Buckets;
pub use stats::Counted;
pub use stats::EndedStats;
pub use stats::FleetStats;
pub use stats::History;
pub use stats::QueueStats;
pub use stats::SpentStats;
pub use stats::WorkerStats;
pub use stop::StopError;
pub use stop::StopReport;
pub use tree::TreeLine;
pub use tree::tree;
pub use view::ViewError;
pub use view::ViewedJob;
pub use workers::WorkerCondition;

use std::sync::Arc;

use legwork_common::id::JobId;
use legwork_common::money::Prices;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::observer::Observer;
pub use crate::port::Cleared;
pub use crate::port::JobFilter;
pub use crate::port::Lane;
pub use crate::port::PageCursor;
pub use crate::port::SessionEnd;
pub use crate::port::StopRoot;
pub use crate::port::WorkerRecord;
pub use crate::port::WorkerReport;
use crate::queue::Queue;
use crate::service::Caller;
use crate::service::Service;

/// The hint of every error about a job that is not stored.
const SEE_LIST: &str = "`legwork list` shows the jobs that are kept";
/// The hint of every error about a job that would have to be over.
fn end_it_first(id: JobId) -> String {
    format!("`legwork stop {id}` ends it, `legwork wait {id}` waits for its end")
}

/// Where the jobs of sessions that an operator opens wait for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionLanes {
    /// In the lanes of their queues, which the fleet serves.
    Shared,
    /// In lanes of their session, which only that session's workers serve: on the embedded server, where a worker is
    /// started for each session.
    Own,
}

/// Dispatches of one program that are made together. Without a bound those of hundreds of clients wait for one connection, and
/// on a busy machine each of them takes longer than a round trip may, and fails.
const MAX_DISPATCHING: usize = 64;

/// The operator's handle on one namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operator {
    observer: Observer,
    lanes: SessionLanes,
    models: models::KnownModels,
    prices: Prices,
    key: Option<DispatcherKey>,
    // Of dispatches; shared by all clones.
    turns: Arc<Semaphore>,
}

impl Operator {
    /// The operator of the queue that `observer` watches. `lanes` holds for every session opened through this handle.
    pub fn new(observer: Observer, lanes: SessionLanes) -> Self {
        Self {
            observer,
            lanes,
            models: models::KnownModels::default(),
            prices: Prices::default(),
            key: None,
            turns: Arc::new(Semaphore::new(MAX_DISPATCHING)),
        }
    }

    /// The same with a fleet's prices.
    #[must_use]
    pub fn with_prices(self, prices: Prices) -> Self {
        Self { prices, ..self }
    }

    /// The queue with its hints, for code that needs no more than to wait for jobs.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The queue, for the workers and reapers that a program runs itself.
    pub fn queue(&self) -> &Queue {
        self.observer.queue()
    }

    /// Waits for the turn of a dispatch, which ends when the answer is dropped: 64 have one at a time. A program whose clients are
    /// not bounded takes one for each of theirs. Dispatches are bounded in time, so this is too.
    pub async fn dispatch_turn(&self) -> Option<OwnedSemaphorePermit> {
        // An error says that the semaphore is closed, which it never is.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// The service of one dispatcher, which sees only the jobs below it.
    pub fn service(&self, caller: Caller) -> Service {
        Service::new(self.observer.clone(), caller).signed_by(self.signer())
    }
}
