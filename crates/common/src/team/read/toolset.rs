//! One toolset, and the definitions of `mcps` that toolsets refer to.

use std::collections::BTreeMap;

use super::agent::References;
use super::mcp;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::keys::Effect;
use crate::team::model::ModelSettings;
use crate::team::names::listed;
use crate::team::reader::Reader;
use crate::team::source::shown;
use crate::team::toolset::Api;
use crate::team::toolset::Defer;
use crate::team::toolset::Launch;
use crate::team::toolset::PostEdit;
use crate::team::toolset::Script;
use crate::team::toolset::Toolset;
use crate::team::toolset::ToolsetKind;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The entries of `mcps` by name.
pub(super) type Definitions<'n> = BTreeMap<String, Fields<'n>>;

/// A toolset with nothing but its type.
pub(super) fn plain(kind: ToolsetKind) -> Toolset {
    Toolset { kind, tools: Vec::new(), instruction: None, toon: Vec::new(), model: Vec::new(), defer: None }
}

/// Reads `mcps`.
pub(super) fn definitions<'n>(reader: &mut Reader<'_>, file: &Fields<'n>) -> Definitions<'n> {
    let mut definitions = Definitions::new();
    for entry in file.map(reader, "mcps", "a map of names to MCP servers") {
        if let Some(fields) = reader.fields_unwarned(&entry.node, &keys::TOOLSET) {
            check_keys(reader, &fields, "mcp");
            mcp::check_definition(reader, &entry.key, &fields);
            definitions.insert(entry.key.clone(), fields);
        }
    }
    definitions
}

/// Reads a toolset of an agent; none where a mistake was noted.
pub(super) fn read(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    who: &str,
    node: &Node,
) -> Option<Toolset> {
    if let Value::Text(word) = &node.value {
        let hint = format!("write `- type: {}`", shown(word));
        reader.error(node.at, "a toolset must be a map with `type`, not one text", Some(hint));
        return None;
    }
    let Some(kind) = type_of(node) else {
        let fields = reader.fields(node, &keys::TOOLSET)?;
        let hint = format!("the types are: {}", listed(keys::TOOLSET_TYPES.names(reader.version)));
        let at = fields.node("type").map_or(node.at, |node| node.at);
        reader.error(at, format!("a toolset of {who} needs `type`"), Some(hint));
        return None;
    };
    let Some(known) = keys::TOOLSET_TYPES.find(kind, reader.version) else {
        let near = reader.nearest(kind, keys::TOOLSET_TYPES.names(reader.version));
        let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        let kind = kind.to_owned();
        let message = format!("unknown toolset type: {}{near}; the agent runs without it", shown(&kind));
        reader.warn(node.at, message);
        return Some(plain(ToolsetKind::Unsupported { kind }));
    };
    let fields = match known.effect {
        Effect::Acted => reader.fields(node, &keys::TOOLSET)?,
        Effect::Instead(what) => {
            let fields = reader.fields_unwarned(node, &keys::TOOLSET)?;
            let at = fields.node("type").map_or(node.at, |node| node.at);
            reader.warn(at, format!("toolset type `{kind}` is accepted, not acted on yet: {what}"));
            fields
        }
    };
    check_keys(reader, &fields, known.name);
    let kind = read_kind(reader, references, who, &fields, known.name);
    if reader.version <= 1 {
        fields.texts(reader, "env_file");
    }
    Some(Toolset {
        tools: fields.texts(reader, "tools"),
        instruction: fields.text(reader, "instruction"),
        toon: read_toon(reader, &fields),
        model: read_model(reader, references, who, &fields),
        defer: read_defer(reader, &fields),
        kind: kind?,
    })
}

/// What `type` says, where it says anything.
fn type_of(node: &Node) -> Option<&str> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == "type")?;
    match &entry.node.value {
        Value::Text(kind) if !kind.is_empty() => Some(kind),
        _ => None,
    }
}

/// That the type takes every key that is there.
fn check_keys(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str) {
    for entry in fields.entries {
        let Some(key) = keys::TOOLSET.find(&entry.key, reader.version) else {
            continue;
        };
        if !key.only_for.is_empty() && !key.only_for.contains(&kind) && !entry.node.is_unset() {
            let message = format!("{} can only be used with type {}", key.name, either(key.only_for));
            reader.error(entry.key_at, message, Some(format!("this toolset has the type '{kind}'")));
        }
        let meant = keys::MEANT_FOR.iter().find(|(name, _)| *name == key.name);
        if let Some((name, meant)) = meant.filter(|(_, meant)| *meant != kind) {
            reader.warn(
                entry.key_at,
                format!("`{name}` has no effect in a toolset of type '{kind}', only in '{meant}'"),
            );
        }
    }
}

