//! `redact_secrets`: secrets of well-known shapes are replaced before a model or a tool sees them. Pure.
//!
//! Only what can be told from its shape is found: a password is not.

use std::sync::Arc;
use std::sync::LazyLock;

use grep_matcher::Matcher as _;
use grep_regex::RegexMatcher;
use serde_json::Map;
use serde_json::Value;

use crate::message::Message;
use crate::message::ToolResult;

/// Stands for a secret.
const REDACTED: &str = "[REDACTED]";

/// The shapes: keys of clouds, of code hosts, of model providers and of payment, tokens and private keys. Each begins with
/// letters that its issuer chose so that it can be found.
const SHAPES: [&str; 12] = [
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}",
    r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bsk-[A-Za-z0-9_-]{20,}",
    r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\bAIza[0-9A-Za-z_-]{35}",
    r"\bnpm_[A-Za-z0-9]{36}\b",
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*-----END [A-Z ]*PRIVATE KEY-----",
];

/// All shapes as one expression. Its parts are constants, which a test compiles.
static SECRET: LazyLock<Option<RegexMatcher>> = LazyLock::new(|| RegexMatcher::new(&SHAPES.join("|")).ok());

/// The text without secrets.
pub(crate) fn redacted(text: String) -> String {
    without_secrets(&text).unwrap_or(text)
}

/// The text without secrets; `None` where it has none.
fn without_secrets(text: &str) -> Option<String> {
    let secret = SECRET.as_ref()?;
    let (mut clean, mut end) = (String::new(), 0);
    let found = secret.find_iter(text.as_bytes(), |found| {
        // The shapes consist of whole characters, so both ends of a match are borders.
        clean.push_str(text.get(end..found.start()).unwrap_or_default());
        clean.push_str(REDACTED);
        end = found.end();
        true
    });
    if end == 0 || found.is_err() {
        return None;
    }
    clean.push_str(text.get(end..).unwrap_or_default());
    Some(clean)
}

/// The arguments of a call without secrets in their strings.
pub(crate) fn redact_arguments(arguments: &mut Map<String, Value>) {
    arguments.values_mut().for_each(redact_value);
}

fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = redacted(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(redact_value),
        Value::Object(fields) => redact_arguments(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A message without secrets: the same one where it has none. Replies stay as they came, because providers sign them.
pub(crate) fn redacted_message(message: Arc<Message>) -> Arc<Message> {
    let redacted = match &*message {
        Message::System { text } => without_secrets(text).map(Message::system),
        Message::User { text } => without_secrets(text).map(Message::user),
        Message::ToolResult(result) => without_secrets(&result.text)
            .map(|text| Message::tool_result(ToolResult { text, ..(**result).clone() })),
        Message::Assistant(_) => None,
    };
    redacted.map_or(message, Arc::new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn well_known_shapes_are_found_and_the_rest_stays() {
        let part = |length| "aB3".repeat(length).chars().take(length).collect::<String>();
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n+/==\n-----END RSA PRIVATE KEY-----";
        for secret in [
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            format!("ghp_{}", part(36)),
            format!("sk-ant-api03-{}", part(40)),
            format!("xoxb-{}", part(24)),
            format!("AIza{}", part(35)),
            format!("eyJ{0}.eyJ{0}.{0}", part(20)),
            key.to_owned(),
        ] {
            assert_eq!(redacted(format!("ä key={secret}, ü")), "ä key=[REDACTED], ü", "{secret}");
        }
        for plain in ["", "task-force of sk-users", "AKIA", "a password: hunter2", "eyJhbGciOi"] {
            assert_eq!(redacted(plain.to_owned()), plain);
        }
    }

    #[test]
    fn arguments_lose_secrets_at_any_depth() {
        let secret = format!("ghp_{}", "a".repeat(36));
        let mut arguments = json!({"cmd": format!("curl -u {secret}"), "more": [{"k": secret}], "n": 1});
        redact_arguments(arguments.as_object_mut().unwrap());
        assert_eq!(arguments, json!({"cmd": "curl -u [REDACTED]", "more": [{"k": "[REDACTED]"}], "n": 1}));
    }
}
