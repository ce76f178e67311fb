//! Dispatch to result, and changes.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::client::Server;
use crate::client::TEAM;

/// A fleet of one worker whose agents answer from this script, and a server.
pub(crate) fn fleet(redis: &Redis, script: &Value) -> (StateFolder, Server) {
    let state = fleet_with(redis, script);
    let server = Server::start(&state, &[]);
    (state, server)
}

/// The same without a server.
pub(crate) fn fleet_with(redis: &Redis, script: &Value) -> StateFolder {
    let mut state = StateFolder::on(&redis.url());
    let script = state.file("script.json", json!({"agents": script}).to_string());
    state.set(variables::SCRIPT, &script);
    state
}

#[test]
fn a_job_is_dispatched_listed_viewed_and_waited_for() {
    let redis = Redis::start();
    let (state, server) = fleet(&redis, &json!({"quick": [{"text": "the answer"}]}));
    let _worker = state.worker(&[]);
    let body = json!({"agent_file": TEAM, "agent": "quick", "task": "go", "timeout": "5m", "notify": "https://example.org/x?a=b"});
    let response = server.post("/v1/jobs", &body);
    let location = response.header("location").unwrap().to_owned();
    let job = response.expect(201);
    let id = job["id"].as_str().unwrap();
    assert_eq!(location, format!("/v1/jobs/{id}"));
    assert_eq!((&job["agent"], &job["timeout_ms"]), (&json!("quick"), &json!(300_000)));
    let notification = json!({
        "url": "https://example.org/x", "state": "waiting", "attempts": 0, "next_attempt_at": null, "detail": null,
    });
    assert_eq!(job["notification"], notification);
    let waited = server.post("/v1/wait", &json!({"ids": [id], "timeout": "40s"})).expect(200);
    assert_eq!(waited["timed_out"], false);
    assert_eq!(waited["jobs"][0]["result"], "the answer");
    let view = server.get(&location);
    assert_eq!(view["status"], "completed");
    assert!(view["output"].as_str().unwrap().ends_with("the answer"), "{view}");
    // Beginnings of ids are found as on the command line.
    let uuid = id.strip_prefix("agent_task_").unwrap();
    assert_eq!(server.get(&format!("/v1/jobs/{}", &uuid[..8]))["id"], id);
    let page = server.get("/v1/jobs?status=completed&agent=quick&limit=1");
    assert_eq!((&page["jobs"][0]["id"], &page["jobs"][1]), (&json!(id), &Value::Null));
    assert!(!server.get(&format!("{location}/turns"))["turns"].as_array().unwrap().is_empty());
    let explained = server.get(&format!("{location}/explanation"));
    assert!(explained["explanation"].as_str().unwrap().contains("is completed"), "{explained}");
    let stats = server.get("/v1/stats");
    assert_eq!(
        (&stats["ended"][0]["completed"], &stats["workers"]["serving"]),
        (&json!(1), &json!(1)),
        "{stats}"
    );
    assert_eq!(server.get("/v1/workers")["workers"][0]["state"], "serving");
}

#[test]
fn a_key_gives_the_same_job_and_another_request_is_a_conflict() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let body = |task: &str| json!({"agent_file": TEAM, "agent": "quick", "task": task}).to_string();
    let ask =
        |task: &str| server.ask("POST", "/v1/jobs", &[("Idempotency-Key", "k1")], body(task).as_bytes());
    let first = ask("go").expect(201);
    assert_eq!(ask("go").expect(201)["id"], first["id"]);
    let conflict = ask("stop");
    assert_eq!(conflict.header("content-type"), Some("application/problem+json"));
    let problem = conflict.expect(409);
    assert_eq!((&problem["code"], &problem["status"]), (&json!("conflict"), &json!(409)), "{problem}");
}

#[test]
fn a_batch_has_an_answer_for_each_job_and_a_wrong_one_stores_nothing() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let batch = |jobs: Value| server.post("/v1/jobs/batch", &json!({"agent_file": TEAM, "jobs": jobs}));
    let job = json!({"agent": "quick", "task": "go"});
    let wrong = batch(json!([job, {"agent": "ghost", "task": "go"}])).expect(404);
    assert_eq!(wrong["detail"], "job 2: no such agent: ghost");
    assert_eq!(server.get("/v1/jobs")["jobs"], json!([]));
    let typo = batch(json!([{"agent": "quick", "task": "go", "colour": 1}])).expect(400);
    assert!(typo["detail"].as_str().unwrap().contains("unknown field `colour`"), "{typo}");
    let secret = json!({"agent": "quick", "task": "go", "notify": "https://a:b@example.org"});
    let refused = batch(json!([secret])).expect(400);
    assert!(refused["detail"].as_str().unwrap().contains("must not contain a user name"), "{refused}");
    let stored = batch(json!([job, job, job])).expect(200);
    assert_eq!(stored["jobs"].as_array().unwrap().len(), 3);
    let session = stored["session"].as_str().unwrap();
    let page = server.get(&format!("/v1/jobs?session={session}"));
    assert_eq!(page["jobs"].as_array().unwrap().len(), 3);
    let stopped = server.post(&format!("/v1/sessions/{session}/stop"), &json!({})).expect(202);
    assert_eq!(stopped["stopped_jobs"], 3, "{stopped}");
}

