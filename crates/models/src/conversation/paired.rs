//! A conversation in which each call has its result: providers refuse any other.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Message;
use super::ToolResult;

/// What stands for a result that was never recorded.
const NO_RESULT: &str = "The call was interrupted, and its result is not known.";

/// The conversation with a result after each call and a call before each result. Results without a call and replies that
/// say nothing are left out, so is a second result of one call.
#[must_use]
pub fn paired(messages: &[Message]) -> Vec<Cow<'_, Message>> {
    let mut paired = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while let [message, after @ ..] = rest {
        rest = after;
        match message {
            Message::Assistant(reply) => {
                let results = after.iter().take_while(|next| matches!(next, Message::ToolResult(_)));
                let results: Vec<&Message> = results.collect();
                rest = &after[results.len()..];
                if reply.says_anything() {
                    paired.push(Cow::Borrowed(message));
                }
                let mut by_call = HashMap::new();
                for result in results {
                    by_call.entry(call_of(result)).or_insert(result);
                }
                paired.extend(reply.tool_calls().map(|call| match by_call.remove(call.id.as_str()) {
                    Some(result) => Cow::Borrowed(result),
                    None => Cow::Owned(Message::ToolResult(ToolResult {
                        call_id: call.id.clone(),
                        name: call.name.clone(),
                        content: NO_RESULT.into(),
                        is_error: true,
                    })),
                }));
            }
            Message::ToolResult(_) => {}
            Message::System { .. } | Message::User { .. } => paired.push(Cow::Borrowed(message)),
        }
    }
    paired
}

fn call_of(message: &Message) -> &str {
    match message {
        Message::ToolResult(result) => &result.call_id,
        Message::System { .. } | Message::User { .. } | Message::Assistant(_) => "",
    }
}
