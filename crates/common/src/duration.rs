//! Durations as people and models write and read them.

use std::time::Duration;

use thiserror::Error;

/// Whole seconds as `42s`, `1m5s`, `2h0m3s`: the form that the tools' texts carry.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a duration: write for example 30s, 5m, 1h30m or 7d")]
pub struct ParseDurationError(pub String);

/// Reads `30s`, `500ms`, `5m`, `1h30m`, `7d`; a bare number counts seconds.
///
/// # Errors
///
/// [`ParseDurationError`] for anything else, and for more than 1000 years.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let wrong = || ParseDurationError(text.to_owned());
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let added = number.checked_mul(unit).ok_or_else(wrong)?;
        total = total.checked_add(added).ok_or_else(wrong)?;
    }
    const THOUSAND_YEARS_MS: u64 = 31_557_600_000_000;
    if total > THOUSAND_YEARS_MS {
        return Err(wrong());
    }
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_form() {
        for (seconds, text) in [(0, "0s"), (42, "42s"), (65, "1m5s"), (7203, "2h0m3s"), (90_000, "25h0m0s")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn written_forms() {
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
