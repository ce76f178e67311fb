//! What an attempt runs: an agent of a team, or nothing at all in a benchmark.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use legwork_agent::Assignment;
use legwork_agent::CostLimit;
use legwork_agent::Environment;
use legwork_agent::Opening;
use legwork_agent::Outcome;
use legwork_agent::Ports;
use legwork_agent::blocking::BlockingThreads;
use legwork_agent::environment::Confinement;
use legwork_agent::environment::Inherited;
use legwork_agent::environment::Variables;
use legwork_agent::journal::Journal as _;
use legwork_agent::journal::TurnEntry;
use legwork_agent::model::ModelPort;
use legwork_agent::person::Person;
use legwork_agent::preflight::preflight;
use legwork_agent::tool::ToolOutcome;
use legwork_agent::turn::Step;
use legwork_agent::turn::Transcript;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::money::Prices;
use legwork_common::money::SpendingLimit;
use legwork_common::secrets::Secrets;
use legwork_common::team::AgentKind;
use legwork_common::team::Team;
use legwork_common::variables::MCP_TOKEN;
use legwork_common::variables::NOTIFY_SOCKET;
use legwork_common::variables::REDIS_URL;
use legwork_common::variables::TRACEPARENT;
use legwork_common::variables::WEBHOOK_SECRET;
use legwork_common::variables::WEBHOOK_SECRET_FILE;
use legwork_queue::port::Claimed;
use tokio_util::sync::CancellationToken;

use crate::guard::ControlGroups;
use crate::guard::Guard;
use crate::guard::Restrictions;
use crate::guard::RunGroup;
use crate::guard::Sandbox;
use crate::job_folders::JobFolders;
use crate::journal::AttemptJournal;
use crate::parking::ParkingService;
use crate::permits::Permits;

/// Everything that one run of an attempt needs.
#[derive(Debug)]
pub struct Run {
    /// The claimed job.
    pub claimed: Arc<Claimed>,
    /// Its team; `None` where it was pruned.
    pub team: Option<Arc<Team>>,
    /// The turn entries of earlier attempts and runs; the agent resumes after them.
    pub recorded: Vec<TurnEntry>,
    /// Turns that are finished, over all attempts.
    pub finished_turns: u32,
    /// What this run follows.
    pub follows: Follows,
    /// Where the agent writes.
    pub journal: Arc<AttemptJournal>,
    /// The background agents, session state and mail that the agent sees.
    pub background: Arc<ParkingService>,
    /// What models cost whose agent file does not say.
    pub prices: Prices,
    /// Who answers its questions; `None` where they are refused.
    pub person: Option<Arc<dyn Person>>,
    /// Every await of the run selects on it: cancelled to suspend the run, and to end the attempt.
    pub cancel: CancellationToken,
}

/// What a run of an attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nothing in this attempt: it is the first run.
    Nothing,
    /// A run that was suspended.
    Suspension,
    /// A run that completed while a message was on its way to it.
    Completion,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// The agent ran, with this outcome.
    Ended(Outcome),
    /// This worker lacks what the job needs, such as a key or a folder; the text says what. Another worker may have it.
    Lacks(String),
}

/// Runs attempts. The benchmark has a runner of its own.
#[async_trait]
pub trait Runner: Debug + Send + Sync {
    /// Whether the team and the recorded turns are to be read before each run.
    fn wants_team(&self) -> bool {
        true
    }

    /// Whether its agents hear mail that is sent to them while they run. `team` is what the run would be given.
    fn hears_mail(&self, _claimed: &Claimed, _team: Option<&Team>) -> bool {
        false
    }

    /// Runs one attempt until it ends or `run.cancel` is cancelled. Once it returns, no process and no request of the run
    /// is left.
    async fn run(&self, run: Box<Run>) -> RunEnd;
}

/// The folder that a job runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkDir {
    /// The working directory of its dispatcher, which is on the same machine.
    Dispatchers,
    /// A folder of its own, created by its first attempt on this machine.
    Own(JobFolders),
    /// This one folder for all jobs.
    Shared(PathBuf),
}

