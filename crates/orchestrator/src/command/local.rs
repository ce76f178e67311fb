//! `legwork local`: the embedded server.

use legwork_common::error::ExitStatus;
use legwork_queue::embedded;
use legwork_queue::embedded::EmbeddedConfig;
use legwork_queue::embedded::ServerState;
use legwork_worker::backend::embedded_config;
use serde_json::json;

use crate::cli::LocalCommand;
use crate::confirm::ConfirmArgs;
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;

/// Shows, stops or resets the embedded server. None of them starts it.
pub(super) async fn local(context: &Context, command: LocalCommand) -> Result<ExitStatus, Failure> {
    let config = embedded_config(&context.common, &context.variables);
    match command {
        LocalCommand::Status => show(context, &embedded::status(&config).await?)?,
        LocalCommand::Stop => {
            let stopped = embedded::stop(&config).await?;
            let line = if stopped {
                "the embedded server was shut down; its data is kept"
            } else {
                "the embedded server is not running"
            };
            context.output.line(line)?;
        }
        LocalCommand::Reset { force, confirm } => reset(context, &config, force, confirm).await?,
    }
    Ok(ExitStatus::Success)
}

/// Deletes the server's data, after a question.
async fn reset(
    context: &Context,
    config: &EmbeddedConfig,
    force: bool,
    args: ConfirmArgs,
) -> Result<(), Failure> {
    let folder = config.state_dir.display();
    if args.dry_run {
        return context.output.line(&format!("would delete all data in {folder}"));
    }
    confirm(&context.output, args, &format!("delete all data in {folder}?"), "nothing was deleted")?;
    embedded::reset(config, force).await?;
    context.output.line(&format!("deleted all data in {folder}"))
}

fn show(context: &Context, status: &embedded::Status) -> Result<(), Failure> {
    let state = match status.state {
        ServerState::Stopped => "stopped".to_owned(),
        ServerState::NotAnswering { .. } => "not answering".to_owned(),
        ServerState::Running { process_id: Some(id), .. } => format!("running as process {id}"),
        ServerState::Running { process_id: None, .. } => "running".to_owned(),
    };
    if context.output.json {
        return context.output.object(&json!({
            "folder": status.folder, "log": status.log, "in_use": status.in_use, "state": state,
            "server": status.server.as_ref().map(|server| json!({
                "program": server.program, "version": server.version.to_string(), "socket": server.socket,
            })),
        }));
    }
    context.output.line(&format!("Folder   {}", status.folder.display()))?;
    context.output.line(&format!("State    {state}"))?;
    context.output.line(&format!("In use   {}", if status.in_use { "yes" } else { "no" }))?;
    if let Some(server) = &status.server {
        context.output.line(&format!(
            "Server   {} {} ({})",
            server.product,
            server.version,
            server.program.display()
        ))?;
        context.output.line(&format!("Socket   {}", server.socket.display()))?;
    }
    context.output.line(&format!("Log      {}", status.log.display()))
}
