//! Odd and hostile variants of good files: each has the answer that its author can act on.

use super::good::good;
use crate::team::parse;

/// A file with an agent that has these keys.
fn agent(keys: &str) -> String {
    format!("agents:\n  root:\n    model: openai/gpt-4o\n    {keys}\n")
}

/// A file with an agent that has this toolset.
fn toolset(keys: &str) -> String {
    agent(&format!("toolsets:\n      - {{{keys}}}"))
}

/// A file with an agent that has this hook for an event that is not about a tool.
fn hook(event: &str, keys: &str) -> String {
    agent(&format!("hooks:\n      {event}: {{{keys}}}"))
}

/// A file with these keys at the top.
fn top(keys: &str) -> String {
    format!("{keys}\nagents: {{root: {{model: openai/gpt-4o}}}}\n")
}

/// A file that fails, the line of its error, a part of the message and a part of the hint.
type Failing = (String, u64, &'static str, &'static str);

/// Keys that exist, at places where they do not.
fn misplaced() -> Vec<Failing> {
    vec![
        (top("safety: strict"), 1, "unknown key `safety` in the file", "below `agents: <name>:`"),
        (top("readonly: true"), 1, "unknown key `readonly` in the file", "below `agents: <name>:`"),
        (
            top("hooks: {stop: {type: command, command: x}}"),
            1,
            "unknown key `hooks`",
            "below `agents: <name>:`",
        ),
        (top("max_iterations: 3"), 1, "unknown key `max_iterations`", "below `agents: <name>:`"),
        (agent("allow_list: [.]"), 4, "unknown key `allow_list` in an agent", "in the list `toolsets:`"),
        (agent("sandbox: true"), 4, "unknown key `sandbox` in an agent", ""),
        (
            agent("permissions: {deny: [shell]}"),
            4,
            "unknown key `permissions` in an agent",
            "at its left margin",
        ),
        (agent("budget: {max_cost: 1}"), 4, "unknown key `budget` in an agent", "at its left margin"),
        (
            toolset("type: shell, allow_list: [.]"),
            5,
            "allow_list can only be used with type 'filesystem' or 'file'",
            "'shell'",
        ),
        (toolset("type: think, working_dir: x"), 5, "working_dir can only be used with type", "'think'"),
        (toolset("type: plan, path: x"), 5, "path can only be used with type 'memory' or 'tasks'", "'plan'"),
        (
            toolset("type: filesystem, safety: strict"),
            5,
            "unknown key `safety` in a toolset",
            "below `agents: <name>:`",
        ),
        (
            top("runtime: {safty: strict}"),
            1,
            "unknown key `safty` in the runtime defaults",
            "did you mean `safety`?",
        ),
        (
            top("budget: {max_token: 5}"),
            1,
            "unknown key `max_token` in a budget",
            "did you mean `max_tokens`?",
        ),
        (agent("cache: {enable: true}"), 4, "unknown key `enable` in a cache", "did you mean `enabled`?"),
    ]
}

/// Values that have no meaning, above all where a wrong reading would let an agent do more.
fn senseless() -> Vec<Failing> {
    vec![
        (agent("safety: Strict"), 4, "invalid safety mode `Strict`", "`strict`"),
        (agent("safety: [strict]"), 4, "`safety` must be", ""),
        (agent("readonly: \"yes\""), 4, "`readonly` must be `true` or `false`", "write `true`"),
        (top("runtime: {sandbox: \"true\"}"), 1, "`sandbox`", ""),
        (top("permissions: {deny: shell}"), 1, "`deny` must be a list of strings", "`[shell]`"),
        (top("permissions: {deny: [[shell]]}"), 1, "an item of `deny` must be a string, not a list", ""),
        (toolset("type: filesystem, allow_list: [null]"), 5, "an item of `allow_list` must be a string", ""),
        (toolset("type: filesystem, deny_list: ['']"), 5, "an entry of `deny_list` must not be empty", ""),
        (
            toolset("type: fetch, blocked_domains: ['https://a.com/x']"),
            5,
            "`https://a.com/x` in `blocked_domains` is not a host",
            "`example.com`",
        ),
        (
            toolset("type: fetch, allowed_domains: ['*']"),
            5,
            "`*` in `allowed_domains` is not a host",
            "`*.example.com`",
        ),
        (toolset("type: fetch, blocked_domains: ['a.com:80']"), 5, "`a.com:80` in `blocked_domains`", ""),
        (toolset("type: fetch, blocked_domains: ['10.0.0.0/x']"), 5, "`10.0.0.0/x` in `blocked_domains`", ""),
        (
            toolset("type: fetch, allow_private_ips: \"false\""),
            5,
            "must be `true` or `false`",
            "remove the quotes",
        ),
        (top("budget: {max_cost: -1}"), 1, "`max_cost` must be a number", ""),
        (top("budget: {max_time: tomorrow}"), 1, "`max_time` must be a duration", "30s"),
        (agent("max_iterations: -1"), 4, "`max_iterations` must be an integer of at least 0", ""),
        (agent("compaction_threshold: 0"), 4, "greater than 0", ""),
        (agent("force_handoff: nowhere"), 4, "non-existent force_handoff agent 'nowhere'", "`root`"),
        (
            agent("structured_output: {name: x, schema: {type: object}, mode: strict}"),
            4,
            "unknown mode `strict`",
            "`tool`",
        ),
        (agent("add_prompt_files_depth: deep"), 4, "`add_prompt_files_depth` must be an integer", ""),
        (agent("cache: true"), 4, "a cache must be a map of keys", "`enabled`"),
        (
            toolset("type: mcp, remote: {url: 'https://a.com'}, allow_private_ips: false"),
            5,
            "`allow_private_ips: false` of an MCP server is refused",
            "remove the key",
        ),
        (toolset("type: open_url"), 5, "url must be set in a toolset of type 'open_url'", ""),
    ]
}

