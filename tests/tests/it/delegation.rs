//! Tasks that an agent gives to a sub-agent and waits for: what goes wrong there, and what they cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::team::calls;

/// A team whose model is given up after a second without a byte.
const IMPATIENT: &str = "
providers:
  fake: {base_url: \"${env.FAKE_URL}\", token_key: LOCAL_KEY}
models:
  small: {provider: fake, model: small, provider_opts: {first_byte_timeout: 20s, idle_timeout: 1s}}
agents:
  root: {model: small, instruction: I coordinate., sub_agents: [helper]}
  helper: {model: small, instruction: I help., description: Helps}
";

#[test]
fn a_stream_of_a_sub_agent_that_idles_is_tried_once_more() {
    let runtime = Runtime::new().unwrap();
    let (_redis, mut state) = StateFolder::with_redis();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let fake = runtime.block_on(FakeProvider::choosing(move |request| {
        let is_helper = request["messages"].to_string().contains("I help.");
        let has_result = request["messages"].to_string().contains("helped");
        match (is_helper, has_result) {
            (true, _) if counted.fetch_add(1, Ordering::SeqCst) == 0 => Answer::Hang(""),
            (true, _) => Answer::text(&["helped"]),
            (false, true) => Answer::text(&["done"]),
            (false, false) => {
                let arguments = vec![r#"{"agent":"helper","task":"help","expected_output":""}"#];
                let call = Call { id: "call_1", name: "transfer_task", arguments };
                Answer::Reply { reasoning: None, text: Vec::new(), calls: vec![call] }
            }
        }
    }));
    state.set("LOCAL_KEY", "sesame");
    state.set("FAKE_URL", &fake.url);
    let team = state.file("team.yaml", IMPATIENT);
    let _worker = state.worker(&[]);
    let job = state.dispatch(&[&team, "root", "go"]);
    let view = state.until_status(&job, "completed");
    assert_eq!((&view["result"], &view["attempt"]), (&json!("done"), &json!(1)), "{view}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A lead whose deputy has a sub-agent of its own.
const NESTED: &str = "
permissions: {ask: ['shell']}
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [lead]}
  lead: {model: scripted/any, instruction: Lead., description: Leads, sub_agents: [deputy], toolsets: [{type: shell}]}
  deputy: {model: scripted/any, instruction: Deputise., description: Acts for the lead, sub_agents: [ops]}
  ops: {model: scripted/any, instruction: Run it., description: Runs commands, toolsets: [{type: shell}]}
";

/// The jobs of a session, by agent.
fn jobs_of(state: &StateFolder, session: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    let listed = state.legwork(["list", "--session", session.as_str().unwrap(), "--json"]).json_lines();
    listed.into_iter().map(|job| (job["agent"].as_str().unwrap().to_owned(), job)).collect()
}

#[test]
fn each_agent_of_nested_tasks_stays_itself_and_an_approval_counts_for_the_agent_that_asked() {
    let (_redis, mut state) = StateFolder::with_redis();
    let transfer =
        |agent: &str| calls("transfer_task", &json!({"agent": agent, "task": "go", "expected_output": ""}));
    let shell = |words: &str| calls("shell", &json!({"cmd": format!("echo {words}")}));
    let script = json!({"agents": {
        "lead": [transfer("deputy"), shell("by the lead"), {"text": "lead: {{result:transfer_task}}{{result:shell}}"}],
        "deputy": [transfer("ops"), {"text": "deputy: {{result:transfer_task}}"}],
        "ops": [shell("by ops"), {"text": "ops: {{result:shell}}"}],
    }});
    let file = state.file("nested.yaml", NESTED);
    let script = state.file("nested.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let lead = state.dispatch(&[&file, "lead", "go", "--approvals", "park"]);
    let session = state.view(&lead)["session"].clone();
    let asks = |agent: &str| {
        let jobs = jobs_of(&state, &session);
        jobs.get(agent).filter(|job| job["waits_for"]["reason"] == "answer").map(|job| job["id"].clone())
    };
    until("ops asks", || asks("ops").is_some());
    let jobs = jobs_of(&state, &session);
    // Each is a job of its own, stored under the one that gave it the task.
    assert_eq!(jobs["deputy"]["parent"], json!(lead), "{jobs:?}");
    assert_eq!(jobs["ops"]["parent"], jobs["deputy"]["id"], "{jobs:?}");
    state.legwork(["approve", jobs["ops"]["id"].as_str().unwrap()]).expect_success();
    // The approval was that of one call of one agent: the lead's own command asks again.
    until("the lead asks", || asks("lead").is_some());
    state.legwork(["approve", &lead]).expect_success();
    let ended = state.until_status(&lead, "completed");
    assert_eq!(ended["result"], "lead: deputy: ops: by ops\nby the lead\n", "{ended}");
    let jobs = jobs_of(&state, &session);
    assert_eq!(jobs["deputy"]["result"], "deputy: ops: by ops\n", "{jobs:?}");
    assert!(jobs.values().all(|job| job["status"] == "completed"), "{jobs:?}");
}

#[test]
fn a_failed_task_is_stored_under_its_parent_with_what_it_wrote() {
    let (_redis, mut state) = StateFolder::with_redis();
    let transfer = calls("transfer_task", &json!({"agent": "deputy", "task": "go", "expected_output": ""}));
    let script = json!({"agents": {"lead": [transfer, {"text": "it failed: {{result:transfer_task}}"}], "deputy": []}});
    let file = state.file("nested.yaml", NESTED);
    let script = state.file("nested.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let lead = state.dispatch(&[&file, "lead", "go"]);
    let ended = state.until_status(&lead, "completed");
    assert!(ended["result"].as_str().unwrap().starts_with("it failed: "), "{ended}");
    let jobs = jobs_of(&state, &ended["session"]);
    let child = &jobs["deputy"];
    assert_eq!((&child["parent"], &child["status"]), (&json!(lead), &json!("failed")), "{child}");
    assert!(!child["error"].as_str().unwrap().is_empty(), "{child}");
}

const PRICED: &str = "
budget: {max_cost: 0.005}
models:
  priced: {provider: scripted, model: any, cost: {input: 2, output: 10}}
agents:
  root: {model: priced, instruction: I coordinate., sub_agents: [helper], toolsets: [{type: think}]}
  helper: {model: priced, instruction: I help., description: Helps}
";

#[test]
fn what_a_sub_agent_costs_counts_for_the_agent_that_waits_for_it() {
    let (_redis, mut state) = StateFolder::with_redis();
    // One of these costs $0.003: the parent alone is below its budget after its first turn.
    let costing = |mut reply: serde_json::Value| {
        reply["input_tokens"] = json!(1000);
        reply["output_tokens"] = json!(100);
        reply
    };
    let transfer = calls("transfer_task", &json!({"agent": "helper", "task": "go", "expected_output": ""}));
    let think = calls("think", &json!({"thought": "alone"}));
    let script = json!({"agents": {
        "root": [costing(transfer), {"text": "done"}],
        "helper": [costing(json!({"text": "helped"}))],
    }});
    let alone = json!({"agents": {"root": [costing(think), {"text": "done"}]}});
    let team = state.file("team.yaml", PRICED);
    let script = state.file("script.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let worker = state.worker(&[]);
    let job = state.dispatch(&[&team, "root", "go"]);
    let view = state.until_status(&job, "failed");
    assert_eq!(
        view["error"],
        "Execution stopped after reaching the configured budget.max_cost limit (used $0.0060 of $0.0050)."
    );
    assert_eq!(view["cause"], "budget");
    drop(worker);

    let alone = state.file("alone.json", alone.to_string());
    state.set(variables::SCRIPT, &alone);
    let _worker = state.worker(&[]);
    let job = state.dispatch(&[&team, "root", "go"]);
    assert_eq!(state.until_status(&job, "completed")["result"], "done");
}
