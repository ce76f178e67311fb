//! How much of a long conversation is sent to the model: `num_history_items` and `max_old_tool_call_tokens`. Pure.

use std::sync::Arc;

use crate::message::Message;
use crate::toolset::boundary;

/// The conversation with at most `limit` messages besides system messages, as far as possible.
///
/// The oldest replies are dropped first, each together with the results of its calls. System and user messages
/// stay, and so does the last reply with its results, even where they are more than the limit.
pub fn latest(messages: &[Arc<Message>], limit: Option<u32>) -> Vec<Arc<Message>> {
    let counted = messages.iter().filter(|message| !matches!(***message, Message::System { .. })).count();
    let surplus = limit.map_or(0, |limit| counted.saturating_sub(limit as usize));
    let last = messages.iter().rposition(|message| matches!(**message, Message::Assistant(_)));
    let mut dropped = 0;
    let mut dropping = false;
    let mut kept = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        dropping = match **message {
            Message::Assistant(_) => dropped < surplus && Some(at) != last,
            Message::ToolResult(_) => dropping,
            Message::System { .. } | Message::User { .. } => false,
        };
        if dropping {
            dropped += 1;
        } else {
            kept.push(Arc::clone(message));
        }
    }
    kept
}

/// Bytes of a token, as docker-agent counts them for its limits.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

/// Stands for the arguments or the result of an old call.
const TRUNCATED: &str = "[content truncated]";

/// The conversation with the newest calls and results in full, as many as `max_tokens` hold, and a few words in place of
/// the older ones. The calls themselves stay, with arguments that are valid JSON: providers demand both.
pub(crate) fn with_old_calls_truncated(
    mut messages: Vec<Arc<Message>>,
    max_tokens: Option<u32>,
) -> Vec<Arc<Message>> {
    let Some(max_tokens) = max_tokens else { return messages };
    let max_bytes = (max_tokens as usize).saturating_mul(BYTES_PER_TOKEN);
    let mut bytes = 0_usize;
    for message in messages.iter_mut().rev() {
        let Some(of_message) = called_bytes(message) else { continue };
        let room = max_bytes.checked_sub(bytes);
        bytes = bytes.saturating_add(of_message);
        if bytes > max_bytes {
            truncate_calls(Arc::make_mut(message), room);
        }
    }
    messages
}

/// The bytes of the calls of a message, or of the result that it is; `None` where it is neither.
fn called_bytes(message: &Message) -> Option<usize> {
    match message {
        Message::ToolResult(result) => Some(result.text.len()),
        Message::Assistant(reply) if !reply.tool_calls.is_empty() => {
            Some(reply.tool_calls.iter().map(|call| call.arguments.len()).sum())
        }
        Message::Assistant(_) | Message::System { .. } | Message::User { .. } => None,
    }
}

/// Truncates the result, or the calls but for the last ones that fit into `room` bytes; `None` for no room at all.
fn truncate_calls(message: &mut Message, room: Option<usize>) {
    match message {
        Message::ToolResult(result) => {
            TRUNCATED.clone_into(&mut result.text);
            result.images.clear();
        }
        Message::Assistant(reply) => {
            let mut bytes = 0_usize;
            for call in reply.tool_calls.iter_mut().rev() {
                bytes = bytes.saturating_add(call.arguments.len());
                if room.is_none_or(|room| bytes > room) {
                    call.arguments = format!("{{\"content\":\"{TRUNCATED}\"}}");
                }
            }
        }
        Message::System { .. } | Message::User { .. } => {}
    }
}

/// A tool result of at most `max_tokens`: a longer one loses its middle.
pub(crate) fn without_middle(text: String, max_tokens: Option<u32>) -> String {
    let Some(max_tokens) = max_tokens else { return text };
    let max_bytes = (max_tokens as usize).saturating_mul(BYTES_PER_TOKEN);
    if text.len() <= max_bytes {
        return text;
    }
    let head = boundary(&text, max_bytes / 2);
    let tail = text.len() - (max_bytes - head);
    let tail = (tail..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let omitted = tail - head;
    format!("{}\n\n[{omitted} bytes omitted]\n\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ToolResult;

    fn message(kind: char) -> Arc<Message> {
        Arc::new(match kind {
            's' => Message::system("s"),
            'u' => Message::user("u"),
            'a' => Message::Assistant(Box::default()),
            _ => Message::tool_result(ToolResult {
                call_id: "c".into(),
                name: "n".into(),
                text: "t".into(),
                images: Vec::new(),
                is_error: false,
            }),
        })
    }

    #[test]
    fn drops_the_oldest_replies_with_their_results() {
        let table = [
            ("suarrara", None, "suarrara"),
            ("suarrara", Some(9), "suarrara"),
            ("suarrara", Some(6), "suara"),
            ("suarrara", Some(4), "suara"),
            ("suarrara", Some(2), "sua"),
            ("suarruarr", Some(0), "suuarr"),
            ("suaua", Some(3), "suua"),
            ("su", Some(1), "su"),
            ("", Some(1), ""),
        ];
        for (before, limit, after) in table {
            let messages: Vec<_> = before.chars().map(message).collect();
            let expected: Vec<_> = after.chars().map(message).collect();
            assert_eq!(latest(&messages, limit), expected, "{before} {limit:?}");
        }
    }
}
