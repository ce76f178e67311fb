//! A description and its API on this machine.

use std::collections::BTreeMap;

use axum::Json;
use axum::Router;
use axum::http::HeaderMap as Sent;
use axum::http::Method;
use axum::http::Uri;
use axum::routing::any;
use axum::routing::get;
use serde_json::json;

use super::*;
use crate::testing;

fn description() -> Value {
    json!({
        "openapi": "3.1.0",
        "servers": [{"url": "/{v}/", "variables": {"v": {"default": "v1"}}}],
        "paths": {
            "/pets/{id}": {
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "get": {"operationId": "getPet", "summary": "One pet", "parameters": [
                    {"name": "id", "in": "query", "schema": {"type": "string"}},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "X-Page", "in": "header", "schema": {"type": "integer"}},
                    {"name": "authorization", "in": "header", "schema": {"type": "string"}}]},
                "put": {"requestBody": {"required": true, "content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Pet"}}}}},
                "delete": {"operationId": "get Pet"},
            },
            "/form": {"post": {"operationId": "form", "requestBody": {"required": true, "content": {"text/plain": {}}}}},
            "/far": {"get": {"operationId": "far", "parameters": [{"$ref": "other.json#/x"}]}},
            "/bad": {"get": {"operationId": "bad"}},
        },
        "components": {
            "parameters": {"Id": {"name": "id", "in": "path", "description": "Which pet", "schema": {"type": "integer"}}},
            "schemas": {"Pet": {"type": "object", "properties": {"child": {"$ref": "#/components/schemas/Pet"}}}},
        },
    })
}

const YAML: &str = "openapi: 3.0.3\npaths:\n  /v1/now:\n    get:\n      operationId: now\n      responses:\n        200: {description: ok}\n";

async fn server() -> String {
    let echo = async |method: Method, uri: Uri, headers: Sent, body: String| {
        let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        format!("{method} {uri} {} {} {body}", header("x-key"), header("x-page"))
    };
    let app = Router::new()
        .route("/api.json", get(async || Json(description())))
        .route("/api.yaml", get(async || YAML))
        .route("/old", get(async || Json(json!({"swagger": "2.0"}))))
        .route("/long", get(async || "x".repeat(DESCRIPTION_BYTES + 1)))
        .route(
            "/secret",
            get(async |headers: Sent| match headers.get("x-key") {
                Some(_) => Ok(YAML),
                None => Err(StatusCode::UNAUTHORIZED),
            }),
        )
        .route("/v1/bad", get(async || (StatusCode::IM_A_TEAPOT, "tea")))
        .route("/v1/{*rest}", any(echo));
    testing::serve(app).await
}

async fn open(address: String) -> Result<Kit, String> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let variables =
        BTreeMap::from([("SESAME".to_owned(), "sesame".to_owned()), ("HOST".to_owned(), address)]);
    let headers = serde_json::from_value(json!({"X-Key": "open ${env.SESAME}"})).unwrap();
    kit(&Environment::new(variables, "/".into()), "${env.HOST}", &headers).await
}

async fn call(kit: &Kit, name: &str, arguments: Value) -> ToolOutcome {
    testing::call(kit.tools.iter().find(|tool| tool.spec().name == name).unwrap(), arguments).await
}

#[tokio::test]
async fn operations_are_tools() {
    let kit = open(format!("{}/api.json", server().await)).await.unwrap();
    let names: Vec<&str> = kit.tools.iter().map(|tool| tool.spec().name.as_str()).collect();
    assert_eq!(names, ["getPet", "put_pets_id", "get_Pet", "bad"]);
    let expected = [
        "toolset openapi: POST /form left out: its body is not JSON",
        "toolset openapi: GET /far left out: it refers to another document",
    ];
    assert_eq!(kit.warnings, expected);
    let [one, put, delete] = [0, 1, 2].map(|at: usize| kit.tools[at].spec());
    assert_eq!([one, put, delete].map(|spec| spec.read_only), [true, false, false]);
    assert_eq!(one.description, "One pet");
    assert_eq!(one.parameters["required"], json!(["path_id"]));
    let arguments = json!({"path_id": 7, "id": "a b", "tags": ["x", "y"], "X-Page": 3});
    let got = call(&kit, "getPet", arguments).await;
    assert_eq!(got, ToolOutcome::ok("GET /v1/pets/7?id=a+b&tags=x&tags=y open sesame 3 "));
    let put = call(&kit, "put_pets_id", json!({"id": "a/../b", "body": {"child": {}}})).await;
    assert_eq!(put, ToolOutcome::ok(r#"PUT /v1/pets/a%2F..%2Fb open sesame - {"child":{}}"#));
}

#[tokio::test]
async fn what_cannot_be_called_is_told() {
    let kit = open(format!("{}/api.json", server().await)).await.unwrap();
    assert_eq!(call(&kit, "bad", json!({})).await, ToolOutcome::error("HTTP 418 I'm a teapot\n\ntea"));
    for (arguments, expected) in [
        (json!({}), "missing field `id`"),
        (json!({"id": ""}), "`id` is empty"),
        (json!({"id": ".."}), "a piece of the path would be `.` or `..`"),
        (json!({"id": 1, "x": 2}), "unknown field `x`"),
    ] {
        let told = call(&kit, "get_Pet", arguments).await;
        assert_eq!(told, ToolOutcome::error(format!("invalid arguments for get_Pet: {expected}")));
    }
}

#[tokio::test]
async fn descriptions_in_yaml_behind_a_key_and_broken_ones() {
    let server = server().await;
    for path in ["api.yaml", "secret"] {
        let kit = open(format!("{server}/{path}")).await.unwrap();
        assert_eq!(call(&kit, "now", json!({})).await, ToolOutcome::ok("GET /v1/now open sesame - "));
    }
    for (address, expected) in [
        (format!("{server}/old"), "it is no OpenAPI 3 description: it has no `openapi`"),
        (format!("{server}/none"), "the description cannot be read: HTTP 404 Not Found"),
        (format!("{server}/long"), "the description is over 8 MiB"),
        ("file:///etc/passwd".to_owned(), "the address is not http or https"),
    ] {
        assert_eq!(open(address).await.unwrap_err(), expected);
    }
    let gone = open("http://127.0.0.1:9/sesame".to_owned()).await.unwrap_err();
    assert!(gone.starts_with("the description cannot be read: ") && !gone.contains("sesame"), "{gone}");
}

#[test]
fn references_that_never_end_are_cut() {
    let address = Url::parse("https://example.org/x/api.json").unwrap();
    let (operations, _) = description::operations(&description(), &address).unwrap();
    let put = operations.iter().find(|one| one.method == Method::PUT).unwrap();
    assert_eq!(put.base, "https://example.org/v1");
    let mut pet = &put.schema["properties"]["body"];
    let mut depth = 0;
    while let Some(child) = pet["properties"].get("child") {
        (pet, depth) = (child, depth + 1);
    }
    assert_eq!((depth, pet), (7, &json!({})));
    let circle = json!({"openapi": "3.0.0", "paths": {"/": {"get": {"parameters": [{"$ref": "#/a"}]}}}, "a": {"$ref": "#/a"}});
    let (operations, unusable) = description::operations(&circle, &address).unwrap();
    assert_eq!(
        (operations.len(), &*unusable),
        (0, &["GET / left out: its references go too deep".to_owned()][..])
    );
}
