//! The models of the agents: a provider over HTTP that says what each of them has to say, and remembers who asked.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::jobs::AGENTS;
use crate::jobs::now;

/// Somebody asked a model.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The task of the job.
    pub(crate) task: String,
    /// How many turns it had had.
    pub(crate) turns: usize,
    /// In nanoseconds since 1970.
    pub(crate) when: u128,
}

/// The provider and its log.
#[derive(Debug)]
pub(crate) struct RecordingProvider {
    provider: FakeProvider,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: Runtime,
}

impl RecordingProvider {
    /// Those that follow this script.
    pub(crate) fn of(script: Value) -> Self {
        let runtime = Runtime::new().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let provider = runtime.block_on(FakeProvider::choosing(move |body| {
            let asked = Asked::from(body);
            let answer = answer(&script, &asked, &jobs(body));
            log.lock().unwrap().push(asked);
            answer
        }));
        Self { provider, asked, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        self.provider.url.clone()
    }

    /// Who asked, so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Asked {
    fn from(body: &Value) -> Self {
        let text = body.to_string();
        let task = text.split_once("<task>\\n").and_then(|(_, rest)| rest.split_once("\\n</task>"));
        let task = task.map(|(task, _)| task.to_owned()).unwrap_or_default();
        let messages = body["messages"].as_array().into_iter().flatten();
        let turns = messages.filter(|message| message["role"] == "assistant").count();
        Self { task, turns, when: now() }
    }
}

/// The agent that a task is for: its own name, or the place below its parent.
fn agent_of(task: &str) -> &str {
    match task.rsplit_once('.') {
        Some((_, "a")) => "runs",
        Some((_, "b")) => "told",
        Some((_, _)) => "talks",
        None => AGENTS.iter().map(|(agent, _)| *agent).find(|agent| task.starts_with(agent)).unwrap_or(task),
    }
}

/// The jobs that the conversation names.
fn jobs(body: &Value) -> Vec<String> {
    let text = body.to_string();
    let found = text.split("started with ID: ").skip(1);
    found.filter_map(|rest| Some(rest.split_once("\\n")?.0.to_owned())).collect()
}

fn answer(script: &Value, asked: &Asked, jobs: &[String]) -> Answer {
    let reply = &script["agents"][agent_of(&asked.task)][asked.turns];
    let Some(text) = reply["text"].as_str() else {
        return Answer::Status(400, Vec::new(), "there is nothing more to say");
    };
    let spoken = |text: &str| text.replace("{{task}}", &asked.task);
    let listed = serde_json::to_string(jobs).unwrap();
    let calls = reply["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let arguments = spoken(&call["arguments"].to_string()).replace("[\"{{jobs}}\"]", &listed);
        (call["name"].as_str().unwrap().to_owned(), arguments)
    });
    Answer::Spoken {
        words: spoken(text).split_inclusive(' ').map(str::to_owned).collect(),
        every: Duration::from_millis(reply["chunk_delay_ms"].as_u64().unwrap_or(0)),
        calls: calls.collect(),
    }
}
