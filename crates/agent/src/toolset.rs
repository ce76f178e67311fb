//! The toolsets of one run, and the tools in them.
//!
//! A toolset that cannot start or is not supported is skipped with a warning.

mod a2a;
pub(crate) mod answer;
mod api;
mod background;
pub(crate) mod call_description;
pub(crate) mod confinement;
mod deferred;
mod delegation;
mod environment_info;
mod fetch;
mod filesystem;
pub(crate) mod foreground;
mod git;
mod handoff;
mod http;
mod mcp;
mod memory;
mod open_url;
mod openapi;
mod plan;
mod schema;
mod script;
pub(crate) mod shared_file;
mod shell;
mod skills;
mod tasks;
mod think;
mod todo;
mod toon;
mod transfer;
mod user_prompt;
mod webhook;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use globset::Glob;
use legwork_common::error::chain;
use legwork_common::service::BackgroundAgents;
use legwork_common::session_state::SessionState;
use legwork_common::team::Agent;
use legwork_common::team::Defer;
use legwork_common::team::ModelSettings;
use legwork_common::team::Team;
use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;
use tokio_util::sync::DropGuard;

use self::deferred::DeferredTools;
pub(crate) use self::http::NotPublic;
pub(crate) use self::http::OneRequest;
pub(crate) use self::http::post_json;
use self::toon::ToonSelection;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::tool::Tool;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The specs of the `background_agents` tools, for programs that offer them to other hosts (MCP).
pub fn background_tool_specs() -> Vec<ToolSpec> {
    background::specs()
}

/// The most bytes of one tool result that a model receives. docker-agent has the same cap, and the truncation notice
/// names it.
const MAX_RESULT_BYTES: usize = 30_000;

/// The placeholder in an agent file's `instruction` that stands for the toolset's own instruction.
const ORIGINAL_INSTRUCTIONS: &str = "{ORIGINAL_INSTRUCTIONS}";

/// The first line of the system message that lists the warnings of the toolsets.
const UNAVAILABLE_TOOLS: &str =
    "Some of your tools are unavailable, and you work without them. Say so where it matters:";

/// The tools of one opened toolset.
#[derive(Debug, Default)]
pub(crate) struct Kit {
    pub(crate) tools: Vec<Arc<dyn Tool>>,
    /// The toolset's own system message. An `instruction` in the agent file replaces it.
    pub(crate) instruction: Option<String>,
    /// Parts of the toolset that are unavailable, each with the reason.
    pub(crate) warnings: Vec<String>,
    /// Where the tools come from, if they may change during the run.
    pub(crate) source: Option<Arc<dyn ToolSource>>,
}

/// The origin of tools that may change during a run, such as an MCP server.
#[async_trait]
pub(crate) trait ToolSource: Debug + Send + Sync {
    /// All tools and what is wrong with them, if they may have changed since the last call. Bounded in time.
    async fn changed(&self) -> Option<(Vec<Arc<dyn Tool>>, Vec<String>)>;
}

impl Kit {
    /// These tools, with no instruction and no warnings.
    fn new<T: Tool + 'static>(tools: impl IntoIterator<Item = T>) -> Self {
        let tools = tools.into_iter().map(|tool| Arc::new(tool) as Arc<dyn Tool>).collect();
        Self { tools, ..Self::default() }
    }

    /// The kit with this system message; none where the text is blank.
    fn with_instruction(self, text: impl Into<String>) -> Self {
        Self { instruction: Some(text.into()).filter(|text| !text.trim().is_empty()), ..self }
    }
}

/// The tools of one run.
///
/// Dropping it signals the processes of its tools to end; [`close`](Self::close) also waits until they have.
#[derive(Debug)]
pub struct Toolbox {
    tools: Vec<OwnedTool>,
    /// The toolsets whose tools may change.
    changing: Vec<ChangingToolset>,
    instructions: Vec<String>,
    deferred: DeferredTools,
    /// The models for the turn that follows a call, by the name of the called tool.
    next_models: BTreeMap<String, Vec<ModelSettings>>,
    /// Whether only tools that change nothing are added.
    is_read_only: bool,
    nursery: Nursery,
    _abandon_on_drop: DropGuard,
    warnings: Vec<String>,
}

