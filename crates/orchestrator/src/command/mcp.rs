//! `legwork mcp FILE`: the tools of the contract for any host of the Model Context Protocol.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::Environment;
use legwork_common::error::ExitStatus;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::team::Team;
use legwork_common::variables;
use legwork_process::shutdown::Shutdown;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_worker::backend::Arrival;
use legwork_worker::runner::for_agents;
use legwork_worker::upkeep::reap_forever;
use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::McpArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::context::read;
use crate::failure::Failure;
use crate::mcp::http::HttpListener;
use crate::mcp::http::Token;
use crate::mcp::offer;
use crate::mcp::offer::Offer;
use crate::mcp::server::Scope;
use crate::mcp::server::Server;
use crate::mcp::sessions::McpSessions;
use crate::mcp::sessions::WatchedSessions;
use crate::team_checks;

/// How long dispatches that have begun may take: about as long as a worker may take to serve.
const DISPATCH_GRACE: Duration = Duration::from_secs(10);
/// How long the tasks beside the server may take to end.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Serves until the host closes standard input, or until a signal; the jobs go on.
pub(super) async fn mcp(context: Context, args: McpArgs) -> Result<ExitStatus, Failure> {
    let (team, team_json) = context.team(&args.file)?;
    let agents = offer::agents(&team, &args.agents)?;
    let door = door(&context, &args)?;
    let policy = context.common.policy()?;
    let tasks = Tasks::new();
    let shutdown =
        Shutdown::listen(&tasks).map_err(|error| Failure::usage(format!("cannot hear signals: {error}")))?;

    // As many hosts at once as there are: no pool. Whose session waits for a worker is not to be swept up, for this is
    // where it comes from.
    let connection = context.connect_as(ConnectionKind::Dedicated, Arrival::SessionsWorker).await?;
    let sessions = Arc::new(sessions(&context, &args, &connection, policy, (&team, team_json))?);
    warn_of_keys(&sessions, &team, &agents);
    let offer = Arc::new(Offer::new(&team, agents, args.answer_within));
    let scope = scope(&context, args.session);
    let server = Server { sessions: Arc::clone(&sessions), offer, answer_within: args.answer_within, scope };

    tasks.spawn(TaskKind::Upkeep, look_after(Arc::clone(&sessions), args.session, shutdown.drain.clone()));
    let served = match door {
        Some(door) => {
            context.output.note(&format!("listening on {}", door.url()));
            door.serve(server, shutdown.drain.clone()).await
        }
        None => over_standard_streams(server, &shutdown.drain).await,
    };
    sessions.dispatching.close();
    if tokio::time::timeout(DISPATCH_GRACE, sessions.dispatching.wait()).await.is_err() {
        tracing::warn!("a dispatch did not end in time");
    }
    let left = tasks.close_and_wait(LAST_GRACE).await;
    if !left.is_empty() {
        tracing::warn!(?left, "tasks did not end in time");
    }
    drop(sessions);
    connection.leave().await?;
    served.map(|()| ExitStatus::Success)
}

/// The address to listen on, before anything else is begun.
fn door(context: &Context, args: &McpArgs) -> Result<Option<HttpListener>, Failure> {
    let Some(address) = args.http else { return Ok(None) };
    let text = match &args.token_file {
        Some(file) => Some(String::from_utf8_lossy(&read(file)?).into_owned()),
        None => context.variables.get(variables::MCP_TOKEN).cloned(),
    };
    let token = text.as_deref().and_then(Token::new);
    if text.is_some() && token.is_none() {
        return Err(Failure::usage("the bearer token is empty"));
    }
    HttpListener::bind(address, token, &args.allow_origin).map(Some)
}

fn sessions(
    context: &Context,
    args: &McpArgs,
    connection: &Connection,
    policy: Arc<Policy>,
    (team, team_json): (&Team, Arc<str>),
) -> Result<McpSessions, Failure> {
    let here =
        std::env::current_dir().map_err(|error| Failure::usage(format!("no working directory: {error}")))?;
    let digest = team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(McpSessions {
        context: context.clone(),
        observer: connection.observer.clone(),
        team: TeamDigest(digest),
        team_json,
        policy,
        working_dir: here.display().to_string(),
        cap: args.cap.unwrap_or(connection.queue().settings().session_cap),
        budget: args.session_budget,
        embedded: connection.backend.is_embedded(),
        script: args.script.clone(),
        dispatching: TaskTracker::new(),
        watched: WatchedSessions::default(),
    })
}

/// Where this machine's workers will run the agents, says which keys are missing. Others may be used all the same.
fn warn_of_keys(sessions: &McpSessions, team: &Team, agents: &[String]) {
    if !sessions.embedded || sessions.script.is_some() {
        return;
    }
    let environment =
        Environment::new(for_agents(&sessions.context.variables), Path::new(&sessions.working_dir).into());
    for agent in agents {
        if let Err(failure) = team_checks::check_keys(team, agent, true, &environment) {
            sessions.context.output.note(&format!("warning: {}", failure.message));
        }
    }
}

/// The session of the requests; says how to come back to it.
fn scope(context: &Context, named: Option<SessionId>) -> Scope {
    match named {
        Some(session) => Scope::Named(session),
        None => {
            let own = SessionId::random();
            context.output.note(&format!("session {own}; come back to it with --session {own}"));
            Scope::OfConnection(own)
        }
    }
}

/// What a long-lived face owes the queue, until `end`: it takes back what dead workers held, and sees to it that its
/// sessions have workers.
async fn look_after(sessions: Arc<McpSessions>, named: Option<SessionId>, end: CancellationToken) {
    if let Some(session) = named {
        sessions.watch(session);
    }
    tokio::select! {
        never = reap_forever(sessions.observer.queue().clone()) => match never {},
        never = sessions.keep_served() => match never {},
        () = end.cancelled() => {}
    }
}

/// Serves one host over standard input and output, until it closes them.
async fn over_standard_streams(server: Server, end: &CancellationToken) -> Result<(), Failure> {
    let streams = (tokio::io::stdin(), tokio::io::stdout());
    let begun = tokio::select! {
        begun = server.serve_with_ct(streams, end.child_token()) => begun,
        () = end.cancelled() => return Ok(()),
    };
    match begun {
        Ok(running) => {
            let ended = running.waiting().await;
            ended.map(drop).map_err(|error| Failure::usage(format!("the server broke off: {error}")))
        }
        // The host went away before it said anything.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(Failure::usage(format!("the host does not speak the protocol: {error}"))),
    }
}
