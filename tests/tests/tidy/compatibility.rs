//! docs/compatibility.md matches the code: a row for every key of the agent file and every provider, with a test for each.

use std::collections::BTreeMap;
use std::path::Path;

use legwork_common::team::compatibility_tables;
use proc_macro2::TokenStream;
use proc_macro2::TokenTree;

use crate::hold;
use crate::source::Source;
use crate::source::root;
use crate::source::strings;

const DOCUMENT: &str = "docs/compatibility.md";
const TESTS: &str = "tests/golden/compatibility.txt";
const PROVIDERS: &str = "Providers of models";

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Each call `word("name", …)` in the tokens, as word and name.
fn calls(tokens: TokenStream, words: &[&str], found: &mut Vec<(String, String)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let before = at.checked_sub(1).map(|at| tokens[at].to_string()).unwrap_or_default();
        if words.contains(&before.as_str()) {
            let first = strings(group.stream()).into_iter().next();
            found.extend(first.map(|(name, _)| (before, name)));
        } else {
            calls(group.stream(), words, found);
        }
    }
}

/// The constants of a file: name, and the tokens after it.
fn constants(source: &Source) -> Vec<(String, TokenStream)> {
    let tokens: Vec<TokenTree> = source.tokens().into_iter().collect();
    let of_item = |item: &[TokenTree]| {
        let at =
            item.windows(2).rposition(|two| two[0].to_string() == "const" && two[1].to_string() != "fn")?;
        Some((item[at + 1].to_string(), item[at + 2..].iter().cloned().collect()))
    };
    tokens.split(|token| token.to_string() == ";").filter_map(of_item).collect()
}

/// The built-in providers in model.rs, in order.
fn providers(source: &Source) -> Vec<String> {
    let value = constants(source).into_iter().find(|(name, _)| name == "BUILTIN").unwrap().1;
    let mut found = Vec::new();
    calls(value, &["native", "compatible", "Builtin"], &mut found);
    found.into_iter().map(|(_, name)| name).collect()
}

/// The table rows of each section: the name in backticks, the second cell and the third.
fn sections(document: &str) -> BTreeMap<String, Vec<[String; 3]>> {
    let mut sections: BTreeMap<String, Vec<[String; 3]>> = BTreeMap::new();
    let mut section = String::new();
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix("## ").or(line.strip_prefix("### ")) {
            section = heading.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, word, why, ""] = cells.as_slice()
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            let row = [name, word, why].map(str::to_owned);
            sections.entry(section.clone()).or_default().push(row);
        }
    }
    sections
}

/// The document with the tables of the code in place of its own: all that follows its heading `## Keys`.
fn with_tables(document: &str, tables: &str) -> String {
    let heading = "\n## Keys\n\n";
    let before = document.find(heading).map_or(document, |at| &document[..at]);
    format!("{before}{heading}{tables}")
}

#[test]
fn every_key_is_documented_as_implemented() {
    let document = read(DOCUMENT);
    let wanted = with_tables(&document, &compatibility_tables());
    if document != wanted {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compatibility.md");
        std::fs::write(&copy, wanted).unwrap();
        panic!("{DOCUMENT} is not what the code does; copy {} to it", copy.display());
    }
}

#[test]
fn a_document_gets_the_tables_of_the_code() {
    let document = "# Title\n\nText.\n\n## Keys\n\n### Old\n";
    assert_eq!(with_tables(document, "### New\n"), "# Title\n\nText.\n\n## Keys\n\n### New\n");
}

#[test]
fn every_provider_is_documented() {
    let path = "crates/common/src/team/model.rs";
    let all = providers(&Source::parse(path, &read(path), false));
    assert!(all.iter().any(|name| name == "azure"), "{all:?}");
    let document = read(DOCUMENT);
    let named: Vec<String> = sections(&document)[PROVIDERS].iter().map(|row| row[0].clone()).collect();
    assert_eq!(named, all, "{DOCUMENT}: the providers are those of {path}, in its order");
}

/// Tests that use an agent file with every key of the schema.
const OF_EVERY_KEY: [&str; 4] = [
    "every_key_resolves",
    "what_is_unsafe_without_its_effect_is_refused_by_name",
    "the_oldest_schema_is_read",
    "an_invalid_value_of_every_key_is_reported_at_its_position",
];

/// Rows of the document without a valid test, and tests without a row. `text` reads a file of the repository.
fn untested(document: &str, named: &str, text: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let rows: Vec<(String, String)> = sections(document)
        .into_iter()
        .flat_map(|(section, rows)| rows.into_iter().map(move |row| (section.clone(), row[0].clone())))
        .collect();
    let mut tests: BTreeMap<(String, String), &str> = BTreeMap::new();
    for line in named.lines().filter(|line| !line.starts_with('#')) {
        let [section, row, test] = line.split(" | ").collect::<Vec<_>>()[..] else {
            return vec![format!("{TESTS}: `{line}` is not `section | row | file::test`")];
        };
        tests.insert((section.to_owned(), row.to_owned()), test);
    }
    let mut complaints = Vec::new();
    for row in &rows {
        let (section, key) = row;
        match tests.remove(row) {
            None => complaints.push(format!("{TESTS}: name the test of `{key}` in {section}")),
            Some(test) => complaints.extend(wrong_test(key, test, &text)),
        }
    }
    let gone =
        tests.into_keys().map(|(section, key)| format!("{TESTS}: there is no row `{key}` in {section}"));
    complaints.extend(gone);
    complaints
}

/// What is wrong with the test of a row, if anything.
fn wrong_test(key: &str, test: &str, text: impl Fn(&str) -> Option<String>) -> Option<String> {
    let found = test.split_once("::").and_then(|(file, name)| Some((name, text(file)?)));
    let Some((name, text)) = found.filter(|(name, text)| text.contains(&format!("fn {name}("))) else {
        return Some(format!("{TESTS}: the test `{test}` does not exist"));
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |text: &str| {
        text.match_indices(key)
            .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + key.len()..].starts_with(is_word))
    };
    let shows = OF_EVERY_KEY.contains(&name) || words(&text);
    (!shows).then(|| format!("{TESTS}: the file of `{test}` does not name `{key}`"))
}

#[test]
fn every_row_has_a_test() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    hold(&untested(&read(DOCUMENT), &read(TESTS), text));
}

#[test]
fn rows_without_a_test_are_found() {
    let document = "### A map\n| `a` | yes | |\n| `b` | no | why |\n| `c` | yes | |\n";
    let text =
        |path: &str| (path == "t.rs").then(|| "fn of_a() { \"a\" } fn every_key_resolves() {}".to_owned());
    let right = "# comment\nA map | a | t.rs::of_a\nA map | b | t.rs::every_key_resolves\nA map | c | t.rs::every_key_resolves\n";
    assert_eq!(untested(document, right, text), [""; 0]);
    let wrong = "A map | a | t.rs::of_b\nA map | b | t.rs::of_a\nA map | d | t.rs::of_a\n";
    assert_eq!(untested(document, wrong, text).len(), 4);
    assert_eq!(untested(document, "A map | a\n", text).len(), 1);
}
