//! `legwork list`: jobs, newest first.

use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::money::Money;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::ListedJob;
use legwork_queue::operator::Listing;
use legwork_queue::operator::PageCursor;
use legwork_queue::operator::TreeLine;
use legwork_queue::operator::tree;
use serde_json::json;

use crate::cli::ListArgs;
use crate::cli::ListForm;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::many::jobs;
use crate::many::thousands;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::render;
use crate::render::About;
use crate::suggest::same_command;

/// How often `--watch` reads the list: often enough that a person sees a job start, and a page is a few reads.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Jobs that are read without an index before a list says so: below that it takes less than a tenth of a second.
const MIN_SEARCHED: u64 = 10_000;

/// How long a search may take before the list says that it reads the jobs one by one.
const SILENT_SEARCH: Duration = Duration::from_secs(1);

/// Shows a page of jobs; with `--watch` again whenever it changes.
pub(super) async fn list(context: Context, args: ListArgs) -> Result<ExitStatus, Failure> {
    let after: Option<PageCursor> = args.after.as_deref().map(str::parse).transpose()?;
    if args.watch {
        return watch(&context, &args).await;
    }
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let shown = match connection.session(args.session.as_deref()).await {
        Ok(session) => show_page(&context, &connection, &args, &filter(&args, session), after).await,
        Err(failure) => Err(failure),
    };
    connection.leave().await?;
    shown.map(|()| ExitStatus::Success)
}

/// What the command line selects, in the session that it names.
fn filter(args: &ListArgs, session: Option<SessionId>) -> JobFilter {
    JobFilter {
        states: if args.failed { vec![State::Failed] } else { args.status.clone() },
        without_retried: args.failed,
        cause: args.cause,
        agent: args.agent.clone(),
        session,
        queue: args.queue.clone(),
        worker: args.worker.clone().map(WorkerId::from_stored),
        since: args.since,
    }
}

async fn show_page(
    context: &Context,
    connection: &Connection,
    args: &ListArgs,
    filter: &JobFilter,
    after: Option<PageCursor>,
) -> Result<(), Failure> {
    let mut read = pin!(connection.operator.list(filter, args.limit, after));
    let listing = tokio::select! {
        listing = &mut read => listing?,
        () = tokio::time::sleep(SILENT_SEARCH), if filter.is_searched_for() => {
            context.output.note("still reading: where no index fits a filter, jobs are read one by one");
            read.await?
        }
    };
    show(context, args, &listing)?;
    if listing.jobs.is_empty() {
        context.output.note(&format!("{} ({})", empty(args), connection.place()));
    }
    if let Some(text) = searched(&listing) {
        context.output.note(&text);
    }
    Ok(())
}

/// Shows the first page whenever it changes, until Ctrl-C.
async fn watch(context: &Context, args: &ListArgs) -> Result<ExitStatus, Failure> {
    let again = same_command(context);
    let connection = context.connect_to_wait(None, &again).await?;
    let outage = Outage::of(context, &connection);
    let watched = tokio::select! {
        watched = outage.while_serving(&connection.operator, show_changes(context, &connection, &outage, args)) => {
            watched.map_err(|failure| with_continuation(failure, &again))
        }
        _interrupt = tokio::signal::ctrl_c() => Ok(()),
    };
    connection.leave().await?;
    watched.map(|()| ExitStatus::Success)
}

