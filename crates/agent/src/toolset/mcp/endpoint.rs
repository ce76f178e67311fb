//! How an MCP server is reached, with the worker's variables expanded.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use legwork_common::error::chain;
use legwork_common::team::Launch;
use legwork_common::team::McpServer;
use legwork_common::team::McpTransport;
use legwork_common::team::StringMap;
use reqwest::Client;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use tokio::process::Command;

use super::docker;
use super::docker::ConfigFile;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::toolset::http;

/// Headers in the form that the protocol library takes.
pub(super) type Headers = HashMap<HeaderName, HeaderValue>;

/// A server, and how to reach it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The server's name in messages. It has no expanded variables, which may be secrets.
    label: String,
    pub(super) transport: Transport,
    /// Whether transport errors may be shown. They contain the URL, which may contain a secret variable.
    shows_errors: bool,
}

#[derive(Debug)]
pub(super) enum Transport {
    /// Standard input and output of a program.
    Program(Program),
    /// Streamable HTTP.
    Http { url: String, headers: Headers },
    /// The older HTTP+SSE.
    Sse { url: String, headers: Headers },
}

/// A server that is a program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    /// Deleted together with this value, so it must live as long as the server may restart.
    pub(super) config_file: Option<ConfigFile>,
}

impl Program {
    /// The command line. The program inherits its configured variables only.
    pub(super) fn command(&self, nursery: &Nursery) -> Command {
        let mut command = nursery.command(&self.name);
        command.args(&self.args).current_dir(&self.folder).env_clear().envs(&self.variables);
        if let Some(config_file) = &self.config_file {
            command.arg("--config").arg(config_file.path());
        }
        command
    }
}

impl Endpoint {
    /// The endpoint of a server in an agent file.
    ///
    /// # Errors
    ///
    /// A variable is not set, a header is not valid, or the configuration file cannot be written.
    pub(super) fn new(server: &McpServer, environment: &Environment) -> Result<Self, String> {
        match server {
            McpServer::Command(Launch { command, args, env, working_dir, .. }) => {
                let args = args.iter().map(|text| environment.address(text)).collect::<Result<_, _>>();
                let args = args.map_err(|missing| missing.to_string())?;
                let mut program = program(command, args, env, None, environment)?;
                if let Some(folder) = working_dir {
                    program.folder = environment.folder(folder)?;
                }
                Ok(Self {
                    label: command.clone(),
                    transport: Transport::Program(program),
                    shows_errors: true,
                })
            }
            McpServer::Docker { server, config, env } => {
                let config_file = ConfigFile::write(server, config, environment)?;
                let program =
                    program(docker::PROGRAM, docker::arguments(server), env, config_file, environment)?;
                let label = format!("docker:{server}");
                Ok(Self { label, transport: Transport::Program(program), shows_errors: true })
            }
            McpServer::Remote { url, transport, headers } => {
                let headers = http::headers(environment, headers)?;
                let headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect();
                let expanded = environment.address(url).map_err(|missing| missing.to_string())?;
                let shows_errors = expanded == *url;
                let transport = match transport {
                    McpTransport::Sse => Transport::Sse { url: expanded, headers },
                    McpTransport::StreamableHttp => Transport::Http { url: expanded, headers },
                };
                Ok(Self { label: url.clone(), transport, shows_errors })
            }
        }
    }

    /// The server's name in messages: its command, its catalog name or its URL as configured.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The client for HTTP transports. It has no timeout: streams stay open for the length of the run.
    ///
    /// # Errors
    ///
    /// Why reqwest cannot build a client: no TLS backend, no system configuration.
    pub(super) fn client(&self) -> Result<Client, String> {
        Client::builder()
            .user_agent(http::USER_AGENT)
            // Reusing a connection whose last response was not read to its end would stall the next request.
            .pool_max_idle_per_host(0)
            .redirect(http::redirects(false, None, Arc::default()))
            .build()
            .map_err(|error| error.to_string())
    }

    /// The text of a transport error, hidden if it may contain a secret.
    pub(super) fn error_text(&self, error: &dyn Error) -> String {
        if self.shows_errors {
            chain(error)
        } else {
            "the connection failed (the reason is hidden because the URL contains a variable)".to_owned()
        }
    }

    /// The text of an error from starting the program.
    pub(super) fn start_error_text(&self, error: &io::Error) -> String {
        match (&self.transport, error.kind()) {
            (Transport::Program(Program { name, folder, .. }), io::ErrorKind::NotFound)
                if folder.is_dir() =>
            {
                format!("{name} is not on the PATH{}", docker::missing_program_hint(name))
            }
            _ => format!("it cannot be started: {error}"),
        }
    }
}

fn program(
    name: &str,
    args: Vec<String>,
    env: &StringMap,
    config_file: Option<ConfigFile>,
    environment: &Environment,
) -> Result<Program, String> {
    let variables = environment.variables_with(env).map_err(|missing| missing.to_string())?;
    let folder = environment.working_dir.clone();
    Ok(Program { name: name.to_owned(), args, variables, folder, config_file })
}
