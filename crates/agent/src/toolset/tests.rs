//! What applies to the tools of every toolset, and helpers for the tests of each.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::environment::ProcessGuard;
use crate::testing;
use crate::testing::FakeService;
use crate::testing::environment;
use crate::testing::team;

/// Finds a tool by its name.
pub(super) fn tool<'a>(tools: &'a [Arc<dyn Tool>], name: &str) -> &'a Arc<dyn Tool> {
    tools.iter().find(|tool| tool.spec().name == name).unwrap()
}

/// Calls a tool by its name.
pub(super) async fn call(tools: &[Arc<dyn Tool>], name: &str, arguments: Value) -> ToolOutcome {
    testing::call(tool(tools, name), arguments).await
}

/// The names of the tools, in their order.
pub(super) fn names(tools: &[Arc<dyn Tool>]) -> Vec<&str> {
    tools.iter().map(|tool| tool.spec().name.as_str()).collect()
}

/// Installs the TLS provider that an HTTP client needs. The first test of a process to get here does it.
pub(super) fn install_tls() {
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// Records the process groups of a run.
#[derive(Debug, Default)]
pub(super) struct RecordingGuard {
    started: Mutex<Vec<u32>>,
    ended: Mutex<Vec<u32>>,
}

impl RecordingGuard {
    /// Every group that was started.
    pub(super) fn all(&self) -> Vec<u32> {
        self.started.lock().unwrap().clone()
    }

    /// The groups that were started and have not ended.
    pub(super) fn alive(&self) -> Vec<u32> {
        let ended = self.ended.lock().unwrap();
        self.all().into_iter().filter(|group| !ended.contains(group)).collect()
    }
}

impl ProcessGuard for RecordingGuard {
    fn started(&self, group: u32) {
        self.started.lock().unwrap().push(group);
    }

    fn ended(&self, group: u32) {
        self.ended.lock().unwrap().push(group);
    }
}

async fn toolbox(toolsets: Value) -> Toolbox {
    let team = team(&[("a", &["b"], json!({"toolsets": toolsets})), ("b", &[], json!({}))]);
    let service = Arc::new(FakeService::default());
    let (background, session_state): (Arc<dyn BackgroundAgents>, Arc<dyn SessionState>) =
        (service.clone(), service);
    let environment = Arc::new(environment("/"));
    let mut toolbox = Toolbox::new(&environment);
    toolbox.open(&team, team.agent("a").unwrap(), &environment, &background, &session_state).await;
    toolbox
}

fn everything() -> Value {
    json!([
        {"kind": {"type": "think"}},
        {"kind": {"type": "todo", "shared": false}},
        {"kind": {"type": "filesystem", "ignore_vcs": true, "post_edit": []}},
        {"kind": {"type": "shell", "env": {}}},
        {"kind": {"type": "background_agents"}},
    ])
}

/// Checks that every object of a schema refuses unknown properties, and that every property has a description.
fn check(schema: &Value, path: &str) {
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], json!(false), "{path}");
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
            check(property, &path);
        }
    }
    if schema["items"].is_object() {
        check(&schema["items"], path);
    }
}

#[tokio::test]
async fn schemas_are_closed_and_described() {
    let toolbox = toolbox(everything()).await;
    assert_eq!(toolbox.warnings(), Vec::<String>::new());
    let specs = toolbox.specs();
    for spec in &specs {
        check(&spec.parameters, &spec.name);
        assert!(!spec.description.is_empty(), "{}", spec.name);
    }
    let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names.len(), specs.len());
    assert_eq!(
        names.into_iter().collect::<Vec<_>>().join(" "),
        "create_directory create_todo create_todos directory_tree edit_file list_background_agents \
         list_background_jobs list_directory list_todos read_file read_multiple_files remove_directory \
         run_background_agent run_background_job search_files_content send_background_agent shell \
         stop_background_agent stop_background_job think transfer_task update_todos view_background_agent \
         view_background_job wait_background_agents wait_background_job write_file"
    );
}

#[tokio::test]
async fn the_tools_that_the_team_names_are_those_of_the_toolsets() {
    install_tls();
    let folder = tempfile::tempdir().unwrap();
    let script = json!({"a": {"cmd": "true", "description": "", "args": {}, "env": {}}});
    let api = json!({"type": "api", "name": "call", "endpoint": "http://localhost", "method": "GET", "instruction": "",
        "headers": {}, "args": {}, "required": []});
    let mut toolsets = everything();
    toolsets.as_array_mut().unwrap().extend([
        json!({"kind": {"type": "fetch", "timeout": null}}),
        json!({"kind": {"type": "git"}}),
        json!({"kind": {"type": "environment"}}),
        json!({"kind": {"type": "memory", "path": "m.db"}}),
        json!({"kind": {"type": "tasks", "path": null}}),
        json!({"kind": {"type": "script", "scripts": script}}),
        json!({"kind": api}),
    ]);
    let team = team(&[("a", &[], json!({"toolsets": toolsets}))]);
    let agent = team.agent("a").unwrap();
    let service = Arc::new(FakeService::default());
    let (background, session_state): (Arc<dyn BackgroundAgents>, Arc<dyn SessionState>) =
        (service.clone(), service);
    let environment = Arc::new(environment(folder.path()));
    for toolset in &agent.toolsets {
        let toolbox = Toolbox::new(&environment);
        let kit = toolbox
            .open_toolset((&team, agent), toolset, &environment, &background, &session_state)
            .await
            .unwrap();
        let (mut opened, mut named) = (names(&kit.tools), toolset.kind.tool_names().unwrap());
        opened.sort_unstable();
        named.sort_unstable();
        assert_eq!(opened, named);
    }
}

