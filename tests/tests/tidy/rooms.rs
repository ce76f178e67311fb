//! Dependencies between rooms: `golden/rooms.txt` against every path in the code and every manifest.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use proc_macro2::TokenTree;
use syn::Item;
use syn::UseTree;
use syn::spanned::Spanned as _;

use crate::hold;
use crate::source::Package;
use crate::source::Source;
use crate::source::of_packages;
use crate::source::root;

const GOLDEN: &str = include_str!("../../golden/rooms.txt");

/// Modules and types of the standard library that a room may use only if it is listed for it.
const POWERS: [&str; 7] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Names that the golden file must not allow: the invariants of ARCHITECTURE.md.
const NEVER: [(&str, &[&str]); 8] = [
    ("common", &["tokio", "redis", "deadpool_redis", "reqwest", "axum", "std::env", "std::fs", "std::net"]),
    (
        "models",
        &[
            "tokio",
            "futures",
            "async_trait",
            "reqwest",
            "std::env",
            "std::fs",
            "std::net",
            "std::time::Instant",
        ],
    ),
    ("queue", &["legwork_agent", "legwork_worker", "legwork_process", "legwork", "reqwest"]),
    ("agent", &["legwork_queue", "legwork_worker", "legwork", "redis", "deadpool_redis"]),
    ("process", &["legwork_queue", "legwork_agent", "legwork_worker", "legwork", "redis", "deadpool_redis"]),
    ("worker", &["legwork", "redis", "deadpool_redis", "reqwest"]),
    (
        "http",
        &["legwork_agent", "legwork_worker", "legwork", "redis", "deadpool_redis", "std::env", "std::fs"],
    ),
    ("orchestrator", &["redis", "deadpool_redis"]),
];

/// Parts of a room that another room may not name although it may name the room, and what it asks instead.
const CLOSED: [(&str, &str, &str); 2] = [
    ("orchestrator", "legwork_queue::port", "`legwork_queue::operator` or the service trait"),
    ("http", "legwork_queue::port", "`legwork_queue::operator` or the service trait"),
];

/// Names that each room may use: in all its code, and in its tests only.
struct Rooms {
    may: BTreeMap<String, BTreeSet<String>>,
    tests_may: BTreeMap<String, BTreeSet<String>>,
}

impl Rooms {
    fn read(golden: &str) -> Self {
        let (mut may, mut tests_may) = (BTreeMap::new(), BTreeMap::new());
        let mut room = String::new();
        for line in golden.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, names) =
                line.split_once(':').unwrap_or_else(|| panic!("rooms.txt: no `:` in `{line}`"));
            let names: BTreeSet<String> = names.split_whitespace().map(str::to_owned).collect();
            match word {
                "room" => room = names.into_iter().next().unwrap(),
                "  may" => may.entry(room.clone()).or_insert_with(BTreeSet::new).extend(names),
                "  tests may" => tests_may.entry(room.clone()).or_insert_with(BTreeSet::new).extend(names),
                other => panic!("rooms.txt: `{other}` is neither `room`, `  may` nor `  tests may`"),
            }
        }
        Self { may, tests_may }
    }

    fn allows(&self, room: &str, in_tests: bool, path: &str) -> bool {
        let allows = |names: Option<&BTreeSet<String>>| {
            names.is_some_and(|names| names.iter().any(|name| starts_with(path, name)))
        };
        starts_with(path, &own_crate(room))
            || allows(self.may.get(room))
            || in_tests && allows(self.tests_may.get(room))
    }
}

/// Name of the room's own crate, which its `main` and its tests use.
fn own_crate(room: &str) -> String {
    if room == "orchestrator" { "legwork".to_owned() } else { format!("legwork_{room}") }
}

