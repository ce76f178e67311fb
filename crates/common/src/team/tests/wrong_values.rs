//! Every key of the schema once with an invalid value. The snapshot is the test: review it as a user who has
//! to fix the file.

use crate::team::keys;
use crate::team::keys::Key;
use crate::team::keys::Keys;
use crate::team::parse;

/// A value that is invalid for nearly every key: a list that contains a map.
const INVALID: &str = "[{zz: 1}]";

/// A position in a file where a map can be inserted.
struct Place {
    keys: &'static Keys,
    /// The text before the map.
    head: &'static str,
    indent: usize,
    /// Other keys that the map requires.
    others: &'static [(&'static str, &'static str)],
    /// The text after the map.
    tail: &'static str,
    /// The newest schema version with these keys.
    version: u8,
}

const ROOT: &str = "agents: {root: {model: auto}}\n";
const IN_AGENT: &str = "agents:\n  root:\n    model: auto\n";
const ONE_MODEL: &str = "agents: {root: {model: m}}\nmodels:\n  m:\n";
const IN_TASK_BUDGET: &str =
    "agents: {root: {model: m}}\nmodels:\n  m:\n    provider: openai\n    model: o3\n    task_budget:\n";
const IN_COST: &str =
    "agents: {root: {model: m}}\nmodels:\n  m:\n    provider: openai\n    model: o3\n    cost:\n";
const IN_CAPABILITIES: &str =
    "agents: {root: {model: m}}\nmodels:\n  m:\n    provider: openai\n    model: o3\n    capabilities:\n";
const IN_OUTPUT_CAPABILITIES: &str = "agents: {root: {model: m}}\nmodels:\n  m:\n    provider: openai\n    model: o3\n    output_capabilities:\n";
const IN_HOOKS: &str = "agents:\n  root:\n    model: auto\n    hooks:\n";

/// A place in a file of the newest schema, at the end of the file.
const fn place(
    keys: &'static Keys,
    head: &'static str,
    indent: usize,
    others: &'static [(&'static str, &'static str)],
) -> Place {
    Place { keys, head, indent, others, tail: "", version: keys::NEWEST_VERSION }
}

/// Places for every map except the toolset, whose keys need different types.
fn places() -> Vec<Place> {
    [outer_places(), inner_places(), newer_places()].into_iter().flatten().collect()
}

/// Places for the maps of the file, the models and the agents.
fn outer_places() -> Vec<Place> {
    vec![
        Place { tail: "", ..place(&keys::FILE, "", 0, &[("agents", "{root: {model: auto}}")]) },
        Place { version: 1, ..place(&keys::FILE, "version: 1\n", 0, &[("agents", "{root: {model: auto}}")]) },
        Place { tail: ROOT, ..place(&keys::METADATA, "metadata:\n", 2, &[]) },
        Place { tail: ROOT, ..place(&keys::RAG, "rag:\n  papers:\n", 4, &[]) },
        Place { tail: ROOT, version: 2, ..place(&keys::RAG, "version: 2\nrag:\n  papers:\n", 4, &[]) },
        Place { tail: ROOT, ..place(&keys::PERMISSIONS, "permissions:\n", 2, &[]) },
        Place {
            tail: ROOT,
            ..place(&keys::PROVIDER, "providers:\n  p:\n", 4, &[("base_url", "'http://localhost/v1'")])
        },
        Place { tail: ROOT, ..place(&keys::RUNTIME, "runtime:\n", 2, &[]) },
        Place { tail: ROOT, ..place(&keys::BUDGET, "budget:\n", 2, &[]) },
        place(&keys::TASK_BUDGET, IN_TASK_BUDGET, 6, &[]),
        place(&keys::COST, IN_COST, 6, &[]),
        place(&keys::CAPABILITIES, IN_CAPABILITIES, 6, &[]),
        place(&keys::OUTPUT_CAPABILITIES, IN_OUTPUT_CAPABILITIES, 6, &[]),
        place(&keys::MODEL, ONE_MODEL, 4, &[("provider", "openai"), ("model", "gpt-4o")]),
        Place {
            version: 1,
            ..place(
                &keys::MODEL,
                "version: 1\nagents: {root: {model: m}}\nmodels:\n  m:\n",
                4,
                &[("provider", "openai"), ("model", "gpt-4o")],
            )
        },
        place(
            &keys::THINKING,
            "version: 2\nagents: {root: {model: m}}\nmodels:\n  m:\n    provider: openai\n    model: o3\n    thinking_budget:\n",
            6,
            &[],
        ),
        place(
            &keys::ROUTING,
            "agents: {root: {model: m}}\nmodels:\n  m:\n    provider: openai\n    model: o3\n    routing:\n    -\n",
            6,
            &[("model", "openai/gpt-4o")],
        ),
        place(&keys::AGENT, "agents:\n  root:\n", 4, &[("model", "auto")]),
        Place {
            version: 0,
            ..place(&keys::AGENT, "version: 0\nagents:\n  root:\n", 4, &[("model", "auto")])
        },
        place(
            &keys::COMMAND,
            "agents:\n  root:\n    model: auto\n    commands:\n      fix:\n",
            8,
            &[("instruction", "Fix it")],
        ),
        place(
            &keys::FALLBACK,
            "agents:\n  root:\n    model: auto\n    fallback:\n",
            6,
            &[("models", "[openai/gpt-4o]")],
        ),
        place(&keys::HOOKS, IN_HOOKS, 6, &[]),
    ]
}

