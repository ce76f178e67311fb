//! Legwork as the host: an agent whose MCP toolset is `legwork mcp` with another team.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::program_path;
use serde_json::json;

use crate::host::team;

#[test]
fn an_agent_starts_jobs_through_the_server() {
    let mut state = StateFolder::embedded();
    let other = team(&mut state);
    let program = program_path("legwork");
    let file = state.file(
        "host.yaml",
        format!(
            "agents:
  root:
    model: scripted/any
    toolsets:
      - type: mcp
        command: {}
        args: [mcp, {other}]
        env: {{LEGWORK_STATE_DIR: {}, LEGWORK_SCRIPT: {}}}
",
            program.display(),
            state.path("state").display(),
            state.path("host.json").display()
        ),
    );
    let call = |tool: &str, arguments| json!({"tool_calls": [{"name": tool, "arguments": arguments}]});
    let script = json!({"agents": {
        "root": [
            call("run_background_agent", json!({"agent": "quick", "task": "the errand"})),
            call("wait_background_agents", json!({"task_ids": ["{{jobs}}"]})),
            {"text": "It says: {{result:wait_background_agents}}"},
        ],
        "quick": [{"text": "Did {{task}}."}],
    }});
    let script = state.file("host.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let output = state.legwork(["run", &file, "Have the errand done."]);
    assert!(output.stdout.contains("Did the errand."), "{output:?}");
    let jobs = state.legwork(["list", "--json"]).json_lines();
    assert_eq!((jobs.len(), &jobs[0]["status"]), (1, &json!("completed")), "{jobs:?}");
}
