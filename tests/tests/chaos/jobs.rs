//! Those who dispatch and stop jobs, and know what must come of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use serde_json::Value;
use serde_json::json;

use crate::fake_provider::RecordingProvider;
use crate::random::Random;

/// A job waits for jobs, is told of them, runs commands, or talks.
const TEAM: &str = "
agents:
  root: {model: openai/test, instruction: Coordinate., sub_agents: [talks, runs, waits, told]}
  talks: {model: openai/test, description: Talks., instruction: Talk.}
  runs: {model: openai/test, description: Runs commands., instruction: Run., toolsets: [{type: shell}]}
  waits:
    model: openai/test
    description: Waits for others.
    instruction: Delegate.
    sub_agents: [talks, runs, told]
    toolsets: [{type: background_agents}]
  told:
    model: openai/test
    description: Is told of others.
    instruction: Delegate.
    sub_agents: [talks, runs]
    toolsets: [{type: background_agents}]
";
/// The agents that somebody dispatches, and how many jobs each has directly below it.
pub(crate) const AGENTS: [(&str, usize); 4] = [("talks", 0), ("runs", 0), ("waits", 2), ("told", 1)];
/// How long one call of a client may be tried again.
const STUBBORN: Duration = Duration::from_secs(60);

fn dispatches(agent: &str, child: &str) -> Value {
    json!({"name": "run_background_agent", "arguments": {"agent": agent, "task": format!("{{{{task}}}}.{child}")}})
}

/// What the agents say and call, with the folder of the marks.
fn script(marks: &str) -> Value {
    let mark = |turn: u32| {
        let cmd = format!("echo {turn} $(date +%s%N) >> {marks}/{{{{task}}}}; sleep 0.3");
        json!({"text": format!("{{{{task}}}} runs command {turn}\n"), "chunk_delay_ms": 20,
            "tool_calls": [{"name": "shell", "arguments": {"cmd": cmd}}]})
    };
    let talk = json!({"text": "{{task}} says one two three four five six seven eight nine ten", "chunk_delay_ms": 120});
    json!({"agents": {
        "talks": [talk],
        "runs": [mark(1), mark(2), mark(3), {"text": "{{task}} ran all of them", "chunk_delay_ms": 50}],
        "waits": [
            {"text": "{{task}} begins two\n", "tool_calls": [dispatches("runs", "a"), dispatches("told", "b")]},
            {"text": "{{task}} waits for them\n",
                "tool_calls": [{"name": "wait_background_agents", "arguments": {"task_ids": ["{{jobs}}"]}}]},
            {"text": "{{task}} waited for both", "chunk_delay_ms": 50},
        ],
        "told": [
            {"text": "{{task}} begins one\n", "tool_calls": [dispatches("talks", "c")]},
            {"text": "{{task}} has nothing else to do", "chunk_delay_ms": 20},
            {"text": "{{task}} was told"},
        ],
    }})
}

/// What an agent says in each of its turns.
pub(crate) fn turns_of(agent: &str, task: &str) -> Vec<String> {
    let script = script("");
    let turns = script["agents"][agent].as_array().unwrap();
    turns.iter().map(|turn| turn["text"].as_str().unwrap().replace("{{task}}", task)).collect()
}

/// A job that was taken on.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) id: String,
    /// Names it and, as a beginning, what is below it.
    pub(crate) task: String,
    /// When a stop of it was asked for first and was confirmed, in nanoseconds since 1970.
    pub(crate) stopped: Option<u128>,
}

/// Those who dispatch and stop.
#[derive(Debug)]
pub(crate) struct Clients {
    state: Arc<StateFolder>,
    random: Random,
    file: String,
    pub(crate) known: Vec<Known>,
    pub(crate) dispatches: usize,
}

impl Clients {
    /// Writes what they need.
    pub(crate) fn of(state: Arc<StateFolder>, random: Random) -> Self {
        let file = state.path("team.yaml").display().to_string();
        Self { state, random, file, known: Vec::new(), dispatches: 0 }
    }

    /// Dispatches and stops until it is calm.
    pub(crate) fn dispatch_until(&mut self, calm: &AtomicBool) {
        while !calm.load(Ordering::SeqCst) {
            self.dispatch();
            if self.random.once_in(6) {
                let place = self.random.place(self.known.len());
                self.stop(place);
            }
            let pause = Instant::now() + Duration::from_millis(self.random.below(400));
            until("the pause is over", || Instant::now() >= pause);
        }
    }

    fn dispatch(&mut self) {
        let (agent, _) = AGENTS[self.random.place(AGENTS.len())];
        let task = format!("{agent}{}", self.known.len());
        let mut ids = Vec::new();
        // A second dispatch with the same key is the first.
        for _ in 0..=self.random.below(2) {
            ids.push(self.insist(&["dispatch", &self.file, agent, &task, "--key", &task]));
        }
        self.dispatches += ids.len();
        ids.dedup();
        assert_eq!(ids.len(), 1, "a key names one job: {ids:?}");
        self.known.push(Known { id: ids.remove(0), task, stopped: None });
    }

    fn stop(&mut self, place: usize) {
        let id = self.known[place].id.clone();
        self.insist(&["stop", &id]);
        self.known[place].stopped.get_or_insert_with(now);
    }

    /// Says it until Redis has heard it.
    fn insist(&self, arguments: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let said = self.state.legwork(arguments);
            if said.status == 0 {
                return said.out.trim().to_owned();
            }
            assert_eq!(said.status, 5, "only Redis may be in the way: {said:?}");
            assert!(began.elapsed() < STUBBORN, "{said:?}");
        }
    }
}

/// Nanoseconds since 1970, as the commands note them.
pub(crate) fn now() -> u128 {
    #[expect(clippy::disallowed_methods, reason = "compared with what `date` says on this machine")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

/// Makes the state one where these jobs can run, and asks these models.
pub(crate) fn furnish(state: &mut StateFolder) -> RecordingProvider {
    state.file("team.yaml", TEAM);
    let marks = state.path("marks");
    std::fs::create_dir(&marks).unwrap();
    let provider = RecordingProvider::of(script(&marks.display().to_string()));
    state.set("OPENAI_BASE_URL", &provider.url());
    state.set("OPENAI_API_KEY", "sk-secret");
    provider
}