/// Places for the maps of an agent that newer schemas have.
fn newer_places() -> Vec<Place> {
    vec![
        place(&keys::HARNESS, "agents:\n  root:\n    harness:\n", 6, &[("type", "pi")]),
        place(
            &keys::SKILL,
            "agents:\n  root:\n    model: auto\n    skills:\n    -\n",
            6,
            &[("name", "a"), ("description", "b"), ("instructions", "c")],
        ),
        place(&keys::RESPONSE_CACHE, "agents:\n  root:\n    model: auto\n    cache:\n", 6, &[]),
        place(
            &keys::OAUTH,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: mcp\n      remote:\n        url: 'https://x'\n        oauth:\n",
            10,
            &[("clientId", "c")],
        ),
        place(
            &keys::LIFECYCLE,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: mcp\n      command: x\n      lifecycle:\n",
            8,
            &[],
        ),
        place(
            &keys::BACKOFF,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: mcp\n      command: x\n      lifecycle:\n        backoff:\n",
            10,
            &[],
        ),
        place(
            &keys::RAG_CONFIG,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: rag\n      rag_config:\n",
            8,
            &[],
        ),
        place(
            &keys::WEBHOOK,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: webhook\n      webhook_config:\n",
            8,
            &[("url", "https://example.org")],
        ),
    ]
}

/// Places for the maps that are nested in an agent's maps.
fn inner_places() -> Vec<Place> {
    vec![
        place(
            &keys::HOOK_MATCHER,
            "agents:\n  root:\n    model: auto\n    hooks:\n      pre_tool_use:\n      -\n",
            8,
            &[("hooks", "[{type: command, command: x}]")],
        ),
        place(
            &keys::HOOK,
            "agents:\n  root:\n    model: auto\n    hooks:\n      session_start:\n      -\n",
            8,
            &[("type", "command"), ("command", "x")],
        ),
        place(
            &keys::STRUCTURED_OUTPUT,
            "agents:\n  root:\n    model: auto\n    structured_output:\n",
            6,
            &[("name", "answer"), ("schema", "{type: object}")],
        ),
        place(
            &keys::REMOTE,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: mcp\n      remote:\n",
            8,
            &[("url", "'https://x'")],
        ),
        place(
            &keys::POST_EDIT,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: filesystem\n      post_edit:\n      -\n",
            8,
            &[("path", "'*.rs'"), ("cmd", "rustfmt")],
        ),
        place(
            &keys::SCRIPT,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: script\n      shell:\n        s:\n",
            10,
            &[("cmd", "ls")],
        ),
        place(
            &keys::API,
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - type: api\n      api_config:\n",
            8,
            &[("name", "x"), ("endpoint", "'https://x'")],
        ),
        place(
            &keys::SANDBOX,
            "version: 5\nagents:\n  root:\n    model: auto\n    toolsets:\n    - type: shell\n      sandbox:\n",
            8,
            &[("paths", "[.]")],
        ),
        place(&keys::TODO_LIST, "version: 0\nagents:\n  root:\n    model: auto\n    todo:\n", 6, &[]),
        place(&keys::MEMORY, "version: 0\nagents:\n  root:\n    model: auto\n    memory:\n", 6, &[]),
    ]
}

