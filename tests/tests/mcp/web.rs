//! MCP over HTTP: access control, connections and sessions, and interrupted streams.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

use legwork_common::variables;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::TIMEOUT;
use serde_json::Value;
use serde_json::json;

use crate::host::Host;
use crate::host::id_of;
use crate::host::initialize;
use crate::host::team;
use crate::host::text;

/// A server over HTTP and a minimal client for it.
struct Web {
    program: Program,
    address: String,
}

/// A response, split into its head (status line and headers) and its body.
struct Response {
    head: String,
    body: String,
}

impl Response {
    fn status(&self) -> u16 {
        self.head.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The JSON-RPC response, from a plain body or the last event of a stream.
    fn answer(&self) -> Value {
        let text = match self.body.rsplit_once("data: ") {
            Some((_, event)) => event.lines().next().unwrap(),
            None => &self.body,
        };
        serde_json::from_str(text).unwrap_or_else(|_| unreachable!("{} {}", self.head, self.body))
    }
}

impl Web {
    /// A server that every user of this machine may use.
    fn start(state: &StateFolder, arguments: &[&str]) -> Self {
        Self::start_closed(state, &[arguments, &["--no-token"]].concat())
    }

    /// A server that needs the token of the environment.
    fn start_closed(state: &StateFolder, arguments: &[&str]) -> Self {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--http", "127.0.0.1:0"]).collect();
        let host = Host::start(state, &arguments);
        let url = host.stderr_line("listening on http://");
        Self { address: url.strip_suffix("/mcp").unwrap().to_owned(), program: host.program }
    }

