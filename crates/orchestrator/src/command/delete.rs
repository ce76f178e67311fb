//! `legwork delete ID…`: deletes ended jobs with everything they left in Redis.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt as _;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use serde_json::json;

use crate::cli::DeleteArgs;
use crate::context::Context;
use crate::failure::Failure;

/// Deletes the jobs that are named, or those that ended long ago.
pub(super) async fn delete(context: Context, args: DeleteArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let deleted = match args.ended_before {
        Some(age) => delete_old(&context, &connection.operator, age).await,
        None => delete_named(&context, &connection.operator, &args.ids).await,
    };
    connection.leave().await?;
    deleted.map(|()| ExitStatus::Success)
}

async fn delete_old(context: &Context, operator: &Operator, age: Duration) -> Result<(), Failure> {
    let cleared = operator.clear(age).await?;
    if context.output.json {
        return context.output.object(&json!({"deleted": cleared.forgotten, "kept": cleared.kept}));
    }
    context.output.line(&format!("{} deleted", jobs(cleared.forgotten)))?;
    if cleared.kept > 0 {
        context.output.note(&format!("{} kept until their dispatchers have ended", jobs(cleared.kept)));
    }
    Ok(())
}

fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

async fn delete_named(context: &Context, operator: &Operator, texts: &[String]) -> Result<(), Failure> {
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        ids.push(operator.find(text).await?);
    }
    // All are checked before the first is deleted: a wrong id changes nothing.
    let ids = operator.check_deletable(&ids).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut deleted = pin!(operator.delete_many(ids));
    while let Some(id) = deleted.try_next().await? {
        if context.output.json {
            context.output.object(&json!({"id": id, "deleted": true}))?;
        } else {
            context.output.line(&format!("{id} deleted"))?;
        }
    }
    Ok(())
}
