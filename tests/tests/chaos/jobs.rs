//! The clients that dispatch and stop jobs, and the script that says what each job must do.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use legwork_common::variables;
use legwork_tests::hostile;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use serde_json::Value;
use serde_json::json;

use crate::fake_provider::RecordingProvider;
use crate::random::Random;

/// Agents that wait for jobs, are notified of jobs, run commands, or only print text.
///
/// Each turn is answered over one of the five APIs, drawn at random.
const TEAM: &str = "
models:
  chat: {provider: openai, model: chat, base_url: URL, provider_opts: {api_type: openai_chatcompletions}}
  responses: {provider: openai, model: responses, base_url: URL, provider_opts: {api_type: openai_responses}}
  messages: {provider: anthropic, model: messages, base_url: URL}
  gemini: {provider: google, model: gemini, base_url: URL}
  converse: {provider: amazon-bedrock, model: converse, base_url: URL}
  honest: {provider: openai, model: chat, base_url: URL, provider_opts: {api_type: openai_chatcompletions}}HOSTILE_MODEL
agents:
  root: {model: openai/test, instruction: Coordinate., sub_agents: [talks, runs, waits, notified]}
  talks: {model: openai/test, description: Talks., instruction: Talk.}
  runs: {model: openai/test, description: Runs commands., instruction: Run., toolsets: [{type: shell}]}
  waits:
    model: openai/test
    description: Waits for others.
    instruction: Delegate.
    sub_agents: [talks, runs, notified]
    toolsets: [{type: background_agents}]
  notified:
    model: openai/test
    description: Is notified of others.
    instruction: Delegate.
    sub_agents: [talks, runs]
    toolsets: [{type: background_agents}]HOSTILE_AGENTS";
/// The models of each agent.
const MODELS: &str = "\"chat,responses,messages,gemini,converse\"";
/// The variables with their keys.
const KEYS: [&str; 4] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"];
/// The agents that the clients dispatch, and the number of direct children of each.
pub(crate) const AGENTS: [(&str, usize); 4] = [("talks", 0), ("runs", 0), ("waits", 2), ("notified", 1)];
/// One dispatch in this many is of an agent that is hostile, or meets hostile peers.
const HOSTILE: u64 = 12;
/// How long such a job may run.
const HOSTILE_TIMEOUT: &str = "8s";
/// How long a client retries one call. No fault lasts longer than 4 s, but several can follow each other, and after a failover
/// it takes some seconds until a replica confirms again.
const MAX_RETRY_TIME: Duration = Duration::from_secs(120);

fn dispatches(agent: &str, child: &str) -> Value {
    json!({"name": "run_background_agent", "arguments": {"agent": agent, "task": format!("{{{{task}}}}.{child}")}})
}

/// The replies of an agent that is hostile, or meets hostile peers.
fn attack(agent: &str, endless: &str, marks: &str) -> Value {
    let calls = hostile::calls(agent, endless, marks).into_iter();
    let calls: Vec<Value> =
        calls.map(|(name, arguments)| json!({"name": name, "arguments": arguments})).collect();
    json!([{"text": "{{task}} begins\n", "tool_calls": calls}, {"text": "{{task}} is over"}])
}

/// The script of all agents. `endless` is the address of a server whose answers do not end. Commands record their turn and time in files of the folder `marks`.
fn script(marks: &str, endless: &str) -> Value {
    let mark = |turn: u32| {
        let cmd = format!("echo {turn} $(date +%s%N) >> {marks}/{{{{task}}}}; sleep 0.3");
        json!({"text": format!("{{{{task}}}} runs command {turn}\n"), "chunk_delay_ms": 20,
            "tool_calls": [{"name": "shell", "arguments": {"cmd": cmd}}]})
    };
    let talk = json!({"text": "{{task}} prints one two three four five six seven eight nine ten", "chunk_delay_ms": 120});
    let mut script = json!({"agents": {
        "talks": [talk],
        "runs": [mark(1), mark(2), mark(3), {"text": "{{task}} ran all of them", "chunk_delay_ms": 50}],
        "waits": [
            {"text": "{{task}} begins two\n", "tool_calls": [dispatches("runs", "a"), dispatches("notified", "b")]},
            {"text": "{{task}} waits for them\n",
                "tool_calls": [{"name": "wait_background_agents", "arguments": {"task_ids": ["{{jobs}}"]}}]},
            {"text": "{{task}} waited for both", "chunk_delay_ms": 50},
        ],
        "notified": [
            {"text": "{{task}} begins one\n", "tool_calls": [dispatches("talks", "c")]},
            {"text": "{{task}} has nothing else to do", "chunk_delay_ms": 20},
            {"text": "{{task}} was notified"},
        ],
    }});
    for agent in hostile::NAMES {
        script["agents"][agent] = attack(agent, endless, marks);
    }
    script
}

