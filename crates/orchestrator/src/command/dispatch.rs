//! `legwork dispatch FILE AGENT TASK…`: `run_background_agent` for a person or a program.

mod requests;

use std::collections::BTreeSet;
use std::collections::HashMap;

use futures::FutureExt as _;
use legwork_common::contract;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::team::Team;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::DispatchOrder;
use legwork_queue::operator::Dispatching;
use legwork_queue::operator::check_prices;
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::cli::DispatchArgs;
use crate::command::dispatch::requests::Requested;
use crate::command::dispatch::requests::requests;
use crate::command::wait::WaitFor;
use crate::command::wait::wait_for;
use crate::context::Connection;
use crate::context::Context;
use crate::context::WhileAway;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::follow::Followed;
use crate::follow::follow;
use crate::local_worker;
use crate::many::Tally;
use crate::many::thousands;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::render;
use crate::team_checks;

/// Ids in a command that is printed: more would fill the terminal.
const MAX_IDS_IN_HINT: usize = 10;

/// What a dispatch says in addition where Redis cannot be reached.
const NOTHING: &str = "nothing was stored";

/// Stores the job or the jobs, and prints their ids.
pub(super) async fn dispatch(context: Context, args: DispatchArgs) -> Result<ExitStatus, Failure> {
    let (team, team_json) = context.team(&args.file)?;
    let policy = context.common.policy()?;
    let requested = requests(&args, &team, &policy)?;
    for requested in &requested {
        let of_job = requested.request.job_options.as_ref().and_then(|options| options.budget);
        check_prices(&requested.request.agent, &team, &policy, [of_job, args.session_budget])?;
    }
    if context.common.redis.is_none() && args.session.is_none() {
        // Before an embedded server is started for nothing.
        check_keys(&context, &args, &team, &requested)?;
    }
    let digest = team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
    // For a session that exists already, the option would be an error, and the file's budget is that of its first team.
    let of_team = team.token_budget().filter(|_| args.session.is_none());
    let order = DispatchOrder {
        session: None,
        options: args.limits.options(args.session_budget, of_team),
        team,
        team_json,
        digest: TeamDigest(digest),
        working_dir: Some(working_dir()?.display().to_string()),
        policy,
        trace: context.trace(),
        approvals: args.approvals,
    };
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))?;
    let connection = tokio::select! {
        connection = connect(&context, &args) => connection?,
        _interrupt = interrupt.recv() => {
            context.output.note(&format!("interrupted: {NOTHING}"));
            return Ok(ExitStatus::Interrupted);
        }
    };
    let stored = match connection.session(args.session.as_deref()).await {
        Ok(session) => {
            let order = DispatchOrder { session, ..order };
            Box::pin(store_and_wait(&context, &connection, &args, order, requested, interrupt)).await
        }
        Err(failure) => Err(failure),
    };
    connection.leave().await?;
    stored
}

/// Connects; a command that waits for its jobs waits for Redis too.
async fn connect(context: &Context, args: &DispatchArgs) -> Result<Connection, Failure> {
    let while_away =
        if args.wait || args.follow { WhileAway::Wait { deadline: None } } else { WhileAway::Fail };
    let connected = context.connect_to_sign(ConnectionKind::Pooled, while_away).await;
    connected.map_err(|failure| failure.with_outcome(NOTHING))
}

/// Checks the keys of the agents that these requests can reach, for a worker that is started here, in this environment:
/// without them it would only reject the jobs.
fn check_keys(
    context: &Context,
    args: &DispatchArgs,
    team: &Team,
    requested: &[Requested],
) -> Result<(), Failure> {
    if args.script.is_some() {
        return Ok(());
    }
    let environment = context.agent_environment(working_dir()?);
    let agents: BTreeSet<&str> = requested.iter().map(|requested| requested.request.agent.as_str()).collect();
    let mut checked = agents.iter().map(|agent| team_checks::check_keys(team, agent, true, &environment));
    checked.try_for_each(|checked| checked).map_err(|failure| failure.with_outcome(NOTHING))
}

