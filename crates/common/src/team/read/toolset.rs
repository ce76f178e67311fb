//! Reads toolsets, and the definitions of `mcps` that toolsets refer to.

use std::collections::BTreeMap;

use super::agent::References;
use super::fetch::read_fetch;
use super::mcp;
use super::webhook::read_webhook;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::keys::Support;
use crate::team::model::ModelSettings;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::excerpt;
use crate::team::toolset::Api;
use crate::team::toolset::Defer;
use crate::team::toolset::Launch;
use crate::team::toolset::PostEdit;
use crate::team::toolset::Script;
use crate::team::toolset::Toolset;
use crate::team::toolset::ToolsetKind;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The definitions of `mcps`, by name.
pub(super) type Definitions<'n> = BTreeMap<String, Fields<'n>>;

/// A toolset without any of the common settings.
pub(super) fn plain(kind: ToolsetKind) -> Toolset {
    Toolset {
        kind,
        tools: Vec::new(),
        instruction: None,
        toon: Vec::new(),
        model: Vec::new(),
        defer: None,
        readonly: false,
        public_only: false,
        left: Vec::new(),
    }
}

/// Reads `mcps`.
pub(super) fn definitions<'n>(reader: &mut Reader<'_>, file: &Fields<'n>) -> Definitions<'n> {
    let mut definitions = Definitions::new();
    for entry in file.map(reader, "mcps", "a map of names to MCP servers") {
        if let Some(fields) = reader.fields(&entry.node, &keys::TOOLSET) {
            check_keys(reader, &fields, "mcp");
            mcp::check_definition(reader, &entry.key, &fields);
            definitions.insert(entry.key.clone(), fields);
        }
    }
    definitions
}

/// Reads a toolset of an agent. Returns `None` when an error was recorded that prevents it.
pub(super) fn read(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    node: &Node,
) -> Option<Toolset> {
    if let Value::String(name) = &node.value {
        let hint = format!("write `- type: {}`", excerpt(name));
        reader.error(node.at, "a toolset must be a map with `type`, not a string", Some(hint));
        return None;
    }
    let Some(kind) = type_of(node) else {
        let fields = reader.fields(node, &keys::TOOLSET)?;
        let hint = format!("valid types: {}", quoted_list(keys::TOOLSET_TYPES.names(reader.version)));
        let at = fields.node("type").map_or(node.at, |node| node.at);
        reader.error(at, format!("a toolset of {subject} needs `type`"), Some(hint));
        return None;
    };
    let Some(known) = keys::TOOLSET_TYPES.find(kind, reader.version) else {
        return unknown_type(reader, node, kind);
    };
    let at = type_node(node).map_or(node.at, |node| node.at);
    reader.note(known, &keys::TOOLSET_TYPES, at);
    let fields = if known.support == Support::No {
        let fields = reader.fields_without_warnings(node, &keys::TOOLSET)?;
        reader.warn(at, format!("toolset type `{kind}` has no effect yet: {}", known.note));
        fields
    } else {
        reader.fields(node, &keys::TOOLSET)?
    };
    check_keys(reader, &fields, known.name);
    let kind = read_kind(reader, references, subject, &fields, known.name);
    if reader.version <= 1 {
        fields.strings(reader, "env_file");
    }
    if known.name == "shell" && (3..=5).contains(&reader.version) {
        check_sandbox(reader, &fields);
    }
    Some(Toolset {
        tools: read_tools(reader, &fields, known.name),
        instruction: fields.string(reader, "instruction"),
        toon: read_toon(reader, &fields),
        model: read_model(reader, references, subject, &fields),
        defer: read_defer(reader, &fields),
        readonly: fields.bool(reader, "readonly").unwrap_or(false),
        public_only: read_public_only(reader, &fields, known.name),
        left: Vec::new(),
        kind: kind?,
    })
}

/// Reads `allow_private_ips` of other types than `fetch`: whether it is `false`. MCP servers are reached at any address, so
/// there it is an error.
fn read_public_only(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str) -> bool {
    if kind == "fetch" {
        return false;
    }
    let is_refused = fields.bool(reader, "allow_private_ips") == Some(false);
    if let Some(entry) = fields.entry("allow_private_ips").filter(|_| is_refused && kind == "mcp") {
        let hint = "a server is reached at the address that the file names; remove the key";
        reader.refuse(entry.key_at, "`allow_private_ips: false` of an MCP server", hint);
    }
    is_refused && ["api", "openapi", "a2a"].contains(&kind)
}

/// Toolset types that are a part of another one, with the tools that they have of it.
const PARTS: [(&str, &[&str]); 2] = [
    (
        "background_jobs",
        &[
            "run_background_job",
            "list_background_jobs",
            "view_background_job",
            "stop_background_job",
            "wait_background_job",
        ],
    ),
    ("file", &["read_file", "write_file", "edit_file"]),
];

