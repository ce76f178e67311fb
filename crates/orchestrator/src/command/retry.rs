//! `legwork retry ID…`: a new job for each failed or stopped one.

use std::collections::BTreeMap;

use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::JobSpec;
use legwork_common::lifecycle::State;
use legwork_common::service::ServiceError;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Enqueue;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::NewJob;
use legwork_queue::port::Original;
use legwork_queue::port::Watch as _;

use crate::cli::RetryArgs;
use crate::command::dispatch;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::local_worker;

/// Dispatches the jobs again, and prints the new ids.
pub(super) async fn retry(context: Context, args: RetryArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let retried = retry_all(&context, &connection, &args).await;
    connection.leave().await?;
    retried.map(|()| ExitStatus::Success)
}

async fn retry_all(context: &Context, connection: &Connection, args: &RetryArgs) -> Result<(), Failure> {
    let queue = connection.queue();
    // All are looked at before the first is dispatched: a wrong id changes nothing.
    let mut originals = Vec::with_capacity(args.ids.len());
    for text in &args.ids {
        let id = context.job_id(queue, text).await?;
        originals.push((id, original(queue, id).await?));
    }
    // Jobs whose session takes no more share a new one, one for each session.
    let mut moved = BTreeMap::new();
    let (mut ids, mut sessions, mut queues) = (Vec::new(), Vec::new(), Vec::new());
    for (of, original) in originals {
        queues.push(original.job_options.queue.clone());
        let (id, session) = again(connection, of, original, args.fresh, &mut moved).await?;
        ids.push(id);
        sessions.push(session);
        if !context.output.json {
            context.output.line(&id.to_string())?;
        }
    }
    if context.output.json {
        for job in queue.jobs(&ids).await?.into_iter().flatten() {
            context.output.object(&job)?;
        }
    }
    if !connection.backend.is_embedded() {
        return local_worker::hint_unserved(context, connection, &queues).await;
    }
    sessions.sort_unstable_by_key(ToString::to_string);
    sessions.dedup();
    for session in sessions {
        local_worker::serve_in_background(context, connection.queue(), session, args.script.as_deref())
            .await?;
    }
    Ok(())
}

/// A job that may be tried again, as it was asked for.
async fn original(queue: &Queue, id: JobId) -> Result<Original, Failure> {
    let Some(original) = queue.original(id).await? else {
        return Err(ServiceError::NotFound(id.to_string()).into());
    };
    match original.status {
        State::Failed | State::Stopped => Ok(original),
        State::Completed => Err(Failure::usage(format!("task {id} has completed"))
            .with_hint("only failed and stopped jobs are tried again; `legwork dispatch` begins a new one")),
        status => Err(Failure::usage(format!("task {id} has not ended (status: {status})"))
            .with_hint("`legwork stop` ends it, `legwork wait` waits for its end")),
    }
}

/// Dispatches one job again: into its session, or where that takes no more, into another beside it.
async fn again(
    connection: &Connection,
    of: JobId,
    original: Original,
    fresh: bool,
    moved: &mut BTreeMap<String, SessionId>,
) -> Result<(JobId, SessionId), Failure> {
    let queue = connection.queue();
    let Original { session: home, spec, job_options, team_json, .. } = original;
    let team = spec.team.clone();
    let spec = JobSpec { key: None, retry_of: Some(of), fresh, ..spec };
    let mut session = moved.get(&home.to_string()).copied().unwrap_or(home);
    loop {
        let job = NewJob {
            id: JobId::random_in(session),
            spec: spec.clone(),
            job_options: job_options.clone(),
            idempotency_key: None,
        };
        let request = Enqueue { session, by: DispatchedBy::Root, team: team.clone(), jobs: vec![job] };
        match queue.enqueue(&request).await? {
            Ok(stored) => match stored.first() {
                Some(Enqueued::Stored(id) | Enqueued::Conflict(id)) => return Ok((*id, session)),
                None => return Err(Failure::usage("Redis stored nothing")),
            },
            Err(EnqueueRefusal::NoTeam) => match &team_json {
                Some(json) => queue.store_team(session, &team, json).await?,
                None => return Err(Failure::usage(format!("the team of {of} is not stored any more"))),
            },
            Err(_) if session == home => {
                session = SessionId::random_in_shard_of(of);
                dispatch::open(connection, session, None, None).await?;
                moved.insert(home.to_string(), session);
            }
            Err(_) => return Err(ServiceError::Stopping.into()),
        }
    }
}
