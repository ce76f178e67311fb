//! The result texts of the background tools, and the order of their checks.

use std::time::Duration;

use legwork_common::lifecycle::State;
use serde_json::json;

use super::*;
use crate::testing;
use crate::testing::FakeService;
use crate::testing::job_id;
use crate::testing::team;
use crate::testing::viewed;
use crate::toolset::tests::call;

fn tools(sub_agents: &[&str]) -> (Arc<FakeService>, Vec<Arc<dyn Tool>>) {
    let others = sub_agents.iter().map(|&name| (name, &[][..], json!({})));
    let agents: Vec<_> = [("me", sub_agents, json!({}))].into_iter().chain(others).collect();
    let team = team(&agents);
    let service = Arc::new(FakeService::default());
    let background: Arc<dyn BackgroundAgents> = service.clone();
    (service, open(team.agent("me").unwrap(), &background).tools)
}

#[tokio::test]
async fn arguments_of_a_run_are_checked_in_the_contracts_order() {
    let (_, with) = tools(&["b", "c"]);
    let (_, without) = tools(&[]);
    let table = [
        (&with, json!({}), "agent name must not be empty"),
        (&with, json!({"agent": " ", "task": ""}), "agent name must not be empty"),
        (&with, json!({"agent": "x"}), "task must not be empty"),
        (
            &with,
            json!({"agent": "x", "task": "t"}),
            "agent \"x\" is not in the sub-agents list. Available: b, c",
        ),
        (
            &without,
            json!({"agent": "x", "task": "t"}),
            "agent \"x\" is not in the sub-agents list. This agent has no sub-agents configured.",
        ),
    ];
    for (tools, arguments, expected) in table {
        assert_eq!(call(tools, "run_background_agent", arguments).await, ToolOutcome::error(expected));
    }
    assert_eq!(
        call(&with, "run_background_agent", json!({"agent": "c", "task": "count"})).await,
        ToolOutcome::ok(format!(
            "Background agent task started with ID: {}\nAgent: c\nTask: count",
            job_id(0)
        ))
    );
}

#[tokio::test]
async fn unknown_and_ended_jobs_are_error_results() {
    let (service, tools) = tools(&["b"]);
    service.have(viewed(0, "b", State::Completed, "forty-two"));
    let done = job_id(0);
    for name in ["view_background_agent", "stop_background_agent"] {
        for unknown in ["nonsense".to_owned(), job_id(9).to_string()] {
            let outcome = call(&tools, name, json!({"task_id": unknown})).await;
            assert_eq!(outcome, ToolOutcome::error(format!("task not found: {unknown}")), "{name}");
        }
    }
    let stopped = call(&tools, "stop_background_agent", json!({"task_id": done.to_string()})).await;
    assert_eq!(stopped.text, format!("task {done} is not running (status: completed)"));
    assert_eq!((stopped.is_error, stopped.ended), (true, vec![done]));
    let sent = json!({"task_id": done.to_string(), "message": "hello"});
    let sent = call(&tools, "send_background_agent", sent).await;
    assert_eq!(sent, ToolOutcome::error(format!("task {done} is not running (status: completed)")));
}

#[tokio::test]
async fn jobs_are_listed_viewed_messaged_and_stopped() {
    let (service, tools) = tools(&["b"]);
    assert_eq!(
        call(&tools, "list_background_agents", json!({})).await.text,
        "Background Agent Tasks:\n\nNo background agent tasks found.\n"
    );
    service.have(viewed(0, "b", State::Completed, "forty-two"));
    service.have(viewed(1, "b", State::Running, ""));
    let (done, live) = (job_id(0), job_id(1));
    let listed = call(&tools, "list_background_agents", json!({})).await.text;
    assert!(listed.contains(&format!("ID: {done}\n  Agent:   b\n  Status:  completed\n")), "{listed}");
    let view = call(&tools, "view_background_agent", json!({"task_id": done.to_string()})).await;
    assert!(view.text.ends_with("\n\n--- Output ---\nforty-two"), "{view:?}");
    assert_eq!(view.ended, [done]);
    let view = call(&tools, "view_background_agent", json!({"task_id": live.to_string()})).await;
    assert!(view.text.ends_with("<no output yet — still running>"), "{view:?}");
    assert!(view.ended.is_empty());
    let message = json!({"task_id": live.to_string(), "message": "faster"});
    assert_eq!(
        call(&tools, "send_background_agent", message).await,
        ToolOutcome::ok(format!("Message sent to background agent task {live}."))
    );
    assert_eq!(service.sent()[0].message, "faster");
    let stopped = call(&tools, "stop_background_agent", json!({"task_id": live.to_string()})).await;
    assert_eq!(stopped.text, format!("Background agent task {live} stopped."));
    assert_eq!((stopped.is_error, stopped.ended), (false, vec![live]));
}

