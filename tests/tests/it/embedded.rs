//! The embedded server: one machine, no setup.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::is_alive;
use legwork_tests::programs::kill;
use legwork_tests::programs::process_ids;
use legwork_tests::programs::processes;
use legwork_tests::programs::repository;
use legwork_tests::programs::until;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

#[test]
fn the_example_runs_its_tools_on_the_files_of_the_folder() {
    let state = StateFolder::embedded();
    let example = repository().join("examples");
    let source = state.path("crates");
    std::fs::create_dir_all(source.join("alpha")).unwrap();
    std::fs::create_dir_all(state.path("tests")).unwrap();
    std::fs::write(source.join("alpha/one.rs"), "fn one() {}\nfn two() {}\n").unwrap();
    let file = example.join("background_agents.yaml").display().to_string();
    let script = example.join("background_agents.script.json").display().to_string();
    let output = state.legwork(["run", &file, "--script", &script, "Look around"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("1 Rust files, 2 lines"), "{}", output.stdout);
    assert!(output.stdout.contains("DIR  alpha"), "{}", output.stdout);
    let jobs = state.legwork(["list", "--json"]).json_lines();
    assert_eq!(jobs.iter().map(|job| &job["status"]).collect::<Vec<_>>(), ["completed", "completed"]);
}

#[test]
fn a_second_legwork_lists_and_stops_jobs_of_the_first() {
    let mut state = StateFolder::embedded();
    let script = json!({
        "root": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "sleep"})),
            {"text": "Turn finished."},
            {"text": "notified: {{last_user}}"},
        ],
        "shell": [calls("shell", &json!({"cmd": "sleep 60", "timeout": 100})), {"text": "never"}],
    });
    let team = Team::write(&mut state, &script);
    let run = state.start_legwork(["run", &team.file, "go"]);
    let mut id = String::new();
    until("the job is listed", || {
        let jobs = state.legwork(["list", "--status", "running", "--json"]).json_lines();
        jobs.first().is_some_and(|job| {
            id = job["id"].as_str().unwrap_or_default().to_owned();
            true
        })
    });
    state.until_output(&id, "I call shell");
    state.legwork(["stop", &id[11..19]]).expect_success();
    let output = run.wait_with_output();
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("Status:  stopped"), "{}", output.stdout);
}

#[test]
fn a_dispatched_job_continues_without_its_dispatcher() {
    let mut state = StateFolder::embedded();
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": "pwd; echo $LC_WORD"})),
        {"text": "{{result:shell}}"},
    ]});
    // One of the variables that commands get without asking.
    state.set("LC_WORD", "from here");
    let team = Team::write(&mut state, &script);
    let id = state.dispatch(&[&team.file, "shell", "where"]);
    let waited = state.legwork(["wait", &id, "--timeout", "30s"]);
    assert_eq!(waited.expect_success(), format!("{id} completed\n"));
    let result = state.view(&id)["result"].clone();
    let folder = state.path("").canonicalize().unwrap();
    assert!(result.as_str().unwrap().contains(&folder.display().to_string()), "{result}");
    assert!(result.as_str().unwrap().contains("from here"), "{result}");
    until("the server has stopped", || {
        state.legwork(["local", "status"]).stdout.contains("State    stopped")
    });
}

#[test]
fn a_job_of_a_detached_run_continues_after_the_run() {
    let mut state = StateFolder::embedded();
    let script = json!({
        "root": [calls("run_background_agent", &json!({"agent": "shell", "task": "t"})), {"text": "I leave."}],
        "shell": [
            {"text": "one two three four five six seven eight", "chunk_delay_ms": 100, "tool_calls": [{"name": "shell", "arguments": {"cmd": "echo ok"}}]},
            {"text": "finished"},
        ],
    });
    let team = Team::write(&mut state, &script);
    let output = state.legwork(["run", &team.file, "--detach", "go"]);
    assert_eq!(output.status, 0, "{output:?}");
    let id = state.legwork(["list", "--json"]).json_lines()[0]["id"].as_str().unwrap().to_owned();
    let view = state.until_status(&id, "completed");
    assert!(view["output"].as_str().unwrap().ends_with("finished"), "{view}");
}

