//! Responses that no well-behaved provider sends, byte for byte.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::model::provider::http::Timeouts;

/// The head of a stream that ends with the connection.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// The outcome of one call whose response is `head` and then `pieces`, 40 ms apart. The connection stays open where
/// `hangs`.
async fn answered(head: &str, pieces: &[&str], hangs: bool) -> Result<AssistantMessage, ModelError> {
    answered_with(json!({}), head, pieces, hangs).await
}

/// As [`answered`], with these `provider_opts` of the model.
async fn answered_with(
    options: Value,
    head: &str,
    pieces: &[&str],
    hangs: bool,
) -> Result<AssistantMessage, ModelError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 65536];
        let _read = connection.read(&mut request).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        for piece in pieces {
            if connection.write_all(piece.as_bytes()).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        if hangs {
            std::future::pending::<()>().await;
        }
        connection.shutdown().await.ok();
        std::future::pending::<Result<AssistantMessage, ModelError>>().await
    };
    let mut settings = ModelSettings::inline("openai", "m").unwrap();
    settings.base_url = Some(url);
    settings.provider_opts = serde_json::from_value(options).unwrap();
    let short = Duration::from_millis(400);
    let timeouts = Timeouts { first_byte: short, between_bytes: short, between_events: 2 * short };
    let models = ProviderModels { timeouts, ..models() };
    let request = hello();
    let deltas = Deltas::default();
    let asking = stream(&models, &settings, &request, &deltas);
    tokio::select! {
        answer = asking => answer,
        answer = serving => answer,
    }
}

#[tokio::test]
async fn a_stream_is_whole_with_its_finish_reason_and_cut_without() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let done = "data: [DONE]\n\n";
    for (pieces, hangs) in [
        (vec![text, stop, done], false),
        (vec![text, stop], false),
        (vec![text, done], false),
        (vec![text, stop, done], true),
        (vec![text, stop], true),
        (vec![text, done], true),
    ] {
        assert_eq!(answered(HEAD, &pieces, hangs).await.unwrap().text, "hi", "{pieces:?} {hangs}");
    }
    let cut = answered(HEAD, &[text], false).await.unwrap_err();
    assert_eq!(cut.to_string(), "openai/m did not answer: the stream ended in the middle of the reply");
    let hanging = answered(HEAD, &[text], true).await.unwrap_err();
    assert!(
        matches!(&hanging, ModelError::Transient { detail, .. } if detail.contains("no byte came within"))
    );
}

#[tokio::test]
async fn the_agent_file_sets_how_long_a_provider_may_take() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let tight = json!({"first_byte_timeout": "100ms", "idle_timeout": "10ms"});
    let silent = answered_with(tight.clone(), HEAD, &[], true).await.unwrap_err();
    assert!(
        matches!(&silent, ModelError::Transient { detail, .. } if detail.contains("no byte of the reply came"))
    );
    let slow = answered_with(tight, HEAD, &[text, stop], true).await.unwrap_err();
    assert!(matches!(&slow, ModelError::Transient { detail, .. } if detail.contains("no byte came within")));
    // The comments alone take longer than a reply may without these settings.
    let patient = json!({"first_byte_timeout": 60, "idle_timeout": 60});
    let mut pieces = vec![": ping\n\n"; 30];
    pieces.extend([text, stop]);
    assert_eq!(answered_with(patient, HEAD, &pieces, false).await.unwrap().text, "hi");
}

#[tokio::test]
async fn comments_keep_a_connection_open_but_not_forever() {
    let comments = vec![": ping\n\n"; 100];
    let error = answered(HEAD, &comments, true).await.unwrap_err();
    let ends = |detail: &str| detail.contains("nothing of the reply came within");
    assert!(matches!(&error, ModelError::Transient { detail, .. } if ends(detail)), "{error:?}");
}

#[tokio::test]
async fn calls_are_told_apart_by_their_ids_whatever_their_indices() {
    let call = |index: &str, id: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{{index}\"id\":\"{id}\",\"function\":{{\"name\":\"think\",\"arguments\":\"{{}}\"}}}}]}}}}]}}\n\n"
        )
    };
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    for (first, second) in [
        ("", ""),
        ("\"index\":0,", "\"index\":0,"),
        ("\"index\":1,", "\"index\":50,"),
        ("\"index\":0,", "\"index\":4294967295,"),
    ] {
        let (a, b) = (call(first, "a"), call(second, "b"));
        let message = answered(HEAD, &[&a, &b, end], false).await.unwrap();
        let ids: Vec<&str> = message.tool_calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"], "{first} {second}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let head = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let error = answered(head, &[], false).await.unwrap_err();
    assert!(
        matches!(&error, ModelError::Refused { detail, .. } if detail.contains("redirects")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_used_up_quota_is_final_and_a_long_conversation_is_one() {
    let head = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let quota = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
    let error = answered(&head("429 Too Many Requests", quota), &[], false).await.unwrap_err();
    assert!(matches!(error, ModelError::Refused { .. }), "{error:?}");
    let long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    let error = answered(&head("400 Bad Request", long), &[], false).await.unwrap_err();
    assert!(matches!(error, ModelError::WindowFull { .. }), "{error:?}");
}
