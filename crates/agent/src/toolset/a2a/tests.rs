//! Agents of both protocol versions on servers of this machine.

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap as Sent;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::routing::post;
use legwork_common::service::CallIndex;
use legwork_common::variables;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::testing;
use crate::toolset::tests::install_tls;

/// The calls that an agent received: method, parameters, and the headers `X-Key` and `A2A-Version`.
type Calls = mpsc::Receiver<(String, Value, String)>;

/// Serves an agent with this card, which replies with what `answer` returns. Returns its URL.
async fn agent(
    card: Value,
    answer: impl Fn(&str, &Value) -> Value + Clone + Send + Sync + 'static,
) -> (String, Calls) {
    install_tls();
    let (sender, calls) = mpsc::channel(100);
    let serve = async move |headers: Sent, Json(call): Json<Value>| {
        let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        let (method, params) = (call["method"].as_str().unwrap().to_owned(), call["params"].clone());
        let answer = answer(&method, &params);
        sender
            .send((method, params, format!("{} {}", header("x-key"), header("a2a-version"))))
            .await
            .unwrap();
        match answer {
            // A list is a stream of events; a string in it breaks the stream off.
            Value::Array(events) => {
                let events = futures::stream::iter(events).then(async |event| match event {
                    Value::String(reason) => {
                        // What was sent before it must have left the server.
                        sleep(Duration::from_millis(50)).await;
                        Err(std::io::Error::other(reason))
                    }
                    event => Ok(format!("data: {event}\n\n")),
                });
                let body = Body::from_stream(events);
                ([("content-type", "text/event-stream")], body).into_response()
            }
            answer => Json(answer).into_response(),
        }
    };
    let app = Router::new()
        .route("/.well-known/agent-card.json", get(async move || Json(card)))
        .route("/rpc", post(serve))
        .route("/other/.well-known/agent-card.json", get(async || "no card"));
    (testing::serve(app).await, calls)
}

