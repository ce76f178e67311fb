//! Documents match the code: states, Redis keys, error codes, environment variables, metrics, links, the code map.

use std::collections::BTreeSet;

use legwork_common::lifecycle::Event;
use legwork_common::lifecycle::State;
use legwork_common::lifecycle::next;
use proc_macro2::TokenStream;
use proc_macro2::TokenTree;
use syn::ImplItem;
use syn::Item;

use crate::hold;
use crate::source::Source;
use crate::source::of_own_sources;
use crate::source::root;
use crate::source::strings;
use crate::spelling::key_pieces;
use crate::spelling::keys_source;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// First cell of each table row of a document.
fn first_cells(document: &str) -> Vec<&str> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").next())
        .collect()
}

/// Names that have no row of their own, with the name in backticks in the first cell.
fn missing(path: &str, document: &str, names: &BTreeSet<String>) -> Vec<String> {
    let cells = first_cells(document).join("\n");
    let has = |name: &&String| !cells.contains(&format!("`{name}`"));
    names.iter().filter(has).map(|name| format!("{path}: give `{name}` a row in a table")).collect()
}

/// The transition function, formatted as the table of docs/lifecycle.md.
fn transitions() -> String {
    let live: Vec<State> = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
    let row =
        |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut table = row(&mut std::iter::once("event".to_owned()).chain(live.iter().map(State::to_string)));
    table += &row(&mut std::iter::repeat_n("---".to_owned(), live.len() + 1));
    for event in Event::ALL {
        let after = |state: &State| next(*state, event).map_or("·".to_owned(), |after| after.to_string());
        table += &row(&mut std::iter::once(format!("`{event:?}`")).chain(live.iter().map(after)));
    }
    table
}

/// Error codes that implementations of `Coded::code` return, and those of `code: "…"`, outside tests.
fn codes(source: &Source) -> BTreeSet<String> {
    let test_lines = source.test_lines();
    let implementations = source.file.items.iter().filter_map(|item| match item {
        Item::Impl(item) => Some(item),
        _ => None,
    });
    let coded = implementations.filter(|item| {
        item.trait_.as_ref().is_some_and(|(_, path, _)| path.segments.last().unwrap().ident == "Coded")
    });
    let functions = coded.flat_map(|item| &item.items).filter_map(|item| match item {
        ImplItem::Fn(function) if function.sig.ident == "code" => Some(function),
        _ => None,
    });
    let mut found = BTreeSet::new();
    given_codes(source.tokens(), &mut found);
    for function in functions {
        let (first, last) = (
            function.block.brace_token.span.open().start().line,
            function.block.brace_token.span.close().end().line,
        );
        let within = strings(source.tokens()).into_iter().filter(|(_, line)| (first..=last).contains(line));
        found.extend(within.filter(|(_, line)| !test_lines.contains(line)).map(|(text, _)| text));
    }
    found
}

/// Error codes in `code: "…"`, where the programs create an error without a type of its own.
fn given_codes(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for three in tokens.windows(3) {
        let [name, colon, value] = three else { continue };
        if name.to_string() == "code" && colon.to_string() == ":" {
            found.extend(syn::parse_str::<syn::LitStr>(&value.to_string()).map(|text| text.value()));
        }
    }
    for token in tokens {
        if let TokenTree::Group(group) = token {
            given_codes(group.stream(), found);
        }
    }
}

/// Legwork's environment variables: the constants of variables.rs.
fn variables() -> BTreeSet<String> {
    let path = "crates/common/src/variables.rs";
    let source = Source::parse(path, &read(path), false);
    strings(source.tokens())
        .into_iter()
        .map(|(text, _)| text)
        .filter(|text| text.starts_with("LEGWORK_"))
        .collect()
}

#[test]
fn the_states_are_as_documented() {
    let (path, table) = ("docs/lifecycle.md", transitions());
    assert!(read(path).contains(&table), "{path}: replace the table with this one:\n\n{table}");
}

