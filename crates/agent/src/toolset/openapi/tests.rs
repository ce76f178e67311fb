//! A document and its API on a server of this machine.

use axum::Json;
use axum::Router;
use axum::http::HeaderMap as Sent;
use axum::http::Method;
use axum::http::Uri;
use axum::routing::any;
use axum::routing::get;
use legwork_common::variables;
use serde_json::json;

use super::*;
use crate::testing;
use crate::toolset::tests::call;
use crate::toolset::tests::install_tls;
use crate::toolset::tests::names;

fn document() -> Value {
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
        .route("/api.json", get(async || Json(document())))
        .route("/api.yaml", get(async || YAML))
        .route("/old", get(async || Json(json!({"swagger": "2.0"}))))
        .route("/long", get(async || "x".repeat(MAX_DOCUMENT_BYTES + 1)))
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

/// Opens the toolset with the URL from a variable and a secret header.
async fn opened(url: String) -> Result<Kit, String> {
    install_tls();
    let variables = [("SESAME", "sesame"), ("HOST", &url), (variables::API_PRIVATE, "1")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let headers = serde_json::from_value(json!({"X-Key": "open ${env.SESAME}"})).unwrap();
    open(&Environment::new(variables, "/".into()), "${env.HOST}", &headers).await
}

#[tokio::test]
async fn operations_become_tools_and_send_their_parameters() {
    let kit = opened(format!("{}/api.json", server().await)).await.unwrap();
    assert_eq!(names(&kit.tools), ["getPet", "put_pets_id", "get_Pet", "bad"]);
    let expected = [
        "toolset openapi: POST /form skipped: its body is not JSON",
        "toolset openapi: GET /far skipped: it refers to another document",
    ];
    assert_eq!(kit.warnings, expected);
    let [get, put, delete] = [0, 1, 2].map(|at: usize| kit.tools[at].spec());
    assert_eq!([get, put, delete].map(|spec| spec.read_only), [true, false, false]);
    assert_eq!(get.description, "One pet");
    assert_eq!(get.parameters["required"], json!(["path_id"]));
    let arguments = json!({"path_id": 7, "id": "a b", "tags": ["x", "y"], "X-Page": 3});
    let got = call(&kit.tools, "getPet", arguments).await;
    assert_eq!(got, ToolOutcome::ok("GET /v1/pets/7?id=a+b&tags=x&tags=y open sesame 3 "));
    let put = call(&kit.tools, "put_pets_id", json!({"id": "a/../b", "body": {"child": {}}})).await;
    assert_eq!(put, ToolOutcome::ok(r#"PUT /v1/pets/a%2F..%2Fb open sesame - {"child":{}}"#));
}

#[tokio::test]
async fn http_errors_and_invalid_arguments_are_error_results() {
    let kit = opened(format!("{}/api.json", server().await)).await.unwrap();
    assert_eq!(call(&kit.tools, "bad", json!({})).await, ToolOutcome::error("HTTP 418 I'm a teapot\n\ntea"));
    for (arguments, expected) in [
        (json!({}), "missing field `id`"),
        (json!({"id": ""}), "`id` is empty"),
        (json!({"id": ".."}), "a segment of the path would be `.` or `..`"),
        (json!({"id": 1, "x": 2}), "unknown field `x`"),
    ] {
        let refused = call(&kit.tools, "get_Pet", arguments).await;
        assert_eq!(refused, ToolOutcome::error(format!("invalid arguments for get_Pet: {expected}")));
    }
}

#[tokio::test]
async fn documents_may_be_yaml_or_need_a_key_and_invalid_ones_fail() {
    let server = server().await;
    for path in ["api.yaml", "secret"] {
        let kit = opened(format!("{server}/{path}")).await.unwrap();
        assert_eq!(call(&kit.tools, "now", json!({})).await, ToolOutcome::ok("GET /v1/now open sesame - "));
    }
    for (url, expected) in [
        (format!("{server}/old"), "it is not an OpenAPI 3 document: it has no `openapi`"),
        (format!("{server}/none"), "the document cannot be read: HTTP 404 Not Found"),
        (format!("{server}/long"), "the document is larger than 8 MiB"),
        ("file:///etc/passwd".to_owned(), "the URL is not http or https"),
    ] {
        assert_eq!(opened(url).await.unwrap_err(), expected);
    }
    let gone = opened("http://127.0.0.1:9/sesame".to_owned()).await.unwrap_err();
    assert!(gone.starts_with("the document cannot be read: ") && !gone.contains("sesame"), "{gone}");
}

#[test]
fn recursive_references_are_cut_off() {
    let url = Url::parse("https://example.org/x/api.json").unwrap();
    let (operations, _) = document::operations(&document(), &url).unwrap();
    let put = operations.iter().find(|operation| operation.method == Method::PUT).unwrap();
    assert_eq!(put.base, "https://example.org/v1");
    let mut pet = &put.schema["properties"]["body"];
    let mut depth = 0;
    while let Some(child) = pet["properties"].get("child") {
        (pet, depth) = (child, depth + 1);
    }
    assert_eq!((depth, pet), (7, &json!({})));
    let circle = json!({"openapi": "3.0.0", "paths": {"/": {"get": {"parameters": [{"$ref": "#/a"}]}}}, "a": {"$ref": "#/a"}});
    let (operations, warnings) = document::operations(&circle, &url).unwrap();
    assert_eq!(
        (operations.len(), &*warnings),
        (0, &["GET / skipped: its references are nested too deeply".to_owned()][..])
    );
}

#[tokio::test]
async fn headers_stay_with_the_site_of_the_document() {
    let api = server().await;
    let elsewhere = api.replace("127.0.0.1", "localhost");
    let document = json!({"openapi": "3.1.0", "paths": {
        "/v1/near": {"get": {"operationId": "near"}},
        "/v1/far": {"servers": [{"url": elsewhere}], "get": {"operationId": "far"}},
    }});
    // The document's own server has the operations of `server` behind it.
    let app = Router::new().route("/doc.json", get(async move || Json(document))).route(
        "/v1/near",
        get(async |headers: Sent| headers.get("x-key").map_or("-", |key| key.to_str().unwrap()).to_owned()),
    );
    let kit = opened(format!("{}/doc.json", testing::serve(app).await)).await.unwrap();
    assert_eq!(call(&kit.tools, "near", json!({})).await, ToolOutcome::ok("open sesame"));
    let far = call(&kit.tools, "far", json!({})).await;
    assert!(!far.is_error && far.text.starts_with("GET /v1/far - "), "{far:?}");
    assert!(kit.warnings[0].contains("is not sent the headers"), "{:?}", kit.warnings);
}
