//! What a provider, a web site, an MCP server and an agent can do to the jobs beside theirs: nothing.

use std::process::Child;
use std::process::Stdio;
use std::time::Duration;

use legwork_common::variables;
use legwork_tests::hostile;
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
  honest: {provider: openai, model: honest, base_url: HONEST, provider_opts: {api_type: openai_chatcompletions}}MODEL
agents:
  talks: {model: honest, instruction: Talk.}AGENTS";

fn team(honest: &str, endless: &str) -> String {
    let text = TEAM.replace("MODEL", hostile::MODEL.trim_end()).replace("AGENTS", hostile::AGENTS);
    text.replace("HONEST", honest).replace("ENDLESS", endless)
}

/// What the honest provider lets an agent say: the calls of the agents that are hostile or meet hostile peers, then words.
fn answer(body: &Value, endless: &str) -> Answer {
    let text = body.to_string();
    let messages = body["messages"].as_array().unwrap();
    let is_first = !messages.iter().any(|message| message["role"] == "assistant");
    let agent = hostile::NAMES.into_iter().find(|agent| text.contains(&format!("go {agent}")));
    let calls = agent.filter(|_| is_first).map(|agent| hostile::calls(agent, endless, "y"));
    let calls = calls.into_iter().flatten().map(|(name, arguments)| (name, arguments.to_string())).collect();
    let words = if text.contains("go talks") { WORDS } else { 1 };
    Answer::Spoken { words: vec!["word ".to_owned(); words], every: PACE, calls }
}

#[test]
fn jobs_do_not_notice_what_hostile_peers_do_to_those_beside_them() {
    let (_redis, mut state) = StateFolder::with_redis();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endless = hostile::endless();
    let url = endless.clone();
    let honest = runtime.block_on(FakeProvider::choosing(move |body| answer(body, &url)));
    for name in [variables::FETCH_PRIVATE, variables::API_PRIVATE, "OPENAI_API_KEY"] {
        state.set(name, "1");
    }
    let team = state.file("team.yaml", team(&honest.url, &endless));
    let mut worker = limited_worker(&state);
    let dispatch = |agent: &str| {
        state.dispatch(&[&team, agent, &format!("go {agent}"), "--timeout", TIMEOUT, "--cap", "0"])
    };
    let hostile = hostile::NAMES.map(dispatch);
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
    for (agent, id) in hostile::NAMES.iter().zip(&hostile) {
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
