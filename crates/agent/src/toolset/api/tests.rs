//! Calls to a server on this machine.

use axum::Router;
use axum::extract::RawQuery;
use axum::http::HeaderMap as Headers;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use axum::routing::post;
use legwork_common::variables;
use serde_json::json;

use super::*;
use crate::testing;
use crate::tool::Interrupted;
use crate::toolset::tests::install_tls;

async fn server() -> String {
    let key = |headers: Headers| async move {
        headers.get("x-key").map_or("no key".to_owned(), |value| value.to_str().unwrap().to_owned())
    };
    let app = Router::new()
        .route("/echo/{city}", get(|RawQuery(query): RawQuery| async move { query.unwrap_or_default() }))
        .route(
            "/post",
            post(|headers: Headers, body: String| async move {
                format!("{} {body}", headers["content-type"].to_str().unwrap())
            }),
        )
        .route("/key", get(key))
        .route("/bad", get(|| async { (StatusCode::NOT_FOUND, "nothing here") }))
        .route("/long", get(|| async { "x".repeat(2 * MAX_RESPONSE_BYTES) }))
        .route("/away", get(|| async { Redirect::temporary("http://127.0.0.1:9/") }))
        .route("/near", get(|| async { Redirect::temporary("/key") }));
    testing::serve(app).await
}

async fn tool(endpoint: String, method: &str, args: Value) -> Arc<dyn Tool> {
    tool_with("1", endpoint, method, args).await
}

/// `private` is the operator's setting.
async fn tool_with(private: &str, endpoint: String, method: &str, args: Value) -> Arc<dyn Tool> {
    install_tls();
    let api = json!({"name": "call", "endpoint": endpoint, "method": method, "instruction": "Calls",
        "headers": {"X-Key": "open ${env.SESAME}"}, "args": args, "required": [], "output_schema": null});
    let variables = [("SESAME", "sesame"), (variables::API_PRIVATE, private)];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let environment = Arc::new(Environment::new(variables, "/".into()));
    let kit = open(environment, &serde_json::from_value(api).unwrap()).unwrap();
    kit.tools[0].clone()
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_unless_the_operator_allows_them() {
    let server = server().await;
    let port = server.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let refused = testing::call(
            &tool_with("", format!("http://{host}:{port}/key"), "GET", json!({})).await,
            json!({}),
        )
        .await;
        let expected =
            format!("{host} is not a public address (the operator may allow it with LEGWORK_API_PRIVATE)");
        assert!(refused.is_error && refused.text.ends_with(&expected), "{refused:?}");
    }
}

#[tokio::test]
async fn arguments_fill_the_endpoint_and_the_body() {
    let server = server().await;
    let args = json!({"q": {}, "n": {"type": "integer"}});
    let get = tool(format!("{server}/echo/x?q=${{q}}&n=${{n}}"), "get", args.clone()).await;
    assert!(get.spec().read_only);
    let answer = testing::call(&get, json!({"q": "a b", "n": 2})).await;
    assert_eq!(answer, ToolOutcome::ok("q=a%20b&n=2"));
    let post = tool(format!("{server}/post"), "POST", args).await;
    assert_eq!(post.spec().interrupted, Interrupted::Report);
    let answer = testing::call(&post, json!({"q": "a b", "n": 2})).await;
    assert_eq!(answer, ToolOutcome::ok(r#"application/json {"q":"a b","n":2}"#));
    let unknown = testing::call(&post, json!({"stranger": 1})).await;
    assert_eq!(unknown, ToolOutcome::error("invalid arguments for call: unknown field `stranger`"));
}

#[tokio::test]
async fn secret_headers_are_not_redirected_to_other_hosts() {
    let server = server().await;
    let call = async |path: &str| {
        testing::call(&tool(format!("{server}{path}"), "GET", json!({})).await, json!({})).await
    };
    assert_eq!(call("/key").await, ToolOutcome::ok("open sesame"));
    assert_eq!(call("/near").await, ToolOutcome::ok("open sesame"));
    // Port 9 of the same machine is the same host. No server listens there, and the error must not show the URL.
    let gone = call("/away").await;
    assert!(gone.is_error && gone.text.starts_with("Error calling call: "), "{gone:?}");
    assert!(!gone.text.contains("127.0.0.1:9/"), "{gone:?}");
    let other = server.replace("127.0.0.1", "localhost");
    let elsewhere = tool(format!("{other}/away"), "GET", json!({})).await;
    assert_eq!(testing::call(&elsewhere, json!({})).await.text, "HTTP 307 Temporary Redirect\n\n");
}

#[tokio::test]
async fn http_errors_are_error_results_and_long_responses_are_truncated() {
    let server = server().await;
    let bad = tool(format!("{server}/bad"), "GET", json!({})).await;
    assert_eq!(
        testing::call(&bad, json!({})).await,
        ToolOutcome::error("HTTP 404 Not Found\n\nnothing here")
    );
    let long = testing::call(&tool(format!("{server}/long"), "GET", json!({})).await, json!({})).await;
    assert!(long.text.ends_with("xx\n\n[Output truncated: exceeded 30,000 character limit]"));
}

#[test]
fn an_invalid_method_or_header_fails_the_toolset() {
    install_tls();
    let failure = |method: &str, headers: Value| {
        let api = json!({"name": "call", "endpoint": "http://x", "method": method, "instruction": "",
            "headers": headers, "args": {}, "required": [], "output_schema": null});
        open(Arc::new(testing::environment("/")), &serde_json::from_value(api).unwrap()).unwrap_err()
    };
    assert_eq!(failure("GET IT", json!({})), "`GET IT` is not a valid HTTP method");
    assert_eq!(failure("GET", json!({"a b": ""})), "`a b` is not a valid header name");
    assert_eq!(failure("GET", json!({"A": "x\ny"})), "the value of the header `A` is not valid");
}
