//! Budgets in money, at the prices of the policy file.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;

/// A turn that costs $0.003 at the prices of [`priced`].
fn turn() -> Value {
    json!({"text": "hm", "input_tokens": 1000, "output_tokens": 100,
        "tool_calls": [{"name": "shell", "arguments": {"cmd": "true"}}]})
}

/// A folder whose scripted model has a price.
fn priced(state: &mut StateFolder) -> Team {
    let policy = state.file("policy.yaml", "prices: {scripted/any: {input: 2, output: 10}}\n");
    state.set(variables::POLICY, &policy);
    let end = json!({"text": "done", "input_tokens": 1000, "output_tokens": 100});
    Team::write(state, &json!({"shell": [turn(), turn(), end], "root": [end]}))
}

#[test]
fn a_job_ends_at_its_budget_in_money_and_shows_what_it_cost() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = priced(&mut state);
    let _worker = state.worker(&[]);
    let poor = state.dispatch(&[&team.file, "shell", "go", "--budget", "$0.005"]);
    let rich = state.dispatch(&[&team.file, "shell", "go", "--budget", "$1"]);
    let view = state.until_status(&poor, "failed");
    assert_eq!((&view["cause"], &view["cost_usd"]), (&json!("budget"), &json!(0.006)), "{view}");
    let error = "Execution stopped after reaching the configured --budget limit (used $0.0060 of $0.0050).";
    assert_eq!(view["error"], error);
    assert_eq!(state.until_status(&rich, "completed")["cost_usd"], 0.009);
    // A retry has the same budget again, and continues after the recorded turns.
    let again = state.legwork(["retry", &poor]).expect_success().trim().to_owned();
    assert_eq!(state.until_status(&again, "completed")["result"], "done");
    let stats = state.legwork(["stats"]).expect_success();
    assert!(stats.contains("scripted/any") && stats.contains("$0.01"), "{stats}");
}

#[test]
fn the_jobs_of_a_session_share_its_budget_in_money() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = priced(&mut state);
    let _worker = state.worker(&[]);
    let first = state.dispatch(&[&team.file, "shell", "go", "--session-budget", "$0.008"]);
    let view = state.until_status(&first, "completed");
    assert_eq!(view["cost_usd"], 0.009, "a run exceeds its budget by a turn at most");
    // One that is dispatched later fails before its model is called.
    let session = view["session"].as_str().unwrap();
    let next = state.dispatch(&[&team.file, "shell", "go", "--session", session]);
    let view = state.until_status(&next, "failed");
    assert_eq!((&view["cause"], &view["usage"]["turns"]), (&json!("budget"), &json!(0)), "{view}");
    let lines = [
        json!({"agent": "shell", "task": "a", "budget": "$0.001"}).to_string(),
        json!({"agent": "shell", "task": "b", "budget": 100_000}).to_string(),
    ];
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let ids = state.dispatch(&[&team.file, "--batch", &batch]);
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(state.until_status(ids[0], "failed")["cause"], "budget");
    state.until_status(ids[1], "completed");
}

#[test]
fn a_budget_in_money_needs_a_price() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"shell": [turn()], "root": [turn()]}));
    let refused = [
        state.legwork(["dispatch", &team.file, "shell", "go", "--budget", "$1"]),
        state.legwork(["run", &team.file, "go", "--session-budget", "$1"]),
    ];
    for refused in refused {
        assert_eq!(refused.status, 2, "{refused:?}");
        let expected = "error: the price of scripted/any is not known, so a budget in money cannot be kept\nhint: set `cost`";
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
    let wrong = state.legwork(["dispatch", &team.file, "shell", "go", "--budget", "$0"]);
    assert!(
        wrong.status == 2 && wrong.stderr.contains("neither a number of tokens nor an amount"),
        "{wrong:?}"
    );
}
