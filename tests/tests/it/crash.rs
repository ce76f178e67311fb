//! Crashes: a worker is killed, Redis is killed, or a worker freezes for longer than its lease.

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Two turns. The reply of the second stops after its first word on workers that are started with it, so that they are
/// in the middle of it whenever they are killed; workers that are started later get a whole one.
fn interrupted() -> serde_json::Value {
    two_turns(3_600_000)
}

/// The same two turns, whole.
fn whole() -> serde_json::Value {
    two_turns(20)
}

fn two_turns(chunk_delay_ms: u32) -> serde_json::Value {
    json!({"shell": [
        calls("shell", &json!({"cmd": "echo first"})),
        {"text": "one two three four five six seven eight nine ten", "chunk_delay_ms": chunk_delay_ms},
    ]})
}

/// Now, by the clock of this machine, which its Redis uses too.
fn now() -> jiff::Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the times that Redis stores on this machine"
    )]
    let now = std::time::SystemTime::now();
    now.try_into().unwrap()
}

/// Seconds from one time to a later one; times of jobs are texts.
fn seconds(from: &str, to: &str) -> f64 {
    let [from, to]: [jiff::Timestamp; 2] = [from, to].map(|time| time.parse().unwrap());
    to.duration_since(from).as_secs_f64()
}

#[test]
fn a_killed_workers_job_restarts_within_its_lease_plus_two_seconds() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &interrupted());
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "one");
    Team::write(&mut state, &whole());
    let _second = state.worker(&[]);
    first.kill();
    let killed = now().to_string();
    let view = state.until_status(&id, "completed");
    assert_eq!(view["attempt"], 2, "{view}");
    // The lease of these tests is 2 s.
    let restarted = seconds(&killed, view["attempt_started_at"].as_str().unwrap());
    assert!(restarted < 4.0, "{restarted} s: {view}");
    let output = view["output"].as_str().unwrap();
    assert!(output.contains("[attempt 2 resumes from turn 2]"), "{output}");
    // The finished turn is not paid for again.
    assert_eq!(output.matches("I call shell").count(), 1, "{output}");
    assert_eq!(view["usage"]["turns"], 2);
}

#[test]
fn a_wait_keeps_its_deadline_across_a_crash() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "quick", "task": "talk"})),
            calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"], "timeout": 9})),
            calls("stop_background_agent", &json!({"task_id": "{{job:0}}"})),
            {"text": "I waited."},
        ],
        "quick": [{"text": "one two", "chunk_delay_ms": 3_600_000}],
    });
    let team = Team::write(&mut state, &script);
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "nested", "go"]);
    until("the parent waits", || state.view(&id)["status"] == "waiting");
    let _second = state.worker(&[]);
    first.kill();
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["attempt"], &view["result"]), (&json!(2), &json!("I waited.")), "{view}");
    let [began, resumed, ended] =
        ["started_at", "attempt_started_at", "finished_at"].map(|time| view[time].as_str().unwrap());
    assert!(seconds(began, ended) >= 9.0, "{view}");
    // The second attempt began a lease of 2 s after the first at least: had it waited anew, it would have lasted 9 s.
    assert!(seconds(resumed, ended) < 8.5, "{view}");
}

#[test]
fn a_worker_that_freezes_longer_than_its_lease_changes_nothing() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &interrupted());
    let zombie = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "one");
    Team::write(&mut state, &two_turns(300));
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
fn redis_killed_under_load_loses_no_output() {
    let mut redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let text = "alpha beta gamma delta epsilon zeta eta theta iota kappa";
    let team = Team::write(&mut state, &json!({"quick": [{"text": text, "chunk_delay_ms": 150}]}));
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
fn a_run_is_notified_once_although_the_worker_was_killed() {
    let (_redis, mut state) = StateFolder::with_redis();
    let mut script = interrupted();
    script["root"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "count"})),
        {"text": "Turn finished."},
        {"text": "I was notified: {{last_user}}"},
        {"text": "I was notified again: {{last_user}}"},
    ]);
    let team = Team::write(&mut state, &script);
    let mut first = state.worker(&[]);
    let run = state.start_legwork(["run", &team.file, "go"]);
    let mut id = String::new();
    until("the job is listed", || {
        let jobs = state.legwork(["list", "--json"]).json_lines();
        jobs.first().is_some_and(|job| {
            id = job["id"].as_str().unwrap_or_default().to_owned();
            true
        })
    });
    state.until_output(&id, "one");
    Team::write(&mut state, &whole());
    let _second = state.worker(&[]);
    first.kill();
    let output = run.wait_with_output();
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(output.stdout.matches("Background agent tasks finished").count(), 1, "{}", output.stdout);
    assert!(output.stdout.contains("Status:  completed"), "{}", output.stdout);
}

#[test]
fn jobs_of_a_dead_fleet_are_shown_as_silent() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &interrupted());
    let mut only = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "one");
    assert_eq!(state.view(&id)["silent_ms"], json!(null));
    only.kill();
    // No worker is left to reclaim the job.
    until("its lease has expired", || {
        state.view(&id)["silent_ms"].as_u64().is_some_and(|silent| silent > 2000)
    });
    let listed = state.legwork(["list"]);
    assert!(listed.stdout.contains("running (stale "), "{listed:?}");
    assert!(listed.stderr.contains("stale: the lease has expired"), "{listed:?}");
    let view = state.legwork(["view", &id]).expect_success();
    assert!(view.contains("resumes once a worker serves queue default"), "{view}");
    Team::write(&mut state, &whole());
    let _second = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["attempt"], &view["silent_ms"]), (&json!(2), &json!(null)));
}

#[test]
fn a_parent_that_only_waits_resumes_at_its_next_turn() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "sleep"})),
            {"text": "I wait."},
            {"text": "Told."},
        ],
        "shell": [calls("shell", &json!({"cmd": "sleep 60.75", "timeout": 100})), {"text": "went"}],
    });
    let team = Team::write(&mut state, &script);
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
