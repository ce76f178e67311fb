//! A person decides, later: parked calls and questions survive crashes, are answered once, and act at most once.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use serde_json::Value;
use serde_json::json;

use crate::team::calls;

const TEAM: &str = "
permissions: {ask: ['shell:cmd=*deploy*']}
agents:
  root:
    model: scripted/any
    instruction: Coordinate.
    sub_agents: [ops, quick, parent]
    toolsets: [{type: background_agents}]
  ops:
    model: scripted/any
    description: Deploys.
    instruction: Deploy it.
    toolsets: [{type: shell}, {type: user_prompt}]
  parent:
    model: scripted/any
    description: Delegates.
    instruction: Delegate.
    sub_agents: [ops]
    toolsets: [{type: background_agents}]
  quick:
    model: scripted/any
    description: Answers at once.
    instruction: Answer.
";

/// A folder whose workers park calls, its agent file, and the script of its agents.
fn parking(state: &mut StateFolder, script: &Value) -> String {
    let policy = state.file("policy.yaml", "approvals: park\n");
    state.set(variables::POLICY, &policy);
    team(state, script)
}

fn team(state: &mut StateFolder, script: &Value) -> String {
    let script = state.file("script.json", json!({"agents": script}).to_string());
    state.set(variables::SCRIPT, &script);
    state.file("team.yaml", TEAM)
}

/// A script whose agent makes one call that needs an approval: it adds a line to a file, and then runs `more`.
fn deploys(state: &StateFolder, more: &str) -> Value {
    let made = state.path("made.txt");
    let cmd = format!("echo deploy >> {}; {more}", made.display());
    json!({
        "ops": [calls("shell", &json!({"cmd": cmd, "timeout": 60})), {"text": "Done: {{result:0}}"}],
        "quick": [{"text": "the quick answer"}],
    })
}

/// How often the approved call was made.
fn made(state: &StateFolder) -> usize {
    std::fs::read_to_string(state.path("made.txt")).unwrap_or_default().lines().count()
}

fn until_asked(state: &StateFolder, id: &str) -> Value {
    until("the job asks a person", || state.view(id)["waits_for"]["reason"] == "answer");
    state.view(id)
}

#[test]
fn a_call_that_needs_an_approval_is_parked_shown_and_made_once_approved() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = deploys(&state, "echo out");
    let file = parking(&mut state, &script);
    let _worker = state.worker(&["--concurrency", "1"]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    let view = until_asked(&state, &id);
    assert_eq!(view["status"], "waiting");
    let question = &view["waits_for"]["questions"][0];
    assert_eq!((&question["number"], &question["tool"]), (&json!(1), &json!("shell")), "{view}");
    assert!(question["arguments"].as_str().unwrap().contains("echo deploy"), "{view}");
    // It holds no slot: the only one is free for another job.
    let quick = state.dispatch(&[&file, "quick", "go"]);
    state.until_status(&quick, "completed");

    let uuid = &id["agent_task_".len()..][..8];
    let shown = state.legwork(["view", &id]).expect_success();
    assert!(shown.contains("Waits for a person to approve shell"), "{shown}");
    assert!(shown.contains(&format!("`legwork approve {uuid}` or `legwork deny {uuid} WHY`")), "{shown}");
    assert!(shown.contains("[waiting for a person to approve shell...]"), "{shown}");
    let explained = state.legwork(["explain", &id]).expect_success().replace('\n', " ");
    assert!(explained.contains("holds no slot") && explained.contains("legwork approve"), "{explained}");
    assert!(explained.contains("because the team's permissions ask for it"), "{explained}");
    assert!(state.legwork(["list", "--status", "waiting"]).expect_success().contains(uuid));
    let waiting = state.legwork(["approve"]).expect_success();
    assert!(waiting.contains(uuid) && waiting.contains("echo deploy"), "{waiting}");
    let stats = state.legwork(["stats"]).expect_success();
    assert!(stats.contains("waiting for a person: 1 job"), "{stats}");

    assert_eq!(made(&state), 0);
    let approved = state.legwork(["approve", &id]).expect_success();
    assert!(approved.starts_with("approved: call 1 of"), "{approved}");
    let view = state.until_status(&id, "completed");
    assert_eq!(view["result"], "Done: out\n");
    assert_eq!(made(&state), 1);
    let transcript = state.legwork(["view", "--transcript", &id]).expect_success();
    assert!(transcript.contains("? [0] a person is asked about shell"), "{transcript}");
    assert!(transcript.contains("! [0] approved"), "{transcript}");
    assert_eq!(state.legwork(["approve"]).expect_success(), "nothing waits for a person\n");
}

