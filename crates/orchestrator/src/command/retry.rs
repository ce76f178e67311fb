//! `legwork retry ID…`: a new job for each failed or stopped one.

use std::pin::pin;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_agent::Environment;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::RetryMode;
use legwork_queue::operator::RetryPlan;
use serde_json::json;

use crate::cli::RetryArgs;
use crate::confirm::confirm;
use crate::context::Connection;
use crate::context::Context;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::local_worker;
use crate::many::Tally;
use crate::many::jobs;
use crate::team_checks::check_keys;

/// What a refused retry says in addition.
const NOTHING: &str = "nothing was retried";

/// Dispatches the jobs again, and prints the new ids.
pub(super) async fn retry(context: Context, args: RetryArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let retried = retry_selected(&context, &connection, &args).await;
    connection.leave().await?;
    retried
}

async fn retry_selected(
    context: &Context,
    connection: &Connection,
    args: &RetryArgs,
) -> Result<ExitStatus, Failure> {
    let operator = &connection.operator;
    // All are planned before the first is dispatched: a wrong id changes nothing.
    let ids = selected(operator, args).await.map_err(|failure| failure.with_outcome(NOTHING))?;
    let plans = plans(operator, args, &ids).await.map_err(|failure| failure.with_outcome(NOTHING))?;
    if connection.backend.is_embedded() && args.script.is_none() {
        for plan in &plans {
            check_models(context, plan).map_err(|failure| failure.with_outcome(NOTHING))?;
        }
    }
    if plans.is_empty() {
        context.output.note("no failed job that was not retried");
        return Ok(ExitStatus::Success);
    }
    if args.confirm.dry_run {
        for id in &ids {
            context.output.line(&format!("would retry {id}"))?;
        }
        return Ok(ExitStatus::Success);
    }
    if args.failed {
        let question = format!("retry {} that failed?", jobs(ids.len() as u64));
        confirm(&context.output, args.confirm, &question, NOTHING)?;
    }
    retry_all(context, connection, args, ids, plans).await
}

/// The jobs that the command line names or selects.
async fn selected(operator: &Operator, args: &RetryArgs) -> Result<Vec<JobId>, Failure> {
    let mut ids = Vec::with_capacity(args.ids.len());
    if args.failed {
        let session = match &args.session {
            Some(text) => Some(operator.find_session(text).await?),
            None => None,
        };
        let filter = JobFilter {
            states: vec![State::Failed],
            without_retried: true,
            agent: args.agent.clone(),
            session,
            ..JobFilter::default()
        };
        let mut pages = pin!(operator.pages(filter));
        while let Some(page) = pages.try_next().await? {
            ids.extend(page.iter().map(|job| job.id));
        }
    }
    for text in &args.ids {
        ids.push(operator.find(text).await?);
    }
    Ok(ids)
}

async fn plans(operator: &Operator, args: &RetryArgs, ids: &[JobId]) -> Result<Vec<RetryPlan>, Failure> {
    let mode = if args.fresh { RetryMode::Fresh } else { RetryMode::Resume };
    let mut plans = Vec::with_capacity(ids.len());
    for id in ids {
        plans.push(operator.plan_retry(*id, mode, args.again).await?);
    }
    Ok(plans)
}

/// Dispatches the retries: one result a line, in the order of the jobs.
async fn retry_all(
    context: &Context,
    connection: &Connection,
    args: &RetryArgs,
    ids: Vec<JobId>,
    plans: Vec<RetryPlan>,
) -> Result<ExitStatus, Failure> {
    let operator = &connection.operator;
    let queues: Vec<String> = plans.iter().map(|plan| plan.queue().to_owned()).collect();
    let mut tally = Tally::of(ids.len(), "retried");
    let mut sessions = Vec::new();
    let mut retries = pin!(operator.retry_many(plans));
    let mut asked = ids.into_iter();
    while let Some(result) = retries.next().await {
        let of = asked.next().map(|id| id.to_string()).unwrap_or_default();
        match result {
            Ok(retried) => {
                sessions.push(retried.session);
                tally.done();
                if !context.output.json {
                    context.output.line(&retried.id.to_string())?;
                    continue;
                }
                for job in operator.jobs(&[retried.id]).await? {
                    context.output.object(&job)?;
                }
            }
            Err(error) => tally.failed(&context.output, &of, json!({"retry_of": of}), error.into())?,
        }
    }
    if !connection.backend.is_embedded() {
        local_worker::hint_unserved(context, connection, &queues).await?;
        return tally.end();
    }
    sessions.sort_unstable();
    sessions.dedup();
    for session in sessions {
        local_worker::serve_in_background(context, operator, session, args.script.as_deref()).await?;
    }
    tally.end()
}

/// Whether this machine, which serves the embedded server, can call the job's models: without it the new job would only
/// be rejected. A job that ran with a script is the likely case, and the script is not stored.
fn check_models(context: &Context, plan: &RetryPlan) -> Result<(), Failure> {
    let Some(team) = plan.team() else { return Ok(()) };
    let environment = Environment::new(context.variables.clone(), working_dir()?);
    check_keys(&team, plan.agent(), true, &environment).map_err(|failure| Failure {
        hint: Some("set the variable, or pass the `--script` that the job ran with".to_owned()),
        ..failure
    })
}
