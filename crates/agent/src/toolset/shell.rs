//! `shell`: commands in the foreground, and jobs in the background.
//!
//! Every command is a process group of its own, and none outlives the run.

mod jobs;
mod specs;

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::MissingVariable;
use legwork_common::team::TextMap;
use serde::Deserialize;
use serde_json::Value;

use self::jobs::Jobs;
use super::Kit;
use super::foreground;
use super::foreground::Over;
use super::limited;
use super::schema;
use crate::environment::Environment;
use crate::process::End;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::described;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// How long a command may take where the model does not say.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command may take at most: a week, so that no sum of times overflows.
const LONGEST: f64 = 604_800.0;

/// The toolset. `variables` win over the environment's.
///
/// # Errors
///
/// [`MissingVariable`] where a value names a variable that is not set.
pub(crate) fn kit(
    environment: Arc<Environment>,
    variables: &TextMap,
    nursery: Nursery,
) -> Result<Kit, MissingVariable> {
    let variables = environment.variables_with(variables)?;
    let shell = Arc::new(Shell { environment, variables, nursery, jobs: Mutex::default() });
    let tool =
        |(action, spec)| Arc::new(ShellTool { spec, action, shell: Arc::clone(&shell) }) as Arc<dyn Tool>;
    let tools = specs::all().into_iter().map(tool).collect();
    Ok(Kit { tools, ..Kit::default() })
}

/// The user's shell, and what runs in the background.
#[derive(Debug)]
struct Shell {
    environment: Arc<Environment>,
    variables: BTreeMap<String, String>,
    nursery: Nursery,
    jobs: Mutex<Jobs>,
}

impl Shell {
    /// Starts a command of the user's shell.
    fn start(&self, text: &str, cwd: Option<&str>) -> std::io::Result<Process> {
        let folder = self.environment.resolve(cwd.unwrap_or("."));
        Process::start(foreground::command(&self.nursery, text, &folder, &self.variables), &self.nursery)
    }
}

/// Which of the tools.
#[derive(Debug, Clone, Copy)]
enum Action {
    Shell,
    RunJob,
    ListJobs,
    ViewJob,
    StopJob,
}

#[derive(Debug)]
struct ShellTool {
    spec: ToolSpec,
    action: Action,
    shell: Arc<Shell>,
}

#[derive(Deserialize)]
struct Foreground {
    #[serde(default)]
    cmd: String,
    cwd: Option<String>,
    timeout: Option<f64>,
}

#[derive(Deserialize)]
struct Background {
    #[serde(default)]
    cmd: String,
    cwd: Option<String>,
}

#[derive(Deserialize)]
struct OneJob {
    job_id: String,
}

impl ShellTool {
    async fn act(&self, arguments: Value, context: &ToolContext) -> Result<ToolOutcome, ToolOutcome> {
        let shell = &self.shell;
        match self.action {
            Action::Shell => shell.foreground(schema::read(&self.spec, arguments)?, context).await,
            Action::RunJob => {
                let Background { cmd, cwd } = schema::read(&self.spec, arguments)?;
                shell.run_job(cmd, cwd)
            }
            Action::ListJobs => Ok(ToolOutcome::ok(shell.list_jobs())),
            Action::ViewJob => {
                let OneJob { job_id } = schema::read(&self.spec, arguments)?;
                shell.view_job(&job_id)
            }
            Action::StopJob => {
                let OneJob { job_id } = schema::read(&self.spec, arguments)?;
                shell.stop_job(&job_id).await
            }
        }
    }
}

impl Shell {
    async fn foreground(
        &self,
        arguments: Foreground,
        context: &ToolContext,
    ) -> Result<ToolOutcome, ToolOutcome> {
        let Foreground { cmd, cwd, timeout } = arguments;
        if cmd.trim().is_empty() {
            return Err(ToolOutcome::error("Error: empty command"));
        }
        let limit = timeout.filter(|&seconds| seconds > 0.0);
        let limit = limit.map_or(TIMEOUT, |seconds| Duration::from_secs_f64(seconds.min(LONGEST)));
        let mut process = self
            .start(&cmd, cwd.as_deref())
            .map_err(|error| ToolOutcome::error(format!("Error starting command: {error}")))?;
        let text = match foreground::finish(&mut process, Some(limit), &context.cancel).await {
            Over::Ended(end) => finished(end.status, &process.capture().text()),
            Over::TimedOut => {
                let output = process.capture().text();
                format!("Command timed out after {}\nOutput: {output}", seconds(limit))
            }
            Over::Cancelled => "Command cancelled".to_owned(),
        };
        Ok(ToolOutcome::ok(limited(text)))
    }
}

/// The answer for a command that ended by itself.
fn finished(status: Option<ExitStatus>, output: &str) -> String {
    match status {
        Some(status) if status.success() => or_no_output(output),
        _ => format!("Error executing command: {}\nOutput: {output}", described(status)),
    }
}

/// The output, or that there is none.
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
        self.act(arguments, context).await.unwrap_or_else(|refused| refused)
    }
}

#[cfg(test)]
mod tests;
