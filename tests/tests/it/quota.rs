//! A session has a quota of unfinished jobs: what is beyond it is refused, and everyone is told what is full.

use std::time::Duration;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until_within;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::team::Team;

/// What one turn asks for: twice the default quota.
const CHILDREN: usize = 20_000;
/// A guard against a hang: a debug build takes twelve seconds on an idle machine, and took more than 300 at a load of 20.
const LIMIT: Duration = Duration::from_secs(900);

#[test]
fn a_session_takes_ten_thousand_of_twenty_thousand_jobs_of_one_turn() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    // With the lease of two seconds that tests have, a busy machine would suspend the attempt again and again.
    state.set(variables::LEASE, "20s");
    let call = json!({"name": "run_background_agent", "arguments": {"agent": "quick", "task": "x"}});
    let flood = json!({"text": "All at once.", "tool_calls": vec![call; CHILDREN]});
    let told = json!({"text": "Told."});
    let team = Team::write(&mut state, &json!({"nested": [flood, told], "quick": [{"text": "done"}]}));
    // No worker runs the children, so all stay unfinished.
    let policy = state.file("policy.yaml", "agents: {quick: {queue: elsewhere}}\n");
    let _worker = state.worker(&["--policy", &policy]);
    let id = state.dispatch(&[&team.file, "nested", "flood"]);
    state.until_status(&id, "running");
    // Without a program for each look at it: they would take the time that the turn needs.
    let record = format!("HGET {{legwork:default:0}}:job:{} state", id.trim_start_matches("agent_task_"));
    until_within(LIMIT, "the turn is over and the job waits for its jobs", || {
        redis.text(&record) == "waiting"
    });
    let view = state.view(&id);
    // The parent is one of the ten thousand.
    let turns = format!("LRANGE {{legwork:default:{}}}:turns 0 -1", id.trim_start_matches("agent_task_"));
    let turns = redis.array(&turns).concat();
    let full = "the session is full: 10000 of its jobs have not ended, and it may have 10000";
    let started = "Background agent task started with ID";
    assert_eq!((turns.matches(full).count(), turns.matches(started).count()), (10_001, 9_999));
    let session = view["session"].as_str().unwrap().to_owned();
    let stats = state.legwork(["stats", "--json"]).json_lines().remove(0);
    assert_eq!(stats["live"]["total"], 10_000, "{stats}");
    state.legwork(["stop", "--session", &session, "--yes"]).expect_success();
    state.until_status(&id, "stopped");
    let after = state.legwork(["dispatch", &team.file, "quick", "again", "--session", &session]);
    assert_eq!(after.status, 0, "{after:?}");
}

#[test]
fn a_dispatch_into_a_full_session_says_what_is_full_and_what_to_do() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({}));
    let id = state.dispatch(&[&team.file, "quick", "first", "--session-jobs", "2"]);
    let session = state.view(&id)["session"].as_str().unwrap().to_owned();
    let line = json!({"agent": "quick", "task": "more"}).to_string();
    let batch = state.file("b.jsonl", [line.as_str(), line.as_str()].join("\n"));
    let beyond = ["dispatch", &team.file, "--session", &session, "--batch", &batch];
    let refused = state.legwork(beyond);
    let error = "error: the session is full: 1 of its jobs have not ended, and it may have 2; no job was started\n\
                 hint: wait until some have ended, or dispatch into a new session; --session-jobs sets its quota\n";
    assert!(refused.stderr.ends_with(error), "{refused:?}");
    assert_eq!((refused.status, refused.stdout.as_str()), (7, ""));
    let one = ["dispatch", &team.file, "quick", "second", "--session", &session];
    state.legwork(one).expect_success();
    let object = state.legwork(one.iter().chain(&["--json"]));
    assert_eq!(object.status, 7, "{object:?}");
    assert!(object.stdout.contains("session_full") || object.stderr.contains("session_full"), "{object:?}");
    // A job that ends makes room. So does no retry: it would be one more.
    state.legwork(["stop", &id]).expect_success();
    state.legwork(one).expect_success();
    let retried = state.legwork(["retry", &id]);
    assert_eq!(retried.status, 7, "{retried:?}");
    assert!(retried.stderr.contains("the session is full: 2 of its jobs"), "{retried:?}");
}

#[test]
fn the_quota_of_a_namespace_is_that_of_new_sessions() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({}));
    state.legwork(["configure", "--session-jobs", "1"]).expect_success();
    let line = json!({"agent": "quick", "task": "x"}).to_string();
    let batch = state.file("b.jsonl", [line.as_str(), line.as_str()].join("\n"));
    let two = ["dispatch", &team.file, "--batch", &batch];
    assert_eq!(state.legwork(two).status, 7);
    state.legwork(two.iter().chain(&["--session-jobs", "0"])).expect_success();
}
