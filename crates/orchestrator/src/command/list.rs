//! `legwork list`: jobs, newest first.

use std::time::Duration;

use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::ListedJob;
use legwork_queue::operator::Listing;
use legwork_queue::operator::PageCursor;
use legwork_queue::operator::TreeLine;
use legwork_queue::operator::tree;
use serde_json::json;

use crate::cli::ListArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render;

/// How often `--watch` reads the list: often enough that a person sees a job start, and a page is a few reads.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Shows a page of jobs; with `--watch` again whenever it changes.
pub(super) async fn list(context: Context, args: ListArgs) -> Result<ExitStatus, Failure> {
    let after: Option<PageCursor> = args.after.as_deref().map(str::parse).transpose()?;
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
        watch(&context, &connection.operator, &args, &filter).await
    } else {
        show_page(&context, &connection.operator, &args, &filter, after).await
    };
    connection.leave().await?;
    shown.map(|()| ExitStatus::Success)
}

async fn show_page(
    context: &Context,
    operator: &Operator,
    args: &ListArgs,
    filter: &JobFilter,
    after: Option<PageCursor>,
) -> Result<(), Failure> {
    let listing = operator.list(filter, args.limit, after).await?;
    show(context, args, &listing)
}

/// Shows the first page whenever it changes, until Ctrl-C.
async fn watch(
    context: &Context,
    operator: &Operator,
    args: &ListArgs,
    filter: &JobFilter,
) -> Result<(), Failure> {
    let mut shown = Listing::default();
    loop {
        let listing = operator.list(filter, args.limit, None).await?;
        let changed = listing.jobs.iter().map(key).ne(shown.jobs.iter().map(key));
        if changed || shown == Listing::default() {
            if context.output.color {
                context.output.text("\x1b[H\x1b[2J")?;
            }
            show(context, args, &listing)?;
            shown = listing;
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            _interrupt = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// What makes a list worth showing again. Without the staleness, which changes with every read.
fn key(listed: &ListedJob) -> (JobId, State, u32) {
    (listed.job.id, listed.job.status, listed.job.attempt)
}

fn show(context: &Context, args: &ListArgs, listing: &Listing) -> Result<(), Failure> {
    if context.output.json {
        for listed in &listing.jobs {
            context.output.object(&object(&listed.job, listed.stale_for)?)?;
        }
        if let Some(next) = listing.next {
            context.output.object(&json!({"next": next.to_string()}))?;
        }
        return Ok(());
    }
    table(context, &lines(args, &listing.jobs))?;
    if listing.jobs.iter().any(|listed| listed.stale_for.is_some()) {
        context.output.note(
            "stale: the lease has expired, so the worker is gone or cut off; the job resumes once a worker serves its \
             queue",
        );
    }
    if let Some(next) = listing.next {
        context.output.note(&format!("more with --after {next}"));
    }
    Ok(())
}

/// The jobs as a tree, or one below the other.
fn lines<'jobs>(args: &ListArgs, jobs: &'jobs [ListedJob]) -> Vec<TreeLine<'jobs>> {
    if args.tree { tree(jobs) } else { jobs.iter().map(|listed| TreeLine { depth: 0, listed }).collect() }
}

fn table(context: &Context, lines: &[TreeLine<'_>]) -> Result<(), Failure> {
    let mut rows = vec![render::header()];
    rows.extend(lines.iter().map(|line| {
        let mut row = render::row(&line.listed.job, line.listed.stale_for);
        row[0] = format!("{}{}", "  ".repeat(line.depth), row[0]);
        row
    }));
    let text = render::table(&rows);
    let mut rows = text.lines();
    if let Some(header) = rows.next() {
        context.output.line(header)?;
    }
    // Coloured after the columns are laid out: colour codes have no width on a terminal.
    for (row, line) in rows.zip(lines) {
        let job = &line.listed.job;
        let word = render::status_with_staleness(job, line.listed.stale_for);
        let colored = render::colored(job.status, &word, context.output.color);
        context.output.line(&row.replacen(&word, &colored, 1))?;
    }
    Ok(())
}

/// A job object, with the milliseconds since the last renewal of an expired lease.
pub(super) fn object(job: &Job, stale_for: Option<Duration>) -> Result<serde_json::Value, Failure> {
    let mut object = serde_json::to_value(job)
        .map_err(|error| Failure::usage(format!("cannot be written as JSON: {error}")))?;
    object["silent_ms"] = json!(stale_for.map(|age| age.as_millis()));
    Ok(object)
}
