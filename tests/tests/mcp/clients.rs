//! The official MCP clients call every tool over both transports.

use std::process::Command;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::program_path;
use legwork_tests::programs::repository;
use legwork_tests::tools::installed;

use crate::host::Host;
use crate::host::team;

/// Bearer token of the servers over HTTP.
const TOKEN: &str = "open-sesame-open-sesame";

/// Runs a driver script, which does all checks and prints `all good`.
fn drive(command: &mut Command) {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.ends_with("all good\n"), "{output:#?}");
}

fn script(name: &str) -> String {
    repository().join("tests/clients").join(name).display().to_string()
}

/// Over standard streams, with the embedded server and a background worker.
fn over_stdio(client: impl Fn(&StateFolder) -> Option<Command>) {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let Some(mut command) = client(&state) else { return };
    let program = program_path("legwork").display().to_string();
    drive(command.args(["stdio", &program, "mcp", &team]));
}

/// Over HTTP with a token, on a shared Redis with a worker.
fn over_http(client: impl Fn(&StateFolder) -> Option<Command>) {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let Some(mut command) = client(&state) else { return };
    state.set(variables::MCP_TOKEN, TOKEN);
    let _worker = state.worker(&[]);
    let host = Host::start(&state, &[&team, "--http", "127.0.0.1:0"]);
    let url = host.stderr_line("listening on ");
    drive(command.args(["http", &url, TOKEN]));
}

/// The Python client, which negotiates 2026-07-28 as `auto` and an older version as `legacy`.
fn python(mode: &'static str) -> impl Fn(&StateFolder) -> Option<Command> {
    move |state| {
        let mut command = state.other_program(installed("mcp-python/bin/python")?);
        command.args([&script("drive.py"), mode]);
        Some(command)
    }
}

fn typescript(state: &StateFolder) -> Option<Command> {
    let sdk = installed("mcp-node/node_modules")?;
    let mut command = state.other_program("node");
    command.arg(script("drive.mjs")).env("MCP_SDK", sdk);
    Some(command)
}

#[test]
fn python_over_standard_streams() {
    over_stdio(python("auto"));
}

#[test]
fn python_of_an_older_protocol_over_standard_streams() {
    over_stdio(python("legacy"));
}

#[test]
fn python_over_http() {
    over_http(python("auto"));
}

#[test]
fn python_of_an_older_protocol_over_http() {
    over_http(python("legacy"));
}

#[test]
fn typescript_over_standard_streams() {
    over_stdio(typescript);
}

#[test]
fn typescript_over_http() {
    over_http(typescript);
}
