//! Which teams an earlier release may run: those without anything that it would leave out.

use super::good::good;

/// The beginning of a team that an earlier release does not run.
const LATER: &str = "{\"v\":2,";

fn is_later(text: &str) -> bool {
    good(text).team.to_json().unwrap().starts_with(LATER)
}

fn agent(keys: &str) -> String {
    format!("agents: {{root: {{model: openai/gpt-4o, {keys}}}}}\n")
}

#[test]
fn what_holds_an_agent_back_raises_the_version_of_the_stored_team() {
    let hooks = "hooks: {tool_guard: [{hooks: [{type: command, command: x}]}]}";
    for keys in [
        "readonly: true",
        "safety: strict",
        "redact_secrets: true",
        "max_consecutive_tool_calls: 3",
        hooks,
        "skills: [{name: s, description: d, instructions: i, context: fork, allowed_tools: [read_*]}]",
        "toolsets: [{type: think, readonly: true}]",
        "toolsets: [{type: filesystem, allow_list: [.]}]",
        "toolsets: [{type: file, deny_list: [x]}]",
        "toolsets: [{type: fetch, allowed_domains: [a.com]}]",
        "toolsets: [{type: fetch, blocked_domains: [a.com]}]",
        "toolsets: [{type: fetch, allow_private_ips: false}]",
        "toolsets: [{type: openapi, url: 'https://a.com', allow_private_ips: false}]",
    ] {
        assert!(is_later(&agent(keys)), "{keys}");
    }
    for keys in ["runtime: {safety: balanced}", "budget: {max_cost: 1}", "budgets: {day: {max_tokens: 7}}"] {
        assert!(is_later(&format!("{keys}\n{}", agent(""))), "{keys}");
    }
}

#[test]
fn a_team_without_any_of_that_is_of_the_first_version() {
    for keys in [
        "",
        "readonly: false",
        "max_iterations: 3, toolsets: [{type: shell}, {type: fetch}]",
        "safety: autonomous",
    ] {
        assert!(!is_later(&agent(keys)), "{keys}");
    }
    let team = good(&agent("readonly: true")).team;
    let json = team.to_json().unwrap();
    let read: crate::team::Team = crate::stored::TEAM.from_json(&json).unwrap();
    assert_eq!(read, team, "this release reads both");
    let earlier = crate::stored::TEAM.at_version(1).from_json::<crate::team::Team>(&json).unwrap_err();
    assert_eq!(earlier.to_string(), "the team has version 2, and this release reads up to version 1");
}
