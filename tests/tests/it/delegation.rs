//! Tasks that an agent gives to a sub-agent and waits for: what goes wrong there, and what they cost.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
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
