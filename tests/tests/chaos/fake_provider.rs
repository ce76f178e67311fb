//! A fake model provider that plays a script for each agent, over five APIs and in odd forms, and records every request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use legwork_tests::hostile;
use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::jobs::AGENTS;
use crate::jobs::now;
use crate::oddities;
use crate::random::Random;
use crate::wires::Said;
use crate::wires::Wire;

/// A recorded request to a model.
#[derive(Debug, Clone)]
pub(crate) struct ModelCall {
    /// Task of the job, which identifies it.
    pub(crate) task: String,
    /// Number of turns that the conversation already has.
    pub(crate) turns: usize,
    /// Nanoseconds since 1970, to compare with the times of stops.
    pub(crate) when: u128,
    /// The API that it spoke.
    pub(crate) wire: Wire,
    /// Why a provider would refuse the request.
    pub(crate) refusal: Option<String>,
}

/// One in this many replies is broken, each turn of a job once at most: with the delay before the second retry, 20 s, jobs
/// would not end in time.
const BROKEN: u64 = 10;

/// What decides about the form of replies.
#[derive(Debug)]
struct Forms {
    random: Random,
    /// Tasks and turns whose reply was broken before.
    broken: BTreeSet<(String, usize)>,
}

/// The provider and its recorded requests.
#[derive(Debug)]
pub(crate) struct RecordingProvider {
    provider: FakeProvider,
    calls: Arc<Mutex<Vec<ModelCall>>>,
    forms: Arc<Mutex<Forms>>,
    _runtime: Runtime,
}

impl RecordingProvider {
    /// Starts a provider that follows this script.
    pub(crate) fn start(script: Value, random: Random) -> Self {
        let runtime = Runtime::new().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let forms = Arc::new(Mutex::new(Forms { random, broken: BTreeSet::new() }));
        let decided = Arc::clone(&forms);
        let provider = runtime.block_on(FakeProvider::choosing(move |body| {
            let (wire, call) = (Wire::of(body), ModelCall::from_body(body));
            let answer = answer(&script, wire, &call, &jobs(body), &mut decided.lock().unwrap());
            log.lock().unwrap().push(call);
            answer
        }));
        Self { provider, calls, forms, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        self.provider.url.clone()
    }

    /// How many replies were broken so far.
    pub(crate) fn broken(&self) -> usize {
        self.forms.lock().unwrap().broken.len()
    }

    /// All requests so far, oldest first.
    pub(crate) fn calls(&self) -> Vec<ModelCall> {
        self.calls.lock().unwrap().clone()
    }
}

impl ModelCall {
    fn from_body(body: &Value) -> Self {
        let text = body.to_string();
        let task = text.split_once("<task>\\n").and_then(|(_, rest)| rest.split_once("\\n</task>"));
        let task = task.map(|(task, _)| task.to_owned()).unwrap_or_default();
        let wire = Wire::of(body);
        Self { task, turns: wire.turns(body), when: now(), wire, refusal: wire.refusal(body) }
    }
}

/// The agent of a task: children have a suffix such as `.a`, the task of a root starts with the agent's name.
fn agent_of(task: &str) -> &str {
    match task.rsplit_once('.') {
        Some((_, "a")) => "runs",
        Some((_, "b")) => "notified",
        Some((_, _)) => "talks",
        None => {
            let agents = AGENTS.iter().map(|(agent, _)| *agent).chain(hostile::NAMES);
            agents.into_iter().find(|agent| task.starts_with(agent)).unwrap_or(task)
        }
    }
}

/// Ids of the jobs that the conversation started.
fn jobs(body: &Value) -> Vec<String> {
    let text = body.to_string();
    let found = text.split("started with ID: ").skip(1);
    found.filter_map(|rest| Some(rest.split_once("\\n")?.0.to_owned())).collect()
}

fn answer(script: &Value, wire: Wire, call: &ModelCall, jobs: &[String], forms: &mut Forms) -> Answer {
    let reply = &script["agents"][agent_of(&call.task)][call.turns];
    let Some(text) = reply["text"].as_str() else {
        return Answer::Status(400, Vec::new(), "the script has no more replies");
    };
    let filled = |text: &str| text.replace("{{task}}", &call.task);
    let ids = serde_json::to_string(jobs).unwrap();
    let calls = reply["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let arguments = filled(&call["arguments"].to_string()).replace("[\"{{jobs}}\"]", &ids);
        (call["name"].as_str().unwrap().to_owned(), arguments)
    });
    let said = Said {
        words: filled(text).split_inclusive(' ').map(str::to_owned).collect(),
        calls: calls.collect(),
    };
    let pace = Duration::from_millis(reply["chunk_delay_ms"].as_u64().unwrap_or(0));
    let Forms { random, broken } = forms;
    if random.once_in(BROKEN) && broken.insert((call.task.clone(), call.turns)) {
        return oddities::broken(wire, &said, pace, random);
    }
    oddities::whole(wire, &said, pace, random)
}
