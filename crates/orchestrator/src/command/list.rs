//! `legwork list`: jobs, newest first.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_queue::ConnectionKind;
use legwork_queue::POLL_INTERVAL;
use legwork_queue::port::JobFilter;
use legwork_queue::port::JobPage;
use legwork_queue::port::PageCursor;
use legwork_queue::port::Watch as _;
use serde_json::json;

use crate::cli::ListArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::render;

/// Shows a page of jobs; with `--watch` again and again.
pub(super) async fn list(context: Context, args: ListArgs) -> Result<ExitStatus, Failure> {
    let after = args.after.as_deref().map(read_cursor).transpose()?;
    let filter = JobFilter {
        states: args.status.clone(),
        agent: args.agent.clone(),
        session: args.session,
        queue: args.queue.clone(),
        worker: args.worker.clone().map(WorkerId::from_stored),
        since: args.since,
    };
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let shown = if args.watch {
        watch(&context, &connection, &args, &filter).await
    } else {
        show_page(&context, &connection, &args, &filter, after).await
    };
    connection.leave().await?;
    shown.map(|()| ExitStatus::Success)
}

async fn show_page(
    context: &Context,
    connection: &Connection,
    args: &ListArgs,
    filter: &JobFilter,
    after: Option<PageCursor>,
) -> Result<(), Failure> {
    let page = connection.queue().list(filter, args.limit, after).await?;
    let silent = silent(connection, &page.jobs).await?;
    show(context, args, &page, &silent)
}

/// The jobs whose worker is not heard of any more, and for how long.
pub(super) async fn silent(
    connection: &Connection,
    jobs: &[Job],
) -> Result<BTreeMap<JobId, Duration>, Failure> {
    let held: Vec<JobId> = jobs.iter().filter(|job| job.status.is_held()).map(|job| job.id).collect();
    let silent = connection.queue().silent(&held).await?;
    Ok(held.into_iter().zip(silent).filter_map(|(id, silent)| Some((id, silent?))).collect())
}

/// Shows the first page whenever it changes, until Ctrl-C.
async fn watch(
    context: &Context,
    connection: &Connection,
    args: &ListArgs,
    filter: &JobFilter,
) -> Result<(), Failure> {
    let mut shown = JobPage::default();
    loop {
        let page = connection.queue().list(filter, args.limit, None).await?;
        let changed = page.jobs.iter().map(key).ne(shown.jobs.iter().map(key));
        if changed || shown == JobPage::default() {
            if context.output.color {
                context.output.text("\x1b[H\x1b[2J")?;
            }
            show(context, args, &page, &silent(connection, &page.jobs).await?)?;
            shown = page;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL / 2) => {}
            _interrupt = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// What makes a list worth showing again.
fn key(job: &Job) -> (JobId, legwork_common::lifecycle::State, u32) {
    (job.id, job.status, job.attempt)
}

fn show(
    context: &Context,
    args: &ListArgs,
    page: &JobPage,
    silent: &BTreeMap<JobId, Duration>,
) -> Result<(), Failure> {
    if context.output.json {
        for job in &page.jobs {
            context.output.object(&object(job, silent.get(&job.id).copied())?)?;
        }
        if let Some(next) = page.next {
            context.output.object(&json!({"next": write_cursor(next)}))?;
        }
        return Ok(());
    }
    let lines = if args.tree { as_tree(&page.jobs) } else { page.jobs.iter().map(|job| (0, job)).collect() };
    let mut rows = vec![render::header()];
    rows.extend(lines.iter().map(|(depth, job)| {
        let mut row = render::row(job, silent.get(&job.id).copied());
        row[0] = format!("{}{}", "  ".repeat(*depth), row[0]);
        row
    }));
    let text = render::table(&rows);
    let mut lines_out = text.lines();
    if let Some(header) = lines_out.next() {
        context.output.line(header)?;
    }
    for (line, (_, job)) in lines_out.zip(&lines) {
        let word = render::status_of_silent(job, silent.get(&job.id).copied());
        let colored = render::colored(job.status, &word, context.output.color);
        context.output.line(&line.replacen(&word, &colored, 1))?;
    }
    if !silent.is_empty() {
        context
            .output
            .note("no sign of the workers of jobs that are silent; they go on once one serves their queue");
    }
    if let Some(next) = page.next {
        context.output.note(&format!("more with --after {}", write_cursor(next)));
    }
    Ok(())
}

/// A job object, with how long its worker was silent.
pub(super) fn object(job: &Job, silent: Option<Duration>) -> Result<serde_json::Value, Failure> {
    let mut object = serde_json::to_value(job)
        .map_err(|error| Failure::usage(format!("cannot be written as JSON: {error}")))?;
    object["silent_ms"] = json!(silent.map(|silent| silent.as_millis()));
    Ok(object)
}

/// Jobs below the job that dispatched them, where it is on the page too.
fn as_tree(jobs: &[Job]) -> Vec<(usize, &Job)> {
    let mut below: BTreeMap<Option<JobId>, Vec<&Job>> = BTreeMap::new();
    for job in jobs {
        let parent = job.parent.filter(|parent| jobs.iter().any(|other| other.id == *parent));
        below.entry(parent).or_default().push(job);
    }
    let mut lines = Vec::new();
    let mut walk: Vec<(usize, &Job)> =
        below.get(&None).into_iter().flatten().rev().map(|job| (0, *job)).collect();
    while let Some((depth, job)) = walk.pop() {
        lines.push((depth, job));
        // Children in the order of their dispatch.
        walk.extend(below.get(&Some(job.id)).into_iter().flatten().map(|child| (depth + 1, *child)));
    }
    lines
}

/// A cursor as people pass it on: creation time in milliseconds and id.
fn write_cursor(cursor: PageCursor) -> String {
    format!("{}.{}", cursor.created.as_millisecond(), cursor.id.uuid())
}

fn read_cursor(text: &str) -> Result<PageCursor, Failure> {
    let wrong =
        || Failure::usage(format!("`{text}` is no cursor")).with_hint("pass on what the last page printed");
    let (created, id) = text.split_once('.').ok_or_else(wrong)?;
    let created: i64 = created.parse().map_err(|_| wrong())?;
    Ok(PageCursor {
        created: Timestamp::from_millisecond(created).map_err(|_| wrong())?,
        id: id.parse().map_err(|_| wrong())?,
    })
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let id = JobId::random_in(SessionId::random());
        let cursor = PageCursor { created: Timestamp::from_millisecond(1_700_000_000_123).unwrap(), id };
        assert_eq!(read_cursor(&write_cursor(cursor)).unwrap(), cursor);
        assert!(read_cursor("x").is_err());
    }
}
