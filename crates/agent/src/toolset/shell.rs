//! `shell`: commands of the user's shell, in the foreground and as background jobs.
//!
//! Every command is a process group of its own and ends with the run at the latest.

mod jobs;
mod specs;

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::MissingVariable;
use legwork_common::team::StringMap;
use serde::Deserialize;
use serde_json::Value;

use self::jobs::Jobs;
use super::Kit;
use super::foreground;
use super::foreground::CommandEnd;
use super::schema;
use crate::environment::Environment;
use crate::process::End;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::describe_exit;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The timeout of a command where the model sets none: docker-agent's.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a job is waited for where the model does not say: docker-agent's.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// The longest timeout of a command: a week. Without a bound, a huge value would overflow the timer's deadline.
const MAX_TIMEOUT_SECONDS: f64 = 604_800.0;

/// The toolset. `variables` override the environment's.
///
/// # Errors
///
/// [`MissingVariable`] where a value refers to a variable that is not set.
pub(crate) fn open(
    environment: Arc<Environment>,
    variables: &StringMap,
    nursery: Nursery,
) -> Result<Kit, MissingVariable> {
    let variables = environment.variables_with(variables)?;
    let shell = Arc::new(Shell { environment, variables, nursery, jobs: Mutex::default() });
    let tool = |(action, spec)| ShellTool { spec, action, shell: Arc::clone(&shell) };
    Ok(Kit::new(specs::all().map(tool)).with_instruction(specs::INSTRUCTION))
}

/// What the tools of one run share.
#[derive(Debug)]
struct Shell {
    environment: Arc<Environment>,
    variables: BTreeMap<String, String>,
    nursery: Nursery,
    jobs: Mutex<Jobs>,
}

impl Shell {
    /// Starts a command in `cwd`, which may be relative to the working folder.
    fn start(&self, text: &str, cwd: Option<&str>) -> std::io::Result<Process> {
        let folder = self.environment.resolve(cwd.unwrap_or("."));
        Process::start(foreground::command(&self.nursery, text, &folder, &self.variables), &self.nursery)
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Shell,
    RunJob,
    ListJobs,
    ViewJob,
    StopJob,
    WaitJob,
}

#[derive(Debug)]
struct ShellTool {
    spec: ToolSpec,
    action: Action,
    shell: Arc<Shell>,
}

#[derive(Deserialize)]
struct ForegroundArguments {
    #[serde(default)]
    cmd: String,
    cwd: Option<String>,
    /// In seconds.
    timeout: Option<f64>,
}

#[derive(Deserialize)]
struct BackgroundArguments {
    #[serde(default)]
    cmd: String,
    cwd: Option<String>,
}

#[derive(Deserialize)]
struct JobArguments {
    job_id: String,
}

#[derive(Deserialize)]
struct WaitArguments {
    job_id: String,
    /// In seconds.
    timeout: Option<f64>,
}

impl ShellTool {
    async fn act(&self, arguments: Value, context: &ToolContext) -> Result<ToolOutcome, ToolOutcome> {
        let shell = &self.shell;
        match self.action {
            Action::Shell => shell.foreground(schema::parse(&self.spec, arguments)?, context).await,
            Action::RunJob => {
                let BackgroundArguments { cmd, cwd } = schema::parse(&self.spec, arguments)?;
                shell.run_job(cmd, cwd)
            }
            Action::ListJobs => Ok(ToolOutcome::ok(shell.list_jobs())),
            Action::ViewJob => {
                let JobArguments { job_id } = schema::parse(&self.spec, arguments)?;
                shell.view_job(&job_id)
            }
            Action::StopJob => {
                let JobArguments { job_id } = schema::parse(&self.spec, arguments)?;
                shell.stop_job(&job_id).await
            }
            Action::WaitJob => {
                let WaitArguments { job_id, timeout } = schema::parse(&self.spec, arguments)?;
                shell.wait_job(&job_id, limit(timeout, DEFAULT_WAIT), &context.cancel).await
            }
        }
    }
}

impl Shell {
    /// Runs a command and waits for it. A failed command is a good outcome whose text says so, as in docker-agent: the
    /// model reads the output either way.
    async fn foreground(
        &self,
        arguments: ForegroundArguments,
        context: &ToolContext,
    ) -> Result<ToolOutcome, ToolOutcome> {
        let ForegroundArguments { cmd, cwd, timeout } = arguments;
        refuse_empty(&cmd)?;
        let limit = limit(timeout, DEFAULT_TIMEOUT);
        let mut process = self
            .start(&cmd, cwd.as_deref())
            .map_err(|error| ToolOutcome::error(format!("Error starting command: {error}")))?;
        let text = match foreground::finish(&mut process, limit, &context.cancel).await {
            CommandEnd::Ended(end) => finished(end.status, &process.text()),
            CommandEnd::TimedOut => {
                let output = process.text();
                format!("Command timed out after {}\nOutput: {output}", seconds(limit))
            }
            CommandEnd::Cancelled => "Command cancelled".to_owned(),
        };
        Ok(ToolOutcome::ok(text))
    }
}

/// The timeout that a model set in seconds.
fn limit(timeout: Option<f64>, default: Duration) -> Duration {
    let set = timeout.filter(|&seconds| seconds > 0.0);
    set.map_or(default, |seconds| Duration::from_secs_f64(seconds.min(MAX_TIMEOUT_SECONDS)))
}

fn refuse_empty(cmd: &str) -> Result<(), ToolOutcome> {
    if cmd.trim().is_empty() { Err(ToolOutcome::error("Error: empty command")) } else { Ok(()) }
}

/// The result text of a command that exited.
fn finished(status: Option<ExitStatus>, output: &str) -> String {
    match status {
        Some(status) if status.success() => or_no_output(output),
        _ => format!("Error executing command: {}\nOutput: {output}", describe_exit(status)),
    }
}

/// The output, or docker-agent's placeholder where it is blank.
pub(super) fn or_no_output(output: &str) -> String {
    if output.trim().is_empty() { "<no output>".to_owned() } else { output.to_owned() }
}

/// `30s`, `0.5s`.
fn seconds(limit: Duration) -> String {
    format!("{}s", limit.as_secs_f64())
}

#[async_trait]
impl Tool for ShellTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        self.act(arguments, context).await.unwrap_or_else(|error| error)
    }

    fn is_overview(&self) -> bool {
        matches!(self.action, Action::ListJobs)
    }
}

#[cfg(test)]
mod tests;