impl WorkDir {
    /// The folder of a job, which exists then; `of_dispatcher` is the one that the job was dispatched in. The error says what
    /// this worker lacks.
    fn of_job(&self, job: JobId, of_dispatcher: Option<String>) -> Result<PathBuf, String> {
        let folder = match self {
            Self::Shared(folder) => folder.clone(),
            Self::Own(folders) => folders
                .create(job)
                .map_err(|error| format!("the folder of {job} cannot be created: {error}"))?,
            Self::Dispatchers => PathBuf::from(of_dispatcher.ok_or("the job names no working directory")?),
        };
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(format!("the working directory {} does not exist here", folder.display()))
        }
    }
}

/// Runs the agents of teams.
#[derive(Debug)]
pub struct AgentRunner {
    /// The models that agents call.
    pub models: Arc<dyn ModelPort>,
    /// What agents get of the worker's environment.
    pub variables: AgentVariables,
    /// Which of it their commands get without asking.
    pub inherited: Inherited,
    /// What is run at all.
    pub permits: Permits,
    /// Without a sandbox and a user, commands and file tools reach what this program reaches. With a sandbox: the folder of
    /// their job, what a system has for everyone, and what this adds.
    pub restrictions: Restrictions,
    /// Where the limits on the commands of each run are set; `None` for no limits.
    pub control_groups: Option<ControlGroups>,
    /// The folders that jobs run in.
    pub work_dir: WorkDir,
    /// Whether the models need the keys of their providers. A script's do not.
    pub needs_keys: bool,
    /// Kills the commands of jobs if this program cannot.
    pub guard: Guard,
}

impl AgentRunner {
    /// The environment of one run, and the control group of its commands. The error says what this worker lacks for it.
    async fn environment(&self, claimed: &Claimed) -> Result<(Environment, Option<Arc<RunGroup>>), String> {
        let blocking = BlockingThreads::default();
        let (work_dir, job) = (self.work_dir.clone(), claimed.lease.id);
        let of_dispatcher = claimed.spec.working_dir.clone();
        let control_groups = self.control_groups.clone();
        let places = move || -> Result<(PathBuf, Option<Arc<RunGroup>>), String> {
            let folder = work_dir.of_job(job, of_dispatcher)?;
            let group = control_groups.map(|groups| groups.of_run(job)).transpose();
            Ok((folder, group.map_err(|refused| format!("no control group for its commands: {refused}"))?))
        };
        // A file system that hangs holds this attempt, which can be stopped, and not the worker.
        let finding = move || places().map_err(ToolOutcome::error);
        let (folder, group) = blocking.run(finding).await.map_err(|failed| failed.text)?;
        let (restrictions, confinement) = self.restrictions(&folder);
        let restrictions = Restrictions { group: group.clone(), ..restrictions };
        let guard = self.guard.of_job(claimed.lease.id, restrictions);
        let mut environment = for_agents(&self.variables, self.inherited, folder);
        // The job's trace takes the place of the worker's own.
        match &claimed.spec.trace {
            Some(trace) => environment.variables.insert(TRACEPARENT.to_owned(), trace.to_string()),
            None => environment.variables.remove(TRACEPARENT),
        }
        Ok((Environment { guard, confinement, blocking, ..environment }, group))
    }
}

impl AgentRunner {
    /// What the commands of a job in `folder` enter before they begin, and what its file tools reach.
    fn restrictions(&self, folder: &Path) -> (Restrictions, Option<Confinement>) {
        let Restrictions { sandbox, user, group } = self.restrictions.clone();
        let is_confined = sandbox.is_some() || user.is_some();
        let readable = sandbox.as_ref().map(|common| common.readable.clone()).unwrap_or_default();
        // Another user's commands have their home there too, and files are opened with that user's rights.
        let confinement =
            is_confined.then(|| Confinement { folder: folder.to_owned(), readable, user: user.clone() });
        let sandbox = sandbox.map(|common| Sandbox { writable: vec![folder.to_owned()], ..common });
        (Restrictions { sandbox, user, group }, confinement)
    }

