//! Tokens, roles, and other sites.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::client::Server;
use crate::client::TEAM;

const VIEWER: &str = "viewer-viewer-viewer";
const DISPATCHER: &str = "dispatcher-dispatcher";
const OPERATOR: &str = "operator-operator-operator";

/// A server with a token for each role.
fn guarded(redis: &Redis) -> (StateFolder, Server) {
    let state = StateFolder::on(&redis.url());
    let lines = format!("wall viewer {VIEWER}\nci dispatcher {DISPATCHER}\nboss operator {OPERATOR}\n");
    let tokens = state.file("tokens", lines);
    let server = Server::start(&state, &["--tokens", &tokens]);
    (state, server)
}

#[test]
fn every_operation_of_the_document_refuses_a_missing_and_a_wrong_token() {
    let redis = Redis::start();
    let (_state, mut server) = guarded(&redis);
    let document = server.get("/openapi.json");
    for token in [None, Some("wrong-wrong-wrong-wrong")] {
        if let Some(token) = token {
            server.with_token(token);
        }
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let path = path.replace("{id}", "abcd").replace("{queue}", "default");
                let response = server.ask(&method.to_uppercase(), &path, &[], b"");
                if operation.get("security").is_none() {
                    assert_eq!(response.status, 200, "{path}");
                    continue;
                }
                assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{path}");
                let problem = response.expect(401);
                assert_eq!(problem["detail"], "a bearer token is required", "{path}");
            }
        }
    }
}

#[test]
fn each_role_may_do_its_own() {
    let redis = Redis::start();
    let (_state, mut server) = guarded(&redis);
    let job = json!({"agent_file": TEAM, "agent": "quick", "task": "go"});
    server.with_token(DISPATCHER);
    let id = server.post("/v1/jobs", &job).expect(201)["id"].as_str().unwrap().to_owned();
    let status = |server: &Server, path: &str, body: &Value| server.post(path, body).status;
    assert_eq!(status(&server, "/v1/queues/default/pause", &json!({})), 403);
    // A person decides, not the program that dispatched the job.
    for path in ["approve", "deny"] {
        assert_eq!(status(&server, &format!("/v1/jobs/{id}/{path}"), &json!({})), 403);
    }
    server.with_token(VIEWER);
    assert_eq!(server.get("/v1/jobs")["jobs"][0]["id"], id);
    assert_eq!(status(&server, "/v1/jobs", &job), 403);
    assert_eq!(status(&server, &format!("/v1/jobs/{id}/stop"), &json!({})), 403);
    server.with_token(OPERATOR);
    let refused = server.post("/v1/jobs", &job).expect(403);
    assert_eq!(refused["detail"], "this token has not the role dispatcher");
    assert_eq!(status(&server, "/v1/queues/default/pause", &json!({})), 200);
    assert_eq!(status(&server, &format!("/v1/jobs/{id}/stop"), &json!({})), 200);
}

#[test]
fn without_tokens_only_this_machine_is_answered_and_no_page_of_another_site() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let public = state.legwork(["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(public.status, 2, "{public:?}");
    assert!(public.stderr.contains("needs a token\nhint: set LEGWORK_TOKEN or --tokens"), "{public:?}");
    let server = Server::start(&state, &[]);
    for headers in [[("Host", "evil.example")], [("Origin", "https://evil.example")]] {
        let response = server.ask("GET", "/v1/jobs", &headers, b"");
        assert_eq!(response.status, 403, "{headers:?}");
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
    // A form of another site cannot send JSON.
    let form = server.ask("POST", "/v1/jobs", &[("Content-Type", "text/plain")], b"{}");
    assert_eq!(form.status, 415);

    state.set(variables::TOKEN, "abc");
    let short = state.legwork(["serve"]);
    assert_eq!(short.status, 2, "{short:?}");
    assert!(
        short.stderr.starts_with("error: the token of LEGWORK_TOKEN has less than 16 characters\nhint: "),
        "{short:?}"
    );
    state.set(variables::TOKEN, "from-the-environment");
    let mut server = Server::start(&state, &[]);
    assert_eq!(server.ask("GET", "/v1/jobs", &[], b"").status, 401);
    server.with_token("from-the-environment");
    server.post("/v1/queues/default/pause", &json!({})).expect(200);
}

#[test]
fn a_file_of_tokens_that_is_wrong_is_an_error_that_hides_them() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let tokens = state.file("tokens", "ci admin not-to-be-shown-ever\n");
    let failed = state.legwork(["serve", "--tokens", &tokens]);
    assert_eq!(failed.status, 2);
    assert!(
        failed.stderr.starts_with("error: line 1 of the tokens: `admin` is not a role\nhint: "),
        "{failed:?}"
    );
    assert!(!failed.stderr.contains("not-to-be-shown"), "{failed:?}");
}
