//! `legwork wait ID…`: until all, or any, have ended.

use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_queue::Operator;
use serde_json::json;
use tokio::time::Instant;

use crate::cli::WaitArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::many::Tally;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::render;
use crate::suggest::same_command;

/// Waits, then shows the status of each job.
pub(super) async fn wait(context: Context, args: WaitArgs) -> Result<ExitStatus, Failure> {
    let again = same_command(&context);
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let connection = context.connect_to_wait(deadline, &again).await?;
    let outage = Outage::of(&context, &connection).until(deadline);
    let waited = wait_on(&context, &connection.operator, &outage, &args, deadline).await;
    connection.leave().await?;
    waited.map_err(|failure| with_continuation(failure, &again))
}

async fn wait_on(
    context: &Context,
    operator: &Operator,
    outage: &Outage<'_>,
    args: &WaitArgs,
    deadline: Option<Instant>,
) -> Result<ExitStatus, Failure> {
    let mut ids = Vec::new();
    for text in &args.ids {
        ids.push(outage.ask(|| operator.find(text)).await?);
    }
    let mode = if args.any { WaitMode::Any } else { WaitMode::All };
    // Lines show how the jobs stand and why they failed, and objects have all of them.
    let detail = if context.output.json { WaitDetail::Whole } else { WaitDetail::Status };
    let items = wait_for(operator, outage, &ids, WaitFor { mode, detail, deadline }).await?;
    report(context, &items, mode)
}

/// What a wait waits for, and what it answers.
pub(super) struct WaitFor {
    /// Whether it ends with the first job or with the last.
    pub(super) mode: WaitMode,
    /// How much of each job is read.
    pub(super) detail: WaitDetail,
    /// When it ends although jobs have not.
    pub(super) deadline: Option<Instant>,
}

/// Waits for jobs, and reclaims those of dead workers until they have ended.
pub(super) async fn wait_for(
    operator: &Operator,
    outage: &Outage<'_>,
    ids: &[JobId],
    WaitFor { mode, detail, deadline }: WaitFor,
) -> Result<Vec<WaitItem>, Failure> {
    outage.while_serving(operator, outage.ask(|| operator.wait(ids, mode, detail, deadline))).await
}

/// Shows the status of each job; the exit status follows from all of them.
fn report(context: &Context, items: &[WaitItem], mode: WaitMode) -> Result<ExitStatus, Failure> {
    let mut statuses = Vec::new();
    let mut tally = Tally::of(items.len(), "found");
    for item in items {
        match item {
            WaitItem::NotFound(id) => {
                let failure = Failure::not_found(format!("task not found: {id}"));
                tally.failed(&context.output, id, json!({"id": id}), failure)?;
            }
            WaitItem::Found(view) => {
                tally.done();
                statuses.push(view.job.status);
                if context.output.json {
                    context.output.object(&view.job)?;
                } else {
                    context.output.line(&format!("{} {}", view.job.id, render::status(&view.job)))?;
                    if let Some(reason) = render::reason(&view.job) {
                        context.output.note(&format!("{}: {reason}", view.job.id));
                    }
                }
            }
        }
    }
    tally.end()?;
    let over = mode.is_over(items);
    if !over {
        let left = statuses.iter().filter(|status| !status.is_terminal()).count();
        context.output.note(&timed_out(left, statuses.len()));
    }
    Ok(exit_of(over, &statuses))
}

/// What a wait that ran out says.
fn timed_out(left: usize, all: usize) -> String {
    format!("timed out: {left} of {all} have not ended")
}

/// 6 where the wait was not over; 1 where a job that ended did not complete.
fn exit_of(over: bool, statuses: &[State]) -> ExitStatus {
    let unsuccessful = |status: &State| matches!(status, State::Failed | State::Stopped);
    match over {
        false => ExitStatus::TimedOut,
        true if statuses.iter().any(unsuccessful) => ExitStatus::JobFailed,
        true => ExitStatus::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_follows_from_all_jobs() {
        use State::Completed;
        use State::Failed;
        use State::Running;
        use State::Stopped;
        for (over, statuses, exit) in [
            (true, &[Completed, Completed][..], ExitStatus::Success),
            (true, &[Completed, Failed], ExitStatus::JobFailed),
            (true, &[Stopped, Running], ExitStatus::JobFailed),
            (true, &[Completed, Running], ExitStatus::Success),
            (false, &[Completed, Running], ExitStatus::TimedOut),
            (false, &[Failed, Running], ExitStatus::TimedOut),
        ] {
            assert_eq!(exit_of(over, statuses), exit, "{over} {statuses:?}");
        }
    }
}
