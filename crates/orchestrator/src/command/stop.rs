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
use legwork_queue::operator::FindError;
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
use crate::many::Item;
use crate::many::Tally;
use crate::many::jobs;
use crate::many::thousands;
use crate::many::unless_redis;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::suggest::same_command;

/// What a refused stop says in addition.
const NOTHING: &str = "nothing was stopped";
/// Trees that are waited for at once: their calls share the connections.
const CONCURRENT_WAITS: usize = 64;

/// Stops the trees; returns once every job in them is terminal, or with `--no-wait` once the stop marks are durable.
pub(super) async fn stop(context: Context, args: StopArgs) -> Result<ExitStatus, Failure> {
    let again = same_command(&context);
    let connection = if args.no_wait {
        context.connect(ConnectionKind::Pooled).await?
    } else {
        context.connect_to_wait(None, &again).await?
    };
    let outage = Outage::of(&context, &connection);
    let stopped = Box::pin(stop_selected(&context, &connection.operator, &outage, &args)).await;
    connection.leave().await?;
    // A stop may be repeated: what has stopped by then is reported as ended.
    stopped.map_err(|failure| with_continuation(failure, &again))
}

async fn stop_selected(
    context: &Context,
    operator: &Operator,
    outage: &Outage<'_>,
    args: &StopArgs,
) -> Result<ExitStatus, Failure> {
    let roots =
        outage.ask(|| roots(operator, args)).await.map_err(|failure| failure.with_outcome(NOTHING))?;
    if roots.is_empty() {
        let what = args
            .agent
            .as_ref()
            .map_or("no live job".to_owned(), |agent| format!("no live job of agent {agent}"));
        context.output.note(&format!("{what}; {NOTHING}"));
        return Ok(ExitStatus::Success);
    }
    if args.all && !args.confirm.dry_run {
        let noun = if roots.len() == 1 { "live job" } else { "live jobs" };
        let question = format!("stop {} {noun} of this namespace?", thousands(roots.len() as u64));
        confirm(&context.output, args.confirm, &question, NOTHING)?;
    }
    let mut show = Shown::new(context, roots.len());
    if args.confirm.dry_run {
        show.plan(roots)?;
        return show.tally.end_of_refusals();
    }
    let (answers, cut_off) = mark(&show, operator, roots).await;
    let marked = show.results(operator, outage, answers, args.no_wait || cut_off.is_some()).await;
    show.bar.finish_and_clear();
    if let Some(failure) = cut_off {
        let count = show.count;
        let before = format!("{} were stopped before", jobs(count));
        return Err(if count == 0 { failure } else { failure.with_outcome(&before) });
    }
    marked?;
    if show.count > 1 && !context.output.json {
        let reached = if args.no_wait { "stopping" } else { "stopped" };
        context.output.note(&format!("{} {reached}", jobs(show.count)));
    }
    show.tally.end_of_refusals()
}

/// The trees that the command line selects. An id that names no job is an item's failure.
async fn roots(operator: &Operator, args: &StopArgs) -> Result<Vec<Item<StopRoot>>, FindError> {
    let mut roots = Vec::new();
    for text in &args.ids {
        let named = match operator.find(text).await {
            Err(FindError::Queue(error)) => return Err(error.into()),
            named => named.map(StopRoot::Job).map_err(Failure::from),
        };
        roots.push(Item { text: text.clone(), named });
    }
    if let Some(text) = &args.session {
        let id = operator.find_session(text).await?;
        roots.push(Item::of(id, StopRoot::Session { id, close: false }));
    }
    if args.all || args.agent.is_some() {
        let filter = JobFilter { agent: args.agent.clone(), ..JobFilter::default() };
        let live = operator.live_trees(filter).await?;
        roots.extend(live.into_iter().map(|root| Item::of(root, root)));
    }
    Ok(roots)
}

/// How a tree answered: it is or will be stopped, it had ended before, or it could not be stopped.
type Answer = Item<StopReport>;

