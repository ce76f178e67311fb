//! `legwork pause QUEUE` and `legwork unpause QUEUE`.

use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;

/// Pauses a queue.
pub(super) async fn pause(context: Context, queue: &str) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let changed = connection.operator.pause(queue).await;
    connection.leave().await?;
    let text = match changed? {
        true => {
            format!("paused {queue}: nothing new starts from it; `legwork unpause {queue}` ends the pause")
        }
        false => format!("{queue} was paused already"),
    };
    show(&context, queue, true, &text)
}

/// Ends the pause of a queue.
pub(super) async fn unpause(context: Context, queue: &str) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let changed = connection.operator.unpause(queue).await;
    connection.leave().await?;
    let text = match changed? {
        true => format!("unpaused {queue}: its jobs start within two seconds"),
        false => format!("{queue} was not paused"),
    };
    show(&context, queue, false, &text)
}

fn show(context: &Context, queue: &str, paused: bool, text: &str) -> Result<ExitStatus, Failure> {
    if context.output.json {
        context.output.object(&json!({"queue": queue, "paused": paused}))?;
    } else {
        context.output.line(text)?;
    }
    Ok(ExitStatus::Success)
}
