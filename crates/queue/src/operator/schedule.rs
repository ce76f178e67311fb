//! Schedules: jobs that are dispatched by a cron expression, once for each name and instant, by any process that reaps.

mod cron;
mod fire;

use std::time::Duration;

use cron::Cron;
pub use cron::CronError;
use jiff::Timestamp;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::job::JobOptions;
use legwork_common::job::Priority;
use legwork_common::job::optional_rfc3339;
use legwork_common::job::rfc3339;
use legwork_common::money::SpendingLimit;
use legwork_common::webhook::WebhookUrl;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::DispatchError;
use crate::operator::Operator;
use crate::operator::SessionLanes;

/// What happens to instants that passed while no process was there to fire them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing.
    #[default]
    Skip,
    /// One job for all of them.
    One,
    /// One job for each, at most the last hundred.
    All,
}

/// What happens where the job of the instant before has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// Both run.
    Allow,
    /// The new one is left out.
    #[default]
    Skip,
    /// The old one is stopped.
    Stop,
}

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name, unique in the namespace.
    pub name: String,
    /// Five fields.
    pub cron: String,
    /// The IANA name of its time zone.
    pub zone: String,
    /// What happens to missed instants.
    pub missed: Missed,
    /// What happens where the last job still runs.
    pub overlap: Overlap,
    /// The agent.
    pub agent: String,
    /// The task.
    pub task: String,
    /// What the answer should look like.
    pub expected_output: Option<String>,
    /// The queue.
    pub queue: String,
    /// The priority.
    pub priority: Priority,
    /// The longest that a job may run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How many times a job is retried after a failure.
    pub retries: u32,
    /// The delay before the first retry, in milliseconds.
    pub retry_delay_ms: u64,
    /// The budget of a job.
    pub budget: Option<SpendingLimit>,
    /// Where the end of a job is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<WebhookUrl>,
    /// The team as its jobs store it.
    pub team_json: String,
}

impl Schedule {
    /// The options of its jobs.
    pub(crate) fn job_options(&self) -> JobOptions {
        JobOptions {
            queue: self.queue.clone(),
            priority: self.priority,
            delay: Duration::ZERO,
            timeout: self.timeout_ms.map(Duration::from_millis),
            retries: self.retries,
            retry_delay: Duration::from_millis(self.retry_delay_ms),
            budget: self.budget,
            notify: self.notify.clone(),
        }
    }
}

/// A schedule, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleStatus {
    /// The schedule.
    pub schedule: Schedule,
    /// When it fires next; `None` while it is paused, and where no time matches any more.
    pub next: Option<Timestamp>,
    /// The last instant that it fired for, and the job.
    pub last: Option<LastFire>,
}

/// An instant that a schedule fired for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastFire {
    /// The instant, not the moment at which a process handled it.
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    /// The job.
    pub id: JobId,
}

/// What faces show of a schedule: everything but its team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownSchedule<'a> {
    name: &'a str,
    cron: &'a str,
    zone: &'a str,
    missed: Missed,
    overlap: Overlap,
    agent: &'a str,
    task: &'a str,
    queue: &'a str,
    paused: bool,
    #[serde(serialize_with = "optional_rfc3339")]
    next_at: Option<Timestamp>,
    last: Option<LastFire>,
}

impl ScheduleStatus {
    /// The schedule as an object in JSON.
    pub fn shown(&self) -> ShownSchedule<'_> {
        let schedule = &self.schedule;
        ShownSchedule {
            name: &schedule.name,
            cron: &schedule.cron,
            zone: &schedule.zone,
            missed: schedule.missed,
            overlap: schedule.overlap,
            agent: &schedule.agent,
            task: &schedule.task,
            queue: &schedule.queue,
            paused: self.next.is_none(),
            next_at: self.next,
            last: self.last,
        }
    }
}

