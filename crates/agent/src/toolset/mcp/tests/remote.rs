//! Remote servers: streamable HTTP, and the older HTTP+SSE.

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
use rmcp::model::CallToolResponse;
use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
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

/// A server with one tool, `greet`.
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
        Ok(ListToolsResult::with_all_items(vec![ServerTool::new("greet", "Greets", schema)]))
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

/// Refuses requests without the key.
async fn require_key(request: Request, next: Next) -> Response {
    if request.headers().get("x-key").is_some_and(|key| key == "sesame") {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn remote(url: &str, transport: &str) -> Mcp {
    tests::install_tls();
    let headers = json!({"X-Key": "${env.KEY}"});
    mcp(None, json!({"remote": {"url": url, "transport": transport, "headers": headers}}))
}

#[tokio::test]
async fn streamable_http_servers_get_the_headers() {
    let mut fixture = fixture();
    let service = StreamableHttpService::new(
        || Ok(Greeter),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let app = Router::new().nest_service("/mcp", service).layer(middleware::from_fn(require_key));
    let url = testing::serve(app).await + "/mcp";
    let refused = fixture.kit(&remote(&url, "streamable_http")).await.unwrap_err();
    assert!(refused.starts_with(&url) && refused.contains("401"), "{refused}");
    fixture.environment.variables.insert("KEY".into(), "sesame".into());
    let hidden = remote("http://127.0.0.1:9/${env.KEY}", "streamable_http");
    let reason = fixture.kit(&hidden).await.unwrap_err();
    assert!(reason.starts_with("http://127.0.0.1:9/${env.KEY}: ") && !reason.contains("sesame"), "{reason}");
    let kit = fixture.kit(&remote(&url, "streamable_http")).await.unwrap();
    assert_eq!(kit.instruction.as_deref(), Some("Say hello."));
    assert_eq!(call(&kit, "greet", json!({"name": "Ada"})).await, ToolOutcome::ok("hello \"Ada\""));
    fixture.nursery.close().await;
}

/// A server of the older transport: the messages for its event stream, whose receiver the first connection takes.
struct SseServer {
    sender: mpsc::Sender<String>,
    messages: Mutex<Option<mpsc::Receiver<String>>>,
}

async fn event_stream(State(server): State<Arc<SseServer>>) -> impl IntoResponse {
    let messages = server.messages.lock().await.take().unwrap();
    let first = stream::once(async { Event::default().event("endpoint").data("/messages?session=1") });
    let rest = stream::unfold(messages, |mut messages| async {
        let event = Event::default().event("message").data(messages.recv().await?);
        Some((event, messages))
    });
    Sse::new(first.chain(rest).map(Ok::<_, Infallible>))
}

async fn message(State(server): State<Arc<SseServer>>, headers: HeaderMap, body: String) -> StatusCode {
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
    server.sender.send(answer.to_string()).await.unwrap();
    StatusCode::ACCEPTED
}

#[tokio::test]
async fn servers_of_the_older_transport_are_called() {
    let mut fixture = fixture();
    fixture.environment.variables.insert("KEY".into(), "sesame".into());
    let (sender, receiver) = mpsc::channel(10);
    let server = Arc::new(SseServer { sender, messages: Mutex::new(Some(receiver)) });
    let app = Router::new()
        .route("/sse", get(event_stream))
        .route("/messages", post(message))
        .layer(middleware::from_fn(require_key))
        .route("/foreign", get(|| async { "event: endpoint\ndata: http://elsewhere.invalid/messages\n\n" }))
        .route("/silent", get(|| async { "nothing" }))
        .with_state(server);
    let url = testing::serve(app).await;
    for (path, expected) in [
        ("/foreign", "the URL that the server named for messages is on another host"),
        ("/silent", "the server did not name the URL for messages"),
    ] {
        let reason = fixture.kit(&remote(&format!("{url}{path}"), "sse")).await.unwrap_err();
        assert_eq!(reason, format!("{url}{path}: {expected}"));
    }
    let kit = fixture.kit(&remote(&format!("{url}/sse"), "sse")).await.unwrap();
    assert_eq!(call(&kit, "greet", json!({})).await, ToolOutcome::ok("hello"));
    fixture.nursery.close().await;
}