/// Hooks that would not run, or not as their author means.
fn hooks() -> Vec<Failing> {
    let guard = |event: &str, keys: &str| agent(&format!("hooks:\n      {event}: [{{{keys}}}]"));
    vec![
        (
            guard("pre_tool_use", "matcher: '(', hooks: [{type: command, command: x}]"),
            5,
            "matcher `(` is not a regular expression: unclosed group",
            "`shell|edit_.*`",
        ),
        (
            guard("tool_guard", "hooks: [{type: builtin, command: saver_shell}]"),
            5,
            "unknown built-in hook `saver_shell`",
            "did you mean `safer_shell`?",
        ),
        (
            guard("tool_response_transform", "hooks: [{type: builtin, command: nothing}]"),
            5,
            "unknown built-in hook `nothing`",
            "`redact_secrets`",
        ),
        (
            guard("tool_guard", "preempt_yolo: true, hooks: [{type: command, command: x}]"),
            5,
            "`preempt_yolo` can only be used with `pre_tool_use`",
            "",
        ),
        (
            guard("pre_tool", "hooks: [{type: command, command: x}]"),
            5,
            "unknown key `pre_tool` in the hooks",
            "did you mean `pre_tool_use`?",
        ),
        (
            hook("turn_end", "type: command, command: x, on_error: block"),
            5,
            "`on_error: block` needs an event that a hook can stop",
            "`before_llm_call`",
        ),
        (
            hook("stop", "type: command, command: x, on_error: maybe"),
            5,
            "unknown on_error `maybe`",
            "`block`",
        ),
        (
            hook("stop", "type: command, command: x, timeout: -1"),
            5,
            "`timeout` must be an integer of at least 0",
            "",
        ),
    ]
}

/// Built-in hooks without the arguments that they need.
fn builtin_hooks() -> Vec<Failing> {
    vec![
        (
            hook("before_llm_call", "type: builtin, command: max_iterations"),
            5,
            "`max_iterations` needs a number above zero",
            "[\"50\"]",
        ),
        (
            hook("before_llm_call", "type: builtin, command: max_iterations, args: [many]"),
            5,
            "`max_iterations` needs a number above zero",
            "",
        ),
        (
            agent("hooks: {tool_guard: [{hooks: [{type: builtin, command: max_iterations, args: ['5']}]}]}"),
            4,
            "`max_iterations` does nothing at `tool_guard`",
            "write it below `before_llm_call`",
        ),
        (
            hook("pre_compact", "type: builtin, command: safer_shel"),
            5,
            "unknown built-in hook `safer_shel`",
            "did you mean `safer_shell`?",
        ),
        (
            hook("stop", "type: builtin, command: http_post, args: ['ftp://a']"),
            5,
            "`http_post` needs an http or https URL",
            "",
        ),
        (
            hook("turn_start", "type: builtin, command: add_context, args: ['{{range .X}}']"),
            5,
            "`range` is not supported",
            "`toJSON`",
        ),
    ]
}