/// Why a schedule cannot be changed or run.
#[derive(Debug, Error)]
pub enum ScheduleError {
    /// There is no schedule of this name.
    #[error("schedule not found: {0}")]
    NotFound(String),
    /// There is one of this name already.
    #[error("there is a schedule {0} already")]
    Exists(String),
    /// The expression or the zone is wrong.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// No time matches the expression.
    #[error("no time matches `{0}`")]
    Never(String),
    /// The jobs of this machine's server have workers for each session only.
    #[error("schedules need a fleet: the embedded server has no workers while no command uses it")]
    Embedded,
    /// Its job could not be dispatched.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// Redis could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for ScheduleError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Exists(_) => "schedule_exists",
            Self::Cron(_) | Self::Never(_) | Self::Embedded => "usage",
            Self::Dispatch(error) => error.code(),
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::Exists(_) => ExitStatus::Conflict,
            Self::Cron(_) | Self::Never(_) | Self::Embedded => ExitStatus::Usage,
            Self::Dispatch(error) => error.exit(),
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some("`legwork schedule list` shows all".to_owned()),
            Self::Exists(name) => Some(format!("`legwork schedule remove {name}` removes it")),
            Self::Cron(CronError::Expression { .. }) => {
                Some("minute, hour, day of the month, month, day of the week: '0 7 * * 1-5'".to_owned())
            }
            Self::Cron(CronError::Zone(_)) => Some("use an IANA name such as Europe/Berlin".to_owned()),
            Self::Never(_) => None,
            Self::Embedded => Some("start a Redis and workers, and name it with --redis".to_owned()),
            Self::Dispatch(error) => error.hint(),
            Self::Queue(error) => error.hint(),
        }
    }
}

impl Operator {
    /// Stores a schedule, and returns when it fires first. A crash in between leaves it stored and paused.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] for a wrong expression, a name that is taken, the embedded server, or when Redis cannot be
    /// reached.
    pub async fn add_schedule(&self, schedule: &Schedule) -> Result<Timestamp, ScheduleError> {
        if self.lanes == SessionLanes::Own {
            return Err(ScheduleError::Embedded);
        }
        let next = self.next_of(schedule).await?;
        if !self.queue().store_schedule(schedule).await? {
            return Err(ScheduleError::Exists(schedule.name.clone()));
        }
        self.queue().set_due(&schedule.name, Some(next)).await?;
        Ok(next)
    }

    /// All schedules, by name.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn schedules(&self) -> Result<Vec<ScheduleStatus>, QueueError> {
        self.queue().read_schedules().await
    }

    /// Ends the firing of a schedule. What runs continues.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] for an unknown name, or when Redis cannot be reached.
    pub async fn pause_schedule(&self, name: &str) -> Result<(), ScheduleError> {
        self.schedule(name).await?;
        Ok(self.queue().set_due(name, None).await?)
    }

    /// Lets a schedule fire again, from now on: what it missed while it was paused is not made up for.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] for an unknown name, or when Redis cannot be reached.
    pub async fn resume_schedule(&self, name: &str) -> Result<Timestamp, ScheduleError> {
        let schedule = self.schedule(name).await?;
        let next = self.next_of(&schedule).await?;
        self.queue().set_due(name, Some(next)).await?;
        Ok(next)
    }

    /// Forgets a schedule. What runs continues.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] for an unknown name, or when Redis cannot be reached.
    pub async fn remove_schedule(&self, name: &str) -> Result<(), ScheduleError> {
        let is_removed = self.queue().drop_schedule(name).await?;
        if is_removed { Ok(()) } else { Err(ScheduleError::NotFound(name.to_owned())) }
    }

    /// Dispatches the job of a schedule now, also where it is paused or its last job runs. It fires at its next instant
    /// all the same.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] for an unknown name, or when the job cannot be dispatched.
    pub async fn run_schedule_now(&self, name: &str) -> Result<JobId, ScheduleError> {
        let schedule = self.schedule(name).await?;
        self.dispatch_of(&schedule, None).await
    }

    async fn schedule(&self, name: &str) -> Result<Schedule, ScheduleError> {
        self.queue().schedule(name).await?.ok_or_else(|| ScheduleError::NotFound(name.to_owned()))
    }

    async fn next_of(&self, schedule: &Schedule) -> Result<Timestamp, ScheduleError> {
        let cron = Cron::new(&schedule.cron, &schedule.zone)?;
        let now = self.queue().now().await?;
        cron.next_after(now).ok_or_else(|| ScheduleError::Never(schedule.cron.clone()))
    }
}