/// Whether `path` is `name` or a path below it.
fn starts_with(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path with `::` in the code and every `use`, with line numbers.
fn paths(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for item in &source.file.items {
        used(item, &mut found);
    }
    qualified(source.tokens(), &mut found);
    found
}

fn used(item: &Item, found: &mut Vec<(String, usize)>) {
    match item {
        Item::Use(item) => expand(&item.tree, "", item.span().start().line, found),
        Item::ExternCrate(item) => found.push((item.ident.to_string(), item.span().start().line)),
        Item::Mod(item) => {
            if let Some((_, items)) = &item.content {
                items.iter().for_each(|item| used(item, found));
            }
        }
        _ => {}
    }
}

fn expand(tree: &UseTree, before: &str, line: usize, found: &mut Vec<(String, usize)>) {
    let join = |name: &dyn ToString| {
        if before.is_empty() { name.to_string() } else { format!("{before}::{}", name.to_string()) }
    };
    match tree {
        UseTree::Path(path) => expand(&path.tree, &join(&path.ident), line, found),
        UseTree::Name(name) => found.push((join(&name.ident), line)),
        UseTree::Rename(rename) => found.push((join(&rename.ident), line)),
        UseTree::Glob(_) => found.push((before.to_owned(), line)),
        UseTree::Group(group) => group.items.iter().for_each(|tree| expand(tree, before, line, found)),
    }
}

/// Paths such as `tokio::time::sleep` anywhere in the tokens, also inside macros.
fn qualified(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    let mut path: Option<(String, usize)> = None;
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => match &mut path {
                Some((path, _)) if colons == 2 => *path = format!("{path}::{ident}"),
                _ => {
                    found.extend(path.take().filter(|(path, _)| path.contains("::")));
                    path = Some((ident.to_string(), ident.span().start().line));
                }
            },
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                continue;
            }
            TokenTree::Group(group) => {
                found.extend(path.take().filter(|(path, _)| path.contains("::")));
                qualified(group.stream(), found);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                found.extend(path.take().filter(|(path, _)| path.contains("::")));
            }
        }
        colons = 0;
    }
    found.extend(path.filter(|(path, _)| path.contains("::")));
}

/// Names in the code of a room that the golden file does not list for it.
fn unlisted_in_code(room: &str, source: &Source, watched: &BTreeSet<String>, rooms: &Rooms) -> Vec<String> {
    let test_lines = source.test_lines();
    let unlisted: BTreeSet<(usize, String)> = paths(source)
        .into_iter()
        .filter(|(path, _)| watched.iter().any(|name| starts_with(path, name)))
        .filter(|(path, line)| !rooms.allows(room, test_lines.contains(line), path))
        .map(|(path, line)| (line, path))
        .collect();
    let say = |(line, path): (usize, String)| {
        format!(
            "{}:{line}: `{room}` may not use `{path}`; move the code to a room that may (ARCHITECTURE.md), or \
             justify it in tests/golden/rooms.txt",
            source.path
        )
    };
    unlisted.into_iter().map(say).collect()
}

/// Names of closed parts in the code of one room.
fn closed_parts(room: &str, source: &Source) -> Vec<String> {
    // A `use` is found twice: as an item and as a path.
    let found: BTreeSet<(usize, String)> =
        paths(source).into_iter().map(|(path, line)| (line, path)).collect();
    let complaints = CLOSED.iter().filter(|(closed, ..)| *closed == room).flat_map(|(_, part, instead)| {
        found.iter().filter(|(_, path)| starts_with(path, part)).map(move |(line, path)| {
            format!("{}:{line}: `{room}` may not name `{path}`; use {instead}", source.path)
        })
    });
    complaints.collect()
}

/// Dependencies of a manifest: the name as spelled in code, and whether it is a dev-dependency.
fn dependencies(manifest: &str) -> Vec<(String, bool)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(title) = line.strip_prefix('[') {
            section = title.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) =
            line.split_once(['.', '=', ' ']).filter(|_| section.ends_with("dependencies"))
        {
            found.push((name.replace('-', "_"), section.ends_with("dev-dependencies")));
        }
    }
    found
}

/// Dependencies of a room that the golden file does not list for it.
fn unlisted_in_manifest(room: &str, manifest: &str, rooms: &Rooms) -> Vec<String> {
    let unlisted =
        dependencies(manifest).into_iter().filter(|(name, in_tests)| !rooms.allows(room, *in_tests, name));
    let say = |(name, _)| {
        format!(
            "crates/{room}/Cargo.toml: `{room}` may not depend on `{name}`; justify it in tests/golden/rooms.txt"
        )
    };
    unlisted.map(say).collect()
}

/// All names that need an entry in the golden file: the workspace's dependencies and [`POWERS`].
fn watched() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let crates = dependencies(&manifest).into_iter().map(|(name, _)| name);
    crates.chain(POWERS.map(str::to_owned)).collect()
}

#[test]
fn rooms_use_only_what_is_listed() {
    let (rooms, watched) = (Rooms::read(GOLDEN), watched());
    let check = move |package: &Package| {
        let room = package.room.as_str();
        let code = package.own_sources().flat_map(|source| unlisted_in_code(room, source, &watched, &rooms));
        let parts = package.own_sources().flat_map(|source| closed_parts(room, source));
        code.chain(parts).chain(unlisted_in_manifest(room, &package.manifest, &rooms)).collect::<Vec<_>>()
    };
    hold(&of_packages(move |packages| packages.iter().flat_map(check).collect::<Vec<_>>()));
}

