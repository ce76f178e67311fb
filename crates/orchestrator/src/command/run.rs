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
use legwork_common::question::Approvals;
use legwork_common::team::Team;
use legwork_process::shutdown::Shutdown;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::operator::OwnerTerms;
use legwork_queue::operator::SessionEnd;
use legwork_queue::operator::check_prices;
use legwork_spans::SPAN_TARGET;
use legwork_spans::set_parent;
use legwork_worker::guard::Guard;
use legwork_worker::rate_limit::RateLimitedModels;
use legwork_worker::server_watch::end_server_without_folder;
use legwork_worker::tally::Tally;
use legwork_worker::upkeep::reap_forever;
use legwork_worker::upkeep::while_reaping;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::cli::RunArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::context::WhileAway;
use crate::context::working_dir;
use crate::failure::Failure;
use crate::local_worker;
use crate::local_worker::LocalWorker;
use crate::outage::Outage;
use crate::panel::Screen;
use crate::question_watch::ask_on_terminal;
use crate::recorder::Recorder;
use crate::render;
use crate::root::RootOptions;
use crate::root::RootSession;
use crate::root::ScreenJournal;
use crate::suggest;
use crate::team_checks;
use crate::terminal::Terminal;

/// How long background tasks may take to end after the session: a last round trip to Redis with its timeout.
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// The same after a second Ctrl-C: long enough to end the commands of jobs, and short enough for a person who waits.
const FORCED_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// One `legwork run`, from its arguments to its exit status.
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
    let mut run = RunSession::build(context, args)?;
    // Before an embedded server is started for nothing.
    run.check_keys(run.context.common.redis.is_none())?;
    let connecting =
        run.context.connect_to_sign(ConnectionKind::Dedicated, WhileAway::Wait { deadline: None });
    let Some(connection) = run.shutdown.drain.run_until_cancelled(connecting).await else {
        return Ok(ExitStatus::Interrupted);
    };
    let connection = connection?;
    let embedded = connection.backend.is_embedded();
    let held = Box::pin(run.hold_session(&connection, prompt)).await;
    let grace_period = if run.shutdown.now.is_cancelled() { FORCED_GRACE_PERIOD } else { GRACE_PERIOD };
    run.tasks.end(grace_period).await;
    // Jobs that were dispatched since the last poll of the detached worker may have none yet.
    let handed_over = match &held {
        Ok((session, _)) if run.args.detach && embedded => {
            let script = run.args.script.as_deref();
            local_worker::serve_in_background(&run.context, &connection.operator, *session, script).await
        }
        Ok(_) | Err(_) => Ok(()),
    };
    connection.leave().await?;
    let (_, status) = held?;
    handed_over?;
    match run.shutdown.drain.is_cancelled() {
        // The reader of the answer went away, as `head` does once it has seen enough.
        _ if run.screen.unread.is_cancelled() => Ok(ExitStatus::Success),
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
        let environment = Arc::new(context.agent_environment(working_dir()?));
        let models = context.models(args.script.as_deref(), &environment)?;
        let tasks = Tasks::new();
        let shutdown = Shutdown::listen(&tasks)
            .map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))?;
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

    /// Opens the session, runs the conversation, and ends the session. Answers with the session and the exit status of
    /// the conversation; an error outside of the conversation comes first.
    async fn hold_session(
        &mut self,
        connection: &Connection,
        prompt: Option<String>,
    ) -> Result<(SessionId, Result<ExitStatus, Failure>), Failure> {
        self.guard(connection)?;
        if let Some(server) = connection.backend.embedded_server() {
            self.tasks.spawn(TaskKind::Upkeep, end_server_without_folder(server));
        }
        self.limit_models(connection.queue());
        let root = RootSession::open(&connection.operator, self.root_options()?).await?;
        let session = root.owner.session();
        let over = CancellationToken::new();
        // However this function ends, its background tasks end with it.
        let _over = over.clone().drop_guard();
        self.tasks.spawn(TaskKind::Renewal, root.clone().keep(over.clone(), Arc::clone(&self.screen)));
        let hosted = if connection.backend.is_embedded() && self.args.detach {
            // Jobs that outlive this program run in a worker program of their own from the start.
            let (service, over) = (Arc::clone(&root.service), over.clone());
            let detached = local_worker::DetachedWorker {
                context: self.context.clone(),
                operator: connection.operator.clone(),
                session,
                script: self.args.script.clone(),
            };
            self.tasks.spawn(TaskKind::Upkeep, detached.serve_until(over, service));
            None
        } else if connection.backend.is_embedded() {
            let now = self.shutdown.now.clone();
            Some(LocalWorker::start(&self.tasks, connection.queue(), session, self.host(), now)?)
        } else {
            local_worker::hint_unserved(&self.context, connection, &[DEFAULT_QUEUE.to_owned()]).await?;
            self.tasks.spawn(TaskKind::Upkeep, reap_until(connection.queue().clone(), over.clone()));
            None
        };
        let panel = self.follow(connection, session, over.clone());
        self.ask_for_jobs(connection, session, over.clone());
        self.tasks.spawn(TaskKind::Panel, self.end_when_unread(over.clone()));

        let status = self.converse(&root, prompt).await;
        root.report_absence(&self.screen).await;
        let ended = self.end(connection, &root, hosted).await;
        over.cancel();
        // The panel reads the jobs once more when `over` is cancelled, and shows how the last ones ended.
        panel.await.ok();
        if let Some(recorder) = &self.recorder {
            recorder.write(&connection.operator, session, &self.screen).await?;
        }
        ended.map(|()| (session, status))
    }

    /// Puts the fleet's rate limits before the models.
    fn limit_models(&mut self, queue: &Queue) {
        let models = Arc::clone(&self.models);
        let models =
            Arc::new(RateLimitedModels::new(models, Arc::new(queue.clone()), Arc::clone(&self.policy)));
        self.tasks.spawn(TaskKind::Upkeep, Arc::clone(&models).return_forever());
        self.models = models;
    }

    /// Starts the guard process, which ends the commands of the root and of hosted jobs if this program is killed.
    fn guard(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.guard = connection.backend.guard(&self.tasks)?;
        let guard = self.guard.of_program();
        self.environment = Arc::new(Environment { guard, ..(*self.environment).clone() });
        Ok(())
    }

    /// Checks the API keys that are used on this machine: the root's, and with a hosted worker those of all agents that
    /// the root can dispatch to.
    fn check_keys(&self, hosts_worker: bool) -> Result<(), Failure> {
        if self.args.script.is_some() {
            return Ok(());
        }
        team_checks::check_keys(&self.team, &self.agent, hosts_worker, &self.environment)
    }

    fn root_options(&self) -> Result<RootOptions, Failure> {
        let digest = self.team.sha256().map_err(|error| Failure::usage(error.to_string()))?;
        let of_team = self.team.token_budget();
        check_prices(&self.agent, &self.team, &self.policy, [self.args.session_budget, None])?;
        Ok(RootOptions {
            agent: self.agent.clone(),
            team: TeamDigest(digest),
            team_json: Arc::clone(&self.team_json),
            session: self.args.limits.options(self.args.session_budget, of_team),
            terms: OwnerTerms {
                grace: self.args.owner_grace,
                on_end: if self.args.detach { SessionEnd::Keep } else { SessionEnd::Stop },
            },
            waits: !self.args.no_wait && !self.args.detach,
            working_dir: Some(self.environment.working_dir.display().to_string()),
            policy: Arc::clone(&self.policy),
            trace: self.context.trace(),
            approvals: self.args.approvals,
        })
    }

    /// The resources of a hosted worker: it shares models and guard with the root.
    fn host(&self) -> local_worker::LocalWorkerConfig {
        local_worker::LocalWorkerConfig {
            models: Arc::clone(&self.models),
            variables: self.context.variables.clone(),
            inherited: self.context.common.inherited(),
            needs_keys: self.args.script.is_none(),
            policy: Arc::clone(&self.policy),
            stall_after: self.context.common.stall_after,
            guard: self.guard.clone(),
        }
    }

    /// Asks on the terminal what the jobs ask, where the policy or the command line says so.
    fn ask_for_jobs(&self, connection: &Connection, session: SessionId, over: CancellationToken) {
        let approvals = self.args.approvals.unwrap_or(self.policy.approvals());
        let Some(terminal) = self.terminal.clone().filter(|_| approvals == Approvals::Ask) else { return };
        let (operator, screen) = (connection.operator.clone(), Arc::clone(&self.screen));
        self.tasks.spawn(TaskKind::Panel, ask_on_terminal(operator, session, terminal, screen, over));
    }

    /// Starts the panel of the session's jobs.
    fn follow(
        &self,
        connection: &Connection,
        session: SessionId,
        over: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let (screen, operator) = (Arc::clone(&self.screen), connection.operator.clone());
        self.tasks.spawn(TaskKind::Panel, async move { screen.follow(&operator, session, over).await })
    }

    /// Interrupts the run when the answer's pipe is closed, as Ctrl-C does: its jobs work for a reader that is gone.
    fn end_when_unread(&self, over: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (unread, drain) = (self.screen.unread.clone(), self.shutdown.drain.clone());
        async move {
            if over.run_until_cancelled(unread.cancelled()).await.is_some() {
                drain.cancel();
            }
        }
    }

    /// Answers the prompt of the command line, or without one each prompt that is typed.
    async fn converse(&self, root: &RootSession, prompt: Option<String>) -> Result<ExitStatus, Failure> {
        let Some(prompt) = prompt else { return self.prompt_loop(root).await };
        let prompt = self.expand_prompt(root, &self.agent, &prompt).await;
        let answered = self.answer(root, prompt, Conversation::new(&self.agent)).await;
        answered.failure.map_or(Ok(answered.status), Err)
    }

    /// The prompt that an agent gets for a user's `text`: a slash command is replaced with the agent's prompt of that
    /// name. What of it cannot be run is a warning.
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

    /// Prints the agent's welcome message, if it has one.
    fn welcome(&self) {
        let message = self.team.agent(&self.agent).and_then(|agent| agent.welcome_message.as_deref());
        if let Some(message) = message {
            self.screen.note(&self.environment.expanded(message));
        }
    }

    async fn prompt_loop(&self, root: &RootSession) -> Result<ExitStatus, Failure> {
        let terminal = self.terminal.clone().unwrap_or_else(|| Terminal::on(&self.screen));
        let mut so_far = Conversation::new(&self.agent);
        self.welcome();
        loop {
            self.screen.note("\nprompt (an empty line or Ctrl-D ends):");
            let line = tokio::select! {
                line = terminal.line() => line.filter(|line| !line.trim().is_empty()),
                () = self.shutdown.drain.cancelled() => None,
            };
            let Some(line) = line else { return Ok(ExitStatus::Success) };
            let prompt = self.expand_prompt(root, &so_far.agent, &line).await;
            so_far = self.answer(root, prompt, so_far).await;
            if let Some(failure) = so_far.failure.take() {
                // What was recorded stays: the next prompt continues from there.
                self.screen.note(failure.text(self.context.output.json).trim_end());
                continue;
            }
            if so_far.status != ExitStatus::Success {
                return Ok(so_far.status);
            }
        }
    }

    /// Answers the next prompt of a conversation: runs the agent from the recorded turns to the end of its turn. An agent
    /// that fails leaves the conversation with what it recorded, and with the failure.
    async fn answer(&self, root: &RootSession, prompt: String, mut so_far: Conversation) -> Conversation {
        so_far.add_prompt(prompt);
        let journal = Arc::new(ScreenJournal::new(
            Arc::clone(&self.screen),
            so_far.entries.clone(),
            self.recorder.is_some(),
        ));
        let assignment = Assignment {
            safety: None,
            team: Arc::clone(&self.team),
            agent: self.agent.clone(),
            opening: so_far.opening(),
            recorded: so_far.entries.clone(),
            budget: None,
            max_cost: None,
            prices: self.policy.prices(),
        };
        let ports = Ports {
            models: Arc::clone(&self.models),
            journal: Arc::clone(&journal) as _,
            background: Arc::clone(&root.service) as _,
            mailbox: Arc::clone(&root.service) as _,
            session_state: Arc::clone(&root.service) as _,
            person: self.terminal.clone().map(|terminal| terminal as _),
            environment: Arc::clone(&self.environment),
        };
        // A prompt continues the trace of this program, where it is part of one.
        let span =
            tracing::info_span!(target: SPAN_TARGET, "run", gen_ai.conversation.id = %root.owner.session());
        set_parent(&span, self.context.trace().as_ref());
        let running = legwork_agent::run(assignment, ports, self.shutdown.drain.clone()).instrument(span);
        let outcome = tokio::select! {
            outcome = Box::pin(running) => outcome,
            () = self.shutdown.now.cancelled() => Outcome::Stopped { usage: Usage::default() },
        };
        so_far.entries = journal.entries();
        if let Some(recorder) = &self.recorder {
            recorder.keep_root(&so_far.prompt, &so_far.entries);
        }
        if self.shutdown.now.is_cancelled() {
            return Conversation { status: ExitStatus::Interrupted, ..so_far };
        }
        self.screen.end_answer();
        let (status, failure) = match self.report(outcome) {
            Ok(status) => (status, None),
            Err(failure) => (failure.exit, Some(failure)),
        };
        let active = ActiveAgent::new(Arc::clone(&self.team), &self.agent, &so_far.entries);
        Conversation { status, failure, agent: active.name().to_owned(), ..so_far }
    }

    /// Reports how the agent's turn ended; a failure is the command's error.
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

    /// Ends the session. Its jobs have ended, or are stopped; with `--detach` they continue.
    ///
    /// After a second Ctrl-C only the stop is left to be written, within the grace period of the tasks. If Redis does not
    /// take it, the owner's grace runs out, and reapers end the session.
    async fn end(
        &self,
        connection: &Connection,
        root: &RootSession,
        hosted: Option<LocalWorker>,
    ) -> Result<(), Failure> {
        if self.shutdown.now.is_cancelled() {
            let owner = root.owner.clone();
            self.tasks.spawn(TaskKind::Upkeep, async move {
                if let Err(error) = owner.stop(Cause::Operator).await {
                    tracing::warn!(%error, "could not stop the session");
                }
            });
            return Ok(());
        }
        let interrupted = self.shutdown.drain.is_cancelled();
        if self.args.detach && !interrupted {
            if let Some(hosted) = hosted {
                hosted.hand_over().await;
            }
            root.detach().await?;
            self.note_continuation(connection, root.owner.session()).await?;
            return Ok(());
        }
        let outage = Outage::of(&self.context, connection);
        if interrupted || !outage.ask(|| root.service.is_settled()).await? {
            self.stop_all(connection, root, interrupted).await?;
        }
        outage.ask(|| root.owner.close()).await?;
        if let Some(hosted) = hosted {
            hosted.end().await;
        }
        Ok(())
    }

    /// Says what continues after `--detach`: the live jobs, and the commands that show them.
    async fn note_continuation(&self, connection: &Connection, session: SessionId) -> Result<(), Failure> {
        let jobs = connection.operator.session_jobs(session).await?.jobs;
        let live: Vec<_> = jobs.iter().filter(|job| !job.status.is_terminal()).collect();
        self.screen.note(&format!("session {session} continues in the background"));
        for job in &live {
            self.screen.note(&format!("  {} {} {}", job.id, job.agent, render::status(job)));
        }
        if let [job] = live.as_slice() {
            let command = suggest::command(&self.context, "legwork", &format!("view --follow {}", job.id));
            self.screen.note(&format!("to see its output: {command}"));
        } else {
            let command = suggest::command(&self.context, "legwork", &format!("list --session {session}"));
            self.screen.note(&format!("to see its jobs: {command}"));
        }
        Ok(())
    }

    /// Stops all jobs of the session and closes it; waits until they have ended, or until a second Ctrl-C.
    async fn stop_all(
        &self,
        connection: &Connection,
        root: &RootSession,
        interrupted: bool,
    ) -> Result<(), Failure> {
        let why = if interrupted { Cause::Operator } else { Cause::SessionEnd };
        let operator = &connection.operator;
        let outage = Outage::of(&self.context, connection);
        let stop = async {
            let session = outage.ask(|| root.owner.stop(why)).await?;
            outage.ask(|| operator.until_stopped(session)).await
        };
        tokio::select! {
            stopped = while_reaping(operator.queue(), stop) => stopped,
            () = self.shutdown.now.cancelled() => Ok(()),
        }
    }
}

/// A conversation with the root.
struct Conversation {
    /// How the last prompt was answered.
    status: ExitStatus,
    /// Why the last prompt was not answered, where its agent failed.
    failure: Option<Failure>,
    /// The agent that answers the next prompt: the root, or the agent that it handed the conversation to.
    agent: String,
    /// The first prompt.
    prompt: String,
    /// Everything recorded after the first prompt, later prompts included.
    entries: Vec<TurnEntry>,
}

impl Conversation {
    /// A conversation before its first prompt.
    fn new(agent: &str) -> Self {
        let (status, agent) = (ExitStatus::Success, agent.to_owned());
        Self { status, failure: None, agent, prompt: String::new(), entries: Vec::new() }
    }

    /// Adds a prompt: the first opens the conversation, later ones are delivered before the next turn.
    fn add_prompt(&mut self, prompt: String) {
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

/// Reclaims jobs of dead workers until `over`, as every long-lived process does.
async fn reap_until(queue: Queue, over: CancellationToken) {
    over.run_until_cancelled(reap_forever(queue, Tally::default())).await;
}
