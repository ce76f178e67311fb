//! Workers whose trust file says `signed: [results]`: what of other jobs reaches a model.

use legwork_common::contract;
use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::signing::key;
use crate::signing::trust;
use crate::signing::uuid;

const TEAM: &str = "
agents:
  parent:
    model: scripted/any
    description: Delegates.
    instruction: Delegate.
    sub_agents: [says, fails, slow, elsewhere]
    toolsets: [{type: background_agents}]
  says: {model: scripted/any, description: d, instruction: i}
  fails: {model: scripted/any, description: d, instruction: i, toolsets: [{type: think}]}
  slow: {model: scripted/any, description: d, instruction: i}
  elsewhere: {model: scripted/any, description: d, instruction: i}
";

/// The jobs that the parent dispatches in its second turn, in which it waits for another one: agent and task. What becomes of
/// them is announced to it before its third turn.
const CHILDREN: [(&str, &str); 6] = [
    ("says", "kept"),
    ("says", "swapped"),
    ("fails", "kept"),
    ("fails", "swapped"),
    ("elsewhere", "unsigned"),
    ("slow", "live"),
];

fn script() -> Value {
    let call = |tool: &str, arguments: Value| json!({"name": tool, "arguments": arguments});
    let run =
        |(agent, task): &(&str, &str)| call("run_background_agent", json!({"agent": agent, "task": task}));
    let transfer = |agent: &str, task: &str| call("transfer_task", json!({"agent": agent, "task": task}));
    // The job of the first turn is job 0.
    let job = |number: usize| format!("{{{{job:{number}}}}}");
    let wait = |numbers: &[usize]| {
        let ids: Vec<String> = numbers.iter().map(|number| job(*number)).collect();
        call("wait_background_agents", json!({"task_ids": ids}))
    };
    let view = |number: usize| call("view_background_agent", json!({"task_id": job(number)}));
    let page = |number: usize| call("view_background_agent", json!({"task_id": job(number), "since": 0}));
    json!({
        "parent": [
            {"tool_calls": [run(&("slow", "gate"))]},
            {"tool_calls": CHILDREN.iter().map(run).chain([wait(&[0])]).collect::<Vec<_>>()},
            {"tool_calls": [
                wait(&[1, 2, 3, 4, 5]),
                view(2), page(2), view(4), view(5), view(6), page(6),
                call("list_background_agents", json!({})),
            ]},
            {"tool_calls": [wait(&[6])]},
            {"tool_calls": [transfer("says", "handed over"), transfer("elsewhere", "unsigned and handed over")]},
            {"text": "done"},
        ],
        "says": [{"text": "says {{task}}"}],
        "elsewhere": [{"text": "says {{task}}"}],
        // It has no second reply.
        "fails": [{"text": "tries", "tool_calls": [call("think", json!({"thought": "{{task}}"}))]}],
        "slow": [{"text": "livewords by and by", "chunk_delay_ms": 3_600_000}],
    })
}

/// A fleet whose children of `elsewhere` are run by a worker without a signing key.
struct Fleet {
    redis: Redis,
    state: StateFolder,
    team: String,
    ci: String,
}

impl Fleet {
    fn start() -> Self {
        let (redis, mut state) = StateFolder::with_redis();
        let team = state.file("team.yaml", TEAM);
        let script = state.file("script.json", json!({"agents": script()}).to_string());
        state.set(variables::SCRIPT, &script);
        let policy = state.file("policy.yaml", "agents: {elsewhere: {queue: other}}\n");
        state.set(variables::POLICY, &policy);
        let ci = key(&state, "ci", &[]);
        Self { redis, state, team, ci: ci.0 }
    }

    fn trust(&self, signed: &str, own_line: &str) -> String {
        let ci_line = self.state.legwork(["keys", "show", &self.ci]).expect_success();
        trust(&self.state, "trust.yaml", &[&ci_line, own_line, signed])
    }

    /// The jobs of a parent once all but the last have ended, in the order of [`CHILDREN`].
    fn children(&self, parent: &str) -> Vec<String> {
        let mut ids = Vec::new();
        until("the children have ended", || {
            let jobs = self.state.legwork(["list", "--json"]).json_lines();
            let child = |(agent, task): &(&str, &str)| {
                let is =
                    |job: &&Value| job["parent"] == parent && job["agent"] == *agent && job["task"] == *task;
                let job = jobs.iter().find(is)?;
                let has_ended = job["status"] == "completed" || job["status"] == "failed";
                (has_ended || *agent == "slow").then(|| job["id"].as_str().unwrap_or_default().to_owned())
            };
            ids = CHILDREN.iter().filter_map(child).collect();
            ids.len() == CHILDREN.len()
        });
        self.state.until_output(&ids[5], "livewords");
        ids
    }

