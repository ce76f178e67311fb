//! Pages of a server on this machine.

use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::StatusCode as Status;
use axum::response::Html;
use axum::response::Redirect;
use axum::routing::get;

use super::*;
use crate::testing;

fn tool(private: &str, seconds: Option<u32>) -> Arc<dyn Tool> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut environment = testing::environment("/");
    environment.variables.insert(variables::FETCH_PRIVATE.into(), private.into());
    kit(&environment, seconds).unwrap().tools[0].clone()
}

async fn one(private: &str, url: &str) -> ToolOutcome {
    testing::call(&tool(private, None), json!({"urls": [url], "format": "markdown"})).await
}

/// A site; its robots.txt forbids `/secret` and is asked for as often as the number says.
async fn site(asked: Arc<AtomicUsize>) -> String {
    let robots = move || async move {
        asked.fetch_add(1, Ordering::Relaxed);
        "User-agent: *\nDisallow: /secret"
    };
    let app = Router::new()
        .route("/robots.txt", get(robots))
        .route("/", get(|| async { Html("<h1>Bats</h1><p>They <b>sleep</b>.</p>") }))
        .route("/secret", get(|| async { "secret" }))
        .route("/json", get(|| async { axum::Json(json!({"a": 1})) }))
        .route("/missing", get(|| async { (Status::NOT_FOUND, "gone") }))
        .route("/moved", get(|| async { Redirect::permanent("/json") }))
        .route("/inside", get(|| async { Redirect::permanent("http://169.254.169.254/latest") }))
        .route("/long", get(|| async { "x".repeat(PAGE_BYTES + 5) }))
        .route("/slow", get(std::future::pending::<()>));
    testing::serve(app).await
}

#[tokio::test]
async fn one_page_and_several() {
    let asked = Arc::new(AtomicUsize::new(0));
    let url = site(asked.clone()).await;
    let page = one("1", &format!("{url}/")).await;
    let expected = format!(
        "Successfully fetched {url}/ (Status: 200, Length: 24 bytes):\n\n# Bats\n\nThey **sleep**.\n"
    );
    assert_eq!(page, ToolOutcome::ok(expected));
    assert_eq!(
        one("1", &format!("{url}/missing")).await.text,
        format!("Successfully fetched {url}/missing (Status: 404, Length: 4 bytes):\n\ngone")
    );
    assert_eq!(
        one("1", &format!("{url}/secret")).await,
        ToolOutcome::error(format!("Error fetching {url}/secret: URL blocked by robots.txt"))
    );
    assert!(one("1", &format!("{url}/long")).await.text.contains("Length: 1048576 bytes"));
    asked.store(0, Ordering::Relaxed);
    let urls = json!([format!("{url}/moved"), format!("{url}/secret"), "nonsense"]);
    let several = testing::call(&tool("1", None), json!({"urls": urls, "format": "text"})).await;
    let several: Value = serde_json::from_str(&several.text).unwrap();
    assert_eq!(
        several,
        json!([
            {"url": format!("{url}/moved"), "statusCode": 200, "status": "200 OK", "contentType": "application/json",
                "contentLength": 7, "body": "{\"a\":1}"},
            {"url": format!("{url}/secret"), "contentLength": 0, "error": "URL blocked by robots.txt"},
            {"url": "nonsense", "contentLength": 0, "error": "invalid URL: relative URL without a base"},
        ])
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn only_public_addresses() {
    let url = site(Arc::default()).await;
    let (name, port) = ("localhost", url.rsplit_once(':').unwrap().1);
    for private in ["", "0"] {
        for host in ["127.0.0.1", name, "[::1]"] {
            let refused = one(private, &format!("http://{host}:{port}/")).await;
            let expected = format!(
                "Error fetching http://{host}:{port}/: {host} is not a public address (the operator may allow it with LEGWORK_FETCH_PRIVATE)"
            );
            assert_eq!(refused, ToolOutcome::error(expected));
        }
    }
    assert!(!one("1", &format!("http://{name}:{port}/")).await.is_error);
    let here: Allowed = |ip| ip == IpAddr::from([127, 0, 0, 1]);
    let spec = tool("", None).spec().clone();
    let fence: Arc<dyn Tool> =
        Arc::new(Fetch { spec, client: reach::client(here).unwrap(), allowed: here, seconds: TIMEOUT });
    let inside = format!("{url}/inside");
    let redirected = testing::call(&fence, json!({"urls": [inside], "format": "text"})).await;
    let expected = format!(
        "Error fetching {inside}: 169.254.169.254 is not a public address (the operator may allow it with LEGWORK_FETCH_PRIVATE)"
    );
    assert_eq!(redirected, ToolOutcome::error(expected));
    let file = one("1", "file:///etc/passwd").await;
    assert_eq!(file.text, "Error fetching file:///etc/passwd: only http and https URLs are supported");
}

#[tokio::test]
async fn robots_that_cannot_be_read() {
    for (status, blocked) in
        [(Status::NOT_FOUND, false), (Status::FORBIDDEN, true), (Status::BAD_GATEWAY, true)]
    {
        let app = Router::new()
            .route("/robots.txt", get(move || async move { status }))
            .route("/", get(|| async { "hi" }));
        let page = one("1", &testing::serve(app).await).await;
        assert_eq!(page.text.ends_with("URL blocked by robots.txt"), blocked, "{page:?}");
    }
    let nobody = one("1", "http://127.0.0.1:9/").await;
    assert_eq!(
        nobody,
        ToolOutcome::error("Error fetching http://127.0.0.1:9/: Connection refused (os error 111)")
    );
}

#[tokio::test]
async fn limits_of_time() {
    let url = site(Arc::default()).await + "/slow";
    let slow = testing::call(&tool("1", Some(1)), json!({"urls": [url], "format": "html"})).await;
    assert_eq!(slow, ToolOutcome::error(format!("Error fetching {url}: no answer within 1 s")));
    let none = testing::call(&tool("1", None), json!({"urls": [], "format": "html"})).await;
    assert_eq!(none, ToolOutcome::error("at least one URL is required"));
    let wrong = testing::call(&tool("1", None), json!({"urls": ["x"], "format": "pdf"})).await;
    assert!(
        wrong.is_error && wrong.text.starts_with("invalid arguments for fetch: unknown variant"),
        "{wrong:?}"
    );
}
