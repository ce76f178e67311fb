//! What an agent needs of the machine that runs it: variables in its addresses, optional variables, programs.

use std::collections::BTreeSet;

use super::agent::Agent;
use super::agent::AgentKind;
use super::agent::RequiredKey;
use super::agent::keys_of_models;
use super::expand::template_variables;
use super::expand::variables_in_braces;
use super::model::ModelSettings;
use super::toolset::Launch;
use super::toolset::McpServer;
use super::toolset::StringMap;
use super::toolset::ToolsetKind;

/// The program behind the servers of Docker's catalog.
const DOCKER: &str = "docker";

/// A program that an agent needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredProgram {
    /// The program: a path, or a name that is searched on the PATH.
    pub program: String,
    /// What starts it, for messages: `mcp docker:duckduckgo`.
    pub needed_by: String,
}

impl Agent {
    /// The variables of the addresses that this agent's prompts and calls are sent to. Unset, they would name another
    /// place than the file does.
    pub(super) fn keys_of_addresses(&self) -> BTreeSet<RequiredKey> {
        let mut keys = BTreeSet::new();
        if let AgentKind::Models(models) = &self.kind {
            keys.extend(addresses_of(models));
        }
        for toolset in &self.toolsets {
            keys.extend(addresses_of(&toolset.model));
            let (url, by) = match &toolset.kind {
                ToolsetKind::A2a { url, .. } => (url, "a2a"),
                ToolsetKind::Openapi { url, .. } => (url, "openapi"),
                ToolsetKind::OpenUrl { url, .. } => (url, "open_url"),
                ToolsetKind::Webhook(webhook) => (&webhook.url, "webhook"),
                ToolsetKind::Api(api) => (&api.endpoint, "api"),
                ToolsetKind::Mcp(mcp) => match &mcp.server {
                    McpServer::Remote { url, .. } => (url, "mcp"),
                    McpServer::Command(_) | McpServer::Docker { .. } => continue,
                },
                _ => continue,
            };
            keys.extend(named_in(url, &format!("the URL of toolset {by}")));
        }
        keys
    }

    /// The variables that the agent can start without, and that it probably misses: those in headers and in the
    /// arguments of MCP servers, and the keys of its fallback models. Sorted and without duplicates.
    pub fn optional_keys(&self) -> Vec<RequiredKey> {
        let mut keys = BTreeSet::new();
        if let Some(fallback) = &self.fallback {
            keys.extend(keys_of_models(&fallback.models));
            keys.extend(addresses_of(&fallback.models));
        }
        for toolset in &self.toolsets {
            match &toolset.kind {
                ToolsetKind::A2a { headers, .. } => keys.extend(in_headers(headers, "a2a")),
                ToolsetKind::Openapi { headers, .. } => keys.extend(in_headers(headers, "openapi")),
                ToolsetKind::Api(api) => keys.extend(in_headers(&api.headers, "api")),
                ToolsetKind::Webhook(webhook) => keys.extend(in_headers(&webhook.headers, "webhook")),
                ToolsetKind::Mcp(mcp) => match &mcp.server {
                    McpServer::Remote { headers, .. } => keys.extend(in_headers(headers, "mcp")),
                    McpServer::Command(Launch { command, args, .. }) => {
                        let by = format!("the arguments of mcp {command}");
                        keys.extend(args.iter().flat_map(|text| named_in(text, &by)));
                    }
                    McpServer::Docker { .. } => {}
                },
                _ => {}
            }
        }
        keys.into_iter().collect()
    }