/// Text of each turn of an agent.
pub(crate) fn turns_of(agent: &str, task: &str) -> Vec<String> {
    let script = script("", "");
    let turns = script["agents"][agent].as_array().unwrap();
    turns.iter().map(|turn| turn["text"].as_str().unwrap().replace("{{task}}", task)).collect()
}

/// A job that Redis has accepted.
#[derive(Debug)]
pub(crate) struct AcceptedJob {
    pub(crate) id: String,
    /// Identifies the job. Tasks of its children start with it.
    pub(crate) task: String,
    /// When the first stop of the job was confirmed, in nanoseconds since 1970.
    pub(crate) stopped: Option<u128>,
}

/// Dispatches and stops random jobs.
#[derive(Debug)]
pub(crate) struct Clients {
    state: Arc<StateFolder>,
    random: Random,
    file: String,
    pub(crate) accepted: Vec<AcceptedJob>,
    /// Ids of the jobs whose agents are hostile, or meet hostile peers.
    pub(crate) hostile: Vec<String>,
    pub(crate) dispatches: usize,
}

impl Clients {
    /// Uses the team file that [`prepare`] has written.
    pub(crate) fn new(state: Arc<StateFolder>, random: Random) -> Self {
        let file = state.path("team.yaml").display().to_string();
        Self { state, random, file, accepted: Vec::new(), hostile: Vec::new(), dispatches: 0 }
    }

    /// Dispatches jobs and stops some of them until `stopped` is set.
    pub(crate) fn dispatch_until(&mut self, stopped: &AtomicBool) {
        while !stopped.load(Ordering::SeqCst) {
            self.dispatch();
            if self.random.once_in(HOSTILE) {
                self.dispatch_hostile();
            }
            if self.random.once_in(6) {
                let index = self.random.index(self.accepted.len());
                self.stop(index);
            }
            let resume_at = Instant::now() + Duration::from_millis(self.random.below(400));
            until("the delay is over", || Instant::now() >= resume_at);
        }
    }

    fn dispatch(&mut self) {
        let (agent, _) = AGENTS[self.random.index(AGENTS.len())];
        let task = format!("{agent}{}", self.accepted.len());
        let mut ids = Vec::new();
        // A second dispatch with the same idempotency key must return the same job.
        for _ in 0..=self.random.below(2) {
            ids.push(self.retry_until_ok(&["dispatch", &self.file, agent, &task, "--key", &task]));
        }
        self.dispatches += ids.len();
        ids.dedup();
        assert_eq!(ids.len(), 1, "a key names one job: {ids:?}");
        self.accepted.push(AcceptedJob { id: ids.remove(0), task, stopped: None });
    }

    fn dispatch_hostile(&mut self) {
        let agent = hostile::NAMES[self.random.index(hostile::NAMES.len())];
        let task = format!("{agent}{}", self.hostile.len());
        let dispatch = ["dispatch", &self.file, agent, &task, "--key", &task, "--timeout", HOSTILE_TIMEOUT];
        let id = self.retry_until_ok(&dispatch);
        self.hostile.push(id);
    }

    fn stop(&mut self, index: usize) {
        let id = self.accepted[index].id.clone();
        self.retry_until_ok(&["stop", &id]);
        self.accepted[index].stopped.get_or_insert_with(now);
    }

    /// Repeats a command until it succeeds. The only failure allowed is an unavailable Redis (exit status 5).
    fn retry_until_ok(&self, arguments: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let output = self.state.legwork(arguments);
            if output.status == 0 {
                return output.stdout.trim().to_owned();
            }
            assert_eq!(output.status, 5, "unexpected failure: {output:?}");
            assert!(started.elapsed() < MAX_RETRY_TIME, "{output:?}");
        }
    }
}

/// Nanoseconds since 1970, from the same clock as the times that the commands record.
pub(crate) fn now() -> u128 {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the times that `date` prints on this machine"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

/// Writes the team file, starts the provider, and points the programs at it.
pub(crate) fn prepare(state: &mut StateFolder, random: Random) -> RecordingProvider {
    let marks = state.path("marks");
    std::fs::create_dir(&marks).unwrap();
    let endless = hostile::endless();
    let provider = RecordingProvider::start(script(&marks.display().to_string(), &endless), random);
    let team =
        TEAM.replace("HOSTILE_MODEL", hostile::MODEL.trim_end()).replace("HOSTILE_AGENTS", hostile::AGENTS);
    let team = team.replace("URL", &provider.url()).replace("ENDLESS", &endless);
    state.file("team.yaml", team.replace("openai/test", MODELS));
    for key in KEYS {
        state.set(key, "sk-secret");
    }
    // The endless server is on this machine.
    state.set(variables::FETCH_PRIVATE, "1");
    state.set(variables::API_PRIVATE, "1");
    provider
}