#[tokio::test]
async fn only_tools_without_side_effects_are_read_only() {
    let specs = toolbox(everything()).await.specs();
    let read_only: BTreeSet<&str> =
        specs.iter().filter(|spec| spec.read_only).map(|spec| spec.name.as_str()).collect();
    for name in
        ["read_file", "read_multiple_files", "list_directory", "directory_tree", "search_files_content"]
    {
        assert!(read_only.contains(name), "{name}");
    }
    for name in
        ["shell", "write_file", "edit_file", "run_background_agent", "transfer_task", "stop_background_agent"]
    {
        assert!(!read_only.contains(name), "{name}");
    }
}

#[tokio::test]
async fn toolsets_have_allow_lists_and_instructions_and_duplicate_names_are_skipped() {
    let toolbox = toolbox(json!([
        {"kind": {"type": "filesystem", "ignore_vcs": true, "post_edit": []}, "tools": ["read_file"], "instruction": "read only"},
        {"kind": {"type": "filesystem", "ignore_vcs": true, "post_edit": []}, "tools": ["read_file", "list_directory"]},
        {"kind": {"type": "background_agents"}, "instruction": "mine"},
    ]))
    .await;
    let names: Vec<String> = toolbox.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names[..3], ["transfer_task", "read_file", "list_directory"]);
    assert_eq!(toolbox.instructions()[0], "read only");
    assert!(toolbox.instructions()[1].starts_with("## Files"), "{:?}", toolbox.instructions());
    assert_eq!(toolbox.instructions()[2..], ["mine"]);
    let warning = "tool read_file of filesystem skipped: another tool has the same name";
    assert_eq!(toolbox.warnings(), [warning]);
    assert!(toolbox.notice().unwrap().ends_with(&format!(":\n- {warning}")));
}

/// What docker-agent's users rely on in the guidance of each toolset.
const GUIDANCE: &[(&str, &[&str])] = &[
    ("think", &["think", "rules", "information", "plan"]),
    (
        "todo",
        &["create_todos", "in-progress", "MUST be completed before your final response", "update_todos"],
    ),
    ("filesystem", &["working folder", "read_multiple_files", "search_files_content", "excludePatterns"]),
    ("shell", &["new session", "30 seconds", "timeout", "cwd", "run_background_job", "end when you do"]),
    ("background_agents", &["run_background_agent", "view_background_agent", "stop_background_agent"]),
    ("fetch", &["http and https", "Markdown", "robots.txt"]),
    ("tasks", &["next_task", "in_progress", "blocked", "critical"]),
];

#[tokio::test]
async fn every_built_in_toolset_has_a_system_message_in_the_order_of_the_file() {
    install_tls();
    let mut toolsets = everything();
    toolsets.as_array_mut().unwrap().extend([
        json!({"kind": {"type": "fetch", "timeout": null}}),
        json!({"kind": {"type": "tasks", "path": null}, "defer": "all"}),
    ]);
    let toolbox = toolbox(toolsets).await;
    assert_eq!(toolbox.warnings(), Vec::<String>::new());
    let instructions = toolbox.instructions();
    assert_eq!(instructions.len(), GUIDANCE.len() + 1, "{instructions:#?}");
    for ((name, words), text) in GUIDANCE.iter().zip(instructions) {
        for word in *words {
            assert!(text.contains(word), "{name} does not name `{word}`: {text}");
        }
    }
    let deferred = instructions.last().unwrap();
    assert!(deferred.contains("search_tool") && deferred.contains("add_tool"), "{deferred}");
}

#[tokio::test]
async fn the_instruction_of_the_file_replaces_the_guidance_or_includes_it() {
    let kind = json!({"type": "shell", "env": {}});
    let own = toolbox(json!([{"kind": kind}])).await.instructions()[0].clone();
    let toolbox = toolbox(json!([
        {"kind": kind, "instruction": "{ORIGINAL_INSTRUCTIONS}\n\nNever rm."},
        {"kind": {"type": "think"}, "instruction": "Think twice."},
    ]))
    .await;
    assert_eq!(toolbox.instructions(), [format!("{own}\n\nNever rm."), "Think twice.".to_owned()]);
}

