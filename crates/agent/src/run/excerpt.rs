//! Long results of tools: the whole text goes into a file of the job's folder, and the model is shown an excerpt.

use legwork_common::service::CallIndex;

use crate::environment::Environment;
use crate::toolset::boundary;

/// The most lines of a result that a model is shown. docker-agent's.
const MAX_LINES: usize = 2_000;
/// The most bytes of a result that a model is shown. docker-agent's.
const MAX_BYTES: usize = 50 * 1024;
/// The folder for whole results below the job's, hidden so that searches of the job's files pass it by.
const FOLDER: &str = ".legwork/results";
/// Tools of which the beginning is shown; of all others it is the end, which tells how it went.
const READING_TOOLS: [&str; 3] = ["read_file", "read_multiple_files", "read_skill_file"];

/// The text as the model is shown it. One that is too long is written to a file below the job's folder; where that fails, the
/// notice says that the rest is lost.
pub(super) fn shown(text: String, tool: &str, call: CallIndex, environment: &Environment) -> String {
    let lines = text.lines().count();
    if text.len() <= MAX_BYTES && lines <= MAX_LINES {
        return text;
    }
    let is_head = READING_TOOLS.contains(&tool);
    let excerpt = if is_head { head(&text) } else { tail(&text) };
    let part = if is_head { "beginning" } else { "end" };
    let size = format!("{} bytes in {lines} lines", text.len());
    let place = match written(&text, tool, call, environment) {
        Ok(file) => format!("the whole result is in {file}"),
        Err(error) => format!("the rest is lost: it could not be written ({error})"),
    };
    format!("[The result has {size}. This is its {part}; {place}.]\n\n{excerpt}")
}

/// The beginning of a text, in whole lines where it has several.
fn head(text: &str) -> &str {
    let limit = boundary(text, MAX_BYTES);
    let by_lines = text.match_indices('\n').nth(MAX_LINES - 1).map_or(limit, |(at, _)| at);
    let end = limit.min(by_lines);
    if end == text.len() || end == by_lines {
        return &text[..end];
    }
    text[..end].rfind('\n').map_or(&text[..end], |at| &text[..at])
}

/// The end of a text, in whole lines where it has several.
fn tail(text: &str) -> &str {
    let text = text.trim_end_matches('\n');
    let from = text.len().saturating_sub(MAX_BYTES);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let by_lines = text.rmatch_indices('\n').nth(MAX_LINES - 1).map_or(0, |(at, _)| at + 1);
    if from <= by_lines {
        return &text[by_lines..];
    }
    text[from..].find('\n').map_or(&text[from..], |at| &text[from + at + 1..])
}

/// Writes a result into its file, whose name is the call's; returns its path below the job's folder.
fn written(text: &str, tool: &str, call: CallIndex, environment: &Environment) -> std::io::Result<String> {
    let is_safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let tool: String = tool.chars().take(40).map(is_safe).collect();
    let file = format!("{FOLDER}/{}-{}-{tool}.txt", call.turn, call.index);
    environment.files().write(&environment.working_dir.join(&file), text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing;

    const CALL: CallIndex = CallIndex { turn: 3, index: 1 };

    #[test]
    fn a_long_result_is_an_excerpt_next_to_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (1..=3000).map(|number| format!("line {number}\n")).collect();
        let shown_tail = shown(lines.clone(), "shell", CALL, &testing::environment(folder.path()));
        let notice = "[The result has 28893 bytes in 3000 lines. This is its end; the whole result is in \
                      .legwork/results/3-1-shell.txt.]\n\nline 1001\n";
        assert!(shown_tail.starts_with(notice), "{}", &shown_tail[..200]);
        assert!(shown_tail.ends_with("line 3000"));
        assert_eq!(fs::read_to_string(folder.path().join(".legwork/results/3-1-shell.txt")).unwrap(), lines);
        let shown_head = shown(lines, "read_file", CALL, &testing::environment(folder.path()));
        assert!(shown_head.contains("This is its beginning") && shown_head.ends_with("line 2000"));
    }

    #[test]
    fn one_long_line_is_cut_at_a_whole_character() {
        let folder = tempfile::tempdir().unwrap();
        let text = "ä".repeat(40_000);
        for tool in ["read_file", "mcp:x/y"] {
            let excerpt = shown(text.clone(), tool, CALL, &testing::environment(folder.path()));
            let (_, excerpt) = excerpt.split_once("\n\n").unwrap();
            assert_eq!(excerpt.len(), MAX_BYTES, "{tool}");
        }
        let short = "x".repeat(MAX_BYTES);
        assert_eq!(shown(short.clone(), "shell", CALL, &testing::environment("/nowhere")), short);
        let lost = shown(text, "shell", CALL, &testing::environment("/proc/nowhere"));
        assert!(lost.contains("the rest is lost: it could not be written"), "{}", &lost[..200]);
    }
}
