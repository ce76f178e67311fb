//! When a conversation is about to fill its model's window, and which part of it a summary replaces. Pure.
//!
//! The task and the last turns stay as they are. Everything between them becomes one user message with the summary.

use std::fmt::Write as _;
use std::sync::Arc;

use legwork_common::team::Api;
use legwork_common::team::ModelSettings;

use crate::message::Message;
use crate::message::ToolResult;
use crate::tool::ToolSpec;
use crate::toolset::boundary;

/// Bytes that an estimate counts as one token. English text has about four and code a little less: an estimate that
/// is too high only compacts early.
const BYTES_PER_TOKEN: u64 = 3;
/// The window of a model that is not in the table. Most current models have at least this much.
const DEFAULT_WINDOW: u64 = 128_000;
/// The same for a model that runs on the user's machine: memory limits it, whatever the model could take.
const DEFAULT_LOCAL_WINDOW: u64 = 32_000;
/// Tokens of the window by the beginning of a model's name, without prefixes of providers and regions. The first
/// match counts.
const KNOWN_WINDOWS: &[(&str, u64)] = &[
    ("claude", 200_000),
    ("gpt-4.1", 1_000_000),
    ("gpt-4", 128_000),
    ("gpt-5", 272_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("gemini", 1_000_000),
];
/// The share of the window that a request may fill where the file sets no `compaction_threshold`: docker-agent's. The rest is
/// room for a reply, and for results of tools, which are added before the next check; a request that comes out too long is
/// shortened once more.
const DEFAULT_THRESHOLD: f64 = 0.9;
/// The most bytes of one tool result that a summary is made from: enough for its beginning, which shows what it is
/// about.
const MAX_RESULT_BYTES: usize = 2_000;

/// The system message of the model call that writes a summary.
pub(crate) const INSTRUCTION: &str = "You are given an agent's work so far, which is too long to keep. Write the summary that \
the agent will continue from: what it was asked, what was found and decided, names, paths, ids and numbers that matter, \
what failed, and what is still to be done. Answer with the summary alone.";

/// The model's context window in tokens, for request and reply together: `provider_opts.context_size`, else by its
/// name.
pub(crate) fn window(settings: &ModelSettings) -> u64 {
    let configured = settings.provider_opts.get("context_size").and_then(serde_json::Value::as_u64);
    if let Some(tokens) = configured.filter(|tokens| *tokens > 0) {
        return tokens;
    }
    let local = settings.api == Api::DockerModelRunner || settings.provider == "ollama";
    // The model's own name in `vendor/model` or `region.vendor.model`, without parts of a version such as `4.1`.
    let name =
        settings.model.rsplit(['/', '.']).find(|part| part.len() > 2 && !part.starts_with(char::is_numeric));
    let known = KNOWN_WINDOWS.iter().find(|(start, _)| {
        settings.model.starts_with(start) || name.is_some_and(|name| name.starts_with(start))
    });
    known.map_or(if local { DEFAULT_LOCAL_WINDOW } else { DEFAULT_WINDOW }, |(_, tokens)| *tokens)
}

/// About how many tokens a request with these messages and tools has.
pub(crate) fn estimate(messages: &[Arc<Message>], tools: &[ToolSpec]) -> u64 {
    let conversation: usize = messages.iter().map(|message| message.bytes()).sum();
    let schemas: usize = tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.to_string().len())
        .sum();
    tokens(conversation + schemas)
}

/// About how many tokens this many bytes are, rounded up.
pub(crate) fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

/// Whether a request of this size fills more than `threshold` of the window, by default [`DEFAULT_THRESHOLD`].
pub(crate) fn is_due(request: u64, window: u64, threshold: Option<f64>) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "an estimate of tokens is never near 2^52")]
    let (request, window) = (request as f64, window as f64);
    request > window * threshold.unwrap_or(DEFAULT_THRESHOLD)
}

/// How many messages at the end stay, in addition to the first `task` ones: whole turns, at least the last one, and
/// more as long as they fit into a quarter of the window. `None` where nothing is left for a summary to replace.
pub(crate) fn kept(messages: &[Arc<Message>], task: usize, window: u64) -> Option<usize> {
    let (mut kept, mut bytes) = (None, 0);
    for (at, message) in messages.iter().enumerate().skip(task).rev() {
        bytes += message.bytes();
        let begins_turn = matches!(**message, Message::Assistant(_));
        if kept.is_some() && tokens(bytes) > window / 4 {
            break;
        }
        // A result never stays without the reply that called for it: providers refuse that.
        if begins_turn {
            kept = Some(messages.len() - at);
        }
    }
    let kept = kept?;
    (messages.len() - kept > task).then_some(kept)
}

