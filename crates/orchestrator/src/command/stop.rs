//! `legwork stop ID…`: the whole tree below each.

use std::pin::pin;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use indicatif::ProgressBar;
use legwork_common::error::ExitStatus;
use legwork_common::lifecycle::State;
use legwork_common::service::StopReply;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::QueueError;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::StopError;
use legwork_queue::operator::StopReport;
use legwork_queue::operator::StopRoot;
use legwork_worker::upkeep::while_reaping;
use serde_json::json;

use crate::cli::StopArgs;
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::many;
use crate::many::Tally;
use crate::many::jobs;
use crate::many::thousands;
use crate::outage::Outage;

/// What a refused stop says in addition.
const NOTHING: &str = "nothing was stopped";
/// Trees that are waited for at once: their calls share the connections.
const CONCURRENT_WAITS: usize = 64;

/// Stops the trees; returns once every job in them is terminal, or with `--no-wait` once the stop marks are durable.
pub(super) async fn stop(context: Context, args: StopArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let outage = Outage::of(&context, &connection);
    let stopped = Box::pin(stop_selected(&context, &connection.operator, &outage, &args)).await;
    connection.leave().await?;
    stopped
}

async fn stop_selected(
    context: &Context,
    operator: &Operator,
    outage: &Outage,
    args: &StopArgs,
) -> Result<ExitStatus, Failure> {
    let roots = roots(operator, args).await.map_err(|failure| failure.with_outcome(NOTHING))?;
    if roots.is_empty() {
        let what = args
            .agent
            .as_ref()
            .map_or("no live job".to_owned(), |agent| format!("no live job of agent {agent}"));
        context.output.note(&format!("{what}; {NOTHING}"));
        return Ok(ExitStatus::Success);
    }
    if args.confirm.dry_run {
        for root in &roots {
            context.output.line(&format!("would stop {root}"))?;
        }
        return Ok(ExitStatus::Success);
    }
    if args.all {
        let noun = if roots.len() == 1 { "live job" } else { "live jobs" };
        let question = format!("stop {} {noun} of this namespace?", thousands(roots.len() as u64));
        confirm(&context.output, args.confirm, &question, NOTHING)?;
    }
    let show = Shown { context, bar: many::progress(&context.output, roots.len(), "stopped") };
    let (count, tally) = stop_all(&show, operator, outage, roots, args.no_wait).await?;
    show.bar.finish_and_clear();
    if count > 1 && !context.output.json {
        context.output.note(&format!(
            "{} {}",
            jobs(count),
            if args.no_wait { "stopping" } else { "stopped" }
        ));
    }
    tally.end()
}

/// Where results are shown: a line for each, or a progress bar.
struct Shown<'a> {
    context: &'a Context,
    bar: ProgressBar,
}

/// Stops trees, and waits for them where that is asked for. Returns how many jobs that ended, and what failed.
async fn stop_all(
    shown: &Shown<'_>,
    operator: &Operator,
    outage: &Outage,
    roots: Vec<StopRoot>,
    no_wait: bool,
) -> Result<(u64, Tally), Failure> {
    let mut tally = Tally::of(roots.len(), "stopped");
    let (mut count, mut stopping) = (0, Vec::new());
    let mut reports = pin!(operator.stop_many(roots));
    while let Some(report) = reports.next().await {
        let report = match report {
            Ok(report) => report,
            Err(StopError::NotFound { root }) => {
                let id = root.to_string();
                let failure = StopError::NotFound { root }.into();
                tally.failed(&shown.context.output, &id, json!({"id": id, "stopped": false}), failure)?;
                continue;
            }
            Err(error) => return Err(interrupted(error.into(), count)),
        };
        count += report.count();
        match report.reply {
            StopReply::AlreadyEnded(state) => shown.had_ended(report.root, state)?,
            StopReply::Stopping if report.is_over => shown.stopped(operator, &report, State::Stopped).await?,
            StopReply::Stopping => {
                stopping.push(report);
                continue;
            }
        }
        tally.done();
    }
    // Every tree is marked before the first is waited for, so that all of them end at the same time.
    if no_wait {
        for report in &stopping {
            shown.stopped(operator, report, State::Stopping).await?;
        }
    } else {
        while_reaping(operator.queue(), shown.as_they_end(operator, outage, stopping)).await?;
    }
    Ok((count, tally))
}

/// The failure of a stop that was cut off: what is marked by then stops all the same.
fn interrupted(failure: Failure, count: u64) -> Failure {
    if count == 0 { failure } else { failure.with_outcome(&format!("{} were stopped before", jobs(count))) }
}

/// The trees that the command line selects.
async fn roots(operator: &Operator, args: &StopArgs) -> Result<Vec<StopRoot>, Failure> {
    let mut roots = Vec::new();
    for text in &args.ids {
        roots.push(StopRoot::Job(operator.find(text).await?));
    }
    if let Some(text) = &args.session {
        roots.push(StopRoot::Session { id: operator.find_session(text).await?, close: false });
    }
    if args.all || args.agent.is_some() {
        let filter = JobFilter { agent: args.agent.clone(), ..JobFilter::default() };
        roots.extend(operator.live_trees(filter).await?);
    }
    Ok(roots)
}

impl Shown<'_> {
    /// Waits for trees that are being stopped, all at once, and shows each in turn.
    async fn as_they_end(
        &self,
        operator: &Operator,
        outage: &Outage,
        stopping: Vec<StopReport>,
    ) -> Result<(), Failure> {
        let wait = |report: StopReport| async move {
            let root = report.root;
            outage.ask::<(), QueueError, _>(|| operator.until_stopped(root)).await.map(|()| report)
        };
        let mut ended = pin!(stream::iter(stopping).map(wait).buffered(CONCURRENT_WAITS));
        while let Some(report) = ended.try_next().await? {
            self.stopped(operator, &report, State::Stopped).await?;
        }
        Ok(())
    }

    /// Shows a job that had ended before the stop.
    fn had_ended(&self, root: StopRoot, state: State) -> Result<(), Failure> {
        let output = &self.context.output;
        if output.json {
            return output.object(&json!({"id": root.to_string(), "stopped": false, "status": state}));
        }
        self.line(&format!("{root} had ended before: {state}"))
    }

    /// Shows a tree that was stopped, or that will be: `reached` is its state now.
    async fn stopped(&self, operator: &Operator, report: &StopReport, reached: State) -> Result<(), Failure> {
        let (root, output) = (report.root, &self.context.output);
        let below = if report.below.is_empty() { Vec::new() } else { operator.jobs(&report.below).await? };
        let more = report.live_below.saturating_sub(report.below.len() as u64);
        if output.json {
            let below: Vec<_> = below
                .iter()
                .map(|job| json!({"id": job.id, "agent": job.agent, "status": job.status}))
                .collect();
            return output.object(&json!({
                "id": root.to_string(), "stopped": true, "status": reached, "below": below, "jobs": report.count(),
            }));
        }
        let mut text = format!("{root} {reached}");
        for job in below {
            text.push_str(&format!("\n  {} {} {}", job.id, job.agent, job.status));
        }
        if more > 0 {
            text.push_str(&format!("\n  and {} more", thousands(more)));
        }
        self.line(&text)
    }

    /// Shows a result, or moves the bar where one is shown.
    fn line(&self, text: &str) -> Result<(), Failure> {
        self.bar.inc(1);
        if self.bar.is_hidden() { self.context.output.line(text) } else { Ok(()) }
    }
}