    /// The agent of a run, with all that it is given. The error is the end of a run that cannot begin here, or at all.
    async fn begin(&self, run: Box<Run>) -> Result<Begun, RunEnd> {
        let usage = Usage::default();
        let rejected =
            |message: String| RunEnd::Ended(Outcome::Failed { cause: Cause::Rejected, message, usage });
        let Some(team) = run.team else {
            return Err(rejected("the job's team is no longer stored".to_owned()));
        };
        let spec = &run.claimed.spec;
        let Some(agent) = team.agent(&spec.agent) else {
            return Err(rejected(format!("the team has no agent `{}`", spec.agent)));
        };
        if let Err(unpermitted) = self.permits.check(&team, agent) {
            return Err(RunEnd::Lacks(unpermitted.lacking()));
        }
        let (environment, group) = match run.cancel.run_until_cancelled(self.environment(&run.claimed)).await
        {
            Some(found) => found.map_err(RunEnd::Lacks)?,
            None => return Err(RunEnd::Ended(Outcome::Stopped { usage })),
        };
        if self.needs_keys
            && let Err(missing) = preflight(agent, &environment)
        {
            return Err(RunEnd::Lacks(missing.to_string()));
        }
        if let Some(line) = continuation(run.claimed.attempt, run.follows, run.finished_turns + 1) {
            if is_at_rest(&run.recorded) {
                // The agent may never write again.
                run.journal.set_heading(line);
            } else if run.journal.output(&line).await.is_err() {
                return Err(RunEnd::Ended(Outcome::Lost));
            }
        }
        let assignment = Assignment {
            recorded: run.recorded,
            prices: run.prices,
            ..assignment(&run.claimed, Arc::clone(&team))
        };
        let ports = Ports {
            models: Arc::clone(&self.models),
            journal: run.journal,
            background: Arc::clone(&run.background) as _,
            session_state: Arc::clone(&run.background) as _,
            mailbox: run.background,
            person: run.person,
            environment: Arc::new(environment),
        };
        let agent = Box::pin(legwork_agent::run(assignment, ports, run.cancel));
        Ok(Begun { agent, commands: Commands(group) })
    }
}

/// An agent that runs once it is polled.
struct Begun {
    agent: BoxFuture<'static, Outcome>,
    commands: Commands,
}

/// What a job's agent is to do, from its beginning.
fn assignment(claimed: &Claimed, team: Arc<Team>) -> Assignment {
    let spec = &claimed.spec;
    let pot = || format!("job.{}", claimed.lease.id.uuid());
    Assignment {
        agent: spec.agent.clone(),
        team,
        opening: Opening::Delegated {
            task: spec.task.clone(),
            expected_output: spec.expected_output.clone(),
        },
        recorded: Vec::new(),
        budget: spec.budget.and_then(SpendingLimit::tokens),
        max_cost: spec.budget.and_then(SpendingLimit::money).map(|max| CostLimit { pot: pot(), max }),
        prices: Prices::default(),
        safety: spec.safety,
    }
}

/// The line between the output of earlier attempts or runs and what follows; `None` for a job's first run.
fn continuation(attempt: u32, follows: Follows, turn: u32) -> Option<String> {
    match (attempt, follows) {
        // As between the turns of one run.
        (_, Follows::Completion) => Some("\n\n".to_owned()),
        (_, Follows::Suspension) => {
            Some(format!("\n[attempt {attempt} was suspended and resumes from turn {turn}]\n"))
        }
        (0 | 1, Follows::Nothing) => None,
        (_, Follows::Nothing) => Some(format!("\n[attempt {attempt} resumes from turn {turn}]\n")),
    }
}

/// Whether the agent has nothing more to do for now: only its end is to be recorded, or its jobs are to be waited for.
fn is_at_rest(recorded: &[TurnEntry]) -> bool {
    matches!(Transcript::new(Vec::new(), recorded).next(None), Step::Finish { .. })
}

