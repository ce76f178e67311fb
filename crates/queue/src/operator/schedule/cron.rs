//! When a schedule fires: cron expressions in a time zone, daylight saving included. Pure.
//!
//! A schedule with fixed hours, such as `30 2 * * *`, means times on the clock of its zone. A time that the clock skips in
//! spring fires as much later as the clock is moved (at 03:30), a time that comes twice in autumn fires the first time
//! only. A schedule whose hour begins with `*` means intervals, and follows real time through both.

use cronexpr::Crontab;
use cronexpr::MakeTimestamp;
use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use thiserror::Error;

/// The most that a clock is moved at once, with room: two hours is the most in use.
const MAX_SHIFT: SignedDuration = SignedDuration::from_hours(3);
/// Times that one search checks: those of every minute within twice [`MAX_SHIFT`], and one more.
const MAX_STEPS: usize = 361;

/// Why an expression or a zone cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronError {
    /// The expression is wrong.
    #[error("`{cron}` is not a cron expression: {detail}")]
    Expression {
        /// The expression.
        cron: String,
        /// What is wrong, in one line.
        detail: String,
    },
    /// There is no such time zone.
    #[error("there is no time zone {0}")]
    Zone(String),
}

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub(super) struct Cron {
    crontab: Crontab,
    zone: TimeZone,
    /// Whether the crontab's times are those on a clock without a zone, to be looked up in the zone.
    is_civil: bool,
}

impl Cron {
    /// Reads five fields (minute, hour, day of the month, month, day of the week) and an IANA name.
    ///
    /// # Errors
    ///
    /// [`CronError`] for either.
    pub(super) fn new(cron: &str, zone: &str) -> Result<Self, CronError> {
        let known = TimeZone::get(zone).map_err(|_| CronError::Zone(zone.to_owned()))?;
        let wrong = |detail: String| CronError::Expression { cron: cron.to_owned(), detail };
        let fields: Vec<&str> = cron.split_whitespace().collect();
        let [_, hour, ..] = fields[..] else { return Err(wrong("it needs five fields".to_owned())) };
        if fields.len() != 5 {
            return Err(wrong(format!("it has {} fields instead of five", fields.len())));
        }
        let is_civil = !hour.starts_with('*');
        let text = format!("{} {}", fields.join(" "), if is_civil { "UTC" } else { zone });
        let crontab = cronexpr::parse_crontab(&text).map_err(|error| {
            let lines = error.to_string();
            wrong(lines.lines().next_back().unwrap_or_default().trim().to_owned())
        })?;
        Ok(Self { crontab, zone: known, is_civil })
    }

    /// The first instant after this one; `None` where there is none, such as for the 30th of February.
    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        if !self.is_civil {
            let next = self.crontab.find_next(MakeTimestamp(after)).ok()?;
            return Some(next.timestamp());
        }
        // The clock's time as if it were UTC's, and earlier, because the clock may have been moved since: a time before that
        // may be an instant after it.
        let civil = after.to_zoned(self.zone.clone()).datetime().to_zoned(TimeZone::UTC).ok()?.timestamp();
        let times = self.crontab.iter_after(MakeTimestamp(civil.checked_sub(MAX_SHIFT).ok()?)).ok()?;
        let (mut earliest, mut until): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        for time in times.take(MAX_STEPS).map_while(Result::ok) {
            // Where the clock is moved, a later time may be an earlier instant.
            if until.is_some_and(|until| time.timestamp() > until) {
                break;
            }
            let instant = self.zone.to_ambiguous_zoned(time.datetime()).compatible().ok()?.timestamp();
            if instant > after {
                earliest = Some(earliest.map_or(instant, |earliest| earliest.min(instant)));
                until = until.or(time.timestamp().checked_add(MAX_SHIFT).ok());
            }
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next three instants, on the zone's clock.
    fn next(cron: &str, zone: &str, after: &str) -> Vec<String> {
        let cron = Cron::new(cron, zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        (0..3)
            .map_while(|_| {
                at = cron.next_after(at)?;
                Some(at.to_zoned(TimeZone::get(zone).unwrap()).strftime("%m-%d %H:%M %:z").to_string())
            })
            .collect()
    }

    #[test]
    fn fixed_hours_fire_once_through_changes_of_the_clock_and_intervals_follow_real_time() {
        for (cron, after, expected) in [
            // 02:30 does not exist on 29 March 2026, when the clock goes from 02:00 to 03:00.
            (
                "30 2 * * *",
                "2026-03-27T12:00:00Z",
                "03-28 02:30 +01:00, 03-29 03:30 +02:00, 03-30 02:30 +02:00",
            ),
            // 02:30 comes twice on 25 October 2026.
            (
                "30 2 * * *",
                "2026-10-24T12:00:00Z",
                "10-25 02:30 +02:00, 10-26 02:30 +01:00, 10-27 02:30 +01:00",
            ),
            // Asked between the two, it is tomorrow.
            (
                "30 2 * * *",
                "2026-10-25T00:45:00Z",
                "10-26 02:30 +01:00, 10-27 02:30 +01:00, 10-28 02:30 +01:00",
            ),
            (
                "0 7 * * 1-5",
                "2026-11-27T12:00:00Z",
                "11-30 07:00 +01:00, 12-01 07:00 +01:00, 12-02 07:00 +01:00",
            ),
            // Intervals follow real time.
            (
                "30 * * * *",
                "2026-03-29T00:00:00Z",
                "03-29 01:30 +01:00, 03-29 03:30 +02:00, 03-29 04:30 +02:00",
            ),
            (
                "30 * * * *",
                "2026-10-25T00:00:00Z",
                "10-25 02:30 +02:00, 10-25 02:30 +01:00, 10-25 03:30 +01:00",
            ),
        ] {
            assert_eq!(next(cron, "Europe/Berlin", after).join(", "), expected, "{cron} after {after}");
        }
    }

    #[test]
    fn other_zones_and_rare_times() {
        assert_eq!(
            next("* 8-18 * * 1-5", "Europe/Berlin", "2026-11-27T17:59:30Z"),
            ["11-30 08:00 +01:00", "11-30 08:01 +01:00", "11-30 08:02 +01:00"]
        );
        assert_eq!(
            next("10,50 2,3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z"),
            ["03-29 03:10 +02:00", "03-29 03:50 +02:00", "03-30 02:10 +02:00"]
        );
        assert_eq!(next("0 0 29 2 *", "UTC", "2027-01-01T00:00:00Z")[0], "02-29 00:00 +00:00");
        assert_eq!(next("0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z")[0], "01-01 09:00 +05:30");
        // On Lord Howe the clock moves by half an hour.
        assert_eq!(
            next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z")[0],
            "10-04 02:45 +11:00"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (cron, zone, expected) in [
            ("0 7 * *", "UTC", "`0 7 * *` is not a cron expression: it has 4 fields instead of five"),
            ("", "UTC", "`` is not a cron expression: it needs five fields"),
            ("0 7 * * 1", "Mars/Olympus", "there is no time zone Mars/Olympus"),
        ] {
            assert_eq!(Cron::new(cron, zone).unwrap_err().to_string(), expected);
        }
        assert!(Cron::new("61 7 * * *", "UTC").is_err());
    }
}
