//! Somebody dies: a worker, Redis, or a worker only seems to.

use std::time::Duration;
use std::time::Instant;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::json;

use crate::teams::Team;
use crate::teams::calls;

/// Two turns of words, the second long enough to be interrupted.
fn slow() -> serde_json::Value {
    json!({"shell": [
        calls("shell", &json!({"cmd": "echo first"})),
        {"text": "one two three four five six seven eight nine ten", "chunk_delay_ms": 300},
    ]})
}

#[test]
fn a_killed_workers_job_completes_elsewhere_within_lease_and_two_seconds() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &slow());
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "three");
    let _second = state.worker(&[]);
    first.kill();
    let killed = Instant::now();
    until("another attempt runs", || state.view(&id)["attempt"] == 2);
    // The lease is two seconds here.
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    let view = state.until_status(&id, "completed");
    let output = view["output"].as_str().unwrap();
    assert!(output.contains("[attempt 2 resumes from turn 2]"), "{output}");
    // The finished turn was not paid for again.
    assert_eq!(output.matches("I call shell").count(), 1, "{output}");
    assert_eq!(view["usage"]["turns"], 2);
}

#[test]
fn a_wait_keeps_its_first_deadline_over_a_crash() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let words = "word ".repeat(60);
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "quick", "task": "talk"})),
            calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"], "timeout": 9})),
            {"text": "I waited."},
        ],
        "quick": [{"text": words, "chunk_delay_ms": 1000}],
    });
    let team = Team::in_house(&mut state, &script);
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "nested", "go"]);
    state.until_output(&id, "I call wait");
    let began = Instant::now();
    until("the parent waits", || state.view(&id)["status"] == "waiting");
    let _second = state.worker(&[]);
    first.kill();
    until("another attempt waits", || {
        let view = state.view(&id);
        view["attempt"] == 2 && view["status"] == "waiting"
    });
    let again = began.elapsed();
    state.until_output(&id, "I waited.");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(8500), "{took:?}");
    assert!(took < Duration::from_secs(9) + again / 2, "{took:?}, waited again after {again:?}");
}

#[test]
fn a_worker_that_slept_too_long_changes_nothing() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &slow());
    let zombie = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "three");
    zombie.signal(Signal::STOP);
    let _second = state.worker(&[]);
    until("another attempt runs", || state.view(&id)["attempt"] == 2);
    zombie.signal(Signal::CONT);
    let view = state.until_status(&id, "completed");
    assert_eq!(view["attempt"], 2);
    let output = view["output"].as_str().unwrap();
    let (before, after) = output.split_once("[attempt 2 resumes from turn 2]").unwrap();
    assert!(before.trim_end().len() < output.len() - after.len());
    assert!(after.trim().ends_with("nine ten") && after.matches("one two").count() == 1, "{output}");
}

#[test]
fn redis_killed_under_load_loses_nothing() {
    let mut redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let text = "alpha beta gamma delta epsilon zeta eta theta iota kappa";
    let team = Team::in_house(&mut state, &json!({"quick": [{"text": text, "chunk_delay_ms": 150}]}));
    let _workers = [state.worker(&[]), state.worker(&[])];
    let lines: Vec<String> =
        (0..30).map(|n| json!({"agent": "quick", "task": format!("{n}")}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let ids: Vec<String> =
        state.dispatch(&[&team.file, "--batch", &batch, "--cap", "10"]).lines().map(str::to_owned).collect();
    state.until_output(&ids[0], "gamma");
    redis.crash_and_restart();
    for id in &ids {
        let view = state.until_status(id, "completed");
        let output = view["output"].as_str().unwrap();
        assert!(output.ends_with(text), "{output}");
        assert_eq!(view["attempt"], 1, "{view}");
    }
}

#[test]
fn a_run_is_told_once_although_its_worker_was_killed() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let mut script = slow();
    script["root"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "count"})),
        {"text": "I rest."},
        {"text": "I was told: {{last_user}}"},
        {"text": "I was told again: {{last_user}}"},
    ]);
    let team = Team::in_house(&mut state, &script);
    let mut first = state.worker(&[]);
    let run = state.start_legwork(["run", &team.file, "go"]);
    let mut id = String::new();
    until("the job is there", || {
        let jobs = state.legwork(["list", "--json"]).objects();
        jobs.first().is_some_and(|job| {
            id = job["id"].as_str().unwrap_or_default().to_owned();
            true
        })
    });
    state.until_output(&id, "three");
    let _second = state.worker(&[]);
    first.kill();
    let said = run.end();
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(said.out.matches("Background agent tasks finished").count(), 1, "{}", said.out);
    assert!(said.out.contains("Status:  completed"), "{}", said.out);
}

#[test]
fn jobs_of_a_dead_fleet_are_shown_as_what_they_are() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &slow());
    let mut only = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "three");
    assert_eq!(state.view(&id)["silent_ms"], json!(null));
    only.kill();
    // Nobody is there to take it back.
    until("its lease is over", || state.view(&id)["silent_ms"].as_u64().is_some_and(|silent| silent > 2000));
    let listed = state.legwork(["list"]);
    assert!(listed.out.contains("running (silent "), "{listed:?}");
    assert!(listed.err.contains("no sign of the workers"), "{listed:?}");
    let view = state.legwork(["view", &id]).good();
    assert!(view.contains("no sign of its worker; it goes on once one serves queue default"), "{view}");
    let _second = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["attempt"], &view["silent_ms"]), (&json!(2), &json!(null)));
}

#[test]
fn a_parent_that_had_only_to_wait_is_set_apart_from_what_it_says_later() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "sleep"})),
            {"text": "I wait."},
            {"text": "Told."},
        ],
        "shell": [calls("shell", &json!({"cmd": "sleep 60.75", "timeout": 100})), {"text": "went"}],
    });
    let team = Team::in_house(&mut state, &script);
    let mut worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "nested", "go"]);
    state.until_output(&id, "I wait.");
    until("the child's command runs", || !processes("sleep 60.75").is_empty());
    worker.kill();
    let _other = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    let output = view["output"].as_str().unwrap();
    assert!(output.ends_with("I wait.\n[attempt 2 resumes from turn 3]\nTold."), "{output}");
}
