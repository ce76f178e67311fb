//! How long a provider wants to be left alone: in headers, in fields, in words.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// What the headers ask for: milliseconds, seconds, a duration or a date.
pub fn asked_delay<'h>(header: impl Fn(&str) -> Option<&'h str>, now: Timestamp) -> Option<Duration> {
    let number = |name: &str| header(name)?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|milliseconds| milliseconds / 1000.0);
    if let Some(seconds) = seconds.or_else(|| number("retry-after")) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let asked = header("retry-after")?.trim();
    if let Some(wait) = duration(asked) {
        return Some(wait);
    }
    let date =
        rfc2822::parse(asked).map(|date| date.timestamp()).or_else(|_| asked.parse::<Timestamp>()).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// What the words ask for: `try again in 1.2s`, `retry in 6m0s`, `in 5 seconds`.
pub(super) fn in_words(words: &str) -> Option<Duration> {
    let lower: String = words.chars().take(4000).collect::<String>().to_ascii_lowercase();
    let (_, after) =
        ["try again in ", "retry in ", "retry after "].iter().find_map(|mark| lower.split_once(mark))?;
    duration(after)
}

/// The duration that a text begins with: `34s`, `120ms`, `1h2m3.5s`, `5 seconds`; a number alone does not count.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text.trim_start(), None);
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<f64>() else { return total };
        let after = rest[digits..].trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let unit = match &after[..letters] {
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            _ => return total,
        };
        let more = Duration::try_from_secs_f64(number * unit).ok()?;
        total = Some(total.unwrap_or(Duration::ZERO).checked_add(more)?);
        rest = &after[letters..];
    }
}
