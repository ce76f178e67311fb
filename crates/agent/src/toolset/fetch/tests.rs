//! Pages on a server of this machine.

use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::StatusCode as Status;
use axum::response::Html;
use axum::response::Redirect;
use axum::routing::get;

use super::*;
use crate::testing;
use crate::toolset::tests::install_tls;

fn fetch_tool(private: &str, seconds: Option<u32>) -> Arc<dyn Tool> {
    with_settings(private, &Fetch { timeout: seconds, ..Fetch::default() })
}

fn with_settings(private: &str, settings: &Fetch) -> Arc<dyn Tool> {
    install_tls();
    let mut environment = testing::environment("/");
    environment.variables.insert(variables::FETCH_PRIVATE.into(), private.into());
    environment.variables.insert("TOKEN".into(), "sesame".into());
    open(&environment, settings).unwrap().tools[0].clone()
}

#[tokio::test]
async fn the_lists_hold_for_urls_and_for_redirects() {
    let url = site(Arc::new(AtomicUsize::new(0))).await;
    let text = async |settings: Fetch, url: String| {
        testing::call(&with_settings("1", &settings), json!({"urls": [url], "format": "text"})).await.text
    };
    let allowed = |host: &str| Fetch { allowed_domains: vec![host.to_owned()], ..Fetch::default() };
    let blocked = |host: &str| Fetch { blocked_domains: vec![host.to_owned()], ..Fetch::default() };
    assert!(text(allowed("127.0.0.0/8"), format!("{url}/")).await.starts_with("Successfully"));
    let refused = text(allowed("example.com"), format!("{url}/")).await;
    assert!(refused.ends_with("127.0.0.1 is not in allowed_domains of this toolset"), "{refused}");
    let refused = text(blocked("127.0.0.1"), format!("{url}/")).await;
    assert!(refused.ends_with("127.0.0.1 is in blocked_domains of this toolset"), "{refused}");
    let refused = text(blocked("169.254.0.0/16"), format!("{url}/inside")).await;
    assert!(refused.ends_with("169.254.169.254 is in blocked_domains of this toolset"), "{refused}");
    let named = url.replace("127.0.0.1", "localhost");
    let refused = text(blocked("127.0.0.0/8"), format!("{named}/")).await;
    assert!(refused.ends_with("localhost is in blocked_domains of this toolset"), "{refused}");
    let private = Fetch { allow_private_ips: Some(false), ..Fetch::default() };
    assert!(text(private, format!("{url}/")).await.contains("is not a public address"));
}

#[tokio::test]
async fn headers_are_sent_to_the_first_site_only() {
    let seen = |headers: HeaderMap| async move {
        headers.get("x-key").map_or("none", |value| value.to_str().unwrap()).to_owned()
    };
    let other = testing::serve(Router::new().route("/", get(seen))).await;
    let target = other.replace("127.0.0.1", "localhost");
    let app = Router::new()
        .route("/", get(seen))
        .route("/near", get(|| async { Redirect::permanent("/") }))
        .route("/far", get(move || async move { Redirect::permanent(&target) }));
    let url = testing::serve(app).await;
    let headers = [("X-Key".to_owned(), "${env.TOKEN}".to_owned())].into();
    let tool = with_settings("1", &Fetch { headers, ..Fetch::default() });
    for (path, expected) in [("/", "sesame"), ("/near", "sesame"), ("/far", "none")] {
        let url = format!("{url}{path}");
        let page = testing::call(&tool, json!({"urls": [url], "format": "text"})).await;
        assert!(page.text.ends_with(&format!("\n\n{expected}")), "{path}: {}", page.text);
    }
}

async fn fetch_one(private: &str, url: &str) -> ToolOutcome {
    testing::call(&fetch_tool(private, None), json!({"urls": [url], "format": "markdown"})).await
}