fn card_v1() -> Value {
    json!({"name": "Weather agent!", "description": "Knows the weather", "skills": [{"name": "rain", "description": "tells of it"}],
        "supportedInterfaces": [{"url": "/grpc", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
            {"url": "/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"}]})
}

fn card_v0() -> Value {
    json!({"name": "old", "description": "", "url": "/rpc", "protocolVersion": "0.3.0"})
}

async fn opened(name: Option<&str>, url: &str) -> Result<Kit, String> {
    let variables = [("SESAME", "sesame"), (variables::API_PRIVATE, "1")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let headers = serde_json::from_value(json!({"X-Key": "open ${env.SESAME}"})).unwrap();
    let polling = Polling {
        first_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(2),
        task_timeout: Duration::from_secs(2),
    };
    let environment = Environment::new(variables, "/".into());
    let nursery = Nursery::new(Arc::clone(&environment.guard));
    open(&environment, (name, url, &headers), polling, &nursery).await
}

async fn send(kit: &Kit, message: &str) -> ToolOutcome {
    testing::call(&kit.tools[0], json!({"message": message})).await
}

fn task(state: &str, more: Value) -> Value {
    let mut task = json!({"id": "t1", "contextId": "c1", "status": {"state": state}});
    for (key, value) in more.as_object().into_iter().flatten() {
        task[key] = value.clone();
    }
    task
}

#[tokio::test]
async fn a_task_is_polled_until_it_completes() {
    let (server, mut calls) = agent(card_v1(), |method, _| match method {
        "SendMessage" => json!({"result": {"task": task("TASK_STATE_SUBMITTED", json!({}))}}),
        _ => {
            let parts = json!([{"parts": [{"text": "Rain"}, {"data": {"mm": 3}}, {"url": "x"}]}, {"parts": [{"text": "Bye"}]}]);
            json!({"result": task("TASK_STATE_COMPLETED", json!({"artifacts": parts}))})
        }
    })
    .await;
    // There is no card below this URL, so it is read from the root of the host.
    let kit = opened(None, &format!("{server}/rpc")).await.unwrap();
    let spec = kit.tools[0].spec();
    assert_eq!((spec.name.as_str(), spec.read_only), ("Weather_agent_", false));
    assert_eq!(spec.description, "Knows the weather\n- rain: tells of it");
    assert_eq!(send(&kit, "hi").await, ToolOutcome::ok("Rain\n{\"mm\":3}\nBye"));
    let (method, sent, headers) = calls.recv().await.unwrap();
    assert_eq!((method.as_str(), headers.as_str()), ("SendMessage", "open sesame 1.0"));
    assert_eq!((&sent["message"]["parts"], &sent["tenant"]), (&json!([{"text": "hi"}]), &json!("t")));
    assert_eq!(sent["message"]["messageId"].as_str().unwrap().len(), 32);
    let (method, sent, _) = calls.recv().await.unwrap();
    assert_eq!((method.as_str(), sent), ("GetTask", json!({"id": "t1", "tenant": "t"})));
}

fn streaming(mut card: Value) -> Value {
    card["capabilities"] = json!({"streaming": true});
    card
}

fn chunk(text: &str, append: bool) -> Value {
    json!({"result": {"taskId": "t1", "contextId": "c1", "append": append,
        "artifact": {"artifactId": "a", "parts": [{"kind": "text", "text": text}]}}})
}

#[tokio::test]
async fn a_task_of_a_streaming_agent_is_streamed_and_its_chunks_are_joined() {
    let done = json!({"result": {"taskId": "t1", "contextId": "c1", "status": {"state": "completed"}, "final": true}});
    let events = json!([{"result": task("submitted", json!({"kind": "task"}))}, chunk("Sun", false), chunk("ny", true), done]);
    let (server, mut calls) = agent(streaming(card_v0()), move |_, _| events.clone()).await;
    let kit = opened(None, &server).await.unwrap();
    assert_eq!(send(&kit, "weather?").await, ToolOutcome::ok("Sunny"));
    let (method, sent, _) = calls.recv().await.unwrap();
    assert_eq!((method.as_str(), sent.get("configuration")), ("message/stream", None));
    assert!(calls.try_recv().is_err(), "the task is neither polled nor cancelled");

    let (server, mut calls) = agent(streaming(card_v1()), |_, _| {
        let done = json!({"taskId": "t1", "status": {"state": "TASK_STATE_FAILED", "message": {"parts": [{"text": "Fog."}]}}});
        json!([{"result": {"statusUpdate": done}}])
    })
    .await;
    let kit = opened(None, &server).await.unwrap();
    assert_eq!(send(&kit, "hi").await, ToolOutcome::error("The agent's task is failed. Fog."));
    let (method, sent, headers) = calls.recv().await.unwrap();
    assert_eq!((method.as_str(), headers.as_str()), ("SendStreamingMessage", "open sesame 1.0"));
    assert_eq!(sent["tenant"], "t");
}

#[tokio::test]
async fn a_stream_that_ends_early_is_continued_by_polling() {
    for ending in [
        json!("connection lost"),
        json!({"result": {"taskId": "t1", "status": {"state": "working"}, "final": true}}),
    ] {
        let (server, mut calls) = agent(streaming(card_v0()), move |method, _| match method {
            "message/stream" => json!([chunk("Ra", false), ending]),
            _ => json!({"result": task("completed", json!({"artifacts": [{"parts": [{"text": "Ra"}, {"text": "in"}]}]}))}),
        })
        .await;
        let kit = opened(None, &server).await.unwrap();
        assert_eq!(send(&kit, "weather?").await, ToolOutcome::ok("Rain"));
        assert_eq!(calls.recv().await.unwrap().0, "message/stream");
        assert_eq!(calls.recv().await.unwrap().0, "tasks/get");
    }
    let (server, mut calls) = agent(streaming(card_v0()), |_, _| json!(["lost at once"])).await;
    let kit = opened(None, &server).await.unwrap();
    let lost = send(&kit, "weather?").await;
    let expected = "Error calling old: its answer broke off, and its outcome is unknown";
    assert_eq!(lost, ToolOutcome::error(expected));
    assert_eq!(calls.recv().await.unwrap().0, "message/stream");
    assert!(calls.try_recv().is_err(), "the message is not sent again");
}

#[tokio::test]
async fn an_agent_that_refuses_to_stream_is_sent_the_message_and_a_plain_answer_is_taken() {
    let (server, mut calls) = agent(streaming(card_v0()), |method, _| match method {
        "message/stream" => json!({"error": {"code": -32004, "message": "no streams"}}),
        _ => json!({"result": {"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": "Sun"}]}}),
    })
    .await;
    let kit = opened(None, &server).await.unwrap();
    assert_eq!(send(&kit, "weather?").await, ToolOutcome::ok("Sun"));
    assert_eq!(
        [calls.recv().await.unwrap().0, calls.recv().await.unwrap().0],
        ["message/stream", "message/send"]
    );
    let (server, _calls) =
        agent(streaming(card_v0()), |_, _| json!({"result": task("completed", json!({}))})).await;
    assert_eq!(send(&opened(None, &server).await.unwrap(), "hi").await, ToolOutcome::ok(""));
}

