//! A server of the HTTP interface, and a small client for it.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::TIMEOUT;
use legwork_tests::programs::until;
use serde_json::Value;
use serde_json::json;

/// Agents whose replies come from the script of the test.
pub(crate) const TEAM: &str = "
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [quick], toolsets: [{type: background_agents}]}
  quick: {model: scripted/any, description: Answers., instruction: Answer.}
";

/// A running server. Dropping it kills the program.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: String,
    token: Option<String>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| unreachable!("{self:?}"))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body as JSON; panics unless the status is that.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} {}", self.head, String::from_utf8_lossy(&self.body));
        self.json()
    }
}

impl Server {
    /// Starts a server on a free port with these arguments.
    pub(crate) fn start(state: &StateFolder, arguments: &[&str]) -> Self {
        let all = ["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments);
        let mut program = state.start_legwork(all);
        let noted = program.until_noted("listening on http://");
        let address = match noted.split_once("listening on http://") {
            Some((_, rest)) if rest.contains('\n') => rest.lines().next().unwrap().to_owned(),
            // The rest of the line is on its way.
            _ => {
                let (_, rest) = noted.split_once("listening on http://").unwrap();
                format!("{rest}{}", program.until_noted("\n").lines().next().unwrap())
            }
        };
        Self { program, address, token: None }
    }

    /// Sends this token with every request from now on.
    pub(crate) fn with_token(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// Sends a request and returns the connection with the unread response.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let length = body.len().to_string();
        let mut defaults = vec![("Host", self.address.clone()), ("Content-Length", length)];
        if !body.is_empty() {
            defaults.push(("Content-Type", "application/json".to_owned()));
        }
        if let Some(token) = &self.token {
            defaults.push(("Authorization", format!("Bearer {token}")));
        }
        for (name, value) in defaults.iter().filter(|(name, _)| !given(name)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // A server that refuses a large body may close before all of it is sent.
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let _refused = stream.write_all(body);
        stream
    }

    /// A request with its whole response.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut reader = BufReader::new(self.send(method, path, headers, body));
        let (status, head) = read_head(&mut reader);
        let mut raw = Vec::new();
        let _reset = reader.read_to_end(&mut raw);
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            dechunked(&raw)
        } else {
            raw
        };
        Response { status, head, body }
    }

    /// `GET`, which must be answered with 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &[], b"").expect(200)
    }

    /// `POST` of JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    /// Dispatches a job with the agent file of the tests, and returns its id.
    pub(crate) fn dispatch(&self, agent: &str, task: &str) -> String {
        let body = json!({"agent_file": TEAM, "agent": agent, "task": task});
        self.post("/v1/jobs", &body).expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job has this status.
    pub(crate) fn until_status(&self, id: &str, status: &str) -> Value {
        let mut job = Value::Null;
        until(&format!("{id} is {status}"), || {
            job = self.get(&format!("/v1/jobs/{id}"));
            job["status"] == status
        });
        job
    }
}

/// Reads the status and the head of a response.
pub(crate) fn read_head(reader: &mut impl std::io::BufRead) -> (u16, String) {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" || line.is_empty() {
            break;
        }
        head.push_str(line.trim_end());
        head.push('\n');
    }
    (head.split_whitespace().nth(1).unwrap_or("0").parse().unwrap(), head)
}

/// The bytes of a body in chunks, as far as it arrived.
fn dechunked(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        let chunk = &raw[end + 2..];
        if size == 0 || chunk.len() < size {
            break;
        }
        body.extend_from_slice(&chunk[..size]);
        raw = &chunk[(size + 2).min(chunk.len())..];
    }
    body
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// A stream of events.
pub(crate) struct Events {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
}

impl Events {
    /// Follows a job, perhaps after the last event that was seen.
    pub(crate) fn of(server: &Server, id: &str, last: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last.map(|last| ("Last-Event-ID", last)).into_iter().collect();
        Self::open(server, &format!("/v1/jobs/{id}/events"), &headers)
    }

    /// Follows another stream.
    pub(crate) fn at(server: &Server, path: &str) -> Self {
        Self::open(server, path, &[])
    }

    fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut reader = BufReader::new(server.send("GET", path, headers, b""));
        let (status, _) = read_head(&mut reader);
        Self { reader, status }
    }

    /// The next event; `None` at the end of the stream, also where it was cut off.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut event = Event { name: String::new(), id: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !event.name.is_empty() {
                return Some(event);
            }
            // Lines of chunk sizes and comments are left out.
            let Some((field, value)) = line.split_once(':') else { continue };
            let value = value.trim_start();
            match field {
                "event" => event.name = value.to_owned(),
                "id" => event.id = value.to_owned(),
                "data" => event.data = serde_json::from_str(value).unwrap(),
                _ => {}
            }
        }
    }
}
