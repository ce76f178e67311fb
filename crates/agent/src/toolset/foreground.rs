//! A command of the user's shell that a tool call waits for.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::process::End;
use crate::process::Nursery;
use crate::process::Process;

/// How waiting for a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Over {
    /// By itself.
    Ended(End),
    /// It took too long, and is gone.
    TimedOut,
    /// The run ends, and it is gone.
    Cancelled,
}

/// `text` for the user's shell: `$SHELL`, or `/bin/sh`.
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

/// Waits for the end of a command; one that takes longer than `limit` is ended, and so is one whose call is cancelled
/// or dropped.
pub(crate) async fn finish(
    process: &mut Process,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Over {
    // Whoever drops this call ends the command, and only then: a good end cancels nothing.
    let leaving = process.stop.clone().drop_guard();
    let too_long = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let over = tokio::select! {
        end = process.ended() => Over::Ended(end),
        () = too_long => Over::TimedOut,
        () = cancel.cancelled() => Over::Cancelled,
    };
    match over {
        Over::Ended(_) => {
            leaving.disarm();
        }
        Over::TimedOut | Over::Cancelled => {
            drop(leaving);
            process.ended().await;
        }
    }
    over
}