/// Invariants that the golden file breaks.
fn broken_invariants(rooms: &Rooms) -> Vec<String> {
    let mut complaints = Vec::new();
    for (room, names) in NEVER {
        for name in names.iter().filter(|name| rooms.allows(room, false, name)) {
            complaints
                .push(format!("tests/golden/rooms.txt: `{room}` must never use `{name}` (ARCHITECTURE.md)"));
        }
    }
    complaints
}

#[test]
fn the_golden_file_keeps_the_invariants() {
    let rooms = Rooms::read(GOLDEN);
    let known: BTreeSet<String> =
        of_packages(|packages| packages.iter().map(|package| package.room.clone()).collect());
    let gone = rooms.may.keys().filter(|room| !known.contains(*room));
    let gone = gone.map(|room| format!("tests/golden/rooms.txt: there is no room `{room}`; remove it"));
    hold(&broken_invariants(&rooms).into_iter().chain(gone).collect::<Vec<_>>());
}

#[test]
fn broken_invariants_are_found() {
    assert_eq!(broken_invariants(&Rooms::read("room: common\n  may: serde tokio\n")).len(), 1);
    assert_eq!(
        broken_invariants(&Rooms::read("room: worker\n  may: serde\n  may: redis legwork\n")).len(),
        2
    );
}

#[test]
fn unlisted_names_are_found_in_every_form() {
    let rooms = Rooms::read("room: x\n  may: serde std::net\n  tests may: tokio\n");
    let watched: BTreeSet<String> = ["serde", "tokio", "redis", "legwork_x", "std::fs", "std::net"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    for (bad, line) in [
        ("use redis::Client;", 1),
        ("use redis as r;", 1),
        ("use {serde::Serialize, redis::Cmd};", 1),
        ("use std::{net, fs};", 1),
        ("\nfn f() { let x = std::fs::read(\"a\"); }", 2),
        ("fn f() {\n    select! { _ = tokio::time::sleep(y) => {} }\n}", 2),
        ("fn f(x: Vec<redis::Value>) {}", 1),
        ("mod inner { use redis::Client; }", 1),
        ("fn f() { ::redis::cmd(\"GET\"); }", 1),
    ] {
        let source = Source::parse("crates/x/src/lib.rs", bad, false);
        let complaints = unlisted_in_code("x", &source, &watched, &rooms);
        assert_eq!(complaints.len(), 1, "{bad}: {complaints:?}");
        assert!(complaints[0].starts_with(&format!("crates/x/src/lib.rs:{line}: ")), "{complaints:?}");
    }
    for good in [
        "use serde::Serialize; use std::net::IpAddr;",
        "#[cfg(test)]\nmod tests {\n    use tokio::net::TcpStream;\n}",
    ] {
        let source = Source::parse("crates/x/src/lib.rs", good, false);
        assert_eq!(unlisted_in_code("x", &source, &watched, &rooms), [""; 0]);
    }
}

#[test]
fn closed_parts_are_found_however_they_are_named() {
    let complaints =
        |room: &str, text: &str| closed_parts(room, &Source::parse("crates/x/src/lib.rs", text, false)).len();
    for (text, count) in [
        ("use legwork_queue::port::Dispatch as _;", 1),
        ("use legwork_queue::{Queue, port::{Watch, Work}};", 2),
        ("use legwork_queue::port as p;", 1),
        ("fn f(x: legwork_queue::port::Lane) {}", 1),
        ("use legwork_queue::operator::Lane;", 0),
        ("use legwork_queue::portal::Lane;", 0),
    ] {
        assert_eq!((complaints("orchestrator", text), complaints("worker", text)), (count, 0), "{text}");
    }
}

#[test]
fn unlisted_dependencies_are_found() {
    let rooms = Rooms::read("room: x\n  may: serde serde_json\n  tests may: tokio\n");
    let bad = "[dependencies]\nserde.workspace = true\nredis = \"1\"\ntokio = { workspace = true }\n\n\
               [dev-dependencies]\ntokio.workspace = true\n";
    let complaints = unlisted_in_manifest("x", bad, &rooms);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].contains("`redis`") && complaints[1].contains("`tokio`"), "{complaints:?}");
}
