//! The skills of the machine.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use legwork_common::team::yaml_to_json;
use legwork_common::variables::HOME;
use serde_json::Value;

use super::Fork;
use super::Skill;
use super::Source;
use crate::environment::Environment;
use crate::files::Files;
use crate::files::hidden::is_file;

/// The file that makes a folder a skill.
const FILE: &str = "SKILL.md";
/// Folders of skills in the home folder, with how deep they are searched.
const OF_USER: [(&str, usize); 3] =
    [(".agents/skills", MAX_DEPTH), (".claude/skills", 1), (".codex/skills", MAX_DEPTH)];
/// Folders of skills in each folder from the working one up to the root of the repository.
const OF_PROJECT: [&str; 2] = [".agents/skills", ".claude/skills"];
/// The key for the tools of a skill that runs in a conversation of its own, and the spelling of agent files.
const ALLOWED_TOOLS: [&str; 2] = ["allowed-tools", "allowed_tools"];
/// How many levels of folders a search goes down. People group skills by a topic or two.
const MAX_DEPTH: usize = 4;
/// The most skills of a machine: their names and descriptions are in each request.
const MAX_SKILLS: usize = 200;
/// The most bytes of a skill's file that are read. A model is shown far less.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The skills of the project and of the user, nearest first; and a line for each that cannot be used. What is in the folder of
/// the job is found with the rights of the commands' user. Waits for the disk.
pub(super) fn find(environment: &Environment) -> (Vec<Skill>, Vec<String>) {
    let mut roots: Vec<(PathBuf, usize)> = Vec::new();
    for folder in environment.working_dir.ancestors() {
        roots.extend(OF_PROJECT.iter().map(|skills| (folder.join(skills), 1)));
        if folder.join(".git").exists() {
            break;
        }
    }
    if let Some(home) = environment.variable(HOME) {
        roots.extend(OF_USER.iter().map(|(skills, depth)| (Path::new(home).join(skills), *depth)));
    }
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for (root, depth) in roots {
        search(environment, &root, depth, &mut found, &mut warnings);
    }
    if found.len() > MAX_SKILLS {
        warnings.push(format!("only the first {MAX_SKILLS} of {} skills are used", found.len()));
        found.truncate(MAX_SKILLS);
    }
    (found, warnings)
}

/// Searches the folders in `root`, in the order of their names. What is not there is no error; what cannot be read is a warning.
fn search(
    environment: &Environment,
    root: &Path,
    depth: usize,
    found: &mut Vec<Skill>,
    warnings: &mut Vec<String>,
) {
    let files = environment.files_at(root);
    let entered = files.as_user().and_then(|as_user| Ok((as_user, fs::read_dir(root)?)));
    let (_as_user, entries) = match entered {
        Ok(entered) => entered,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return;
        }
        Err(error) => {
            warnings.push(format!("skills in {} cannot be used: {error}", root.display()));
            return;
        }
    };
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    for folder in folders {
        let file = folder.join(FILE);
        match is_file(&file).map_err(|error| error.to_string()) {
            Ok(false) if depth > 1 => search(environment, &folder, depth - 1, found, warnings),
            Ok(false) => {}
            is_skill => match is_skill.and_then(|_| read(environment, &folder)) {
                Ok(skill) => found.push(skill),
                Err(reason) => warnings.push(format!("skill {} cannot be used: {reason}", file.display())),
            },
        }
    }
}

