//! Schedules, on Redis: what they are, when each is due, and what each fired last.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::operator::LastFire;
use crate::operator::Schedule;
use crate::operator::ScheduleStatus;
use crate::queue::Queue;

/// What these commands are called in messages.
const ASKED: &str = "schedules";

impl Queue {
    /// Stores a schedule; false where its name is taken.
    pub(crate) async fn store_schedule(&self, schedule: &Schedule) -> Result<bool, QueueError> {
        let json = serde_json::to_string(schedule).map_err(|error| unreadable(&error))?;
        let mut command = redis::cmd("HSETNX");
        command.arg(self.keys.schedules()).arg(&schedule.name).arg(json);
        Ok(self.link.ask(ASKED, &command).await?.parse::<u8>()? == 1)
    }

    /// One schedule; `None` for an unknown name.
    pub(crate) async fn schedule(&self, name: &str) -> Result<Option<Schedule>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.schedules()).arg(name);
        let json = self.link.ask(ASKED, &command).await?.optional_text()?;
        json.map(|json| serde_json::from_str(&json).map_err(|error| unreadable(&error))).transpose()
    }

    /// All schedules by name. One that a later release wrote and this one cannot read is left out with a warning.
    pub(crate) async fn read_schedules(&self) -> Result<Vec<ScheduleStatus>, QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.keys.schedules());
        pipeline.cmd("ZRANGE").arg(self.keys.schedules_due()).arg(0).arg(-1).arg("WITHSCORES");
        pipeline.cmd("HGETALL").arg(self.keys.schedules_last());
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let stored = answers.item()?.pairs()?;
        let mut due: BTreeMap<String, Timestamp> = scores(answers.item()?)?.into_iter().collect();
        let mut last = BTreeMap::new();
        for (name, text) in answers.item()?.pairs()? {
            last.insert(name, read_last(&text.text()?));
        }
        let mut schedules = Vec::with_capacity(stored.len());
        for (name, json) in stored {
            match serde_json::from_str(&json.text()?) {
                Ok(schedule) => schedules.push(ScheduleStatus {
                    next: due.remove(&name),
                    last: last.remove(&name).flatten(),
                    schedule,
                }),
                Err(error) => tracing::warn!(schedule = name, %error, "cannot read a schedule"),
            }
        }
        schedules.sort_by(|one, other| one.schedule.name.cmp(&other.schedule.name));
        Ok(schedules)
    }

    /// Sets when a schedule is due; `None` pauses it.
    pub(crate) async fn set_due(&self, name: &str, due: Option<Timestamp>) -> Result<(), QueueError> {
        let key = self.keys.schedules_due();
        let command = match due {
            Some(due) => redis::cmd("ZADD").arg(key).arg(due.as_millisecond()).arg(name).to_owned(),
            None => redis::cmd("ZREM").arg(key).arg(name).to_owned(),
        };
        self.link.ask(ASKED, &command).await.map(drop)
    }

    /// Sets the next instant after `due` was fired. It only moves forwards, and a schedule that was paused or removed in
    /// between stays so; without a next instant it ends, unless another process moved it.
    pub(crate) async fn advance_due(
        &self,
        name: &str,
        due: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<(), QueueError> {
        let key = self.keys.schedules_due();
        let Some(next) = next else {
            let mut command = redis::cmd("ZSCORE");
            command.arg(&key).arg(name);
            let score: Option<f64> = self.link.ask(ASKED, &command).await?.parse_optional()?;
            let is_same = score.is_some_and(|score| score as i64 == due.as_millisecond());
            return if is_same { self.set_due(name, None).await } else { Ok(()) };
        };
        let mut command = redis::cmd("ZADD");
        command.arg(key).arg("XX").arg("GT").arg(next.as_millisecond()).arg(name);
        self.link.ask(ASKED, &command).await.map(drop)
    }

    /// Schedules that are due, at most `most`, with their instants.
    pub(crate) async fn due_schedules(
        &self,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<(String, Timestamp)>, QueueError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.schedules_due()).arg("-inf").arg(now.as_millisecond()).arg("BYSCORE");
        command.arg("LIMIT").arg(0).arg(most).arg("WITHSCORES");
        scores(self.link.ask(ASKED, &command).await?)
    }

    /// Forgets a schedule; false for an unknown name.
    pub(crate) async fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        let mut pipeline = redis::pipe();
        // Not due first: a process that fires in between finds no schedule then.
        pipeline.cmd("ZREM").arg(self.keys.schedules_due()).arg(name);
        pipeline.cmd("HDEL").arg(self.keys.schedules_last()).arg(name);
        pipeline.cmd("HDEL").arg(self.keys.schedules()).arg(name);
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let (_, _, removed) = (answers.item()?, answers.item()?, answers.item()?.parse::<u8>()?);
        Ok(removed == 1)
    }

    /// The last instant that a schedule fired for, with its job.
    pub(crate) async fn last_fire(&self, name: &str) -> Result<Option<LastFire>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.schedules_last()).arg(name);
        Ok(self.link.ask(ASKED, &command).await?.optional_text()?.as_deref().and_then(read_last))
    }

    /// Stores the last instant that a schedule fired for.
    pub(crate) async fn set_last_fire(&self, name: &str, last: LastFire) -> Result<(), QueueError> {
        let mut command = redis::cmd("HSET");
        command.arg(self.keys.schedules_last()).arg(name);
        command.arg(format!("{} {}", last.at.as_millisecond(), last.id));
        self.link.ask(ASKED, &command).await.map(drop)
    }
}

/// Members and scores, which RESP3 answers in pairs.
fn scores(answer: Answer) -> Result<Vec<(String, Timestamp)>, QueueError> {
    let mut members = Vec::new();
    let mut items = answer.items()?.peekable();
    while let Some(first) = items.next() {
        let (member, score) = match first.is_list() {
            true => {
                let mut pair = first.items()?;
                (pair.item()?.text()?, pair.item()?)
            }
            false => (first.text()?, items.next().ok_or_else(|| unreadable(&"a member without a score"))?),
        };
        let score: f64 = score.parse()?;
        // Whole milliseconds, far below what a double holds exactly.
        let at = Timestamp::from_millisecond(score as i64).unwrap_or(Timestamp::MAX);
        members.push((member, at));
    }
    Ok(members)
}

/// Reads `<instant in ms> <job>`.
fn read_last(text: &str) -> Option<LastFire> {
    let (at, id) = text.split_once(' ')?;
    Some(LastFire { at: Timestamp::from_millisecond(at.parse().ok()?).ok()?, id: id.parse().ok()? })
}

fn unreadable(error: &dyn std::fmt::Display) -> QueueError {
    QueueError::Unexpected { step: ASKED, detail: error.to_string() }
}