#[test]
fn ctrl_c_stops_the_tree_and_exits_130() {
    let mut state = StateFolder::embedded();
    let script = json!({
        "root": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "t"})),
            calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
            {"text": "never"},
        ],
        "shell": [calls("shell", &json!({"cmd": "sleep 60", "timeout": 100})), {"text": "never"}],
    });
    let team = Team::write(&mut state, &script);
    let run = state.start_legwork(["run", &team.file, "go"]);
    until("the job runs", || !state.legwork(["list", "--status", "running", "--json"]).stdout.is_empty());
    run.signal(rustix::process::Signal::INT);
    assert_eq!(run.wait_with_output().status, 130);
    let jobs = state.legwork(["list", "--json"]).json_lines();
    assert_eq!(jobs[0]["status"], "stopped", "{jobs:?}");
}

#[test]
fn a_background_worker_exits_after_its_server_stops() {
    let mut state = StateFolder::embedded();
    let script =
        json!({"shell": [calls("shell", &json!({"cmd": "sleep 601.5", "timeout": 900})), {"text": "never"}]});
    let team = Team::write(&mut state, &script);
    let id = state.dispatch(&[&team.file, "shell", "sleep"]);
    state.until_output(&id, "I call shell");
    let folder = state.path("state").display().to_string();
    let workers = || processes("legwork-worker").into_iter().filter(|line| line.contains(&folder)).count();
    // A command that is just being started has its command line for a moment.
    until("there is one worker", || workers() == 1);
    state.legwork(["local", "stop"]).expect_success();
    until("the worker has exited", || workers() == 0);
    assert_eq!(processes("sleep 601.5"), Vec::<String>::new());
}

#[test]
fn dispatch_starts_a_worker_at_once_after_the_sessions_worker_was_killed() {
    let mut state = StateFolder::embedded();
    state.set(variables::LEASE, "2s");
    let script = json!({
        "shell": [calls("shell", &json!({"cmd": "sleep 0.5"})), {"text": "finished"}],
        "quick": [{"text": "one two three", "chunk_delay_ms": 60_000}],
    });
    let team = Team::write(&mut state, &script);
    let first = state.dispatch(&[&team.file, "quick", "long"]);
    let session = state.until_status(&first, "running")["session"].as_str().unwrap().to_owned();
    // It uses the server, so that the commands below do not end the session as an abandoned one.
    let mut reader = state.start_legwork(["view", &first, "--follow"]);
    reader.until_printed("one");
    let workers = process_ids(&["legwork-worker", &session]);
    assert_eq!(workers.len(), 1);
    kill(workers[0]);
    until("the worker is dead", || !is_alive(workers[0]));
    let second = state.dispatch(&[&team.file, "--session", &session, "shell", "short"]);
    state.until_status(&second, "completed");
    state.legwork(["stop", &first]).expect_success();
    reader.wait();
}

/// An agent whose command waits for the file `go`, and then completes.
fn waiting_team(state: &mut StateFolder) -> Team {
    let go = state.path("go").display().to_string();
    let wait = format!("until [ -e {go} ]; do sleep 0.1; done");
    Team::write(
        state,
        &json!({"shell": [calls("shell", &json!({"cmd": wait, "timeout": 900})), {"text": "finished"}]}),
    )
}

#[test]
fn a_job_whose_only_worker_was_killed_continues_while_it_is_followed() {
    let mut state = StateFolder::embedded();
    state.set(variables::LEASE, "2s");
    let team = waiting_team(&mut state);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "I call shell");
    let session = state.view(&id)["session"].as_str().unwrap().to_owned();
    let mut reader = state.start_legwork(["view", &id, "--follow"]);
    reader.until_printed("I call shell");
    kill(process_ids(&["legwork-worker", &session])[0]);
    state.file("go", "");
    reader.until_printed("finished");
    assert_eq!(reader.wait(), 0);
    assert_eq!(state.view(&id)["attempt"], 2);
}

#[test]
fn a_background_worker_logs_at_the_level_of_its_dispatch() {
    for (level, is_logged) in [("error", false), ("info", true)] {
        let mut state = StateFolder::embedded();
        let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
        let id = state.dispatch(&[&team.file, "quick", "go", "--log", level]);
        state.until_status(&id, "completed");
        let log = std::fs::read_to_string(state.path("state/workers.log")).unwrap();
        assert_eq!(log.contains("worker serves"), is_logged, "{log}");
    }
}