async fn store_and_wait(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    order: DispatchOrder,
    requested: Vec<Requested>,
    interrupt: Signal,
) -> Result<ExitStatus, Failure> {
    if connection.backend.is_embedded()
        && let Some(session) = order.session
        && !local_worker::is_served(&connection.operator, session).await?
    {
        check_keys(context, args, &order.team, &requested)?;
    }
    let lines = requested.iter().map(|requested| requested.line).collect();
    let queues: BTreeSet<String> = requested
        .iter()
        .filter_map(|requested| Some(requested.request.job_options.as_ref()?.queue.clone()))
        .collect();
    let requests = requested.into_iter().map(|requested| requested.request).collect();
    let dispatching = connection.operator.begin_dispatch(order, requests).await?;
    let session = dispatching.session;
    let mut batch = StoredBatch { context, connection, args, lines, ids: Vec::new(), answered: 0, stored: 0 };
    let stored = batch.store(dispatching, interrupt).await;
    let ids = std::mem::take(&mut batch.ids);
    let outage = Outage::of(context, connection);
    let continues = outage.command(&continuation(&ids, session));
    // An interrupted batch has a worker and the hint all the same: what is stored runs.
    let served = serve(context, connection, args, session, &queues).await;
    served.map_err(|failure| with_continuation(failure, &continues))?;
    match stored? {
        Some(status) => Ok(status),
        None => Box::pin(finish(context, connection, args, &outage, &ids, &continues)).await,
    }
}

/// Sees to a worker for the jobs of a session, or says which queues have none.
async fn serve(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    session: SessionId,
    queues: &BTreeSet<String>,
) -> Result<(), Failure> {
    let queues: Vec<String> = queues.iter().cloned().collect();
    if connection.backend.is_embedded() {
        let script = args.script.as_deref();
        local_worker::serve_in_background(context, &connection.operator, session, script).await?;
        return local_worker::hint_paused(context, connection, &queues).await;
    }
    local_worker::hint_unserved(context, connection, &queues).await
}

/// The jobs of one call while they are stored.
struct StoredBatch<'a> {
    context: &'a Context,
    connection: &'a Connection,
    args: &'a DispatchArgs,
    /// The line of each request.
    lines: Vec<usize>,
    /// The jobs that are stored or were found by their keys.
    ids: Vec<JobId>,
    answered: usize,
    stored: usize,
}

impl StoredBatch<'_> {
    /// Stores the jobs batch by batch, and shows each request's result as soon as it is stored. Returns the exit status
    /// where the command is over by then: after Ctrl-C.
    async fn store(
        &mut self,
        mut dispatching: Dispatching,
        mut interrupt: Signal,
    ) -> Result<Option<ExitStatus>, Failure> {
        let mut tally = Tally::of(self.lines.len(), "stored");
        let session = dispatching.session;
        while let Some(answers) = dispatching.next().await {
            let answers = answers.map_err(|error| self.cut_short(error))?;
            if self.answered == 0 && self.connection.backend.is_embedded() {
                // Before the ids are printed: a closed pipe ends this program there, and the jobs must have a worker all
                // the same.
                let script = self.args.script.as_deref();
                local_worker::serve_in_background(self.context, &self.connection.operator, session, script)
                    .await?;
            }
            self.show(answers, &mut tally).await?;
            // Between two batches, so that every id that is stored was printed.
            let is_last = self.answered == self.lines.len();
            if !is_last && interrupt.recv().now_or_never().is_some() {
                self.context.output.note(&format!("interrupted: {}", self.progress()));
                return Ok(Some(ExitStatus::Interrupted));
            }
        }
        tally.end().map(|_success| None)
    }

    /// Shows the results of some requests: one a line, in their order.
    async fn show(
        &mut self,
        answers: Vec<Result<JobId, ServiceError>>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let output = &self.context.output;
        let is_batch = self.args.batch.is_some();
        let shows_jobs = output.json && !self.waits();
        let ids: Vec<JobId> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        let jobs = if shows_jobs { self.connection.operator.jobs(&ids).await? } else { Vec::new() };
        let jobs: HashMap<JobId, Job> = jobs.into_iter().map(|job| (job.id, job)).collect();
        for answer in answers {
            let line = self.lines.get(self.answered).copied().unwrap_or(0);
            self.answered += 1;
            match answer {
                Ok(id) => {
                    self.stored += 1;
                    self.ids.push(id);
                    tally.done();
                    self.show_stored(id, jobs.get(&id), is_batch.then_some(line))?;
                }
                Err(error) => {
                    tally.failed(output, &format!("line {line}"), json!({"line": line}), error.into())?;
                }
            }
        }
        Ok(())
    }

    /// Whether the command waits for its jobs: then standard output has their results.
    fn waits(&self) -> bool {
        self.args.wait || self.args.follow
    }

    /// Shows a stored job: its id, or with `--json` its object. A command that waits shows the id on standard error.
    fn show_stored(&self, id: JobId, job: Option<&Job>, line: Option<usize>) -> Result<(), Failure> {
        let output = &self.context.output;
        match (output.json, self.waits()) {
            (true, true) => Ok(()),
            (false, true) => {
                output.note(&id.to_string());
                Ok(())
            }
            (false, false) => output.line(&id.to_string()),
            (true, false) => {
                let mut object = job.map_or(json!({"id": id}), |job| json!(job));
                if let Some(line) = line {
                    object["line"] = json!(line);
                }
                output.object(&object)
            }
        }
    }

    fn progress(&self) -> String {
        format!("{} of {} stored", thousands(self.stored as u64), thousands(self.lines.len() as u64))
    }

    /// The error of a batch that was refused in the middle: the stored jobs run.
    fn cut_short(&self, refused: ServiceError) -> Failure {
        // Its own words are about one call, which stored nothing.
        let full = match &refused {
            ServiceError::SessionFull { unfinished, quota } => Some((*unfinished, *quota)),
            _ => None,
        };
        let failure = Failure::from(refused);
        if self.stored == 0 {
            return failure;
        }
        let why = full.map_or_else(
            || failure.message.clone(),
            |(unfinished, quota)| {
                let (unfinished, quota) = (thousands(unfinished), thousands(quota));
                format!(
                    "the session is full, {unfinished} of its jobs have not ended, and it may have {quota}"
                )
            },
        );
        let left = thousands((self.lines.len() - self.stored) as u64);
        let message = format!("{} and run, the other {left} are not stored: {why}", self.progress());
        Failure { message, ..failure }
    }
}