/// The skill in a folder, by its front matter.
fn read(environment: &Environment, folder: &Path) -> Result<Skill, String> {
    let text = read_text(environment.files_at(folder), &folder.join(FILE))?;
    let missing = || "it has no front matter with name and description".to_owned();
    let (front, _) = parts(&text).ok_or_else(missing)?;
    let front = yaml_to_json(front).map_err(|error| format!("its front matter is not YAML: {error}"))?;
    let field = |name: &str| front[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let (name, description) = field("name").zip(field("description")).ok_or_else(missing)?;
    let source = match field("context") {
        Some("fork") => Source::Forked(Box::new(fork(&text, &front)?)),
        Some(_) | None => Source::Folder(folder.to_owned()),
    };
    Ok(Skill { name: name.to_owned(), description: description.to_owned(), source })
}

/// A skill that runs in a conversation of its own. Its model and its toolsets would be those of an agent file, which the
/// folder has not: a skill that names them cannot be used.
fn fork(text: &str, front: &Value) -> Result<Fork, String> {
    for name in ["model", "toolsets"] {
        if !front[name].is_null() {
            return Err(format!(
                "`{name}` of a skill with `context: fork` is only supported in an agent file"
            ));
        }
    }
    Ok(Fork { text: body(text), allowed_tools: allowed_tools(front)?, ..Fork::default() })
}

/// The names of `allowed-tools`: a list, or a text with commas or spaces. Empty where the key is not there, for all tools.
///
/// # Errors
///
/// The key names no tool, or is something else: the skill would get all tools, or others than its author means.
fn allowed_tools(front: &Value) -> Result<Vec<String>, String> {
    let Some((key, tools)) = ALLOWED_TOOLS.iter().find_map(|key| Some((key, front.get(key)?))) else {
        return Ok(Vec::new());
    };
    let names: Option<Vec<&str>> = match tools {
        Value::String(names) => Some(names.split([',', ' ']).filter(|name| !name.is_empty()).collect()),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::trim)).collect(),
        _ => None,
    };
    let names = names.filter(|names| !names.is_empty() && !names.contains(&""));
    let names = names.ok_or_else(|| format!("`{key}` must name tools; leave it out for all of them"))?;
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The front matter and the text after it.
fn parts(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n"))?;
    let (front, text) = rest.split_once("\n---")?;
    Some((front, text.trim_start_matches('-').trim_start()))
}

/// The text of a skill without its front matter.
pub(super) fn text_of(environment: &Environment, folder: &Path) -> Result<String, String> {
    read_text(environment.files_at(folder), &folder.join(FILE)).map(|text| body(&text))
}

fn body(text: &str) -> String {
    parts(text).map_or(text, |(_, text)| text).trim_end().to_owned()
}

/// A file of a skill. Its path must lead to a file in the skill's folder, links included.
pub(super) fn file_of(environment: &Environment, folder: &Path, path: &str) -> Result<String, String> {
    let failed = |error| format!("{path} cannot be read: {error}");
    let _as_user = environment.files_at(folder).as_user().map_err(failed)?;
    let root = folder.canonicalize().map_err(failed)?;
    let file = folder.join(path);
    if !file.canonicalize().map_err(failed)?.starts_with(&root) {
        return Err(format!("{path} is not in the skill's folder"));
    }
    // By the path as it was found: a confined run reaches its folder by the name that the folder has, not by that of a link's
    // target.
    read_text(environment.files_at(folder), &file)
}

fn read_text(files: Files<'_>, file: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", file.display());
    match files.read(file, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(format!("{} has more than 1 MiB", file.display()))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tools_are_named_or_all() {
        for (front, expected) in [
            (json!({}), vec![]),
            (json!({"allowed-tools": "read_file, th*  shell"}), vec!["read_file", "th*", "shell"]),
            (json!({"allowed-tools": ["read_file", " shell "]}), vec!["read_file", "shell"]),
            (json!({"allowed_tools": ["think"]}), vec!["think"]),
        ] {
            assert_eq!(allowed_tools(&front).unwrap(), expected, "{front}");
        }
        for tools in
            [json!(null), json!(""), json!(" , "), json!([]), json!([""]), json!([1]), json!(true), json!({})]
        {
            let front = json!({"allowed-tools": tools});
            let refused = allowed_tools(&front).unwrap_err();
            assert_eq!(refused, "`allowed-tools` must name tools; leave it out for all of them", "{front}");
        }
    }
}