/// Reads `tools`. A type that is a part of another one has at most its own tools.
fn read_tools(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str) -> Vec<String> {
    let listed = fields.strings(reader, "tools");
    let Some((_, part)) = PARTS.iter().find(|(name, _)| *name == kind) else { return listed };
    let own = part.iter().map(|tool| (*tool).to_owned());
    if listed.is_empty() {
        return own.collect();
    }
    let both: Vec<String> = own.filter(|tool| listed.contains(tool)).collect();
    // No tool has this name: an empty list would mean all of them.
    if both.is_empty() { vec![String::new()] } else { both }
}

/// An unknown type that looks like a known one is a mistake. Any other may be of a newer docker-agent: a warning, and
/// the agent runs without it.
fn unknown_type(reader: &mut Reader<'_>, node: &Node, kind: &str) -> Option<Toolset> {
    let message = format!("unknown toolset type `{}`", excerpt(kind));
    if let Some(near) = reader.closest(kind, keys::TOOLSET_TYPES.names(reader.version)) {
        reader.error(node.at, message, Some(format!("did you mean `{near}`?")));
        return None;
    }
    reader.warn(node.at, format!("{message}; the agent runs without it"));
    Some(plain(ToolsetKind::Unsupported { kind: kind.to_owned() }))
}

/// Checks `sandbox`, which docker-agent needs at least one path for.
fn check_sandbox(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    let Some(sandbox) = fields.node("sandbox").and_then(|node| reader.fields(node, &keys::SANDBOX)) else {
        return;
    };
    sandbox.string(reader, "image");
    sandbox.strings(reader, "paths");
    if !sandbox.has("paths") {
        reader.error(sandbox.at, "sandbox requires at least one path to be set", None);
    }
}

/// The value of `type`; `None` when it is absent, empty or not a string.
fn type_of(node: &Node) -> Option<&str> {
    match &type_node(node)?.value {
        Value::String(kind) if !kind.is_empty() => Some(kind),
        _ => None,
    }
}

/// The node of `type`.
fn type_node(node: &Node) -> Option<&Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries.iter().find(|entry| entry.key == "type").map(|entry| &entry.node)
}

/// Checks that the toolset type accepts every key of the toolset. A key with its default value is accepted
/// everywhere, because docker-agent cannot distinguish it from an absent one.
fn check_keys(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str) {
    for entry in fields.entries {
        let Some(key) = keys::TOOLSET.find(&entry.key, reader.version) else {
            continue;
        };
        if !key.only_for.is_empty() && !key.only_for.contains(&kind) && !entry.node.is_unset() {
            let message = format!("{} can only be used with type {}", key.name, either(key.only_for));
            reader.error(entry.key_at, message, Some(format!("this toolset has the type '{kind}'")));
        }
        let effective_in = keys::EFFECTIVE_IN.iter().find(|(name, _)| *name == key.name);
        if let Some((name, only)) = effective_in.filter(|(_, only)| *only != kind) {
            reader.warn(
                entry.key_at,
                format!("`{name}` has no effect in a toolset of type '{kind}', only in '{only}'"),
            );
        }
    }
}

/// Formats types as `'a', 'b' or 'c'`.
fn either(types: &[&str]) -> String {
    let quoted: Vec<String> = types.iter().map(|kind| format!("'{kind}'")).collect();
    match quoted.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        single => single.concat(),
    }
}

/// Reads the settings of a toolset type.
fn read_kind(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    fields: &Fields<'_>,
    kind: &'static str,
) -> Option<ToolsetKind> {
    Some(match kind {
        "think" => ToolsetKind::Think,
        "todo" => ToolsetKind::Todo { shared: fields.bool(reader, "shared").unwrap_or(false) },
        "shell" | "background_jobs" => {
            for name in ["safer", "sudo_askpass", "recall"] {
                fields.bool(reader, name);
            }
            ToolsetKind::Shell { env: fields.string_map(reader, "env") }
        }
        "filesystem" | "file" => read_filesystem(reader, fields),
        "mcp" => ToolsetKind::Mcp(mcp::read(reader, references, subject, fields)?),
        "background_agents" => ToolsetKind::BackgroundAgents,
        "fetch" => read_fetch(reader, fields),
        "memory" => ToolsetKind::Memory { path: read_path(reader, fields) },
        "script" => ToolsetKind::Script { scripts: read_scripts(reader, fields) },
        "api" => ToolsetKind::Api(read_api(reader, fields)?),
        "openapi" => ToolsetKind::Openapi {
            url: required(reader, fields, "url", kind)?,
            headers: fields.string_map(reader, "headers"),
        },
        "a2a" => ToolsetKind::A2a {
            name: fields.string(reader, "name"),
            url: required(reader, fields, "url", kind)?,
            headers: fields.string_map(reader, "headers"),
        },
        "lsp" => {
            let command = required(reader, fields, "command", kind)?;
            let launch = read_launch(reader, fields, command);
            ToolsetKind::Lsp { launch, file_types: fields.strings(reader, "file_types") }
        }
        "webhook" => ToolsetKind::Webhook(read_webhook(reader, fields)?),
        "git" => ToolsetKind::Git,
        "environment" => ToolsetKind::Environment,
        "plan" => ToolsetKind::Plan,
        "open_url" => ToolsetKind::OpenUrl {
            name: fields.string(reader, "name"),
            url: required(reader, fields, "url", kind)?,
        },
        "tasks" => ToolsetKind::Tasks { path: fields.string(reader, "path") },
        "user_prompt" => ToolsetKind::UserPrompt,
        "model_picker" => {
            ToolsetKind::ModelPicker { models: read_models(reader, references, subject, fields) }
        }
        other => {
            check_unused(reader, fields, other);
            ToolsetKind::Unsupported { kind: other.to_owned() }
        }
    })
}