/// Types as `'a', 'b' or 'c'`.
fn either(types: &[&str]) -> String {
    let quoted: Vec<String> = types.iter().map(|kind| format!("'{kind}'")).collect();
    match quoted.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        few => few.concat(),
    }
}

/// The settings of one type.
fn read_kind(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    who: &str,
    fields: &Fields<'_>,
    kind: &'static str,
) -> Option<ToolsetKind> {
    Some(match kind {
        "think" => ToolsetKind::Think,
        "todo" => ToolsetKind::Todo { shared: fields.flag(reader, "shared").unwrap_or(false) },
        "shell" => ToolsetKind::Shell { env: fields.text_map(reader, "env") },
        "filesystem" => ToolsetKind::Filesystem {
            ignore_vcs: fields.flag(reader, "ignore_vcs").unwrap_or(true),
            post_edit: read_post_edit(reader, fields),
        },
        "mcp" => ToolsetKind::Mcp(mcp::read(reader, references, who, fields)?),
        "background_agents" => ToolsetKind::BackgroundAgents,
        "fetch" => ToolsetKind::Fetch { timeout: seconds(reader, fields) },
        "memory" => ToolsetKind::Memory { path: read_path(reader, fields) },
        "script" => ToolsetKind::Script { scripts: read_scripts(reader, fields) },
        "api" => ToolsetKind::Api(read_api(reader, fields)?),
        "openapi" => ToolsetKind::Openapi {
            url: needed(reader, fields, "url", kind)?,
            headers: fields.text_map(reader, "headers"),
        },
        "a2a" => ToolsetKind::A2a {
            name: fields.text(reader, "name"),
            url: needed(reader, fields, "url", kind)?,
            headers: fields.text_map(reader, "headers"),
        },
        "lsp" => {
            let command = needed(reader, fields, "command", kind)?;
            let launch = read_launch(reader, fields, command);
            ToolsetKind::Lsp { launch, file_types: fields.texts(reader, "file_types") }
        }
        "tasks" => ToolsetKind::Tasks { path: fields.text(reader, "path") },
        "user_prompt" => ToolsetKind::UserPrompt,
        "model_picker" => ToolsetKind::ModelPicker { models: read_models(reader, references, who, fields) },
        other => ToolsetKind::Unsupported { kind: other.to_owned() },
    })
}

/// A text that a type cannot do without.
pub(super) fn needed(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &str, kind: &str) -> Option<String> {
    if !fields.has(key) {
        reader.error(fields.at, format!("{key} must be set in a toolset of type '{kind}'"), None);
    }
    fields.text(reader, key)
}

/// How a program of this machine is started.
pub(super) fn read_launch(reader: &mut Reader<'_>, fields: &Fields<'_>, command: String) -> Launch {
    Launch {
        command,
        args: fields.texts(reader, "args"),
        env: fields.text_map(reader, "env"),
        version: fields.text(reader, "version"),
    }
}

/// `model`: what takes the next turn.
fn read_model(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    who: &str,
    fields: &Fields<'_>,
) -> Vec<ModelSettings> {
    let Some(reference) = fields.text(reader, "model") else { return Vec::new() };
    let at = fields.node("model").map_or(fields.at, |node| node.at);
    references.models.resolve(reader, who, &reference, at).unwrap_or_default()
}

/// `models` of a model picker.
fn read_models(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    who: &str,
    fields: &Fields<'_>,
) -> Vec<String> {
    let mut models = Vec::new();
    for (reference, at) in fields.placed_texts(reader, "models") {
        if references.models.resolve(reader, who, &reference, at).is_some() {
            models.push(reference);
        }
    }
    if !fields.has("models") {
        reader.error(fields.at, "models must be set in a toolset of type 'model_picker'", None);
    }
    models
}

