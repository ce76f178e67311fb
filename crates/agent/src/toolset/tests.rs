//! What holds for the tools of every toolset.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::testing;
use crate::testing::FakeService;
use crate::testing::environment;
use crate::testing::team;

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

/// Every object of a schema takes no further properties, and every property says what it is.
fn check(schema: &Value, place: &str) {
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], json!(false), "{place}");
        for (name, property) in properties {
            let place = format!("{place}.{name}");
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
            check(property, &place);
        }
    }
    if schema["items"].is_object() {
        check(&schema["items"], place);
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
         view_background_job wait_background_agents write_file"
    );
}

#[tokio::test]
async fn what_only_reads_says_so() {
    let specs = toolbox(everything()).await.specs();
    let reading: BTreeSet<&str> =
        specs.iter().filter(|spec| spec.read_only).map(|spec| spec.name.as_str()).collect();
    for name in
        ["read_file", "read_multiple_files", "list_directory", "directory_tree", "search_files_content"]
    {
        assert!(reading.contains(name), "{name}");
    }
    for name in
        ["shell", "write_file", "edit_file", "run_background_agent", "transfer_task", "stop_background_agent"]
    {
        assert!(!reading.contains(name), "{name}");
    }
}

#[tokio::test]
async fn allow_lists_instructions_and_double_names() {
    let toolbox = toolbox(json!([
        {"kind": {"type": "filesystem", "ignore_vcs": true, "post_edit": []}, "tools": ["read_file"], "instruction": "read only"},
        {"kind": {"type": "filesystem", "ignore_vcs": true, "post_edit": []}, "tools": ["read_file", "list_directory"]},
        {"kind": {"type": "background_agents"}, "instruction": "mine"},
    ]))
    .await;
    let names: Vec<String> = toolbox.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names[..3], ["transfer_task", "read_file", "list_directory"]);
    assert_eq!(toolbox.instructions(), ["read only", "mine"]);
    let warning = "tool read_file of filesystem left out: another tool has its name";
    assert_eq!(toolbox.warnings(), [warning]);
    assert!(toolbox.notice().unwrap().ends_with(&format!(":\n- {warning}")));
}

#[test]
fn long_results_are_cut_between_characters() {
    let long = limited("ä".repeat(20_000));
    let (text, rest) = long.split_once("\n\n").unwrap();
    assert_eq!(text.len(), RESULT_BYTES);
    assert_eq!(rest, "[Output truncated: exceeded 30,000 character limit]");
    assert_eq!(limited("short".into()), "short");
    assert_eq!([0, 1, 2, 3, 9].map(|at| boundary("aäb", at)), [0, 1, 1, 3, 4]);
}

#[tokio::test]
async fn the_tools_of_servers_are_allowed_by_either_name_and_missing_ones_are_told() {
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
    ]);
    let toolbox = toolbox(toolsets).await;
    let names: Vec<String> = toolbox.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["transfer_task", "t_echo", "t_env"]);
    assert_eq!(toolbox.instructions(), ["Be kind. And brief."]);
    let expected = [
        "toolset mcp failed: not-a-program: not-a-program is not on the PATH",
        "toolset user_prompt is not supported here: the agent runs without it",
    ];
    assert_eq!(toolbox.warnings(), expected);
    toolbox.close().await;
}

#[tokio::test]
async fn deferred_tools_are_offered_once_they_were_added() {
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
async fn results_are_brief_where_the_toolset_says_so() {
    let toolsets = json!([{"kind": {"type": "todo", "shared": false}, "toon": ["^list_", "("]}]);
    let toolbox = toolbox(toolsets).await;
    assert_eq!(toolbox.warnings().len(), 1, "{:?}", toolbox.warnings());
    let added = testing::call(toolbox.get("create_todo").unwrap(), json!({"description": "sweep"})).await;
    assert!(serde_json::from_str::<Value>(&added.text).is_ok(), "{added:?}");
    let listed = testing::call(toolbox.get("list_todos").unwrap(), json!({})).await;
    assert!(listed.text.starts_with("todos[1]{"), "{listed:?}");
}
