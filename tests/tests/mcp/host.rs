//! A minimal host that writes the protocol by hand, and the team that its server offers.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::ChildStdin;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;

use legwork_common::variables;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::TIMEOUT;
use serde_json::Value;
use serde_json::json;

/// One agent that answers at once, and one whose command runs until it is stopped or the file `go` exists.
pub(crate) const TEAM: &str = "
agents:
  root:
    model: scripted/any
    sub_agents: [quick, shell]
  quick:
    model: scripted/any
    description: Answers at once.
  shell:
    model: scripted/any
    description: Runs a command.
    toolsets: [{type: shell}]
";

/// Writes the team and its script into the folder, sets the script for all programs, and returns the team's path.
pub(crate) fn team(state: &mut StateFolder) -> String {
    let go = state.path("go").display().to_string();
    let command = format!("echo marker $TRACEPARENT; while [ ! -e {go} ]; do sleep 0.05; done");
    let shell = json!({
        "text": "The marker is on its way.",
        "tool_calls": [{"name": "shell", "arguments": {"cmd": command, "timeout": 600}}],
    });
    let script = json!({"agents": {
        "quick": [{"text": "Done {{task}}."}],
        "shell": [shell, {"text": "Finished."}],
    }});
    let script = state.file("script.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    state.file("team.yaml", TEAM)
}

/// A running server on its standard streams, and its messages so far.
pub(crate) struct Host {
    pub(crate) program: Program,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Lines of standard error.
    stderr: Receiver<String>,
    /// Responses that arrived while waiting for another one, by request id.
    early: BTreeMap<u64, Value>,
    /// Notifications in order of arrival.
    pub(crate) notifications: Vec<Value>,
    last_id: u64,
}

impl Host {
    /// Starts `legwork mcp` with these arguments.
    pub(crate) fn start(state: &StateFolder, arguments: &[&str]) -> Self {
        let mut program = state.start_legwork(["mcp"].iter().chain(arguments));
        let (input, output, errors) = program.take_streams();
        let (lines, stderr) = (lines_of(output), lines_of(errors));
        let early = BTreeMap::new();
        Self { program, input: Some(input), lines, stderr, early, notifications: Vec::new(), last_id: 0 }
    }

    /// Starts the server and completes the handshake of protocol 2025-11-25.
    pub(crate) fn connect(state: &StateFolder, arguments: &[&str]) -> Self {
        let mut host = Self::start(state, arguments);
        host.initialize();
        host
    }

    /// Completes the handshake and returns the server's description of itself.
    pub(crate) fn initialize(&mut self) -> Value {
        let answer = self.ask("initialize", initialize());
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        answer["result"].clone()
    }

    /// Waits for a line on standard error with this prefix and returns the rest of it.
    pub(crate) fn stderr_line(&self, prefix: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(TIMEOUT).unwrap();
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    /// Writes one line to standard input.
    pub(crate) fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes the server's standard input.
    pub(crate) fn disconnect(&mut self) {
        self.input = None;
    }

    /// Sends a request without waiting for the response; returns its id.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        self.write(
            &json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}).to_string(),
        );
        self.last_id
    }

    /// Waits for the response to a request.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return answer;
            }
            let line = self.lines.recv_timeout(TIMEOUT).unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            match message["id"].as_u64() {
                Some(id) => drop(self.early.insert(id, message)),
                None => self.notifications.push(message),
            }
        }
    }

    /// The next message of the server.
    pub(crate) fn next_message(&mut self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(TIMEOUT).unwrap()).unwrap()
    }

    /// Sends a request and waits for the response.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Calls a tool and returns its result.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// Starts a job and returns its id.
    pub(crate) fn run(&mut self, agent: &str) -> String {
        let result = self.call("run_background_agent", json!({"agent": agent, "task": "go"}));
        id_of(&result)
    }
}

/// The job id in the result of `run_background_agent`.
pub(crate) fn id_of(result: &Value) -> String {
    result["structuredContent"]["id"].as_str().unwrap_or_else(|| unreachable!("{result}")).to_owned()
}

/// The first text block of a result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

/// Parameters of `initialize` of protocol 2025-11-25.
pub(crate) fn initialize() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "1"},
    })
}

fn lines_of(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1000);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
