//! Words that do not belong in the repository: reminders, and references that only its authors can follow.

use crate::hold;
use crate::source::files_below;
use crate::source::root;
use crate::source::shown;

/// Reminders. They are assembled here so that this file does not break its own rule.
fn reminders() -> [String; 4] {
    [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|halves| halves.concat())
}

/// References to things outside the repository.
fn outside_references() -> [String; 4] {
    [["/wo", "rk/"], ["/root", "/"], ["design", ".md"], ["the mis", "sion"]].map(|halves| halves.concat())
}

/// The prose of a line: all of it in a document, the comment in code.
fn prose<'a>(path: &str, line: &'a str) -> &'a str {
    let mark = match path.rsplit('.').next() {
        Some("rs") => "//",
        Some("lua") => "--",
        Some("md" | "txt") => return line,
        _ => "#",
    };
    line.find(mark).map_or("", |at| &line[at..])
}

fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside))
}

fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for word in reminders().iter().filter(|word| has_word(prose(path, line), word)) {
            found.push(format!("{path}:{}: do it now or drop it, without a `{word}`", at + 1));
        }
        for word in outside_references().iter().filter(|word| line.contains(word.as_str())) {
            found.push(format!("{path}:{}: readers cannot follow `{word}`; write what it contains", at + 1));
        }
    }
    found
}

#[test]
fn there_are_no_reminders_and_no_outside_references() {
    let kinds = ["rs", "lua", "md", "txt", "yaml", "toml", "sh"];
    let files = kinds.iter().flat_map(|kind| files_below(&root(), kind));
    let ours = files.filter(|path| !shown(path).starts_with('.'));
    hold(
        &ours
            .flat_map(|path| complaints(&shown(&path), &std::fs::read_to_string(&path).unwrap()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn reminders_and_outside_references_are_found() {
    let [todo, ..] = reminders();
    let [outside, ..] = outside_references();
    for (path, line, count) in [
        ("a.rs", format!("f(); // {todo}: later"), 1),
        ("a.rs", format!("const {todo}: u8 = 0;"), 0),
        ("a.lua", format!("x() -- {todo}"), 1),
        ("a.md", format!("{todo}: more"), 1),
        ("a.md", format!("A {todo}S list"), 0),
        ("a.yaml", format!("a: 1 # {todo}"), 1),
        ("a.rs", format!("f(\"{outside}x\");"), 1),
    ] {
        assert_eq!(complaints(path, &line).len(), count, "{path}: {line}");
    }
}
