//! Reads toolsets of type `mcp`: a server of the toolset's own, or one that `mcps` defines.

use super::agent::References;
use super::toolset::read_launch;
use super::toolset::required;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::excerpt;
use crate::team::toolset::Launch;
use crate::team::toolset::Lifecycle;
use crate::team::toolset::Mcp;
use crate::team::toolset::McpServer;
use crate::team::toolset::McpTransport;

/// The prefix of a reference to a server of Docker's catalog.
const DOCKER_PREFIX: &str = "docker:";

/// The keys that name a server, of which exactly one must be set.
const SERVER_KEYS: [&str; 3] = ["command", "remote", "ref"];

/// Checks that a definition of `mcps` names exactly one server.
pub(super) fn check_definition(reader: &mut Reader<'_>, name: &str, fields: &Fields<'_>) {
    check_server_keys(reader, fields);
    if let Some(kind) = fields.string(reader, "type").filter(|kind| kind != "mcp") {
        let at = fields.node("type").map_or(fields.at, |node| node.at);
        reader.error(
            at,
            format!("MCP definition '{}' has the type '{}'", excerpt(name), excerpt(&kind)),
            None,
        );
    }
    if let Some(reference) =
        fields.string(reader, "ref").filter(|reference| !reference.starts_with(DOCKER_PREFIX))
    {
        let at = fields.node("ref").map_or(fields.at, |node| node.at);
        let message = format!("MCP definition '{}' refers to '{}'", excerpt(name), excerpt(&reference));
        reader.error(at, message, Some("a `ref` in `mcps` must start with `docker:`".to_owned()));
    }
}

/// Checks that exactly one of the server keys is set.
fn check_server_keys(reader: &mut Reader<'_>, fields: &Fields<'_>) -> bool {
    let found: Vec<&str> = SERVER_KEYS.into_iter().filter(|key| fields.has(key)).collect();
    match found.as_slice() {
        [_] => true,
        [] => {
            let hint = "example: `ref: docker:duckduckgo`".to_owned();
            reader.error(fields.at, "either command, remote or ref must be set", Some(hint));
            false
        }
        several => {
            let hint = format!("this map has {}", quoted_list(several.iter().copied()));
            let message = "either command, remote or ref must be set, but only one of those";
            reader.error(fields.at, message, Some(hint));
            false
        }
    }
}

/// Reads the server of a toolset.
pub(super) fn read(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    fields: &Fields<'_>,
) -> Option<Mcp> {
    if !check_server_keys(reader, fields) {
        return None;
    }
    let name = fields.string(reader, "name");
    fields.bool(reader, "allow_private_ips");
    let lifecycle = read_lifecycle(reader, fields);
    if let Some(entry) = fields.entry("working_dir").filter(|_| fields.has("remote")) {
        let message = "working_dir is not valid for remote MCP toolsets";
        reader.error(entry.key_at, message, Some("a remote server has no local process".to_owned()));
    }
    let Some(reference) = fields.string(reader, "ref") else {
        return Some(Mcp { name, lifecycle, server: read_server(reader, fields)? });
    };
    if reference.starts_with(DOCKER_PREFIX) {
        return Some(Mcp { name, lifecycle, server: read_server(reader, fields)? });
    }
    let Some(defined) = references.mcps.get(&reference) else {
        let at = fields.node("ref").map_or(fields.at, |node| node.at);
        let names = references.mcps.keys().map(String::as_str);
        let hint = match reader.closest(&reference, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if references.mcps.is_empty() => {
                format!("for a server of Docker's catalog write `docker:{}`", excerpt(&reference))
            }
            None => {
                format!("`mcps:` defines {}; or write `docker:{}`", quoted_list(names), excerpt(&reference))
            }
        };
        let message = format!("{subject} references non-existent MCP definition '{}'", excerpt(&reference));
        reader.error(at, message, Some(hint));
        return None;
    };
    let at = fields.node("ref").map_or(fields.at, |node| node.at);
    if !reader.charge_copy(defined.bytes(), at) {
        return None;
    }
    let server = read_server(reader, defined)?;
    let name = name.or_else(|| defined.string(reader, "name"));
    let lifecycle = lifecycle.or_else(|| read_lifecycle(reader, defined));
    Some(Mcp { name, lifecycle, server: overridden(reader, fields, server) })
}