#[tokio::test]
async fn a_dropped_call_of_a_streaming_agent_cancels_the_task() {
    let (server, mut calls) = agent(streaming(card_v0()), |method, _| match method {
        "message/stream" => json!([chunk("Ra", false), "lost"]),
        _ => json!({"result": task("working", json!({}))}),
    })
    .await;
    let kit = opened(None, &server).await.unwrap();
    let context = ToolContext {
        safety: None,
        call: CallIndex { turn: 1, index: 0 },
        person: None,
        cancel: CancellationToken::new(),
    };
    let mut until = async |wanted: &str| while calls.recv().await.unwrap().0 != wanted {};
    tokio::select! {
        outcome = kit.tools[0].call(json!({"message": "hi"}), &context) => panic!("{outcome:?}"),
        () = until("tasks/get") => {}
    }
    until("tasks/cancel").await;
}

#[tokio::test]
async fn a_message_answers_the_question_of_an_agent_of_version_0() {
    let (server, mut calls) = agent(card_v0(), |_, params| match params["message"]["taskId"].as_str() {
        None => {
            let asked = json!({"state": "input-required", "message": {"parts": [{"kind": "text", "text": "Where?"}]}});
            json!({"result": task("", json!({"kind": "task", "status": asked}))})
        }
        Some(_) => json!({"result": {"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": "Sun"}]}}),
    })
    .await;
    let kit = opened(Some("my weather"), &server).await.unwrap();
    assert_eq!(kit.tools[0].spec().name, "my_weather");
    let asked = send(&kit, "weather?").await;
    assert_eq!(asked, ToolOutcome::ok("The agent needs more input; your next message answers it:\n\nWhere?"));
    assert_eq!(send(&kit, "here").await, ToolOutcome::ok("Sun"));
    assert!(calls.recv().await.unwrap().1["message"].get("taskId").is_none());
    let (method, sent, headers) = calls.recv().await.unwrap();
    assert_eq!((method.as_str(), headers.as_str()), ("message/send", "open sesame -"));
    assert_eq!((&sent["message"]["taskId"], &sent["message"]["contextId"]), (&json!("t1"), &json!("c1")));
    send(&kit, "and now?").await;
    assert!(calls.recv().await.unwrap().1["message"].get("taskId").is_none());
}