/// Waits for the jobs with `--wait`, shows their output with `--follow`. After Ctrl-C the jobs continue.
async fn finish(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    outage: &Outage<'_>,
    ids: &[JobId],
    continues: &str,
) -> Result<ExitStatus, Failure> {
    if args.follow {
        return Box::pin(follow_all(context, connection, outage, ids)).await;
    }
    if !args.wait {
        return Ok(ExitStatus::Success);
    }
    let all = WaitFor { mode: WaitMode::All, detail: WaitDetail::Whole, deadline: None };
    let waited = tokio::select! {
        waited = wait_for(&connection.operator, outage, ids, all) => {
            waited.map_err(|failure| with_continuation(failure, continues))?
        }
        _interrupt = tokio::signal::ctrl_c() => {
            context.output.note(&format!("the jobs continue; to wait for them: {continues}"));
            return Ok(ExitStatus::Interrupted);
        }
    };
    let mut completed = true;
    for item in waited {
        let WaitItem::Found(view) = item else { continue };
        completed &= view.job.status == State::Completed;
        if context.output.json {
            context.output.object(&view.job)?;
        } else {
            context.output.line(&contract::view_body(&view))?;
        }
    }
    Ok(if completed { ExitStatus::Success } else { ExitStatus::JobFailed })
}

/// The words of the command that waits for these jobs; of many, that shows how they stand.
fn continuation(ids: &[JobId], session: SessionId) -> String {
    if ids.len() > MAX_IDS_IN_HINT {
        return format!("list --watch --session {session}");
    }
    let ids: String = ids.iter().map(|id| format!(" {id}")).collect();
    format!("wait{ids}")
}

/// Shows the output of each job, one after the other.
async fn follow_all(
    context: &Context,
    connection: &Connection,
    outage: &Outage<'_>,
    ids: &[JobId],
) -> Result<ExitStatus, Failure> {
    let mut completed = true;
    for id in ids {
        let followed = follow(&connection.operator, *id, 0, &context.output, outage).await?;
        let Followed::Ended(job) = followed else { return Ok(ExitStatus::Interrupted) };
        completed &= job.status == State::Completed;
        if context.output.json {
            context.output.object(&json!({"event": "ended", "job": job}))?;
        } else {
            context.output.note(&render::ending(&job));
        }
    }
    Ok(if completed { ExitStatus::Success } else { ExitStatus::JobFailed })
}
