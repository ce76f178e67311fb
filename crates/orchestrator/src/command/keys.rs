//! `legwork keys new` and `legwork keys show`: the keys that sign jobs.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use legwork_common::error::ExitStatus;
use legwork_signing::SigningKey;
use legwork_worker::key_file;
use serde_json::json;

use crate::cli::KeysCommand;
use crate::cli::NewKeyArgs;
use crate::context::Context;
use crate::failure::Failure;

/// Makes or shows a key. Only the public half is printed.
pub(super) fn keys(context: &Context, command: &KeysCommand) -> Result<ExitStatus, Failure> {
    let (key, is_worker) = match command {
        KeysCommand::New(args) => (make(args)?, args.worker),
        KeysCommand::Show(args) => (key_file::signing_key(&args.file)?, args.worker),
    };
    print(context, &key, is_worker)?;
    Ok(ExitStatus::Success)
}

/// Makes a key, and writes it to a file that only this user can read.
fn make(args: &NewKeyArgs) -> Result<SigningKey, Failure> {
    let unusable = |error: legwork_signing::KeyError| Failure::usage(error.to_string());
    let id = args.id.as_deref().map(str::parse).transpose().map_err(unusable)?;
    let key = SigningKey::generate(id).map_err(unusable)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file)
        .and_then(|mut file| file.write_all(key.to_text().as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure {
        message: format!("cannot write {}: {error}", args.file.display()),
        ..Failure::file(&args.file, &error)
    })?;
    Ok(key)
}

/// Prints the line that belongs below `keys:` in a trust file.
fn print(context: &Context, key: &SigningKey, is_worker: bool) -> Result<(), Failure> {
    let (id, public) = (key.id(), key.public().to_string());
    if context.output.json {
        return context.output.object(&json!({"id": id, "key": public, "worker": is_worker}));
    }
    let worker = if is_worker { ", worker: true" } else { "" };
    context.output.line(&format!("  \"{id}\": {{key: \"{public}\"{worker}}}"))
}
