//! Fakes and fixtures for the tests of this crate.

mod journal;
mod models;
mod service;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use legwork_common::service::CallIndex;
use legwork_common::team::ModelSettings;
use legwork_common::team::Team;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assignment::Ports;
use crate::environment::Environment;
use crate::model::scripted::ScriptedModels;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;

pub(crate) use self::journal::FakeJournal;
pub(crate) use self::models::FakeModels;
pub(crate) use self::service::FakeService;
pub(crate) use self::service::job_id;
pub(crate) use self::service::viewed;

/// Calls a tool, as the first call of the first turn.
pub(crate) async fn call(tool: &Arc<dyn Tool>, arguments: Value) -> ToolOutcome {
    tool.call(arguments, &context()).await
}

/// The context of the first call of the first turn, without a person.
pub(crate) fn context() -> ToolContext {
    let call = CallIndex { turn: 1, index: 0 };
    ToolContext { safety: None, call, person: None, cancel: CancellationToken::new() }
}

/// Settings of a model whose provider needs no key.
pub(crate) fn settings() -> ModelSettings {
    ModelSettings::inline("scripted", "test").unwrap()
}

/// A team of agents on that model. Each agent is given by its name, its sub-agents, and further keys.
pub(crate) fn team(agents: &[(&str, &[&str], Value)]) -> Arc<Team> {
    let agents: Vec<Value> = agents
        .iter()
        .map(|(name, sub_agents, more)| {
            let mut agent = json!({
                "name": name,
                "kind": {"models": [settings()]},
                "sub_agents": sub_agents,
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                agent[key] = value.clone();
            }
            agent
        })
        .collect();
    Arc::new(serde_json::from_value(json!({"agents": agents})).unwrap())
}

/// An environment with this working directory and a `PATH`.
pub(crate) fn environment(folder: impl Into<PathBuf>) -> Environment {
    let variables = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    Environment::new(variables, folder.into())
}

/// Fake ports, and the fakes behind them for assertions.
pub(crate) struct World {
    pub(crate) journal: Arc<FakeJournal>,
    pub(crate) service: Arc<FakeService>,
    pub(crate) ports: Ports,
}

/// A world whose models replay `script`, the value of a script's `agents`.
pub(crate) fn world(script: &Value) -> World {
    let script = json!({"agents": script}).to_string();
    let journal = Arc::new(FakeJournal::default());
    let service = Arc::new(FakeService::default());
    let ports = Ports {
        models: Arc::new(ScriptedModels::parse(script.as_bytes()).unwrap()),
        journal: journal.clone(),
        background: service.clone(),
        mailbox: service.clone(),
        session_state: service.clone(),
        person: None,
        environment: Arc::new(environment("/")),
    };
    World { journal, service, ports }
}

/// Serves `app` on a free local port until the test's runtime ends; returns its address.
pub(crate) async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}
