//! Whether an output is what its agent says, with no byte too many or too few.

/// What stands between two turns of one attempt.
const BETWEEN: &str = "\n\n";

/// The lines that an attempt begins with are between what was said before and after it.
fn pieces(output: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = output;
    while let Some((before, behind)) = rest.split_once("\n[attempt ") {
        pieces.push(before);
        let (line, after) = behind.split_once("]\n").unwrap_or((behind, ""));
        assert!(line.contains(" resumes from turn "), "{output}");
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// The turns at which another attempt may go on after one that began with turn `from` said `piece`.
fn onward(piece: &str, turns: &[String], from: usize) -> Vec<usize> {
    let mut rest = piece;
    let mut onward = Vec::new();
    for (turn, text) in turns.iter().enumerate().skip(from) {
        // A blank line is between two turns.
        let before = if turn > from { BETWEEN } else { "" };
        let text = format!("{before}{text}");
        let Some(after) = rest.strip_prefix(text.as_str()) else {
            // Cut off within this turn, which was not recorded: it is said again.
            if text.starts_with(rest) {
                onward.push(turn);
            }
            return onward;
        };
        rest = after;
        if rest.is_empty() {
            // Said to its end, and recorded or not.
            onward.push(turn);
        }
    }
    if rest.is_empty() {
        onward.push(turns.len());
    }
    onward
}

/// Whether `output` is these turns, each once and whole, but for what was cut off before another attempt.
pub fn is_exact(output: &str, turns: &[String]) -> bool {
    let mut places = vec![0];
    for piece in pieces(output) {
        places = places.iter().flat_map(|&from| onward(piece, turns, from)).collect();
        places.sort_unstable();
        places.dedup();
    }
    places.contains(&turns.len())
}

#[test]
fn nothing_may_be_missing_or_twice() {
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
