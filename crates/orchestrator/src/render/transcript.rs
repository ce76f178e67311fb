//! Recorded turns as text, for `view --transcript` and `top`.

use legwork_agent::journal::TurnEntry;
use serde_json::Value;

/// One recorded entry as text. Control characters in it are not replaced.
pub fn paragraph(entry: &TurnEntry) -> String {
    match entry {
        TurnEntry::Reply { turn, message } => {
            let mut text = format!("── turn {turn}\n");
            if !message.text.is_empty() {
                text.push_str(&format!("{}\n", message.text));
            }
            for call in &message.tool_calls {
                text.push_str(&format!("→ {} {}\n", call.name, call.arguments));
            }
            text
        }
        TurnEntry::Result { index, text, is_error, .. } => {
            let mark = if *is_error { "✗" } else { "←" };
            format!("{mark} [{index}] {}\n", text.trim_end())
        }
        TurnEntry::Delivered { turn, text, .. } => {
            format!("── delivered before turn {turn}\n{}\n", text.trim_end())
        }
        TurnEntry::Compacted { turn, summary, usage, .. } if summary.is_empty() => {
            let (input, output) = (usage.input_tokens, usage.output_tokens);
            format!("── in turn {turn} a model call gave no usable reply ({input} tokens in, {output} out)\n")
        }
        TurnEntry::Compacted { turn, summary, .. } => {
            format!("── before turn {turn} the conversation was compacted to\n{}\n", summary.trim_end())
        }
        TurnEntry::Stderr { text } => format!("── standard error\n{}\n", text.trim_end()),
        TurnEntry::Asked { index, tool, arguments, .. } => {
            format!("? [{index}] a person is asked about {tool} {}\n", Value::Object(arguments.clone()))
        }
        TurnEntry::Decided { index, answer, .. } => format!("! [{index}] {answer}\n"),
        TurnEntry::Retried { of } => format!("── resumes here; everything above is of {of}\n"),
    }
}
