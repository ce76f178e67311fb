//! Hostile files: they are rejected quickly with a clear message, and never cause a panic.

use std::io::Write as _;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::BACKGROUND_AGENTS;
use super::EVERY_KEY;
use crate::team::Team;
use crate::team::keys;
use crate::team::parse;

/// The time limit for each file. Parsing takes far less than a second; the rest allows for a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A file whose aliases expand exponentially, with this many levels ("billion laughs").
fn alias_bomb(levels: usize) -> String {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..levels {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    text
}

/// The same with merge keys.
fn merge_key_bomb() -> String {
    let mut text = "a0: &a0 {x: 1}\n".to_owned();
    for level in 1..40 {
        let below = level - 1;
        text.push_str(&format!(
            "a{level}: &a{level} {{b{level}: *a{below}, c{level}: *a{below}, <<: [*a{below}, *a{below}]}}\n"
        ));
    }
    text
}

/// The name and the bytes of a file.
type Case = (&'static str, Vec<u8>);

/// A number of agents with these keys.
fn agents(count: usize, keys: &str) -> String {
    let lines = (0..count).map(|n| format!("  a{n}: {{{keys}}}\n"));
    format!("agents:\n{}", lines.collect::<String>())
}

/// Files that define something large once and refer to it often.
fn amplifying() -> Vec<Case> {
    let long = "x".repeat(1024 * 1024);
    let many = agents(5000, "model: m");
    let served = agents(3000, "model: auto, toolsets: [{type: mcp, ref: d}]");
    let (stars, anchors, ends) = ("*a, ".repeat(1000), "&a [".repeat(20), "]".repeat(20));
    let (names, rules) = ("l,".repeat(30), "{model: l}, ".repeat(2000));
    let options = format!("m: {{provider: ollama, model: m, provider_opts: {{o: {long}}}}}");
    let single = format!("l: {{provider: ollama, model: {long}}}");
    let routing = format!("m: {{provider: ollama, model: b, routing: [{rules}]}}");
    let texts = [
        ("an alias of a long text", format!("a: &a {long}\nb: [{stars}]\n")),
        ("many anchors on a long text", format!("a: {anchors}[{long}]{ends}\n")),
        ("a large model for many agents", format!("models: {{{options}}}\n{many}")),
        ("a large list of models", format!("models: {{{single}, m: {{model: '{names}'}}}}\n{many}")),
        ("a large routed model", format!("models: {{{single}, {routing}}}\n{many}")),
        ("a large server", format!("mcps: {{d: {{ref: 'docker:d', config: {{o: {long}}}}}}}\n{served}")),
    ];
    texts.map(|(name, text)| (name, text.into_bytes())).to_vec()
}

/// Files with many references, errors or warnings.
fn crowded() -> Vec<Case> {
    let models: String = (0..4000).map(|n| format!("  m{n}x: {{provider: ollama, model: m}}\n")).collect();
    let names: Vec<String> = (0..9_000).map(|n| format!("s{n}")).collect();
    let all: String = names.iter().map(|name| format!("  {name}: {{model: auto}}\n")).collect();
    let sub_agents = names.join(", ");
    let blank = "x\n\n".repeat(2_000_000);
    let (unknown, misspelt) = (agents(4000, "model: m1y"), agents(9000, "modle: x"));
    let warned = agents(4500, "model: auto, rag: [], skills: true, welcome_message: x");
    let commas = "openai/a,".repeat(900_000);
    let texts = [
        ("many commas", format!("agents: {{a: {{model: '{commas}'}}}}")),
        ("many unknown references", format!("models:\n{models}{unknown}")),
        ("many sub-agents", format!("agents:\n  r: {{model: auto, sub_agents: [{sub_agents}]}}\n{all}")),
        ("many warnings", warned),
        ("errors after a long text", format!("metadata: {{readme: \"{blank}\"}}\n{misspelt}")),
    ];
    texts.map(|(name, text)| (name, text.into_bytes())).to_vec()
}

/// Files that are invalid or too large.
fn hostile() -> Vec<Case> {
    let mut cases = broken();
    cases.extend(huge());
    cases
}

/// Files that are not YAML, not agent files, or invalid.
fn broken() -> Vec<Case> {
    let agents = "agents: {a: {model: auto}}\n";
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    vec![
        ("empty", Vec::new()),
        ("only comments", b"#!/usr/bin/env legwork\n# nothing\n".to_vec()),
        ("only spaces", b"  \n\n".to_vec()),
        ("a null", b"~".to_vec()),
        ("one text", b"hello".to_vec()),
        ("a list", b"- a\n- b\n".to_vec()),
        ("an alias bomb", alias_bomb(12).into_bytes()),
        ("a merge key bomb", merge_key_bomb().into_bytes()),
        ("an alias of itself", b"a: &a [*a]\n".to_vec()),
        ("deep lists", "[".repeat(100_000).into_bytes()),
        (
            "deep blocks",
            (0..5000).map(|n| format!("{}a:\n", " ".repeat(n % 400))).collect::<String>().into_bytes(),
        ),
        ("deep dashes", "- ".repeat(100_000).into_bytes()),
        ("deep maps", "{a: ".repeat(10_000).into_bytes()),
        ("deep quotes in flow", "\"a\": {".repeat(3_000).into_bytes()),
        ("a duplicate agent", b"agents:\n  a: {model: auto}\n  a: {model: auto}\n".to_vec()),
        ("a duplicate key", b"agents:\n  a:\n    model: auto\n    model: openai/x\n".to_vec()),
        ("a tab", b"agents:\n\ta: {model: auto}\n".to_vec()),
        ("an open quote", b"agents:\n  a: {model: \"auto}\n".to_vec()),
        ("an open bracket", b"agents: {a: {model: auto}\n".to_vec()),
        ("an unknown anchor", b"agents: *missing\n".to_vec()),
        ("a star", b"agents: {a: {model: auto, description: *bold*}}\n".to_vec()),
        ("two documents", format!("{agents}---\n{agents}").into_bytes()),
        ("a colon in plain text", b"agents:\n  a:\n    model: auto\n    description: note: this\n".to_vec()),
        ("bad indentation", b"agents:\n  a:\n    model: auto\n   description: x\n".to_vec()),
        ("utf-16 with a mark", [vec![0xff, 0xfe], utf16(agents)].concat()),
        ("utf-16 without", utf16(agents)),
        ("latin-1", b"agents:\n  a: {model: auto, description: caf\xe9}\n".to_vec()),
        ("a nul", b"agents:\n  a\0: {model: auto}\n".to_vec()),
        (
            "escapes for the terminal",
            b"agents: {\"a\\e[31m\": {\"mo\\e[2Jdel\": x, model: \"\\u202e\"}}".to_vec(),
        ),
        ("a key that is a list", b"[a, b]: c\n".to_vec()),
        ("a number beyond floats", b"version: 1e999\n".to_vec()),
        ("a very long number", format!("version: {}", "9".repeat(100_000)).into_bytes()),
        (
            "not a number",
            b"models: {m: {provider: openai, model: x, temperature: .nan}}\nagents: {a: {model: m}}".to_vec(),
        ),
        ("a tag", b"agents: !!python/object:os.system {a: {model: auto}}\n".to_vec()),
        ("binary", b"agents: !!binary aGVsbG8=\n".to_vec()),
    ]
}

/// Files that are too large, or repeat something too often.
fn huge() -> Vec<Case> {
    vec![
        ("50 MB", vec![b'a'; 50_000_000]),
        ("8 MiB of one text", vec![b'a'; 8 * 1024 * 1024]),
        ("8 MiB of keys", "a: b\n".repeat(1_600_000).into_bytes()),
        ("8 MiB of items", "- b\n".repeat(2_000_000).into_bytes()),
        ("8 MiB of line ends", vec![b'\n'; 8 * 1024 * 1024]),
        ("8 MiB of one comment", format!("#{}", "a".repeat(8 * 1024 * 1024 - 1)).into_bytes()),
        ("8 MiB of a quoted key", format!("\"{}\": 1", "a".repeat(8 * 1024 * 1024 - 8)).into_bytes()),
        ("many unknown keys", (0..5000).map(|n| format!("key{n}: 1\n")).collect::<String>().into_bytes()),
        (
            "many agents with an unknown model",
            format!("agents:\n{}", (0..4000).map(|n| format!("  a{n}: {{model: m}}\n")).collect::<String>())
                .into_bytes(),
        ),
    ]
}

#[test]
fn hostile_files_are_rejected_quickly_with_a_clear_message() {
    let mut all = String::new();
    for (name, bytes) in [hostile(), amplifying(), crowded()].concat() {
        let start = Instant::now();
        let report = match parse("agents.yaml", &bytes) {
            Ok(_) => "accepted\n".to_owned(),
            Err(errors) => errors.report(),
        };
        let took = start.elapsed();
        assert!(took < TIME_LIMIT, "{name} took {took:?}");
        assert!(!report.contains('\u{1b}') && !report.contains('\u{202e}'), "{name}");
        let shown: String = report.chars().take(700).collect();
        all.push_str(&format!("=== {name}\n{shown}\n"));
    }
    insta::assert_snapshot!("hostile", all);
}

/// Counts of the parsed files, for the output of the tests.
#[derive(Debug, Default)]
struct Tried {
    files: AtomicUsize,
    accepted: AtomicUsize,
    errors: AtomicUsize,
}

static TRIED: Tried =
    Tried { files: AtomicUsize::new(0), accepted: AtomicUsize::new(0), errors: AtomicUsize::new(0) };

impl Tried {
    fn count(&self, accepted: bool, errors: usize) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(usize::from(accepted), Ordering::Relaxed);
        self.errors.fetch_add(errors, Ordering::Relaxed);
    }
}

/// Prints the counts when a test ends.
struct Report(&'static str);

impl Drop for Report {
    fn drop(&mut self) {
        let Tried { files, accepted, errors } = &TRIED;
        let [files, accepted, errors] = [files, accepted, errors].map(|count| count.load(Ordering::Relaxed));
        // Written directly to standard error, which the test harness does not capture: the counts are for the log.
        let line = format!(
            "fuzzed the agent file until the end of {}: {files} files, {accepted} accepted, {errors} errors reported, no panic\n",
            self.0
        );
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
}

/// Applies one mutation to the bytes of a file.
fn mutate(bytes: &mut Vec<u8>, at: usize, kind: u8, with: u8) {
    if bytes.is_empty() {
        return;
    }
    let at = at % bytes.len();
    match kind % 5 {
        0 => bytes[at] = with,
        1 => bytes.insert(at, with),
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        _ => {
            let end = (at + usize::from(with)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece).for_each(drop);
        }
    }
}

/// Parses bytes, and checks that the result can be printed and serialized.
fn check(bytes: &[u8]) {
    match parse("agents.yaml", bytes) {
        Ok(parsed) => {
            TRIED.count(true, 0);
            let json = parsed.team.to_json().unwrap();
            assert_eq!(
                serde_json::from_str::<Team>(&json).unwrap().agents().len(),
                parsed.team.agents().len()
            );
        }
        Err(errors) => {
            let count = errors.iter().count() + errors.left_out();
            TRIED.count(false, count);
            assert!(errors.report().starts_with("agents.yaml:") && count > 0);
        }
    }
}

/// Checks `cases` files of a strategy, and prints the counts.
fn fuzz<S: Strategy>(name: &'static str, cases: u32, strategy: S, bytes: impl Fn(S::Value) -> Vec<u8>) {
    let report = Report(name);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let run = runner.run(&strategy, |value| {
        check(&bytes(value));
        Ok(())
    });
    run.unwrap();
    drop(report);
}

/// The number of files in each of the tests below.
const CASES: u32 = 1000;

#[test]
fn arbitrary_bytes_never_panic() {
    let bytes = proptest::collection::vec(any::<u8>(), 0..400);
    fuzz("arbitrary bytes", CASES, bytes, |bytes| bytes);
}

#[test]
fn arbitrary_yaml_like_text_never_panics() {
    let text = "[a-c:{}\\[\\]&*!|>'\"%@`,#?\\- \n\t~<.0-9é\u{202e}]{0,200}";
    fuzz("text like YAML", CASES, text, String::into_bytes);
}

/// Keys, values and structure of agent files, concatenated in random order.
fn pieces() -> impl Strategy<Value = String> {
    let names = keys::ALL.iter().flat_map(|keys| keys.names(keys::NEWEST_VERSION)).collect::<Vec<_>>();
    let key = proptest::sample::select(names).prop_map(|name| format!("{name}: "));
    let value = proptest::sample::select(vec![
        "auto\n",
        "true\n",
        "[",
        "{",
        "]",
        "}",
        ", ",
        "\n",
        "  ",
        "    ",
        "- ",
        "openai/gpt-4o",
        "docker:x\n",
        "1m\n",
        "-1",
        "0.5\n",
        "root",
        "*a ",
        "&a ",
        "<<: *a\n",
        "|\n",
        "\"",
        "${env.X}",
    ]);
    let piece = prop_oneof![key, value.prop_map(str::to_owned)];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn pieces_of_agent_files_never_panic() {
    let agent = pieces().prop_map(|text| format!("agents:\n  root:\n    model: auto\n    {text}"));
    fuzz("pieces of agent files", CASES, prop_oneof![pieces(), agent], String::into_bytes);
}

#[test]
fn mutated_valid_files_never_panic() {
    let mutations = proptest::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..6);
    fuzz("mutated valid files", CASES, (any::<bool>(), mutations), |(long, mutations)| {
        let mut bytes = if long { EVERY_KEY } else { BACKGROUND_AGENTS }.as_bytes().to_vec();
        for (at, kind, with) in mutations {
            mutate(&mut bytes, at, kind, with);
        }
        bytes
    });
}
