//! Checks a job's output against the turns of its script, byte for byte, across attempts.

/// Separator of two turns of one attempt.
const SEPARATOR: &str = "\n\n";

/// Splits the output at the lines `[attempt N …]` that start a later attempt: one part per attempt.
fn attempts(output: &str) -> Vec<&str> {
    let mut attempts = Vec::new();
    let mut rest = output;
    while let Some((before, tail)) = rest.split_once("\n[attempt ") {
        attempts.push(before);
        let (line, after) = tail.split_once("]\n").unwrap_or((tail, ""));
        assert!(line.contains(" resumes from turn "), "{output}");
        rest = after;
    }
    attempts.push(rest);
    attempts
}

/// Turns at which the next attempt can resume, if an attempt that started at turn `from` printed `printed`. Empty if no
/// attempt of this script prints that.
fn resume_points(printed: &str, turns: &[String], from: usize) -> Vec<usize> {
    let mut rest = printed;
    let mut points = Vec::new();
    for (turn, text) in turns.iter().enumerate().skip(from) {
        let before = if turn > from { SEPARATOR } else { "" };
        let text = format!("{before}{text}");
        let Some(after) = rest.strip_prefix(text.as_str()) else {
            // The attempt ended within this turn. The turn was not recorded, so the next attempt repeats it.
            if text.starts_with(rest) {
                points.push(turn);
            }
            return points;
        };
        rest = after;
        if rest.is_empty() {
            // The turn is complete. It may not have been recorded, so the next attempt can repeat it.
            points.push(turn);
        }
    }
    if rest.is_empty() {
        points.push(turns.len());
    }
    points
}

/// Whether `output` has each of these turns complete and exactly once, apart from interrupted turns before a later attempt.
pub fn is_exact(output: &str, turns: &[String]) -> bool {
    // Where an attempt resumes can be ambiguous, so all possibilities are tracked.
    let mut points = vec![0];
    for printed in attempts(output) {
        points = points.iter().flat_map(|&from| resume_points(printed, turns, from)).collect();
        points.sort_unstable();
        points.dedup();
    }
    points.contains(&turns.len())
}

#[test]
fn missing_and_repeated_text_is_found() {
    let turns = ["one two\n".to_owned(), "three four".to_owned()];
    let cut = "[attempt 2 resumes from turn";
    for good in [
        "one two\n\n\nthree four",
        &format!("one\n{cut} 1]\none two\n\n\nthree four"),
        &format!("one two\n\n{cut} 1]\none two\n\n\nthree four"),
        &format!("one two\n\n{cut} 1]\nthree four"),
        &format!("one two\n\n\nthr\n{cut} 2]\nthree four"),
        &format!("\n{cut} 1]\none\n{cut} 1]\none two\n\n\nthree four"),
        &format!("one two\n\n\nthree four\n{cut} 3]\n"),
    ] {
        assert!(is_exact(good, &turns), "{good}");
    }
    for bad in [
        "one two\n\n\nthree",
        "one two\n\n\nthree fourfour",
        "three four",
        &format!("one\n{cut} 1]\nthree four"),
        &format!("one x\n{cut} 1]\none two\n\n\nthree four"),
        &format!("one two\n\n{cut} 1]\n\n\nthree four"),
        &format!("one two\n\n\nthr\n{cut} 2]\nee four"),
    ] {
        assert!(!is_exact(bad, &turns), "{bad}");
    }
}
