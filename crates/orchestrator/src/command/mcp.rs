//! `legwork mcp FILE`: the tools of the contract for any host of the Model Context Protocol.

use std::io::IsTerminal as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use legwork_common::error::ExitStatus;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::team::Team;
use legwork_common::variables;
use legwork_http::access::Token;
use legwork_process::tasks::TaskKind;
use legwork_queue::operator::SessionOptions;
use legwork_queue::operator::check_prices;
use legwork_worker::host::host_name;
use legwork_worker::tally::Tally;
use legwork_worker::upkeep::reap_forever;
use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::McpArgs;
use crate::command::serve::short_token;
use crate::context::Connection;
use crate::context::Context;
use crate::context::read;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::mcp::http::Access;
use crate::mcp::http::HttpListener;
use crate::mcp::lines::Lines;
use crate::mcp::offer;
use crate::mcp::offer::Offer;
use crate::mcp::server::Scope;
use crate::mcp::server::Server;
use crate::mcp::sessions::McpSessions;
use crate::mcp::sessions::WatchedSessions;
use crate::mcp::standing::Standing;
use crate::serving::Serving;
use crate::suggest::quoted;
use crate::suggest::quoted_command;
use crate::team_checks;

/// How long dispatches in progress may take after the server has ended: as long as a background worker may take until
/// it serves. Cut off earlier, a job could be stored without a worker.
const DISPATCH_GRACE_PERIOD: Duration = Duration::from_secs(10);
/// How long background tasks may take to end: a round trip to Redis with its timeout.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// Serves until the host closes standard input, or until a signal. Jobs continue.
pub(super) async fn mcp(context: Context, args: McpArgs) -> Result<ExitStatus, Failure> {
    let (team, team_json) = context.team(&args.file)?;
    let agents = offer::agents(&team, &args.agents)?;
    let listener = http_listener(&context, &args)?;
    let policy = context.common.policy()?;
    let Some(Serving { tasks, shutdown, connection }) = Serving::start(&context).await? else {
        return Ok(ExitStatus::Success);
    };
    let sessions = Arc::new(sessions(&context, &args, &connection, policy, (&team, team_json))?);
    warn_of_keys(&sessions, &team, &agents);
    let scope = match scope(&args, &sessions).await {
        Ok(scope) => scope,
        Err(failure) => {
            connection.leave().await?;
            return Err(failure);
        }
    };
    let offer = Arc::new(Offer::new(&team, agents, args.answer_within, !args.new_session));
    let server = Server { sessions: Arc::clone(&sessions), offer, answer_within: args.answer_within, scope };

    tasks.spawn(TaskKind::Upkeep, tend(Arc::clone(&sessions), scope.own(), shutdown.drain.clone()));
    let served = match listener {
        Some(listener) => {
            context.output.note(&format!("listening on {}", listener.url()));
            listener.serve(server, shutdown.drain.clone()).await;
            Ok(())
        }
        None => {
            if std::io::stdin().is_terminal() {
                context.output.note(
                    "waiting for a host on standard input; Ctrl-C ends. `legwork mcp --help` shows how to add this to a host",
                );
            }
            Box::pin(over_standard_streams(server, &shutdown.drain)).await
        }
    };
    sessions.dispatching.close();
    if tokio::time::timeout(DISPATCH_GRACE_PERIOD, sessions.dispatching.wait()).await.is_err() {
        tracing::warn!("a dispatch did not end in time");
    }
    tasks.end(GRACE_PERIOD).await;
    drop(sessions);
    connection.leave().await?;
    served.map(|()| ExitStatus::Success)
}

/// Binds the address of `--http`, before anything else is started; `None` for standard input and output.
fn http_listener(context: &Context, args: &McpArgs) -> Result<Option<HttpListener>, Failure> {
    let Some(address) = args.http else { return Ok(None) };
    let set = match &args.token_file {
        Some(file) => Some((String::from_utf8_lossy(&read(file)?).into_owned(), file.display().to_string())),
        None => context
            .variables
            .get(variables::MCP_TOKEN)
            .map(|text| (text.clone(), variables::MCP_TOKEN.into())),
    };
    let token =
        set.map(|(text, from)| Token::configured(&text).ok_or_else(|| short_token(&from))).transpose()?;
    let access = match token {
        Some(_) if args.no_token => {
            return Err(Failure::usage("--no-token and a token exclude each other"));
        }
        Some(token) => Access::Token(token),
        None if args.no_token => Access::Everyone,
        None => Access::Undecided,
    };
    HttpListener::bind(address, access, &args.allow_origin).map(Some)
}