/// `toon`: regular expressions with commas between, or a list of them.
fn read_toon(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<String> {
    match fields.node("toon") {
        Some(Node { value: Value::List(_), .. }) => fields.texts(reader, "toon"),
        _ => fields
            .text_or_empty(reader, "toon")
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect(),
    }
}

/// `defer`: `true`, or names of tools.
fn read_defer(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Defer> {
    match fields.node("defer")? {
        Node { value: Value::Flag(all), .. } => all.then_some(Defer::All),
        Node { value: Value::List(_), .. } => Some(Defer::Tools(fields.texts(reader, "defer"))),
        node => {
            reader.wrong_kind("defer", "`true`, `false` or a list of tools", node);
            None
        }
    }
}

/// `path`, which version 2 wanted in every memory.
fn read_path(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let path = fields.text(reader, "path");
    if reader.version <= 2 && !fields.has("path") {
        reader.error(fields.at, "path must be set in a toolset of type 'memory'", None);
    }
    path
}

/// `timeout` in seconds.
fn seconds(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<u32> {
    let seconds = fields.integer(reader, "timeout", 0, i64::from(u32::MAX))?;
    u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// `post_edit`.
fn read_post_edit(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<PostEdit> {
    let mut rules = Vec::new();
    for node in fields.list(reader, "post_edit") {
        let Some(rule) = reader.fields(node, &keys::POST_EDIT) else {
            continue;
        };
        let (path, cmd) = (rule.text(reader, "path"), rule.text(reader, "cmd"));
        match path.zip(cmd) {
            Some((path, cmd)) => rules.push(PostEdit { path, cmd }),
            None if rule.has("path") && rule.has("cmd") => {}
            None => reader.error(node.at, "a post-edit rule needs `path` and `cmd`", None),
        }
    }
    rules
}

/// `shell` of a script toolset.
fn read_scripts(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Script> {
    let mut scripts = BTreeMap::new();
    let of_all = fields.text_map(reader, "env");
    if !fields.has("shell") {
        reader.error(fields.at, "shell must be set in a toolset of type 'script'", None);
    }
    for entry in fields.map(reader, "shell", "a map of tool names to commands") {
        let Some(script) = reader.fields(&entry.node, &keys::SCRIPT) else {
            continue;
        };
        let Some(cmd) = script.text(reader, "cmd") else {
            reader.error(entry.key_at, format!("script '{}' needs `cmd`", shown(&entry.key)), None);
            continue;
        };
        let required = script.has("required").then(|| script.texts(reader, "required"));
        let args = script.json_map(reader, "args");
        for (name, at) in script.placed_texts(reader, "required") {
            if !args.contains_key(&name) {
                let message = format!(
                    "script '{}' requires '{}', which is not in its `args`",
                    shown(&entry.key),
                    shown(&name)
                );
                let hint = format!("add `{}` to `args`, or remove it here", shown(&name));
                reader.error(at, message, Some(hint));
            }
        }
        let read = Script {
            cmd,
            description: script.text_or_empty(reader, "description"),
            args,
            required,
            env: of_all.clone().into_iter().chain(script.text_map(reader, "env")).collect(),
            working_dir: script.text(reader, "working_dir"),
        };
        scripts.insert(entry.key.clone(), read);
    }
    scripts
}

/// `api_config`.
fn read_api(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Api> {
    let Some(node) = fields.node("api_config") else {
        reader.error(fields.at, "api_config must be set in a toolset of type 'api'", None);
        return None;
    };
    let api = reader.fields(node, &keys::API)?;
    let endpoint = needed(reader, &api, "endpoint", "api")?;
    Some(Api {
        name: needed(reader, &api, "name", "api")?,
        endpoint,
        method: read_method(reader, &api),
        instruction: api.text_or_empty(reader, "instruction"),
        headers: api.text_map(reader, "headers"),
        args: api.json_map(reader, "args"),
        required: api.texts(reader, "required"),
        output_schema: api.json_object(reader, "output_schema"),
    })
}

/// The methods of HTTP that a call can have.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// `method`, in any case; GET where the file does not say.
fn read_method(reader: &mut Reader<'_>, api: &Fields<'_>) -> String {
    let (Some(method), Some(node)) = (api.text(reader, "method"), api.node("method")) else {
        return METHODS[0].to_owned();
    };
    if !METHODS.contains(&method.to_uppercase().as_str()) {
        let hint = format!("it is {}", listed(METHODS));
        reader.error(node.at, format!("`{}` is no method of HTTP", shown(&method)), Some(hint));
    }
    method
}
