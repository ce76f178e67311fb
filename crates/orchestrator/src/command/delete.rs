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
use serde_json::Value;
use serde_json::json;

use crate::cli::DeleteArgs;
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::many;
use crate::many::Item;
use crate::many::Tally;
use crate::many::find_each;
use crate::many::jobs;
use crate::many::unless_redis;
use crate::output::Output;

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
    let ago = duration::setting(age);
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
    let mut items = find_each(operator, &args.ids).await?;
    check_each(operator, &mut items).await?;
    let output = &context.output;
    let mut tally = Tally::of(items.len(), "deleted");
    let ids: Vec<JobId> = items.iter().filter_map(|item| item.named.as_ref().ok().copied()).collect();
    let mut deleted = pin!(operator.delete_many(if args.confirm.dry_run { Vec::new() } else { ids }));
    for Item { text, named } in items {
        let answer = match named {
            Ok(id) if args.confirm.dry_run => {
                show(output, &json!({"id": id, "would_delete": true}), &format!("would delete {id}"))?;
                tally.done();
                continue;
            }
            // Those that were found are answered in their order, until Redis does not answer.
            Ok(id) => unless_redis(deleted.next().await.unwrap_or(Ok(id)))?,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(id) => {
                show(output, &json!({"id": id, "deleted": true}), &format!("{id} deleted"))?;
                tally.done();
            }
            Err(failure) => tally.failed(output, &text, json!({"id": text, "deleted": false}), failure)?,
        }
    }
    tally.end_of_refusals()
}

/// Shows the result of an item.
fn show(output: &Output, object: &Value, line: &str) -> Result<(), Failure> {
    if output.json { output.object(object) } else { output.line(line) }
}

/// Finds out which of the jobs may be deleted.
async fn check_each(operator: &Operator, items: &mut [Item<JobId>]) -> Result<(), Failure> {
    let ids: Vec<JobId> = items.iter().filter_map(|item| item.named.as_ref().ok().copied()).collect();
    let mut checked = operator.check_deletable(&ids).await?.into_iter();
    for item in items {
        if item.named.is_ok()
            && let Some(checked) = checked.next()
        {
            item.named = unless_redis(checked)?;
        }
    }
    Ok(())
}