fn sessions(
    context: &Context,
    args: &McpArgs,
    connection: &Connection,
    policy: Arc<Policy>,
    (team, team_json): (&Team, Arc<str>),
) -> Result<McpSessions, Failure> {
    let digest = team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
    let unpriced = team.agents().iter().filter_map(|agent| {
        let refused = check_prices(&agent.name, team, &policy, [args.session_budget, None]).err()?;
        Some((agent.name.clone(), refused.to_string()))
    });
    let unpriced = unpriced.collect();
    let settings = connection.queue().settings();
    Ok(McpSessions {
        context: context.clone(),
        operator: connection.operator.clone(),
        team: TeamDigest(digest),
        team_json,
        policy,
        working_dir: working_dir()?.display().to_string(),
        limits: SessionOptions::new(
            Some(args.limits.cap.unwrap_or(settings.session_cap)),
            args.session_budget,
            team.token_budget(),
        )
        .with_jobs(Some(args.limits.session_jobs.unwrap_or(settings.session_jobs))),
        embedded: connection.backend.is_embedded(),
        script: args.script.clone(),
        unpriced,
        dispatching: TaskTracker::new(),
        watched: WatchedSessions::default(),
        polls: Mutex::default(),
    })
}

/// Warns of missing API keys where workers of this machine will run the agents. Agents with their keys can be used all
/// the same.
fn warn_of_keys(sessions: &McpSessions, team: &Team, agents: &[String]) {
    if !sessions.embedded || sessions.script.is_some() {
        return;
    }
    let environment = sessions.context.agent_environment(Path::new(&sessions.working_dir).into());
    for agent in agents {
        if let Err(failure) = team_checks::check_keys(team, agent, true, &environment) {
            sessions.context.output.note(&format!("warning: {}", failure.message));
        }
    }
}

/// The session of the requests; prints how to use it again, or how to leave it.
async fn scope(args: &McpArgs, sessions: &McpSessions) -> Result<Scope, Failure> {
    let output = sessions.context.output;
    if let Some(text) = &args.session {
        return Ok(Scope::Named(sessions.operator.find_session(text).await?));
    }
    if args.new_session {
        let own = SessionId::random();
        let words = format!("mcp {} --session {own}", quoted(&args.file.display().to_string()));
        let again = quoted_command(&sessions.context, "legwork", &words);
        output.note(&format!("session {own}; return to it with {again}"));
        return Ok(Scope::OfConnection(own));
    }
    let variables = &sessions.context.variables;
    let folder = PathBuf::from(&sessions.working_dir);
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| folder.join(path));
    let standing = Standing {
        host: &host_name(variables),
        home: variables.get(variables::HOME).map_or("", String::as_str),
        file: &canonical(&args.file),
        folder: &canonical(&folder),
    };
    let own = standing.open(&sessions.operator, sessions.options()).await?;
    output.note(&format!("session {own}; that of this file in this folder. --new-session begins another"));
    Ok(Scope::OfConnection(own))
}

/// Reclaims jobs of dead workers and restarts workers of this program's sessions, until `end`.
async fn tend(sessions: Arc<McpSessions>, own: SessionId, end: CancellationToken) {
    // It may have jobs of an earlier server.
    sessions.watch(own);
    tokio::select! {
        never = reap_forever(sessions.operator.queue().clone(), Tally::default()) => match never {},
        never = sessions.keep_served() => match never {},
        () = end.cancelled() => {}
    }
}

/// Serves one host over standard input and output until it closes them.
async fn over_standard_streams(server: Server, end: &CancellationToken) -> Result<(), Failure> {
    let lines = Lines::new(tokio::io::stdin(), tokio::io::stdout());
    let begun = tokio::select! {
        begun = server.serve_with_ct(lines, end.child_token()) => begun,
        () = end.cancelled() => return Ok(()),
    };
    match begun {
        Ok(running) => {
            let ended = running.waiting().await;
            ended.map(drop).map_err(|error| Failure::usage(format!("the server ended early: {error}")))
        }
        // The host left before its first message.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(Failure::usage(format!("the host does not speak the protocol: {error}"))),
    }
}
