//! `legwork stop ID…`: the whole tree below each.

use std::io::BufRead as _;
use std::time::Duration;

use legwork_common::error::ExitStatus;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Observer;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::JobFilter;
use legwork_queue::port::StopOutcome;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Watch as _;
use legwork_worker::upkeep::while_reaping;
use serde_json::json;

use crate::cli::StopArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;

/// How often a tree is looked at until it is terminal.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Jobs of one page of `--all` and `--agent`.
const PAGE: usize = 500;
/// The states of jobs that can be stopped.
const LIVE: [State; 6] =
    [State::Scheduled, State::Queued, State::Running, State::Waiting, State::Stopping, State::Reaping];

/// Stops, and returns when the trees are terminal.
pub(super) async fn stop(context: Context, args: StopArgs) -> Result<ExitStatus, Failure> {
    if args.all && !args.yes && !confirmed(&context)? {
        return Err(Failure::usage("nothing was stopped"));
    }
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let stopped = stop_all(&context, &connection, &args).await;
    connection.leave().await?;
    stopped.map(|()| ExitStatus::Success)
}

async fn stop_all(context: &Context, connection: &Connection, args: &StopArgs) -> Result<(), Failure> {
    let roots = roots(context, connection, args).await?;
    let mut marked = Vec::new();
    for root in roots {
        // What is live below it now is what the stop ends: nothing new begins there.
        let below = live_below(connection, root).await?;
        let outcome = connection.observer.stop(root, Asker::Operator, Cause::Operator).await?;
        if matches!(outcome, StopOutcome::Marked(_)) {
            marked.push((root, below));
        } else {
            say(context, root, outcome, State::Stopped, &[])?;
        }
    }
    // Without the wait nobody knows yet that all is over.
    let reached = if args.no_wait { State::Stopping } else { State::Stopped };
    for (root, mut below) in marked {
        if !args.no_wait {
            until_terminal(&connection.observer, root).await?;
        }
        refresh(connection, &mut below).await?;
        say(context, root, StopOutcome::Marked(Cause::Operator), reached, &below)?;
    }
    Ok(())
}

/// The jobs below a root that have not ended.
async fn live_below(connection: &Connection, root: StopRoot) -> Result<Vec<Job>, Failure> {
    let queue = connection.queue();
    let (session, of) = match root {
        StopRoot::Session { id, .. } => (id, Dispatcher::Root(id)),
        StopRoot::Job(id) => match queue.jobs(&[id]).await?.pop().flatten() {
            Some(job) => (job.session, Dispatcher::Job(id)),
            None => return Ok(Vec::new()),
        },
    };
    let mut jobs = queue.children(session, of).await?.jobs;
    jobs.retain(|job| !job.status.is_terminal());
    Ok(jobs)
}

/// Reads again what became of jobs.
async fn refresh(connection: &Connection, jobs: &mut Vec<Job>) -> Result<(), Failure> {
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    *jobs = connection.queue().jobs(&ids).await?.into_iter().flatten().collect();
    Ok(())
}

/// What to stop.
async fn roots(
    context: &Context,
    connection: &Connection,
    args: &StopArgs,
) -> Result<Vec<StopRoot>, Failure> {
    let mut roots = Vec::new();
    for text in &args.ids {
        roots.push(StopRoot::Job(context.job_id(connection.queue(), text).await?));
    }
    if let Some(id) = args.session {
        roots.push(StopRoot::Session { id, close: false });
    }
    if args.all || args.agent.is_some() {
        let filter = JobFilter { states: LIVE.to_vec(), agent: args.agent.clone(), ..JobFilter::default() };
        let mut after = None;
        loop {
            let page = connection.queue().list(&filter, PAGE, after).await?;
            roots.extend(page.jobs.iter().map(|job| StopRoot::Job(job.id)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(roots)
}

/// Looks until nothing below the mark lives, and takes back what dead workers held.
pub(crate) async fn until_terminal(observer: &Observer, root: StopRoot) -> Result<(), Failure> {
    let queue = observer.queue();
    while_reaping(queue, async {
        while queue.sweep(root).await? > 0 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    })
    .await
}

/// Says what became of it; `reached` is how far a tree is that was marked, `below` what was stopped with it.
fn say(
    context: &Context,
    root: StopRoot,
    outcome: StopOutcome,
    reached: State,
    below: &[Job],
) -> Result<(), Failure> {
    let name = match root {
        StopRoot::Job(id) => id.to_string(),
        StopRoot::Session { id, .. } => id.to_string(),
    };
    match outcome {
        StopOutcome::NotFound => Err(Failure::not_found(format!("task not found: {name}"))),
        StopOutcome::Marked(_) if context.output.json => {
            let below: Vec<_> = below
                .iter()
                .map(|job| json!({"id": job.id, "agent": job.agent, "status": job.status}))
                .collect();
            context.output.object(&json!({"id": name, "stopped": true, "status": reached, "below": below}))
        }
        StopOutcome::Marked(_) => {
            context.output.line(&format!("{name} {reached}"))?;
            for job in below {
                context.output.line(&format!("  {} {} {}", job.id, job.agent, job.status))?;
            }
            Ok(())
        }
        StopOutcome::AlreadyEnded(state) if context.output.json => {
            context.output.object(&json!({"id": name, "stopped": false, "status": state}))
        }
        StopOutcome::AlreadyEnded(state) => context.output.line(&format!("{name} had ended before: {state}")),
    }
}

/// Asks a person.
fn confirmed(context: &Context) -> Result<bool, Failure> {
    context.output.note("stop all live jobs of this namespace? [y/N]");
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage(format!("cannot ask: {error}")).with_hint("say --yes"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
