//! `legwork delete ID…`: forgets ended jobs and all they left.

use std::time::Duration;

use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::service::ServiceError;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::port::Forgotten;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use serde_json::json;

use crate::cli::DeleteArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;

/// Forgets what is named, or what ended long ago.
pub(super) async fn delete(context: Context, args: DeleteArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let deleted = match args.ended_before {
        Some(age) => delete_old(&context, connection.queue(), age).await,
        None => delete_all(&context, &connection, &args.ids).await,
    };
    connection.leave().await?;
    deleted.map(|()| ExitStatus::Success)
}

async fn delete_old(context: &Context, queue: &Queue, age: Duration) -> Result<(), Failure> {
    let cleared = queue.clear(age).await?;
    if context.output.json {
        return context.output.object(&json!({"deleted": cleared.forgotten, "kept": cleared.kept}));
    }
    context.output.line(&format!("{} deleted", jobs(cleared.forgotten)))?;
    if cleared.kept > 0 {
        // They would be missing where somebody is about to be told of them.
        context
            .output
            .note(&format!("{} kept until the one who dispatched them has ended", jobs(cleared.kept)));
    }
    Ok(())
}

fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

async fn delete_all(context: &Context, connection: &Connection, texts: &[String]) -> Result<(), Failure> {
    let queue = connection.queue();
    // All are looked at before the first is forgotten: a wrong id changes nothing.
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        ids.push(context.job_id(queue, text).await?);
    }
    for (id, state) in ids.iter().zip(queue.states(&ids).await?) {
        match state {
            None => return Err(ServiceError::NotFound(id.to_string()).into()),
            Some(state) if !state.is_terminal() => return Err(live(*id)),
            Some(_) => {}
        }
    }
    for id in ids {
        match queue.forget(&[id], true).await?.pop() {
            // Somebody else was faster: it is gone all the same.
            Some(Forgotten::Forgotten | Forgotten::Missing) => {}
            Some(Forgotten::Live | Forgotten::Spared) | None => return Err(live(id)),
        }
        if context.output.json {
            context.output.object(&json!({"id": id, "deleted": true}))?;
        } else {
            context.output.line(&format!("{id} deleted"))?;
        }
    }
    Ok(())
}

fn live(id: JobId) -> Failure {
    Failure::usage(format!("task {id} has not ended, or its tree is still being stopped"))
        .with_hint("`legwork stop` ends it, `legwork wait` waits for its end")
}
