//! Parsing and formatting of durations, for users and models.

use std::time::Duration;

use thiserror::Error;

/// Formats a duration in whole seconds, rounded down: `42s`, `1m5s`, `2h0m3s`. This is the format of the
/// tools' texts, which have no unit above the hour.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Formats a setting or a limit as it is written in options, in the units that it has: `45s`, `1h`, `1h30m`, `7d`.
/// [`parse`] reads it back, to the millisecond.
pub fn setting(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [
        (ms / 86_400_000, "d"),
        (ms / 3_600_000 % 24, "h"),
        (ms / 60_000 % 60, "m"),
        (ms / 1000 % 60, "s"),
        (ms % 1000, "ms"),
    ];
    let text: String =
        units.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Formats an age for a column of a table, with the two largest units: `42s`, `5m12s`, `3h4m`, `2d5h`, `400d`.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, seconds / 3600) {
        (0, 0) => short(duration),
        (0, _) => format!("{hours}h{minutes}m"),
        (1..100, _) => format!("{days}d{hours}h"),
        (100.., _) => format!("{days}d"),
    }
}

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a duration; examples: 30s, 5m, 1h30m, 7d")]
pub struct ParseDurationError(pub String);

/// Parses `30s`, `500ms`, `5m`, `1h30m` or `7d`. A number without a unit is a number of seconds.
///
/// # Errors
///
/// [`ParseDurationError`] for any other text, and for more than 1000 years, so that adding a duration to a
/// time cannot overflow.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let invalid = || ParseDurationError(text.to_owned());
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(invalid()),
        };
        rest = &rest[letters..];
        let added = number.checked_mul(unit).ok_or_else(invalid)?;
        total = total.checked_add(added).ok_or_else(invalid)?;
    }
    const THOUSAND_YEARS_MS: u64 = 31_557_600_000_000;
    if total > THOUSAND_YEARS_MS {
        return Err(invalid());
    }
    Ok(Duration::from_millis(total))
}

/// Text that is not the duration of a limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseLimitError {
    /// It is not a duration at all.
    #[error(transparent)]
    Duration(#[from] ParseDurationError),
    /// It is zero, which nothing could keep.
    #[error("a limit of 0 would be over at once; leave it out for no limit")]
    Zero,
}

/// Parses a limit such as a timeout: a duration as for [`parse`], longer than zero.
///
/// # Errors
///
/// [`ParseLimitError`] for zero and for text that is not a duration.
pub fn parse_limit(text: &str) -> Result<Duration, ParseLimitError> {
    let limit = parse(text)?;
    if limit.is_zero() { Err(ParseLimitError::Zero) } else { Ok(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_whole_seconds() {
        for (seconds, text) in [(0, "0s"), (42, "42s"), (65, "1m5s"), (7203, "2h0m3s"), (90_000, "25h0m0s")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_setting_is_formatted_as_it_is_written() {
        for text in ["0s", "500ms", "45s", "1m", "1h", "1h30m", "7d", "1d2h3m4s5ms"] {
            assert_eq!(setting(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn an_age_has_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (42, "42s"),
            (312, "5m12s"),
            (11_045, "3h4m"),
            (190_800, "2d5h"),
            (34_560_000, "400d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        for text in ["0", "0s", "0h0m0ms"] {
            assert_eq!(parse_limit(text), Err(ParseLimitError::Zero), "{text}");
        }
        assert_eq!(parse_limit("1ms"), Ok(Duration::from_millis(1)));
        assert!(matches!(parse_limit("soon"), Err(ParseLimitError::Duration(_))));
    }

    #[test]
    fn parses_combined_units_and_rejects_other_text() {
        for (text, ms) in
            [("30s", 30_000), ("500ms", 500), ("1h30m", 5_400_000), ("7d", 604_800_000), ("12", 12_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "h", "1x", "-3s", "1h30", "99999999999999999999s", "9999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
