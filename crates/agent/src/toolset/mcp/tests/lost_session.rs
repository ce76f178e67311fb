//! A server over streamable HTTP that forgets its sessions, as one does that was restarted or that expires them.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use tokio::sync::Mutex;

use super::*;

/// What the server knows.
#[derive(Debug, Default)]
struct Sessions {
    /// The session that it accepts; earlier ones are unknown.
    current: u32,
    /// The calls that began, in order.
    began: Vec<String>,
    /// Whether the next call begins and its connection then breaks, with the session lost.
    breaks: bool,
}

type Shared = Arc<Mutex<Sessions>>;

async fn respond(State(sessions): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let mut sessions = sessions.lock().await;
    let message: Value = serde_json::from_str(&body).unwrap();
    let json = |session: u32, result: Value| {
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        let headers =
            [("content-type", "application/json".to_owned()), ("mcp-session-id", format!("s{session}"))];
        (headers, answer).into_response()
    };
    if message["method"] == "initialize" {
        sessions.current += 1;
        return json(
            sessions.current,
            json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}),
        );
    }
    let session = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    if session != format!("s{}", sessions.current) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match message["method"].as_str() {
        Some("tools/list") => {
            let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
            // The server that took the place of the first one has another tool too.
            let names: &[&str] = if sessions.current > 10 { &["note", "later"] } else { &["note"] };
            let tools: Vec<Value> = names.iter().map(|name| tool(name)).collect();
            json(sessions.current, json!({"tools": tools}))
        }
        Some("tools/call") => {
            sessions.began.push(message["params"]["arguments"]["text"].as_str().unwrap().to_owned());
            if std::mem::take(&mut sessions.breaks) {
                sessions.current += 1;
                // The stream of the answer ends without one.
                return ([("content-type", "text/event-stream")], "").into_response();
            }
            json(sessions.current, json!({"content": [{"type": "text", "text": "noted"}]}))
        }
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

#[tokio::test]
async fn a_lost_session_is_opened_anew_and_only_a_call_that_never_began_is_repeated() {
    tests::install_tls();
    let fixture = fixture();
    let sessions = Shared::default();
    let app = Router::new().route("/mcp", post(respond)).with_state(Arc::clone(&sessions));
    let url = testing::serve(app).await + "/mcp";
    let remote = mcp(None, json!({"remote": {"url": url, "transport": "streamable_http", "headers": {}}}));
    let kit = fixture.kit(&remote).await.unwrap();
    let note = async |text: &str| call(&kit, "note", json!({"text": text})).await;
    assert_eq!(note("first").await, ToolOutcome::ok("noted"));
    // The server is restarted: it refuses the call, which thus never began.
    sessions.lock().await.current += 10;
    assert_eq!(note("second").await, ToolOutcome::ok("noted"));
    assert_eq!(sessions.lock().await.began, ["first", "second"]);
    let source = kit.source.as_ref().unwrap();
    let (tools, _) = source.changed().await.expect("the tools of the new session are listed");
    let names: Vec<&str> = tools.iter().map(|tool| tool.spec().name.as_str()).collect();
    assert_eq!(names, ["note", "later"]);
    assert!(source.changed().await.is_none(), "once");
    // This call begins before the session is lost.
    sessions.lock().await.breaks = true;
    let lost = note("third").await;
    assert!(lost.is_error, "{lost:?}");
    assert_eq!(sessions.lock().await.began, ["first", "second", "third"]);
    assert_eq!(note("fourth").await, ToolOutcome::ok("noted"));
    assert_eq!(sessions.lock().await.began, ["first", "second", "third", "fourth"]);
    fixture.nursery.close().await;
}
