//! Words that have no place in the repository: reminders, and what only its authors can follow.

use crate::hold;
use crate::source::files_below;
use crate::source::root;
use crate::source::shown;

/// Reminders. Put together here, so that this file does not break its own rule.
fn reminders() -> [String; 4] {
    [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|halves| halves.concat())
}

/// What refers to things outside the repository.
fn strangers() -> [String; 4] {
    [["/wo", "rk/"], ["/root", "/"], ["design", ".md"], ["the mis", "sion"]].map(|halves| halves.concat())
}

/// The part of a line that people read: all of a document, the comment in code.
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
            found.push(format!("{path}:{}: do it or leave it, without a `{word}`", at + 1));
        }
        for word in strangers().iter().filter(|word| line.contains(word.as_str())) {
            found.push(format!(
                "{path}:{}: nobody who reads this can follow `{word}`; say what it says",
                at + 1
            ));
        }
    }
    found
}

#[test]
fn nothing_is_left_for_later_and_nothing_points_outside() {
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
fn such_words_are_found() {
    let [todo, ..] = reminders();
    let [outside, ..] = strangers();
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