/// Serves a site whose robots.txt disallows `/secret`. `robots_requests` counts the requests for that file.
async fn site(robots_requests: Arc<AtomicUsize>) -> String {
    let robots = move || async move {
        robots_requests.fetch_add(1, Ordering::Relaxed);
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
        .route("/long", get(|| async { "x".repeat(MAX_PAGE_BYTES + 5) }))
        .route("/slow", get(std::future::pending::<()>));
    testing::serve(app).await
}

#[tokio::test]
async fn one_page_is_text_and_several_are_a_list() {
    let robots_requests = Arc::new(AtomicUsize::new(0));
    let url = site(robots_requests.clone()).await;
    let page = fetch_one("1", &format!("{url}/")).await;
    let expected = format!(
        "Successfully fetched {url}/ (Status: 200, Length: 24 bytes):\n\n# Bats\n\nThey **sleep**.\n"
    );
    assert_eq!(page, ToolOutcome::ok(expected));
    assert_eq!(
        fetch_one("1", &format!("{url}/missing")).await.text,
        format!("Successfully fetched {url}/missing (Status: 404, Length: 4 bytes):\n\ngone")
    );
    assert_eq!(
        fetch_one("1", &format!("{url}/secret")).await,
        ToolOutcome::error(format!("Error fetching {url}/secret: URL blocked by robots.txt"))
    );
    assert!(fetch_one("1", &format!("{url}/long")).await.text.contains("Length: 1048576 bytes"));
    robots_requests.store(0, Ordering::Relaxed);
    let urls = json!([format!("{url}/moved"), format!("{url}/secret"), "nonsense"]);
    let several = testing::call(&fetch_tool("1", None), json!({"urls": urls, "format": "text"})).await;
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
    assert_eq!(robots_requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_site_is_asked_for_the_format_and_binary_content_is_not_shown() {
    let negotiated = |headers: HeaderMap| async move {
        let accept = headers["accept"].to_str().unwrap().to_owned();
        let markdown = accept.starts_with("text/markdown;q=1.0, ");
        if markdown {
            ([("content-type", "text/markdown")], "# Bats")
        } else {
            ([("content-type", "text/html")], "<p>Bats")
        }
    };
    let pdf = || async { ([("content-type", "application/pdf")], "%PDF-1.7 stream") };
    let url = testing::serve(Router::new().route("/page", get(negotiated)).route("/pdf", get(pdf))).await;
    let page = format!("{url}/page");
    assert!(fetch_one("1", &page).await.text.ends_with("(Status: 200, Length: 6 bytes):\n\n# Bats"));
    let html = testing::call(&fetch_tool("1", None), json!({"urls": [page], "format": "html"})).await;
    assert!(html.text.ends_with("<p>Bats"), "{html:?}");
    let pdf = format!("{url}/pdf");
    let reason = "the content is not text and cannot be shown (application/pdf, 15 bytes)";
    assert_eq!(fetch_one("1", &pdf).await, ToolOutcome::error(format!("Error fetching {pdf}: {reason}")));
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused() {
    let url = site(Arc::default()).await;
    let (name, port) = ("localhost", url.rsplit_once(':').unwrap().1);
    for private in ["", "0"] {
        for host in ["127.0.0.1", name, "[::1]"] {
            let refused = fetch_one(private, &format!("http://{host}:{port}/")).await;
            let expected = format!(
                "Error fetching http://{host}:{port}/: {host} is not a public address (the operator may allow it with LEGWORK_FETCH_PRIVATE)"
            );
            assert_eq!(refused, ToolOutcome::error(expected));
        }
    }
    assert!(!fetch_one("1", &format!("http://{name}:{port}/")).await.is_error);
    let allows: fn(IpAddr) -> bool = |ip| ip == IpAddr::from([127, 0, 0, 1]);
    let loopback_only = AddressFilter { allows: Some(allows), setting: variables::FETCH_PRIVATE };
    let spec = fetch_tool("", None).spec().clone();
    let client = || HttpClient::for_pages(loopback_only, true, Arc::default()).unwrap();
    let filtered: Arc<dyn Tool> = Arc::new(FetchTool {
        spec,
        client: client(),
        within_site: client(),
        headers: HeaderMap::new(),
        timeout_seconds: DEFAULT_TIMEOUT_SECONDS,
    });
    let inside = format!("{url}/inside");
    let redirected = testing::call(&filtered, json!({"urls": [inside], "format": "text"})).await;
    let expected = format!(
        "Error fetching {inside}: 169.254.169.254 is not a public address (the operator may allow it with LEGWORK_FETCH_PRIVATE)"
    );
    assert_eq!(redirected, ToolOutcome::error(expected));
    let file = fetch_one("1", "file:///etc/passwd").await;
    assert_eq!(file.text, "Error fetching file:///etc/passwd: only http and https URLs are supported");
}

#[tokio::test]
async fn a_robots_file_that_is_not_found_allows_and_other_errors_block() {
    for (status, blocked) in
        [(Status::NOT_FOUND, false), (Status::FORBIDDEN, true), (Status::BAD_GATEWAY, true)]
    {
        let app = Router::new()
            .route("/robots.txt", get(move || async move { status }))
            .route("/", get(|| async { "hi" }));
        let page = fetch_one("1", &testing::serve(app).await).await;
        assert_eq!(page.text.ends_with("URL blocked by robots.txt"), blocked, "{page:?}");
    }
    let unreachable = fetch_one("1", "http://127.0.0.1:9/").await;
    assert_eq!(
        unreachable,
        ToolOutcome::error("Error fetching http://127.0.0.1:9/: Connection refused (os error 111)")
    );
}

#[tokio::test]
async fn a_slow_page_times_out_and_wrong_arguments_are_errors() {
    let url = site(Arc::default()).await + "/slow";
    let slow = testing::call(&fetch_tool("1", Some(1)), json!({"urls": [url], "format": "html"})).await;
    assert_eq!(slow, ToolOutcome::error(format!("Error fetching {url}: no response within 1 s")));
    let none = testing::call(&fetch_tool("1", None), json!({"urls": [], "format": "html"})).await;
    assert_eq!(none, ToolOutcome::error("at least one URL is required"));
    let invalid = testing::call(&fetch_tool("1", None), json!({"urls": ["x"], "format": "pdf"})).await;
    assert!(
        invalid.is_error && invalid.text.starts_with("invalid arguments for fetch: unknown variant"),
        "{invalid:?}"
    );
}