/// Differences between the keys in a document's tables and the keys in the code.
fn key_differences(path: &str, document: &str, pieces: &BTreeSet<String>) -> Vec<String> {
    // `…:session:<sid>:admitted:<queue>` has two parts.
    let named: BTreeSet<String> = first_cells(document)
        .join("\n")
        .split(['`', '\n', ' '])
        .flat_map(|key| key.split(':').skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter(|piece| piece.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !piece.is_empty())
        .collect();
    let undocumented =
        pieces.difference(&named).map(|piece| format!("{path}: give the key with `:{piece}` a row"));
    let gone =
        named.difference(pieces).map(|piece| format!("{path}: no key of keys.rs has `:{piece}`; remove it"));
    undocumented.chain(gone).collect()
}

#[test]
fn every_redis_key_is_documented() {
    let path = "docs/redis.md";
    hold(&key_differences(path, &read(path), &key_pieces(&keys_source())));
}

#[test]
fn every_error_code_is_documented() {
    let all: BTreeSet<String> = of_own_sources(codes);
    assert!(all.contains("not_found"), "this test no longer finds the error codes: {all:?}");
    hold(&missing("docs/errors.md", &read("docs/errors.md"), &all));
}

#[test]
fn every_environment_variable_is_documented() {
    let all = variables();
    assert!(all.contains("LEGWORK_REDIS_URL"), "{all:?}");
    hold(&missing("docs/operations.md", &read("docs/operations.md"), &all));
}

/// Names of metrics: the literals with their prefix.
fn metrics(source: &Source) -> BTreeSet<String> {
    let test_lines = source.test_lines();
    let found = strings(source.tokens()).into_iter().filter(|(_, line)| !test_lines.contains(line));
    found.map(|(text, _)| text).filter(|text| text.starts_with("legwork_worker_")).collect()
}

#[test]
fn every_metric_is_documented() {
    let all: BTreeSet<String> = of_own_sources(metrics);
    assert!(all.contains("legwork_worker_used_slots"), "this test no longer finds the metrics: {all:?}");
    let path = "docs/operations.md";
    let cells = first_cells(&read(path)).join("\n");
    // The registry adds `_total` to the name of a counter; labels follow the name.
    let row = |name: &str, end: &str| cells.contains(&format!("`{name}{end}"));
    let ends = ["`", "{", "_total`", "_total{"];
    let lacks = |name: &&String| !ends.iter().any(|end| row(name, end));
    hold(&all.iter().filter(lacks).map(|name| format!("{path}: give `{name}` a row")).collect::<Vec<_>>());
}

/// Links of a document to files, `[text](path)`, without their fragments.
fn links(document: &str) -> Vec<&str> {
    let targets = document.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.starts_with("http") && !target.starts_with('#'));
    files.filter_map(|target| target.split('#').next()).collect()
}

#[test]
fn links_between_files_work() {
    let documents = crate::source::files_below(&root(), "md");
    let mut complaints = Vec::new();
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text).into_iter().filter(|link| !path.parent().unwrap().join(link).exists()) {
            complaints.push(format!("{}: `{link}` does not exist", crate::source::shown(&path)));
        }
    }
    hold(&complaints);
}

/// Rust files that a document names in backticks and that do not exist. Partial paths such as `lifecycle.rs` match.
fn missing_files(path: &str, document: &str, files: &[String]) -> Vec<String> {
    let names = document.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    let is_there = |name: &str| files.iter().any(|file| file == name || file.ends_with(&format!("/{name}")));
    names.filter(|name| !is_there(name)).map(|name| format!("{path}: there is no file `{name}`")).collect()
}

#[test]
fn files_named_in_documents_exist() {
    let files: Vec<String> =
        crate::source::files_below(&root(), "rs").iter().map(|path| crate::source::shown(path)).collect();
    let documents = ["ARCHITECTURE.md", "docs/redis.md", "docs/lifecycle.md"];
    hold(&documents.iter().flat_map(|path| missing_files(path, &read(path), &files)).collect::<Vec<_>>());
}

/// Names in backticks of a document that stands for the tests that it names: files without a folder are whole-system
/// tests, and what looks like the name of a test is one.
fn missing_tests(
    path: &str,
    document: &str,
    files: &BTreeSet<String>,
    tests: &BTreeSet<String>,
) -> Vec<String> {
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let names = || document.split('`').skip(1).step_by(2);
    let place = |name: &str| {
        if name.contains('/') { name.to_owned() } else { format!("tests/tests/it/{name}") }
    };
    let no_file = names()
        .filter(|name| name.ends_with(".rs") && !files.contains(&place(name)))
        .map(|name| format!("{path}: there is no file `{}`", place(name)));
    let no_test = names()
        .filter(is_test)
        .filter(|name| !tests.contains(*name))
        .map(|name| format!("{path}: there is no test `{name}`"));
    no_file.chain(no_test).collect()
}

/// The functions of these files, by name.
fn functions(files: &BTreeSet<String>) -> BTreeSet<String> {
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let after = texts.iter().flat_map(|text| text.split("fn ").skip(1));
    after.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned).collect()
}

