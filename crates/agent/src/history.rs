//! How much of a long conversation is sent to the model: `num_history_items` and `max_old_tool_call_tokens`. Pure.

use crate::message::Message;
use crate::toolset::boundary;

/// The conversation with at most `limit` messages besides system messages, as far as possible.
///
/// The oldest replies are dropped first, each together with the results of its calls. System and user messages
/// stay, and so does the last reply with its results, even where they are more than the limit.
pub fn latest(messages: &[Message], limit: Option<u32>) -> Vec<Message> {
    let counted = messages.iter().filter(|message| !matches!(message, Message::System { .. })).count();
    let surplus = limit.map_or(0, |limit| counted.saturating_sub(limit as usize));
    let last = messages.iter().rposition(|message| matches!(message, Message::Assistant(_)));
    let mut dropped = 0;
    let mut dropping = false;
    let mut kept = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        dropping = match message {
            Message::Assistant(_) => dropped < surplus && Some(at) != last,
            Message::ToolResult(_) => dropping,
            Message::System { .. } | Message::User { .. } => false,
        };
        if dropping {
            dropped += 1;
        } else {
            kept.push(message.clone());
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
pub(crate) fn with_old_calls_truncated(mut messages: Vec<Message>, max_tokens: Option<u32>) -> Vec<Message> {
    let Some(max_tokens) = max_tokens else { return messages };
    let max_bytes = (max_tokens as usize).saturating_mul(BYTES_PER_TOKEN);
    let mut bytes = 0_usize;
    for message in messages.iter_mut().rev() {
        match message {
            Message::ToolResult(result) => {
                bytes = bytes.saturating_add(result.text.len());
                if bytes > max_bytes {
                    TRUNCATED.clone_into(&mut result.text);
                    result.images.clear();
                }
            }
            Message::Assistant(reply) => {
                for call in reply.tool_calls.iter_mut().rev() {
                    bytes = bytes.saturating_add(call.arguments.len());
                    if bytes > max_bytes {
                        call.arguments = format!("{{\"content\":\"{TRUNCATED}\"}}");
                    }
                }
            }
            Message::System { .. } | Message::User { .. } => {}
        }
    }
    messages
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
    use crate::message::AssistantMessage;
    use crate::message::ToolResult;

    fn message(kind: char) -> Message {
        match kind {
            's' => Message::system("s"),
            'u' => Message::user("u"),
            'a' => Message::Assistant(AssistantMessage::default()),
            _ => Message::ToolResult(ToolResult {
                call_id: "c".into(),
                name: "n".into(),
                text: "t".into(),
                images: Vec::new(),
                is_error: false,
            }),
        }
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
            let messages: Vec<Message> = before.chars().map(message).collect();
            let expected: Vec<Message> = after.chars().map(message).collect();
            assert_eq!(latest(&messages, limit), expected, "{before} {limit:?}");
        }
    }
}