/// Marks every tree before the first is waited for, so that all of them end at the same time. Returns the answers, and
/// why Redis gave no more of them: what is marked by then stops all the same.
async fn mark(
    shown: &Shown<'_>,
    operator: &Operator,
    roots: Vec<Item<StopRoot>>,
) -> (Vec<Answer>, Option<Failure>) {
    let found: Vec<StopRoot> = roots.iter().filter_map(|item| item.named.as_ref().ok().copied()).collect();
    let mut reports = pin!(operator.stop_many(found));
    let mut answers = Vec::with_capacity(roots.len());
    for Item { text, named } in roots {
        let root = match named {
            Ok(root) => root,
            Err(failure) => {
                answers.push(Item { text, named: Err(failure) });
                continue;
            }
        };
        let report = reports.next().await.unwrap_or(Err(StopError::NotFound { root }));
        match unless_redis(report) {
            Ok(named) => answers.push(Item { text: root.to_string(), named }),
            Err(failure) => return (answers, Some(failure)),
        }
        shown.bar.inc(1);
    }
    (answers, None)
}

/// Where results are shown, one line each, or a progress bar; and what came of the trees.
struct Shown<'a> {
    context: &'a Context,
    bar: ProgressBar,
    tally: Tally,
    /// The jobs that end by this stop.
    count: u64,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context, trees: usize) -> Self {
        let bar = many::progress(&context.output, trees, "asked to stop");
        Self { context, bar, tally: Tally::of(trees, "stopped"), count: 0 }
    }

    /// Shows what `--dry-run` would do.
    fn plan(&mut self, roots: Vec<Item<StopRoot>>) -> Result<(), Failure> {
        let output = &self.context.output;
        for Item { text, named } in roots {
            match named {
                Ok(root) if output.json => {
                    output.object(&json!({"id": root.to_string(), "would_stop": true}))?;
                }
                Ok(root) => output.line(&format!("would stop {root}"))?,
                Err(failure) => {
                    self.tally.failed(output, &text, json!({"id": text, "stopped": false}), failure)?;
                }
            }
        }
        Ok(())
    }

    /// Shows each answer in its place, a tree that is being stopped once it has ended; with `no_wait` at once.
    async fn results(
        &mut self,
        operator: &Operator,
        outage: &Outage<'_>,
        answers: Vec<Answer>,
        no_wait: bool,
    ) -> Result<(), Failure> {
        let wait = |answer: Answer| async move {
            match &answer.named {
                Ok(report) if !report.is_over && !no_wait => {
                    let root = report.root;
                    outage.ask::<(), QueueError, _>(|| operator.until_stopped(root)).await?;
                }
                Ok(_) | Err(_) => {}
            }
            Ok::<_, Failure>(answer)
        };
        let show = async {
            let mut ended = pin!(stream::iter(answers).map(wait).buffered(CONCURRENT_WAITS));
            while let Some(answer) = ended.try_next().await? {
                self.result(operator, answer, no_wait).await?;
            }
            Ok(())
        };
        while_reaping(operator.queue(), show).await
    }

    async fn result(&mut self, operator: &Operator, answer: Answer, no_wait: bool) -> Result<(), Failure> {
        let report = match answer.named {
            Ok(report) => report,
            Err(failure) => {
                let (output, id) = (&self.context.output, &answer.text);
                return self.tally.failed(output, id, json!({"id": id, "stopped": false}), failure);
            }
        };
        self.count += report.count();
        self.tally.done();
        match report.reply {
            StopReply::AlreadyEnded(state) => self.had_ended(report.root, state),
            StopReply::Stopping => {
                let is_over = report.is_over || !no_wait;
                let reached = if is_over { State::Stopped } else { State::Stopping };
                self.stopped(operator, &report, reached).await
            }
        }
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

    /// Shows a result, unless a bar is shown.
    fn line(&self, text: &str) -> Result<(), Failure> {
        if self.bar.is_hidden() { self.context.output.line(text) } else { Ok(()) }
    }
}
