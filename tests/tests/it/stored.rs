//! Programs of this release with what other releases stored: `fixtures/stored` has a folder for each format.
//!
//! The commands of a folder's files write what the programs of its release had in Redis after the same small session: a
//! job in each state that outlives a worker. They were captured, not composed.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// The folders that this release reads: of a format, and of forms that came later within it.
const FORMATS: [&str; 2] = ["v3", "v3-stored-once"];
/// The folders of those that it refuses.
const EARLIER_FORMATS: [&str; 2] = ["v1", "v2"];
/// A version that no release has reached.
const LATER: &str = "99";

/// A Redis that programs of another release have left.
struct Left {
    redis: Redis,
    state: StateFolder,
    ids: Value,
    /// The commands that store facts and requests.
    specs: RefCell<Vec<String>>,
}

impl Left {
    fn by(format: &str) -> Self {
        let folder = repository().join("tests/fixtures/stored").join(format);
        let redis = Redis::start();
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "redis"));
        for file in files {
            for command in fs::read_to_string(&file).unwrap().lines() {
                let answer = redis.command(command);
                assert!(!answer.starts_with('-'), "{answer}: {command}");
            }
        }
        let mut state = StateFolder::on(&redis.url());
        // Turn 2 of the job that is to be resumed; its first turn is recorded.
        let replies =
            json!({"quick": [{"text": "hello: {{task}}"}], "shell": [{"turn": 2, "text": "resumed"}]});
        Team::write(&mut state, &replies);
        // The team's file is of the other release: only what is stored counts.
        state.set(variables::LEASE, "2s");
        let ids = serde_json::from_str(&fs::read_to_string(folder.join("ids.json")).unwrap()).unwrap();
        let specs = fs::read_to_string(folder.join("spec.redis")).unwrap();
        let specs = RefCell::new(specs.lines().map(str::to_owned).collect());
        Self { redis, state, ids, specs }
    }

    fn id(&self, job: &str) -> String {
        self.ids[job].as_str().unwrap().to_owned()
    }

    fn uuid(&self, job: &str) -> String {
        self.id(job).trim_start_matches("agent_task_").to_owned()
    }

    /// The one key of a kind that belongs to a job.
    fn key(&self, pattern: &str) -> String {
        let mut keys = self.redis.keys(pattern);
        assert_eq!(keys.len(), 1, "{pattern}: {keys:?}");
        keys.remove(0)
    }

    /// The tag of the shard, and the name of the worker that was there.
    fn worker(&self) -> (String, String) {
        let key = self.key("*:worker:*");
        let (tag, name) = key.split_once(":worker:").unwrap();
        (tag.to_owned(), name.to_owned())
    }

    /// The worker that was there leaves.
    fn worker_leaves(&self) {
        let (tag, name) = self.worker();
        self.command(&format!("ZREM {tag}:workers {name}"));
    }

    /// Stores the request of a job as a later release would.
    fn store_request_of_later_version(&self, job: &str) {
        self.store_spec_again(job, "\\x0a{", &format!("\\x0a{{\\\"v\\\":{LATER},"));
    }

    /// Stores the facts of a job as a later release would: with one more.
    fn store_facts_of_later_version(&self, job: &str) {
        self.store_spec_again(job, "\"2 ", &format!("\"{LATER} "));
        self.store_spec_again(job, "\\x0a{", " more\\x0a{");
    }

    /// Stores the string of facts and request again, with one text in place of another.
    fn store_spec_again(&self, job: &str, text: &str, instead: &str) {
        let mut specs = self.specs.borrow_mut();
        let uuid = self.uuid(job);
        let line = specs.iter_mut().find(|line| line.contains(&format!(":spec:{uuid}"))).unwrap();
        assert!(line.contains(text), "{line}");
        *line = line.replacen(text, instead, 1);
        self.command(line);
    }

    fn command(&self, command: &str) {
        let answer = self.redis.command(command);
        assert!(!answer.starts_with('-'), "{answer}: {command}");
    }

    /// Rows of the list by job.
    fn row(&self, job: &str) -> Value {
        let rows = self.state.legwork(["list", "--json"]).json_lines();
        assert_eq!(rows.len(), 8, "{rows:?}");
        let id = self.id(job);
        rows.into_iter().find(|row| row["id"] == id.as_str()).unwrap()
    }
}

#[test]
fn what_earlier_releases_stored_is_shown_and_run() {
    for format in FORMATS {
        let left = Left::by(format);
        for (job, _) in left.ids.as_object().unwrap() {
            let expected = match job.as_str() {
                "tree" => "completed",
                "resumable" => "queued",
                state => state,
            };
            assert_eq!(left.row(job)["status"], expected, "{format} {job}");
        }
        let view = left.state.view(&left.id("completed"));
        assert_eq!((&view["result"], &view["key"]), (&json!("hello: say hello"), &json!("one")), "{view}");
        let said = left.state.legwork(["view", &left.id("completed"), "--transcript"]).expect_success();
        assert!(said.contains("hello: say hello"), "{said}");
        assert_eq!(left.row("failed")["cause"], "provider_error");
        assert_eq!(left.row("stopped")["cause"], "operator");
        assert_eq!(left.state.legwork(["workers", "--json"]).json_lines().len(), 1);
        left.worker_leaves();
        let turns = left.state.legwork(["view", &left.id("tree"), "--transcript"]).expect_success();
        assert!(turns.contains("→ run_background_agent") && !turns.contains("cannot be read"), "{turns}");

        let _worker = left.state.worker(&[]);
        let view = left.state.until_status(&left.id("resumable"), "completed");
        assert_eq!((&view["result"], &view["usage"]["turns"]), (&json!("resumed"), &json!(2)), "{view}");
        let view = left.state.until_status(&left.id("queued"), "completed");
        assert_eq!(view["result"], "hello: wait for a worker");
        let again = left.state.legwork(["retry", "--fresh", &left.id("stopped")]).expect_success();
        left.state.until_status(again.trim(), "completed");
    }
}

