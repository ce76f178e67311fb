//! Reads `instruction` and `instruction_file`.

use crate::team::fields::Fields;
use crate::team::read::Files;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// What separates the parts of an instruction.
const SEPARATOR: &str = "\n\n";

/// Reads the system prompt: `instruction`, a string or a list of strings, or the files of `instruction_file`.
pub(super) fn read_instruction(
    reader: &mut Reader<'_>,
    files: Files<'_>,
    fields: &Fields<'_>,
    subject: &str,
) -> String {
    let Some(file) = fields.entry("instruction_file") else {
        return fields.node("instruction").map_or_else(String::new, |node| read_text(reader, subject, node));
    };
    if fields.has("instruction") {
        let message =
            format!("{subject}: instruction and instruction_file are mutually exclusive, set only one");
        reader.error(file.key_at, message, None);
    }
    let paths = match &file.node.value {
        Value::List(_) => reader.strings_of("instruction_file", &file.node),
        _ => fields.string(reader, "instruction_file").map(|path| (path, file.node.at)).into_iter().collect(),
    };
    let mut parts = Vec::new();
    for (path, at) in paths.into_iter().filter(|(path, _)| !path.is_empty()) {
        parts.extend(read_part(reader, files, &path, at));
    }
    parts.join(SEPARATOR)
}

/// Reads `instruction`.
fn read_text(reader: &mut Reader<'_>, subject: &str, node: &Node) -> String {
    match &node.value {
        Value::List(_) => {
            let parts: Vec<String> =
                reader.strings_of("instruction", node).into_iter().map(|(text, _)| text).collect();
            parts.join(SEPARATOR)
        }
        _ => reader.string_of(node).unwrap_or_else(|| {
            let message = format!("{subject}: instruction must be a string or a list of strings");
            reader.error(node.at, message, None);
            String::new()
        }),
    }
}

/// Reads one file of `instruction_file`: its path must not leave the folder of the agent file.
fn read_part(reader: &mut Reader<'_>, files: Files<'_>, path: &str, at: Position) -> Option<String> {
    let shown = excerpt(path);
    let leaves = path.starts_with(['/', '~', '\\'])
        || path.split(['/', '\\']).any(|part| part == "..")
        || path.as_bytes().get(1) == Some(&b':');
    if leaves {
        let hint = "write a path below the folder of the agent file, such as `prompts/root.md`".to_owned();
        reader.error(
            at,
            format!("instruction_file `{shown}` is outside the folder of the agent file"),
            Some(hint),
        );
        return None;
    }
    match files(path) {
        Ok(text) if reader.charge_copy(text.len(), at) => Some(text),
        Ok(_) => None,
        Err(problem) => {
            let hint = "paths are relative to the folder of the agent file".to_owned();
            reader.error(at, format!("instruction_file `{shown}` cannot be read: {problem}"), Some(hint));
            None
        }
    }
}
