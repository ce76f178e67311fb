//! What Legwork refuses: keys that hold an agent back, and that are not supported.

use std::collections::BTreeSet;

use crate::team::Class;
use crate::team::Support;
use crate::team::compatibility_rows;
use crate::team::parse;

/// A file with an agent that has these keys.
fn agent(keys: &str) -> String {
    format!("agents:\n  root:\n    model: openai/gpt-4o\n    {keys}\n")
}

/// A file with an agent that has this toolset.
fn toolset(keys: &str) -> String {
    agent(&format!("toolsets: [{keys}]"))
}

/// A file with these keys at the top.
fn top(keys: &str) -> String {
    format!("{keys}\nagents: {{root: {{model: openai/gpt-4o}}}}\n")
}

/// The map and the name of a refused key, and a file with it.
fn files() -> Vec<(&'static str, &'static str, String)> {
    let mut files = vec![
        ("the file", "evaluators", top("evaluators: {tone: {model: x}}")),
        ("the runtime defaults", "sandbox", top("runtime: {sandbox: true}")),
        ("a provider", "auth", top("providers: {p: {provider: anthropic, auth: {type: x}}}")),
        ("a model", "auth", top("models: {m: {provider: anthropic, model: x, auth: {type: x}}}")),
        ("an agent", "routing", agent("routing: {a: b}")),
        ("an agent", "subagents", agent("subagents: [a]")),
        ("a toolset", "safer", toolset("{type: shell, safer: true}")),
    ];
    let guard = |hook: &str| agent(&format!("hooks: {{pre_tool_use: [{{hooks: [{hook}]}}]}}"));
    files.push(("a built-in hook", "safer_shell", guard("{type: builtin, command: safer_shell}")));
    files
}

#[test]
fn what_is_unsafe_without_its_effect_is_refused_by_name() {
    let mut shown = String::new();
    for (map, key, text) in files() {
        let errors = parse("agents.yaml", text.as_bytes()).expect_err(&text);
        let error = errors.iter().next().unwrap();
        assert_eq!(error.class(), Class::Refused, "{key}: {error}");
        let (subject, refused) = error.message().split_once(" is refused").unwrap();
        assert!(
            subject == format!("`{key}` in {map}") || subject == format!("`{key}` as {map}"),
            "{refused}"
        );
        assert!(error.line().is_some() && error.hint().is_some(), "{error}");
        shown.push_str(&format!("=== {map}: {key}\n{}\n", errors.report()));
    }
    insta::assert_snapshot!("refused", shown);
}

#[test]
fn every_refused_key_has_a_file() {
    let listed: BTreeSet<(&str, &str)> = files().iter().map(|(map, key, _)| (*map, *key)).collect();
    let refused = compatibility_rows().filter(|row| row.support == Support::Refused);
    assert_eq!(refused.map(|row| (row.map, row.key)).collect::<BTreeSet<_>>(), listed);
}

#[test]
fn a_refused_key_that_asks_for_nothing_is_accepted() {
    let files = [
        agent("hooks: {pre_tool_use: []}"),
        agent("hooks: {stop: [{type: builtin, command: safer_shell}]}"),
        toolset("{type: shell, safer: false}"),
        top("runtime: {sandbox: false}"),
        top("budget: {max_cost: 0, max_time: 0, max_tokens: 0}"),
    ];
    for text in files {
        assert!(parse("agents.yaml", text.as_bytes()).is_ok(), "{text}");
    }
}
