//! Firing: which instants are due, and one job for each, however many processes fire at once.
//!
//! A job's idempotency key is the schedule's name and the instant, so two processes that fire the same instant find the
//! same job. The next instant is stored after that, and only forwards: a process that dies in between leaves the instant
//! due, and the next one finds its job.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::team::Team;

use crate::error::QueueError;
use crate::operator::DispatchError;
use crate::operator::DispatchOrder;
use crate::operator::Operator;
use crate::operator::SessionOptions;
use crate::operator::StopRoot;
use crate::operator::schedule::Cron;
use crate::operator::schedule::LastFire;
use crate::operator::schedule::Missed;
use crate::operator::schedule::Overlap;
use crate::operator::schedule::Schedule;
use crate::operator::schedule::ScheduleError;
use crate::port::Watch as _;

/// How late an instant may be and still not count as missed: longer than a restart of a fleet's last worker.
const GRACE: Duration = Duration::from_secs(60);
/// Missed instants that are made up for at most.
const MAX_MISSED: usize = 100;
/// Instants that are checked one after the other: those of every minute for a day.
const MAX_STEPS: usize = 1440;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Schedules that one round fires; the rest are due in the next one.
const BATCH_SIZE: usize = 20;

/// What is due of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    /// The instants to fire, the earliest first.
    instants: Vec<Timestamp>,
    /// When it fires after that; `None` where no time matches any more.
    next: Option<Timestamp>,
}

/// Decides which instants from `due` to `now` fire.
fn decide(cron: &Cron, missed: Missed, due: Timestamp, now: Timestamp) -> Due {
    let mut instants = vec![due];
    let mut next = cron.next_after(due);
    // The last ones are kept: after a month without a worker the first hundred minutes are of no use.
    let mut steps = 0;
    while let Some(instant) = next.filter(|instant| *instant <= now) {
        steps += 1;
        if instants.len() == MAX_MISSED {
            instants.remove(0);
        }
        instants.push(instant);
        // After a long absence the rest is looked for within the last day.
        let from = if steps == MAX_STEPS { instant.max(now - DAY) } else { instant };
        next = cron.next_after(from);
    }
    let is_recent = |instant: &Timestamp| now.duration_since(*instant).unsigned_abs() <= GRACE;
    match missed {
        Missed::All => {}
        Missed::One => instants = instants.split_off(instants.len() - 1),
        Missed::Skip => instants.retain(is_recent),
    }
    Due { instants, next }
}

