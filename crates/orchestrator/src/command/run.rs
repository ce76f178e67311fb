//! `legwork run FILE [PROMPT…]`: a root agent's session, from the prompt to the last job's end.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::Assignment;
use legwork_agent::Environment;
use legwork_agent::Opening;
use legwork_agent::Outcome;
use legwork_agent::Ports;
use legwork_agent::active_agent::ActiveAgent;
use legwork_agent::journal::TurnEntry;
use legwork_agent::message::Message;
use legwork_agent::model::ModelPort;
use legwork_agent::slash;
use legwork_agent::slash::CommandContext;
use legwork_agent::turn::Transcript;
use legwork_common::error::ExitStatus;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::DEFAULT_QUEUE;
use legwork_common::job::TeamDigest;
use legwork_common::job::Usage;
use legwork_common::policy::Policy;
use legwork_common::team::Team;
use legwork_process::shutdown::Shutdown;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::StopRoot;
use legwork_worker::guard::Guard;
use legwork_worker::rate_limit::RateLimitedModels;
use legwork_worker::runner::for_agents;
use legwork_worker::upkeep::reap_forever;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::command::stop::until_terminal;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::local_worker;
use crate::local_worker::LocalWorker;
use crate::panel::Screen;
use crate::recorder::Recorder;
use crate::root::RootOptions;
use crate::root::RootSession;
use crate::root::ScreenJournal;
use crate::team_checks;
use crate::terminal::Terminal;

/// How long the tasks beside the root may take to end.
const LAST_GRACE: Duration = Duration::from_secs(5);
/// The same after a second Ctrl-C: long enough to end the commands of jobs.
const HASTY_GRACE: Duration = Duration::from_secs(1);

/// Everything one run needs.
struct RunSession {
    context: Context,
    args: RunArgs,
    team: Arc<Team>,
    team_json: Arc<str>,
    agent: String,
    environment: Arc<Environment>,
    guard: Guard,
    models: Arc<dyn ModelPort>,
    policy: Arc<Policy>,
    tasks: Tasks,
    shutdown: Shutdown,
    screen: Arc<Screen>,
    recorder: Option<Recorder>,
    terminal: Option<Arc<Terminal>>,
}

/// Runs the root agent.
pub(super) async fn run(context: Context, args: RunArgs) -> Result<ExitStatus, Failure> {
    let prompt = prompt(&args)?;
    let mut session_setup = RunSession::build(context, args)?;
    // Before a server is started for nothing.
    session_setup.check_keys(session_setup.context.common.redis.is_none())?;
    let connection = session_setup.context.connect(ConnectionKind::Dedicated).await?;
    let embedded = connection.backend.is_embedded();
    let held = Box::pin(session_setup.hold_session(&connection, prompt)).await;
    let grace = if session_setup.shutdown.now.is_cancelled() { HASTY_GRACE } else { LAST_GRACE };
    let left = session_setup.tasks.close_and_wait(grace).await;
    if !left.is_empty() {
        tracing::warn!(?left, "tasks did not end in time");
    }
    let handed_over = match &held {
        Ok((session, _)) if session_setup.args.detach && embedded => {
            let script = session_setup.args.script.as_deref();
            local_worker::serve_in_background(&session_setup.context, connection.queue(), *session, script)
                .await
        }
        Ok(_) | Err(_) => Ok(()),
    };
    connection.leave().await?;
    let (_, status) = held?;
    handed_over?;
    match session_setup.shutdown.drain.is_cancelled() {
        _ if session_setup.screen.unread.is_cancelled() => Ok(ExitStatus::Success),
        true => Ok(ExitStatus::Interrupted),
        false => status,
    }
}

/// The prompt of the command line or of standard input; `None` for a prompt loop.
fn prompt(args: &RunArgs) -> Result<Option<String>, Failure> {
    let from_stdin = match args.prompt.as_slice() {
        [] if std::io::stdin().is_terminal() => return Ok(None),
        [] => true,
        [only] => only == "-",
        _ => false,
    };
    let prompt = if from_stdin {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::usage(format!("cannot read the prompt: {error}")))?
    } else {
        args.prompt.join(" ")
    };
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the prompt must not be empty"));
    }
    Ok(Some(prompt))
}

