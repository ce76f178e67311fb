//! `legwork dispatch FILE AGENT TASK…`: `run_background_agent` for a person or a program.

use std::path::Path;
use std::time::Duration;

use legwork_common::contract;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::job::JobOptions;
use legwork_common::job::Priority;
use legwork_common::job::TeamDigest;
use legwork_common::job::parse_name;
use legwork_common::lifecycle::State;
use legwork_common::policy::Policy;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::team::Team;
use legwork_queue::Batch;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::DispatchOrder;
use legwork_queue::operator::Dispatched;
use legwork_queue::operator::SessionOptions;
use legwork_queue::operator::check_request;
use serde::Deserialize;
use serde_json::json;

use crate::cli::DispatchArgs;
use crate::command::wait::wait_for;
use crate::context::Connection;
use crate::context::Context;
use crate::context::read;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::follow::follow;
use crate::local_worker;
use crate::render;

/// One line of a batch; durations as text, such as `90s`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLine {
    agent: String,
    task: String,
    expected_output: Option<String>,
    key: Option<String>,
    queue: Option<String>,
    priority: Option<Priority>,
    delay: Option<String>,
    timeout: Option<String>,
    retries: Option<u32>,
    retry_delay: Option<String>,
    budget: Option<u64>,
}

/// Stores the job or the jobs, and prints their ids.
pub(super) async fn dispatch(context: Context, args: DispatchArgs) -> Result<ExitStatus, Failure> {
    let (team, team_json) = context.team(&args.file)?;
    let policy = context.common.policy()?;
    let requests = requests(&args, &team, &policy)?;
    let digest = team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
    // For a session that exists already, the option would be an error, and the file's budget is that of its first team.
    let of_team = team.budget().map(|budget| budget.max_tokens).filter(|_| args.session.is_none());
    let order = DispatchOrder {
        session: args.session,
        options: SessionOptions { cap: args.cap, budget: args.session_budget.or(of_team) },
        team,
        team_json,
        digest: TeamDigest(digest),
        working_dir: Some(working_dir()?.display().to_string()),
        policy,
        trace: context.trace(),
    };
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let stored = Box::pin(store(&context, &connection, &args, order, requests)).await;
    connection.leave().await?;
    stored
}

async fn store(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    order: DispatchOrder,
    requests: Vec<RunRequest>,
) -> Result<ExitStatus, Failure> {
    let queues: Vec<String> =
        requests.iter().filter_map(|request| Some(request.job_options.as_ref()?.queue.clone())).collect();
    let requested = requests.len();
    let Dispatched { session, batch } = connection.operator.dispatch(order, requests).await?;
    let Batch { answers, refused } = batch;
    let stored = answers.len();
    // Before the ids are printed: a closed pipe ends this program there, and the jobs must have a worker all the same.
    let served = if connection.backend.is_embedded() {
        local_worker::serve_in_background(context, &connection.operator, session, args.script.as_deref())
            .await
    } else {
        local_worker::hint_unserved(context, connection, &queues).await
    };
    let (ids, conflict) = print_ids(context, connection, args, answers).await?;
    served?;
    if let Some(refused) = refused {
        return Err(cut_short(stored, requested, refused));
    }
    if let Some(conflict) = conflict {
        return Err(conflict.into());
    }
    finish(context, connection, args, &ids).await
}

/// The error of a batch that was refused in the middle: the stored jobs run.
fn cut_short(stored: usize, requested: usize, refused: ServiceError) -> Failure {
    let failure = Failure::from(refused);
    let message = format!("{stored} of {requested} jobs were stored: {}", failure.message);
    Failure { message, ..failure }
}

/// Prints the ids in the order of the requests; the last conflict is returned, to be reported after the ids.
async fn print_ids(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    answers: Vec<Result<JobId, ServiceError>>,
) -> Result<(Vec<JobId>, Option<ServiceError>), Failure> {
    let (mut ids, mut conflict) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Ok(id) => {
                ids.push(id);
                if !context.output.json {
                    context.output.line(&id.to_string())?;
                }
            }
            Err(error) => conflict = Some(error),
        }
    }
    // With --wait or --follow the job object comes once the job has ended.
    let waits = args.wait || args.follow;
    if context.output.json && !waits {
        for job in connection.operator.jobs(&ids).await? {
            context.output.object(&job)?;
        }
    }
    Ok((ids, conflict))
}

