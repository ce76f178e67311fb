//! `legwork wait ID…`: until all, or any, have ended.

use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_queue::ConnectionKind;
use legwork_queue::Observer;
use legwork_worker::upkeep::while_reaping;
use tokio::time::Instant;

use crate::cli::WaitArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::render;

/// Waits and says how each ended.
pub(super) async fn wait(context: Context, args: WaitArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let waited = wait_on(&context, &connection, &args).await;
    connection.leave().await?;
    waited
}

async fn wait_on(context: &Context, connection: &Connection, args: &WaitArgs) -> Result<ExitStatus, Failure> {
    let mut ids = Vec::new();
    for text in &args.ids {
        ids.push(context.job_id(connection.queue(), text).await?);
    }
    let mode = if args.any { WaitMode::Any } else { WaitMode::All };
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let items = wait_for(&connection.observer, &ids, mode, deadline).await?;
    report(context, &items, mode)
}

/// Waits for jobs, and meanwhile takes back what dead workers held.
pub(super) async fn wait_for(
    observer: &Observer,
    ids: &[JobId],
    mode: WaitMode,
    deadline: Option<Instant>,
) -> Result<Vec<WaitItem>, Failure> {
    let asked: Vec<_> = ids.iter().map(|id| (id.to_string(), Some(*id))).collect();
    Ok(while_reaping(observer.queue(), observer.wait(&asked, mode, deadline)).await?)
}

/// Says how each job is; the exit status follows from all of them.
fn report(context: &Context, items: &[WaitItem], mode: WaitMode) -> Result<ExitStatus, Failure> {
    let mut statuses = Vec::new();
    for item in items {
        match item {
            WaitItem::NotFound(id) => return Err(Failure::not_found(format!("task not found: {id}"))),
            WaitItem::Found(view) => {
                statuses.push(view.job.status);
                if context.output.json {
                    context.output.object(&view.job)?;
                } else {
                    context.output.line(&format!("{} {}", view.job.id, render::status(&view.job)))?;
                }
            }
        }
    }
    Ok(exit_of(&statuses, mode))
}

/// 6 while somebody is still awaited; 1 if one that ended did not complete.
fn exit_of(statuses: &[State], mode: WaitMode) -> ExitStatus {
    let ended = statuses.iter().filter(|status| status.is_terminal()).count();
    let over = match mode {
        WaitMode::All => ended == statuses.len(),
        WaitMode::Any => ended > 0,
    };
    let unlucky = |status: &State| matches!(status, State::Failed | State::Stopped);
    match over {
        false => ExitStatus::TimedOut,
        true if statuses.iter().any(unlucky) => ExitStatus::JobFailed,
        true => ExitStatus::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_follows_from_all() {
        use State::Completed;
        use State::Failed;
        use State::Running;
        assert_eq!(exit_of(&[Completed, Completed], WaitMode::All), ExitStatus::Success);
        assert_eq!(exit_of(&[Completed, Failed], WaitMode::All), ExitStatus::JobFailed);
        assert_eq!(exit_of(&[Completed, Running], WaitMode::All), ExitStatus::TimedOut);
        assert_eq!(exit_of(&[Completed, Running], WaitMode::Any), ExitStatus::Success);
    }
}