impl RunSession {
    fn build(context: Context, args: RunArgs) -> Result<Self, Failure> {
        let (team, team_json) = context.team(&args.file)?;
        let agent = match &args.agent {
            None => team.default_agent().name.clone(),
            Some(name) => team_checks::known_agent(&team, name)?,
        };
        let here = std::env::current_dir()
            .map_err(|error| Failure::usage(format!("no working directory: {error}")))?;
        let environment = Arc::new(Environment::new(for_agents(&context.variables), here));
        let models = context.models(args.script.as_deref(), &environment)?;
        let tasks = Tasks::new();
        let shutdown = Shutdown::listen(&tasks)
            .map_err(|error| Failure::usage(format!("cannot hear signals: {error}")))?;
        let screen = Arc::new(Screen::new(context.output));
        if args.script.is_some() {
            screen.note("model replies come from a script; every tool call is real");
        }
        let terminal = Terminal::find(&screen);
        let recorder = Recorder::begin(args.record.as_deref(), &team, &agent, &context.variables)?;
        let policy = context.common.policy()?;
        let guard = Guard::default();
        Ok(Self {
            context,
            args,
            team,
            team_json,
            agent,
            environment,
            guard,
            models,
            policy,
            tasks,
            shutdown,
            screen,
            recorder,
            terminal,
        })
    }

    /// The session from its opening to its end: which one it was, and how the agent did in it.
    async fn hold_session(
        &mut self,
        connection: &Connection,
        prompt: Option<String>,
    ) -> Result<(SessionId, Result<ExitStatus, Failure>), Failure> {
        self.guard(connection)?;
        self.limit_models(connection.queue());
        let root = RootSession::open(&connection.observer, self.root_options(connection)?).await?;
        let over = CancellationToken::new();
        // However this ends, nothing of it goes on.
        let _over = over.clone().drop_guard();
        self.tasks.spawn(TaskKind::Renewal, root.clone().keep(over.clone()));
        let hosted = if connection.backend.is_embedded() && self.args.detach {
            // What shall outlive this program is not run in it.
            let (service, over) = (Arc::clone(&root.service), over.clone());
            let beside = local_worker::DetachedWorker {
                context: self.context.clone(),
                queue: connection.queue().clone(),
                session: root.lease.session,
                script: self.args.script.clone(),
            };
            self.tasks.spawn(TaskKind::Upkeep, beside.serve_until(over, service));
            None
        } else if connection.backend.is_embedded() {
            let (session, now) = (root.lease.session, self.shutdown.now.clone());
            Some(LocalWorker::start(&self.tasks, connection.queue(), session, self.host(), now)?)
        } else {
            local_worker::hint_unserved(&self.context, connection, &[DEFAULT_QUEUE.to_owned()]).await?;
            self.tasks.spawn(TaskKind::Upkeep, reap_until(connection.queue().clone(), over.clone()));
            None
        };
        let panel = self.follow(connection, &root, over.clone());
        self.tasks.spawn(TaskKind::Panel, self.end_when_unread(over.clone()));

        let status = self.converse(&root, prompt).await;
        let ended = self.end(connection, &root, hosted).await;
        over.cancel();
        // The panel's last look shows how the last jobs ended.
        panel.await.ok();
        if let Some(recorder) = &self.recorder {
            recorder.write(connection.queue(), root.lease.session, &self.screen).await?;
        }
        ended.map(|()| (root.lease.session, status))
    }

    /// From now on the models are asked within the fleet's limits.
    fn limit_models(&mut self, queue: &Queue) {
        let models = Arc::clone(&self.models);
        self.models =
            Arc::new(RateLimitedModels::new(models, Arc::new(queue.clone()), Arc::clone(&self.policy)));
    }

    /// Starts the guard: should this program be killed, the commands of its root and of its jobs end.
    fn guard(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.guard = connection.backend.guard(&self.tasks)?;
        let guard = self.guard.of_program();
        self.environment = Arc::new(Environment { guard, ..(*self.environment).clone() });
        Ok(())
    }

    /// Every key that is needed here: the root's, and where a worker is hosted those of all agents that the
    /// root can reach.
    fn check_keys(&self, hosts_worker: bool) -> Result<(), Failure> {
        if self.args.script.is_some() {
            return Ok(());
        }
        team_checks::check_keys(&self.team, &self.agent, hosts_worker, &self.environment)
    }

