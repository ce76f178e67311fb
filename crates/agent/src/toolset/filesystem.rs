//! `filesystem`: reads, writes, lists and searches files and folders. Relative paths start at the working folder, and
//! any path that the process can reach is allowed, unless the toolset has lists (`reach.rs`).
//!
//! The work runs on threads that may block. A dropped call stops a search, and completes a write that has begun.

mod edit;
mod entries;
mod reach;
mod read;
mod search;
mod specs;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use globset::Glob;
use globset::GlobMatcher;
use legwork_common::team::PostEdit;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::reach::Reach;
use super::Kit;
use super::foreground;
use super::foreground::CommandEnd;
use super::schema;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::process::Process;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The timeout of one command after an edit. Formatters take seconds; five minutes leave room for a build.
const POST_EDIT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What an agent file says about the toolset.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// Whether listings and searches hide what Git ignores.
    pub(crate) ignore_vcs: bool,
    /// Commands after an edit. Rules with an invalid glob are ignored.
    pub(crate) post_edit: &'a [PostEdit],
    /// The paths that can be reached; empty for all.
    pub(crate) allow_list: &'a [String],
    /// The paths that cannot be reached.
    pub(crate) deny_list: &'a [String],
}

/// The toolset. Waits for the disk.
///
/// # Errors
///
/// An entry of a list has no meaning here. Without its lists the toolset must not be used.
pub(crate) fn open(
    environment: Arc<Environment>,
    settings: Settings<'_>,
    nursery: Nursery,
) -> Result<Kit, String> {
    let Settings { ignore_vcs, post_edit, allow_list, deny_list } = settings;
    let reach = Reach::new(&environment, allow_list, deny_list)?;
    let post_edit = post_edit
        .iter()
        .filter_map(|rule| Some((Glob::new(&rule.path).ok()?.compile_matcher(), rule.cmd.clone())))
        .collect();
    let workspace = Arc::new(Workspace { environment, ignore_vcs, post_edit, nursery, reach });
    let tool = |(action, spec)| FileTool { spec, action, workspace: Arc::clone(&workspace) };
    Ok(Kit::new(specs::all().map(tool)).with_instruction(specs::INSTRUCTION))
}

/// What the tools share.
#[derive(Debug)]
struct Workspace {
    environment: Arc<Environment>,
    /// Whether listings and searches hide what Git ignores.
    ignore_vcs: bool,
    /// Shell commands to run after a file was edited, each with the glob that the file name must match.
    post_edit: Vec<(GlobMatcher, String)>,
    nursery: Nursery,
    reach: Reach,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    ReadFile,
    ReadMultipleFiles,
    WriteFile,
    EditFile,
    ListDirectory,
    DirectoryTree,
    SearchFilesContent,
    CreateDirectory,
    RemoveDirectory,
}

#[derive(Debug, Clone)]
struct FileTool {
    spec: ToolSpec,
    action: Action,
    workspace: Arc<Workspace>,
}

impl FileTool {
    /// Does the blocking work. The path is that of the edited file, if there is one.
    fn act(
        &self,
        arguments: Value,
        cancel: &CancellationToken,
    ) -> Result<(ToolOutcome, Option<PathBuf>), ToolOutcome> {
        let workspace = &*self.workspace;
        let spec = &self.spec;
        // Listings and searches find files by their paths.
        let files = workspace.environment.files();
        let _as_user = files.as_user().map_err(|error| ToolOutcome::error(error.to_string()))?;
        let text = match self.action {
            Action::ReadFile => {
                let read = read::file(workspace, schema::parse(spec, arguments)?);
                return read.map(|outcome| (outcome, None)).map_err(ToolOutcome::error);
            }
            Action::ReadMultipleFiles => {
                return Ok((read::files(workspace, schema::parse(spec, arguments)?), None));
            }
            Action::WriteFile => return edited(edit::write(workspace, schema::parse(spec, arguments)?)),
            Action::EditFile => return edited(edit::edit(workspace, schema::parse(spec, arguments)?)),
            Action::ListDirectory => entries::list(workspace, schema::parse(spec, arguments)?),
            Action::DirectoryTree => entries::tree(workspace, schema::parse(spec, arguments)?),
            Action::SearchFilesContent => search::search(workspace, schema::parse(spec, arguments)?, cancel),
            Action::CreateDirectory => edit::create(workspace, schema::parse(spec, arguments)?),
            Action::RemoveDirectory => edit::remove(workspace, schema::parse(spec, arguments)?),
        };
        text.map(|text| (ToolOutcome::ok(text), None)).map_err(ToolOutcome::error)
    }
}

/// The outcome of an edit, with the file whose commands are to run.
fn edited(
    result: Result<(String, Option<PathBuf>), String>,
) -> Result<(ToolOutcome, Option<PathBuf>), ToolOutcome> {
    result.map(|(text, file)| (ToolOutcome::ok(text), file)).map_err(ToolOutcome::error)
}

impl Workspace {
    /// The file or folder that the model means by `path`.
    ///
    /// # Errors
    ///
    /// The text for the model where the lists of the toolset do not allow it.
    fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        self.reach.check(self.environment.resolve(path), path)
    }

    /// Runs the `post_edit` commands for `path` one after the other. Returns the lines to append to the result for those
    /// that failed. Dropping the future ends the command that runs.
    async fn after_edit(&self, path: &PathBuf, cancel: &CancellationToken) -> String {
        let mut failures = String::new();
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        for (_, text) in self.post_edit.iter().filter(|(glob, _)| glob.is_match(&name)) {
            let mut command = self.nursery.command("/bin/sh");
            command
                .arg("-c")
                .arg(text)
                .current_dir(&self.environment.working_dir)
                .env_clear()
                .envs(self.environment.command_variables())
                .env("path", path)
                .env("file", path);
            let failure = match Process::start(command, &self.nursery) {
                Err(error) => Some(error.to_string()),
                Ok(mut process) => match foreground::finish(&mut process, POST_EDIT_TIMEOUT, cancel).await {
                    CommandEnd::Ended(end) => {
                        let succeeded = end.status.is_some_and(|status| status.success());
                        (!succeeded).then(|| process.text())
                    }
                    CommandEnd::TimedOut => Some(format!("it timed out\n{}", process.text())),
                    CommandEnd::Cancelled => Some("cancelled".to_owned()),
                },
            };
            if let Some(failure) = failure {
                failures.push_str(&format!("\nThe command after the edit failed: {text}\n{failure}"));
            }
        }
        failures
    }
}

#[async_trait]
impl Tool for FileTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let tool = self.clone();
        // A thread cannot be dropped: the token stops its search when this future is.
        let cancel = context.cancel.child_token();
        let _cancel_on_drop = cancel.clone().drop_guard();
        match self.workspace.environment.blocking.run(move || tool.act(arguments, &cancel)).await {
            Ok((outcome, None)) => outcome,
            Ok((outcome, Some(edited))) => {
                ToolOutcome::ok(outcome.text + &self.workspace.after_edit(&edited, &context.cancel).await)
            }
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests;