impl Operator {
    /// Fires what is due. Any process that reaps calls this; it needs no lock. Errors of one schedule are logged and the
    /// next round is the retry.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn fire_schedules(&self) -> Result<(), QueueError> {
        let now = self.queue().now().await?;
        for (name, due) in self.queue().due_schedules(now, BATCH_SIZE).await? {
            let Some(schedule) = self.queue().schedule(&name).await? else { continue };
            if let Err(error) = self.fire(&schedule, due, now).await {
                tracing::warn!(schedule = name, %error, "could not fire a schedule");
            }
        }
        Ok(())
    }

    async fn fire(&self, schedule: &Schedule, due: Timestamp, now: Timestamp) -> Result<(), ScheduleError> {
        let cron = Cron::new(&schedule.cron, &schedule.zone)?;
        let Due { instants, next } = decide(&cron, schedule.missed, due, now);
        for instant in instants {
            self.fire_instant(schedule, instant).await?;
        }
        Ok(self.queue().advance_due(&schedule.name, due, next).await?)
    }

    /// Dispatches the job of one instant, unless that was done, or the last job still runs and the schedule skips then.
    async fn fire_instant(&self, schedule: &Schedule, instant: Timestamp) -> Result<(), ScheduleError> {
        let last = self.queue().last_fire(&schedule.name).await?;
        // Another process has fired it. The last job is the instant's own then, and must not be stopped.
        if last.is_some_and(|last| last.at >= instant) {
            return Ok(());
        }
        if let Some(running) = self.still_running(last).await? {
            match schedule.overlap {
                Overlap::Allow => {}
                Overlap::Skip => {
                    tracing::info!(schedule = schedule.name, id = %running, "the last job still runs; skipped");
                    return Ok(());
                }
                Overlap::Stop => {
                    // One that ended and was deleted in between is as good as stopped.
                    self.stop(StopRoot::Job(running)).await.map(drop).or_else(|error| match error {
                        crate::operator::StopError::NotFound { .. } => Ok(()),
                        other => Err(DispatchError::Service(ServiceError::Unavailable(Box::new(other)))),
                    })?;
                }
            }
        }
        let id = self.dispatch_of(schedule, Some(instant)).await?;
        Ok(self.queue().set_last_fire(&schedule.name, LastFire { at: instant, id }).await?)
    }

    async fn still_running(&self, last: Option<LastFire>) -> Result<Option<JobId>, QueueError> {
        let Some(last) = last else { return Ok(None) };
        let state = self.queue().states(&[last.id]).await?.pop().flatten();
        Ok(state.filter(|state| !state.is_terminal()).map(|_| last.id))
    }

    /// Dispatches a schedule's job into a new session: for an instant once, without one each time.
    pub(super) async fn dispatch_of(
        &self,
        schedule: &Schedule,
        instant: Option<Timestamp>,
    ) -> Result<JobId, ScheduleError> {
        let unreadable = |error: &dyn std::fmt::Display| QueueError::Unexpected {
            step: "schedule",
            detail: error.to_string(),
        };
        let team: Team = serde_json::from_str(&schedule.team_json).map_err(|error| unreadable(&error))?;
        let digest = team.sha256().map_err(|error| unreadable(&error))?;
        let order = DispatchOrder {
            session: None,
            options: SessionOptions::new(None, None, team.token_budget()),
            team: Arc::new(team),
            team_json: Arc::from(schedule.team_json.as_str()),
            digest: TeamDigest(digest),
            working_dir: None,
            policy: Arc::new(Policy::default()),
            trace: None,
            approvals: None,
        };
        let request = RunRequest {
            safety: None,
            agent: schedule.agent.clone(),
            task: schedule.task.clone(),
            expected_output: schedule.expected_output.clone(),
            call: None,
            key: instant.map(|instant| format!("schedule {} {instant}", schedule.name)),
            job_options: Some(schedule.job_options()),
        };
        let dispatched = self.unsigned().dispatch(order, vec![request]).await?;
        let answer = dispatched.batch.answers.into_iter().next();
        match answer {
            Some(Ok(id)) => Ok(id),
            // A schedule of the same name was removed and added again with another task: its instant was fired.
            Some(Err(ServiceError::Conflict { id, .. })) => Ok(id),
            Some(Err(error)) => Err(DispatchError::from(error).into()),
            None => Err(unreadable(&"no answer").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_instants_are_skipped_merged_or_made_up_for() {
        let cron = Cron::new("0 * * * *", "UTC").unwrap();
        let at = |text: &str| -> Timestamp { format!("2026-05-01T{text}Z").parse().unwrap() };
        let hours = |due: &Due| -> Vec<String> {
            due.instants.iter().map(|instant| instant.strftime("%H:%M").to_string()).collect()
        };
        for (missed, now, expected) in [
            (Missed::Skip, "08:00:30", vec!["08:00"]),
            (Missed::Skip, "08:30:00", vec![]),
            (Missed::Skip, "10:00:30", vec!["10:00"]),
            (Missed::One, "10:30:00", vec!["10:00"]),
            (Missed::All, "10:30:00", vec!["08:00", "09:00", "10:00"]),
            (Missed::All, "08:00:00", vec!["08:00"]),
        ] {
            let due = decide(&cron, missed, at("08:00:00"), at(now));
            assert_eq!(hours(&due), expected, "{missed:?} {now}");
            let now = at(now);
            assert!(
                due.next.unwrap() > now && due.next.unwrap() <= now + Duration::from_secs(3600),
                "{missed:?}"
            );
        }
    }

    #[test]
    fn a_long_absence_is_bounded() {
        let cron = Cron::new("* * * * *", "UTC").unwrap();
        let due: Timestamp = "2026-05-01T00:00:00Z".parse().unwrap();
        let found = decide(&cron, Missed::All, due, "2026-06-02T00:00:00Z".parse().unwrap());
        assert_eq!(found.instants.len(), MAX_MISSED);
        assert_eq!(found.instants.last().unwrap().to_string(), "2026-06-02T00:00:00Z");
        assert_eq!(found.next.unwrap().to_string(), "2026-06-02T00:01:00Z");
    }
}
