//! The extension `io.modelcontextprotocol/tasks`: a job is a task, and any replica can serve it.

use legwork_tests::programs::StateFolder;
use serde_json::Value;
use serde_json::json;

use crate::host::Host;
use crate::host::team;

/// The `_meta` that every request of protocol 2026-07-28 has, with or without the extension.
fn meta(tasks: bool) -> Value {
    let extensions = if tasks { json!({"io.modelcontextprotocol/tasks": {}}) } else { json!({}) };
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "by hand", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions},
    })
}

fn ask(host: &mut Host, method: &str, mut params: Value) -> Value {
    params["_meta"] = meta(true);
    host.ask(method, params)
}

/// Starts a job as a client of the extension and returns the task.
fn run(host: &mut Host, agent: &str) -> Value {
    let params = json!({"name": "run_background_agent", "arguments": {"agent": agent, "task": "go"}});
    ask(host, "tools/call", params)["result"].clone()
}

/// Polls until the task has ended and returns it.
fn ended(host: &mut Host, id: &Value) -> Value {
    loop {
        let task = ask(host, "tasks/get", json!({"taskId": id}))["result"].clone();
        if task["status"] != "working" {
            return task;
        }
    }
}

#[test]
fn a_job_is_a_task_for_a_client_with_the_extension() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let session = "7d3a1f7e-9a68-4d0c-8c8e-0c7c53f4a1b2";
    let mut host = Host::start(&state, &[&team, "--session", session]);
    let mut replica = Host::start(&state, &[&team, "--session", session]);

    let discovered = ask(&mut host, "server/discover", json!({}));
    let extensions = &discovered["result"]["capabilities"]["extensions"];
    assert!(extensions["io.modelcontextprotocol/tasks"].is_object(), "{discovered}");

    let created = run(&mut host, "quick");
    assert_eq!(created["resultType"], "task", "{created}");
    let id = &created["taskId"];
    let message = created["statusMessage"].as_str().unwrap();
    assert!(message.starts_with("Background agent task started with ID: agent_task_"), "{message}");
    let task = ended(&mut replica, id);
    assert_eq!((&task["status"], &task["resultType"]), (&json!("completed"), &json!("complete")), "{task}");
    assert_eq!(task["result"]["content"][0]["text"], "Done go.");
    assert_eq!(task["result"]["structuredContent"]["status"], "completed");
    assert!(task["ttlMs"].as_u64().unwrap() >= 24 * 3600 * 1000, "{task}");

    // Cancelled through the other replica.
    let slow = run(&mut host, "shell");
    let cancelled = ask(&mut replica, "tasks/cancel", json!({"taskId": slow["taskId"]}));
    assert!(cancelled["error"].is_null(), "{cancelled}");
    assert_eq!(ended(&mut host, &slow["taskId"])["status"], "cancelled");
    let updated = ask(&mut host, "tasks/update", json!({"taskId": slow["taskId"], "inputResponses": {}}));
    assert!(updated["error"].is_null(), "{updated}");

    let unknown = ask(&mut host, "tasks/get", json!({"taskId": "agent_task_none"}));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
}

#[test]
fn a_failed_job_is_a_completed_task_with_an_error_result() {
    let (_redis, mut state) = StateFolder::with_redis();
    team(&mut state);
    // The script has no replies for this agent, so the job fails.
    let broken = "agents:\n  root: {model: scripted/any, sub_agents: [odd]}\n  odd: {model: scripted/any}\n";
    let file = state.file("broken.yaml", broken);
    let _worker = state.worker(&[]);
    let mut host = Host::start(&state, &[&file]);
    let created = run(&mut host, "odd");
    let task = ended(&mut host, &created["taskId"]);
    assert_eq!((&task["status"], &task["result"]["isError"]), (&json!("completed"), &json!(true)), "{task}");
    let text = task["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("<task failed>\nError: "), "{text}");
}

#[test]
fn a_client_without_the_extension_gets_a_plain_result() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let mut host = Host::start(&state, &[&team]);
    let params = json!({
        "name": "run_background_agent",
        "arguments": {"agent": "quick", "task": "go"},
        "_meta": meta(false),
    });
    let plain = host.ask("tools/call", params);
    assert_eq!(plain["result"]["resultType"], "complete", "{plain}");
    let id = &plain["result"]["structuredContent"]["id"];
    let refused = host.ask("tasks/get", json!({"taskId": id, "_meta": meta(false)}));
    assert_eq!(refused["error"]["code"], -32021, "{refused}");
}
