//! The toolsets of one run, and the tools in them.
//!
//! A toolset that cannot start, or that is not there, is a warning: the agent runs without it.

mod a2a;
mod api;
mod background;
pub(crate) mod call_description;
mod deferred;
mod fence;
mod fetch;
mod filesystem;
pub(crate) mod foreground;
mod handoff;
mod http;
mod mcp;
mod memory;
mod openapi;
mod schema;
mod script;
mod shell;
mod tasks;
mod think;
mod todo;
mod toon;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use legwork_common::service::BackgroundAgents;
use legwork_common::session_state::SessionState;
use legwork_common::team::Agent;
use legwork_common::team::Defer;
use legwork_common::team::ModelSettings;
use legwork_common::team::Team;
use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;
use tokio_util::sync::DropGuard;

use self::deferred::Hidden;
use self::toon::Briefly;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::tool::Tool;
use crate::tool::ToolSpec;

/// What a model is told of each tool of `background_agents`: for faces that offer them to other programs.
pub fn background_tools() -> Vec<ToolSpec> {
    background::specs()
}

/// The most bytes of a tool's result that a model is given.
const RESULT_BYTES: usize = 30_000;

/// What stands in a file's instruction for what the toolset itself says.
const ORIGINAL_INSTRUCTIONS: &str = "{ORIGINAL_INSTRUCTIONS}";

/// What stands above the list of what an agent does without.
const NOTICE: &str = "Some of your tools are not there, and you work without them. Say so where it matters:";

/// What one toolset brings.
#[derive(Debug, Default)]
pub(crate) struct Kit {
    pub(crate) tools: Vec<Arc<dyn Tool>>,
    /// What the model is told about them, where the file says nothing.
    pub(crate) instruction: Option<String>,
    /// What it does without, and why.
    pub(crate) warnings: Vec<String>,
}

/// The tools of one run.
///
/// Dropping it tells the processes of its tools to end; [`close`](Self::close) also waits for that.
#[derive(Debug)]
pub struct Toolbox {
    tools: Vec<Arc<dyn Tool>>,
    instructions: Vec<String>,
    /// What is not offered until the model asks for it.
    hidden: Hidden,
    /// The models of the turn after a tool, by the tool's name.
    next_models: BTreeMap<String, Vec<ModelSettings>>,
    nursery: Nursery,
    _leaving: DropGuard,
    warnings: Vec<String>,
}

impl Toolbox {
    /// A box without tools.
    pub fn new(environment: &Environment) -> Self {
        let nursery = Nursery::new(Arc::clone(&environment.guard));
        Self {
            tools: Vec::new(),
            instructions: Vec::new(),
            hidden: Hidden::default(),
            next_models: BTreeMap::new(),
            _leaving: nursery.abandoning(),
            nursery,
            warnings: Vec::new(),
        }
    }

    /// Opens the toolsets of `agent`, and `transfer_task` where it has sub-agents. All at once, each within its own
    /// limit of time. Dropping the future leaves a box that is to be closed.
    pub async fn open(
        &mut self,
        team: &Team,
        agent: &Agent,
        environment: &Arc<Environment>,
        background: &Arc<dyn BackgroundAgents>,
        session_state: &Arc<dyn SessionState>,
    ) {
        if !agent.sub_agents.is_empty() {
            let transfer = transfer::TransferTask::new(agent, background.clone());
            self.add_tool(Arc::new(transfer), "sub_agents");
        }
        if !agent.handoffs.is_empty() {
            self.add_tool(Arc::new(handoff::Handoff::new(team, agent)), "handoffs");
        }
        let kit = |toolset| self.kit((team, agent), toolset, environment, background, session_state);
        let opening = agent.toolsets.iter().map(kit);
        let kits = join_all(opening).await;
        for (toolset, kit) in agent.toolsets.iter().zip(kits) {
            match kit {
                Ok(kit) => self.add(kit, toolset),
                Err(reason) => self.warnings.push(reason),
            }
        }
        if agent.toolsets.iter().any(|toolset| toolset.defer.is_some()) {
            for tool in self.hidden.finders() {
                self.add_tool(tool, "defer");
            }
        }
    }

    fn add(&mut self, kit: Kit, toolset: &Toolset) {
        self.warnings.extend(kit.warnings);
        let named = |tools: &[String], tool: &dyn Tool| {
            tools.iter().any(|one| *one == tool.spec().name || one == tool.own_name())
        };
        let (briefly, wrong) = Briefly::new(&toolset.toon);
        self.warnings.extend(wrong);
        for tool in kit.tools {
            if !toolset.tools.is_empty() && !named(&toolset.tools, &*tool) {
                continue;
            }
            let waits = match &toolset.defer {
                None => false,
                Some(Defer::All) => true,
                Some(Defer::Tools(tools)) => named(tools, &*tool),
            };
            let spec = tool.spec().clone();
            if !self.add_tool(briefly.of(tool), type_name(&toolset.kind)) {
                continue;
            }
            if waits {
                self.hidden.hide(&spec);
            }
            if !toolset.model.is_empty() {
                self.next_models.insert(spec.name, toolset.model.clone());
            }
        }
        let own = kit.instruction.as_deref().unwrap_or_default();
        let written = toolset.instruction.as_ref().map(|text| text.replace(ORIGINAL_INSTRUCTIONS, own));
        self.instructions.extend(written.or(kit.instruction));
    }

    /// Adds a tool, unless another has its name; whether it is there.
    fn add_tool(&mut self, tool: Arc<dyn Tool>, origin: &str) -> bool {
        let name = &tool.spec().name;
        let new = self.get(name).is_none();
        if new {
            self.tools.push(tool);
        } else {
            self.warnings.push(format!("tool {name} of {origin} left out: another tool has its name"));
        }
        new
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.iter().find(|tool| tool.spec().name == name)
    }

