//! What a provider, a web site, an MCP server and an agent can do to the jobs beside theirs: nothing.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::program_path;
use legwork_tests::programs::until_within;
use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use serde_json::Value;
use serde_json::json;

/// The address space of the worker: it starts with less than half of it.
const MAX_MEMORY: &str = "4194304";
/// Jobs that must not notice.
const NEIGHBOURS: usize = 8;
/// Words that each of them says, and the time between two.
const WORDS: usize = 40;
const PACE: Duration = Duration::from_millis(100);
/// How much longer than its words a neighbour may run: the machine is busy with what the others send.
const SLACK: Duration = Duration::from_secs(8);
/// How long a hostile job may run: its `--timeout`, and what its end may take.
const TIMEOUT: &str = "8s";
const END: Duration = Duration::from_secs(8 + 6);

const TEAM: &str = "
models:
  honest: {provider: openai, model: honest, base_url: HONEST, provider_opts: {api_type: openai_chatcompletions}}
  endless: {provider: openai, model: endless, base_url: ENDLESS/v1, provider_opts: {api_type: openai_chatcompletions}}
agents:
  talks: {model: honest, instruction: Talk.}
  asks: {model: endless, instruction: Ask.}
  fetches: {model: honest, instruction: Fetch., toolsets: [{type: fetch}]}
  runs: {model: honest, instruction: Run., toolsets: [{type: shell}, {type: filesystem}]}
  pipes:
    model: honest
    instruction: Call.
    toolsets: [{type: mcp, command: sh, args: [-c, 'cat /dev/zero']}]
  connects:
    model: honest
    instruction: Call.
    toolsets: [{type: mcp, remote: {url: 'ENDLESS/mcp', transport_type: streamable}}]
";
/// The agents whose peers, or who, are hostile.
const HOSTILE: [&str; 5] = ["asks", "fetches", "runs", "pipes", "connects"];

/// Answers each connection with an event stream of one line without an end, until the other side closes it.
fn endless() -> String {
    fn serve(mut connection: TcpStream) -> std::io::Result<()> {
        let _request = connection.read(&mut [0; 4096])?;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ")?;
        loop {
            connection.write_all(&[b'x'; 16 * 1024])?;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // An error is the other side's end.
            std::thread::spawn(move || drop(serve(connection)));
        }
    });
    url
}

/// What the honest provider lets an agent say: the calls of the agents that are hostile or meet hostile peers, then words.
fn answer(body: &Value, endless: &str) -> Answer {
    let text = body.to_string();
    let messages = body["messages"].as_array().unwrap();
    let is_first = !messages.iter().any(|message| message["role"] == "assistant");
    let call = |name: &str, arguments: Value| (name.to_owned(), arguments.to_string());
    let calls = if !is_first {
        Vec::new()
    } else if text.contains("go fetches") {
        vec![call("fetch", json!({"urls": [endless]}))]
    } else if text.contains("go runs") {
        let mut calls = vec![
            call("shell", json!({"cmd": "yes", "timeout": 4})),
            call("read_multiple_files", json!({"paths": vec!["/dev/zero"; 100]})),
        ];
        calls.extend((0..20).map(|_| call("run_background_job", json!({"cmd": "timeout 4 yes"}))));
        calls
    } else {
        Vec::new()
    };
    let words = if text.contains("go talks") { WORDS } else { 1 };
    Answer::Spoken { words: vec!["word ".to_owned(); words], every: PACE, calls }
}

#[test]
fn jobs_do_not_notice_what_hostile_peers_do_to_those_beside_them() {
    let (_redis, mut state) = StateFolder::with_redis();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endless = endless();
    let url = endless.clone();
    let honest = runtime.block_on(FakeProvider::choosing(move |body| answer(body, &url)));
    for name in [variables::FETCH_PRIVATE, variables::API_PRIVATE, "OPENAI_API_KEY"] {
        state.set(name, "1");
    }
    let team = state.file("team.yaml", TEAM.replace("HONEST", &honest.url).replace("ENDLESS", &endless));
    let mut worker = limited_worker(&state);
    let dispatch = |agent: &str| {
        state.dispatch(&[&team, agent, &format!("go {agent}"), "--timeout", TIMEOUT, "--cap", "0"])
    };
    let hostile = HOSTILE.map(dispatch);
    let neighbours: Vec<String> = (0..NEIGHBOURS).map(|_| dispatch("talks")).collect();
    let ended = |id: &String| !state.view(id)["finished_at"].is_null();
    until_within(Duration::from_secs(60), "all have ended", || neighbours.iter().chain(&hostile).all(ended));
    let longest = PACE * u32::try_from(WORDS).unwrap() + SLACK;
    for id in &neighbours {
        let view = state.view(id);
        assert_eq!((&view["status"], &view["attempt"]), (&json!("completed"), &json!(1)), "{view}");
        assert_eq!(view["output"], "word ".repeat(WORDS), "{view}");
        let ran = Duration::from_millis(view["runtime_ms"].as_u64().unwrap());
        assert!(ran < longest, "a neighbour ran for {ran:?}");
    }
    for (agent, id) in HOSTILE.iter().zip(&hostile) {
        let view = state.view(id);
        let ran = Duration::from_millis(view["runtime_ms"].as_u64().unwrap());
        assert!(view["attempt"] == 1 && ran < END, "{agent} ran for {ran:?}: {view}");
    }
    assert!(worker.try_wait().unwrap().is_none(), "the worker lives");
    worker.kill().unwrap();
    worker.wait().unwrap();
}

/// A worker that dies where it takes more memory than a few of the answers have room for.
fn limited_worker(state: &StateFolder) -> Child {
    let mut limited = state.other_program("sh");
    let worker = program_path("legwork-worker");
    limited.args(["-c", "ulimit -v $1; exec $2", "sh", MAX_MEMORY, worker.to_str().unwrap()]);
    limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    limited.spawn().unwrap()
}
