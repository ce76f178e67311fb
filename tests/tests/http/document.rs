//! The OpenAPI document and the metrics describe what the server answers.

use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::client::Server;
use crate::client::TEAM;
use crate::jobs::fleet;

/// Checks an answer against the schema of its operation.
fn check(document: &Value, path: &str, method: &str, status: &str, answer: &Value) {
    let answers = &document["paths"][path][method]["responses"][status]["content"];
    let schema = &answers["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} {status}");
    let mut whole = document.clone();
    whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    whole["allOf"] = json!([schema]);
    let validator = jsonschema::validator_for(&whole).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(answer).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {path}: {errors:?} in {answer}");
}

#[test]
fn answers_are_as_the_document_says() {
    let redis = Redis::start();
    let (state, server) = fleet(&redis, &json!({"quick": [{"text": "x"}]}));
    let _worker = state.worker(&[]);
    let document = server.get("/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let job = json!({"agent_file": TEAM, "agent": "quick", "task": "go"});
    let stored = server.post("/v1/jobs", &job).expect(201);
    check(&document, "/v1/jobs", "post", "201", &stored);
    let id = stored["id"].as_str().unwrap();
    server.until_status(id, "completed");
    let batch = json!({"agent_file": TEAM, "jobs": [{"agent": "quick", "task": "go"}]});
    check(&document, "/v1/jobs/batch", "post", "200", &server.post("/v1/jobs/batch", &batch).expect(200));
    for path in ["/v1/jobs", "/v1/stats", "/v1/stats/history", "/v1/workers", "/v1/teams", "/openapi.json"] {
        check(&document, path, "get", "200", &server.get(path));
    }
    for part in ["", "/turns", "/explanation"] {
        let answer = server.get(&format!("/v1/jobs/{id}{part}"));
        check(&document, &format!("/v1/jobs/{{id}}{part}"), "get", "200", &answer);
    }
    check(&document, "/v1/wait", "post", "200", &server.post("/v1/wait", &json!({"ids": [id]})).expect(200));
    let stopped = server.post(&format!("/v1/jobs/{id}/stop"), &json!({})).expect(200);
    check(&document, "/v1/jobs/{id}/stop", "post", "202", &stopped);
    let paused = server.post("/v1/queues/q/pause", &json!({})).expect(200);
    check(&document, "/v1/queues/{queue}/pause", "post", "200", &paused);
}

#[test]
fn metrics_have_the_conventions_names_and_bounded_labels() {
    let redis = Redis::start();
    let (state, server) = fleet(&redis, &json!({"quick": [{"text": "x"}]}));
    let _worker = state.worker(&[]);
    let id = server.dispatch("quick", "go");
    server.until_status(&id, "completed");
    server.post("/v1/queues/nightly/pause", &json!({})).expect(200);
    server.ask("GET", "/v1/jobs/agent_task_00000000-0000-4000-8000-000000000000", &[], b"").expect(404);
    let text = scrape(&server);
    for line in [
        "legwork_queue_jobs{queue=\"default\",state=\"queued\"} 0",
        "legwork_queue_slots{queue=\"default\"} 100",
        "legwork_queue_paused{queue=\"nightly\"} 1",
        "legwork_workers{state=\"serving\"} 1",
        "legwork_jobs_ended_last_hour{status=\"completed\",cause=\"any\"} 1",
        "legwork_http_requests_total{operation=\"dispatch\",status=\"201\"} 1",
        "legwork_http_requests_total{operation=\"view\",status=\"404\"} 1",
        "legwork_redis_ping_seconds_count 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // What a request brings does not become a label.
    assert!(!text.contains("0000-4000-8000"), "{text}");
}

fn scrape(server: &Server) -> String {
    let response = server.ask("GET", "/metrics", &[], b"");
    assert_eq!(
        response.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    String::from_utf8(response.body).unwrap()
}
