//! What was dispatched and what ended over the last hour and the last day, in buckets: the numbers of charts.

use std::time::Duration;

use jiff::Timestamp;
use legwork_common::job::rfc3339;
use legwork_common::lifecycle::State;
use legwork_common::money::Money;
use serde::Serialize;

use super::Spent;
use crate::queue::JobFacts;

/// An hour in minutes.
const HOUR: (Duration, u32) = (Duration::from_secs(60), 60);
/// A day in quarters of an hour.
const DAY: (Duration, u32) = (Duration::from_secs(15 * 60), 96);

/// What was dispatched and what ended, over time, as of one reading. Of a day in which more than 50,000 jobs ended, the
/// earlier part is not counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// The last hour, by the minute.
    pub hour: Buckets,
    /// The last day, by the quarter of an hour.
    pub day: Buckets,
}

/// Numbers by time, the oldest first. Buckets begin at whole multiples of their length; the last one is not over.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Buckets {
    /// The length of each, in milliseconds.
    pub bucket_ms: u64,
    /// When the first begins.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
    /// Jobs that were dispatched.
    pub dispatched: Vec<u64>,
    /// Jobs that completed.
    pub completed: Vec<u64>,
    /// Jobs that failed.
    pub failed: Vec<u64>,
    /// Jobs that were stopped.
    pub stopped: Vec<u64>,
    /// Input tokens of the jobs that ended.
    pub input_tokens: Vec<u64>,
    /// Output tokens of the jobs that ended.
    pub output_tokens: Vec<u64>,
    /// What those with a known price cost.
    pub cost_usd: Vec<Money>,
}

impl History {
    /// Counts jobs that live and jobs that ended, each of the latter with what it cost.
    pub(super) fn of(live: &[JobFacts], ended: &[JobFacts], spent: &[Spent], now: Timestamp) -> Self {
        let counted = |span| {
            let mut buckets = Buckets::empty(span, now);
            live.iter().chain(ended).for_each(|job| buckets.add_dispatch(job));
            ended.iter().zip(spent).for_each(|(job, spent)| buckets.add_end(job, spent));
            buckets
        };
        Self { hour: counted(HOUR), day: counted(DAY) }
    }
}

impl Buckets {
    fn empty((length, count): (Duration, u32), now: Timestamp) -> Self {
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let last = now.as_millisecond().div_euclid(length);
        let since = last.saturating_sub(i64::from(count) - 1).saturating_mul(length);
        let zeros = vec![0; count as usize];
        Self {
            bucket_ms: length.unsigned_abs(),
            since: Timestamp::from_millisecond(since).unwrap_or(Timestamp::UNIX_EPOCH),
            dispatched: zeros.clone(),
            completed: zeros.clone(),
            failed: zeros.clone(),
            stopped: zeros.clone(),
            input_tokens: zeros.clone(),
            output_tokens: zeros,
            cost_usd: vec![Money::default(); count as usize],
        }
    }

    /// The place of a moment; past the end for one that is not in any bucket.
    fn place(&self, at: Timestamp) -> usize {
        let since = at.as_millisecond().saturating_sub(self.since.as_millisecond());
        let place = u64::try_from(since).ok().map(|since| since / self.bucket_ms);
        place.and_then(|place| usize::try_from(place).ok()).unwrap_or(usize::MAX)
    }

    fn add_dispatch(&mut self, job: &JobFacts) {
        let place = self.place(job.created);
        count(&mut self.dispatched, place, 1);
    }

    fn add_end(&mut self, job: &JobFacts, spent: &Spent) {
        let Some(finished) = job.finished else { return };
        let place = self.place(finished);
        match job.state {
            State::Completed => count(&mut self.completed, place, 1),
            State::Failed => count(&mut self.failed, place, 1),
            State::Stopped => count(&mut self.stopped, place, 1),
            _ => return,
        }
        count(&mut self.input_tokens, place, job.usage.input_tokens);
        count(&mut self.output_tokens, place, job.usage.output_tokens);
        if let Some(cost) = self.cost_usd.get_mut(place) {
            *cost = cost.plus(spent.cost.unwrap_or_default());
        }
    }
}

fn count(numbers: &mut [u64], place: usize, more: u64) {
    if let Some(number) = numbers.get_mut(place) {
        *number = number.saturating_add(more);
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::job::TeamDigest;
    use legwork_common::job::Usage;

    use super::*;

    const NOW: &str = "2026-11-28T12:00:30Z";

    fn job(state: State, created: &str, finished: Option<&str>) -> JobFacts {
        JobFacts {
            state,
            queue: "default".to_owned(),
            agent: "a".to_owned(),
            created: created.parse().unwrap(),
            finished: finished.map(|time| time.parse().unwrap()),
            cause: None,
            session: None,
            team: TeamDigest(String::new()),
            usage: Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() },
        }
    }

    #[test]
    fn jobs_count_where_they_were_dispatched_and_where_they_ended() {
        let live = [job(State::Queued, "2026-11-28T12:00:00Z", None)];
        let ended = [
            job(State::Completed, "2026-11-28T11:59:59Z", Some("2026-11-28T12:00:01Z")),
            job(State::Failed, "2026-11-27T10:00:00Z", Some("2026-11-28T11:01:00Z")),
            // A minute too early for the hour, and beyond the day.
            job(State::Stopped, "2026-11-28T11:00:59Z", Some("2026-11-28T11:00:59Z")),
            job(State::Stopped, "2026-11-20T11:00:00Z", Some("2026-11-27T11:00:00Z")),
        ];
        let spent = vec![Spent::default(); ended.len()];
        let History { hour, day } = History::of(&live, &ended, &spent, NOW.parse().unwrap());
        assert_eq!((hour.bucket_ms, hour.since.to_string()), (60_000, "2026-11-28T11:01:00Z".to_owned()));
        assert_eq!((hour.dispatched.len(), hour.dispatched[58], hour.dispatched[59]), (60, 1, 1));
        assert_eq!((hour.completed[59], hour.failed[0]), (1, 1));
        assert_eq!(hour.stopped.iter().sum::<u64>(), 0);
        assert_eq!((hour.input_tokens[59], hour.output_tokens[0]), (10, 2));
        assert_eq!((day.since.to_string(), day.completed.len()), ("2026-11-27T12:15:00Z".to_owned(), 96));
        assert_eq!((day.completed[95], day.failed[91], day.stopped[91]), (1, 1, 1));
        assert_eq!((day.dispatched.iter().sum::<u64>(), day.stopped.iter().sum::<u64>()), (3, 1));
    }
}