/// Reads `filesystem`, of which `file` is a part.
fn read_filesystem(reader: &mut Reader<'_>, fields: &Fields<'_>) -> ToolsetKind {
    ToolsetKind::Filesystem {
        ignore_vcs: fields.bool(reader, "ignore_vcs").unwrap_or(true),
        post_edit: read_post_edit(reader, fields),
        allow_list: read_entries(reader, fields, "allow_list"),
        deny_list: read_entries(reader, fields, "deny_list"),
    }
}

/// Reads a list of which no entry may be empty: an empty one would match nothing, or everything.
pub(super) fn read_entries(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Vec<String> {
    let entries = fields.positioned_strings(reader, name);
    for (_, at) in entries.iter().filter(|(text, _)| text.trim().is_empty()) {
        reader.error(*at, format!("an entry of `{name}` must not be empty"), None);
    }
    entries.into_iter().map(|(text, _)| text).collect()
}

/// Checks the keys of a toolset type that has no effect.
fn check_unused(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str) {
    match kind {
        "rag" => {
            if !fields.has("ref") && !fields.has("rag_config") {
                let hint = "name a source of `rag:` with `ref`, or write `rag_config`".to_owned();
                reader.error(fields.at, "rag toolset requires either ref or rag_config", Some(hint));
            }
            fields.string(reader, "ref");
            if let Some(node) = fields.node("rag_config")
                && let Some(config) = reader.fields_without_warnings(node, &keys::RAG_CONFIG)
            {
                check_rag(reader, &config);
            }
        }
        "mcp_catalog" => {
            read_entries(reader, fields, "allowed_servers");
            read_entries(reader, fields, "blocked_servers");
        }
        _ => {}
    }
}

/// Checks what a source of `rag` and a `rag_config` have in common.
pub(super) fn check_rag(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    fields.json_object(reader, "tool");
    fields.strings(reader, "docs");
    fields.bool(reader, "respect_vcs");
    fields.duration(reader, "indexing_timeout");
    fields.list(reader, "strategies");
    fields.json_object(reader, "results");
}

/// Reads a required string of a toolset type.
pub(super) fn required(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    key: &str,
    kind: &str,
) -> Option<String> {
    if !fields.has(key) {
        reader.error(fields.at, format!("{key} must be set in a toolset of type '{kind}'"), None);
    }
    fields.string(reader, key)
}

/// Reads the command that starts a local server.
pub(super) fn read_launch(reader: &mut Reader<'_>, fields: &Fields<'_>, command: String) -> Launch {
    Launch {
        command,
        args: fields.strings(reader, "args"),
        env: fields.string_map(reader, "env"),
        version: fields.string(reader, "version"),
        working_dir: fields.string(reader, "working_dir"),
    }
}

/// Reads `model`: the models for the next turn.
fn read_model(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    fields: &Fields<'_>,
) -> Vec<ModelSettings> {
    let Some(reference) = fields.string(reader, "model") else { return Vec::new() };
    let at = fields.node("model").map_or(fields.at, |node| node.at);
    references.models.resolve(reader, subject, &reference, at).unwrap_or_default()
}

/// Reads `models` of a model picker.
fn read_models(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    fields: &Fields<'_>,
) -> Vec<String> {
    let mut models = Vec::new();
    for (reference, at) in fields.positioned_strings(reader, "models") {
        if references.models.resolve(reader, subject, &reference, at).is_some() {
            models.push(reference);
        }
    }
    if !fields.has("models") {
        reader.error(fields.at, "models must be set in a toolset of type 'model_picker'", None);
    }
    models
}

/// Reads `toon`: regular expressions, separated by commas or as a list.
fn read_toon(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<String> {
    match fields.node("toon") {
        Some(Node { value: Value::List(_), .. }) => fields.strings(reader, "toon"),
        _ => fields
            .string_or_empty(reader, "toon")
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect(),
    }
}

/// Reads `defer`: a boolean, or a list of tools.
pub(super) fn read_defer(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Defer> {
    match fields.node("defer")? {
        Node { value: Value::Bool(all), .. } => all.then_some(Defer::All),
        Node { value: Value::List(_), .. } => Some(Defer::Tools(fields.strings(reader, "defer"))),
        node => {
            reader.wrong_type("defer", "`true`, `false` or a list of tools", node);
            None
        }
    }
}

/// Reads `path` of a memory, which is required up to version 2 of the schema.
fn read_path(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let path = fields.string(reader, "path");
    if reader.version <= 2 && !fields.has("path") {
        reader.error(fields.at, "path must be set in a toolset of type 'memory'", None);
    }
    path
}

/// Reads `timeout` in seconds; zero means the default.
pub(super) fn seconds(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<u32> {
    let seconds = fields.integer(reader, "timeout", 0, i64::from(u32::MAX))?;
    u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// Reads `post_edit`.
fn read_post_edit(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<PostEdit> {
    let mut rules = Vec::new();
    for node in fields.list(reader, "post_edit") {
        let Some(rule) = reader.fields(node, &keys::POST_EDIT) else {
            continue;
        };
        let (path, cmd) = (rule.string(reader, "path"), rule.string(reader, "cmd"));
        match path.zip(cmd) {
            Some((path, cmd)) => rules.push(PostEdit { path, cmd }),
            None if rule.has("path") && rule.has("cmd") => {}
            None => reader.error(node.at, "a post-edit rule needs `path` and `cmd`", None),
        }
    }
    rules
}

/// Reads `shell` of a script toolset: its tools. The `env` of the toolset applies to all of them.
fn read_scripts(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Script> {
    let mut scripts = BTreeMap::new();
    let shared_env = fields.string_map(reader, "env");
    if !fields.has("shell") {
        reader.error(fields.at, "shell must be set in a toolset of type 'script'", None);
    }
    for entry in fields.map(reader, "shell", "a map of tool names to commands") {
        let Some(script) = reader.fields(&entry.node, &keys::SCRIPT) else {
            continue;
        };
        let Some(cmd) = script.string(reader, "cmd") else {
            reader.error(entry.key_at, format!("script '{}' needs `cmd`", excerpt(&entry.key)), None);
            continue;
        };
        let required = script.has("required").then(|| script.strings(reader, "required"));
        let args = script.json_map(reader, "args");
        for (name, at) in script.positioned_strings(reader, "required") {
            if !args.contains_key(&name) {
                let message = format!(
                    "script '{}' requires '{}', which is not in its `args`",
                    excerpt(&entry.key),
                    excerpt(&name)
                );
                let hint = format!("add `{}` to `args`, or remove it here", excerpt(&name));
                reader.error(at, message, Some(hint));
            }
        }
        let script = Script {
            cmd,
            description: script.string_or_empty(reader, "description"),
            args,
            required,
            env: shared_env.clone().into_iter().chain(script.string_map(reader, "env")).collect(),
            working_dir: script.string(reader, "working_dir"),
        };
        scripts.insert(entry.key.clone(), script);
    }
    scripts
}

/// Reads `api_config`.
fn read_api(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Api> {
    let Some(node) = fields.node("api_config") else {
        reader.error(fields.at, "api_config must be set in a toolset of type 'api'", None);
        return None;
    };
    let api = reader.fields(node, &keys::API)?;
    let endpoint = required(reader, &api, "endpoint", "api")?;
    Some(Api {
        name: required(reader, &api, "name", "api")?,
        endpoint,
        method: read_method(reader, &api),
        instruction: api.string_or_empty(reader, "instruction"),
        headers: api.string_map(reader, "headers"),
        args: api.json_map(reader, "args"),
        required: api.strings(reader, "required"),
        output_schema: api.json_object(reader, "output_schema"),
    })
}

/// The valid HTTP methods; the first is the default.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// Reads `method`, in upper or lower case.
fn read_method(reader: &mut Reader<'_>, api: &Fields<'_>) -> String {
    let (Some(method), Some(node)) = (api.string(reader, "method"), api.node("method")) else {
        return METHODS[0].to_owned();
    };
    if !METHODS.contains(&method.to_uppercase().as_str()) {
        let hint = format!("valid methods: {}", quoted_list(METHODS));
        reader.error(node.at, format!("`{}` is not an HTTP method", excerpt(&method)), Some(hint));
    }
    method
}
