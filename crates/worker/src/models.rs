//! The models that agents call: the providers', or those of a script.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use legwork_agent::Environment;
use legwork_agent::model::ModelPort;
use legwork_agent::model::provider::ClientError;
use legwork_agent::model::provider::ProviderModels;
use legwork_agent::model::scripted::ScriptError;
use legwork_agent::model::scripted::ScriptedModels;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use thiserror::Error;

/// Why there are no models to call.
#[derive(Debug, Error)]
pub enum ModelsError {
    /// The file of the script cannot be read.
    #[error("cannot read the script {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file does not contain a script.
    #[error("{} is not a script", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: ScriptError,
    },
    /// The HTTP client for providers cannot be created.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Coded for ModelsError {
    fn code(&self) -> &'static str {
        "models"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }
}

/// The models of `script`, or without one the providers', with the keys and base URLs in `environment`. Nothing is
/// connected to yet.
///
/// # Errors
///
/// [`ModelsError`] for a script that cannot be read, or an HTTP client that cannot be created.
pub fn open(script: Option<&Path>, environment: &Environment) -> Result<Arc<dyn ModelPort>, ModelsError> {
    let Some(path) = script else {
        return Ok(Arc::new(ProviderModels::new(environment.clone())?));
    };
    let bytes = std::fs::read(path).map_err(|source| ModelsError::File { path: path.to_owned(), source })?;
    let script = ScriptedModels::parse(&bytes)
        .map_err(|source| ModelsError::Script { path: path.to_owned(), source })?;
    Ok(Arc::new(script))
}
