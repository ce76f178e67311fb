//! Servers of Docker's MCP catalog, through its gateway: `docker mcp gateway run`.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::environment::Environment;

/// The program on the PATH of the run.
pub(super) const PROGRAM: &str = "docker";

/// What it is told.
pub(super) fn arguments(server: &str) -> Vec<String> {
    let mut arguments = ["mcp", "gateway", "run"].map(str::to_owned).to_vec();
    arguments.push(format!("--servers={server}"));
    arguments
}

/// What to do where a program is missing.
pub(super) fn hint(program: &str) -> &'static str {
    if program == PROGRAM {
        ": servers of Docker's MCP catalog need Docker with its MCP plugin on the worker; without it, name the server's \
         own program with `command:`"
    } else {
        ""
    }
}

/// A file with the settings of a server. Dropping it removes the file; a crash leaves it in the folder for temporary
/// files, where only this user can read it.
#[derive(Debug)]
pub(super) struct Settings(PathBuf);

impl Settings {
    /// Writes the settings, where there are any. YAML is what the gateway reads, and JSON is YAML.
    ///
    /// # Errors
    ///
    /// Why the file cannot be written.
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
        let settings = Self(path.clone());
        file.write_all(json!({server: config}).to_string().as_bytes()).map_err(failed)?;
        Ok(Some(settings))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
