//! `legwork retry ID…`: a new job for each failed or stopped one.

use std::pin::pin;

use futures::TryStreamExt as _;
use legwork_agent::Environment;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::RetryMode;
use legwork_queue::operator::RetryPlan;

use crate::cli::RetryArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::local_worker;
use crate::team_checks::check_keys;

/// Dispatches the jobs again, and prints the new ids.
pub(super) async fn retry(context: Context, args: RetryArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let retried = retry_all(&context, &connection, &args).await;
    connection.leave().await?;
    retried.map(|()| ExitStatus::Success)
}

async fn retry_all(context: &Context, connection: &Connection, args: &RetryArgs) -> Result<(), Failure> {
    let operator = &connection.operator;
    let mode = if args.fresh { RetryMode::Fresh } else { RetryMode::Resume };
    // All are planned before the first is dispatched: a wrong id changes nothing.
    let mut plans = Vec::with_capacity(args.ids.len());
    for text in &args.ids {
        let plan = operator.plan_retry(operator.find(text).await?, mode).await?;
        if connection.backend.is_embedded() && args.script.is_none() {
            check_models(context, &plan)?;
        }
        plans.push(plan);
    }
    let queues: Vec<String> = plans.iter().map(|plan| plan.queue().to_owned()).collect();
    let (mut ids, mut sessions) = (Vec::new(), Vec::new());
    let mut retries = pin!(operator.retry_many(plans));
    while let Some(retried) = retries.try_next().await? {
        ids.push(retried.id);
        sessions.push(retried.session);
        if !context.output.json {
            context.output.line(&retried.id.to_string())?;
        }
    }
    if context.output.json {
        for job in operator.jobs(&ids).await? {
            context.output.object(&job)?;
        }
    }
    if !connection.backend.is_embedded() {
        return local_worker::hint_unserved(context, connection, &queues).await;
    }
    sessions.sort_unstable();
    sessions.dedup();
    for session in sessions {
        local_worker::serve_in_background(context, operator, session, args.script.as_deref()).await?;
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