#[tokio::test]
async fn a_wait_answers_in_the_order_asked_and_reports_unknown_ids() {
    let (service, tools) = tools(&["b"]);
    service.have(viewed(0, "b", State::Running, ""));
    let id = job_id(0).to_string();
    let waited = call(&tools, "wait_background_agents", json!({"task_ids": ["x", id], "mode": "any"})).await;
    assert_eq!(
        waited.text,
        format!(
            r#"{{"all_done":false,"tasks":[{{"task_id":"x","status":"not_found","done":false,"error":"Task not found; it may have been pruned."}},{{"task_id":"{id}","status":"completed","done":true,"output":"result 0"}}]}}"#
        )
    );
    assert_eq!((waited.is_error, waited.ended), (true, vec![job_id(0)]));
    let waited = call(&tools, "wait_background_agents", json!({"task_ids": [id], "timeout": 1.5})).await;
    assert_eq!((waited.is_error, service.waits()[1].timeout), (false, Some(Duration::from_millis(1500))));
    let first = &service.waits()[0];
    assert_eq!((first.mode, first.timeout), (WaitMode::Any, Some(Duration::from_secs(300))));
    for (arguments, expected) in [
        (Value::Null, "task_ids must contain 1 to 100 distinct task IDs"),
        (json!({"task_ids": [id, id]}), &*format!("duplicate task ID: {id}")),
        (json!({"task_ids": [id], "timeout": -3}), "timeout must be between 0 and 3600 seconds"),
    ] {
        assert_eq!(call(&tools, "wait_background_agents", arguments).await, ToolOutcome::error(expected));
    }
}

#[tokio::test]
async fn a_view_says_when_nothing_is_new_and_a_long_message_is_refused() {
    let (service, tools) = tools(&["b"]);
    service.have(viewed(0, "b", State::Running, ""));
    let id = json!({"task_id": job_id(0).to_string()});
    let notice = "\n\n[No new output since last check — poll #2]";
    let first = call(&tools, "view_background_agent", id.clone()).await.text;
    let second = call(&tools, "view_background_agent", id).await.text;
    assert!(!first.contains("No new output") && second.ends_with(notice), "{first}\n{second}");
    let message = json!({"task_id": job_id(0).to_string(), "message": "x".repeat(16 * 1024 + 1)});
    assert!(call(&tools, "send_background_agent", message).await.is_error);
    assert!(service.sent().is_empty());
}

#[tokio::test]
async fn a_transfer_is_checked_dispatched_and_awaited() {
    let team = team(&[("me", &["b"], json!({})), ("b", &[], json!({}))]);
    let service = Arc::new(FakeService::default());
    let transfer = crate::toolset::transfer::TransferTask::new(team.agent("me").unwrap(), service.clone());
    let transfer: Arc<dyn Tool> = Arc::new(transfer);
    let refused = testing::call(&transfer, json!({"agent": "z", "task": "t"})).await;
    assert_eq!(
        refused,
        ToolOutcome::error(
            "Agent me cannot transfer task to z: target agent not in sub-agents list. Available agent IDs are: b"
        )
    );
    let done = testing::call(&transfer, json!({"agent": "b", "task": "t", "expected_output": "n"})).await;
    assert_eq!((done.text.as_str(), done.is_error, done.ended), ("result 0", false, vec![job_id(0)]));
    assert_eq!(service.waits()[0].timeout, None);
    assert_eq!(service.requests()[0].expected_output.as_deref(), Some("n"));
}

#[test]
fn every_property_is_described_and_others_are_refused() {
    let (_, tools) = tools(&["b"]);
    for tool in tools {
        let spec = tool.spec();
        assert_eq!(spec.parameters["additionalProperties"], json!(false), "{}", spec.name);
        for (name, property) in spec.parameters["properties"].as_object().unwrap() {
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        let reads = ["list_background_agents", "view_background_agent", "wait_background_agents"];
        assert_eq!(spec.read_only, reads.contains(&spec.name.as_str()), "{}", spec.name);
        assert_eq!(spec.interrupted, crate::tool::Interrupted::RunAgain);
    }
}
