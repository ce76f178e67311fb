//! Invalid files with one error each. The snapshot is the test: review it as a user who has to fix the file.

use crate::team::parse;

/// The model of the agents in these files.
const MODEL: &str = "model: openai/gpt-4o";

/// The name and the text of an invalid file.
type Case = (&'static str, String);

/// A file with an agent that has a model and these keys.
fn agent(keys: &str) -> String {
    format!("agents:\n  root:\n    {MODEL}\n    {keys}\n")
}

/// A file with an agent that has these keys and no model, and another agent.
fn run(keys: &str) -> String {
    format!("agents:\n  root:\n    {keys}\n  helper: {{{MODEL}}}\n")
}

/// A file with an agent that has this toolset.
fn toolset(keys: &str) -> String {
    format!("agents:\n  root:\n    {MODEL}\n    toolsets:\n      - {keys}\n")
}

/// A file with a model that has these keys.
fn model(keys: &str) -> String {
    format!(
        "models:\n  m:\n    provider: openai\n    model: gpt-4o\n    {keys}\nagents: {{root: {{model: m}}}}\n"
    )
}

/// A file with these keys at the top.
fn top(keys: &str) -> String {
    format!("{keys}\nagents: {{root: {{{MODEL}}}}}\n")
}

/// Errors at the top level.
fn top_level_errors() -> Vec<Case> {
    vec![
        ("a misspelt key at the top", top("agent: {}")),
        ("a key of an agent at the top", top("instruction: hello")),
        ("a version that is a word with a digit", top("version: 9a")),
        ("version is a word", top("version: latest")),
        ("version is a list", top("version: [1]")),
        ("agents empty", "agents:\n".to_owned()),
        ("agents as a list", "agents:\n  - name: root\n    model: auto\n".to_owned()),
        ("an agent that is text", "agents:\n  root: openai/gpt-4o\n".to_owned()),
        (
            "several at once",
            "agents:\n  a:\n    modle: auto\n    toolsets: [{type: mcp}]\n  b: {model: c, sub_agents: [d]}\n"
                .to_owned(),
        ),
        (
            "after tabs and wide characters",
            "agents:\n  root: {model: auto, description: 日本語, colour: red}\n".to_owned(),
        ),
        (
            "on a very long line",
            format!(
                "agents: {{root: {{model: auto, description: '{}', colour: red, instruction: '{}'}}}}\n",
                "x".repeat(300),
                "y".repeat(300)
            ),
        ),
        ("a text instead of a map", "hello\n".to_owned()),
    ]
}

/// Errors of models and providers.
fn model_errors() -> Vec<Case> {
    vec![
        ("a misspelt key of a model", model("max_token: 10")),
        ("no agents", "models: {}\n".to_owned()),
        ("unknown model with a similar name", "models: {fast: {provider: openai, model: x}}\nagents: {a: {model: fats}}\n".to_owned()),
        ("a model without provider", "models: {m: {model: gpt-4o}}\nagents: {a: {model: m}}\n".to_owned()),
        ("a model without model", "models: {m: {provider: openai}}\nagents: {a: {model: m}}\n".to_owned()),
        ("a routing rule to a list", "models: {l: {model: 'openai/a,openai/b'}, m: {provider: openai, model: x, routing: [{model: l}]}}\nagents: {a: {model: m}}\n".to_owned()),
        ("a list of itself", "models: {x: {model: 'openai/a,y'}, y: {model: 'x,openai/b'}}\nagents: {a: {model: x}}\n".to_owned()),
        ("a list with an unknown model", "models: {x: {model: 'a/b,z'}, y: {model: 'openai/a,openai/b'}}\nagents: {a: {model: x}}\n".to_owned()),
        ("temperature too high", model("temperature: 3")),
        ("temperature as text", model("temperature: hot")),
        ("max_tokens negative", model("max_tokens: -5")),
        ("a thinking map in a new version", model("thinking_budget: {tokens: 5}")),
        ("a timeout that is none", model("provider_opts: {first_byte_timeout: soon}")),
        ("a timeout of nothing", model("provider_opts: {idle_timeout: 0}")),
        ("routing without model", model("routing: [{examples: [a]}]")),
        ("a provider without base_url", top("providers: {p: {token_key: K}}")),
        ("a provider with a slash", top("providers: {a/b: {base_url: 'http://x'}}")),
        ("a provider of an unknown type", top("providers: {p: {base_url: 'http://x', api_type: grpc}}")),
        (
            "first_available with other keys",
            "models: {m: {first_available: [openai/gpt-4o], temperature: 1}}\nagents: {a: {model: m}}\n".to_owned(),
        ),
        ("first_available without candidates", "models: {m: {first_available: []}}\nagents: {a: {model: m}}\n".to_owned()),
        ("too many alternatives", run(&format!("model: '{}'", "openai/a,".repeat(40)))),
    ]
}

/// Errors of agents.
fn agent_errors() -> Vec<Case> {
    vec![
        ("a misspelt key of an agent", agent("toolset: []")),
        ("another spelling", agent("sub-agents: [x]")),
        ("an unknown key", agent("colour: red")),
        ("a key of a model in an agent", agent("temperature: 1")),
        ("a key of a toolset in an agent", agent("ignore_vcs: true")),
        ("a key of an old version", agent("think: true")),
        ("no model", run("description: x")),
        ("model and command", run("command: [cat]\n    model: auto")),
        ("command as text", run("command: claude -p")),
        ("command empty", run("command: []")),
        ("env without command", run("model: auto\n    env: {A: b}")),
        ("unknown sub-agent", run("model: auto\n    sub_agents: [helpr]")),
        ("unknown sub-agent without a similar name", run("model: auto\n    sub_agents:\n      - researcher")),
        ("unknown handoff", run("model: auto\n    handoffs: [x]")),
        ("a misspelt toolset", run("model: auto\n    toolsets: [{type: filesytem, ignore_vcs: true}]")),
        ("unknown model", run("model: gpt")),
        ("unknown provider", run("model: antropic/claude")),
        ("unknown provider without a similar name", run("model: foo/bar")),
        ("empty model part", run("model: openai/")),
        ("only commas", run("model: ','")),
        ("azure inline", run("model: azure/gpt-4o")),
        ("a flag that is a word", agent("add_date: yes")),
        ("a list that is text", agent("sub_agents: helper")),
        ("text that is a map", agent("instruction: {a: b}")),
        ("iterations as text", agent("max_iterations: many")),
        ("an unknown RAG source", agent("rag: [papers]")),
        ("a hook without type", agent("hooks: {session_start: [{command: x}]}")),
        ("a known model without its provider", run("model: claude-sonnet-4-0")),
        ("working_dir without command", run("model: auto\n    working_dir: /x")),
        ("both instructions", run("model: auto\n    instruction: x\n    instruction_file: y.md")),
        ("a handoff to itself", run("model: auto\n    force_handoff: root")),
        (
            "a circle of handoffs",
            "agents:\n  a: {model: auto, force_handoff: b}\n  b: {model: auto, force_handoff: a}\n"
                .to_owned(),
        ),
        ("harness with a setting of another", run("harness: {type: codex, effort: low}")),
        ("a guard as a hook", agent("hooks: {tool_guard: [{hooks: [{type: command, command: ./guard}]}]}")),
        (
            "preempt_yolo elsewhere",
            agent("hooks: {post_tool_use: [{preempt_yolo: true, hooks: [{type: command, command: x}]}]}"),
        ),
        ("a matcher without hooks", agent("hooks: {post_tool_use: [{matcher: shell}]}")),
    ]
}

/// Errors of toolsets.
fn toolset_errors() -> Vec<Case> {
    vec![
        ("a toolset as text", toolset("shell")),
        ("a toolset without type", toolset("tools: [a]")),
        ("a key of another type", toolset("{type: think, shared: true}")),
        ("a key of several types", toolset("{type: todo, env: {A: b}}")),
        ("mcp without a server", toolset("type: mcp")),
        ("mcp with two servers", toolset("{type: mcp, command: a, ref: 'docker:b'}")),
        ("mcp with an unknown ref", toolset("{type: mcp, ref: duckduckgo}")),
        (
            "mcp with a misspelt ref",
            format!("mcps: {{docs: {{ref: 'docker:context7'}}}}\n{}", toolset("{type: mcp, ref: doc}")),
        ),
        ("mcp remote without url", toolset("{type: mcp, remote: {headers: {a: b}}}")),
        (
            "mcp remote with a wrong transport",
            toolset("{type: mcp, remote: {url: 'http://x', transport_type: http}}"),
        ),
        ("an mcp definition without docker", top("mcps: {d: {ref: duckduckgo}}")),
        ("a2a without url", toolset("type: a2a")),
        ("lsp without command", toolset("type: lsp")),
        ("model_picker without models", toolset("type: model_picker")),
        ("script without shell", toolset("type: script")),
        (
            "script that requires an unknown argument",
            toolset("{type: script, shell: {s: {cmd: ls, required: [a]}}}"),
        ),
        ("api without config", toolset("type: api")),
        ("rag without a source", toolset("type: rag")),
        (
            "both lists of domains",
            toolset("{type: fetch, allowed_domains: [a.com], blocked_domains: [b.com]}"),
        ),
        ("working_dir of a remote server", toolset("{type: mcp, working_dir: x, remote: {url: 'http://x'}}")),
        ("api without endpoint", toolset("{type: api, api_config: {name: x}}")),
    ]
}

#[test]
fn errors_are_reported_with_position_and_hint() {
    let files = [top_level_errors(), model_errors(), agent_errors(), toolset_errors()].concat();
    let mut all = String::new();
    for (name, text) in files {
        let report = match parse("agents.yaml", text.as_bytes()) {
            Ok(_) => "accepted\n".to_owned(),
            Err(errors) => errors.report(),
        };
        all.push_str(&format!("=== {name}\n{report}\n"));
    }
    insta::assert_snapshot!("wrong", all);
}

#[test]
fn an_error_on_one_line_has_file_line_and_column() {
    let errors = parse("team/agents.yaml", b"agents:\n  a:\n    modle: auto\n").unwrap_err();
    let lines: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "team/agents.yaml:2:3: agent 'a' has no model",
            "team/agents.yaml:3:5: unknown key `modle` in an agent"
        ]
    );
    let last = errors.iter().last().unwrap();
    assert_eq!((last.line(), last.column(), last.hint()), (Some(3), Some(5), Some("did you mean `model`?")));
    assert_eq!((last.file(), errors.left_out()), ("team/agents.yaml", 0));
    assert_eq!(last.snippet(), Some("    |\n  3 |     modle: auto\n    |     ^^^^^\n"));
}