/// Reads the server from a toolset or from a definition.
fn read_server(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<McpServer> {
    if let Some(command) = fields.string(reader, "command") {
        return Some(McpServer::Command(read_launch(reader, fields, command)));
    }
    if let Some(node) = fields.node("remote") {
        let remote = reader.fields(node, &keys::REMOTE)?;
        let url = required(reader, &remote, "url", "mcp")?;
        check_oauth(reader, &remote);
        return Some(McpServer::Remote {
            transport: read_transport(reader, &remote, &url)?,
            url,
            headers: remote.string_map(reader, "headers"),
        });
    }
    let reference = fields.string(reader, "ref")?;
    let server = reference.strip_prefix(DOCKER_PREFIX)?.to_owned();
    if server.is_empty() {
        reader.error(
            fields.at,
            "`ref: docker:` names no server",
            Some("example: `docker:duckduckgo`".to_owned()),
        );
    }
    let config = fields.json_object(reader, "config").unwrap_or(serde_json::Value::Null);
    Some(McpServer::Docker { server, config, env: fields.string_map(reader, "env") })
}

/// Checks `oauth`, which has no effect.
fn check_oauth(reader: &mut Reader<'_>, remote: &Fields<'_>) {
    let Some(node) = remote.node("oauth") else { return };
    let Some(oauth) = reader.fields_without_warnings(node, &keys::OAUTH) else { return };
    if !oauth.has("clientId") {
        reader.error(node.at, "oauth requires clientId to be set", None);
    }
    for name in ["clientId", "clientSecret", "callbackRedirectURL"] {
        oauth.string(reader, name);
    }
    oauth.integer(reader, "callbackPort", 0, 65535);
    oauth.strings(reader, "scopes");
}

/// Reads `lifecycle`.
pub(super) fn read_lifecycle(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Lifecycle> {
    let fields = reader.fields(fields.node("lifecycle")?, &keys::LIFECYCLE)?;
    fields.bool(reader, "required");
    let mut lifecycle = Lifecycle {
        profile: read_word(reader, &fields, "profile", &["resilient", "strict", "best-effort"]),
        restart: read_word(reader, &fields, "restart", &["never", "on_failure", "always"]),
        max_restarts: fields.integer(reader, "max_restarts", -1, i64::from(u32::MAX)),
        startup_timeout: fields.duration(reader, "startup_timeout"),
        call_timeout: fields.duration(reader, "call_timeout"),
        ..Lifecycle::default()
    };
    if let Some(backoff) = fields.node("backoff").and_then(|node| reader.fields(node, &keys::BACKOFF)) {
        lifecycle.backoff_initial = backoff.duration(reader, "initial");
        lifecycle.backoff_max = backoff.duration(reader, "max");
        lifecycle.backoff_multiplier = backoff.number(reader, "multiplier", 0.0, f64::MAX);
        lifecycle.backoff_jitter = backoff.number(reader, "jitter", 0.0, 1.0);
    }
    Some(lifecycle)
}

/// Reads a word of a short list.
fn read_word(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    name: &str,
    words: &[&'static str],
) -> Option<String> {
    let word = fields.string(reader, name)?;
    if !words.contains(&word.as_str()) {
        let at = fields.node(name).map_or(fields.at, |node| node.at);
        let hint = format!("valid values: {}", quoted_list(words.iter().copied()));
        reader.error(at, format!("unknown {name} `{}` of a lifecycle", excerpt(&word)), Some(hint));
    }
    Some(word)
}

/// Reads `transport_type`. Without it, a URL that ends in `/sse` means server-sent events, as in docker-agent.
fn read_transport(reader: &mut Reader<'_>, remote: &Fields<'_>, url: &str) -> Option<McpTransport> {
    let at = remote.node("transport_type").map_or(remote.at, |node| node.at);
    match remote.string_or_empty(reader, "transport_type").as_str() {
        "" if url.trim_end_matches('/').ends_with("/sse") => Some(McpTransport::Sse),
        "sse" => Some(McpTransport::Sse),
        "" | "streamable" | "streamable-http" => Some(McpTransport::StreamableHttp),
        other => {
            let hint = "valid values: `streamable`, `sse`".to_owned();
            reader.error(at, format!("unknown transport_type `{}`", excerpt(other)), Some(hint));
            None
        }
    }
}

/// Applies the keys of a toolset to the definition that it refers to: its variables are added and win, its
/// other keys replace those of the definition.
fn overridden(reader: &mut Reader<'_>, fields: &Fields<'_>, server: McpServer) -> McpServer {
    let env_overrides = fields.string_map(reader, "env");
    match server {
        McpServer::Command(mut launch) => {
            launch.env.extend(env_overrides);
            let args = if fields.has("args") { fields.strings(reader, "args") } else { launch.args };
            let version = fields.string(reader, "version").or(launch.version);
            let working_dir = fields.string(reader, "working_dir").or(launch.working_dir);
            McpServer::Command(Launch { args, version, working_dir, ..launch })
        }
        McpServer::Docker { server, config, mut env } => {
            env.extend(env_overrides);
            McpServer::Docker { server, config: fields.json_object(reader, "config").unwrap_or(config), env }
        }
        remote @ McpServer::Remote { .. } => remote,
    }
}