#[test]
fn a_full_session_is_a_conflict_and_jobs_beyond_a_batch_have_the_problem_in_their_places() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let job = json!({"agent": "quick", "task": "go"});
    let many: Vec<Value> = vec![job; 250];
    let call = json!({"agent_file": TEAM, "jobs": many, "session_jobs": 200});
    let stored = server.post("/v1/jobs/batch", &call).expect(200);
    let answers = stored["jobs"].as_array().unwrap();
    assert!(answers[199]["id"].is_string(), "{}", answers[199]);
    assert_eq!(answers[200]["error"]["code"], "session_full", "{}", answers[200]);
    assert_eq!(answers.len(), 250);
    let one = json!({"agent_file": TEAM, "agent": "quick", "task": "go", "session": stored["session"]});
    let problem = server.post("/v1/jobs", &one).expect(409);
    assert_eq!(problem["code"], "session_full", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("it may have 200"), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("new session"), "{problem}");
}

#[test]
fn jobs_are_stopped_retried_forked_and_sent_messages() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let id = server.dispatch("quick", "go");
    let refused = server.post(&format!("/v1/jobs/{id}/messages"), &json!({"message": "  "}));
    assert_eq!(refused.status, 400);
    server.post(&format!("/v1/jobs/{id}/messages"), &json!({"message": "hello"})).expect(202);
    let early = server.post(&format!("/v1/jobs/{id}/retry"), &json!({})).expect(409);
    assert_eq!(early["code"], "wrong_state", "{early}");
    server.post(&format!("/v1/jobs/{id}/stop"), &json!({})).expect(200);
    assert_eq!(server.until_status(&id, "stopped")["cause"], "operator");
    let again = server.post(&format!("/v1/jobs/{id}/stop"), &json!({})).expect(200);
    assert_eq!(again["status"], "stopped");
    let retried = server.ask("POST", &format!("/v1/jobs/{id}/retry"), &[], b"").expect(201);
    assert_eq!(retried["retry_of"], id);
    let forked = server.post(&format!("/v1/jobs/{id}/fork"), &json!({"task": "another"})).expect(201);
    assert_eq!((&forked["task"], &forked["agent"]), (&json!("another"), &json!("quick")));
    assert!(forked["retry_of"].is_null() && forked["session"] == retried["session"], "{forked}");
    let same = server.post(&format!("/v1/jobs/{id}/fork"), &json!({})).expect(201);
    assert_eq!(same["task"], "go", "a fork of any number of times");
    assert_eq!(server.post(&format!("/v1/jobs/{id}/fork"), &json!({"task": " "})).status, 400);
    assert_eq!(server.post(&format!("/v1/jobs/{id}/retry"), &json!({})).expect(409)["status"], 409);
    let unknown = server.ask("GET", "/v1/jobs/agent_task_00000000-0000-4000-8000-000000000000", &[], b"");
    assert_eq!(unknown.expect(404)["code"], "not_found");
}

#[test]
fn queues_are_paused_and_workers_drained() {
    let redis = Redis::start();
    let (state, server) = fleet(&redis, &json!({"quick": [{"text": "x"}]}));
    let mut worker = state.worker(&[]);
    assert_eq!(server.post("/v1/queues/default/pause", &json!({})).expect(200)["paused"], true);
    let id = server.dispatch("quick", "go");
    assert_eq!(server.get(&format!("/v1/jobs/{id}"))["waits_for"]["reason"], "paused");
    server.post("/v1/queues/default/unpause", &json!({})).expect(200);
    server.until_status(&id, "completed");
    let name = server.get("/v1/workers")["workers"][0]["id"].as_str().unwrap().to_owned();
    server.post(&format!("/v1/workers/{name}/drain"), &json!({})).expect(202);
    assert_eq!(worker.wait(), 0);
}

#[test]
fn a_server_on_this_machine_starts_workers_and_serves_the_files_that_it_was_given() {
    let mut state = StateFolder::embedded();
    let script = state.file("script.json", json!({"agents": {"quick": [{"text": "here"}]}}).to_string());
    state.set(variables::SCRIPT, &script);
    let file = state.file("review.yaml", TEAM);
    let server = Server::start(&state, &[&file]);
    let teams = server.get("/v1/teams");
    assert_eq!(teams["teams"]["review"][1]["name"], "quick", "{teams}");
    let other = server.post("/v1/jobs", &json!({"agent_file": TEAM, "agent": "quick", "task": "go"}));
    assert_eq!(other.expect(400)["detail"], "this server takes no other agent files than review");
    let job = server.post("/v1/jobs", &json!({"team": "review", "agent": "quick", "task": "go"})).expect(201);
    let ended = server.until_status(job["id"].as_str().unwrap(), "completed");
    assert_eq!(ended["result"], "here");
    // A fork is another order: it runs the files of the server and no others.
    let fork = format!("/v1/jobs/{}/fork", ended["id"].as_str().unwrap());
    server.post(&fork, &json!({"task": "again"})).expect(201);
    let other = state.file("other.yaml", TEAM.replace("Answer.", "Answer briefly."));
    drop(server);
    let server = Server::start(&state, &[&other]);
    let refused = server.post(&fork, &json!({"task": "again"})).expect(400);
    assert!(refused["detail"].as_str().unwrap().contains("does not take"), "{refused}");
    drop(server);

    // Without the script its worker would only reject the job.
    state.set(variables::SCRIPT, "");
    let file = state.file("keyed.yaml", "agents: {root: {model: openai/gpt-4o}}\n");
    let server = Server::start(&state, &[&file]);
    let refused = server.post("/v1/jobs", &json!({"agent": "root", "task": "go"})).expect(400);
    assert_eq!(refused["code"], "missing_key", "{refused}");
}

#[test]
fn a_budget_in_money_is_refused_where_a_price_is_not_known() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let body = json!({"agent_file": TEAM, "agent": "quick", "task": "go"});
    for key in ["budget", "session_budget"] {
        let mut body = body.clone();
        body[key] = json!("$1");
        let problem = server.post("/v1/jobs", &body).expect(400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("the price of scripted/any is not known"), "{problem}");
    }
    assert_eq!(server.get("/v1/jobs")["jobs"], json!([]));
}
