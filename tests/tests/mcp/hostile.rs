//! Misbehaving hosts: no request is lost, run twice, or left hanging.

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::host::Host;
use crate::host::id_of;
use crate::host::team;
use crate::host::text;

#[test]
fn requests_are_served_after_garbage() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    for line in ["", "garbage", "{", "[]", "null", "{\"jsonrpc\":\"2.0\"}", "\u{0}\u{1}", "{\"id\":{}}", "🦀"]
    {
        host.write(line);
    }
    host.write(&"x".repeat(3_000_000));
    host.write(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    host.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}})
            .to_string(),
    );

    let unknown = host.ask("tools/call", json!({"name": "no_such_tool", "arguments": {}}));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    let method = host.ask("no/such/method", json!({}));
    assert_eq!(method["error"]["code"], -32601, "{method}");
    let table = [
        ("view_background_agent", json!({}), "missing field `task_id`"),
        ("view_background_agent", json!({"task_id": 7}), "expected a string"),
        ("view_background_agent", json!({"task_id": "x", "more": 1}), "unknown field `more`"),
        (
            "wait_background_agents",
            json!({"task_ids": []}),
            "task_ids must contain 1 to 100 distinct task IDs",
        ),
        ("wait_background_agents", json!({"task_ids": "x"}), "expected a sequence"),
        ("run_background_agent", json!({}), "agent name must not be empty"),
        ("send_background_agent", json!({"task_id": "x", "message": " "}), "task not found: x"),
    ];
    for (tool, arguments, words) in table {
        let result = host.call(tool, arguments.clone());
        assert!(result["isError"] == true && text(&result).contains(words), "{tool} {arguments} {result}");
    }
    assert!(!host.run("quick").is_empty());
}

#[test]
fn a_request_before_the_handshake_is_an_error() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::start(&state, &[&team]);
    let early = host.ask("tools/list", json!({}));
    assert_eq!(early["error"]["code"], -32602, "{early}");
    assert_eq!(host.initialize()["serverInfo"]["name"], "legwork");
    assert_eq!(host.ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().len(), 6);
}

#[test]
fn a_wait_returns_before_the_host_times_out() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team, "--answer-within", "1s"]);
    let (slow, quick) = (host.run("shell"), host.run("quick"));
    let ids = json!({"task_ids": [slow, quick], "timeout": 300});
    let cut = host.call("wait_background_agents", ids.clone());
    assert_eq!(cut["structuredContent"]["still_running"], json!([slow]), "{cut}");
    let answer: Value = serde_json::from_str(text(&cut)).unwrap();
    let items = &answer["tasks"];
    assert_eq!((&items[0]["status"], &items[1]["status"]), (&json!("running"), &json!("completed")));
    let note = cut["content"][1]["text"].as_str().unwrap();
    assert!(
        note.ends_with(&format!("call wait_background_agents again with task_ids [\"{slow}\"].")),
        "{note}"
    );
    state.file("go", "");
    let mut done = json!(false);
    while done != true {
        done = host.call("wait_background_agents", ids.clone())["structuredContent"]["done"].clone();
    }
}

#[test]
fn a_wait_outlasts_a_restart_of_redis() {
    let mut redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let mut host = Host::connect(&state, &[&team]);
    let id = host.run("shell");
    state.until_output(&id, "marker");
    let params = json!({"name": "wait_background_agents", "arguments": {"task_ids": [id]}});
    let waiting = host.send("tools/call", params);
    redis.kill();
    // A call that does not wait fails with the reason.
    let list = host.call("list_background_agents", json!({}));
    assert!(list["isError"] == true && text(&list).starts_with("the queue is unavailable: "), "{list}");
    redis.restart();
    state.file("go", "");
    let waited = host.answer(waiting)["result"].clone();
    assert_eq!(waited["structuredContent"]["tasks"][0]["status"], "completed", "{waited}");
}

#[test]
fn a_repeated_dispatch_starts_one_job() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    let request = json!({
        "name": "run_background_agent",
        "arguments": {"agent": "quick", "task": "once"},
        "_meta": {"claudecode/toolUseId": "toolu_7"},
    });
    let requests: Vec<u64> = (0..20).map(|_| host.send("tools/call", request.clone())).collect();
    let mut ids: Vec<String> = requests.into_iter().map(|id| id_of(&host.answer(id)["result"])).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(state.legwork(["list", "--json"]).json_lines().len(), 1);
}

#[test]
fn cancelling_a_request_leaves_its_job_running() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    let id = host.run("shell");
    state.until_output(&id, "marker");
    let params = json!({"name": "wait_background_agents", "arguments": {"task_ids": [id]}});
    let waiting = host.send("tools/call", params);
    let cancelled = json!({"requestId": waiting, "reason": "changed my mind"});
    host.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}).to_string(),
    );
    // Answered at once, although the wait would have taken up to 45 s; the job is still running.
    assert!(text(&host.call("list_background_agents", json!({}))).contains("Status:  running"));
    assert!(host.call("stop_background_agent", json!({"task_id": id}))["isError"] == false);
}

#[test]
fn a_cancelled_dispatch_leaves_no_job_running() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    let params = json!({"name": "run_background_agent", "arguments": {"agent": "shell", "task": "go"}});
    let dispatch = host.send("tools/call", params);
    let cancelled = json!({"requestId": dispatch, "reason": "never mind"});
    host.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}).to_string(),
    );
    let ended = |listed: &str| listed.contains("Status:  stopped");
    // The job would run until a file appears that this test never writes.
    until("no job is left", || ended(text(&host.call("list_background_agents", json!({})))));
    let params = json!({"name": "list_background_agents"});
    let without_arguments = host.ask("tools/call", params);
    assert!(without_arguments["result"]["isError"] == false, "{without_arguments}");
}
