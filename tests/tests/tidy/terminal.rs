//! Sequences that a terminal obeys are written in one place: everywhere else they would be text, which is escaped.

use crate::hold;
use crate::source::Package;
use crate::source::Source;
use crate::source::of_packages;
use crate::source::strings;

/// The files of `legwork` that may spell an escape character: the one that writes to the terminal, and the one that
/// decides which sequences of a text reach it.
const PLACES: [&str; 2] = ["crates/orchestrator/src/output.rs", "crates/orchestrator/src/render/escape.rs"];

/// The texts outside of tests that contain an escape character.
fn sequences(source: &Source) -> Vec<String> {
    let tests = source.test_lines();
    let spelled = strings(source.tokens()).into_iter();
    let spelled = spelled.filter(|(text, line)| text.contains('\u{1b}') && !tests.contains(line));
    spelled
        .map(|(_, line)| format!("{}:{line}: this is escaped as text; see `Output::clear`", source.path))
        .collect()
}

#[test]
fn escape_sequences_are_written_in_one_place() {
    let found = of_packages(|packages| {
        let orchestrator = packages.iter().filter(|package| package.room == "orchestrator");
        let sources = orchestrator.flat_map(Package::own_sources);
        let others = sources.filter(|source| !PLACES.contains(&source.path.as_str()));
        others.flat_map(sequences).collect::<Vec<_>>()
    });
    hold(&found);
}

#[test]
fn an_escape_sequence_elsewhere_is_found() {
    let code = "fn f() {\n    text(\"\\x1b[2J\");\n}\n#[cfg(test)]\nmod tests {\n    const A: &str = \"\\u{1b}\";\n}\n";
    let found = sequences(&Source::parse("crates/orchestrator/src/a.rs", code, false));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("crates/orchestrator/src/a.rs:2:"), "{found:?}");
}
