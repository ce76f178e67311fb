//! `legwork stop ID…`: the whole tree below each.

use std::io::BufRead as _;
use std::pin::pin;

use futures::TryStreamExt as _;
use legwork_common::error::ExitStatus;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::service::StopReply;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::StopReport;
use legwork_queue::operator::StopRoot;
use legwork_worker::upkeep::while_reaping;
use serde_json::json;

use crate::cli::StopArgs;
use crate::context::Context;
use crate::failure::Failure;

/// Stops the trees; returns once every job in them is terminal, or with `--no-wait` once the stop marks are durable.
pub(super) async fn stop(context: Context, args: StopArgs) -> Result<ExitStatus, Failure> {
    if args.all && !args.yes && !confirmed(&context)? {
        return Err(Failure::usage("nothing was stopped"));
    }
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let stopped = stop_all(&context, &connection.operator, &args).await;
    connection.leave().await?;
    stopped.map(|()| ExitStatus::Success)
}

async fn stop_all(context: &Context, operator: &Operator, args: &StopArgs) -> Result<(), Failure> {
    let roots = roots(operator, args).await?;
    let mut stopping = Vec::new();
    let mut reports = pin!(operator.stop_many(roots));
    while let Some(report) = reports.try_next().await? {
        match report.reply {
            StopReply::Stopping => stopping.push(report),
            StopReply::AlreadyEnded(state) => show_ended(context, report.root, state)?,
        }
    }
    // Every tree is marked before the first is waited for, so that all of them end at the same time.
    if args.no_wait {
        for report in stopping {
            let below = operator.jobs(&report.below).await?;
            show_stopped(context, &report, State::Stopping, &below)?;
        }
        return Ok(());
    }
    while_reaping(operator.queue(), show_as_they_end(context, operator, stopping)).await
}

/// Waits for trees that are being stopped, all at once, and shows each in turn.
async fn show_as_they_end(
    context: &Context,
    operator: &Operator,
    stopping: Vec<StopReport>,
) -> Result<(), Failure> {
    let mut ended = pin!(operator.until_all_stopped(stopping));
    while let Some(report) = ended.try_next().await? {
        let below = operator.jobs(&report.below).await?;
        show_stopped(context, &report, State::Stopped, &below)?;
    }
    Ok(())
}

/// The trees that the command line selects.
async fn roots(operator: &Operator, args: &StopArgs) -> Result<Vec<StopRoot>, Failure> {
    let mut roots = Vec::new();
    for text in &args.ids {
        roots.push(StopRoot::Job(operator.find(text).await?));
    }
    roots.extend(args.session.map(|id| StopRoot::Session { id, close: false }));
    if args.all || args.agent.is_some() {
        let filter = JobFilter { agent: args.agent.clone(), ..JobFilter::default() };
        roots.extend(operator.live_trees(filter).await?);
    }
    Ok(roots)
}

/// Shows a job that had ended before the stop.
fn show_ended(context: &Context, root: StopRoot, state: State) -> Result<(), Failure> {
    if context.output.json {
        return context.output.object(&json!({"id": root.to_string(), "stopped": false, "status": state}));
    }
    context.output.line(&format!("{root} had ended before: {state}"))
}

/// Shows a tree that was stopped, or that will be: `reached` is its state now.
fn show_stopped(
    context: &Context,
    report: &StopReport,
    reached: State,
    below: &[Job],
) -> Result<(), Failure> {
    let root = report.root;
    if context.output.json {
        let below: Vec<_> =
            below.iter().map(|job| json!({"id": job.id, "agent": job.agent, "status": job.status})).collect();
        return context
            .output
            .object(&json!({"id": root.to_string(), "stopped": true, "status": reached, "below": below}));
    }
    context.output.line(&format!("{root} {reached}"))?;
    for job in below {
        context.output.line(&format!("  {} {} {}", job.id, job.agent, job.status))?;
    }
    Ok(())
}

/// Asks the person at the terminal; the end of standard input is a no.
fn confirmed(context: &Context) -> Result<bool, Failure> {
    context.output.note("stop all live jobs of this namespace? [y/N]");
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage(format!("cannot ask: {error}")).with_hint("add --yes"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
