//! Drops texts of recorded turns that are not needed in memory: those that a summary has replaced. Pure.
//!
//! The entries themselves stay, with their calls and results, so that a fold over them comes to the same state.

use std::collections::HashSet;

use crate::active_agent::HANDOFF;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;

/// Tools whose arguments are read again: those that keep a state, which is rebuilt from them, and the one that
/// names the next agent.
const REPLAYED_TOOLS: [&str; 5] = ["think", "create_todo", "create_todos", "update_todos", HANDOFF];
/// Replaces the text of a reply that was not empty: whether a reply had text decides about separators in the
/// output.
const DROPPED_TEXT: &str = "…";

/// Drops the texts that the last summary among the entries has replaced. The transcript of the entries stays the
/// same.
pub fn prune_replaced(entries: &mut [TurnEntry]) {
    let summary = |entry: &TurnEntry| match entry {
        TurnEntry::Compacted { kept, .. } if !entry.is_tokens_only() => Some(*kept as usize),
        _ => None,
    };
    let Some((at, kept)) =
        entries.iter().enumerate().rev().find_map(|(at, entry)| Some((at, summary(entry)?)))
    else {
        return;
    };
    let (mut first, mut messages, mut results) = (at, 0, HashSet::new());
    // From the summary back over the messages that it kept, then on to the beginning of a turn: which of two
    // results of a call counts is decided from there.
    let begins = |entry: &TurnEntry| matches!(entry, TurnEntry::Reply { .. } | TurnEntry::Delivered { .. });
    while first > 0 && (messages < kept || first < at && !begins(&entries[first])) {
        first -= 1;
        messages += match &entries[first] {
            TurnEntry::Reply { .. } | TurnEntry::Delivered { .. } => 1,
            // A second result of a call is not a message.
            TurnEntry::Result { turn, index, .. } => usize::from(results.insert((*turn, *index))),
            TurnEntry::Compacted { .. }
            | TurnEntry::Stderr { .. }
            | TurnEntry::Asked { .. }
            | TurnEntry::Decided { .. }
            | TurnEntry::Retried { .. } => 0,
        };
    }
    prune(&mut entries[..first]);
}

/// Drops all texts, for a reader that needs the calls only.
pub(crate) fn prune(entries: &mut [TurnEntry]) {
    for entry in entries {
        match entry {
            TurnEntry::Reply { message, .. } => prune_reply(message),
            TurnEntry::Result { text, images, .. } => {
                *text = String::new();
                images.clear();
            }
            TurnEntry::Delivered { text, .. } | TurnEntry::Stderr { text } => {
                *text = String::new();
            }
            TurnEntry::Compacted { summary, .. } => *summary = String::new(),
            TurnEntry::Asked { arguments, .. } => arguments.clear(),
            TurnEntry::Decided { .. } | TurnEntry::Retried { .. } => {}
        }
    }
}

fn prune_reply(message: &mut AssistantMessage) {
    if !message.text.is_empty() {
        message.text = DROPPED_TEXT.to_owned();
    }
    message.reasoning = None;
    message.continuation = None;
    message.origin = None;
    message.layout.clear();
    for call in &mut message.tool_calls {
        if !REPLAYED_TOOLS.contains(&call.name.as_str()) {
            call.arguments = String::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::job::Usage;

    use super::*;
    use crate::message::Message;
    use crate::message::ToolCall;
    use crate::turn::Transcript;

    fn turn(turn: u32, tool: &str) -> Vec<TurnEntry> {
        let call = ToolCall {
            id: format!("c{turn}"),
            name: tool.into(),
            arguments: "{\"a\":\"long\"}".into(),
            thought_signature: None,
        };
        let message = AssistantMessage {
            text: format!("said {turn}"),
            reasoning: Some("hm".into()),
            tool_calls: vec![call],
            usage: Usage { input_tokens: 3, ..Usage::default() },
            ..AssistantMessage::default()
        };
        let result = TurnEntry::Result {
            turn,
            index: 0,
            call_id: format!("c{turn}"),
            text: format!("result {turn}"),
            images: Vec::new(),
            is_error: false,
            ended: Vec::new(),
        };
        vec![TurnEntry::Reply { turn, message }, result.clone(), result]
    }

    fn summary(turn: u32, kept: u32) -> TurnEntry {
        TurnEntry::Compacted { turn, kept, summary: format!("summary {turn}"), usage: Usage::default() }
    }

    #[test]
    fn pruning_does_not_change_the_transcript() {
        for kept in [0, 1, 2, 3, 4] {
            let mut entries = Vec::new();
            for number in 1..=4 {
                entries.extend(turn(number, "shell"));
            }
            entries.push(summary(5, kept));
            entries.extend(turn(5, "shell"));
            entries.push(summary(6, kept));
            entries.extend(turn(6, "think"));
            let opening = || vec![Message::user("go")];
            let whole = Transcript::new(opening(), &entries);
            prune_replaced(&mut entries);
            let pruned = Transcript::new(opening(), &entries);
            assert_eq!(pruned.messages(), whole.messages(), "{kept}");
            assert_eq!(
                (pruned.usage(), pruned.turn(), pruned.has_output()),
                (whole.usage(), whole.turn(), whole.has_output())
            );
            assert_eq!(pruned.next(None), whole.next(None));
            let text = serde_json::to_string(&entries).unwrap();
            assert!(!text.contains("result 1"), "{kept} {text}");
        }
    }

    #[test]
    fn arguments_of_replayed_tools_stay() {
        let mut entries = turn(1, "shell");
        entries.extend(turn(2, "think"));
        prune(&mut entries);
        let arguments = |entry: &TurnEntry| match entry {
            TurnEntry::Reply { message, .. } => Some(message.tool_calls[0].arguments.clone()),
            _ => None,
        };
        let left: Vec<String> = entries.iter().filter_map(arguments).collect();
        assert_eq!(left, ["", "{\"a\":\"long\"}"]);
    }
}