#[test]
fn tests_named_in_the_guarantees_exist() {
    let path = "docs/guarantees.md";
    let files: BTreeSet<String> =
        crate::source::files_below(&root(), "rs").iter().map(|path| crate::source::shown(path)).collect();
    let tests: BTreeSet<String> = files.iter().filter(|file| file.contains("tests")).cloned().collect();
    hold(&missing_tests(path, &read(path), &files, &functions(&tests)));
}

#[test]
fn a_guarantee_whose_test_is_gone_is_found() {
    let files = ["tests/tests/it/stop.rs", "crates/queue/tests/it/steps.rs"].map(str::to_owned).into();
    let tests = ["a_stop_ends_the_tree".to_owned()].into();
    let document = "`stop.rs` (`a_stop_ends_the_tree`), `crates/queue/tests/it/steps.rs`, `session_end`, `steps.rs`, \
                    `a_stop_ends_nothing_else`";
    assert_eq!(
        missing_tests("a.md", document, &files, &tests),
        [
            "a.md: there is no file `tests/tests/it/steps.rs`",
            "a.md: there is no test `a_stop_ends_nothing_else`"
        ]
    );
}

/// The code map of `ARCHITECTURE.md` against the tree: a row for each file directly below a room's `src`, which stands
/// for the folder of its name too, and no row for what is gone.
fn code_map_gaps(document: &str, files: &BTreeSet<String>) -> Vec<String> {
    let path = "ARCHITECTURE.md";
    let rows: BTreeSet<String> = first_cells(document)
        .into_iter()
        .map(|cell| cell.trim_matches('`').to_owned())
        .filter(|cell| cell.starts_with("crates/"))
        .collect();
    let unlisted = files.difference(&rows).map(|file| format!("{path}: give `{file}` a row in the code map"));
    let gone =
        rows.difference(files).map(|row| format!("{path}: `{row}` is not a file of a room; remove its row"));
    unlisted.chain(gone).collect()
}

#[test]
fn the_code_map_is_the_tree() {
    let is_mapped = |file: &String| {
        let parts: Vec<&str> = file.split('/').collect();
        matches!(parts[..], ["crates", _, "src", name] if name != "lib.rs" && name != "main.rs")
    };
    let all = crate::source::files_below(&root().join("crates"), "rs");
    let files = all.iter().map(|path| crate::source::shown(path)).filter(is_mapped).collect();
    hold(&code_map_gaps(&read("ARCHITECTURE.md"), &files));
}

#[test]
fn a_code_map_with_gaps_is_found() {
    let document = "| file | owns | called by |\n| --- | --- | --- |\n| `crates/a/src/x.rs` | x | y |\n\
                    | `crates/a/src/gone.rs` | x | y |\n";
    let files = ["crates/a/src/x.rs", "crates/a/src/new.rs"].map(str::to_owned).into_iter().collect();
    assert_eq!(code_map_gaps(document, &files).len(), 2);
}

#[test]
fn gaps_in_documents_are_found() {
    let document = "| code | what |\n| --- | --- |\n| `one` | see `two` |\n";
    let names: BTreeSet<String> = ["one", "two"].into_iter().map(str::to_owned).collect();
    assert_eq!(missing("a.md", document, &names), ["a.md: give `two` a row in a table"]);

    let pieces: BTreeSet<String> = ["job", "spec"].into_iter().map(str::to_owned).collect();
    let differences = key_differences("a.md", "| `{T}:job:<id>` | hash |\n| `{T}:gone` | hash |\n", &pieces);
    assert_eq!(differences.len(), 2, "{differences:?}");

    let files = ["crates/a/src/job.rs".to_owned()];
    assert_eq!(
        missing_files("a.md", "`job.rs`, `src/job.rs`, `ob.rs`", &files),
        ["a.md: there is no file `ob.rs`"]
    );

    let code = "impl Coded for E { fn code(&self) -> &'static str { match self { A => \"a\", B => \"b\" } } \
                fn hint(&self) -> X {\n Some(\"no\") } }\nfn f() { E { code: \"c\", x } }\n#[cfg(test)]\nmod tests { impl Coded for T { fn code() { \"t\" } } }";
    assert_eq!(codes(&Source::parse("a.rs", code, false)).into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);

    assert_eq!(links("[a](b.md#c) [d](https://e) [f](#g) [h](../i.md)"), ["b.md", "../i.md"]);
}
