//! Servers elsewhere: streamable HTTP, and the older way.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::sse::Event;
use axum::response::sse::Sse;
use axum::routing::get;
use axum::routing::post;
use futures::StreamExt;
use futures::stream;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::model::CallToolResult;
use rmcp::model::ListToolsResult;
use rmcp::model::PaginatedRequestParams;
use rmcp::model::ServerCapabilities;
use rmcp::model::ServerConfig;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use tokio::sync::Mutex;
use tokio::sync::mpsc;

use super::*;

/// A server that greets.
#[derive(Clone)]
struct Greeter;

impl ServerHandler for Greeter {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.instructions = Some("Say hello.".into());
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object"}).as_object().unwrap().clone();
        Ok(ListToolsResult::with_all_items(vec![Offered::new("greet", "Greets", schema)]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.arguments.unwrap_or_default()["name"].clone();
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("hello {name}"))]).into())
    }
}

/// Lets in who has the key.
async fn locked(request: Request, next: Next) -> Response {
    if request.headers().get("x-key").is_some_and(|key| key == "sesame") {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn remote(url: &str, transport: &str) -> Mcp {
    rustls::crypto::ring::default_provider().install_default().ok();
    let headers = json!({"X-Key": "${env.KEY}"});
    mcp(None, json!({"remote": {"url": url, "transport": transport, "headers": headers}}))
}

#[tokio::test]
async fn streamable_http_with_headers() {
    let mut fixture = fixture();
    let service = StreamableHttpService::new(
        || Ok(Greeter),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let app = Router::new().nest_service("/mcp", service).layer(middleware::from_fn(locked));
    let url = testing::serve(app).await + "/mcp";
    let refused = fixture.kit(&remote(&url, "streamable_http")).await.unwrap_err();
    assert!(refused.starts_with(&url) && refused.contains("401"), "{refused}");
    fixture.environment.variables.insert("KEY".into(), "sesame".into());
    let hidden = remote("http://127.0.0.1:9/${env.KEY}", "streamable_http");
    let why = fixture.kit(&hidden).await.unwrap_err();
    assert!(why.starts_with("http://127.0.0.1:9/${env.KEY}: ") && !why.contains("sesame"), "{why}");
    let kit = fixture.kit(&remote(&url, "streamable_http")).await.unwrap();
    assert_eq!(kit.instruction.as_deref(), Some("Say hello."));
    assert_eq!(call(&kit, "greet", json!({"name": "Ada"})).await, ToolOutcome::ok("hello \"Ada\""));
    fixture.nursery.close().await;
}

/// What the older way needs: what is to be said, and who says it.
struct Speaker {
    say: mpsc::Sender<String>,
    said: Mutex<Option<mpsc::Receiver<String>>>,
}

async fn listen(State(speaker): State<Arc<Speaker>>) -> impl IntoResponse {
    let said = speaker.said.lock().await.take().unwrap();
    let first = stream::once(async { Event::default().event("endpoint").data("/messages?session=1") });
    let rest = stream::unfold(said, |mut said| async {
        let event = Event::default().event("message").data(said.recv().await?);
        Some((event, said))
    });
    Sse::new(first.chain(rest).map(Ok::<_, Infallible>))
}

async fn message(State(speaker): State<Arc<Speaker>>, headers: HeaderMap, body: String) -> StatusCode {
    assert_eq!(headers["x-key"], "sesame");
    let message: Value = serde_json::from_str(&body).unwrap();
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}},
            "serverInfo": {"name": "old", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "greet", "inputSchema": {"type": "object"}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "hello"}]}),
        _ => return StatusCode::ACCEPTED,
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    speaker.say.send(answer.to_string()).await.unwrap();
    StatusCode::ACCEPTED
}

#[tokio::test]
async fn server_sent_events() {
    let mut fixture = fixture();
    fixture.environment.variables.insert("KEY".into(), "sesame".into());
    let (say, said) = mpsc::channel(10);
    let speaker = Arc::new(Speaker { say, said: Mutex::new(Some(said)) });
    let app = Router::new()
        .route("/sse", get(listen))
        .route("/messages", post(message))
        .layer(middleware::from_fn(locked))
        .route("/foreign", get(|| async { "event: endpoint\ndata: http://elsewhere.invalid/messages\n\n" }))
        .route("/silent", get(|| async { "nothing" }))
        .with_state(speaker);
    let url = testing::serve(app).await;
    for (path, expected) in [
        ("/foreign", "the server wants its messages sent to another host"),
        ("/silent", "the server did not name the address of its messages"),
    ] {
        let why = fixture.kit(&remote(&format!("{url}{path}"), "sse")).await.unwrap_err();
        assert_eq!(why, format!("{url}{path}: {expected}"));
    }
    let kit = fixture.kit(&remote(&format!("{url}/sse"), "sse")).await.unwrap();
    assert_eq!(call(&kit, "greet", json!({})).await, ToolOutcome::ok("hello"));
    fixture.nursery.close().await;
}
