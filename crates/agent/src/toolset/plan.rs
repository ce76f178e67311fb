//! `plan`: named documents that the agents of this machine's user share, across sessions. Tools and fields are
//! docker-agent's.

mod specs;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use self::specs::Action;
use self::store::Change;
use self::store::Plan;
use self::store::PlanStore;
use super::Kit;
use super::failed;
use super::outcome_of;
use super::schema;
use crate::environment::Environment;
use crate::files::hidden::Hidden;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The folder of all plans, in Legwork's state folder.
const FOLDER: &str = "plans";

/// The toolset. Reads `.agentsignore`, for which it waits for the disk; the folder of the plans is not read or created before
/// the first call.
///
/// # Errors
///
/// No variable determines Legwork's state folder, or `.agentsignore` cannot be used.
pub(crate) fn open(environment: &Arc<Environment>) -> Result<Kit, String> {
    let state_dir = environment.state_dir().ok_or("no folder for its plans: set HOME")?;
    let store = Arc::new(PlanStore { folder: state_dir.join(FOLDER) });
    let hidden = Arc::new(Hidden::of(environment)?);
    let tool = |(action, spec)| PlanTool {
        spec,
        action,
        store: Arc::clone(&store),
        environment: Arc::clone(environment),
        hidden: Arc::clone(&hidden),
    };
    Ok(Kit::new(specs::all().map(tool)).with_instruction(specs::INSTRUCTION))
}

#[derive(Debug, Clone)]
struct PlanTool {
    spec: ToolSpec,
    action: Action,
    store: Arc<PlanStore>,
    environment: Arc<Environment>,
    hidden: Arc<Hidden>,
}

/// The arguments of all tools.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    name: String,
    content: Option<String>,
    path: Option<String>,
    title: Option<String>,
    author: Option<String>,
    status: Option<String>,
    last_known_revision: Option<u64>,
}

impl PlanTool {
    /// Dropping the future leaves a plan changed or unchanged, never in between.
    async fn act(&self, arguments: Value) -> Result<String, ToolOutcome> {
        // The arguments of another action are an error: what they ask for would not be done.
        schema::checked(&self.spec, &arguments)?;
        let arguments: Arguments = schema::parse(&self.spec, arguments)?;
        let Arguments { name, path, .. } = &arguments;
        if !matches!(self.action, Action::List) {
            store::check_name(name).map_err(ToolOutcome::error)?;
        }
        let path =
            path.as_deref().map(|path| self.reachable(path)).transpose().map_err(ToolOutcome::error)?;
        let lock = match self.action {
            Action::Write | Action::UpdateFromFile | Action::Delete | Action::SetStatus => Some(
                self.store.lock(name, &self.environment.blocking).await.map_err(|error| failed(&error))?,
            ),
            Action::Read | Action::List | Action::Export | Action::Status => None,
        };
        let tool = self.clone();
        self.environment
            .blocking
            .run(move || match lock {
                Some(lock) => tool.change(arguments, path, &lock),
                None => tool.look(&arguments, path),
            })
            .await
    }

    /// The file that the model means by `path`.
    fn reachable(&self, path: &str) -> Result<PathBuf, String> {
        self.hidden.check(self.environment.resolve(path), path)
    }

    /// What changes nothing but a file that is exported.
    fn look(&self, arguments: &Arguments, path: Option<PathBuf>) -> Result<String, ToolOutcome> {
        if matches!(self.action, Action::List) {
            return Ok(self.store.list().map_err(|error| failed(&error))?.to_string());
        }
        let plan = self.existing(&arguments.name)?;
        let (Action::Export, Some(path)) = (self.action, path) else {
            let answer = if matches!(self.action, Action::Status) { plan.status_view() } else { json!(plan) };
            return Ok(answer.to_string());
        };
        let files = self.environment.files();
        files.write(&path, plan.content.as_bytes()).map_err(|error| ToolOutcome::error(error.to_string()))?;
        let mut answer = plan.summary();
        answer["path"] = json!(arguments.path);
        answer["bytesWritten"] = json!(plan.content.len());
        Ok(answer.to_string())
    }

    fn change(
        &self,
        arguments: Arguments,
        path: Option<PathBuf>,
        lock: &store::Lock,
    ) -> Result<String, ToolOutcome> {
        let Arguments { name, content, title, author, status, last_known_revision, .. } = arguments;
        if matches!(self.action, Action::Delete) {
            self.store.delete(&name, last_known_revision, lock).map_err(|error| failed(&error))?;
            return Ok(format!("Plan {name} deleted"));
        }
        let content = match path {
            Some(path) => {
                let bytes = self.environment.files().read(&path, store::MAX_PLAN_BYTES);
                let bytes = bytes.map_err(|error| ToolOutcome::error(error.to_string()))?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            None => content,
        };
        let only_status = matches!(self.action, Action::SetStatus);
        if only_status {
            self.existing(&name)?;
        }
        let change = Change { content, title, author, status, last_known_revision };
        let plan = self.store.change(&name, change, lock).map_err(|error| failed(&error))?;
        Ok(if only_status { plan.status_view() } else { plan.summary() }.to_string())
    }

    fn existing(&self, name: &str) -> Result<Plan, ToolOutcome> {
        let plan = self.store.read(name).map_err(|error| failed(&error))?;
        plan.ok_or_else(|| ToolOutcome::error(format!("plan not found: {name}")))
    }
}

#[async_trait]
impl Tool for PlanTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        outcome_of(self.act(arguments).await)
    }
}

#[cfg(test)]
mod tests;