/// The text that a summary is made from, at most about half a window. Of a longer conversation the beginning is
/// dropped.
pub(crate) fn history_text(task: &[Arc<Message>], replaced: &[Arc<Message>], window: u64) -> String {
    let mut text = String::new();
    for message in replaced {
        write_message(&mut text, message);
    }
    let max_bytes = usize::try_from(window.saturating_mul(BYTES_PER_TOKEN) / 2).unwrap_or(usize::MAX);
    let from = text.len() - boundary(&text, max_bytes.min(text.len()));
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let mut whole = String::from("# The task\n\n");
    for message in task {
        write_message(&mut whole, message);
    }
    whole.push_str("\n# The work so far\n\n");
    whole.push_str(&text[from..]);
    whole
}

/// Adds one message to the text, under the name of its author.
fn write_message(text: &mut String, message: &Message) {
    // Writing to a String cannot fail.
    match message {
        Message::System { text: content } => writeln!(text, "Instruction: {content}").ok(),
        Message::User { text: content } => writeln!(text, "User: {content}").ok(),
        Message::Assistant(reply) => {
            for call in &reply.tool_calls {
                writeln!(text, "Agent calls {} {}", call.name, call.arguments).ok();
            }
            writeln!(text, "Agent: {}", reply.text).ok()
        }
        Message::ToolResult(result) => {
            let ToolResult { name, text: content, .. } = &**result;
            writeln!(text, "Result of {name}: {}", &content[..boundary(content, MAX_RESULT_BYTES)]).ok()
        }
    };
}

/// The user message that takes the place of the replaced messages.
pub(crate) fn summary_message(summary: &str) -> Message {
    Message::user(format!("[Earlier work was replaced by this summary of it.]\n\n{summary}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::AssistantMessage;

    fn conversation(kinds: &str) -> Vec<Arc<Message>> {
        let message = |kind| match kind {
            's' => Message::system("s".repeat(30)),
            'u' => Message::user("u".repeat(30)),
            'a' => {
                Message::assistant(AssistantMessage { text: "a".repeat(30), ..AssistantMessage::default() })
            }
            _ => Message::tool_result(ToolResult {
                call_id: "c".into(),
                name: "n".into(),
                text: "r".repeat(30),
                images: Vec::new(),
                is_error: false,
            }),
        };
        kinds.chars().map(message).map(Arc::new).collect()
    }

    #[test]
    fn keeps_the_last_turns_whole() {
        // A message is ten tokens.
        let table = [
            ("su", 2, 100, None),
            ("suarr", 2, 100, None),
            ("suarar", 2, 120, Some(2)),
            ("suararar", 2, 180, Some(4)),
            ("suarrrrrrarrrrrr", 2, 40, Some(7)),
            ("suaruaru", 2, 40, Some(3)),
            ("uaua", 1, 40, Some(1)),
        ];
        for (kinds, task, window, expected) in table {
            assert_eq!(kept(&conversation(kinds), task, window), expected, "{kinds}");
        }
    }

    #[test]
    fn a_window_is_taken_from_the_options_then_from_the_name() {
        let window_of = |provider, model| window(&ModelSettings::inline(provider, model).unwrap());
        assert_eq!(window_of("anthropic", "claude-sonnet-4-0"), 200_000);
        assert_eq!(window_of("amazon-bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"), 200_000);
        assert_eq!(window_of("openai", "gpt-4.1-mini"), 1_000_000);
        assert_eq!(window_of("xai", "grok"), DEFAULT_WINDOW);
        assert_eq!(window_of("dmr", "ai/qwen3"), DEFAULT_LOCAL_WINDOW);
        let mut settings = ModelSettings::inline("openai", "gpt-4o").unwrap();
        settings.provider_opts.insert("context_size".to_owned(), 5000.into());
        assert_eq!(window(&settings), 5000);
    }

    #[test]
    fn a_long_history_loses_its_beginning() {
        let replaced: Vec<_> = (0..100).map(|number| Arc::new(Message::user(format!("ä{number}")))).collect();
        let text = history_text(&[Arc::new(Message::user("the task"))], &replaced, 100);
        assert!(text.contains("the task") && text.contains("ä99\n") && !text.contains("ä1\n"), "{text}");
        assert!(text.len() < 250, "{}", text.len());
    }

    #[test]
    fn compaction_is_due_above_the_threshold() {
        assert!(!is_due(90, 100, None) && is_due(91, 100, None));
        assert!(!is_due(50, 100, Some(0.5)) && is_due(51, 100, Some(0.5)));
    }
}