#[test]
fn the_first_answer_counts_and_later_ones_learn_of_it() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = deploys(&state, "true");
    let file = parking(&mut state, &script);
    let mut worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    until_asked(&state, &id);
    // No worker acts on the answer yet.
    worker.kill();
    assert_eq!(state.legwork(["deny", &id, "--call", "3"]).status, 2);
    state.legwork(["deny", &id, "not", "on", "Friday"]).expect_success();
    let again = state.legwork(["deny", &id, "not", "on", "Friday"]).expect_success();
    assert!(again.starts_with("denied before: call 1"), "{again}");
    let other = state.legwork(["approve", &id]);
    assert_eq!(other.status, 7, "{other:?}");
    assert!(other.stderr.contains("was decided before: denied: not on Friday"), "{other:?}");
    let _worker = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    assert_eq!(view["result"], "Done: The user rejected the tool call. Reason: not on Friday");
    assert_eq!(made(&state), 0);
    let late = state.legwork(["approve", &id]);
    assert!(late.status == 2 && late.stderr.contains("waits for no answer (status: completed)"), "{late:?}");
}

#[test]
fn a_parked_job_survives_its_workers_and_the_answer_may_come_while_none_lives() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = deploys(&state, "echo out");
    let file = parking(&mut state, &script);
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    let asked_at = until_asked(&state, &id)["waits_for"]["questions"][0]["asked_at"].clone();
    first.kill();
    let mut second = state.worker(&[]);
    until("the next attempt is parked", || {
        let view = state.view(&id);
        view["attempt"] == 2 && view["waits_for"]["reason"] == "answer"
    });
    let view = state.view(&id);
    assert_eq!(view["waits_for"]["questions"].as_array().unwrap().len(), 1, "{view}");
    assert_eq!(view["waits_for"]["questions"][0]["asked_at"], asked_at);
    second.kill();
    state.legwork(["approve", &id]).expect_success();
    assert_eq!(made(&state), 0);
    let _third = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["result"], made(&state)), (&json!("Done: out\n"), 1), "{view}");
    // The model was asked once for each turn, whatever died.
    assert_eq!(view["usage"]["turns"], 2);
}

#[test]
fn a_call_whose_worker_dies_after_the_approval_is_not_made_again() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = deploys(&state, "sleep 60");
    let file = parking(&mut state, &script);
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    until_asked(&state, &id);
    state.legwork(["approve", &id]).expect_success();
    until("the call is being made", || made(&state) == 1);
    first.kill();
    let _second = state.worker(&[]);
    let view = state.until_status(&id, "completed");
    assert!(view["result"].as_str().unwrap().contains("interrupted and its outcome is unknown"), "{view}");
    assert_eq!(made(&state), 1);
}

#[test]
fn a_stop_ends_a_parked_job() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = deploys(&state, "true");
    let file = parking(&mut state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    until_asked(&state, &id);
    state.legwork(["stop", &id]).expect_success();
    assert_eq!(state.view(&id)["status"], "stopped");
    assert_eq!(state.legwork(["approve"]).expect_success(), "nothing waits for a person\n");
    assert_eq!(made(&state), 0);
}