/// Skills whose lists of tools would mean all of them.
fn skills() -> Vec<Failing> {
    let skill = |tools: &str| {
        let skill = "name: s, description: d, instructions: i, context: fork";
        agent(&format!("skills:\n    - {{{skill}, allowed_tools: {tools}}}"))
    };
    let message = "`allowed_tools` of a skill must name tools";
    let all = "leave it out for all tools";
    ["[]", "''", "['']", "[' ', shell]"].map(|tools| (skill(tools), 5, message, all)).into()
}

/// Agents that are programs, which nothing of the file holds back.
fn programs() -> Vec<Failing> {
    let program = |keys: &str| format!("agents:\n  root:\n    harness: {{type: codex}}\n    {keys}\n");
    let hint = "restrict it with its own settings";
    let guard = "hooks: {pre_tool_use: [{hooks: [{type: command, command: x}]}]}";
    vec![
        (program("readonly: true"), 4, "`readonly` in an agent with `harness` is refused", hint),
        (program("safety: restricted"), 4, "`safety` in an agent with `harness` is refused", hint),
        (program(guard), 4, "`hooks` in an agent with `harness` is refused", hint),
        (
            "agents:\n  root:\n    command: [cat]\n    readonly: true\n".to_owned(),
            4,
            "`readonly` in an agent with `command` is refused",
            hint,
        ),
    ]
}

/// What YAML itself makes of a file.
fn documents() -> Vec<Failing> {
    let two = format!("{}---\n{}", agent("readonly: true"), agent("readonly: false"));
    vec![
        (top("x: &a {type: shell}"), 1, "unknown key `x` in the file", "valid keys of the file"),
        ("agents: {root: *nowhere}\n".to_owned(), 1, "this alias has no anchor", "`&name`"),
        ("agents: !include other.yaml\n".to_owned(), 1, "unsupported YAML tag `!include`", "remove it"),
        (two, 6, "more than one YAML document", "remove the `---`"),
        (
            agent("readonly: true\n    readonly: false"),
            5,
            "duplicate key `readonly`",
            "the other is on line 4",
        ),
        (top("version: -1"), 1, "unsupported config version: -1", "omit `version`"),
        (top("version: 7.5"), 1, "unsupported config version: 7.5", "omit `version`"),
        (top("version: 99999999999999999999"), 1, "unsupported config version", "omit `version`"),
    ]
}

#[test]
fn odd_files_fail_with_line_message_and_hint() {
    for (text, line, message, hint) in
        [misplaced(), senseless(), hooks(), builtin_hooks(), skills(), programs(), documents()]
            .into_iter()
            .flatten()
    {
        let errors = parse("agents.yaml", text.as_bytes()).expect_err(&text);
        let error = errors.iter().next().unwrap();
        let found = (error.line(), error.message(), error.hint().unwrap_or_default());
        assert_eq!(found.0, Some(line), "{text}\n{found:?}");
        assert!(found.1.contains(message), "{text}\n{found:?}");
        assert!(found.2.contains(hint), "{text}\n{found:?}");
    }
}

#[test]
fn a_restraint_that_says_nothing_is_a_warning() {
    for (text, expected) in [
        (agent("safety:"), "`safety` has no value and restricts nothing"),
        (agent("readonly: null"), "`readonly` has no value and restricts nothing"),
        (top("permissions: {deny: ~}"), "`deny` has no value and restricts nothing"),
        (top("budget:"), "`budget` has no value and restricts nothing"),
        (toolset("type: filesystem, allow_list: []"), "`allow_list` is an empty list and restricts nothing"),
        (
            toolset("type: fetch, blocked_domains: []"),
            "`blocked_domains` is an empty list and restricts nothing",
        ),
    ] {
        let warnings = good(&text).warnings;
        let messages: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(messages, [expected], "{text}");
    }
}

#[test]
fn odd_files_that_mean_something_are_accepted() {
    let anchored = "agents:\n  root: &r {model: openai/gpt-4o, readonly: true}\n  two:\n    <<: *r\n    instruction: x\n";
    let team = good(anchored).team;
    assert!(team.agents().iter().all(|agent| agent.readonly), "a merged key holds for both agents");
    let last = good(&top("version: null"));
    assert!(last.warnings.is_empty(), "no version is the newest one");
    for text in [
        toolset(
            "type: fetch, blocked_domains: [a.com, .b.com, '*.c.com', 10.0.0.0/8, '::1', 'fe80::/10', münchen.de]",
        ),
        hook("post_tool_use", "hooks: [{type: command, command: x, on_error: block}]"),
        format!("version: 15\n{}", hook("turn_end", "type: command, command: x, on_error: block")),
        hook("stop", "type: builtin, command: of_the_future"),
    ] {
        good(&text);
    }
}
