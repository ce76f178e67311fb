//! `legwork send ID MESSAGE`: a message before a running job's next model call.

use legwork_common::contract;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use serde_json::json;

use crate::cli::SendArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::context::WhileAway;
use crate::failure::Failure;

/// Sends the message; returns once it is stored.
pub(super) async fn send(context: Context, args: SendArgs) -> Result<ExitStatus, Failure> {
    let message = message(args.message)?;
    let connection = context.connect_to_sign(ConnectionKind::Pooled, WhileAway::Fail).await?;
    let sent = deliver(&context, &connection, &args.id, &message).await;
    connection.leave().await?;
    sent.map(|()| ExitStatus::Success)
}

async fn deliver(context: &Context, connection: &Connection, id: &str, message: &str) -> Result<(), Failure> {
    let id = connection.operator.find(id).await?;
    connection.operator.send(id, message).await?;
    if context.output.json {
        return context.output.object(&json!({"id": id, "sent": true}));
    }
    context.output.line(&contract::sent(id))
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
