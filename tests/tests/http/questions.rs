//! Approving and denying over HTTP.

use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::client::Server;
use crate::jobs::fleet;

const TEAM: &str = "
permissions: {ask: ['shell']}
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [ops]}
  ops: {model: scripted/any, description: Deploys., instruction: Deploy., toolsets: [{type: shell}]}
";

/// A job that asks, and its first question as it is listed.
fn asking(server: &Server) -> (String, Value) {
    let body = json!({"agent_file": TEAM, "agent": "ops", "task": "go", "approvals": "park"});
    let id = server.post("/v1/jobs", &body).expect(201)["id"].as_str().unwrap().to_owned();
    let listed = || {
        let questions = server.get("/v1/questions")["questions"].clone();
        questions.as_array().unwrap().iter().find(|question| question["id"] == id.as_str()).cloned()
    };
    until("the job asks", || listed().is_some());
    (id.clone(), listed().unwrap())
}

#[test]
fn a_call_is_approved_or_denied_once() {
    let redis = Redis::start();
    let call = json!({"tool_calls": [{"name": "shell", "arguments": {"cmd": "echo it ran"}}]});
    let (state, server) = fleet(&redis, &json!({"ops": [call, {"text": "{{result:0}}"}]}));
    let _worker = state.worker(&[]);
    let (id, question) = asking(&server);
    assert_eq!((&question["kind"], &question["tool"]), (&json!("approval"), &json!("shell")), "{question}");
    assert_eq!(server.get("/v1/stats")["asking"]["jobs"], 1);
    let approve = format!("/v1/jobs/{id}/approve");
    let wrong = server.post(&approve, &json!({"answer": "yes"})).expect(400);
    assert!(wrong["detail"].as_str().unwrap().contains("takes no answer"), "{wrong}");
    let answered = server.post(&approve, &json!({"call": 1})).expect(200);
    assert_eq!(
        (&answered["answer"]["verdict"], &answered["was_answered"]),
        (&json!("approved"), &json!(false))
    );
    state.until_status(&id, "completed");
    assert_eq!(state.view(&id)["result"], "it ran\n");
    server.post(&approve, &json!({})).expect(409);

    let (id, _) = asking(&server);
    let deny = format!("/v1/jobs/{id}/deny");
    server.post(&deny, &json!({"why": "not today"})).expect(200);
    state.until_status(&id, "completed");
    assert_eq!(state.view(&id)["result"], "The user rejected the tool call. Reason: not today");
}