/// What agents get of a program's variables: all but the Redis URL and the bearer token of our own server, which would give
/// access to every job of the fleet, what signs notifications, and the service manager's socket. Its secrets are those of the
/// program. Cheap to clone, because each job has them.
#[derive(Debug, Clone, Default)]
pub struct AgentVariables {
    variables: Variables,
    secrets: Arc<Secrets>,
}

impl From<BTreeMap<String, String>> for AgentVariables {
    fn from(mut variables: BTreeMap<String, String>) -> Self {
        let secrets = Arc::new(Secrets::of(&variables));
        for name in [REDIS_URL, MCP_TOKEN, WEBHOOK_SECRET, WEBHOOK_SECRET_FILE, NOTIFY_SOCKET] {
            variables.remove(name);
        }
        Self { variables: variables.into(), secrets }
    }
}

/// The environment of agents, of which their commands get what `inherited` says.
pub fn for_agents(variables: &AgentVariables, inherited: Inherited, working_dir: PathBuf) -> Environment {
    let AgentVariables { variables, secrets } = variables.clone();
    Environment { variables, inherited, secrets, ..Environment::new(BTreeMap::new(), working_dir) }
}

#[async_trait]
impl Runner for AgentRunner {
    fn hears_mail(&self, claimed: &Claimed, team: Option<&Team>) -> bool {
        // A program is given its task and no more.
        let agent = team.and_then(|team| team.agent(&claimed.spec.agent));
        agent.is_some_and(|agent| !matches!(agent.kind, AgentKind::Command { .. }))
    }

    async fn run(&self, run: Box<Run>) -> RunEnd {
        // In a box of its own: what a run needs to begin is freed before it waits for its model.
        match Box::pin(self.begin(run)).await {
            Ok(Begun { agent, commands }) => {
                let outcome = agent.await;
                Box::pin(commands.end()).await;
                RunEnd::Ended(outcome)
            }
            Err(end) => end,
        }
    }
}

/// The commands of a run, which end with it: also where it is dropped, as at a second signal, and tools that do not end still
/// have the group.
struct Commands(Option<Arc<RunGroup>>);

impl Commands {
    /// Ends what they have left in their control group.
    async fn end(self) {
        if let Some(group) = &self.0 {
            group.end().await;
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.end_at_once();
        }
    }
}

/// Runs nothing: a job completes as soon as it starts. For benchmarks of the queue itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoopRunner;

#[async_trait]
impl Runner for NoopRunner {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, _run: Box<Run>) -> RunEnd {
        RunEnd::Ended(Outcome::Completed { result: String::new(), usage: Usage::default() })
    }
}

#[cfg(test)]
mod tests {
    use legwork_agent::message::AssistantMessage;
    use legwork_agent::message::ToolCall;

    use super::*;

    fn reply(calls: &[&str]) -> TurnEntry {
        let call = |name: &&str| ToolCall {
            id: "1".into(),
            name: (*name).into(),
            arguments: "{}".into(),
            thought_signature: None,
        };
        let tool_calls = calls.iter().map(call).collect();
        let message =
            AssistantMessage { text: "words".to_owned(), tool_calls, ..AssistantMessage::default() };
        TurnEntry::Reply { turn: 1, message }
    }

    #[test]
    fn a_line_separates_a_resumed_run_from_earlier_output() {
        assert_eq!(continuation(1, Follows::Nothing, 1), None);
        assert_eq!(
            continuation(2, Follows::Nothing, 1).as_deref(),
            Some("\n[attempt 2 resumes from turn 1]\n")
        );
        let resumed = continuation(1, Follows::Suspension, 1);
        assert_eq!(resumed.as_deref(), Some("\n[attempt 1 was suspended and resumes from turn 1]\n"));
    }

    #[test]
    fn an_agent_without_open_calls_or_mail_is_at_rest() {
        assert!(is_at_rest(&[reply(&[])]));
        assert!(!is_at_rest(&[reply(&["shell"])]));
        assert!(!is_at_rest(&[]));
        let delivered = TurnEntry::Delivered { turn: 2, mail: Vec::new(), text: "news".into() };
        assert!(!is_at_rest(&[reply(&[]), delivered]));
    }
}