#[test]
fn a_question_that_no_one_answers_expires_and_the_job_continues() {
    let (_redis, mut state) = StateFolder::with_redis();
    let policy = state.file("policy.yaml", "approvals: park\napprovals_expire: 1s\n");
    state.set(variables::POLICY, &policy);
    let script = deploys(&state, "true");
    let file = team(&mut state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    let view = state.until_status(&id, "completed");
    assert_eq!(view["result"], "Done: The tool call was denied: no one approved it in time.");
    assert_eq!(made(&state), 0);
}

#[test]
fn a_dispatch_decides_before_the_policy_and_without_either_calls_are_denied() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = deploys(&state, "echo out");
    let file = team(&mut state, &script);
    let _worker = state.worker(&[]);
    let denied = state.dispatch(&[&file, "ops", "go"]);
    let result = state.until_status(&denied, "completed")["result"].clone();
    assert_eq!(result, "Done: Tool 'shell' requires user confirmation but the session is non-interactive.");
    let parked = state.dispatch(&[&file, "ops", "go", "--approvals", "park"]);
    until_asked(&state, &parked);
    state.legwork(["approve", &parked]).expect_success();
    assert_eq!(state.until_status(&parked, "completed")["result"], "Done: out\n");
}

#[test]
fn a_parked_child_leaves_its_parent_waiting_and_is_named_to_it() {
    let (_redis, mut state) = StateFolder::with_redis();
    let mut script = deploys(&state, "echo out");
    script["parent"] = json!([
        calls("run_background_agent", &json!({"agent": "ops", "task": "deploy it"})),
        {"text": "I wait."},
        calls("list_background_agents", &json!({})),
        {"text": "{{result:0}}"},
    ]);
    let file = team(&mut state, &script);
    let _worker = state.worker(&["--concurrency", "1"]);
    // The child inherits what its parent was dispatched with.
    let parent = state.dispatch(&[&file, "parent", "go", "--approvals", "park"]);
    until("the child asks", || !state.legwork(["approve", "--json"]).expect_success().is_empty());
    let open = state.legwork(["approve", "--json"]).json_lines();
    let child = open[0]["id"].as_str().unwrap().to_owned();
    until("the parent waits", || state.view(&parent)["status"] == "waiting");
    assert_eq!(state.view(&parent)["waits_for"], json!({"reason": "children", "live": 1}));
    state.legwork(["approve", &child]).expect_success();
    state.until_status(&child, "completed");
    assert_eq!(state.until_status(&parent, "completed")["status"], "completed");
    assert_eq!(made(&state), 1);
}

#[test]
fn a_question_of_the_agent_is_answered_with_one_of_its_choices() {
    let (_redis, mut state) = StateFolder::with_redis();
    let schema = json!({"type": "object", "required": ["color"],
        "properties": {"color": {"type": "string", "enum": ["red", "blue"]}}});
    let script = json!({"ops": [
        calls("user_prompt", &json!({"message": "Which colour?", "title": "Paint", "schema": schema})),
        {"text": "{{result:0}}"},
    ]});
    let file = parking(&mut state, &script);
    let mut first = state.worker(&[]);
    let id = state.dispatch(&[&file, "ops", "go"]);
    until_asked(&state, &id);
    let shown = state.legwork(["view", &id]).expect_success();
    assert!(shown.contains("Paint: Which colour? (red, blue)"), "{shown}");
    first.kill();
    let _second = state.worker(&[]);
    let wrong = state.legwork(["approve", &id, "--answer", "green"]);
    assert!(wrong.status == 2 && wrong.stderr.contains("`color` is one of: red, blue"), "{wrong:?}");
    assert_eq!(state.legwork(["approve", &id]).status, 2);
    let answered = state.legwork(["approve", &id, "--answer", "blue"]).expect_success();
    assert!(answered.starts_with("answered: call 1"), "{answered}");
    let view = state.until_status(&id, "completed");
    assert_eq!(view["result"], r#"{"action":"accept","content":{"color":"blue"}}"#);
}

#[test]
fn a_run_on_a_terminal_asks_for_its_jobs() {
    let mut state = StateFolder::embedded();
    let mut script = deploys(&state, "echo out");
    script["root"] = json!([
        calls("run_background_agent", &json!({"agent": "ops", "task": "deploy it"})),
        {"text": "I wait."},
        {"text": "All is done."},
    ]);
    let file = team(&mut state, &script);
    let screen = state.in_terminal(&["run", &file, "go", "--approvals", "ask"], "y\n");
    assert!(screen.contains(") wants to call shell") && screen.contains("echo deploy"), "{screen}");
    assert!(screen.contains("All is done."), "{screen}");
    assert_eq!(made(&state), 1);
}
