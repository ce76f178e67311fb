//! `legwork view ID`: one job and its output.

use std::collections::BTreeSet;

use jiff::Timestamp;
use legwork_agent::journal::TurnEntry;
use legwork_common::contract;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::ViewedJob;
use serde_json::Value;
use serde_json::json;

use crate::cli::ViewArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::follow::Followed;
use crate::follow::follow;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::render;
use crate::suggest::same_command;

/// Bytes of output that one view shows at most without `--follow`: more than the output cap of a namespace by default,
/// and still one reply of Redis.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Shows the job.
pub(super) async fn view(context: Context, args: ViewArgs) -> Result<ExitStatus, Failure> {
    if !args.follow {
        let connection = context.connect(ConnectionKind::Pooled).await?;
        let shown = show(&context, &connection.operator, &args).await;
        connection.leave().await?;
        return shown;
    }
    let again = same_command(&context);
    let connection = context.connect_to_wait(None, &again).await?;
    let outage = Outage::of(&context, &connection);
    let followed = Box::pin(show_while_it_runs(&context, &connection.operator, &outage, &args, &again)).await;
    connection.leave().await?;
    followed
}

async fn show(context: &Context, operator: &Operator, args: &ViewArgs) -> Result<ExitStatus, Failure> {
    let id = operator.find(&args.id).await?;
    if args.transcript {
        transcript(context, operator, id).await?;
        return Ok(ExitStatus::Success);
    }
    let max = args.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(MAX_OUTPUT_BYTES);
    let viewed = operator.view(id, args.since, max.min(MAX_OUTPUT_BYTES)).await?;
    if context.output.json {
        context.output.object(&object(&viewed)?)?;
    } else {
        show_text(context, &viewed, args)?;
    }
    Ok(ExitStatus::Success)
}

/// Shows the output as it grows, then how the job ended. `again` is the command that begins anew, where Redis is away
/// before the first byte is shown.
async fn show_while_it_runs(
    context: &Context,
    operator: &Operator,
    outage: &Outage<'_>,
    args: &ViewArgs,
    again: &str,
) -> Result<ExitStatus, Failure> {
    let begin = async {
        let id = outage.ask(|| operator.find(&args.id)).await?;
        let from = match args.tail {
            Some(tail) => outage.ask(|| operator.job(id)).await?.output_bytes.saturating_sub(tail),
            None => args.since.unwrap_or(0),
        };
        Ok((id, from))
    };
    let (id, from) = begin.await.map_err(|failure| with_continuation(failure, again))?;
    let Followed::Ended(job) = follow(operator, id, from, &context.output, outage).await? else {
        return Ok(ExitStatus::Interrupted);
    };
    if context.output.json {
        context.output.object(&json!({"event": "ended", "job": job}))?;
    } else {
        context.output.note(&render::ending(&job));
    }
    let completed = job.status == State::Completed;
    Ok(if completed { ExitStatus::Success } else { ExitStatus::JobFailed })
}

fn show_text(context: &Context, viewed: &ViewedJob, args: &ViewArgs) -> Result<(), Failure> {
    let ViewedJob { view, .. } = viewed;
    let head = render::head(&view.job, Timestamp::now(), context.output.color, context.output.width);
    context.output.text(&head)?;
    if view.job.status == State::Completed {
        // Otherwise they are in the output below.
        for warning in warnings(&String::from_utf8_lossy(&view.output.bytes)) {
            context.output.line(&format!("{:<10}{warning}", "Warning"))?;
        }
    }
    context.output.text("\n--- Output ---\n")?;
    let whole = args.since.is_none() && args.tail.is_none();
    if whole {
        context.output.line(&context.output.harmless(&contract::view_body(view)))
    } else {
        context.output.bytes(&view.output.bytes)
    }
}

/// The warnings of a run, such as about a toolset that could not start, each once: its worker wrote them into the output.
fn warnings(output: &str) -> BTreeSet<&str> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("[warning: ")?.strip_suffix(']'));
    lines.collect()
}

/// The job object with its output.
fn object(viewed: &ViewedJob) -> Result<Value, Failure> {
    let view = &viewed.view;
    let mut object = serde_json::to_value(&view.job)
        .map_err(|error| Failure::usage(format!("cannot be written as JSON: {error}")))?;
    object["output"] = json!(String::from_utf8_lossy(&view.output.bytes));
    object["output_offset"] = json!(view.output.offset);
    object["next_offset"] = json!(view.output.next_offset());
    Ok(object)
}

/// Shows the recorded turns.
async fn transcript(context: &Context, operator: &Operator, id: JobId) -> Result<(), Failure> {
    for (sequence, text) in operator.turns(id).await? {
        if context.output.json {
            context.output.object(&entry_object(&text))?;
            continue;
        }
        match TurnEntry::decode(&text) {
            Ok(entry) => context.output.text(&context.output.harmless(&render::paragraph(&entry)))?,
            Err(error) => context.output.line(&format!("[entry {sequence}: {error}]"))?,
        }
    }
    Ok(())
}

/// One recorded entry as JSON. The arguments of tool calls are stored as the text that the model wrote, and are values
/// here.
fn entry_object(text: &str) -> Value {
    let mut entry: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    let calls = entry.pointer_mut("/message/tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        if let Some(text) = call.get("arguments").and_then(Value::as_str) {
            call["arguments"] = render::arguments(text);
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_a_transcript_are_json_values() {
        let call = r#"{"id":"1","name":"shell","arguments":"{\"cmd\":\"ls\"}"}"#;
        let entry = format!(r#"{{"entry":"reply","turn":1,"message":{{"text":"","tool_calls":[{call}]}}}}"#);
        let object = entry_object(&entry);
        assert_eq!(object["message"]["tool_calls"][0]["arguments"], json!({"cmd": "ls"}));
        assert_eq!(object["turn"], 1);
        assert_eq!(entry_object("not JSON"), json!("not JSON"));
    }
}
