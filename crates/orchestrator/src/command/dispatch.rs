//! `legwork dispatch FILE AGENT TASK…`: `run_background_agent` for a person or a program.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use legwork_common::contract;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
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
use legwork_queue::Caller;
use legwork_queue::ConnectionKind;
use legwork_queue::Service;
use legwork_queue::open_session;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::OpenSession;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::Watch as _;
use serde::Deserialize;
use serde_json::json;

use crate::cli::DispatchArgs;
use crate::command::wait::wait_for;
use crate::context::Connection;
use crate::context::Context;
use crate::context::read;
use crate::failure::Failure;
use crate::follow::follow;
use crate::local_worker;
use crate::render;
use crate::team_checks;

/// One line of a batch.
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
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let session = args.session.unwrap_or_else(SessionId::random);
    let done = Box::pin(store(&context, &connection, &args, (&team, team_json), (session, requests))).await;
    connection.leave().await?;
    done
}

async fn store(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    (team, team_json): (&Team, Arc<str>),
    (session, requests): (SessionId, Vec<RunRequest>),
) -> Result<ExitStatus, Failure> {
    open(connection, session, args.cap, args.session_budget).await?;
    let here =
        std::env::current_dir().map_err(|error| Failure::usage(format!("no working directory: {error}")))?;
    let digest = team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
    let caller = Caller {
        session,
        by: DispatchedBy::Root,
        team: TeamDigest(digest),
        team_json,
        working_dir: Some(here.display().to_string()),
        keys_in_namespace: args.session.is_none(),
        policy: Arc::default(),
        trace: context.trace(),
    };
    let service = Service::new(connection.observer.clone(), caller);
    let queues: Vec<String> =
        requests.iter().filter_map(|request| Some(request.job_options.as_ref()?.queue.clone())).collect();
    let asked = requests.len();
    let Batch { answers, refused } = service.run_all(requests).await?;
    let stored = answers.len();
    // Before the ids: should nobody read them, the jobs run all the same.
    let served = if connection.backend.is_embedded() {
        local_worker::serve_in_background(context, connection.queue(), session, args.script.as_deref()).await
    } else {
        local_worker::hint_unserved(context, connection, &queues).await
    };
    let (ids, conflict) = print_ids(context, connection, args, answers).await?;
    served?;
    if let Some(refused) = refused {
        return Err(cut_short(stored, asked, refused));
    }
    if let Some(conflict) = conflict {
        return Err(conflict.into());
    }
    finish(context, connection, args, &ids).await
}

/// A batch that was refused in the middle: what is stored runs.
fn cut_short(stored: usize, asked: usize, refused: ServiceError) -> Failure {
    let failure = Failure::from(refused);
    let message = format!("{stored} of {asked} jobs were stored: {}", failure.message);
    Failure { message, ..failure }
}

/// Opens the session without an owner: its jobs go on whoever leaves.
pub(super) async fn open(
    connection: &Connection,
    session: SessionId,
    cap: Option<u32>,
    budget: Option<u64>,
) -> Result<(), Failure> {
    let open = OpenSession {
        session,
        owner: None,
        on_end: SessionEnd::Keep,
        cap: cap.unwrap_or(connection.queue().settings().session_cap),
        own_lane: connection.backend.is_embedded(),
        budget,
    };
    Ok(open_session(connection.queue(), &open).await?)
}

/// Prints the ids in the order of the requests. A conflict is told after the ids that were stored.
async fn print_ids(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    answers: Vec<Result<JobId, ServiceError>>,
) -> Result<(Vec<JobId>, Option<ServiceError>), Failure> {
    let (mut ids, mut conflict) = (Vec::new(), None);
    let waits = args.wait || args.follow;
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
    if context.output.json && !waits {
        for job in connection.queue().jobs(&ids).await?.into_iter().flatten() {
            context.output.object(&job)?;
        }
    }
    Ok((ids, conflict))
}

/// Waits for the jobs or shows their output, where that was asked for.
async fn finish(
    context: &Context,
    connection: &Connection,
    args: &DispatchArgs,
    ids: &[JobId],
) -> Result<ExitStatus, Failure> {
    let mut good = true;
    if args.follow {
        for id in ids {
            let job = follow(&connection.observer, *id, 0, &context.output).await?;
            good &= job.status == State::Completed;
            if context.output.json {
                context.output.object(&json!({"event": "ended", "job": job}))?;
            } else {
                context.output.note(&format!("{} {}", job.id, render::status(&job)));
            }
        }
    } else if args.wait {
        for item in wait_for(&connection.observer, ids, WaitMode::All, None).await? {
            let WaitItem::Found(view) = item else { continue };
            good &= view.job.status == State::Completed;
            if context.output.json {
                context.output.object(&view.job)?;
            } else {
                context.output.line(&contract::view_body(&view))?;
            }
        }
    }
    Ok(if good { ExitStatus::Success } else { ExitStatus::JobFailed })
}

/// What is asked: one request of the command line, or those of a batch.
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
        checked(&request, team)?;
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
        let request =
            batch_request(args, policy, line).and_then(|request| checked(&request, team).map(|()| request));
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

/// What the command line says, and where it says nothing the policy.
fn job_options(args: &DispatchArgs, policy: &Policy, agent: &str) -> JobOptions {
    let decided = policy.job_options(agent);
    JobOptions {
        queue: args.queue.clone().unwrap_or(decided.queue),
        priority: args.priority.unwrap_or(decided.priority),
        delay: args.delay,
        timeout: args.timeout.or(decided.timeout),
        retries: args.retries.unwrap_or(decided.retries),
        retry_delay: args.retry_delay.unwrap_or(decided.retry_delay),
        budget: args.budget.or(decided.budget),
    }
}

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

/// The checks of the contract, in its order.
fn checked(request: &RunRequest, team: &Team) -> Result<(), Failure> {
    if request.agent.trim().is_empty() {
        return Err(Failure::usage("agent name must not be empty"));
    }
    if request.task.trim().is_empty() {
        return Err(Failure::usage("task must not be empty"));
    }
    // An unset variable of a shell; all such requests would be taken for one.
    if request.key.as_deref().is_some_and(str::is_empty) {
        return Err(Failure::usage("the key must not be empty"));
    }
    team_checks::known_agent(team, &request.agent).map(drop)
}
