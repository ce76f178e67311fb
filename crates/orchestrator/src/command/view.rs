//! `legwork view ID`: one job and its output.

use legwork_agent::journal::TurnEntry;
use legwork_common::contract;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::ViewedJob;
use serde_json::json;

use crate::cli::ViewArgs;
use crate::command::list;
use crate::context::Context;
use crate::failure::Failure;
use crate::follow::Followed;
use crate::follow::follow;
use crate::outage::Outage;
use crate::render;

/// Bytes of output that one view shows at most without `--follow`: more than the output cap of a namespace by default,
/// and still one reply of Redis.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Shows the job.
pub(super) async fn view(context: Context, args: ViewArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let outage = Outage::of(&context, &connection);
    let shown = show(&context, &connection.operator, &outage, &args).await;
    connection.leave().await?;
    shown
}

async fn show(
    context: &Context,
    operator: &Operator,
    outage: &Outage,
    args: &ViewArgs,
) -> Result<ExitStatus, Failure> {
    let id = operator.find(&args.id).await?;
    if args.transcript {
        transcript(context, operator, id).await?;
        return Ok(ExitStatus::Success);
    }
    if args.follow {
        return show_while_it_runs(context, operator, outage, id, args).await;
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

/// Shows the output as it grows, then how the job ended.
async fn show_while_it_runs(
    context: &Context,
    operator: &Operator,
    outage: &Outage,
    id: JobId,
    args: &ViewArgs,
) -> Result<ExitStatus, Failure> {
    let from = match args.tail {
        Some(tail) => operator.job(id).await?.output_bytes.saturating_sub(tail),
        None => args.since.unwrap_or(0),
    };
    let Followed::Ended(job) = follow(operator, id, from, &context.output, outage).await? else {
        return Ok(ExitStatus::Interrupted);
    };
    if context.output.json {
        context.output.object(&json!({"event": "ended", "job": job}))?;
    } else {
        context.output.note(&format!("{} {}", job.id, render::status(&job)));
    }
    let completed = job.status == State::Completed;
    Ok(if completed { ExitStatus::Success } else { ExitStatus::JobFailed })
}

fn show_text(context: &Context, viewed: &ViewedJob, args: &ViewArgs) -> Result<(), Failure> {
    let ViewedJob { view, stale_for } = viewed;
    context.output.text(&render::head(&view.job, context.output.color))?;
    if let Some(age) = stale_for {
        let (age, queue) = (duration::short(*age), &view.job.queue);
        context.output.line(&format!(
            "{:<10}lease expired, no heartbeat for {age}; resumes once a worker serves queue {queue}",
            "Stale"
        ))?;
    }
    if let Some(what) = &view.waits_for {
        context.output.line(&format!("{:<10}{what}", "Waits"))?;
    }
    context.output.text("\n--- Output ---\n")?;
    let whole = args.since.is_none() && args.tail.is_none();
    if whole {
        context.output.line(&contract::view_body(view))
    } else {
        context.output.bytes(&view.output.bytes)
    }
}

/// The job object with its output.
fn object(viewed: &ViewedJob) -> Result<serde_json::Value, Failure> {
    let view = &viewed.view;
    let mut object = list::object(&view.job, viewed.stale_for)?;
    object["output"] = json!(String::from_utf8_lossy(&view.output.bytes));
    object["output_offset"] = json!(view.output.offset);
    object["next_offset"] = json!(view.output.next_offset());
    object["waits_for"] = json!(view.waits_for);
    Ok(object)
}

/// Shows the recorded turns.
async fn transcript(context: &Context, operator: &Operator, id: JobId) -> Result<(), Failure> {
    for (sequence, text) in operator.turns(id).await? {
        if context.output.json {
            context.output.line(&text)?;
            continue;
        }
        match TurnEntry::decode(&text) {
            Ok(entry) => context.output.text(&paragraph(&entry))?,
            Err(error) => context.output.line(&format!("[entry {sequence}: {error}]"))?,
        }
    }
    Ok(())
}

/// One recorded entry as text.
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
            format!("── delivered before turn {turn}\n{}\n", text.trim_end())
        }
        TurnEntry::Compacted { turn, summary, .. } => {
            format!("── before turn {turn} the conversation was compacted to\n{}\n", summary.trim_end())
        }
        TurnEntry::Stderr { text } => format!("── standard error\n{}\n", text.trim_end()),
        TurnEntry::Retried { of } => format!("── resumes here; everything above is of {of}\n"),
    }
}