    /// Sends a POST and returns the connection with the unread response.
    fn post(&self, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut head =
            format!("POST /mcp HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
        let defaults = [
            ("Host", self.address.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        for (name, value) in defaults.iter().filter(|(name, _)| !given(name)).chain(headers) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        write!(stream, "{head}\r\n{body}").unwrap();
        stream
    }

    fn send(&self, headers: &[(&str, &str)], method: &str, params: Value) -> Response {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        read(self.post(headers, &request.to_string()))
    }

    /// Completes the handshake and returns the connection's `Mcp-Session-Id`.
    fn connect(&self) -> String {
        self.send(&[], "initialize", initialize()).header("mcp-session-id").unwrap().to_owned()
    }

    /// Calls a tool on a connection and returns its result.
    fn call(&self, connection: &str, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        let answer = self.send(&[("Mcp-Session-Id", connection)], "tools/call", params).answer();
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }
}

fn read(mut stream: TcpStream) -> Response {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let whole = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    Response { head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn origin_host_and_token_are_checked() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let open = Web::start(&state, &[&team]);
    let status = |web: &Web, headers: &[(&str, &str)]| web.send(headers, "initialize", initialize()).status();
    assert_eq!(status(&open, &[]), 200);
    assert_eq!(status(&open, &[("Origin", "http://localhost:6274")]), 200);
    assert_eq!(status(&open, &[("Origin", "https://evil.example")]), 403);
    assert_eq!(status(&open, &[("Host", "evil.example")]), 403);
    // Neither is read as `localhost`.
    assert_eq!(status(&open, &[("Host", "evil@localhost")]), 400);
    assert_eq!(status(&open, &[("Origin", "http://evil@localhost")]), 400);

    state.set(variables::MCP_TOKEN, "open-sesame-open-sesame");
    let closed = Web::start_closed(&state, &[&team, "--allow-origin", "https://console.example:*"]);
    assert_eq!(status(&closed, &[]), 401);
    assert_eq!(status(&closed, &[("Authorization", "Bearer guess")]), 401);
    let token = ("Authorization", "Bearer open-sesame-open-sesame");
    assert_eq!(status(&closed, &[token]), 200);
    assert_eq!(status(&closed, &[token, ("Host", "legwork.example")]), 200);
    assert_eq!(status(&closed, &[token, ("Origin", "https://console.example")]), 200);
    assert_eq!(status(&closed, &[token, ("Origin", "https://evil.example")]), 403);
    let health = legwork_tests::programs::http_get(&closed.address, "/healthz");
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
}

#[test]
fn half_sent_requests_keep_no_host_out() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let web = Web::start(&state, &[&team]);
    let half: Vec<TcpStream> = (0..700)
        .map(|_| {
            let mut stream = TcpStream::connect(&web.address).unwrap();
            stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Half: ").unwrap();
            stream
        })
        .collect();
    assert_eq!(web.send(&[], "initialize", initialize()).status(), 200);
    let health = legwork_tests::programs::http_get(&web.address, "/healthz");
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    // The oldest were given up, and the newest wait.
    let read = (&half[0]).read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(read, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{read:?}");
}

#[test]
fn a_connection_has_its_own_session_unless_one_is_named() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let web = Web::start(&state, &[&team]);
    let (one, other) = (web.connect(), web.connect());
    let id = id_of(&web.call(&one, "run_background_agent", json!({"agent": "quick", "task": "x"})));
    web.call(&one, "wait_background_agents", json!({"task_ids": [id]}));
    assert!(text(&web.call(&one, "list_background_agents", json!({}))).contains(&id));
    assert!(!text(&web.call(&other, "list_background_agents", json!({}))).contains(&id));

    // The id of the connection is its session: a replica that is started with it sees the same jobs.
    let replica = Web::start(&state, &[&team, "--session", &one]);
    let connection = replica.connect();
    assert!(text(&replica.call(&connection, "list_background_agents", json!({}))).contains(&id));
}

#[test]
fn a_connection_continues_at_another_server_after_a_crash() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let mut web = Web::start(&state, &[&team]);
    let connection = web.connect();
    let id = id_of(&web.call(&connection, "run_background_agent", json!({"agent": "quick", "task": "x"})));
    web.program.kill();

    let replica = Web::start(&state, &[&team]);
    let waited = replica.call(&connection, "wait_background_agents", json!({"task_ids": [id]}));
    assert_eq!(waited["structuredContent"]["tasks"][0]["status"], "completed", "{waited}");
    let stranger = "7d3a1f7e-9a68-4d0c-8c8e-0c7c53f4a1b2";
    for unknown in [stranger, "none", "../.."] {
        assert_eq!(
            replica.send(&[("Mcp-Session-Id", unknown)], "ping", json!({})).status(),
            404,
            "{unknown}"
        );
    }
}

#[test]
fn an_interrupted_stream_loses_nothing_and_can_be_resumed() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let web = Web::start(&state, &[&team]);
    let connection = web.connect();
    let id = id_of(&web.call(&connection, "run_background_agent", json!({"agent": "shell", "task": "x"})));
    state.until_output(&id, "marker");

    let call = json!({"name": "wait_background_agents", "arguments": {"task_ids": [id]}});
    let request = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call});
    let stream = web.post(&[("Mcp-Session-Id", &connection)], &request.to_string());
    let mut lines = BufReader::new(stream).lines();
    let event = lines.find_map(|line| line.unwrap().strip_prefix("id: ").map(str::to_owned)).unwrap();
    drop(lines);
    assert_eq!(state.view(&id)["status"], "running");
    state.file("go", "");

    let mut stream = TcpStream::connect(&web.address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(
        stream,
        "GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: {connection}\r\n\
         Last-Event-ID: {event}\r\nConnection: close\r\n\r\n",
        web.address
    )
    .unwrap();
    let answer = BufReader::new(stream)
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line.unwrap().strip_prefix("data: ")?).ok())
        .unwrap();
    assert_eq!(answer["id"], 5, "{answer}");
    assert_eq!(answer["result"]["structuredContent"]["tasks"][0]["status"], "completed", "{answer}");
}

#[test]
fn five_hundred_connections_are_served() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let web = Web::start(&state, &[&team]);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let hosts: Vec<_> = (0..500)
            .map(|_| {
                scope.spawn(|| {
                    let connection = web.connect();
                    let arguments = json!({"agent": "quick", "task": "x"});
                    let id = id_of(&web.call(&connection, "run_background_agent", arguments));
                    let waited = web.call(&connection, "wait_background_agents", json!({"task_ids": [id]}));
                    assert_eq!(waited["structuredContent"]["tasks"][0]["status"], "completed", "{waited}");
                    id
                })
            })
            .collect();
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let mut jobs = state.legwork(["list", "--json", "--limit", "1000"]).json_lines();
    jobs.retain(|job| job["id"].is_string());
    assert_eq!((ids.len(), jobs.len()), (500, 500));
    assert!(jobs.iter().all(|job| job["status"] == "completed"));
}