/// Shows the first page whenever it changes. Ends only with an error.
async fn show_changes(
    context: &Context,
    connection: &Connection,
    outage: &Outage<'_>,
    args: &ListArgs,
) -> Result<(), Failure> {
    let operator = &connection.operator;
    let session = match &args.session {
        Some(text) => Some(outage.ask(|| operator.find_session(text)).await?),
        None => None,
    };
    let filter = filter(args, session);
    let mut shown: Option<Listing> = None;
    loop {
        let listing = outage.ask(|| operator.list(&filter, args.limit, None)).await?;
        let keys = |listing: &Listing| listing.jobs.iter().map(key).collect::<Vec<_>>();
        if shown.as_ref().is_none_or(|shown| keys(shown) != keys(&listing)) {
            if matches!(form(args.output, context.output.json), ListForm::Table | ListForm::Wide) {
                context.output.clear()?;
            }
            show(context, args, &listing)?;
            if listing.jobs.is_empty() {
                context.output.note(&format!("{} ({})", empty(args), connection.place()));
            }
            shown = Some(listing);
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// What makes a list worth showing again. Without the staleness, which changes with every read.
fn key(listed: &ListedJob) -> (JobId, State, u32) {
    (listed.job.id, listed.job.status, listed.job.attempt)
}

fn show(context: &Context, args: &ListArgs, listing: &Listing) -> Result<(), Failure> {
    match form(args.output, context.output.json) {
        ListForm::Json => {
            for listed in &listing.jobs {
                context.output.object(&listed.job)?;
            }
            show_next(context, listing);
            return Ok(());
        }
        ListForm::Page => {
            let jobs: Vec<&Job> = listing.jobs.iter().map(|listed| &listed.job).collect();
            let next = listing.next.map(|next| next.to_string());
            return context.output.object(&json!({"jobs": jobs, "next": next}));
        }
        ListForm::Ids => {
            for listed in &listing.jobs {
                context.output.line(&listed.job.id.to_string())?;
            }
        }
        form => table(context, args, &lines(args, &listing.jobs), form == ListForm::Wide)?,
    }
    if listing.jobs.iter().any(|listed| listed.stale_for.is_some()) {
        context.output.note(
            "stale: the lease has expired, so the worker is gone or cut off; the job resumes once a worker serves its \
             queue",
        );
    }
    if let Some(text) = cost(args, listing) {
        context.output.note(&text);
    }
    show_next(context, listing);
    Ok(())
}

/// What the jobs of a session cost together, where a session was asked for.
fn cost(args: &ListArgs, listing: &Listing) -> Option<String> {
    let costs: Vec<Money> = listing.jobs.iter().filter_map(|listed| listed.job.cost).collect();
    if args.session.is_none() || costs.is_empty() {
        return None;
    }
    let sum = costs.iter().fold(Money::default(), |sum, cost| sum.plus(*cost));
    let unknown = listing.jobs.len() - costs.len();
    let rest = if unknown > 0 { format!(", {unknown} without a known price") } else { String::new() };
    Some(format!("cost of {}: {sum}{rest}", jobs(listing.jobs.len() as u64)))
}

/// Where the next page begins, on standard error: standard output has jobs and nothing else.
fn show_next(context: &Context, listing: &Listing) {
    match listing.next {
        None => {}
        Some(next) if context.output.json => {
            context.output.note(&json!({"next": next.to_string()}).to_string())
        }
        Some(next) => context.output.note(&format!("more with --after {next}")),
    }
}

/// What an empty list says about its filter.
fn empty(args: &ListArgs) -> String {
    let mut parts = Vec::new();
    if args.failed {
        parts.push("that failed and was not retried".to_owned());
    }
    let states: Vec<&str> = args.status.iter().map(|state| state.as_str()).collect();
    if !states.is_empty() {
        parts.push(format!("with status {}", states.join(" or ")));
    }
    parts.extend(args.cause.map(|cause| format!("with cause {cause}")));
    parts.extend(args.agent.as_ref().map(|agent| format!("of agent {agent}")));
    parts.extend(args.session.as_ref().map(|session| format!("of session {session}")));
    parts.extend(args.queue.as_ref().map(|queue| format!("in queue {queue}")));
    parts.extend(args.worker.as_ref().map(|worker| format!("of worker {worker}")));
    parts.extend(args.since.map(|since| format!("created within {}", duration::setting(since))));
    parts.extend(args.after.as_ref().map(|_| "after this cursor".to_owned()));
    if parts.is_empty() { "no jobs".to_owned() } else { format!("no job {}", parts.join(", ")) }
}

/// That a filter without an index read many jobs, and what makes it faster.
fn searched(listing: &Listing) -> Option<String> {
    (listing.searched >= MIN_SEARCHED).then(|| {
        format!(
            "{} jobs were read one by one, because no index fits this filter; --status, --session or --since narrows it",
            thousands(listing.searched)
        )
    })
}

/// The form that was asked for; `--json` is the form of every command and yields to the list's own option.
fn form(output: Option<ListForm>, json: bool) -> ListForm {
    output.unwrap_or(if json { ListForm::Json } else { ListForm::Table })
}

/// The jobs as a tree, or one below the other.
fn lines<'jobs>(args: &ListArgs, jobs: &'jobs [ListedJob]) -> Vec<TreeLine<'jobs>> {
    if args.tree { tree(jobs) } else { jobs.iter().map(|listed| TreeLine { depth: 0, listed }).collect() }
}

fn table(context: &Context, args: &ListArgs, lines: &[TreeLine<'_>], wide: bool) -> Result<(), Failure> {
    let about = if args.failed { About::Error } else { About::Task };
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let mut row = render::row(&line.listed.job, line.listed.stale_for, now, wide, about);
            row[0] = format!("{}{}", "  ".repeat(line.depth), row[0]);
            row
        })
        .collect();
    let mut rows =
        render::table::lines(&render::columns(wide, about), &rows, context.output.width).into_iter();
    if let Some(header) = rows.next() {
        context.output.line(&header)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_own_option_wins_over_json() {
        for (output, json, expected) in [
            (None, false, ListForm::Table),
            (None, true, ListForm::Json),
            (Some(ListForm::Wide), true, ListForm::Wide),
            (Some(ListForm::Ids), false, ListForm::Ids),
        ] {
            assert_eq!(form(output, json), expected);
        }
    }
}
