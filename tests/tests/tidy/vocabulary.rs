//! One word for one thing, in plain English: archaic phrases and retired names do not come back.

use crate::hold;
use crate::source::files_below;
use crate::source::root;
use crate::source::shown;

/// This file names what it bans.
const OWN: &str = "tests/tests/tidy/vocabulary.rs";

/// Phrases that do not belong in a comment, a message, a name or a document, each with what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("shall", "`must`, `should` or `will`"),
    ("whoever", "the process: `the caller`, `any worker`"),
    ("nobody", "what is missing: `no worker`, `no receiver`"),
    ("somebody", "who it is: `a caller`, `another process`"),
    ("goes on", "`continues` or `resumes`"),
    ("go on", "`continue` or `resume`"),
    ("going on", "`continuing` or `running`"),
    ("for ever", "`forever`, or the bound"),
    ("lest", "`so that … does not`"),
    ("thereof", "`of it`"),
    ("whom", "a plainer clause"),
];

/// Names that the project gave up, each with the one in use.
const RETIRED: &[(&str, &str)] = &[
    ("look_every", "a `…POLL_INTERVAL`"),
    ("stint", "`run`"),
    ("stints", "`runs`"),
    ("wish", "`PermitRequest`, `request`"),
    ("wishes", "`requests`"),
    ("holdup", "`WaitReason`"),
    ("patiently", "`retry_while_unavailable`"),
    ("unlucky", "`unsuccessful`"),
    ("commons", "`SessionState`"),
    ("thinning", "`pruning`"),
    ("inheritance", "`CopiedTurns`"),
    ("remedy", "`fix_hint`"),
    ("household", "`StateFolder`"),
    ("is_passing", "`is_transient`"),
    ("may_pass", "`is_retryable`"),
];

/// Whether `text`, in lower case, has `word` between characters that are not letters. An underscore separates words: a
/// name is read like a phrase.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let inside = |c: char| c.is_alphabetic();
    text.match_indices(phrase)
        .any(|(at, _)| !text[..at].ends_with(inside) && !text[at + phrase.len()..].starts_with(inside))
}

/// `is no X` where `is not a X` is meant. `There is no X` and `is no longer` are ordinary English.
fn has_is_no(text: &str) -> bool {
    let fine = |before: &str, after: &str| before.ends_with("there ") || after.starts_with("longer");
    let mut rest = text.match_indices("is no ");
    rest.any(|(at, found)| {
        let (before, after) = (&text[..at], &text[at + found.len()..]);
        !before.ends_with(char::is_alphabetic) && !fine(before, after)
    })
}

fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let spaced = line.to_lowercase();
        let named = spaced.replace('_', " ");
        let number = at + 1;
        for (phrase, instead) in PHRASES.iter().filter(|(phrase, _)| has_phrase(&named, phrase)) {
            found.push(format!("{path}:{number}: write {instead}, not `{phrase}`"));
        }
        for (name, instead) in RETIRED.iter().filter(|(name, _)| has_phrase(&spaced, name)) {
            found.push(format!("{path}:{number}: `{name}` is now {instead}"));
        }
        if has_is_no(&named) {
            found.push(format!("{path}:{number}: write `is not a …` or `has no …`, not `is no …`"));
        }
    }
    found
}

#[test]
fn the_vocabulary_is_the_fields() {
    let kinds = ["rs", "lua", "md", "txt", "yaml", "toml", "sh"];
    let files = kinds.iter().flat_map(|kind| files_below(&root(), kind));
    let ours = files.filter(|path| !shown(path).starts_with('.') && shown(path) != OWN);
    hold(
        &ours
            .flat_map(|path| complaints(&shown(&path), &std::fs::read_to_string(&path).unwrap()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_phrase_and_retired_name_is_found() {
    for (phrase, _) in PHRASES {
        let name = phrase.replace(' ', "_");
        for line in [format!("/// What {phrase} there."), format!("fn {name}() {{}}"), phrase.to_uppercase()]
        {
            assert_eq!(complaints("a.rs", &line).len(), 1, "{line}");
        }
    }
    for (name, _) in RETIRED {
        assert_eq!(complaints("a.rs", &format!("let {name} = 1;")).len(), 1, "{name}");
    }
}

#[test]
fn ordinary_english_is_left_alone() {
    for (line, count) in [
        ("This is no error.", 1),
        ("there is no file", 0),
        ("it is no longer held", 0),
        ("shallow, wishbone-free, lesson", 0),
        ("this no-op", 0),
    ] {
        assert_eq!(complaints("a.md", line).len(), count, "{line}");
    }
}