#[test]
fn a_namespace_of_an_earlier_format_is_refused() {
    for format in EARLIER_FORMATS {
        let refused = Left::by(format).state.legwork(["list"]);
        assert_eq!(refused.status, 5, "{refused:?}");
        let number = format.trim_start_matches('v');
        assert!(refused.stderr.contains(&format!("has data format {number}, this release")), "{refused:?}");
    }
}

#[test]
fn what_a_later_release_stored_is_one_row_that_says_so() {
    let left = Left::by(FORMATS[FORMATS.len() - 1]);
    let record = left.key(&format!("*:job:{}", left.uuid("failed")));
    left.command(&format!("HSET {record} v {LATER} cause sunspots"));
    left.store_request_of_later_version("completed");
    left.store_facts_of_later_version("scheduled");
    let turns = left.key(&format!("*:{}}}:turns", left.uuid("tree")));
    left.command(&format!("RPUSH {turns} '1795896853000 {{\"v\":{LATER},\"entry\":\"dream\"}}'"));
    let (tag, name) = left.worker();
    left.command(&format!("HSET {tag}:worker:{name} v {LATER} slots many"));

    let failed = left.row("failed");
    assert_eq!((&failed["status"], &failed["cause"]), (&json!("failed"), &json!("sunspots")));
    assert!(failed["task"].as_str().unwrap().contains("the record has version 99"), "{failed}");
    let completed = left.row("completed");
    assert!(completed["task"].as_str().unwrap().contains("the request has version 99"), "{completed}");
    let scheduled = left.row("scheduled");
    assert_eq!(scheduled["status"], "scheduled");
    assert!(scheduled["task"].as_str().unwrap().contains("the line of facts has version 99"), "{scheduled}");
    assert_eq!(left.row("tree")["task"], "delegate");
    let waited =
        left.state.legwork(["wait", &left.id("failed"), &left.id("completed"), &left.id("tree"), "--json"]);
    assert_eq!(waited.json_lines().len(), 3);
    assert_eq!(left.state.view(&left.id("completed"))["result"], "hello: say hello");
    let turns = left.state.legwork(["view", &left.id("tree"), "--transcript"]).expect_success();
    assert!(
        turns.contains("→ run_background_agent") && turns.contains("a turn entry has version 99"),
        "{turns}"
    );
    let workers = left.state.legwork(["workers"]).expect_success();
    assert!(workers.contains("the heartbeat has version 99"), "{workers}");
}

/// A worker of this release meets a turn entry and a request of a later one, while a worker of that release lives or not.
fn met_by_this_release(is_later_worker_alive: bool) -> Left {
    let left = Left::by(FORMATS[FORMATS.len() - 1]);
    if is_later_worker_alive {
        let (tag, name) = left.worker();
        left.command(&format!("ZADD {tag}:workers 99999999999999 {name}"));
    } else {
        left.worker_leaves();
    }
    let turns = left.key(&format!("*:{}}}:turns", left.uuid("resumable")));
    left.command(&format!("RPUSH {turns} '1795896853000 {{\"v\":{LATER},\"entry\":\"dream\"}}'"));
    left.store_request_of_later_version("queued");
    left
}

#[test]
fn what_a_later_release_stored_is_left_to_a_later_worker() {
    let left = met_by_this_release(true);
    let _worker = left.state.start_worker(&[]);
    for job in ["resumable", "queued"] {
        let view = left.state.until_status(&left.id(job), "scheduled");
        assert_eq!(view["cause"], Value::Null, "{view}");
    }
}

#[test]
fn what_a_later_release_stored_fails_where_no_worker_can_read_it() {
    let left = met_by_this_release(false);
    let _worker = left.state.worker(&[]);
    for (job, what) in [("resumable", "a turn entry"), ("queued", "the request")] {
        let view = left.state.until_status(&left.id(job), "failed");
        let error = view["error"].as_str().unwrap();
        assert_eq!(view["cause"], "rejected", "{view}");
        assert!(error.contains(&format!("{what} has version 99")), "{error}");
    }
}

/// The worker of the job that waits may be of an earlier release, which finds a result in its own place only.
#[test]
fn the_result_of_a_job_that_another_dispatched_is_stored_apart_from_its_output() {
    let (redis, mut state) = StateFolder::with_redis();
    let nested = json!([
        calls("run_background_agent", &json!({"agent": "quick", "task": "hello"})),
        {"text": "sent"},
        {"text": "{{last_user}}"},
    ]);
    let team = Team::write(&mut state, &json!({"quick": [{"text": "fine"}], "nested": nested}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "nested", "go"]);
    let alone = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&id, "completed");
    assert_eq!(state.until_status(&alone, "completed")["result"], "fine");
    let jobs = state.legwork(["list", "--json"]).json_lines();
    let child = jobs.iter().find(|job| job["parent"] == id.as_str()).unwrap();
    let uuid = |id: &str| id.trim_start_matches("agent_task_").to_owned();
    let is_apart = |id: &str| !redis.keys(&format!("*:result:{}", uuid(id))).is_empty();
    assert!(is_apart(child["id"].as_str().unwrap()));
    assert!(!is_apart(&alone), "the output of a job of a root holds its result");
}