#[test]
fn the_next_command_replaces_a_worker_as_it_was_started() {
    let mut state = StateFolder::embedded();
    let team = waiting_team(&mut state);
    let script = state.path("script.json").display().to_string();
    state.set(variables::SCRIPT, "");
    let id = state.dispatch(&[&team.file, "shell", "go", "--script", &script]);
    state.until_output(&id, "I call shell");
    let session = state.view(&id)["session"].as_str().unwrap().to_owned();
    kill(process_ids(&["legwork-worker", &session])[0]);
    state.file("go", "");
    // This command knows of no script, and has no key.
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["attempt"], &view["result"]), (&json!(2), &json!("finished")), "{view}");
}

#[test]
fn dispatch_prints_the_id_of_a_job_that_ends_at_once() {
    let mut state = StateFolder::embedded();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    for _ in 0..6 {
        assert!(state.dispatch(&[&team.file, "quick", "x"]).starts_with("agent_task_"));
    }
}

#[test]
fn view_follow_starts_at_the_requested_offset() {
    let mut state = StateFolder::embedded();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "one two"}]}));
    let id = state.dispatch(&[&team.file, "quick", "x"]);
    state.until_status(&id, "completed");
    assert_eq!(state.legwork(["view", &id, "--follow", "--since", "2"]).expect_success(), "e two");
    assert_eq!(state.legwork(["view", &id, "--follow", "--tail", "3"]).expect_success(), "two");
}

#[test]
fn a_failed_command_leaves_no_server_behind() {
    let mut state = StateFolder::embedded();
    let stopped =
        |state: &StateFolder| state.legwork(["local", "status"]).stdout.contains("State    stopped");
    assert_eq!(state.legwork(["wait", "abcd"]).status, 3);
    assert!(stopped(&state));
    let file = state.file("team.yaml", "agents: {root: {model: openai/gpt-4o}}");
    state.set("OPENAI_API_KEY", "");
    assert_eq!(state.legwork(["run", &file, "go"]).status, 2);
    assert!(stopped(&state));
}

#[test]
fn a_closed_pipe_ends_the_run_and_its_jobs() {
    let mut state = StateFolder::embedded();
    let words = "a line\n".repeat(300);
    let script = json!({
        "root": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "t"})),
            {"text": words, "chunk_delay_ms": 50},
            {"text": "never"},
        ],
        "shell": [calls("shell", &json!({"cmd": "sleep 60", "timeout": 100})), {"text": "never"}],
    });
    let team = Team::write(&mut state, &script);
    let mut run = state.start_legwork(["run", &team.file, "go"]);
    until("the job runs", || !state.legwork(["list", "--status", "running", "--json"]).stdout.is_empty());
    run.stop_reading();
    assert_eq!(run.wait(), 0);
    let jobs = state.legwork(["list", "--json"]).json_lines();
    assert_eq!((&jobs[0]["status"], &jobs[0]["cause"]), (&json!("stopped"), &json!("operator")));
}

#[test]
fn an_empty_idempotency_key_is_rejected() {
    let mut state = StateFolder::embedded();
    let team = Team::write(&mut state, &json!({}));
    let output = state.legwork(["dispatch", &team.file, "quick", "x", "--key", ""]);
    let error = output.stderr.lines().find(|line| !line.starts_with("warning: "));
    assert_eq!((output.status, error), (2, Some("error: the key must not be empty")));
    let line = json!({"agent": "quick", "task": "x", "key": ""}).to_string();
    let output = state.legwork_with_input(&line, ["dispatch", &team.file, "--batch", "-"]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(output.stderr.contains("line 1"), "{output:?}");
}

#[test]
fn stop_prints_whether_the_job_is_stopping_or_stopped() {
    let mut state = StateFolder::embedded();
    let script = json!({"shell": [calls("shell", &json!({"cmd": "sleep 60", "timeout": 100}))]});
    let team = Team::write(&mut state, &script);
    let id = state.dispatch(&[&team.file, "shell", "x"]);
    assert_eq!(state.legwork(["stop", &id, "--no-wait"]).expect_success(), format!("{id} stopping\n"));
    state.until_status(&id, "stopped");
    let id = state.dispatch(&[&team.file, "shell", "x"]);
    assert_eq!(state.legwork(["stop", &id]).expect_success(), format!("{id} stopped\n"));
    assert_eq!(state.view(&id)["status"], "stopped");
}
