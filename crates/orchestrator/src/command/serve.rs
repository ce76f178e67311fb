//! `legwork serve`: the HTTP interface.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use legwork_agent::Environment;
use legwork_common::error::ExitStatus;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::team::Team;
use legwork_common::variables;
use legwork_http::access::Access;
use legwork_http::access::MIN_TOKEN;
use legwork_http::access::Token;
use legwork_http::access::Tokens;
use legwork_http::api::Api;
use legwork_http::api::SessionWorkers;
use legwork_http::board::Board;
use legwork_http::fleet::RecentStats;
use legwork_http::listener;
use legwork_http::metrics::Metrics;
use legwork_http::problem::Problem;
use legwork_http::routes::router;
use legwork_http::teams::ServedTeam;
use legwork_http::teams::Teams;
use legwork_process::service_manager::ServiceManager;
use legwork_process::tasks::TaskKind;
use legwork_queue::Operator;
use legwork_worker::webhooks::Webhooks;
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::context::read;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::local_worker;
use crate::local_worker::replacement::while_serving;
use crate::serving::Serving;
use crate::team_checks::check_keys;

/// How long changes in progress may take once the server has ended: as long as a worker of the embedded server may take
/// to start.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Serves until a signal. Jobs continue.
pub(super) async fn serve(context: Context, args: ServeArgs) -> Result<ExitStatus, Failure> {
    let teams = teams(&context, &args.files)?;
    let access = access(&context, &args)?;
    let listener = bind(&args)?;
    let manager = ServiceManager::find(&context.variables).map_err(|error| {
        Failure::usage(format!("the service manager's socket cannot be reached: {error}"))
    })?;
    let policy = context.common.policy()?;
    let webhooks = Webhooks::find(&context.variables)?;
    let Some(Serving { tasks, shutdown, connection }) = Serving::start(&context).await? else {
        return Ok(ExitStatus::Success);
    };
    let api = Api {
        operator: connection.operator.clone(),
        policy,
        teams,
        working_dir: Some(working_dir()?.display().to_string()),
        workers: workers(&context, &args, &connection)?,
        tasks: tasks.clone(),
        end: shutdown.drain.clone(),
        metrics: Metrics::default(),
        board: Board::default(),
        stats: RecentStats::default(),
    };
    tasks.spawn(
        TaskKind::Upkeep,
        tend(context.clone(), connection.operator.clone(), connection.backend.is_embedded()),
    );
    if let Some(webhooks) = webhooks {
        let queue = connection.operator.queue().clone();
        tasks.spawn(TaskKind::Webhooks, webhooks.run(queue, shutdown.drain.clone()));
    }
    if let Ok(address) = listener.local_addr() {
        context.output.note(&format!("listening on http://{address}"));
    }
    manager.ready(&tasks, shutdown.drain.clone());
    let (metrics, router) = (api.metrics.clone(), router(Arc::new(api), &access));
    listener::serve(listener, router, metrics, &tasks, shutdown.drain.clone()).await;
    tasks.end(GRACE_PERIOD).await;
    connection.leave().await?;
    Ok(ExitStatus::Success)
}

/// Reclaims the jobs of dead workers, as every program that lives long does, and replaces those of the embedded server.
async fn tend(context: Context, operator: Operator, is_embedded: bool) {
    while_serving(&context, &operator, is_embedded, std::future::pending::<()>()).await;
}

/// The agent files of the command line, by their names without extension.
fn teams(context: &Context, files: &[PathBuf]) -> Result<Teams, Failure> {
    let mut teams = BTreeMap::new();
    for file in files {
        let (team, json) = context.team(file)?;
        let digest = TeamDigest(team.sha256().map_err(|error| Failure::usage(error.to_string()))?);
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if teams.insert(name.clone(), ServedTeam { team, json, digest }).is_some() {
            return Err(Failure::usage(format!("two agent files are called {name}")));
        }
    }
    Ok(Teams(teams))
}

/// Who is admitted: by the tokens of a file or of a variable, else this machine.
fn access(context: &Context, args: &ServeArgs) -> Result<Access, Failure> {
    if let Some(file) = &args.tokens {
        let text = String::from_utf8_lossy(&read(file)?).into_owned();
        return Ok(Access::Tokens(Tokens::read(&text)?));
    }
    match context.variables.get(variables::TOKEN) {
        Some(text) => {
            let token = Token::configured(text).ok_or_else(|| short_token(variables::TOKEN))?;
            Ok(Access::Tokens(Tokens::all_roles(token)))
        }
        None if args.listen.ip().is_loopback() => Ok(Access::ThisMachine),
        None => {
            Err(Failure::usage(format!("{} is reachable from other machines and needs a token", args.listen))
                .with_hint(format!("set {} or --tokens, or listen on 127.0.0.1", variables::TOKEN)))
        }
    }
}

/// The refusal of a token that could be guessed. `from` is where it was set.
pub(super) fn short_token(from: &str) -> Failure {
    Failure::usage(format!("the token of {from} has less than {MIN_TOKEN} characters"))
        .with_hint("`openssl rand -hex 16` prints a good one")
}

fn bind(args: &ServeArgs) -> Result<TcpListener, Failure> {
    listener::listen(args.listen).map_err(|error| Failure {
        code: "address",
        message: format!("cannot listen on {}: {error}", args.listen),
        detail: None,
        hint: Some("use another --listen address, or port 0 for a free port".to_owned()),
        exit: ExitStatus::Usage,
    })
}

fn workers(
    context: &Context,
    args: &ServeArgs,
    connection: &Connection,
) -> Result<Arc<dyn SessionWorkers>, Failure> {
    if !connection.backend.is_embedded() {
        return Ok(Arc::new(Fleet));
    }
    let environment = context.agent_environment(working_dir()?);
    let (context, operator) = (context.clone(), connection.operator.clone());
    Ok(Arc::new(LocalWorkers { context, operator, script: args.script.clone(), environment }))
}

/// The workers of a fleet, which serve all sessions.
#[derive(Debug)]
struct Fleet;

#[async_trait]
impl SessionWorkers for Fleet {
    async fn serve(&self, _session: SessionId) -> Result<(), Problem> {
        Ok(())
    }

    fn check(&self, _team: &Team, _agent: &str) -> Result<(), Problem> {
        Ok(())
    }
}

/// Workers of the embedded server, one for each session.
#[derive(Debug)]
struct LocalWorkers {
    context: Context,
    operator: Operator,
    script: Option<PathBuf>,
    /// What the workers' agents have.
    environment: Environment,
}

#[async_trait]
impl SessionWorkers for LocalWorkers {
    async fn serve(&self, session: SessionId) -> Result<(), Problem> {
        let script = self.script.as_deref().map(Path::new);
        local_worker::serve_in_background(&self.context, &self.operator, session, script).await.map_err(
            |failure| Problem {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: failure.code,
                detail: failure.message,
                hint: failure.hint,
            },
        )
    }

    fn check(&self, team: &Team, agent: &str) -> Result<(), Problem> {
        if self.script.is_some() {
            return Ok(());
        }
        check_keys(team, agent, true, &self.environment).map_err(|failure| Problem {
            status: StatusCode::BAD_REQUEST,
            code: failure.code,
            detail: failure.message,
            hint: failure.hint,
        })
    }
}
