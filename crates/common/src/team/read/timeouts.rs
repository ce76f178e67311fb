//! Checks the options of a model that say how long its provider may take.

use crate::team::fields::Fields;
use crate::team::model::FIRST_BYTE_TIMEOUT;
use crate::team::model::IDLE_TIMEOUT;
use crate::team::model::timeout_of;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// Reports each timeout in `provider_opts` that is not a duration above zero.
pub(super) fn check(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    let Some(Node { value: Value::Map(entries), .. }) = fields.node("provider_opts") else { return };
    for entry in entries {
        if ![FIRST_BYTE_TIMEOUT, IDLE_TIMEOUT].contains(&entry.key.as_str()) {
            continue;
        }
        match &entry.node.value {
            Value::Null => {}
            Value::String(text) if timeout_of(text).is_some() => {}
            Value::Integer(seconds) if timeout_of(&seconds.to_string()).is_some() => {}
            Value::String(text) => not_a_timeout(reader, &entry.key, &excerpt(text), entry.node.at),
            Value::Integer(seconds) => {
                not_a_timeout(reader, &entry.key, &seconds.to_string(), entry.node.at);
            }
            _ => reader.wrong_type(&entry.key, "a duration", &entry.node),
        }
    }
}

fn not_a_timeout(reader: &mut Reader<'_>, key: &str, value: &str, at: Position) {
    let hint = "examples: 30s, 5m, 1h30m".to_owned();
    reader.error(at, format!("`{key}` must be a duration above zero, not `{value}`"), Some(hint));
}