/// A tool and where it belongs in the order of the tools, which stays the same when the tools of one toolset change:
/// providers cache a request up to its first difference.
#[derive(Debug)]
struct OwnedTool {
    tool: Arc<dyn Tool>,
    place: usize,
}

/// A toolset whose tools may change, and the place of its tools.
#[derive(Debug, Clone)]
struct ChangingToolset {
    source: Arc<dyn ToolSource>,
    toolset: Toolset,
    place: usize,
}

/// The place of the tools that the agent's keys other than `toolsets` give it. The places of the toolsets follow.
const FIRST_PLACE: usize = 0;
/// The place of the tools that find and add deferred ones.
const LAST_PLACE: usize = usize::MAX;

impl Toolbox {
    /// A toolbox without tools.
    pub fn new(environment: &Environment) -> Self {
        let nursery = Nursery::new(Arc::clone(&environment.guard));
        Self {
            tools: Vec::new(),
            changing: Vec::new(),
            instructions: Vec::new(),
            deferred: DeferredTools::default(),
            next_models: BTreeMap::new(),
            is_read_only: false,
            _abandon_on_drop: nursery.close_on_drop(),
            nursery,
            warnings: Vec::new(),
        }
    }

    /// Opens the toolsets of `agent` concurrently, each within its own timeout, and adds `transfer_task` and `handoff`
    /// where the agent has targets for them. A toolset that fails becomes a warning.
    ///
    /// Dropping the future may leave processes of half-opened toolsets: close the toolbox then too.
    pub async fn open(
        &mut self,
        team: &Team,
        agent: &Agent,
        environment: &Arc<Environment>,
        background: &Arc<dyn BackgroundAgents>,
        session_state: &Arc<dyn SessionState>,
    ) {
        self.is_read_only = agent.readonly;
        if !agent.sub_agents.is_empty() {
            let transfer = transfer::TransferTask::new(agent, background.clone());
            self.add_tool(Arc::new(transfer), FIRST_PLACE, "sub_agents");
        }
        if !agent.handoffs.is_empty() {
            self.add_tool(Arc::new(handoff::Handoff::new(team, agent)), FIRST_PLACE, "handoffs");
        }
        let open =
            |toolset| self.open_toolset((team, agent), toolset, environment, background, session_state);
        // The kits come back in the order of the file, so that which of two equal names wins does not depend on timing.
        let kits = join_all(agent.toolsets.iter().map(open)).await;
        for ((place, toolset), kit) in (FIRST_PLACE + 1..).zip(&agent.toolsets).zip(kits) {
            match kit {
                Ok(kit) => self.add(kit, toolset, place, environment),
                Err(warning) => self.warnings.push(warning),
            }
        }
        if let Some(skills) = &agent.skills {
            let (of, skills) = (agent.clone(), skills.clone());
            let opened = on_thread(environment, move |here| Ok(skills::open(&of, &skills, here))).await;
            let kit = opened.unwrap_or_else(|reason| Kit {
                warnings: vec![format!("skills failed: {reason}")],
                ..Kit::default()
            });
            self.warnings.extend(kit.warnings);
            for tool in kit.tools {
                self.add_tool(tool, LAST_PLACE - 1, "skills");
            }
            self.instructions.extend(kit.instruction);
        }
        if let Some((tool, warning)) = answer::open(agent) {
            self.warnings.extend(warning);
            self.add_tool(Arc::new(tool), LAST_PLACE - 1, "structured_output");
            self.instructions.push(answer::INSTRUCTION.to_owned());
        }
        if agent.toolsets.iter().any(|toolset| toolset.defer.is_some()) {
            for tool in self.deferred.finder_tools() {
                self.add_tool(tool, LAST_PLACE, "defer");
            }
            self.instructions.push(deferred::INSTRUCTION.to_owned());
        }
    }

