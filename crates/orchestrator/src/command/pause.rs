//! `legwork pause QUEUE` and `legwork unpause QUEUE`.

use legwork_common::error::ExitStatus;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::QueueError;
use legwork_queue::operator::JobFilter;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;

/// Pauses a queue.
pub(super) async fn pause(context: Context, queue: &str) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let is_embedded = connection.backend.is_embedded();
    let changed = connection.operator.pause(queue).await;
    let known = match &changed {
        Ok(_) => is_known(&connection.operator, queue).await,
        Err(_) => Ok(true),
    };
    connection.leave().await?;
    if !known? {
        let unserved =
            if is_embedded { String::new() } else { format!("no worker serves queue {queue}, and ") };
        let note = format!("{unserved}no job is in queue {queue}; the pause holds for later ones");
        context.output.note(&note);
    }
    let text = match changed? {
        true => {
            format!("paused {queue}: nothing new starts from it; `legwork unpause {queue}` ends the pause")
        }
        false => format!("{queue} was paused already"),
    };
    show(&context, queue, true, &text)
}

/// Whether a worker serves the queue, or a live job is in it. A name that is not known may be a mistake.
async fn is_known(operator: &Operator, queue: &str) -> Result<bool, QueueError> {
    if operator.unserved(&[queue.to_owned()]).await?.is_empty() {
        return Ok(true);
    }
    let states = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
    let filter = JobFilter { states, queue: Some(queue.to_owned()), ..JobFilter::default() };
    Ok(!operator.list(&filter, 1, None).await?.jobs.is_empty())
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
