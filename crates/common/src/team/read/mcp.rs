//! A toolset of type `mcp`: a server of its own, or one that `mcps` defines.

use super::agent::References;
use super::toolset::needed;
use super::toolset::read_launch;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::names::listed;
use crate::team::reader::Reader;
use crate::team::source::shown;
use crate::team::toolset::Launch;
use crate::team::toolset::Mcp;
use crate::team::toolset::McpServer;
use crate::team::toolset::McpTransport;

/// The prefix of a server of Docker's catalog.
const DOCKER: &str = "docker:";

/// The three places, of which exactly one must be given.
const PLACES: [&str; 3] = ["command", "remote", "ref"];

/// That a definition of `mcps` names one server.
pub(super) fn check_definition(reader: &mut Reader<'_>, name: &str, fields: &Fields<'_>) {
    check_places(reader, fields);
    if let Some(kind) = fields.text(reader, "type").filter(|kind| kind != "mcp") {
        let at = fields.node("type").map_or(fields.at, |node| node.at);
        reader.error(at, format!("MCP definition '{}' has the type '{}'", shown(name), shown(&kind)), None);
    }
    if let Some(reference) = fields.text(reader, "ref").filter(|reference| !reference.starts_with(DOCKER)) {
        let at = fields.node("ref").map_or(fields.at, |node| node.at);
        let message = format!("MCP definition '{}' refers to '{}'", shown(name), shown(&reference));
        reader.error(at, message, Some("a ref here starts with `docker:`".to_owned()));
    }
}

/// That exactly one place is given.
fn check_places(reader: &mut Reader<'_>, fields: &Fields<'_>) -> bool {
    let given: Vec<&str> = PLACES.into_iter().filter(|place| fields.has(place)).collect();
    match given.as_slice() {
        [_] => true,
        [] => {
            let hint = "for example `ref: docker:duckduckgo`".to_owned();
            reader.error(fields.at, "either command, remote or ref must be set", Some(hint));
            false
        }
        several => {
            let hint = format!("there are {} here", listed(several.iter().copied()));
            let message = "either command, remote or ref must be set, but only one of those";
            reader.error(fields.at, message, Some(hint));
            false
        }
    }
}

/// The server of a toolset.
pub(super) fn read(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    who: &str,
    fields: &Fields<'_>,
) -> Option<Mcp> {
    if !check_places(reader, fields) {
        return None;
    }
    let name = fields.text(reader, "name");
    let Some(reference) = fields.text(reader, "ref") else {
        return Some(Mcp { name, server: read_server(reader, fields)? });
    };
    if reference.starts_with(DOCKER) {
        return Some(Mcp { name, server: read_server(reader, fields)? });
    }
    let Some(defined) = references.mcps.get(&reference) else {
        let at = fields.node("ref").map_or(fields.at, |node| node.at);
        let names = references.mcps.keys().map(String::as_str);
        let hint = match reader.nearest(&reference, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if references.mcps.is_empty() => {
                format!("for Docker's catalog write `docker:{}`", shown(&reference))
            }
            None => format!("`mcps:` defines {}; or write `docker:{}`", listed(names), shown(&reference)),
        };
        let message = format!("{who} references non-existent MCP definition '{}'", shown(&reference));
        reader.error(at, message, Some(hint));
        return None;
    };
    let at = fields.node("ref").map_or(fields.at, |node| node.at);
    if !reader.may_copy(defined.bytes(), at) {
        return None;
    }
    let server = read_server(reader, defined)?;
    let name = name.or_else(|| defined.text(reader, "name"));
    Some(Mcp { name, server: merged(reader, fields, server) })
}

/// The server that a map of keys names.
fn read_server(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<McpServer> {
    if let Some(command) = fields.text(reader, "command") {
        return Some(McpServer::Command(read_launch(reader, fields, command)));
    }
    if let Some(node) = fields.node("remote") {
        let remote = reader.fields(node, &keys::REMOTE)?;
        let url = needed(reader, &remote, "url", "mcp")?;
        return Some(McpServer::Remote {
            transport: read_transport(reader, &remote, &url)?,
            url,
            headers: remote.text_map(reader, "headers"),
        });
    }
    let reference = fields.text(reader, "ref")?;
    let server = reference.strip_prefix(DOCKER)?.to_owned();
    if server.is_empty() {
        reader.error(
            fields.at,
            "`ref: docker:` names no server",
            Some("for example `docker:duckduckgo`".to_owned()),
        );
    }
    let config = fields.json_object(reader, "config").unwrap_or(serde_json::Value::Null);
    Some(McpServer::Docker { server, config, env: fields.text_map(reader, "env") })
}

/// `transport_type`; where the file does not say, an address that ends in `/sse` is spoken to that way.
fn read_transport(reader: &mut Reader<'_>, remote: &Fields<'_>, url: &str) -> Option<McpTransport> {
    let at = remote.node("transport_type").map_or(remote.at, |node| node.at);
    match remote.text_or_empty(reader, "transport_type").as_str() {
        "" if url.trim_end_matches('/').ends_with("/sse") => Some(McpTransport::Sse),
        "sse" => Some(McpTransport::Sse),
        "" | "streamable" | "streamable-http" => Some(McpTransport::StreamableHttp),
        other => {
            let hint = "it is `streamable` or `sse`".to_owned();
            reader.error(at, format!("unknown transport_type `{}`", shown(other)), Some(hint));
            None
        }
    }
}

/// A defined server with what the toolset says on top: its variables are added and win, its other keys replace.
fn merged(reader: &mut Reader<'_>, fields: &Fields<'_>, server: McpServer) -> McpServer {
    let more = fields.text_map(reader, "env");
    match server {
        McpServer::Command(mut launch) => {
            launch.env.extend(more);
            let args = if fields.has("args") { fields.texts(reader, "args") } else { launch.args };
            let version = fields.text(reader, "version").or(launch.version);
            McpServer::Command(Launch { args, version, ..launch })
        }
        McpServer::Docker { server, config, mut env } => {
            env.extend(more);
            McpServer::Docker { server, config: fields.json_object(reader, "config").unwrap_or(config), env }
        }
        remote @ McpServer::Remote { .. } => remote,
    }
}
