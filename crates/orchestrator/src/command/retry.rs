//! `legwork retry ID…`: a new job for each failed or stopped one.

use std::pin::pin;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_agent::Environment;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
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
use crate::context::WhileAway;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::local_worker;
use crate::many::Item;
use crate::many::Tally;
use crate::many::find_each;
use crate::many::jobs;
use crate::many::unless_redis;
use crate::output::Output;
use crate::team_checks::check_keys;

/// What a refused retry says in addition.
const NOTHING: &str = "nothing was retried";

/// Dispatches the jobs again, and prints the new ids.
pub(super) async fn retry(context: Context, args: RetryArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect_to_sign(ConnectionKind::Pooled, WhileAway::Fail).await?;
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
    let selected = selected(operator, args).await.map_err(|failure| failure.with_outcome(NOTHING))?;
    let items = planned(context, connection, args, selected).await?;
    if items.is_empty() {
        context.output.note("no failed job that was not retried");
        return Ok(ExitStatus::Success);
    }
    if args.failed && !args.confirm.dry_run {
        let question = format!("retry {} that failed?", jobs(items.len() as u64));
        confirm(&context.output, args.confirm, &question, NOTHING)?;
    }
    retry_all(context, connection, args, items).await
}

/// The jobs that the command line names or selects.
async fn selected(operator: &Operator, args: &RetryArgs) -> Result<Vec<Item<JobId>>, Failure> {
    let mut items = find_each(operator, &args.ids).await?;
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
            items.extend(page.iter().map(|job| Item::of(job.id, job.id)));
        }
    }
    Ok(items)
}

/// Plans the retry of each job; where this program serves the embedded server, only of jobs whose models it can call.
async fn planned(
    context: &Context,
    connection: &Connection,
    args: &RetryArgs,
    items: Vec<Item<JobId>>,
) -> Result<Vec<Item<RetryPlan>>, Failure> {
    let mode = if args.fresh { RetryMode::Fresh } else { RetryMode::Resume };
    let checks_models = connection.backend.is_embedded() && args.script.is_none();
    let mut plans = Vec::with_capacity(items.len());
    for Item { text, named } in items {
        let mut plan = match named {
            Ok(id) => unless_redis(connection.operator.plan_retry(id, mode, args.again).await)?,
            Err(failure) => Err(failure),
        };
        if checks_models {
            plan = plan.and_then(|plan| check_models(context, &plan).map(|()| plan));
        }
        plans.push(Item { text, named: plan });
    }
    Ok(plans)
}

/// Dispatches the retries: one result a line, in the order of the jobs.
async fn retry_all(
    context: &Context,
    connection: &Connection,
    args: &RetryArgs,
    items: Vec<Item<RetryPlan>>,
) -> Result<ExitStatus, Failure> {
    let operator = &connection.operator;
    let plans: Vec<RetryPlan> = items.iter().filter_map(|item| item.named.as_ref().ok().cloned()).collect();
    let queues: Vec<String> = plans.iter().map(|plan| plan.queue().to_owned()).collect();
    let mut tally = Tally::of(items.len(), "retried");
    let mut sessions = Vec::new();
    let mut retries = pin!(operator.retry_many(if args.confirm.dry_run { Vec::new() } else { plans }));
    for Item { text, named } in items {
        let answer = match named {
            Err(failure) => Err(failure),
            Ok(plan) => match retries.next().await {
                Some(retried) => unless_redis(retried)?,
                None => {
                    show_planned(&context.output, plan.of())?;
                    continue;
                }
            },
        };
        match answer {
            Ok(retried) => {
                sessions.push(retried.session);
                tally.done();
                show_retried(context, operator, retried.id).await?;
            }
            Err(failure) => tally.failed(&context.output, &text, json!({"retry_of": text}), failure)?,
        }
    }
    if !sessions.is_empty() {
        serve(context, connection, args, &queues, sessions).await?;
    }
    tally.end_of_refusals()
}

/// Sees to workers for the new jobs, or says which queues have none.
async fn serve(
    context: &Context,
    connection: &Connection,
    args: &RetryArgs,
    queues: &[String],
    mut sessions: Vec<SessionId>,
) -> Result<(), Failure> {
    if !connection.backend.is_embedded() {
        return local_worker::hint_unserved(context, connection, queues).await;
    }
    sessions.sort_unstable();
    sessions.dedup();
    for session in sessions {
        let script = args.script.as_deref();
        local_worker::serve_in_background(context, &connection.operator, session, script).await?;
    }
    Ok(())
}

/// Shows what `--dry-run` would do.
fn show_planned(output: &Output, of: JobId) -> Result<(), Failure> {
    if output.json {
        return output.object(&json!({"retry_of": of, "would_retry": true}));
    }
    output.line(&format!("would retry {of}"))
}

/// Shows a new job: its id, or with `--json` its object.
async fn show_retried(context: &Context, operator: &Operator, id: JobId) -> Result<(), Failure> {
    if !context.output.json {
        return context.output.line(&id.to_string());
    }
    for job in operator.jobs(&[id]).await? {
        context.output.object(&job)?;
    }
    Ok(())
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
