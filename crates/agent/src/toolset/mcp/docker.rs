//! Servers of Docker's MCP catalog, which run through its gateway: `docker mcp gateway run`.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::environment::Environment;

/// The program that must be on the worker's PATH.
pub(super) const PROGRAM: &str = "docker";

/// The arguments that run one server of the catalog.
pub(super) fn arguments(server: &str) -> Vec<String> {
    let mut arguments = ["mcp", "gateway", "run"].map(str::to_owned).to_vec();
    arguments.push(format!("--servers={server}"));
    arguments
}

/// The fix to append to the error that a program was not found. Empty for programs other than [`PROGRAM`].
pub(super) fn missing_program_hint(program: &str) -> &'static str {
    if program == PROGRAM {
        ": servers of Docker's MCP catalog need Docker with its MCP plugin on the worker; without it, name the server's \
         own program with `command:`"
    } else {
        ""
    }
}

/// A temporary file with the configuration of a server. Dropping it deletes the file. A crash leaves it in the folder
/// for temporary files, readable by this user only.
#[derive(Debug)]
pub(super) struct ConfigFile(PathBuf);

impl ConfigFile {
    /// Writes the configuration; `None` where the agent file has none. The gateway reads YAML, of which JSON is a
    /// subset.
    ///
    /// # Errors
    ///
    /// The path, and why it cannot be written.
    pub(super) fn write(
        server: &str,
        config: &Value,
        environment: &Environment,
    ) -> Result<Option<Self>, String> {
        if config.is_null() {
            return Ok(None);
        }
        let folder = environment.variable("TMPDIR").unwrap_or("/tmp");
        let path = Path::new(folder).join(format!("legwork-mcp-{:032x}.yaml", rand::random::<u128>()));
        let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        // Built before the write, so that a failed write deletes the file too.
        let config_file = Self(path.clone());
        file.write_all(json!({server: config}).to_string().as_bytes()).map_err(failed)?;
        Ok(Some(config_file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