#[tokio::test]
async fn failed_tasks_and_refused_calls_are_error_results() {
    let (server, _calls) =
        agent(card_v0(), |_, params| match params["message"]["parts"][0]["text"].as_str() {
            Some("refuse") => json!({"error": {"code": -32600, "message": "no"}}),
            Some("nonsense") => json!({"result": {}}),
            state => {
                let reason = json!({"parts": [{"kind": "text", "text": "Sorry."}]});
                json!({"result": task("", json!({"status": {"state": state, "message": reason}}))})
            }
        })
        .await;
    let kit = opened(None, &server).await.unwrap();
    for (message, expected) in [
        ("failed", "The agent's task is failed. Sorry."),
        ("rejected", "The agent's task is rejected. Sorry."),
        ("canceled", "The agent's task is canceled. Sorry."),
        ("auth-required", "The agent's task is auth-required. Sorry."),
        ("refuse", "Error calling old: the agent refused: no (code -32600)"),
        ("nonsense", "Error calling old: the agent's response is neither a message nor a task"),
    ] {
        assert_eq!(send(&kit, message).await, ToolOutcome::error(expected));
    }
}

#[tokio::test]
async fn a_cancelled_or_dropped_call_cancels_the_task() {
    let (server, mut calls) =
        agent(card_v1(), |_, _| json!({"result": task("TASK_STATE_WORKING", json!({}))})).await;
    let kit = opened(None, &server).await.unwrap();
    let context = ToolContext {
        safety: None,
        call: CallIndex { turn: 1, index: 0 },
        person: None,
        cancel: CancellationToken::new(),
    };
    let mut until = async |wanted: &str| while calls.recv().await.unwrap().0 != wanted {};
    let calling = kit.tools[0].call(json!({"message": "hi"}), &context);
    tokio::select! {
        outcome = calling => panic!("{outcome:?}"),
        () = until("GetTask") => {}
    }
    until("CancelTask").await;
    let calling = kit.tools[0].call(json!({"message": "hi"}), &context);
    let watching = async {
        until("GetTask").await;
        context.cancel.cancel();
        until("CancelTask").await;
    };
    let (outcome, ()) = tokio::join!(calling, watching);
    assert_eq!(outcome, ToolOutcome::error("Error calling Weather_agent_: cancelled"));
}

#[tokio::test]
async fn a_task_that_does_not_end_is_cancelled() {
    let (server, mut calls) =
        agent(card_v1(), |_, _| json!({"result": task("TASK_STATE_WORKING", json!({}))})).await;
    let kit = opened(None, &server).await.unwrap();
    let watching = async { while calls.recv().await.unwrap().0 != "CancelTask" {} };
    let (outcome, ()) = tokio::join!(send(&kit, "hi"), watching);
    let expected = "Error calling Weather_agent_: its task did not end within 2s";
    assert_eq!(outcome, ToolOutcome::error(expected));
}

#[tokio::test]
async fn agents_that_cannot_be_used_fail_the_toolset() {
    let failure = |card: Value| {
        let url = Url::parse("http://127.0.0.1/a").unwrap();
        Card::read(&card, &url).unwrap_err()
    };
    let grpc = json!({"url": "/x", "preferredTransport": "GRPC"});
    assert_eq!(failure(grpc), "the agent's card has no JSON-RPC interface");
    let newer = json!({"url": "/x", "protocolVersion": "2.0"});
    assert_eq!(failure(newer), "the agent speaks version 2.0 of the protocol, not 0.3 or 1.0");
    let elsewhere = json!({"name": "e", "url": "http://localhost/rpc", "protocolVersion": "0.3.0"});
    let (server, _calls) = agent(elsewhere, |_, _| json!({})).await;
    let reason = opened(None, &server).await.unwrap_err();
    assert_eq!(reason, "the agent's card names another host, to which the headers must not be sent");
    let reason = opened(None, &format!("{server}/other")).await.unwrap_err();
    assert!(reason.starts_with("the agent's card is not JSON: "), "{reason}");
    let reason = opened(None, "http://127.0.0.1:9/sesame").await.unwrap_err();
    assert!(
        reason.starts_with("the agent's card cannot be read: ") && !reason.contains("sesame"),
        "{reason}"
    );
}