    /// The programs that the agent and its MCP servers are started with. Sorted and without duplicates.
    pub fn required_programs(&self) -> Vec<RequiredProgram> {
        let mut programs = BTreeSet::new();
        let mut add = |program: &str, needed_by: String| {
            programs.insert(RequiredProgram { program: program.to_owned(), needed_by });
        };
        if let AgentKind::Command { program, .. } = &self.kind {
            add(program, format!("agent {}", self.name));
        }
        for toolset in &self.toolsets {
            let ToolsetKind::Mcp(mcp) = &toolset.kind else { continue };
            match &mcp.server {
                McpServer::Command(launch) => add(&launch.command, format!("mcp {}", launch.command)),
                McpServer::Docker { server, .. } => add(DOCKER, format!("mcp docker:{server}")),
                McpServer::Remote { .. } => {}
            }
        }
        programs.into_iter().collect()
    }
}

/// The variables in the base URLs of models, including those that their routing rules refer to.
fn addresses_of(models: &[ModelSettings]) -> Vec<RequiredKey> {
    let routed = models.iter().flat_map(|model| model.routing.iter().map(|rule| &rule.model));
    let all = models.iter().chain(routed);
    all.flat_map(|model| {
        let of = |text: &str, by: String| {
            let key = move |name| RequiredKey { any_of: vec![name], needed_by: by.clone() };
            variables_in_braces(text).into_iter().map(key)
        };
        let url = model.base_url.as_deref().unwrap_or_default();
        let by_url = of(url, format!("the base_url of {}", model.reference()));
        by_url.chain(of(&model.model, format!("the model {}", model.reference())))
    })
    .collect()
}

/// The variables in the values of headers.
fn in_headers(headers: &StringMap, toolset: &str) -> Vec<RequiredKey> {
    let each = |(name, value): (&String, &String)| {
        named_in(value, &format!("the header {name} of toolset {toolset}"))
    };
    headers.iter().flat_map(each).collect()
}

/// The `${env.X}` in a text.
fn named_in(text: &str, needed_by: &str) -> Vec<RequiredKey> {
    let key = |name| RequiredKey { any_of: vec![name], needed_by: needed_by.to_owned() };
    template_variables(text).into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use crate::team::parse;

    #[test]
    fn variables_in_addresses_headers_and_arguments_are_named_with_their_place() {
        let file = "
models:
  own: {provider: openai, model: m, base_url: 'http://${env.HOST}:${PORT}/v1', token_key: KEY}
  spare: {provider: openai, model: s, base_url: '${env.SPARE}', token_key: SPARE_KEY}
agents:
  root:
    model: own
    fallback: {models: [spare]}
    toolsets:
      - {type: think, model: 'dmr/${env.TINY}'}
      - {type: mcp, command: serve, args: [--at, '${env.SRV}', '$HOME']}
      - {type: mcp, ref: 'docker:duckduckgo'}
      - {type: mcp, remote: {url: 'https://${env.MCP_HOST}/', headers: {Authorization: 'Bearer ${env.TOKEN}'}}}
      - {type: openapi, url: '${env.API}', headers: {X: '${env.X}'}}
";
        let team = parse("team.yaml", file.as_bytes()).unwrap().team;
        let agent = team.agent("root").unwrap();
        let shown = |keys: Vec<super::RequiredKey>| -> Vec<String> {
            keys.into_iter().map(|key| format!("{} ({})", key.any_of.join(" or "), key.needed_by)).collect()
        };
        assert_eq!(
            shown(agent.required_keys()),
            [
                "API (the URL of toolset openapi)",
                "HOST (the base_url of openai/m)",
                "KEY (model openai/m)",
                "MCP_HOST (the URL of toolset mcp)",
                "PORT (the base_url of openai/m)",
                "TINY (the model dmr/${env.TINY})",
            ]
        );
        assert_eq!(
            shown(agent.optional_keys()),
            [
                "SPARE (the base_url of openai/s)",
                "SPARE_KEY (model openai/s)",
                "SRV (the arguments of mcp serve)",
                "TOKEN (the header Authorization of toolset mcp)",
                "X (the header X of toolset openapi)",
            ]
        );
        let programs = agent.required_programs();
        let names: Vec<&str> = programs.iter().map(|needed| needed.program.as_str()).collect();
        assert_eq!(names, ["docker", "serve"]);
    }
}
