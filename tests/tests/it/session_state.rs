//! State that the agents of a session share across workers: a todo list and a token budget.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use serde_json::Value;
use serde_json::json;

use crate::team::calls;

const LISTS: &str = "
agents:
  root:
    model: scripted/any
    instruction: Coordinate.
    sub_agents: [writer, reader]
    toolsets: [{type: background_agents}, {type: todo, shared: true}]
  writer:
    model: scripted/any
    description: Writes the list.
    toolsets: [{type: todo, shared: true}]
  reader:
    model: scripted/any
    description: Reads the list.
    toolsets: [{type: todo, shared: true}]
";

#[test]
fn a_shared_list_is_seen_by_the_root_and_by_jobs_on_every_worker() {
    let (_redis, mut state) = StateFolder::with_redis();
    let start =
        |agent: &str| calls("transfer_task", &json!({"agent": agent, "task": "go", "expected_output": ""}));
    let script = json!({
        "root": [
            calls("create_todo", &json!({"description": "ask"})),
            start("writer"),
            start("reader"),
            {"text": "{{result:transfer_task}}"},
        ],
        "writer": [
            calls("create_todos", &json!({"descriptions": ["write", "send"]})),
            calls("update_todos", &json!({"updates": [{"id": "todo_1", "status": "completed"}]})),
            {"text": "written"},
        ],
        "reader": [calls("list_todos", &json!({})), {"text": "{{results}}"}],
    });
    let team = state.file("team.yaml", LISTS);
    let script = state.file("script.json", json!({"agents": script}).to_string());
    state.set(variables::SCRIPT, &script);
    let policy = "agents: {writer: {queue: a}, reader: {queue: b}}\n";
    let policy = state.file("policy.yaml", policy);
    state.set(variables::POLICY, &policy);
    let _workers = [state.worker(&["--queues", "a"]), state.worker(&["--queues", "b"])];
    let output = state.legwork(["run", "--json", &team, "go"]);
    assert_eq!(output.status, 0, "{output:?}");
    let events = output.json_lines();
    let result =
        events.iter().find(|event| event["event"] == "completed").unwrap()["result"].as_str().unwrap();
    let list: Value = serde_json::from_str(result).unwrap();
    let lines: Vec<String> = list["todos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|todo| format!("{} {} {}", todo["id"], todo["status"], todo["description"]).replace('"', ""))
        .collect();
    assert_eq!(lines, ["todo_1 completed ask", "todo_2 pending write", "todo_3 pending send"]);
}

const SPENDS: &str = "
agents:
  root: {model: scripted/any, instruction: Spend., description: Spends., toolsets: [{type: think}]}
";

#[test]
fn a_job_that_waits_for_its_sessions_budget_says_so() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = state.file("team.yaml", SPENDS);
    // A call that runs keeps what it has reserved until its job is stopped.
    let reply = json!({"text": "one two", "chunk_delay_ms": 3_600_000});
    let script = state.file("script.json", json!({"agents": {"root": [reply]}}).to_string());
    state.set(variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let request = json!({"agent": "root", "task": "a"}).to_string();
    let batch = state.file("batch.jsonl", format!("{request}\n{request}\n"));
    // What one call reserves, as the error of a job says that has too little.
    let poor = state.dispatch(&[&team, "--session-budget", "1", "root", "a"]);
    let error = state.until_status(&poor, "failed")["error"].as_str().unwrap().to_owned();
    let wanted: u64 = error.rsplit(' ').next().unwrap().parse().unwrap();
    // Enough for one call, and not for two at once.
    let budget = (wanted + wanted / 2).to_string();
    let ids = state.dispatch(&[&team, "--batch", &batch, "--session-budget", &budget]);
    let ids: Vec<&str> = ids.lines().collect();
    let (mut waits_for, mut waiting) = (json!(null), "");
    until("one of them waits for the budget", || {
        let mut reasons = ids.iter().map(|id| (id, state.view(id)["waits_for"].clone()));
        if let Some((id, reason)) = reasons.find(|(_, reason)| reason["reason"] == "budget") {
            (waits_for, waiting) = (reason, id);
        }
        !waiting.is_empty()
    });
    let detail = waits_for["detail"].as_str().unwrap();
    assert!(detail.contains(" tokens of the session's budget"), "{waits_for}");
    let running = ids.iter().find(|id| **id != waiting).unwrap();
    state.legwork(["stop", running]).expect_success();
    state.until_output(waiting, "one");
    assert_eq!(state.view(waiting)["waits_for"], json!(null));
}

#[test]
fn a_session_ends_at_its_budget_with_the_output_so_far() {
    let (_redis, mut state) = StateFolder::with_redis();
    let mut turn = calls("think", &json!({"thought": "more"}));
    turn["input_tokens"] = json!(900);
    turn["output_tokens"] = json!(100);
    let team = state.file("team.yaml", SPENDS);
    let script = state.file("script.json", json!({"agents": {"root": [turn, turn, turn]}}).to_string());
    state.set(variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let batch = [json!({"agent": "root", "task": "a"}), json!({"agent": "root", "task": "b"})];
    let batch = state.file("batch.jsonl", batch.map(|line| line.to_string()).join("\n"));
    let ids = state.dispatch(&[&team, "--batch", &batch, "--session-budget", "2000"]);
    let mut session = String::new();
    for id in ids.lines() {
        let view = state.until_status(id, "failed");
        assert_eq!((&view["cause"], &view["output"]), (&json!("budget"), &json!("I call think.")));
        let why = view["error"].as_str().unwrap();
        assert!(why.starts_with("the session used ") && why.contains(" of its 2000 tokens"), "{why}");
        assert_eq!(view["usage"]["turns"], 1);
        session = view["session"].as_str().unwrap().to_owned();
    }
    // A job that is dispatched later fails on the spent budget too.
    let late = state.dispatch(&["--session", &session, &team, "root", "c"]);
    let view = state.until_status(&late, "failed");
    assert_eq!(
        view["error"].as_str().unwrap().split(", and").next(),
        Some("the session used 2000 of its 2000 tokens")
    );
    assert_eq!((&view["cause"], &view["output"]), (&json!("budget"), &json!("")));

    let output = state.legwork(["run", "--session-budget", "1500", &team, "go"]);
    assert_eq!(output.status, 1, "{output:?}");
    assert!(
        output.stderr.contains("the agent failed (budget): the session used 1000 of its 1500"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout.trim(), "I call think.");
    let output =
        state.legwork(["dispatch", "--session", &session, "--session-budget", "9", &team, "root", "x"]);
    assert_eq!(output.status, 2, "a budget is set when the session is opened: {output:?}");
}