    /// Adds a toolset, with its system message.
    fn add(&mut self, kit: Kit, toolset: &Toolset, place: usize, environment: &Environment) {
        self.warnings.extend(kit.warnings);
        self.add_tools(kit.tools, toolset, place, &BTreeSet::new());
        if let Some(source) = kit.source {
            self.changing.push(ChangingToolset { source, toolset: toolset.clone(), place });
        }
        let own = kit.instruction.as_deref().unwrap_or_default();
        let configured = toolset.instruction.as_ref();
        let configured =
            configured.map(|text| environment.expanded(text).replace(ORIGINAL_INSTRUCTIONS, own));
        self.instructions.extend(configured.or(kit.instruction));
    }

    /// Replaces the tools of the toolsets that report a change; returns warnings about the new ones. Called between
    /// turns, so that all calls of one reply see the same tools.
    pub async fn refresh(&mut self) -> Vec<String> {
        let known_warnings = self.warnings.len();
        let changes = join_all(self.changing.iter().map(|changing| changing.source.changed())).await;
        for (ChangingToolset { toolset, place, .. }, change) in self.changing.clone().into_iter().zip(changes)
        {
            let Some((tools, warnings)) = change else { continue };
            self.warnings.extend(warnings);
            let gone: Vec<String> = self
                .tools
                .extract_if(.., |owned| owned.place == place)
                .map(|owned| owned.tool.spec().name.clone())
                .collect();
            // A deferred tool that the model has added stays added.
            let added = gone.into_iter().filter(|name| !self.deferred.forget(name)).collect();
            self.add_tools(tools, &toolset, place, &added);
            self.tools.sort_by_key(|owned| owned.place);
        }
        // The same tools have the same warnings at each change.
        let mut new = self.warnings.split_off(known_warnings);
        new.retain(|warning| !self.warnings.contains(warning));
        self.warnings.extend(new.iter().cloned());
        new
    }

    /// Adds the tools of a toolset that its allow list names, all without one. Those named by `undeferred` are not
    /// deferred.
    fn add_tools(
        &mut self,
        tools: Vec<Arc<dyn Tool>>,
        toolset: &Toolset,
        place: usize,
        undeferred: &BTreeSet<String>,
    ) {
        let is_listed = |names: &[String], tool: &dyn Tool| {
            names.iter().any(|name| *name == tool.spec().name || name == tool.own_name())
        };
        let (toon, invalid_patterns) = ToonSelection::new(&toolset.toon);
        self.warnings.extend(invalid_patterns);
        for tool in tools {
            let is_withheld = (self.is_read_only || toolset.readonly) && !tool.spec().read_only;
            let is_left = toolset.left.is_empty() || is_left(&toolset.left, tool.spec());
            if is_withheld || !is_left || !toolset.tools.is_empty() && !is_listed(&toolset.tools, &*tool) {
                continue;
            }
            let is_deferred = match &toolset.defer {
                None => false,
                Some(Defer::All) => true,
                Some(Defer::Tools(names)) => is_listed(names, &*tool),
            };
            let spec = tool.spec().clone();
            if !self.add_tool(toon.apply(tool), place, type_name(&toolset.kind)) {
                continue;
            }
            if is_deferred && !undeferred.contains(&spec.name) {
                self.deferred.defer(&spec);
            }
            if !toolset.model.is_empty() {
                self.next_models.insert(spec.name, toolset.model.clone());
            }
        }
    }

    /// Adds a tool and returns true; a tool whose name is taken becomes a warning. `origin` names its toolset there.
    fn add_tool(&mut self, tool: Arc<dyn Tool>, place: usize, origin: &str) -> bool {
        let name = &tool.spec().name;
        let is_new = self.get(name).is_none();
        if is_new {
            self.tools.push(OwnedTool { tool, place });
        } else {
            self.warnings.push(format!("tool {name} of {origin} skipped: another tool has the same name"));
        }
        is_new
    }

