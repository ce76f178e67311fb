//! When a conversation is about to fill its model's window, and what of it a summary takes the place of. Pure.
//!
//! The task and the last turns stay as they are. Everything between them becomes one user message.

use std::fmt::Write as _;

use legwork_common::team::Api;
use legwork_common::team::ModelSettings;

use crate::message::Message;
use crate::message::ToolResult;
use crate::tool::ToolSpec;
use crate::toolset::boundary;

/// Bytes of a token: fewer than most texts have, so that an estimate is rather too high.
const BYTES_PER_TOKEN: u64 = 3;
/// The window of a model that no line of the table knows.
const USUAL_WINDOW: u64 = 128_000;
/// The same where the model runs on a machine of the user.
const LOCAL_WINDOW: u64 = 32_000;
/// Tokens of the window by the beginning of a model's name, without what providers put before it.
const WINDOWS: &[(&str, u64)] = &[
    ("claude", 200_000),
    ("gpt-4.1", 1_000_000),
    ("gpt-4", 128_000),
    ("gpt-5", 272_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("gemini", 1_000_000),
];
/// Bytes of one tool result that a summary is made from.
const RESULT_BYTES: usize = 2_000;

/// What the model that writes a summary is told.
pub(crate) const INSTRUCTION: &str = "You are given the course of an agent's work so far, which is too long to keep. Write \
the summary that the agent goes on from: what it was asked, what was found and decided, names, paths, ids and numbers that \
matter, what failed, what is still to be done. Answer with the summary alone.";

/// Tokens that the model takes, of question and answer together: `provider_opts.context_size`, else by its name.
pub(crate) fn window(settings: &ModelSettings) -> u64 {
    let written = settings.provider_opts.get("context_size").and_then(serde_json::Value::as_u64);
    if let Some(tokens) = written.filter(|tokens| *tokens > 0) {
        return tokens;
    }
    let local = settings.api == Api::DockerModelRunner || settings.provider == "ollama";
    let name =
        settings.model.rsplit(['/', '.']).find(|part| part.len() > 2 && !part.starts_with(char::is_numeric));
    let known = WINDOWS.iter().find(|(start, _)| {
        settings.model.starts_with(start) || name.is_some_and(|name| name.starts_with(start))
    });
    known.map_or(if local { LOCAL_WINDOW } else { USUAL_WINDOW }, |(_, tokens)| *tokens)
}

/// About how many tokens a request has.
pub(crate) fn estimate(messages: &[Message], tools: &[ToolSpec]) -> u64 {
    let said: usize = messages.iter().map(Message::bytes).sum();
    let offered: usize = tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.to_string().len())
        .sum();
    tokens(said + offered)
}

/// About how many tokens this many bytes are.
pub(crate) fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

/// Whether a request of this size leaves too little of the window: less than a fifth.
pub(crate) fn is_due(request: u64, window: u64) -> bool {
    request.saturating_mul(5) > window.saturating_mul(4)
}

/// How many of the last messages stay, beside the first `task` ones: whole turns, at least the last, at most a quarter
/// of the window. `None` where nothing is left that a summary could replace.
pub(crate) fn kept(messages: &[Message], task: usize, window: u64) -> Option<usize> {
    let (mut kept, mut bytes) = (None, 0);
    for (at, message) in messages.iter().enumerate().skip(task).rev() {
        bytes += message.bytes();
        let begins = matches!(message, Message::Assistant(_));
        if kept.is_some() && tokens(bytes) > window / 4 {
            break;
        }
        // Results never stay without the reply that asked for them.
        if begins {
            kept = Some(messages.len() - at);
        }
    }
    let kept = kept?;
    (messages.len() - kept > task).then_some(kept)
}

/// What a summary is made from, in at most about half a window: of too long a course the beginning goes.
pub(crate) fn course(task: &[Message], replaced: &[Message], window: u64) -> String {
    let mut text = String::new();
    for message in replaced {
        tell(&mut text, message);
    }
    let most = usize::try_from(window.saturating_mul(BYTES_PER_TOKEN) / 2).unwrap_or(usize::MAX);
    let from = text.len() - boundary(&text, most.min(text.len()));
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let mut whole = String::from("# The task\n\n");
    for message in task {
        tell(&mut whole, message);
    }
    whole.push_str("\n# The course of the work\n\n");
    whole.push_str(&text[from..]);
    whole
}

/// One message as a reader sees it.
fn tell(text: &mut String, message: &Message) {
    // Writing to a String cannot fail.
    match message {
        Message::System { text: said } => writeln!(text, "Instruction: {said}").ok(),
        Message::User { text: said } => writeln!(text, "User: {said}").ok(),
        Message::Assistant(reply) => {
            for call in &reply.tool_calls {
                writeln!(text, "Agent calls {} {}", call.name, call.arguments).ok();
            }
            writeln!(text, "Agent: {}", reply.text).ok()
        }
        Message::ToolResult(ToolResult { name, text: said, .. }) => {
            writeln!(text, "Result of {name}: {}", &said[..boundary(said, RESULT_BYTES)]).ok()
        }
    };
}

/// The user message that stands for what was replaced.
pub(crate) fn in_place(summary: &str) -> Message {
    Message::user(format!("[Earlier work was replaced by this summary of it.]\n\n{summary}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::AssistantMessage;

    fn conversation(kinds: &str) -> Vec<Message> {
        let message = |kind| match kind {
            's' => Message::system("s".repeat(30)),
            'u' => Message::user("u".repeat(30)),
            'a' => {
                Message::Assistant(AssistantMessage { text: "a".repeat(30), ..AssistantMessage::default() })
            }
            _ => Message::ToolResult(ToolResult {
                call_id: "c".into(),
                name: "n".into(),
                text: "r".repeat(30),
                is_error: false,
            }),
        };
        kinds.chars().map(message).collect()
    }

    #[test]
    fn the_last_turns_stay_whole() {
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
    fn windows_follow_the_file_then_the_name() {
        let window_of = |provider, model| window(&ModelSettings::inline(provider, model).unwrap());
        assert_eq!(window_of("anthropic", "claude-sonnet-4-0"), 200_000);
        assert_eq!(window_of("amazon-bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"), 200_000);
        assert_eq!(window_of("openai", "gpt-4.1-mini"), 1_000_000);
        assert_eq!(window_of("xai", "grok"), USUAL_WINDOW);
        assert_eq!(window_of("dmr", "ai/qwen3"), LOCAL_WINDOW);
        let mut settings = ModelSettings::inline("openai", "gpt-4o").unwrap();
        settings.provider_opts.insert("context_size".to_owned(), 5000.into());
        assert_eq!(window(&settings), 5000);
    }

    #[test]
    fn a_course_is_cut_at_its_beginning() {
        let replaced: Vec<Message> = (0..100).map(|number| Message::user(format!("ä{number}"))).collect();
        let text = course(&[Message::user("the task")], &replaced, 100);
        assert!(text.contains("the task") && text.contains("ä99\n") && !text.contains("ä1\n"), "{text}");
        assert!(text.len() < 250, "{}", text.len());
    }

    #[test]
    fn a_fifth_stays_free() {
        assert!(!is_due(80, 100) && is_due(81, 100));
    }
}
