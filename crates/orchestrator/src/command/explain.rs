//! `legwork explain ID`: why a job is in its state, and what would change it.

use jiff::Timestamp;
use legwork_common::error::ExitStatus;
use legwork_common::explain::explain as explained;
use legwork_queue::ConnectionKind;
use serde_json::json;

use crate::cli::ExplainArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::render;

/// Prints one paragraph.
pub(super) async fn explain(context: Context, args: ExplainArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let shown = show(&context, &connection, &args.id).await;
    connection.leave().await?;
    shown.map(|()| ExitStatus::Success)
}

async fn show(context: &Context, connection: &Connection, id: &str) -> Result<(), Failure> {
    let id = connection.operator.find(id).await?;
    let job = connection.operator.jobs(&[id]).await?.pop();
    let job = job.ok_or_else(|| Failure::not_found(format!("task not found: {id}")))?;
    let text = explained(&job, Timestamp::now());
    if context.output.json {
        return context.output.object(&json!({"job": job, "explanation": text}));
    }
    context.output.line(&render::wrapped(&context.output.harmless(&text), context.output.width))
}
