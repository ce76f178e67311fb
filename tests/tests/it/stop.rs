//! A stop ends the whole tree of jobs and its processes; drains and deadlines end attempts.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use rustix::process::Signal;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

#[test]
fn a_stop_kills_the_shell_commands_of_the_whole_tree() {
    let (_redis, mut state) = StateFolder::with_redis();
    let command = "sleep 61.25 & sleep 61.25";
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "sleep"})),
            calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
            {"text": "never"},
        ],
        "shell": [calls("shell", &json!({"cmd": command, "timeout": 100})), {"text": "never"}],
    });
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "nested", "go"]);
    until("the command runs", || processes("sleep 61.25").len() >= 2);

    let child = state.legwork(["list", "--agent", "shell", "--json"]).json_lines().remove(0);
    let child = child["id"].as_str().unwrap();
    let output = state.legwork(["stop", &id]);
    // It lists the jobs below that were stopped too.
    assert_eq!(output.expect_success(), format!("{id} stopped\n  {child} shell stopped\n"));
    assert_eq!(processes("sleep 61.25"), Vec::<String>::new());
    let jobs = state.legwork(["list", "--json"]).json_lines();
    assert_eq!(jobs.len(), 2);
    for job in &jobs {
        assert_eq!((&job["status"], &job["cause"]), (&json!("stopped"), &json!("operator")), "{job}");
    }
    // Stopping a job that has ended reports how it ended.
    let again = state.legwork(["stop", &id]);
    assert_eq!(again.expect_success(), format!("{id} had ended before: stopped\n"));
}

#[test]
fn a_drained_worker_hands_its_jobs_to_another() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": "sleep 64.25; echo slept", "timeout": 100})),
        {"text": "it said {{result:shell}}"},
    ]});
    let team = Team::write(&mut state, &script);
    let mut first = state.worker(&["--drain-timeout", "0s"]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    until("the command runs", || !processes("sleep 64.25").is_empty());
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), 0);
    assert_eq!(state.view(&id)["status"], "queued");

    let _second = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    assert_eq!(view["attempt"], 2);
    let output = view["output"].as_str().unwrap();
    assert!(output.contains("[attempt 2 resumes from turn 1]"), "{output}");
    // The interrupted command is not repeated.
    assert!(output.contains("interrupted"), "{output}");
}

#[test]
fn a_drain_hands_a_job_back_at_the_end_of_its_turn() {
    let (_redis, mut state) = StateFolder::with_redis();
    let (marks, go) = (state.path("marks"), state.path("go"));
    let command =
        format!("echo run >> {}; while ! test -e {}; do sleep 0.1; done", marks.display(), go.display());
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": command, "timeout": 100})),
        {"text": "it ran"},
    ]});
    let team = Team::write(&mut state, &script);
    // The drain timeout is longer than this test: the worker exits because the turn ends.
    let mut first = state.worker(&["--drain-timeout", "300s"]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    until("the command runs", || marks.exists());
    first.signal(Signal::TERM);
    until("the worker drains", || {
        state.legwork(["workers", "--json"]).json_lines()[0]["state"] == "draining"
    });
    state.file("go", "");
    assert_eq!(first.wait(), 0);
    let view = state.view(&id);
    assert_eq!((&view["status"], &view["attempt"]), (&json!("queued"), &json!(1)), "{view}");

    let _second = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    let output = view["output"].as_str().unwrap();
    assert_eq!(output, "I call shell.\n[attempt 2 resumes from turn 2]\nit ran");
    assert_eq!(fs::read_to_string(&marks).unwrap(), "run\n");
    // The finished turn is not paid for again.
    assert_eq!(view["usage"]["turns"], 2);
}

#[test]
fn a_job_fails_at_its_deadline_and_keeps_its_output() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script =
        json!({"shell": [calls("shell", &json!({"cmd": "sleep 62.75", "timeout": 100})), {"text": "never"}]});
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go", "--timeout", "1s", "--retries", "3"]);
    let view = state.until_status(&id, "failed");
    assert_eq!((&view["cause"], &view["attempt"]), (&json!("deadline"), &json!(1)), "{view}");
    assert_eq!(view["error"], "the timeout of 1 s passed");
    assert!(view["output"].as_str().unwrap().starts_with("I call shell."), "{view}");
    assert_eq!(processes("sleep 62.75"), Vec::<String>::new());
}

#[test]
fn a_worker_without_pubsub_stops_a_job_within_a_heartbeat() {
    let (redis, mut state) = StateFolder::with_redis();
    let script =
        json!({"shell": [calls("shell", &json!({"cmd": "sleep 62.5", "timeout": 100})), {"text": "never"}]});
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&["--redis", &redis.url_without_pubsub()]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    until("the command runs", || !processes("sleep 62.5").is_empty());
    let requested = Instant::now();
    state.legwork(["stop", &id]).expect_success();
    // With leases of 2 s the heartbeat interval is 0.6 s; the rest is for a busy machine. The command lasts a minute.
    assert!(requested.elapsed() < Duration::from_secs(10), "{:?}", requested.elapsed());
    assert_eq!(processes("sleep 62.5"), Vec::<String>::new());
}

