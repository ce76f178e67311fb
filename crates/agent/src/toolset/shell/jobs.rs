//! The shell's background jobs: commands that outlive the call that started them, but not the run.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use legwork_common::duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::End;
use super::Process;
use super::Shell;
use super::refuse_empty;
use super::seconds;
use crate::tool::ToolOutcome;
use crate::toolset::MAX_RESULT_BYTES;
use crate::toolset::boundary;

/// All jobs of the run, oldest first. Ended ones stay, so that the model can read their output.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: Vec<Job>,
}

#[derive(Debug, Clone)]
struct Job {
    id: String,
    command: String,
    working_dir: PathBuf,
    process: Process,
    started: Instant,
    /// When a call first noticed that the process had exited. The runtime stops counting then.
    end_seen_at: Option<Instant>,
    /// Whether the model stopped it.
    stopped: bool,
}

impl Job {
    fn status(&self) -> &'static str {
        match self.process.end() {
            None => "running",
            Some(_) if self.stopped => "stopped",
            Some(End { status: Some(status) }) if status.success() => "completed",
            Some(_) => "failed",
        }
    }

    fn runtime(&self) -> Duration {
        self.end_seen_at.unwrap_or_else(Instant::now).duration_since(self.started)
    }

    fn exit_code(&self) -> Option<i32> {
        self.process.end()?.status?.code()
    }
}

impl Shell {
    /// Locks the jobs, and notes which of them have exited.
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for job in &mut jobs.all {
            if job.process.end().is_some() {
                job.end_seen_at.get_or_insert_with(Instant::now);
            }
        }
        jobs
    }

    /// Starts a job and returns immediately.
    pub(super) fn run_job(&self, cmd: String, cwd: Option<String>) -> Result<ToolOutcome, ToolOutcome> {
        refuse_empty(&cmd)?;
        let process = self
            .start(&cmd, cwd.as_deref())
            .map_err(|error| ToolOutcome::error(format!("Error starting background command: {error}")))?;
        let mut jobs = self.jobs();
        let job = Job {
            id: format!("job_{}_{}", Timestamp::now().as_second(), jobs.all.len() + 1),
            command: cmd,
            working_dir: self.environment.resolve(cwd.as_deref().unwrap_or("")),
            process,
            started: Instant::now(),
            end_seen_at: None,
            stopped: false,
        };
        let text = format!(
            "Background job started with ID: {}\nCommand: {}\nWorking directory: {}",
            job.id,
            job.command,
            job.working_dir.display()
        );
        jobs.all.push(job);
        Ok(ToolOutcome::ok(text))
    }

    pub(super) fn list_jobs(&self) -> String {
        let jobs = self.jobs();
        let mut text = "Background Jobs:\n\n".to_owned();
        if jobs.all.is_empty() {
            text.push_str("No background jobs found.\n");
        }
        for job in &jobs.all {
            let runtime = duration::short(job.runtime());
            let _ = writeln!(
                text,
                "ID: {}\n  Command: {}\n  Status: {}\n  Runtime: {runtime}",
                job.id,
                job.command,
                job.status()
            );
            if let Some(code) = job.exit_code() {
                let _ = writeln!(text, "  Exit Code: {code}");
            }
            text.push('\n');
        }
        text
    }

    pub(super) fn view_job(&self, id: &str) -> Result<ToolOutcome, ToolOutcome> {
        let job = self.job(id)?;
        let mut text = format!(
            "Job ID: {}\nCommand: {}\nStatus: {}\nRuntime: {}\n",
            job.id,
            job.command,
            job.status(),
            duration::short(job.runtime())
        );
        if let Some(code) = job.exit_code() {
            let _ = writeln!(text, "Exit Code: {code}");
        }
        text.push_str("\n--- Output ---\n");
        text.push_str(&tail(&job.process.text()));
        if job.process.capture().truncated {
            text.push_str("\n\n[Output truncated at 10MB limit]");
        }
        Ok(ToolOutcome::ok(text))
    }

    /// Ends the job's process group and waits until it has exited.
    pub(super) async fn stop_job(&self, id: &str) -> Result<ToolOutcome, ToolOutcome> {
        let mut job = self.job(id)?;
        if job.process.end().is_some() {
            let status = job.status();
            return Err(ToolOutcome::error(format!("Job {id} is not running (current status: {status})")));
        }
        // Marked before the signal, so that no concurrent call sees the killed process as failed.
        if let Some(stored) = self.jobs().all.iter_mut().find(|stored| stored.id == job.id) {
            stored.stopped = true;
        }
        job.process.stop.cancel();
        job.process.ended().await;
        Ok(ToolOutcome::ok(format!("Job {id} stopped successfully")))
    }

    /// Waits until the job has exited, and shows it. After `limit` it is shown as it is, and runs on. Dropping the future
    /// changes nothing about the job.
    pub(super) async fn wait_job(
        &self,
        id: &str,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<ToolOutcome, ToolOutcome> {
        let mut job = self.job(id)?;
        let ended = async { timeout(limit, job.process.ended()).await.is_ok() };
        let Some(has_ended) = cancel.run_until_cancelled(ended).await else {
            return Err(ToolOutcome::error("Call cancelled"));
        };
        let shown = self.view_job(id)?;
        if has_ended {
            return Ok(shown);
        }
        let waited = seconds(limit);
        Ok(ToolOutcome::ok(format!(
            "{}\n\n[still running after {waited}; the job was not stopped]",
            shown.text
        )))
    }

    /// A copy of the job; its process handle is shared.
    fn job(&self, id: &str) -> Result<Job, ToolOutcome> {
        let found = self.jobs().all.iter().find(|job| job.id == id).cloned();
        found.ok_or_else(|| ToolOutcome::error(format!("Job not found: {id}")))
    }
}

/// The last [`MAX_RESULT_BYTES`] of a job's output: what it does now matters more than how it began.
fn tail(output: &str) -> String {
    if output.is_empty() {
        return "<no output>\n".to_owned();
    }
    let start = boundary(output, output.len().saturating_sub(MAX_RESULT_BYTES));
    if start == 0 {
        output.to_owned()
    } else {
        format!("[output from byte {start} of {}]\n{}", output.len(), &output[start..])
    }
}