    /// Finds a tool by its name, deferred ones included.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.iter().map(|owned| &owned.tool).find(|tool| tool.spec().name == name)
    }

    /// The tools that list background work; see [`Tool::is_overview`].
    pub(crate) fn overviews(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.tools.iter().map(|owned| &owned.tool).filter(|tool| tool.is_overview())
    }

    /// The specs of the tools that the model is offered in the next turn: all but the deferred ones.
    pub fn specs(&self) -> Vec<ToolSpec> {
        let specs = self.tools.iter().map(|owned| owned.tool.spec());
        specs.filter(|spec| !self.deferred.contains(&spec.name)).cloned().collect()
    }

    /// The models for the turn that follows a call of `tool`, in order of preference. Empty where its toolset sets
    /// none.
    pub fn next_models(&self, tool: &str) -> &[ModelSettings] {
        self.next_models.get(tool).map_or(&[], Vec::as_slice)
    }

    /// The system messages of the toolsets, in the order of the agent file. That of the deferred tools is the last.
    pub fn instructions(&self) -> &[String] {
        &self.instructions
    }

    /// The system message that lists the [`warnings`](Self::warnings), if there are any.
    pub fn notice(&self) -> Option<String> {
        let lines: String = self.warnings.iter().map(|warning| format!("\n- {warning}")).collect();
        (!lines.is_empty()).then(|| format!("{UNAVAILABLE_TOOLS}{lines}"))
    }

    /// Toolsets and tools that are unavailable, one line each with the reason.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Owns the processes of the tools, and of the hooks.
    pub(crate) fn nursery(&self) -> &Nursery {
        &self.nursery
    }

    /// Ends the processes that the tools started and waits until they have exited, for about two seconds at most.
    pub async fn close(&self) {
        self.nursery.close().await;
    }

    /// Opens one toolset. The error is the warning for it.
    async fn open_toolset(
        &self,
        (team, agent): (&Team, &Agent),
        toolset: &Toolset,
        environment: &Arc<Environment>,
        background: &Arc<dyn BackgroundAgents>,
        session_state: &Arc<dyn SessionState>,
    ) -> Result<Kit, String> {
        let name = type_name(&toolset.kind);
        let public = toolset.public_only.then(|| Arc::new(environment.public_only()));
        let environment = public.as_ref().unwrap_or(environment);
        let opened = match &toolset.kind {
            ToolsetKind::Think => Ok(think::open()),
            ToolsetKind::Todo { shared } => Ok(todo::open(shared.then(|| Arc::clone(session_state)))),
            ToolsetKind::Filesystem { ignore_vcs, post_edit, allow_list, deny_list } => {
                let ignore_vcs = *ignore_vcs;
                let settings = filesystem::Settings { ignore_vcs, post_edit, allow_list, deny_list };
                open_filesystem(environment, settings, self.nursery.clone()).await
            }
            ToolsetKind::Shell { env } => shell::open(environment.clone(), env, self.nursery.clone())
                .map_err(|missing| missing.to_string()),
            ToolsetKind::BackgroundAgents => Ok(background::open(agent, background)),
            ToolsetKind::Script { scripts } => {
                script::open(environment, scripts, &self.nursery).map_err(|missing| missing.to_string())
            }
            ToolsetKind::Api(api) => api::open(environment.clone(), api),
            ToolsetKind::Openapi { url, headers } => openapi::open(environment, url, headers).await,
            ToolsetKind::A2a { name, url, headers } => {
                let agent = (name.as_deref(), url.as_str(), headers);
                a2a::open(environment, agent, a2a::Polling::default(), &self.nursery).await
            }
            ToolsetKind::Fetch(settings) => fetch::open(environment, settings),
            ToolsetKind::Git => Ok(git::open(environment, &self.nursery)),
            ToolsetKind::Environment => Ok(environment_info::open(environment)),
            ToolsetKind::Plan => on_thread(environment, plan::open).await,
            ToolsetKind::OpenUrl { name, url } => open_url::open(environment, name.as_deref(), url),
            ToolsetKind::Webhook(config) => webhook::open(environment, config, webhook::Pace::default()),
            ToolsetKind::Memory { path } => {
                memory::open(environment, path.as_deref(), &team.identity()).await
            }
            ToolsetKind::UserPrompt => Ok(user_prompt::open()),
            ToolsetKind::Tasks { path } => {
                let path = path.clone();
                on_thread(environment, move |here| tasks::open(here, path.as_deref())).await
            }
            ToolsetKind::Mcp(mcp) => {
                let timing = mcp::Timing::of(mcp.lifecycle.as_ref());
                mcp::open(mcp, environment, &self.nursery, timing).await
            }
            ToolsetKind::Unsupported { kind } => Err(format!("unknown toolset type: {kind}")),
            ToolsetKind::Lsp { .. } | ToolsetKind::ModelPicker { .. } => {
                return Err(format!("toolset {name} is not supported; the agent runs without it"));
            }
        };
        opened.map_err(|reason| format!("toolset {name} failed: {reason}"))
    }
}

