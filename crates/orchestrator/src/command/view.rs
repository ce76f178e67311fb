//! `legwork view ID`: one job and its output.

use std::time::Duration;

use legwork_agent::journal::TurnEntry;
use legwork_common::contract;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::service::JobView;
use legwork_queue::ConnectionKind;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use serde_json::json;

use crate::cli::ViewArgs;
use crate::command::list;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::follow::follow;
use crate::render;

/// Bytes of output that one view shows at most without `--follow`.
const MOST: usize = 16 * 1024 * 1024;

/// Shows the job.
pub(super) async fn view(context: Context, args: ViewArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let shown = show(&context, &connection, &args).await;
    connection.leave().await?;
    shown
}

async fn show(context: &Context, connection: &Connection, args: &ViewArgs) -> Result<ExitStatus, Failure> {
    let id = context.job_id(connection.queue(), &args.id).await?;
    if args.transcript {
        transcript(context, connection, id).await?;
        return Ok(ExitStatus::Success);
    }
    if args.follow {
        let from = follow_from(connection, id, args).await?;
        let job = follow(&connection.observer, id, from, &context.output).await?;
        if context.output.json {
            context.output.object(&json!({"event": "ended", "job": job}))?;
        } else {
            context.output.note(&format!("{} {}", job.id, render::status(&job)));
        }
        let good = job.status == legwork_common::lifecycle::State::Completed;
        return Ok(if good { ExitStatus::Success } else { ExitStatus::JobFailed });
    }
    let most = args.tail.map_or(MOST, |tail| usize::try_from(tail).unwrap_or(MOST).min(MOST));
    let view = connection.queue().view(id, args.since, most).await?;
    let view = view.ok_or_else(|| Failure::not_found(format!("task not found: {id}")))?;
    let silent = list::silent(connection, std::slice::from_ref(&view.job)).await?.remove(&id);
    if context.output.json {
        context.output.object(&object(&view, silent)?)?;
        return Ok(ExitStatus::Success);
    }
    context.output.text(&render::head(&view.job, context.output.color))?;
    if let Some(silent) = silent {
        let silent = duration::short(silent);
        let queue = &view.job.queue;
        context.output.line(&format!(
            "{:<10}{silent}: no sign of its worker; it goes on once one serves queue {queue}",
            "Silent"
        ))?;
    }
    if let Some(what) = &view.waits_for {
        context.output.line(&format!("{:<10}{what}", "Waits"))?;
    }
    context.output.text("\n--- Output ---\n")?;
    let whole = args.since.is_none() && args.tail.is_none();
    if whole {
        context.output.line(&contract::view_body(&view))?;
    } else {
        context.output.bytes(&view.output.bytes)?;
    }
    Ok(ExitStatus::Success)
}

/// The byte that following begins with.
async fn follow_from(connection: &Connection, id: JobId, args: &ViewArgs) -> Result<u64, Failure> {
    let Some(tail) = args.tail else { return Ok(args.since.unwrap_or(0)) };
    let job = connection.queue().jobs(&[id]).await?.pop().flatten();
    let job = job.ok_or_else(|| Failure::not_found(format!("task not found: {id}")))?;
    Ok(job.output_bytes.saturating_sub(tail))
}

/// The job object with its output.
fn object(view: &JobView, silent: Option<Duration>) -> Result<serde_json::Value, Failure> {
    let mut object = list::object(&view.job, silent)?;
    object["output"] = json!(String::from_utf8_lossy(&view.output.bytes));
    object["output_offset"] = json!(view.output.offset);
    object["next_offset"] = json!(view.output.next_offset());
    object["waits_for"] = json!(view.waits_for);
    Ok(object)
}

/// The recorded turns.
async fn transcript(context: &Context, connection: &Connection, id: JobId) -> Result<(), Failure> {
    for (sequence, text) in connection.queue().turns(id, 0).await? {
        if context.output.json {
            context.output.line(&text)?;
            continue;
        }
        match serde_json::from_str::<TurnEntry>(&text) {
            Ok(entry) => context.output.text(&paragraph(&entry))?,
            Err(error) => context.output.line(&format!("[entry {sequence} cannot be read: {error}]"))?,
        }
    }
    Ok(())
}

/// One entry of the turns as text.
fn paragraph(entry: &TurnEntry) -> String {
    match entry {
        TurnEntry::Reply { turn, message } => {
            let mut text = format!("── turn {turn}\n");
            if !message.text.is_empty() {
                text.push_str(&format!("{}\n", message.text));
            }
            for call in &message.tool_calls {
                text.push_str(&format!("→ {} {}\n", call.name, call.arguments));
            }
            text
        }
        TurnEntry::Result { index, text, is_error, .. } => {
            let mark = if *is_error { "✗" } else { "←" };
            format!("{mark} [{index}] {}\n", text.trim_end())
        }
        TurnEntry::Delivered { turn, text, .. } => {
            format!("── told before turn {turn}\n{}\n", text.trim_end())
        }
        TurnEntry::Compacted { turn, summary, .. } => {
            format!(
                "── before turn {turn} a summary took the place of what was said\n{}\n",
                summary.trim_end()
            )
        }
        TurnEntry::Stderr { text } => format!("── standard error\n{}\n", text.trim_end()),
        TurnEntry::Retried { of } => format!("── goes on from here; all above is of {of}\n"),
    }
}
