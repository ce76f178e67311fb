//! What a request's `_meta` carries: the id of the model's tool call, the trace, and whether the client takes tasks.

use legwork_common::trace::TraceParent;
use rmcp::model::RequestMetaObject;
use sha2::Digest as _;
use sha2::Sha256;

/// The longest call id that is used, in bytes. Providers' ids have about 30; a longer value is not such an id.
const MAX_CALL_ID_BYTES: usize = 256;

/// Names under which hosts pass the id of a tool call, without case and separators. Claude Code writes
/// `claudecode/toolUseId`; others write `toolCallId`, `tool_call_id` or `idempotency-key`, with or without a prefix.
const CALL_ID_NAMES: [&str; 3] = ["tooluseid", "toolcallid", "idempotencykey"];

/// The id of the model's tool call, where the host passes it on: it is the same when the host repeats the request. The
/// id of the JSON-RPC request does not serve, because it starts again with every connection.
pub fn call_id(meta: &RequestMetaObject) -> Option<String> {
    let id = meta.0.0.iter().find_map(|(key, value)| {
        let unprefixed = key.rsplit(['/', '.']).next()?;
        let plain: String = unprefixed.chars().filter(char::is_ascii_alphanumeric).collect();
        CALL_ID_NAMES.contains(&plain.to_ascii_lowercase().as_str()).then(|| value.as_str()).flatten()
    })?;
    (!id.is_empty() && id.len() <= MAX_CALL_ID_BYTES).then(|| id.to_owned())
}

/// The idempotency key of a dispatch: the caller's own, or one made of the tool call's id and a digest of the
/// `request`. The digest is needed because some hosts number their calls anew in each conversation: the same id with
/// another request is not a repeat.
pub fn idempotency_key(own: Option<String>, meta: &RequestMetaObject, request: &[&str]) -> Option<String> {
    own.filter(|key| !key.is_empty()).or_else(|| {
        let mut hash = Sha256::new();
        for part in request {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        call_id(meta).map(|id| format!("call:{id}:{digest}"))
    })
}

/// The trace of the host's request; `None` where it has none, or one that does not parse.
pub fn trace(meta: &RequestMetaObject) -> Option<TraceParent> {
    meta.0.get_traceparent()?.parse().ok()
}

/// Whether this request accepts a task as its answer. Capabilities from the handshake of an older protocol version do
/// not count: the extension is declared with each request, and such clients are known to fail on a task.
pub fn takes_tasks(meta: &RequestMetaObject) -> bool {
    meta.client_capabilities().is_some_and(|client| client.supports_tasks())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(value: serde_json::Value) -> RequestMetaObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn finds_the_call_id_under_the_name_of_each_host() {
        let table = [
            (json!({"claudecode/toolUseId": "toolu_1"}), Some("toolu_1")),
            (json!({"toolCallId": "call_1"}), Some("call_1")),
            (json!({"vscode.tool_call_id": "call_2"}), Some("call_2")),
            (json!({"example.com/tool-call-id": "call_3"}), Some("call_3")),
            (json!({"progressToken": 7}), None),
            (json!({"toolCallId": 7}), None),
            (json!({"toolCallId": ""}), None),
            (json!({"toolCallId": "x".repeat(257)}), None),
            (json!({}), None),
        ];
        for (value, expected) in table {
            assert_eq!(call_id(&meta(value.clone())).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn accepts_tasks_only_where_the_request_declares_them() {
        let capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
        assert!(takes_tasks(&meta(json!({"io.modelcontextprotocol/clientCapabilities": capabilities}))));
        assert!(!takes_tasks(&meta(json!({"io.modelcontextprotocol/clientCapabilities": {}}))));
        assert!(!takes_tasks(&meta(json!({}))));
    }

    #[test]
    fn the_callers_own_key_takes_precedence() {
        let named = meta(json!({"toolCallId": "1"}));
        let request = ["agent", "task"];
        assert_eq!(idempotency_key(Some("mine".into()), &named, &request).as_deref(), Some("mine"));
        let first = idempotency_key(Some(String::new()), &named, &request).unwrap();
        assert!(first.starts_with("call:1:"), "{first}");
        assert_eq!(idempotency_key(None, &named, &request), Some(first.clone()));
        assert_ne!(idempotency_key(None, &named, &["agentt", "ask"]), Some(first));
        assert_eq!(idempotency_key(None, &meta(json!({})), &request), None);
    }
}
