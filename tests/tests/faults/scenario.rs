//! The scenarios: what the parent job and its child do in a run, and what every run of them needs.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::service::RunRequest;
use legwork_common::team;
use legwork_queue::Caller;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Lane;
use legwork_queue::port::OpenSession;
use legwork_worker::WorkerSettings;
use legwork_worker::guard::Guard;
use serde_json::Value;
use serde_json::json;

use crate::harness::TIMEOUT;

/// The agents of all scenarios.
pub(crate) const TEAM: &str = "
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [parent]}
  parent:
    model: scripted/any
    description: Delegates.
    instruction: Delegate.
    sub_agents: [child]
    toolsets: [{type: background_agents}, {type: shell}]
  child: {model: scripted/any, description: Runs a command., instruction: Run it., toolsets: [{type: shell}]}
";

/// A parent with one child below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// The parent runs a command alongside the child and waits for the child.
    Waits,
    /// The parent finishes its turn and is notified when the child ends.
    Notified,
    /// Both are stopped while the child runs a command.
    Stopped,
}

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Waits, Self::Notified, Self::Stopped];

    /// The replies of the agents. Each command appends a line to the file `marks`; the long one sleeps for `sleep`.
    pub(crate) fn script(self, marks: &str, sleep: &str) -> Value {
        let shell = |cmd: String| json!({"name": "shell", "arguments": {"cmd": cmd, "timeout": 100}});
        let starts = json!({"name": "run_background_agent", "arguments": {"agent": "child", "task": "work"}});
        let waits = json!({"name": "wait_background_agents", "arguments": {"task_ids": ["{{jobs}}"]}});
        let marked = |who: &str| shell(format!("echo {who} >> {marks}"));
        let talks = |text: &str| json!({"text": text, "chunk_delay_ms": 12});
        let child = match self {
            Self::Waits | Self::Notified => json!([
                {"text": "I run.\n", "tool_calls": [marked("child")]},
                talks("one two three four five six"),
            ]),
            // An interrupted command is followed by another one, so the child never completes.
            Self::Stopped => (1..10)
                .map(|turn| {
                    let cmd = format!("echo child{turn} >> {marks}; sleep {sleep}");
                    json!({"text": "I sleep.\n", "tool_calls": [shell(cmd)]})
                })
                .collect(),
        };
        let parent = match self {
            Self::Waits => json!([
                {"text": "I begin.\n", "tool_calls": [starts, marked("parent")]},
                {"text": "I wait.\n", "tool_calls": [waits]},
                talks("All is done."),
            ]),
            Self::Notified => json!([
                {"text": "I begin.\n", "tool_calls": [starts]},
                talks("Turn finished."),
                talks("I was notified."),
            ]),
            Self::Stopped => json!([
                {"text": "I begin.\n", "tool_calls": [starts]},
                {"text": "I wait.\n", "tool_calls": [waits]},
                talks("never"),
            ]),
        };
        json!({"agents": {"parent": parent, "child": child}})
    }

    /// Text of each turn of an agent.
    pub(crate) fn turns_of(self, agent: &str) -> Vec<String> {
        let script = self.script("", "");
        let turns = script["agents"][agent].as_array().unwrap();
        turns.iter().map(|turn| turn["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Marks of the commands that run if no fault interrupts the scenario.
    pub(crate) fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Waits => &["child", "parent"],
            Self::Notified => &["child"],
            Self::Stopped => &["child1"],
        }
    }
}

/// The caller of a new session of [`TEAM`], and what opens it.
pub(crate) fn session() -> (Caller, OpenSession) {
    let parsed = team::parse("team.yaml", TEAM.as_bytes()).map_err(|errors| errors.to_string()).unwrap();
    let session = SessionId::random();
    let caller = Caller {
        session,
        by: DispatchedBy::Root,
        team: TeamDigest(parsed.team.sha256().unwrap()),
        team_json: Arc::from(parsed.team.to_json().unwrap()),
        working_dir: None,
        keys_in_namespace: true,
        policy: Arc::<Policy>::default(),
        trace: None,
        root_agent: None,
        approvals: None,
    };
    let open = OpenSession { cap: 20, ..OpenSession::unlimited(session) };
    (caller, open)
}

/// A request for a job of this agent, without a key.
pub(crate) fn request(agent: &str) -> RunRequest {
    RunRequest {
        safety: None,
        agent: agent.to_owned(),
        task: "work".to_owned(),
        expected_output: None,
        call: None,
        key: None,
        job_options: None,
    }
}

/// Settings of a new worker that serves the default queue.
pub(crate) fn worker_settings() -> WorkerSettings {
    WorkerSettings {
        id: WorkerId::random_on("test"),
        host: "test".to_owned(),
        lanes: vec![Lane::Queue("default".to_owned())],
        slots: 10,
        drain_timeout: TIMEOUT,
        until_idle: false,
        policy: Arc::default(),
        guard: Guard::default(),
        admission: None,
        memory_limit: None,
        webhooks: None,
        stall_after: Duration::MAX,
    }
}