async fn open_filesystem(
    environment: &Arc<Environment>,
    settings: filesystem::Settings<'_>,
    nursery: Nursery,
) -> Result<Kit, String> {
    let filesystem::Settings { ignore_vcs, post_edit, allow_list, deny_list } = settings;
    let (post_edit, allow, deny) = (post_edit.to_vec(), allow_list.to_vec(), deny_list.to_vec());
    let open = move |here: &Arc<Environment>| {
        let (post_edit, allow_list, deny_list) = (&post_edit[..], &allow[..], &deny[..]);
        let settings = filesystem::Settings { ignore_vcs, post_edit, allow_list, deny_list };
        filesystem::open(here.clone(), settings, nursery)
    };
    on_thread(environment, open).await
}

/// Opens a toolset that reads files when it is opened, on a thread of the run: a file system may hang.
async fn on_thread(
    environment: &Arc<Environment>,
    open: impl FnOnce(&Arc<Environment>) -> Result<Kit, String> + Send + 'static,
) -> Result<Kit, String> {
    let here = Arc::clone(environment);
    let opening = move || open(&here).map_err(ToolOutcome::error);
    environment.blocking.run(opening).await.map_err(|failed| failed.text)
}

/// Whether one of the globs matches the name of a tool. One that is not a glob matches nothing.
fn is_left(globs: &[String], spec: &ToolSpec) -> bool {
    globs.iter().any(|glob| Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(&spec.name)))
}

/// The toolset's `type` as the agent file spells it.
pub fn type_name(kind: &ToolsetKind) -> &str {
    match kind {
        ToolsetKind::Think => "think",
        ToolsetKind::Todo { .. } => "todo",
        ToolsetKind::Shell { .. } => "shell",
        ToolsetKind::Filesystem { .. } => "filesystem",
        ToolsetKind::Mcp(_) => "mcp",
        ToolsetKind::BackgroundAgents => "background_agents",
        ToolsetKind::Fetch(_) => "fetch",
        ToolsetKind::Git => "git",
        ToolsetKind::Environment => "environment",
        ToolsetKind::Plan => "plan",
        ToolsetKind::OpenUrl { .. } => "open_url",
        ToolsetKind::Webhook(_) => "webhook",
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

/// Cuts a tool result to [`MAX_RESULT_BYTES`], at a whole character, and says so at its end.
pub(crate) fn limited(mut text: String) -> String {
    if text.len() > MAX_RESULT_BYTES {
        text.truncate(boundary(&text, MAX_RESULT_BYTES));
        text.push_str("\n\n[Output truncated: exceeded 30,000 character limit]");
    }
    text
}

/// The outcome of a call whose answer is cut to what a tool result may have.
pub(crate) fn outcome_of(answer: Result<String, ToolOutcome>) -> ToolOutcome {
    match answer {
        Ok(answer) => ToolOutcome::ok(limited(answer)),
        Err(error) => error,
    }
}

/// The outcome of a call that failed, with the causes of its error.
pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> ToolOutcome {
    ToolOutcome::error(chain(error))
}

/// The largest index at or below `at` that is a character boundary of `text`.
pub(crate) fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