    fn root_options(&self, connection: &Connection) -> Result<RootOptions, Failure> {
        let embedded = connection.backend.is_embedded();
        let digest = self.team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(RootOptions {
            team: TeamDigest(digest),
            team_json: Arc::clone(&self.team_json),
            cap: self.args.cap.unwrap_or(connection.queue().settings().session_cap),
            own_lane: embedded,
            on_end: if self.args.detach { SessionEnd::Keep } else { SessionEnd::Stop },
            budget: self.args.session_budget,
            waits: !self.args.no_wait && !self.args.detach,
            working_dir: Some(self.environment.working_dir.display().to_string()),
            policy: Arc::clone(&self.policy),
            trace: self.context.trace(),
        })
    }

    /// What a hosted worker works with.
    fn host(&self) -> local_worker::LocalWorkerConfig {
        local_worker::LocalWorkerConfig {
            models: Arc::clone(&self.models),
            variables: self.context.variables.clone(),
            needs_keys: self.args.script.is_none(),
            policy: Arc::clone(&self.policy),
            stall_after: self.context.common.stall_after,
            guard: self.guard.clone(),
        }
    }

    /// Shows the session's jobs beside the answer.
    fn follow(
        &self,
        connection: &Connection,
        root: &RootSession,
        over: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let (screen, observer) = (Arc::clone(&self.screen), connection.observer.clone());
        let session = root.lease.session;
        self.tasks.spawn(TaskKind::Panel, async move { screen.follow(&observer, session, over).await })
    }

    /// Ends the run as an interrupt does when the answer's reader has gone: nothing that it started may go on.
    fn end_when_unread(&self, over: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (unread, drain) = (self.screen.unread.clone(), self.shutdown.drain.clone());
        async move {
            if over.run_until_cancelled(unread.cancelled()).await.is_some() {
                drain.cancel();
            }
        }
    }

    /// One prompt, or one after the other from the terminal.
    async fn converse(&self, root: &RootSession, prompt: Option<String>) -> Result<ExitStatus, Failure> {
        let Some(prompt) = prompt else { return self.prompt_loop(root).await };
        let prompt = self.expand_prompt(root, &self.agent, &prompt).await;
        Ok(self.answer(root, prompt, Answered::nothing(&self.agent)).await?.status)
    }

    /// What an agent is told when the user says `text`, which may call one of its prompts.
    async fn expand_prompt(&self, root: &RootSession, agent: &str, text: &str) -> String {
        let Some(agent) = self.team.agent(agent) else { return text.to_owned() };
        let context = CommandContext {
            team: &self.team,
            agent,
            environment: &self.environment,
            background: &(Arc::clone(&root.service) as _),
            session_state: &(Arc::clone(&root.service) as _),
        };
        let expanded = slash::expand(context, text, &self.shutdown.drain).await;
        for warning in expanded.warnings {
            self.screen.note(&format!("warning: {warning}"));
        }
        expanded.prompt
    }

    /// What the user sees before the first prompt.
    fn welcome(&self) {
        let message = self.team.agent(&self.agent).and_then(|agent| agent.welcome_message.as_deref());
        if let Some(message) = message {
            self.screen.note(&self.environment.expanded(message));
        }
    }

    async fn prompt_loop(&self, root: &RootSession) -> Result<ExitStatus, Failure> {
        let terminal = self.terminal.clone().unwrap_or_else(|| Terminal::on(&self.screen));
        let mut so_far = Answered::nothing(&self.agent);
        self.welcome();
        loop {
            self.screen.note("\nprompt (an empty line or Ctrl-D ends):");
            let line = tokio::select! {
                line = terminal.line() => line.filter(|line| !line.trim().is_empty()),
                () = self.shutdown.drain.cancelled() => None,
            };
            let Some(line) = line else { return Ok(ExitStatus::Success) };
            let prompt = self.expand_prompt(root, &so_far.agent, &line).await;
            so_far = self.answer(root, prompt, so_far).await?;
            if so_far.status != ExitStatus::Success {
                return Ok(so_far.status);
            }
        }
    }

