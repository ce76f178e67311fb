//! Reads `harness`: another agent's program, as an agent with a command.

use crate::team::agent::AgentKind;
use crate::team::keys;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::excerpt;
use crate::team::toolset::StringMap;
use crate::team::tree::Node;

/// The levels of `effort`.
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// The settings of a harness that only one program has: the setting, and the program.
const ONLY_WITH: [(&str, &str); 3] =
    [("effort", "claude-code"), ("agent", "opencode"), ("thinking", "opencode")];

/// Reads `harness`. Returns `None` when an error was recorded that prevents it.
pub(super) fn read_harness(
    reader: &mut Reader<'_>,
    node: &Node,
    env: StringMap,
    working_dir: Option<String>,
) -> Option<AgentKind> {
    let fields = reader.fields(node, &keys::HARNESS)?;
    let kind = fields.string_or_empty(reader, "type");
    let at = fields.node("type").map_or(node.at, |node| node.at);
    let Some(known) = keys::HARNESS_TYPES.find(&kind, reader.version) else {
        let message = match kind.as_str() {
            "" => "harness.type is required".to_owned(),
            other => format!("unsupported harness.type `{}`", excerpt(other)),
        };
        let hint = format!("valid types: {}", quoted_list(keys::HARNESS_TYPES.names(reader.version)));
        reader.error(at, message, Some(hint));
        return None;
    };
    reader.note(known, &keys::HARNESS_TYPES, at);
    for (key, program) in ONLY_WITH {
        if let Some(entry) = fields.entry(key).filter(|entry| known.name != program && !entry.node.is_unset())
        {
            let message = format!("harness.{key} can only be used with harness.type '{program}'");
            reader.error(entry.key_at, message, None);
        }
    }
    let effort = fields.string(reader, "effort");
    if let Some(effort) = effort.as_deref().filter(|effort| !EFFORTS.contains(effort)) {
        let at = fields.node("effort").map_or(node.at, |node| node.at);
        let hint = format!("valid values: {}", quoted_list(EFFORTS));
        reader.error(at, format!("unknown harness.effort `{}`", excerpt(effort)), Some(hint));
    }
    let model = fields.string(reader, "model");
    let agent = fields.string(reader, "agent");
    let thinking = fields.bool(reader, "thinking").unwrap_or(false);
    let mut words = words_before(known.name);
    for (flag, value) in [("--model", model), ("--effort", effort), ("--agent", agent)] {
        words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    words.extend(thinking.then(|| "--thinking".to_owned()));
    words.extend(last_word(known.name).map(str::to_owned));
    let program = words.remove(0);
    Some(AgentKind::Command { program, args: words, env, working_dir })
}

/// The program of a harness and its first arguments. They make it print its answer and ask no user.
fn words_before(kind: &str) -> Vec<String> {
    let words: &[&str] = match kind {
        "claude-code" => &["claude", "-p", "--output-format", "text", "--permission-mode", "acceptEdits"],
        "codex" => &["codex", "exec", "--sandbox", "workspace-write", "--skip-git-repo-check"],
        "opencode" => &["opencode", "run"],
        _ => &["pi", "-p"],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// How the program gets the task: claude reads standard input, codex is told to with a dash, the others take an argument.
fn last_word(kind: &str) -> Option<&'static str> {
    match kind {
        "claude-code" => None,
        "codex" => Some("-"),
        _ => Some("{task}"),
    }
}