/// The other keys that a toolset with `key` requires.
fn toolset(key: &Key) -> Vec<(&'static str, &'static str)> {
    let effective_in = keys::EFFECTIVE_IN.iter().find(|(name, _)| *name == key.name).map(|(_, kind)| *kind);
    let kind = key.only_for.first().copied().or(effective_in).unwrap_or("think");
    let more: &[(&str, &str)] = match (kind, key.name) {
        ("mcp", "ref" | "remote") => &[],
        ("mcp", "config") => &[("ref", "docker:x")],
        ("mcp", _) => &[("command", "x")],
        ("a2a", _) => &[("url", "'https://x'")],
        ("lsp", _) => &[("command", "x")],
        ("model_picker", _) => &[("models", "[openai/gpt-4o]")],
        ("api", _) => &[("api_config", "{name: x, endpoint: 'https://x'}")],
        ("rag", "rag_config") => &[],
        _ => &[],
    };
    [("type", kind)].iter().chain(more).copied().collect()
}

/// An invalid value of a key: one that a user could have written, where the default is unrealistic or valid.
fn invalid(noun: &str, key: &str) -> &'static str {
    match (noun, key) {
        ("the file", "version") => "eight",
        ("a RAG source" | "a RAG configuration", "docs") => "./papers",
        ("a RAG source", "respect_vcs") => "sometimes",
        ("a RAG source" | "a RAG configuration", "strategies") => "{type: bm25}",
        ("the permissions", "deny") => "shell",
        ("a provider", "api_type") => "openai_chat",
        ("a model", "provider") => "opneai",
        ("a model", "max_tokens") => "many",
        ("a model", "temperature") => "20",
        ("a model", "top_p") => "1.5",
        ("a model", "track_usage") => "'true'",
        ("a model", "thinking_budget") => "hihg",
        ("a model", "routing") => "openai/gpt-4o",
        ("a thinking budget", "effort") => "much",
        ("a thinking budget", "tokens") => "-2",
        ("an agent", "commands") => "[fix]",
        ("an agent", "command") => "claude -p",
        ("an agent", "sub_agents" | "handoffs") => "helper",
        ("an agent", "toolsets") => "shell",
        ("an agent", "max_iterations") => "-1",
        ("an agent", "compaction_threshold") => "1.5",
        ("an agent", "num_history_items") => "'20'",
        ("an agent", "add_date") => "today",
        ("an agent", "skills") => "everything",
        ("a sandbox", "paths") => "/tmp",
        ("a toolset", "sandbox") => "{image: alpine}",
        ("a fallback", "models") => "[gpt-4o]",
        ("a fallback", "retries") => "often",
        ("a fallback", "cooldown") => "soon",
        ("the hooks", _) => "check.sh",
        ("a hook", "type") => "program",
        ("a hook", "timeout") => "60s",
        ("a structured output", "schema") => "string",
        ("a toolset", "type") => "",
        ("a toolset", "tools") => "think",
        ("a toolset", "defer") => "later",
        ("a toolset", "model") => "gpt-4o",
        ("a toolset", "args") => "--stdio",
        ("a toolset", "ref") => "duckduckgo",
        ("a toolset", "remote") => "https://example.com/mcp",
        ("a toolset", "post_edit") => "rustfmt",
        ("a toolset", "timeout") => "1m",
        ("a toolset", "shared") => "yes",
        ("a script", "cmd") => "",
        ("a script", "required") => "[who]",
        ("a remote", "transport_type") => "websocket",
        ("an API", "method") => "FETCH",
        _ => invalid_in_newer_keys(noun, key),
    }
}