    /// Answers the next prompt of a conversation.
    async fn answer(
        &self,
        root: &RootSession,
        prompt: String,
        mut so_far: Answered,
    ) -> Result<Answered, Failure> {
        so_far.ask(prompt);
        let journal = Arc::new(ScreenJournal::new(
            Arc::clone(&self.screen),
            so_far.entries.clone(),
            self.recorder.is_some(),
        ));
        let assignment = Assignment {
            team: Arc::clone(&self.team),
            agent: self.agent.clone(),
            opening: so_far.opening(),
            recorded: so_far.entries.clone(),
            budget: None,
        };
        let ports = Ports {
            models: Arc::clone(&self.models),
            journal: Arc::clone(&journal) as _,
            background: Arc::clone(&root.service) as _,
            mailbox: Arc::clone(&root.service) as _,
            session_state: Arc::clone(&root.service) as _,
            approval: self.terminal.clone().map(|terminal| terminal as _),
            environment: Arc::clone(&self.environment),
        };
        let running = legwork_agent::run(assignment, ports, self.shutdown.drain.clone());
        let outcome = tokio::select! {
            outcome = Box::pin(running) => outcome,
            () = self.shutdown.now.cancelled() => Outcome::Stopped { usage: Usage::default() },
        };
        so_far.entries = journal.entries();
        if let Some(recorder) = &self.recorder {
            recorder.keep_root(&so_far.prompt, &so_far.entries);
        }
        if self.shutdown.now.is_cancelled() {
            return Ok(Answered { status: ExitStatus::Interrupted, ..so_far });
        }
        self.screen.end_answer();
        let status = self.report(outcome)?;
        let floor = ActiveAgent::new(Arc::clone(&self.team), &self.agent, &so_far.entries);
        Ok(Answered { status, agent: floor.name().to_owned(), ..so_far })
    }

    fn report(&self, outcome: Outcome) -> Result<ExitStatus, Failure> {
        match outcome {
            Outcome::Completed { result, usage } => {
                self.screen.event("completed", &json!({"result": result, "usage": usage}));
                Ok(ExitStatus::Success)
            }
            Outcome::Failed { cause, message, .. } => Err(Failure {
                code: cause.as_str(),
                message: format!("the agent failed ({cause}): {message}"),
                detail: None,
                hint: None,
                exit: ExitStatus::JobFailed,
            }),
            Outcome::Stopped { .. } | Outcome::Lost => Ok(ExitStatus::Interrupted),
        }
    }

    /// Ends the session: its jobs have ended, are stopped, or are left to go on.
    async fn end(
        &self,
        connection: &Connection,
        root: &RootSession,
        hosted: Option<LocalWorker>,
    ) -> Result<(), Failure> {
        if self.shutdown.now.is_cancelled() {
            return Ok(());
        }
        let interrupted = self.shutdown.drain.is_cancelled();
        if self.args.detach && !interrupted {
            if let Some(hosted) = hosted {
                hosted.hand_over().await;
            }
            root.detach().await?;
            self.screen.note(&format!("session {} goes on in the background", root.lease.session));
            return Ok(());
        }
        if interrupted || !root.service.is_settled().await? {
            self.stop_all(connection, root, interrupted).await?;
        }
        root.close().await?;
        if let Some(hosted) = hosted {
            hosted.end().await;
        }
        Ok(())
    }

    /// Stops all jobs of the session and waits until they have ended, or until a second Ctrl-C.
    async fn stop_all(
        &self,
        connection: &Connection,
        root: &RootSession,
        interrupted: bool,
    ) -> Result<(), Failure> {
        let everything = StopRoot::Session { id: root.lease.session, close: true };
        let why = if interrupted { Cause::Operator } else { Cause::SessionEnd };
        connection.queue().stop(everything, Asker::Root, why).await?;
        tokio::select! {
            stopped = until_terminal(&connection.observer, everything) => stopped,
            () = self.shutdown.now.cancelled() => Ok(()),
        }
    }
}

/// A conversation with a root, and how its last prompt was answered.
struct Answered {
    status: ExitStatus,
    /// Who has the floor now.
    agent: String,
    /// The first prompt.
    prompt: String,
    /// All since then, later prompts too.
    entries: Vec<TurnEntry>,
}

impl Answered {
    /// Nothing was said yet.
    fn nothing(agent: &str) -> Self {
        let (status, agent) = (ExitStatus::Success, agent.to_owned());
        Self { status, agent, prompt: String::new(), entries: Vec::new() }
    }

    /// Adds a prompt.
    fn ask(&mut self, prompt: String) {
        if self.prompt.is_empty() {
            self.prompt = prompt;
            return;
        }
        let turn = Transcript::new(Vec::new(), &self.entries).turn() + 1;
        self.entries.push(TurnEntry::Delivered { turn, mail: Vec::new(), text: prompt });
    }

    fn opening(&self) -> Opening {
        Opening::Conversation { messages: vec![Message::user(&self.prompt)] }
    }
}

/// Takes back what dead workers held, until `over`: whoever lives long does it.
async fn reap_until(queue: Queue, over: CancellationToken) {
    over.run_until_cancelled(reap_forever(queue)).await;
}
