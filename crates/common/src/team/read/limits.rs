//! Reads the limits of an agent.

use super::agent::References;
use crate::team::fields::Fields;
use crate::team::limits::Limits;
use crate::team::reader::Reader;
use crate::team::tree::Value;

/// The highest number of a limit.
const MAX: i64 = u32::MAX as i64;

/// Reads the keys of an agent that limit its run and what its model is shown. `subject` begins the messages.
pub(super) fn read_limits(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    agent: &Fields<'_>,
    subject: &str,
) -> Limits {
    // Zero and less mean the default, as in docker-agent.
    let positive = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    Limits {
        max_consecutive_tool_calls: positive(agent.integer(reader, "max_consecutive_tool_calls", 0, MAX)),
        max_tool_result_tokens: positive(agent.integer(reader, "max_tool_result_tokens", -MAX, MAX)),
        max_old_tool_call_tokens: positive(agent.integer(reader, "max_old_tool_call_tokens", -MAX, MAX)),
        keeps_whole_conversation: agent.bool(reader, "session_compaction") == Some(false),
        compaction_models: agent.string(reader, "compaction_model").map_or_else(Vec::new, |reference| {
            let at = agent.node("compaction_model").map_or(agent.at, |node| node.at);
            references.models.resolve(reader, subject, &reference, at).unwrap_or_default()
        }),
        compaction_threshold: read_threshold(reader, agent, subject),
    }
}

/// Reads `compaction_threshold`: above 0 and at most 1.
pub(super) fn read_threshold(reader: &mut Reader<'_>, fields: &Fields<'_>, subject: &str) -> Option<f64> {
    let node = fields.node("compaction_threshold")?;
    let share = match node.value {
        Value::Integer(integer) => integer as f64,
        Value::Float(number) => number,
        _ => {
            reader.wrong_type("compaction_threshold", "a number above 0 and at most 1", node);
            return None;
        }
    };
    if share > 0.0 && share <= 1.0 {
        return Some(share);
    }
    let message =
        format!("{subject}: compaction_threshold must be greater than 0 and at most 1, got {share}");
    reader.error(node.at, message, Some("without it, conversations are summarized at 0.9".to_owned()));
    None
}