#[test]
fn long_results_are_cut_between_characters() {
    let long = limited("ä".repeat(20_000));
    let (text, rest) = long.split_once("\n\n").unwrap();
    assert_eq!(text.len(), MAX_RESULT_BYTES);
    assert_eq!(rest, "[Output truncated: exceeded 30,000 character limit]");
    assert_eq!(limited("short".into()), "short");
    assert_eq!([0, 1, 2, 3, 9].map(|at| boundary("aäb", at)), [0, 1, 1, 3, 4]);
}

#[tokio::test]
async fn mcp_tools_are_allowed_by_either_name_and_failed_toolsets_are_warnings() {
    let server = |instruction: &str, tools: Value| {
        let launch = json!({"command": "sh", "args": ["-c", include_str!("mcp/tests/server.sh")], "env": {}});
        json!({"kind": {"type": "mcp", "name": "t", "server": {"command": launch}},
            "instruction": instruction, "tools": tools})
    };
    let missing = json!({"kind": {"type": "mcp", "name": null,
        "server": {"command": {"command": "not-a-program", "args": [], "env": {}}}}});
    let toolsets = json!([
        server("{ORIGINAL_INSTRUCTIONS} And brief.", json!(["echo", "t_env"])),
        missing,
        {"kind": {"type": "user_prompt"}},
        {"kind": {"type": "model_picker", "models": []}},
    ]);
    let toolbox = toolbox(toolsets).await;
    let names: Vec<String> = toolbox.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["transfer_task", "t_echo", "t_env", "user_prompt"]);
    assert_eq!(toolbox.instructions(), ["Be kind. And brief."]);
    let expected = [
        "toolset mcp failed: not-a-program: not-a-program is not on the PATH",
        "toolset model_picker is not supported; the agent runs without it",
    ];
    assert_eq!(toolbox.warnings(), expected);
    toolbox.close().await;
}

#[tokio::test]
async fn deferred_tools_are_offered_after_they_were_added() {
    let deferred = json!([
        {"kind": {"type": "think"}, "defer": "all"},
        {"kind": {"type": "todo", "shared": false}, "defer": {"tools": ["create_todos"]}},
    ]);
    let toolbox = toolbox(deferred).await;
    let offered = || toolbox.specs().into_iter().map(|spec| spec.name).collect::<Vec<_>>().join(" ");
    let before = "transfer_task create_todo update_todos list_todos search_tool add_tool";
    assert_eq!(offered(), before);
    let found = testing::call(toolbox.get("search_tool").unwrap(), json!({"query": "think"})).await;
    assert!(found.text.starts_with("think: "), "{found:?}");
    testing::call(toolbox.get("add_tool").unwrap(), json!({"name": "think"})).await;
    assert_eq!(offered(), "transfer_task think create_todo update_todos list_todos search_tool add_tool");
}

#[tokio::test]
async fn results_are_encoded_as_toon_where_the_toolset_asks_for_it() {
    let toolsets = json!([{"kind": {"type": "todo", "shared": false}, "toon": ["^list_", "("]}]);
    let toolbox = toolbox(toolsets).await;
    assert_eq!(toolbox.warnings().len(), 1, "{:?}", toolbox.warnings());
    let added = testing::call(toolbox.get("create_todo").unwrap(), json!({"description": "sweep"})).await;
    assert!(serde_json::from_str::<Value>(&added.text).is_ok(), "{added:?}");
    let listed = testing::call(toolbox.get("list_todos").unwrap(), json!({})).await;
    assert!(listed.text.starts_with("todos[1]{"), "{listed:?}");
}

#[tokio::test]
async fn a_toolset_reaches_public_addresses_only_where_its_file_says_so() {
    install_tls();
    let url =
        testing::serve(axum::Router::new().route("/", axum::routing::get(|| async { "reached" }))).await;
    let api = json!({"type": "api", "name": "call", "endpoint": url, "method": "GET", "instruction": "Calls",
        "headers": {}, "args": {}, "required": [], "output_schema": null});
    let mut environment = environment("/");
    environment.variables.insert(legwork_common::variables::API_PRIVATE.into(), "1".into());
    let environment = Arc::new(environment);
    for (public_only, expected) in [(false, "reached"), (true, "is not a public address")] {
        let agents = team(&[("a", &[], json!({"toolsets": [{"kind": api, "public_only": public_only}]}))]);
        let service = Arc::new(FakeService::default());
        let mut toolbox = Toolbox::new(&environment);
        let (background, session): (Arc<dyn BackgroundAgents>, Arc<dyn SessionState>) =
            (service.clone(), service);
        toolbox.open(&agents, &agents.agents()[0], &environment, &background, &session).await;
        let answer = testing::call(toolbox.get("call").unwrap(), json!({})).await;
        assert!(answer.text.contains(expected), "{answer:?}");
    }
}
