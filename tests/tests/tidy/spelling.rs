//! Names that are defined in one file only: environment variables, and Redis keys for Rust and Lua.

use std::collections::BTreeSet;

use crate::hold;
use crate::source::Source;
use crate::source::files_below;
use crate::source::of_own_sources;
use crate::source::root;
use crate::source::shown;
use crate::source::strings;

const VARIABLES: &str = "crates/common/src/variables.rs";
const KEYS: &str = "crates/queue/src/keys.rs";

/// Literals outside [`VARIABLES`] that consist of the name of a Legwork environment variable. Names within a sentence, as
/// in a hint, are allowed.
fn variables_elsewhere(source: &Source) -> Vec<String> {
    if source.path == VARIABLES {
        return Vec::new();
    }
    let is_name = |text: &str| {
        text.starts_with("LEGWORK_")
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let found = strings(source.tokens()).into_iter().filter(|(text, _)| is_name(text));
    found
        .map(|(text, line)| {
            format!("{}:{line}: name `{text}` in {VARIABLES} and use the constant", source.path)
        })
        .collect()
}

/// The parts between colons that distinguish the keys in keys.rs.
pub(crate) fn key_pieces(keys: &Source) -> BTreeSet<String> {
    let is_piece =
        |piece: &&str| piece.len() > 2 && piece.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    strings(keys.tokens())
        .iter()
        // The Lua prelude is one literal that contains many key literals.
        .flat_map(|(text, _)| text.split(['\'', '"', ' ', '\n']).map(str::to_owned).collect::<Vec<_>>())
        .filter(|text| text.contains(':'))
        .flat_map(|text| text.split(':').skip(1).filter(is_piece).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Whether a literal contains a key or the name of one.
fn spells_a_key(text: &str, pieces: &BTreeSet<String>) -> bool {
    let tag = ["legwork:{", "{legwork:", "legwork:default"].iter().any(|tag| text.contains(tag));
    tag || pieces.iter().any(|piece| {
        let after = |text: &str| {
            !text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        };
        let spelled = format!(":{piece}");
        text.match_indices(&spelled).any(|(start, found)| {
            let (before, rest) = (&text[..start], &text[start + found.len()..]);
            rest.starts_with(':') || (before.is_empty() || before.ends_with('}')) && after(rest)
        })
    })
}

fn keys_elsewhere(source: &Source, pieces: &BTreeSet<String>) -> Vec<String> {
    if source.path == KEYS {
        return Vec::new();
    }
    let found = strings(source.tokens()).into_iter().filter(|(text, _)| spells_a_key(text, pieces));
    found
        .map(|(text, line)| {
            format!("{}:{line}: `{text}` spells a Redis key; give it a name in {KEYS}", source.path)
        })
        .collect()
}

/// Lines of a Lua step that assemble a key instead of using LUA_KEYS.
fn keys_in_lua(path: &str, text: &str) -> Vec<String> {
    let code = |line: &str| line.split("--").next().unwrap_or_default().to_owned();
    let spells = |line: &str| {
        let line: String = code(line).split_whitespace().collect();
        let glued = line
            .match_indices("T..")
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        let literal = line.match_indices(['\'', '"']).any(|(at, _)| {
            let mut rest = line[at + 1..].chars();
            rest.next() == Some(':') && rest.next().is_some_and(|c| c.is_ascii_alphabetic())
        });
        glued || literal || line.contains("legwork:")
    };
    let found = text.lines().enumerate().filter(|(_, line)| spells(line));
    found
        .map(|(at, line)| {
            format!(
                "{path}:{}: `{}` spells a Redis key; give it a name in LUA_KEYS of {KEYS}",
                at + 1,
                line.trim()
            )
        })
        .collect()
}

pub(crate) fn keys_source() -> Source {
    Source::parse(KEYS, &std::fs::read_to_string(root().join(KEYS)).unwrap(), false)
}

#[test]
fn environment_variables_are_named_in_one_file() {
    hold(&of_own_sources::<_, Vec<_>>(variables_elsewhere));
}

#[test]
fn redis_keys_are_named_in_one_file() {
    let pieces = key_pieces(&keys_source());
    let rust: Vec<String> = of_own_sources(move |source| keys_elsewhere(source, &pieces));
    let scripts = files_below(&root().join("crates/queue/src/lua"), "lua");
    assert!(!scripts.is_empty(), "the Lua steps have moved; update their path here");
    let lua =
        scripts.iter().flat_map(|path| keys_in_lua(&shown(path), &std::fs::read_to_string(path).unwrap()));
    hold(&rust.into_iter().chain(lua).collect::<Vec<_>>());
}

#[test]
fn key_parts_are_read_from_keys_rs() {
    let pieces = key_pieces(&keys_source());
    for piece in [
        "job", "spec", "ready", "lease", "output", "fence", "meta", "stop-now", "changed", "admitted",
        "reaped",
    ] {
        assert!(pieces.contains(piece), "{piece} is not in {pieces:?}");
    }
}

#[test]
fn names_in_other_files_are_found() {
    let pieces: BTreeSet<String> = ["job", "lease", "index"].into_iter().map(str::to_owned).collect();
    for (literal, variables, keys) in [
        ("LEGWORK_REDIS_URL", 1, 0),
        ("set LEGWORK_REDIS_URL", 0, 0),
        ("{}:job:{}", 0, 1),
        ("{tag}:lease", 0, 1),
        (":lease", 0, 1),
        ("x:index:all", 0, 1),
        ("{{legwork:{}:0}}", 0, 1),
        ("legwork:{ns}:meta", 0, 1),
        ("the job: {}", 0, 0),
        ("{}:jobs", 0, 0),
        ("{}:job done", 0, 0),
    ] {
        let source = Source::parse("crates/x/src/lib.rs", &format!("fn f() {{ g!(\"{literal}\"); }}"), false);
        assert_eq!(variables_elsewhere(&source).len(), variables, "{literal}");
        assert_eq!(keys_elsewhere(&source, &pieces).len(), keys, "{literal}");
    }
    for (line, complaints) in [
        ("redis.call('GET', T .. ':job:' .. id)", 1),
        ("local key = tag .. ':lease'", 1),
        ("redis.call('GET', 'legwork:x:meta')", 1),
        ("redis.call('GET', job_key(id)) -- not T .. ':job:'", 0),
        ("redis.call('PUBLISH', ARGV[2], length .. ':' .. fresh)", 0),
        ("local FORMAT = LIST .. ' '", 0),
    ] {
        assert_eq!(keys_in_lua("a.lua", line).len(), complaints, "{line}");
    }
}
