//! Retries of jobs, by command and automatic, and messages to running jobs.

use std::fs;

use legwork_tests::programs::StateFolder;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// One turn with a visible side effect and no reply after it: the job fails.
fn failing() -> serde_json::Value {
    json!({"shell": [calls("shell", &json!({"cmd": "echo x >> ../../mark"}))]})
}

/// The same turn, and a last reply: the job completes.
fn completing() -> serde_json::Value {
    let mut script = failing();
    script["shell"].as_array_mut().unwrap().push(json!({"text": "done"}));
    script
}

#[test]
fn a_retry_resumes_from_the_last_turn() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &failing());
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let failed = state.until_status(&id, "failed");
    first.kill();
    Team::write(&mut state, &completing());
    let _worker = state.worker(&[]);

    let again = state.legwork(["retry", &id]).expect_success().trim().to_owned();
    assert_ne!(again, id);
    let view = state.until_status(&again, "completed");
    assert_eq!((&view["retry_of"], &view["result"]), (&json!(id), &json!("done")));
    assert_eq!((&view["session"], &view["usage"]["turns"]), (&failed["session"], &json!(1)));
    let output = view["output"].as_str().unwrap();
    assert!(output.starts_with(&format!("[resumes from turn 2 of {id}]\n")), "{output}");
    // The recorded turn is not repeated.
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\n");
    // The failed job keeps its status.
    assert_eq!(state.view(&id)["status"], "failed");

    // A job is retried once, unless that is insisted on.
    let refused = state.legwork(["retry", &id]);
    assert_eq!(refused.status, 7, "{refused:?}");
    assert_eq!(
        refused.stderr,
        format!(
            "error: task {id} was already retried as {again}; nothing was retried\n\
             hint: `legwork retry --again {id}` retries it once more\n"
        )
    );
    let none = state.legwork(["retry", "--failed", "--yes"]);
    assert_eq!((none.status, none.stdout.as_str()), (0, ""), "{none:?}");
    assert!(state.legwork(["list", "--failed", "--json"]).json_lines().is_empty());
    assert_eq!(state.legwork(["list", "--status", "failed", "--json"]).json_lines().len(), 1);
    let fresh = state.legwork(["retry", "--fresh", "--again", "--json", &id]).json_lines().remove(0);
    let fresh = fresh["id"].as_str().unwrap();
    let view = state.until_status(fresh, "completed");
    assert_eq!(view["usage"]["turns"], 2);
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\nx\n");
}

#[test]
fn a_retry_of_a_closed_session_gets_a_new_one() {
    let mut state = StateFolder::embedded();
    let mut script = failing();
    script["root"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "mark"})),
        calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
        {"text": "it failed"},
    ]);
    script["shell"][0]["tool_calls"][0]["arguments"]["cmd"] = json!("echo x >> mark");
    let team = Team::write(&mut state, &script);
    state.legwork(["run", &team.file, "go"]).expect_success();
    let failed = state.legwork(["list", "--json"]).json_lines().remove(0);
    assert_eq!(failed["status"], "failed", "{failed}");
    script["shell"].as_array_mut().unwrap().push(json!({"text": "done"}));
    Team::write(&mut state, &script);
    let again = state.legwork(["retry", failed["id"].as_str().unwrap()]).expect_success().trim().to_owned();
    let view = state.until_status(&again, "completed");
    assert_ne!(view["session"], failed["session"]);
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\n");
}

#[test]
fn only_failed_and_stopped_jobs_can_be_retried() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "fine"}]}));
    let queued = state.dispatch(&[&team.file, "quick", "go"]);
    let output = state.legwork(["retry", &queued]);
    assert_eq!(output.status, 2, "{output:?}");
    assert_eq!(
        output.stderr,
        format!(
            "error: task {queued} has not ended (status: queued); nothing was retried\n\
             hint: `legwork stop {queued}` ends it, `legwork wait {queued}` waits for its end\n"
        )
    );
    let _worker = state.worker(&[]);
    state.until_status(&queued, "completed");
    let output = state.legwork(["retry", &queued]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(
        output.stderr.starts_with(&format!("error: task {queued} has completed; nothing was retried\n")),
        "{output:?}"
    );
    assert_eq!(state.legwork(["list", "--json"]).json_lines().len(), 1);
}

#[test]
fn a_job_is_retried_as_often_as_requested_and_keeps_its_last_error() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &failing());
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go", "--retries", "2", "--retry-delay", "50ms"]);
    let view = state.until_status(&id, "failed");
    assert_eq!((&view["attempt"], &view["cause"]), (&json!(3), &json!("provider_error")));
    assert!(view["error"].as_str().unwrap().contains("needs one more"), "{view}");
    // The finished turn is neither paid for nor run again.
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\n");
}

#[test]
fn a_message_is_delivered_before_the_next_model_call_even_after_a_crash() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = |chunk_delay_ms: u32| {
        json!({"shell": [
            {"text": "one two three four five six seven eight", "chunk_delay_ms": chunk_delay_ms,
             "tool_calls": [{"name": "shell", "arguments": {"cmd": "true"}}]},
            {"text": "received: {{last_user}}"},
        ]})
    };
    // The first worker stops in the middle of the first turn.
    let team = Team::write(&mut state, &script(3_600_000));
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "one");
    let output = state.legwork(["send", &id, "turn", "left"]).expect_success();
    assert_eq!(output, format!("Message sent to background agent task {id}.\n"));
    Team::write(&mut state, &script(20));
    let _second = state.worker(&[]);
    first.kill();
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["attempt"], &view["result"]), (&json!(2), &json!("received: turn left")), "{view}");

    let late = state.legwork(["send", &id, "too late"]);
    assert_eq!(late.status, 2);
    assert_eq!(late.stderr, format!("error: task {id} is not running (status: completed)\n"));
}
