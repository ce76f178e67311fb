//! The clients for Python and TypeScript dispatch, follow across a cut connection, and stop.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::proxy::Proxy;
use legwork_tests::proxy::Server as Proxied;
use legwork_tests::redis::Redis;
use legwork_tests::tools::installed_by;
use serde_json::json;

use crate::client::Server;
use crate::jobs::fleet_with;
use crate::streams::words;

const TOKEN: &str = "open-sesame-open-sesame";
const TEAM: &str = "
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [quick, slow], toolsets: [{type: background_agents}]}
  quick: {model: scripted/any, description: Answers., instruction: Answer.}
  slow: {model: scripted/any, description: Answers late., instruction: Answer.}
";

/// Runs a driver, which does all checks and prints `all good`, against a server behind a proxy that is cut once.
fn drive(client: impl Fn(&StateFolder) -> Option<Command>) {
    let redis = Redis::start();
    let endless = "word ".repeat(2000);
    let script = json!({
        "quick": [{"text": words(), "chunk_delay_ms": 20}],
        "slow": [{"text": endless, "chunk_delay_ms": 20}],
    });
    let state = fleet_with(&redis, &script);
    let Some(mut command) = client(&state) else { return };
    let tokens = state.file("tokens", format!("test dispatcher,operator {TOKEN}\n"));
    let server = Server::start(&state, &["--tokens", &tokens]);
    let _worker = state.worker(&[]);
    let proxy = Proxy::start(Proxied::Tcp(server.address.parse().unwrap()));
    let url = proxy.url().replace("redis://", "http://");
    let mut driver = command
        .args([&url, TOKEN, TEAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(driver.stdout.take().unwrap());
    let mut printed = String::new();
    stdout.read_line(&mut printed).unwrap();
    if printed == "cut\n" {
        proxy.cut();
        driver.stdin.take().unwrap().write_all(b"cut\n").unwrap();
        proxy.restore();
    }
    stdout.read_to_string(&mut printed).unwrap();
    let output = driver.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed == "cut\nall good\n", "{printed}{said}");
}

#[test]
fn python() {
    drive(|state| {
        let mut command = state.other_program(installed_by("client-python/bin/python", "install-clients")?);
        command.arg(repository().join("tests/clients/drive_http.py"));
        Some(command)
    });
}

#[test]
fn typescript() {
    drive(|state| {
        let folder = installed_by("client-node", "install-clients")?;
        // A script finds packages next to itself.
        let script = format!("{folder}/driver-{}.mjs", std::process::id());
        std::fs::copy(repository().join("tests/clients/drive_http.mjs"), &script).unwrap();
        let mut command = state.other_program("node");
        command.arg(script);
        Some(command)
    });
}
