//! `legwork send ID MESSAGE`: a message before a running job's next model call.

use legwork_common::error::ExitStatus;
use legwork_common::id::RequestId;
use legwork_common::service::ServiceError;
use legwork_queue::ConnectionKind;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::SendOutcome;
use serde_json::json;

use crate::cli::SendArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;

/// Sends, and returns when the message is stored.
pub(super) async fn send(context: Context, args: SendArgs) -> Result<ExitStatus, Failure> {
    let message = message(args.message)?;
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let sent = deliver(&context, &connection, &args.id, &message).await;
    connection.leave().await?;
    sent.map(|()| ExitStatus::Success)
}

async fn deliver(context: &Context, connection: &Connection, id: &str, message: &str) -> Result<(), Failure> {
    let queue = connection.queue();
    let id = context.job_id(queue, id).await?;
    let request = RequestId::random().to_string();
    match queue.send(id, message, &request, queue.settings().retention).await? {
        SendOutcome::NotFound => Err(ServiceError::NotFound(id.to_string()).into()),
        SendOutcome::NotRunning(status) => Err(ServiceError::NotRunning { id, status }.into()),
        SendOutcome::Sent if context.output.json => context.output.object(&json!({"id": id, "sent": true})),
        SendOutcome::Sent => context.output.line(&format!("Message sent to background agent task {id}.")),
    }
}

/// The message of the command line, or all of standard input.
fn message(words: Vec<String>) -> Result<String, Failure> {
    let text = if words == ["-"] {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::usage(format!("cannot read the message: {error}")))?
    } else {
        words.join(" ")
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("the message must not be empty"));
    }
    Ok(text)
}
