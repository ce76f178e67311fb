//! What a request says beside its arguments: which call of the host's model it is, whose trace it belongs to, and what answers it takes.

use legwork_common::trace::TraceParent;
use rmcp::model::RequestMetaObject;
use sha2::Digest as _;
use sha2::Sha256;

/// The longest name of a call that is taken for one, in bytes.
const LONGEST: usize = 256;

/// How hosts call the id of a tool call, without case and separators. Claude Code writes `claudecode/toolUseId`, others
/// `toolCallId`, `tool_call_id` or `idempotency-key`, with or without a prefix of their own.
const NAMES: [&str; 3] = ["tooluseid", "toolcallid", "idempotencykey"];

/// The id that the host's model gave to this tool call, where the host passes it on: the same for a request that the
/// host repeats. The id of the JSON-RPC request is not one, for it starts again with every connection.
pub fn call_id(meta: &RequestMetaObject) -> Option<String> {
    let id = meta.0.0.iter().find_map(|(key, value)| {
        let own = key.rsplit(['/', '.']).next()?;
        let plain: String = own.chars().filter(char::is_ascii_alphanumeric).collect();
        NAMES.contains(&plain.to_ascii_lowercase().as_str()).then(|| value.as_str()).flatten()
    })?;
    (!id.is_empty() && id.len() <= LONGEST).then(|| id.to_owned())
}

/// What makes a repeated run find the first one's job: the caller's own key, or the id of the host's tool call with what
/// was `asked`. Some hosts count their calls anew in each conversation, and another request is no repeat.
pub fn key(own: Option<String>, meta: &RequestMetaObject, asked: &[&str]) -> Option<String> {
    own.filter(|key| !key.is_empty()).or_else(|| {
        let mut hash = Sha256::new();
        for part in asked {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        call_id(meta).map(|id| format!("call:{id}:{digest}"))
    })
}

/// The trace that the host's request belongs to.
pub fn trace(meta: &RequestMetaObject) -> Option<TraceParent> {
    meta.0.get_traceparent()?.parse().ok()
}

/// Whether this request takes a task for an answer. What a client says in the handshake of an older protocol does not
/// count: the extension is declared with each request, and such clients are known to trip over a task.
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
    fn a_host_names_its_calls_in_its_own_way() {
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
    fn a_request_takes_tasks_if_it_says_so_itself() {
        let capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
        assert!(takes_tasks(&meta(json!({"io.modelcontextprotocol/clientCapabilities": capabilities}))));
        assert!(!takes_tasks(&meta(json!({"io.modelcontextprotocol/clientCapabilities": {}}))));
        assert!(!takes_tasks(&meta(json!({}))));
    }

    #[test]
    fn the_callers_own_key_comes_first() {
        let named = meta(json!({"toolCallId": "1"}));
        let asked = ["agent", "task"];
        assert_eq!(key(Some("mine".into()), &named, &asked).as_deref(), Some("mine"));
        let first = key(Some(String::new()), &named, &asked).unwrap();
        assert!(first.starts_with("call:1:"), "{first}");
        assert_eq!(key(None, &named, &asked), Some(first.clone()));
        assert_ne!(key(None, &named, &["agentt", "ask"]), Some(first));
        assert_eq!(key(None, &meta(json!({})), &asked), None);
    }
}
