//! The queue's side of a measurement: a namespace of its own, jobs that do nothing, and what the server spent on them.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::service::OutputSlice;

use crate::bench::ServerCost;
use crate::error::QueueError;
use crate::link::Target;
use crate::port::Asker;
use crate::port::Dispatch as _;
use crate::port::DispatchedBy;
use crate::port::Enqueue;
use crate::port::Lane;
use crate::port::NewJob;
use crate::port::OpenSession;
use crate::port::StopRoot;
use crate::port::Watch as _;
use crate::queue::ConnectionKind;
use crate::queue::Queue;
use crate::settings::FleetSettings;

/// Jobs of one dispatch call: what a caller with many jobs would send, and half of what one step stores at most.
pub const BATCH_SIZE: usize = 100;
/// Bytes of a task: a short paragraph, as agents write it.
pub const TASK_BYTES: usize = 200;

/// Bytes of the name of a namespace: `bench-` and eight digits, enough not to meet another measurement.
const NAMESPACE_BYTES: usize = 14;

/// A measurement in progress. A crash leaves its namespace behind, whose name begins with `bench-`.
#[derive(Debug, Clone)]
pub struct Measurement {
    queue: Queue,
    session: SessionId,
    team: TeamDigest,
    agent: String,
}

impl Measurement {
    /// Connects to a new namespace, and opens one session without a cap in it.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached or refuses.
    pub async fn begin(target: &Target, settings: &FleetSettings) -> Result<Self, QueueError> {
        // Short, because it is part of every key, and figures of memory are to hold for usual namespaces.
        let mut namespace = format!("bench-{}", SessionId::random().uuid().simple());
        namespace.truncate(NAMESPACE_BYTES);
        let queue = Queue::connect(target, &namespace, settings, ConnectionKind::Dedicated).await?;
        let team = TeamDigest("0".repeat(64));
        let session = open_session(&queue, &team).await?;
        Ok(Self { queue, session, team, agent: "bench".to_owned() })
    }

    /// The same measurement with its jobs in one more session without a cap. Jobs without a team that can be read.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached or refuses.
    pub async fn another_session(&self) -> Result<Self, QueueError> {
        let session = open_session(&self.queue, &self.team).await?;
        Ok(Self { session, ..self.clone() })
    }

    /// The same measurement on connections of its own, as each worker of a fleet has them.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached or refuses.
    pub async fn another_connection(&self) -> Result<Self, QueueError> {
        let (target, namespace) = (self.queue.target(), self.queue.keys().namespace());
        let queue =
            Queue::connect(target, namespace, self.queue.settings(), ConnectionKind::Dedicated).await?;
        Ok(Self { queue, ..self.clone() })
    }

    /// Dispatches jobs of this team's agent from now on, instead of jobs without a team that can be read.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached or refuses.
    pub async fn use_team(&mut self, digest: TeamDigest, json: &str, agent: &str) -> Result<(), QueueError> {
        self.queue.store_team(self.session, &digest, json).await?;
        (self.team, self.agent) = (digest, agent.to_owned());
        Ok(())
    }

    /// Asks for the stop of a job, as an operator.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn stop(&self, id: JobId) -> Result<(), QueueError> {
        self.queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.map(drop)
    }

    /// Asks for the stop of all jobs of the measurement, as an operator.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn stop_all(&self) -> Result<(), QueueError> {
        let root = StopRoot::Session { id: self.session, close: false };
        self.queue.stop(root, Asker::Operator, Cause::Operator).await.map(drop)
    }

    /// Bytes of memory that the whole server uses.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached, or does not let this user ask for `INFO`.
    pub async fn used_memory(&self) -> Result<f64, QueueError> {
        self.queue.used_memory().await
    }

    /// The queue, for the worker that is measured.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The lane that the jobs wait in.
    pub fn lane(&self) -> Lane {
        Lane::Queue(JobOptions::default().queue)
    }

    /// Dispatches `count` jobs in batches of [`BATCH_SIZE`]; their ids in the order of dispatch.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached, or refuses a batch.
    pub async fn dispatch(&self, count: usize) -> Result<Vec<JobId>, QueueError> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let jobs: Vec<NewJob> = (0..BATCH_SIZE.min(count - ids.len())).map(|_| self.job()).collect();
            ids.extend(jobs.iter().map(|job| job.id));
            let (session, team) = (self.session, self.team.clone());
            let request = Enqueue { session, by: DispatchedBy::Root, team, jobs, signer: None };
            if let Err(refusal) = self.queue.enqueue(&request).await? {
                return Err(QueueError::Unexpected { step: "enqueue", detail: format!("{refusal:?}") });
            }
        }
        Ok(ids)
    }

    /// Output of a job from `offset` on, as a follower reads it: at most `most` bytes.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn output(&self, id: JobId, offset: u64, most: usize) -> Result<OutputSlice, QueueError> {
        self.queue.output(id, offset, most).await
    }

    /// How many of the jobs have not ended.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn unfinished(&self) -> Result<u64, QueueError> {
        self.queue.unfinished().await
    }

    /// What the server has spent since it started.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn server_cost(&self) -> Result<ServerCost, QueueError> {
        self.queue.server_cost().await
    }

    /// What `count` entries of a task's size cost on a bare stream.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn bare_stream(&self, count: u32) -> Result<ServerCost, QueueError> {
        self.queue.bare_stream(count, TASK_BYTES).await
    }

    /// How long bare wake-ups take, `count` of them. Only while no worker waits for jobs.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn bare_wake_ups(&self, count: usize) -> Result<Vec<Duration>, QueueError> {
        self.queue.bare_wake_ups(count).await
    }

    /// Deletes the namespace.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; then some of its keys are left.
    pub async fn end(self) -> Result<(), QueueError> {
        self.queue.drop_namespace().await
    }

    fn job(&self) -> NewJob {
        NewJob {
            id: JobId::random_in(self.session),
            spec: JobSpec::new(self.agent.clone(), "x".repeat(TASK_BYTES), self.team.clone()),
            job_options: JobOptions::default(),
            idempotency_key: None,
            again: false,
        }
    }
}

/// Opens a session without a cap, with a team that cannot be read.
async fn open_session(queue: &Queue, team: &TeamDigest) -> Result<SessionId, QueueError> {
    let session = SessionId::random();
    queue.open(&OpenSession::unlimited(session)).await?;
    queue.store_team(session, team, "{}").await?;
    Ok(session)
}
