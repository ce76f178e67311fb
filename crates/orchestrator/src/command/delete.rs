//! `legwork delete ID…`: deletes ended jobs with everything they left in Redis.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::Cleared;
use serde_json::json;

use crate::cli::DeleteArgs;
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::many;
use crate::many::Tally;
use crate::many::jobs;

/// What a refused deletion says in addition.
const NOTHING: &str = "nothing was deleted";

/// Deletes the jobs that are named, or those that ended long ago.
pub(super) async fn delete(context: Context, args: DeleteArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let deleted = match args.ended_before {
        Some(age) => delete_old(&context, &connection.operator, &args, age).await,
        None => delete_named(&context, &connection.operator, &args).await,
    };
    connection.leave().await?;
    deleted
}

async fn delete_old(
    context: &Context,
    operator: &Operator,
    args: &DeleteArgs,
    age: Duration,
) -> Result<ExitStatus, Failure> {
    let count = operator.count_ended_before(age).await?;
    let ago = duration::short(age);
    if args.confirm.dry_run {
        if context.output.json {
            context.output.object(&json!({"would_delete": count}))?;
        } else {
            context.output.line(&format!("would delete {} that ended at least {ago} ago", jobs(count)))?;
        }
        return Ok(ExitStatus::Success);
    }
    if count > 0 {
        let question = format!("delete {} that ended at least {ago} ago?", jobs(count));
        confirm(&context.output, args.confirm, &question, NOTHING)?;
    }
    let bar = many::progress(&context.output, usize::try_from(count).unwrap_or(usize::MAX), "deleted");
    let mut cleared = Cleared::default();
    let mut pages = pin!(operator.clear(age));
    while let Some(so_far) = pages.try_next().await? {
        cleared = so_far;
        bar.set_position(cleared.forgotten);
    }
    bar.finish_and_clear();
    if context.output.json {
        context.output.object(&json!({"deleted": cleared.forgotten, "kept": cleared.kept}))?;
        return Ok(ExitStatus::Success);
    }
    context.output.line(&format!("{} deleted", jobs(cleared.forgotten)))?;
    if cleared.kept > 0 {
        context.output.note(&format!("{} kept until their dispatchers have ended", jobs(cleared.kept)));
    }
    Ok(ExitStatus::Success)
}

async fn delete_named(
    context: &Context,
    operator: &Operator,
    args: &DeleteArgs,
) -> Result<ExitStatus, Failure> {
    // All are checked before the first is deleted: a wrong id changes nothing.
    let ids = deletable(operator, &args.ids).await.map_err(|failure| failure.with_outcome(NOTHING))?;
    if args.confirm.dry_run {
        for id in ids {
            context.output.line(&format!("would delete {id}"))?;
        }
        return Ok(ExitStatus::Success);
    }
    let mut tally = Tally::of(ids.len(), "deleted");
    let mut deleted = pin!(operator.delete_many(ids.clone()));
    let mut asked = ids.into_iter();
    while let Some(result) = deleted.next().await {
        let asked = asked.next();
        match result {
            Ok(id) if context.output.json => context.output.object(&json!({"id": id, "deleted": true}))?,
            Ok(id) => context.output.line(&format!("{id} deleted"))?,
            Err(error) => {
                let id = asked.map(|id: JobId| id.to_string()).unwrap_or_default();
                tally.failed(&context.output, &id, json!({"id": id, "deleted": false}), error.into())?;
                continue;
            }
        }
        tally.done();
    }
    tally.end()
}

/// The ids that the texts name, if all of them may be deleted.
async fn deletable(operator: &Operator, texts: &[String]) -> Result<Vec<JobId>, Failure> {
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        ids.push(operator.find(text).await?);
    }
    Ok(operator.check_deletable(&ids).await?.into_iter().collect::<Result<Vec<_>, _>>()?)
}
