//! Where an MCP server is, with everything put in that the worker knows.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::PathBuf;

use legwork_common::team::Launch;
use legwork_common::team::McpServer;
use legwork_common::team::McpTransport;
use legwork_common::team::TextMap;
use reqwest::Client;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use tokio::process::Command;

use super::docker;
use super::docker::Settings;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::toolset::http;

/// Headers by name.
pub(super) type Headers = HashMap<HeaderName, HeaderValue>;

/// A server, and what it is called in messages.
#[derive(Debug)]
pub(super) struct Source {
    label: String,
    pub(super) way: Way,
    /// Whether errors of its transport may be shown: its address may hold a key.
    shows_errors: bool,
}

/// How a server is reached.
#[derive(Debug)]
pub(super) enum Way {
    Program(Program),
    Http { url: String, headers: Headers },
    Sse { url: String, headers: Headers },
}

/// A program that is a server.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    /// The file with its settings, which goes with this.
    pub(super) settings: Option<Settings>,
}

impl Program {
    pub(super) fn command(&self, nursery: &Nursery) -> Command {
        let mut command = nursery.command(&self.name);
        command.args(&self.args).current_dir(&self.folder).env_clear().envs(&self.variables);
        if let Some(settings) = &self.settings {
            command.arg("--config").arg(settings.path());
        }
        command
    }
}

impl Source {
    /// The server of a team's file.
    ///
    /// # Errors
    ///
    /// What is missing here or wrong.
    pub(super) fn new(server: &McpServer, environment: &Environment) -> Result<Self, String> {
        match server {
            McpServer::Command(Launch { command, args, env, .. }) => {
                let program = program(command, args.clone(), env, None, environment)?;
                Ok(Self { label: command.clone(), way: Way::Program(program), shows_errors: true })
            }
            McpServer::Docker { server, config, env } => {
                let settings = Settings::write(server, config, environment)?;
                let program =
                    program(docker::PROGRAM, docker::arguments(server), env, settings, environment)?;
                let label = format!("docker:{server}");
                Ok(Self { label, way: Way::Program(program), shows_errors: true })
            }
            McpServer::Remote { url, transport, headers } => {
                let headers = http::headers(environment, headers)?;
                let headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect();
                let expanded = environment.expanded(url);
                let shows_errors = expanded == *url;
                let way = match transport {
                    McpTransport::Sse => Way::Sse { url: expanded, headers },
                    McpTransport::StreamableHttp => Way::Http { url: expanded, headers },
                };
                Ok(Self { label: url.clone(), way, shows_errors })
            }
        }
    }

    /// What it is called in messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// A client for HTTP.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn client(&self) -> Result<Client, String> {
        Client::builder()
            .user_agent(http::USER_AGENT)
            // A pooled connection whose last answer was not read to its end stalls the next request.
            .pool_max_idle_per_host(0)
            .redirect(http::redirects(false))
            .build()
            .map_err(|error| error.to_string())
    }

    /// An error of the transport, without what may be secret.
    pub(super) fn why(&self, error: &dyn Error) -> String {
        if self.shows_errors {
            legwork_common::error::chain(error)
        } else {
            "the connection failed (why is not shown: the address holds a variable)".to_owned()
        }
    }

    /// Why the program could not be started.
    pub(super) fn not_started(&self, error: &io::Error) -> String {
        match (&self.way, error.kind()) {
            (Way::Program(Program { name, folder, .. }), io::ErrorKind::NotFound) if folder.is_dir() => {
                format!("{name} is not on the PATH{}", docker::hint(name))
            }
            _ => format!("it cannot be started: {error}"),
        }
    }
}

fn program(
    name: &str,
    args: Vec<String>,
    env: &TextMap,
    settings: Option<Settings>,
    environment: &Environment,
) -> Result<Program, String> {
    let variables = environment.variables_with(env).map_err(|missing| missing.to_string())?;
    let folder = environment.working_dir.clone();
    Ok(Program { name: name.to_owned(), args, variables, folder, settings })
}