    /// What the model is told of each tool that is not hidden.
    pub fn specs(&self) -> Vec<ToolSpec> {
        let specs = self.tools.iter().map(|tool| tool.spec());
        specs.filter(|spec| !self.hidden.hides(&spec.name)).cloned().collect()
    }

    /// The models of the turn after this tool, where its toolset says so.
    pub fn next_models(&self, tool: &str) -> &[ModelSettings] {
        self.next_models.get(tool).map_or(&[], Vec::as_slice)
    }

    /// What the model is told about the toolsets.
    pub fn instructions(&self) -> &[String] {
        &self.instructions
    }

    /// What the model is told of what it does without.
    pub fn notice(&self) -> Option<String> {
        let each: String = self.warnings.iter().map(|warning| format!("\n- {warning}")).collect();
        (!each.is_empty()).then(|| format!("{NOTICE}{each}"))
    }

    /// What the agent does without, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Ends what the tools started, and returns when it is gone: at most about two seconds.
    pub async fn close(&self) {
        self.nursery.close().await;
    }

    /// Opens one toolset, or says why not.
    async fn kit(
        &self,
        (team, agent): (&Team, &Agent),
        toolset: &Toolset,
        environment: &Arc<Environment>,
        background: &Arc<dyn BackgroundAgents>,
        session_state: &Arc<dyn SessionState>,
    ) -> Result<Kit, String> {
        match &toolset.kind {
            ToolsetKind::Think => Ok(think::kit()),
            ToolsetKind::Todo { shared } => Ok(todo::kit(shared.then(|| Arc::clone(session_state)))),
            ToolsetKind::Filesystem { ignore_vcs, post_edit } => {
                Ok(filesystem::kit(environment.clone(), *ignore_vcs, post_edit, self.nursery.clone()))
            }
            ToolsetKind::Shell { env } => shell::kit(environment.clone(), env, self.nursery.clone())
                .map_err(|missing| format!("toolset shell failed: {missing}")),
            ToolsetKind::BackgroundAgents => Ok(background::kit(agent, background.clone())),
            ToolsetKind::Script { scripts } => script::kit(environment, scripts, &self.nursery)
                .map_err(|missing| format!("toolset script failed: {missing}")),
            ToolsetKind::Api(api) => {
                api::kit(environment.clone(), api).map_err(|wrong| format!("toolset api failed: {wrong}"))
            }
            ToolsetKind::Unsupported { kind } => {
                Err(format!("toolset {kind} failed: unknown toolset type: {kind}"))
            }
            ToolsetKind::Openapi { url, headers } => openapi::kit(environment, url, headers)
                .await
                .map_err(|why| format!("toolset openapi failed: {why}")),
            ToolsetKind::A2a { name, url, headers } => {
                a2a::kit(environment, (name.as_deref(), url, headers), a2a::Pace::default(), &self.nursery)
                    .await
                    .map_err(|why| format!("toolset a2a failed: {why}"))
            }
            ToolsetKind::Fetch { timeout } => {
                fetch::kit(environment, *timeout).map_err(|why| format!("toolset fetch failed: {why}"))
            }
            ToolsetKind::Memory { path } => memory::kit(environment, path.as_deref(), &team.identity())
                .await
                .map_err(|why| format!("toolset memory failed: {why}")),
            ToolsetKind::Tasks { path } => tasks::kit(&environment.working_dir, path.as_deref())
                .map_err(|why| format!("toolset tasks failed: {why}")),
            ToolsetKind::Mcp(mcp) => mcp::kit(mcp, environment, &self.nursery, mcp::Timing::default())
                .await
                .map_err(|why| format!("toolset mcp failed: {why}")),
            ToolsetKind::Lsp { .. } | ToolsetKind::UserPrompt | ToolsetKind::ModelPicker { .. } => {
                let name = type_name(&toolset.kind);
                Err(format!("toolset {name} is not supported here: the agent runs without it"))
            }
        }
    }
}

/// The word for a toolset in the file.
fn type_name(kind: &ToolsetKind) -> &str {
    match kind {
        ToolsetKind::Think => "think",
        ToolsetKind::Todo { .. } => "todo",
        ToolsetKind::Shell { .. } => "shell",
        ToolsetKind::Filesystem { .. } => "filesystem",
        ToolsetKind::Mcp(_) => "mcp",
        ToolsetKind::BackgroundAgents => "background_agents",
        ToolsetKind::Fetch { .. } => "fetch",
        ToolsetKind::Memory { .. } => "memory",
        ToolsetKind::Script { .. } => "script",
        ToolsetKind::Api(_) => "api",
        ToolsetKind::Openapi { .. } => "openapi",
        ToolsetKind::A2a { .. } => "a2a",
        ToolsetKind::Lsp { .. } => "lsp",
        ToolsetKind::Tasks { .. } => "tasks",
        ToolsetKind::UserPrompt => "user_prompt",
        ToolsetKind::ModelPicker { .. } => "model_picker",
        ToolsetKind::Unsupported { kind } => kind,
    }
}

/// `text`, cut to what a model is given at once.
pub(crate) fn limited(mut text: String) -> String {
    if text.len() > RESULT_BYTES {
        text.truncate(boundary(&text, RESULT_BYTES));
        text.push_str("\n\n[Output truncated: exceeded 30,000 character limit]");
    }
    text
}

/// The last place at or before `at` where `text` can be cut.
pub(crate) fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
