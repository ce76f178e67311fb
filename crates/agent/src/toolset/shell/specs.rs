//! What models are told of the shell's tools.

use serde_json::json;

use super::Action;
use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// Every tool with its description.
pub(super) fn all() -> [(Action, ToolSpec); 5] {
    let text = || json!({"type": "string"});
    let cwd = "The folder to run it in; where nothing is said, the working folder";
    let job = || Schema::new().required("job_id", text(), "The id of the background job");
    let timeout = json!({"type": "number", "exclusiveMinimum": 0});
    [
        (
            Action::Shell,
            schema::writing(
                "shell",
                "Run a command of the user's shell and wait for it. Answers with its output, standard error \
                 included. For servers and long work use run_background_job.",
                Schema::new().required("cmd", text(), "The command").optional("cwd", text(), cwd).optional(
                    "timeout",
                    timeout,
                    "Seconds that it may take; 30 where nothing is said",
                ),
            ),
        ),
        (
            Action::RunJob,
            schema::writing(
                "run_background_job",
                "Start a command of the user's shell in the background. Returns at once with the job's id. The \
                 job ends with this agent.",
                Schema::new().required("cmd", text(), "The command").optional("cwd", text(), cwd),
            ),
        ),
        (
            Action::ListJobs,
            schema::reading(
                "list_background_jobs",
                "List the background jobs with their status",
                Schema::new(),
            ),
        ),
        (
            Action::ViewJob,
            schema::reading(
                "view_background_job",
                "Show the status of a background job and its output so far",
                job(),
            ),
        ),
        (
            Action::StopJob,
            schema::writing("stop_background_job", "Stop a background job and all that it started", job()),
        ),
    ]
}