    /// Replaces the end of a job's result or error.
    fn forge(&self, id: &str) {
        let result = self.redis.keys(&format!("*:result:{}", uuid(id))).remove(0);
        assert!(self.redis.command(&format!("APPEND {result} ' forged'")).starts_with(':'));
    }

    fn transcript(&self, parent: &str) -> String {
        self.state.legwork(["view", parent, "--transcript"]).expect_success()
    }

    /// Lets the parent continue, and returns what its model was told until its end.
    fn told(&self, parent: &str, live: &str) -> String {
        let jobs = self.state.legwork(["list", "--json"]).json_lines();
        let gate = jobs.iter().find(|job| job["task"] == "gate").unwrap()["id"].as_str().unwrap();
        self.state.legwork(["stop", gate]).expect_success();
        until("the parent has looked at its jobs", || {
            self.transcript(parent).contains("Background Agent Tasks")
        });
        self.state.legwork(["stop", live]).expect_success();
        self.state.until_status(parent, "completed");
        self.transcript(parent)
    }
}

#[test]
fn what_was_altered_in_redis_of_a_child_reaches_no_model() {
    let fleet = Fleet::start();
    let (own, own_line) = key(&fleet.state, "worker-1", &["--worker"]);
    let trusted = fleet.trust("signed: [results]\n", &own_line);
    let _signs = fleet.state.worker(&["--trust", &trusted, "--signing-key", &own]);
    let _signs_nothing = fleet.state.worker(&["--trust", &trusted, "--queues", "other"]);
    let parent = fleet.state.dispatch(&["--signing-key", &fleet.ci, &fleet.team, "parent", "go"]);
    let ids = fleet.children(&parent);
    for id in [&ids[1], &ids[3]] {
        fleet.forge(id);
    }
    // An agent's name goes into lists and views, and so would a cause.
    let spec = fleet.redis.keys(&format!("*:spec:{}", uuid(&ids[1]))).remove(0);
    let rename = r#"return redis.call('SET', KEYS[1], (string.gsub(redis.call('GET', KEYS[1]), '\"says\"', '\"forged\"')))"#;
    assert_eq!(fleet.redis.command(&format!("EVAL \"{rename}\" 1 {spec}")), "+OK");
    let record = fleet.redis.keys(&format!("*:job:{}", uuid(&ids[3]))).remove(0);
    assert!(fleet.redis.command(&format!("HSET {record} cause forged")).starts_with(':'));

    let told = fleet.told(&parent, &ids[5]);
    assert!(!told.contains("forged"), "{told}");
    for honest in ["says kept", "the script", "operator", "says handed over"] {
        assert!(told.contains(honest), "{honest}: {told}");
    }
    for other in ["says swapped", "says unsigned", "livewords"] {
        assert!(!told.contains(other), "{other}: {told}");
    }
    for sentence in [contract::RESULT_WITHHELD, &contract::error_withheld(None), contract::OUTPUT_WITHHELD] {
        assert!(told.contains(sentence), "{sentence}: {told}");
    }
    let log = fleet.state.worker_log();
    for number in [1, 3, 4] {
        let is_told =
            |line: &str| line.contains("withheld from its dispatcher") && line.contains(&ids[number]);
        assert!(log.lines().any(is_told), "{number}: {log}");
    }
    assert!(!log.lines().any(|line| line.contains("withheld") && line.contains(&ids[0])), "{log}");
    // People see what is stored.
    assert_eq!(fleet.state.view(&ids[1])["result"], "says swapped forged");
}

#[test]
fn without_the_word_in_the_trust_file_models_read_what_is_stored() {
    let fleet = Fleet::start();
    let (own, own_line) = key(&fleet.state, "worker-1", &["--worker"]);
    let trusted = fleet.trust("signed: [messages]\n", &own_line);
    let _signs = fleet.state.worker(&["--trust", &trusted, "--signing-key", &own]);
    let _signs_nothing = fleet.state.worker(&["--trust", &trusted, "--queues", "other"]);
    let parent = fleet.state.dispatch(&["--signing-key", &fleet.ci, &fleet.team, "parent", "go"]);
    let ids = fleet.children(&parent);
    fleet.forge(&ids[1]);
    let told = fleet.told(&parent, &ids[5]);
    for text in ["says swapped forged", "says unsigned", "says kept", "livewords"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    assert!(!told.contains("withheld"), "{told}");
    // A worker with a key seals the ends of jobs of jobs, so that workers can be asked for it later. A root has no reader.
    let seal = |id: &str| {
        let record = fleet.redis.keys(&format!("*:job:{}", uuid(id))).remove(0);
        fleet.redis.command(&format!("HEXISTS {record} seal"))
    };
    let sealed: Vec<String> = [0, 3, 4, 5].map(|number: usize| seal(&ids[number])).to_vec();
    assert_eq!(sealed, [":1", ":1", ":0", ":0"]);
    assert_eq!(seal(&parent), ":0");
}
