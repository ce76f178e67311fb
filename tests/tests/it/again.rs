//! Jobs that are tried again, and messages into running ones.

use std::fs;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::teams::Team;
use crate::teams::calls;

/// One turn that leaves a mark outside, and then nothing more to say: the job fails.
fn half() -> serde_json::Value {
    json!({"shell": [calls("shell", &json!({"cmd": "echo x >> ../../mark"}))]})
}

/// The same with an end.
fn whole() -> serde_json::Value {
    let mut script = half();
    script["shell"].as_array_mut().unwrap().push(json!({"text": "done"}));
    script
}

#[test]
fn a_retry_goes_on_from_the_last_turn() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &half());
    let mut unlucky = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let failed = state.until_status(&id, "failed");
    unlucky.kill();
    Team::in_house(&mut state, &whole());
    let _worker = state.worker(&[]);

    let again = state.legwork(["retry", &id]).good().trim().to_owned();
    assert_ne!(again, id);
    let view = state.until_status(&again, "completed");
    assert_eq!((&view["retry_of"], &view["result"]), (&json!(id), &json!("done")));
    assert_eq!((&view["session"], &view["usage"]["turns"]), (&failed["session"], &json!(1)));
    let output = view["output"].as_str().unwrap();
    assert!(output.starts_with(&format!("[resumes from turn 2 of {id}]\n")), "{output}");
    // What the first one did was not done again.
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\n");
    // The first one stays as it ended.
    assert_eq!(state.view(&id)["status"], "failed");

    let fresh = state.legwork(["retry", "--fresh", "--json", &id]).objects().remove(0);
    let fresh = fresh["id"].as_str().unwrap();
    let view = state.until_status(fresh, "completed");
    assert_eq!(view["usage"]["turns"], 2);
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\nx\n");
}

#[test]
fn a_retry_of_a_closed_session_gets_a_new_one() {
    let mut state = StateFolder::embedded();
    let mut script = half();
    script["root"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "mark"})),
        calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
        {"text": "it failed"},
    ]);
    script["shell"][0]["tool_calls"][0]["arguments"]["cmd"] = json!("echo x >> mark");
    let team = Team::in_house(&mut state, &script);
    state.legwork(["run", &team.file, "go"]).good();
    let failed = state.legwork(["list", "--json"]).objects().remove(0);
    assert_eq!(failed["status"], "failed", "{failed}");
    script["shell"].as_array_mut().unwrap().push(json!({"text": "done"}));
    Team::in_house(&mut state, &script);
    let again = state.legwork(["retry", failed["id"].as_str().unwrap()]).good().trim().to_owned();
    let view = state.until_status(&again, "completed");
    assert_ne!(view["session"], failed["session"]);
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\n");
}

#[test]
fn only_what_failed_or_was_stopped_is_tried_again() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &json!({"quick": [{"text": "fine"}]}));
    let queued = state.dispatch(&[&team.file, "quick", "go"]);
    let said = state.legwork(["retry", &queued]);
    assert_eq!(said.status, 2, "{said:?}");
    assert_eq!(
        said.err,
        format!(
            "error: task {queued} has not ended (status: queued)\n\
             hint: `legwork stop` ends it, `legwork wait` waits for its end\n"
        )
    );
    let _worker = state.worker(&[]);
    state.until_status(&queued, "completed");
    let said = state.legwork(["retry", &queued]);
    assert_eq!(said.status, 2, "{said:?}");
    assert!(said.err.starts_with(&format!("error: task {queued} has completed\n")), "{said:?}");
    assert_eq!(state.legwork(["list", "--json"]).objects().len(), 1);
}

#[test]
fn a_failure_is_tried_again_as_often_as_was_asked_and_the_last_one_is_kept() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &half());
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go", "--retries", "2", "--retry-delay", "50ms"]);
    let view = state.until_status(&id, "failed");
    assert_eq!((&view["attempt"], &view["cause"]), (&json!(3), &json!("provider_error")));
    assert!(view["error"].as_str().unwrap().contains("needs one more"), "{view}");
    // The turn that was finished was not paid for again, nor its command run again.
    assert_eq!(fs::read_to_string(state.path("mark")).unwrap(), "x\n");
}

#[test]
fn a_message_is_heard_before_the_next_model_call_even_after_a_crash() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({"shell": [
        {"text": "one two three four five six seven eight", "chunk_delay_ms": 300,
         "tool_calls": [{"name": "shell", "arguments": {"cmd": "true"}}]},
        {"text": "heard: {{last_user}}"},
    ]});
    let team = Team::in_house(&mut state, &script);
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "two");
    let said = state.legwork(["send", &id, "turn", "left"]).good();
    assert_eq!(said, format!("Message sent to background agent task {id}.\n"));
    let _second = state.worker(&[]);
    first.kill();
    until("another attempt runs", || state.view(&id)["attempt"] == 2);
    let view = state.until_status(&id, "completed");
    assert_eq!(view["result"], "heard: turn left");

    let late = state.legwork(["send", &id, "too late"]);
    assert_eq!(late.status, 2);
    assert_eq!(late.err, format!("error: task {id} is not running (status: completed)\n"));
}
