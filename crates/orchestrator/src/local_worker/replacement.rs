//! Workers in place of killed ones: on the embedded server a session's jobs wait for a worker of their own, and no fleet
//! takes them over. Whatever command finds such a session starts a worker for it.

use std::collections::BTreeSet;
use std::time::Duration;

use legwork_common::id::SessionId;
use legwork_common::lifecycle::State;
use legwork_queue::Operator;
use legwork_queue::QueueError;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::Lane;
use legwork_worker::backend::embedded_config;
use legwork_worker::upkeep::while_reaping;

use super::is_serving;
use super::launch::Launch;
use super::serve_as;
use crate::context::Context;
use crate::failure::Failure;
use crate::team_checks::check_keys;

/// Polling interval for sessions without a worker while a command waits. A killed worker's jobs wait for their leases
/// anyway, which take ten seconds by default.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Sessions that one poll starts workers for, each a process: the next poll, or the next command, starts more. A session
/// whose worker could not be started is left to a command that has what it needs.
const MAX_STARTS: usize = 16;
/// Waiting jobs whose sessions are served in one poll.
const MAX_JOBS: usize = 1000;

/// Starts workers for the sessions whose workers are gone, where no other program uses the server. What cannot be started
/// is noted, and the command does not fail for it.
pub async fn replace_workers(context: &Context, operator: &Operator) -> Result<(), Failure> {
    let listing = operator.list(&waiting(), MAX_JOBS, None).await?;
    let waiting: BTreeSet<SessionId> = listing.jobs.iter().map(|job| job.job.session).collect();
    // Of more jobs than these, other sessions may wait too.
    if listing.next.is_none() {
        Launch::forget_all_but(&embedded_config(&context.common, &context.variables).state_dir, &waiting);
    }
    for session in waiting.into_iter().take(MAX_STARTS) {
        if let Err(failure) = replace(context, operator, session).await {
            context.output.note(&format!("the jobs of session {session} wait: {}", failure.message));
        }
    }
    Ok(())
}

/// Runs `work`; reaps until it is done, and on the embedded server replaces workers that are gone: the jobs that it waits
/// for may be held by a dead worker, and this may be the only live program.
pub async fn while_serving<T>(
    context: &Context,
    operator: &Operator,
    is_embedded: bool,
    work: impl Future<Output = T>,
) -> T {
    let work = while_reaping(operator.queue(), work);
    if !is_embedded {
        return work.await;
    }
    tokio::select! {
        answer = work => answer,
        never = replace_forever(context, operator) => match never {},
    }
}

async fn replace_forever(context: &Context, operator: &Operator) -> std::convert::Infallible {
    let mut seen = BTreeSet::new();
    let mut failed = BTreeSet::new();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let Ok(unserved) = unserved_sessions(operator).await else { continue };
        // Twice in a row: a program that has just dispatched is about to start a worker itself.
        let startable: Vec<SessionId> =
            unserved.intersection(&seen).filter(|session| !failed.contains(*session)).copied().collect();
        for session in startable.into_iter().take(MAX_STARTS) {
            if let Err(failure) = replace(context, operator, session).await {
                context.output.note(&format!("the jobs of session {session} wait: {}", failure.message));
                failed.insert(session);
            }
        }
        seen = unserved;
    }
}

/// Starts a worker for a session as its last one was started, if this program's environment has what its jobs need.
async fn replace(context: &Context, operator: &Operator, session: SessionId) -> Result<(), Failure> {
    let state_dir = embedded_config(&context.common, &context.variables).state_dir;
    let launch = Launch::read(&state_dir, session).unwrap_or_else(|| Launch::of(context, None));
    if launch.script.is_none() {
        check_environment(context, operator, session).await?;
    }
    serve_as(context, operator, session, &launch).await
}

/// Checks that the keys of the session's oldest waiting job are set. A worker without them would have the job rejected,
/// though another terminal has them.
async fn check_environment(
    context: &Context,
    operator: &Operator,
    session: SessionId,
) -> Result<(), Failure> {
    let filter = JobFilter { session: Some(session), ..waiting() };
    let listing = operator.list(&filter, MAX_JOBS, None).await?;
    let Some(job) = listing.jobs.last() else { return Ok(()) };
    let Some((team, agent)) = operator.agent_of(job.job.id).await? else { return Ok(()) };
    let environment = context.agent_environment(crate::context::working_dir()?);
    check_keys(&team, &agent, false, &environment)
}

fn waiting() -> JobFilter {
    JobFilter { states: vec![State::Queued, State::Scheduled], ..JobFilter::default() }
}

/// The sessions with jobs that wait for a worker: those of the newest jobs, where there are very many.
async fn waiting_sessions(operator: &Operator) -> Result<BTreeSet<SessionId>, QueueError> {
    let listing = operator.list(&waiting(), MAX_JOBS, None).await?;
    Ok(listing.jobs.iter().map(|job| job.job.session).collect())
}

async fn unserved_sessions(operator: &Operator) -> Result<BTreeSet<SessionId>, QueueError> {
    let waiting = waiting_sessions(operator).await?;
    if waiting.is_empty() {
        return Ok(waiting);
    }
    // One reading for all sessions: it is repeated every second.
    let workers = operator.workers().await?;
    let lanes: BTreeSet<&String> =
        workers.iter().filter(|worker| is_serving(worker)).flat_map(|worker| &worker.lanes).collect();
    let is_unserved = |session: &SessionId| !lanes.contains(&Lane::Session(*session).name());
    Ok(waiting.into_iter().filter(is_unserved).collect())
}
