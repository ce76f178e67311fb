//! A command of the user's shell that a call waits for.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::process::End;
use crate::process::Nursery;
use crate::process::Process;

/// How waiting for a command ended. The command has exited in every case.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CommandEnd {
    /// It exited, or was killed from outside.
    Ended(End),
    /// It exceeded the limit and was ended.
    TimedOut,
    /// The call was cancelled and the command was ended.
    Cancelled,
}

/// The command line that runs `text` in the user's shell: `$SHELL`, or `/bin/sh`. It inherits `variables` only.
pub(crate) fn command(
    nursery: &Nursery,
    text: &str,
    folder: &Path,
    variables: &BTreeMap<String, String>,
) -> Command {
    let program = variables.get("SHELL").filter(|shell| !shell.is_empty());
    let mut command = nursery.command(program.map_or("/bin/sh", String::as_str));
    command.arg("-c").arg(text).current_dir(folder).env_clear().envs(variables);
    command
}

/// Waits until a command has exited. After `limit` or on `cancel` its process group is ended, which takes about two
/// seconds at most. Dropping the future ends the group too, without waiting.
pub(crate) async fn finish(process: &mut Process, limit: Duration, cancel: &CancellationToken) -> CommandEnd {
    // Dropping this future must end the group. After a normal exit the guard is disarmed, because processes that the
    // command left in the background may run until the run ends.
    let stop_on_drop = process.stop.clone().drop_guard();
    let over = tokio::select! {
        end = process.ended() => CommandEnd::Ended(end),
        () = tokio::time::sleep(limit) => CommandEnd::TimedOut,
        () = cancel.cancelled() => CommandEnd::Cancelled,
    };
    match over {
        CommandEnd::Ended(_) => {
            stop_on_drop.disarm();
        }
        CommandEnd::TimedOut | CommandEnd::Cancelled => {
            drop(stop_on_drop);
            process.ended().await;
        }
    }
    over
}