/// Waits for the jobs with `--wait`, shows their output with `--follow`.
async fn finish(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    ids: &[JobId],
) -> Result<ExitStatus, Failure> {
    let mut completed = true;
    if args.follow {
        for id in ids {
            let job = follow(&connection.operator, *id, 0, &context.output).await?;
            completed &= job.status == State::Completed;
            if context.output.json {
                context.output.object(&json!({"event": "ended", "job": job}))?;
            } else {
                context.output.note(&format!("{} {}", job.id, render::status(&job)));
            }
        }
    } else if args.wait {
        for item in wait_for(&connection.operator, ids, WaitMode::All, None).await? {
            let WaitItem::Found(view) = item else { continue };
            completed &= view.job.status == State::Completed;
            if context.output.json {
                context.output.object(&view.job)?;
            } else {
                context.output.line(&contract::view_body(&view))?;
            }
        }
    }
    Ok(if completed { ExitStatus::Success } else { ExitStatus::JobFailed })
}

/// The request of the command line, or those of a batch. Each is checked here, before a connection is made: a wrong
/// line stores nothing.
fn requests(args: &DispatchArgs, team: &Team, policy: &Policy) -> Result<Vec<RunRequest>, Failure> {
    let Some(batch) = &args.batch else {
        let agent = args.agent.clone().unwrap_or_default();
        let request = RunRequest {
            job_options: Some(job_options(args, policy, &agent)),
            agent,
            task: args.task.join(" "),
            expected_output: args.expected_output.clone(),
            call: None,
            key: args.key.clone(),
        };
        check_request(&request, team)?;
        return Ok(vec![request]);
    };
    let bytes = if batch == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::usage(format!("cannot read the batch: {error}")))?
            .into_bytes()
    } else {
        read(batch)?
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut requests = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let request = batch_request(args, policy, line)
            .and_then(|request| check_request(&request, team).map(|()| request).map_err(Failure::from));
        requests.push(request.map_err(|failure| Failure {
            message: format!("line {number} of the batch: {}", failure.message),
            ..failure
        })?);
    }
    if requests.is_empty() {
        return Err(Failure::usage("the batch is empty"));
    }
    Ok(requests)
}

/// The job options of the command line; the policy fills in what it leaves open.
fn job_options(args: &DispatchArgs, policy: &Policy, agent: &str) -> JobOptions {
    let default = policy.job_options(agent);
    JobOptions {
        queue: args.queue.clone().unwrap_or(default.queue),
        priority: args.priority.unwrap_or(default.priority),
        delay: args.delay,
        timeout: args.timeout.or(default.timeout),
        retries: args.retries.unwrap_or(default.retries),
        retry_delay: args.retry_delay.unwrap_or(default.retry_delay),
        budget: args.budget.or(default.budget),
    }
}

/// Reads one line of a batch. What it leaves open comes from the command line, then from the policy.
fn batch_request(args: &DispatchArgs, policy: &Policy, line: &str) -> Result<RunRequest, Failure> {
    let line: BatchLine = serde_json::from_str(line).map_err(|error| Failure::usage(error.to_string()))?;
    let time = |text: Option<String>| -> Result<Option<Duration>, Failure> {
        text.map(|text| duration::parse(&text)).transpose().map_err(|error| Failure::usage(error.to_string()))
    };
    let defaults = job_options(args, policy, &line.agent);
    let queue = match line.queue {
        Some(queue) => parse_name(&queue).map_err(Failure::usage)?,
        None => defaults.queue,
    };
    Ok(RunRequest {
        agent: line.agent,
        task: line.task,
        expected_output: line.expected_output,
        call: None,
        key: line.key,
        job_options: Some(JobOptions {
            queue,
            priority: line.priority.unwrap_or(defaults.priority),
            delay: time(line.delay)?.unwrap_or(defaults.delay),
            timeout: time(line.timeout)?.or(defaults.timeout),
            retries: line.retries.unwrap_or(defaults.retries),
            retry_delay: time(line.retry_delay)?.unwrap_or(defaults.retry_delay),
            budget: line.budget.or(defaults.budget),
        }),
    })
}
