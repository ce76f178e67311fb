//! The specs of the shell tools.

use serde_json::json;

use super::Action;
use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// The system message of the toolset.
pub(super) const INSTRUCTION: &str = "\
## Shell

- Each call of shell starts a new session: variables, functions and the current folder do not last to the next call. Pass \
the folder as cwd instead of using cd.
- A command may take 30 seconds. Set timeout for one that needs longer, such as a build or a test run; it is ended when \
the time is over.
- Use pipes, redirections and here-documents to do several steps in one call.
- A command that fails returns its exit status together with its output.

### Background jobs

Start what keeps running, such as a server or a watcher, with run_background_job. Up to 10 MB of the output of each job \
are kept. All jobs end when you do.";

pub(super) fn all() -> impl Iterator<Item = (Action, ToolSpec)> {
    starting().into_iter().chain(of_jobs())
}

/// The tools that start a command.
fn starting() -> [(Action, ToolSpec); 2] {
    let command = || {
        let cwd = "The folder to run it in; the working folder by default";
        Schema::new().required("cmd", schema::string(), "The command").optional("cwd", schema::string(), cwd)
    };
    let timeout = json!({"type": "number", "exclusiveMinimum": 0});
    [
        (
            Action::Shell,
            schema::writing(
                "shell",
                "Run a command in the user's shell and wait for it. Returns its standard output and standard error. \
                 For servers and long work use run_background_job.",
                command().optional("timeout", timeout, "The most seconds that it may take; 30 by default"),
            ),
        ),
        (
            Action::RunJob,
            schema::writing(
                "run_background_job",
                "Start a command in the user's shell in the background. Returns the job's id immediately. The job \
                 ends when this agent does.",
                command(),
            ),
        ),
    ]
}

/// The tools for background jobs that run or have ended.
fn of_jobs() -> [(Action, ToolSpec); 4] {
    let job = || Schema::new().required("job_id", schema::string(), "The id of the background job");
    let wait = json!({"type": "number", "exclusiveMinimum": 0});
    [
        (
            Action::ListJobs,
            schema::read_only(
                "list_background_jobs",
                "List the background jobs with their status",
                Schema::new(),
            ),
        ),
        (
            Action::ViewJob,
            schema::read_only(
                "view_background_job",
                "Show the status of a background job and its output so far",
                job(),
            ),
        ),
        (
            Action::StopJob,
            schema::writing(
                "stop_background_job",
                "Stop a background job and all processes that it started",
                job(),
            ),
        ),
        (
            Action::WaitJob,
            schema::read_only(
                "wait_background_job",
                "Wait until a background job has ended, and show its output. The job keeps running after the timeout.",
                job().optional("timeout", wait, "The most seconds to wait; 60 by default"),
            ),
        ),
    ]
}
