//! `filesystem`: files and folders. Relative paths begin at the working folder; there is no fence.
//!
//! The work is done on threads that may block. A call that is dropped stops looking, and finishes the one
//! write that it is in.

mod edit;
mod entries;
mod read;
mod search;
mod specs;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use globset::Glob;
use globset::GlobMatcher;
use legwork_common::team::PostEdit;
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Kit;
use super::schema;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::process::Process;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The toolset.
pub(crate) fn kit(
    environment: Arc<Environment>,
    ignore_vcs: bool,
    post_edit: &[PostEdit],
    nursery: Nursery,
) -> Kit {
    let after = post_edit
        .iter()
        .filter_map(|rule| Some((Glob::new(&rule.path).ok()?.compile_matcher(), rule.cmd.clone())))
        .collect();
    let shared = Arc::new(Shared { environment, ignore_vcs, after, nursery });
    let tool =
        |(action, spec)| Arc::new(FileTool { spec, action, shared: Arc::clone(&shared) }) as Arc<dyn Tool>;
    Kit { tools: specs::all().into_iter().map(tool).collect(), ..Kit::default() }
}

/// What all the tools know.
#[derive(Debug)]
struct Shared {
    environment: Arc<Environment>,
    ignore_vcs: bool,
    /// Commands to run after an edit of a file whose name fits.
    after: Vec<(GlobMatcher, String)>,
    nursery: Nursery,
}

/// Which of the tools.
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

#[derive(Debug)]
struct FileTool {
    spec: ToolSpec,
    action: Action,
    shared: Arc<Shared>,
}

impl FileTool {
    /// Does it on this thread.
    fn act(
        &self,
        arguments: Value,
        cancel: &CancellationToken,
    ) -> Result<(String, Option<PathBuf>), ToolOutcome> {
        let shared = &*self.shared;
        let spec = &self.spec;
        let text = match self.action {
            Action::ReadFile => read::file(shared, schema::read(spec, arguments)?),
            Action::ReadMultipleFiles => Ok(read::files(shared, schema::read(spec, arguments)?)),
            Action::WriteFile => {
                return edit::write(shared, schema::read(spec, arguments)?).map_err(ToolOutcome::error);
            }
            Action::EditFile => {
                return edit::edit(shared, schema::read(spec, arguments)?).map_err(ToolOutcome::error);
            }
            Action::ListDirectory => entries::list(shared, schema::read(spec, arguments)?),
            Action::DirectoryTree => entries::tree(shared, schema::read(spec, arguments)?),
            Action::SearchFilesContent => search::search(shared, schema::read(spec, arguments)?, cancel),
            Action::CreateDirectory => edit::create(shared, schema::read(spec, arguments)?),
            Action::RemoveDirectory => edit::remove(shared, schema::read(spec, arguments)?),
        };
        text.map(|text| (text, None)).map_err(ToolOutcome::error)
    }
}

impl Shared {
    /// Runs the commands that the file wants after an edit of `path`; what went wrong in them.
    async fn after_edit(&self, path: &PathBuf) -> String {
        let mut troubles = String::new();
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        for (_, text) in self.after.iter().filter(|(glob, _)| glob.is_match(&name)) {
            let mut command = self.nursery.command("/bin/sh");
            command
                .arg("-c")
                .arg(text)
                .current_dir(&self.environment.working_dir)
                .env_clear()
                .envs(&self.environment.variables)
                .env("path", path);
            let trouble = match Process::start(command, &self.nursery) {
                Err(error) => Some(error.to_string()),
                Ok(mut process) => {
                    let leaving = process.stop.clone().drop_guard();
                    let end = process.ended().await;
                    leaving.disarm();
                    let good = end.status.is_some_and(|status| status.success());
                    (!good).then(|| process.capture().text())
                }
            };
            if let Some(trouble) = trouble {
                troubles.push_str(&format!("\nThe command after the edit failed: {text}\n{trouble}"));
            }
        }
        troubles
    }
}

#[async_trait]
impl Tool for FileTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let (action, shared) = (self.action, Arc::clone(&self.shared));
        let here = Self { spec: self.spec.clone(), action, shared };
        let cancel = context.cancel.child_token();
        let _ends_with_this_call = cancel.clone().drop_guard();
        match spawn_blocking(move || here.act(arguments, &cancel)).await {
            Ok(Ok((text, None))) => ToolOutcome::ok(text),
            Ok(Ok((text, Some(edited)))) => ToolOutcome::ok(text + &self.shared.after_edit(&edited).await),
            Ok(Err(outcome)) => outcome,
            Err(error) => ToolOutcome::error(format!("the tool broke: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