/// What happens to the worker of a job before the job is stopped.
#[derive(Debug, Clone, Copy)]
enum WorkerFault {
    None,
    Killed,
    Frozen,
}

#[test]
fn no_model_is_called_after_a_stop_even_if_the_worker_is_killed_or_frozen() {
    for fault in [WorkerFault::None, WorkerFault::Killed, WorkerFault::Frozen] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let fake = runtime.block_on(FakeProvider::choosing(|_| Answer::Hang("half")));
        let (_redis, mut state) = StateFolder::with_redis();
        state.set("OPENAI_API_KEY", "sk-secret");
        state.set("OPENAI_BASE_URL", &fake.url);
        let file = state.file("team.yaml", "agents: {root: {model: openai/test, instruction: i}}");
        let mut worker = state.worker(&[]);
        let id = state.dispatch(&[&file, "root", "go"]);
        state.until_output(&id, "half");
        match fault {
            WorkerFault::None => {}
            WorkerFault::Killed => worker.kill(),
            WorkerFault::Frozen => worker.signal(Signal::STOP),
        }
        // A second worker could claim the job.
        let _other = state.worker(&[]);
        assert_eq!(state.legwork(["stop", &id]).expect_success(), format!("{id} stopped\n"), "{fault:?}");
        let requests = fake.asked().len();
        if !matches!(fault, WorkerFault::Killed) {
            worker.signal(Signal::CONT);
            worker.signal(Signal::TERM);
            assert_eq!(worker.wait(), 0);
        }
        let view = state.view(&id);
        assert_eq!((&view["status"], &view["cause"]), (&json!("stopped"), &json!("operator")), "{view}");
        assert!(view["output"].as_str().unwrap().starts_with("half"), "{view}");
        assert_eq!(fake.asked().len(), requests, "{fault:?}");
    }
}

#[test]
fn a_job_that_an_idle_frozen_worker_was_given_and_lost_calls_no_model_when_it_wakes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(|_| Answer::text(&["done"])));
    let (redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_API_KEY", "sk-secret");
    state.set("OPENAI_BASE_URL", &fake.url);
    let file = state.file("team.yaml", "agents: {root: {model: openai/test, instruction: i}}");
    // No hint of the stop comes in time to save it.
    let worker = state.worker(&["--redis", &redis.url_without_pubsub()]);
    let before = state.dispatch(&[&file, "root", "before"]);
    state.until_status(&before, "completed");
    until("the worker waits", || redis.info("clients", "blocked_clients") > 0);
    worker.signal(Signal::STOP);
    let lost = state.dispatch(&[&file, "root", "lost"]);
    // The server makes the claim that was sent with the wait.
    state.until_status(&lost, "running");
    assert_eq!(state.legwork(["stop", &lost]).expect_success(), format!("{lost} stopped\n"));
    worker.signal(Signal::CONT);
    let after = state.dispatch(&[&file, "root", "after"]);
    state.until_status(&after, "completed");
    let asked: Vec<String> = fake.asked().iter().map(|asked| asked.body.to_string()).collect();
    assert!(asked.len() == 2 && asked.iter().all(|body| !body.contains("lost")), "{asked:?}");
}

/// An agent whose first call searches files.
const SEARCHES: &str = "
agents:
  root:
    model: scripted/any
    instruction: Search.
    toolsets: [{type: filesystem}]
";

#[test]
fn a_search_that_does_not_end_delays_neither_a_stop_nor_a_drain() {
    let (_redis, mut state) = StateFolder::with_redis();
    // One file under many names: a search of all of them takes far longer than this test may.
    let folder = state.path("many");
    fs::create_dir(&folder).unwrap();
    let first = folder.join("0");
    fs::write(&first, ("x".repeat(99) + "\n").repeat(160_000)).unwrap();
    for number in 1..4000 {
        fs::hard_link(&first, folder.join(number.to_string())).unwrap();
    }
    let search = calls("search_files_content", &json!({"path": folder, "query": "needle"}));
    let script = json!({"agents": {"root": [search, {"text": "never"}]}}).to_string();
    let script = state.file("script.json", script);
    state.set(variables::SCRIPT, &script);
    let team = state.file("team.yaml", SEARCHES);
    let mut worker = state.worker(&["--drain-timeout", "0s"]);
    let stopped = state.dispatch(&[&team, "root", "one"]);
    let drained = state.dispatch(&[&team, "root", "two"]);
    for id in [&stopped, &drained] {
        state.until_output(id, "I call search_files_content.");
    }
    let began = Instant::now();
    state.legwork(["stop", &stopped]).expect_success();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(state.view(&drained)["status"], "queued");
}
