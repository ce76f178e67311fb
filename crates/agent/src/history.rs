//! `num_history_items`: how much of a long conversation is sent to the model. Pure.

use crate::message::Message;

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
