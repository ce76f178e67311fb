//! A conversation in which each call has its result: providers refuse any other.

use std::borrow::Cow;
use std::collections::HashMap;

use super::AssistantMessage;
use super::Message;
use super::Part;
use super::ToolCall;
use super::ToolResult;

/// What stands for a result that was never recorded.
const NO_RESULT: &str = "The call was interrupted, and its result is not known.";

/// The conversation with a result after each call and a call before each result. Results without a call and replies that
/// say nothing are left out, so is a second result of one call.
///
/// An id that an earlier reply has used gets a number, with its result: local servers begin anew in each reply, and other
/// providers refuse a conversation in which an id stands twice.
#[must_use]
pub fn paired(messages: &[Message]) -> Vec<Cow<'_, Message>> {
    let mut paired = Vec::with_capacity(messages.len());
    let mut used = HashMap::new();
    let mut rest = messages;
    while let [message, after @ ..] = rest {
        rest = after;
        match message {
            Message::Assistant(reply) => {
                let results = after.iter().take_while(|next| matches!(next, Message::ToolResult(_)));
                let results: Vec<&Message> = results.collect();
                rest = &after[results.len()..];
                let ids: Vec<String> = reply.tool_calls().map(|call| unused(&call.id, &mut used)).collect();
                if reply.says_anything() {
                    paired.push(with_ids(message, reply, &ids));
                }
                let mut by_call = HashMap::new();
                for result in results {
                    by_call.entry(call_of(result)).or_insert(result);
                }
                paired.extend(
                    reply
                        .tool_calls()
                        .zip(ids)
                        .map(|(call, id)| result_of(by_call.remove(call.id.as_str()), call, id)),
                );
            }
            Message::ToolResult(_) => {}
            Message::System { .. } | Message::User { .. } => paired.push(Cow::Borrowed(message)),
        }
    }
    paired
}

/// The id, or one that is made from it where it is used. The same in each request, as the conversation grows at its end.
/// `used` has the number that each id was given last, so that many repetitions cost no more than as many ids.
fn unused(id: &str, used: &mut HashMap<String, u64>) -> String {
    let mut number = used.get(id).copied().unwrap_or(0);
    let distinct = loop {
        number += 1;
        let distinct = if number == 1 { id.to_owned() } else { format!("{id}_{number}") };
        if !used.contains_key(&distinct) {
            break distinct;
        }
    };
    used.insert(distinct.clone(), 1);
    used.insert(id.to_owned(), number);
    distinct
}

/// The reply with these ids of its calls.
fn with_ids<'m>(message: &'m Message, reply: &AssistantMessage, ids: &[String]) -> Cow<'m, Message> {
    if reply.tool_calls().zip(ids).all(|(call, id)| call.id == *id) {
        return Cow::Borrowed(message);
    }
    let mut reply = reply.clone();
    let calls = reply.parts.iter_mut().filter_map(|part| match part {
        Part::ToolCall(call) => Some(call),
        _ => None,
    });
    for (call, id) in calls.zip(ids) {
        call.id.clone_from(id);
    }
    Cow::Owned(Message::Assistant(reply))
}

/// The result of a call under the id that the call has in the request.
fn result_of<'m>(found: Option<&'m Message>, call: &ToolCall, id: String) -> Cow<'m, Message> {
    match found {
        Some(result) if call.id == id => Cow::Borrowed(result),
        Some(Message::ToolResult(result)) => {
            Cow::Owned(Message::ToolResult(ToolResult { call_id: id, ..result.clone() }))
        }
        _ => Cow::Owned(Message::ToolResult(ToolResult {
            call_id: id,
            name: call.name.clone(),
            content: NO_RESULT.into(),
            is_error: true,
        })),
    }
}

fn call_of(message: &Message) -> &str {
    match message {
        Message::ToolResult(result) => &result.call_id,
        Message::System { .. } | Message::User { .. } | Message::Assistant(_) => "",
    }
}