/// An invalid value of a key that newer schemas have.
fn invalid_in_newer_keys(noun: &str, key: &str) -> &'static str {
    match (noun, key) {
        ("an agent", "safety") | ("the runtime defaults", "safety") => "careful",
        ("a model", "compaction_threshold") => "80",
        ("an agent", "readonly") => "'true'",
        ("an agent", "force_handoff") => "helper",
        ("an agent", "use_toolsets" | "use_commands" | "use_skills") => "[missing]",
        ("an agent", "instruction_file") => "../other.md",
        ("a model", "first_available") => "[openai/gpt-4o, missing]",
        ("a provider", "provider") => "antropic",
        ("a budget", _) => "-1",
        ("a cost", _) => "-0.5",
        ("a task budget", "type") => "words",
        ("a harness", "type") => "cursor",
        ("a harness", "effort") => "low",
        ("a skill", "context") => "same",
        ("a lifecycle", "profile") => "lenient",
        ("a lifecycle", "restart") => "sometimes",
        ("a lifecycle", "startup_timeout") => "soon",
        ("an OAuth client", "callbackPort") => "70000",
        ("a structured output", "mode") => "json",
        ("a hook", "on_error") => "stop",
        ("a toolset", "allow_list") => "['']",
        ("a toolset", "working_dir") => "[tools]",
        _ => INVALID,
    }
}

/// The lines of a map: the keys that it requires, and the one that is invalid.
fn lines(indent: usize, others: &[(&str, &str)], key: &str, value: &str) -> String {
    let pad = " ".repeat(indent);
    let others = others.iter().filter(|(name, _)| *name != key);
    let line = |(name, value): (&str, &str)| format!("{pad}{name}: {value}\n");
    others.copied().chain([(key, value)]).map(line).collect()
}

/// The invalid file of every key, with a name.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for place in places() {
        let fits = |key: &&Key| match place.version {
            keys::NEWEST_VERSION => key.last_version.is_none(),
            version => key.last_version == Some(version),
        };
        for key in place.keys.keys.iter().filter(fits) {
            let lines = lines(place.indent, place.others, key.name, invalid(place.keys.noun, key.name));
            let name = format!("{}: {}", place.keys.noun, key.name);
            files.push((name, format!("{}{lines}{}", place.head, place.tail)));
        }
    }
    for key in keys::TOOLSET.keys {
        let version = key.last_version.map(|last| format!("version: {last}\n")).unwrap_or_default();
        let lines = lines(6, &toolset(key), key.name, invalid("a toolset", key.name));
        let head = format!("{version}{IN_AGENT}    toolsets:\n    -\n");
        files.push((format!("a toolset: {}", key.name), format!("{head}{lines}")));
    }
    files
}

#[test]
fn an_invalid_value_of_every_key_is_reported_at_its_position() {
    let (mut all, mut accepted) = (String::new(), Vec::new());
    for (name, text) in files() {
        match parse("agents.yaml", text.as_bytes()) {
            Ok(_) => accepted.push(name),
            Err(errors) => {
                assert!(errors.iter().all(|error| error.line().is_some()), "{name}: {errors}");
                all.push_str(&format!("=== {name}\n{}\n", errors.report()));
            }
        }
    }
    assert_eq!(accepted, [""; 0], "these values are valid; choose invalid ones");
    insta::assert_snapshot!("wrong_values", all);
}

#[test]
fn every_map_of_the_schema_is_covered() {
    let covered: Vec<&str> = places().iter().map(|place| place.keys.noun).collect();
    for keys in keys::ALL {
        let values = [&keys::TOOLSET_TYPES, &keys::HARNESS_TYPES, &keys::HOOK_TYPES, &keys::BUILTIN_HOOKS];
        let is_value = values.iter().any(|values| values.noun == keys.noun);
        assert!(is_value || keys.noun == "a toolset" || covered.contains(&keys.noun), "{}", keys.noun);
    }
}
