//! The models of jobs, from the teams that are stored with them, and what they cost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::job::TeamDigest;
use legwork_common::money::Price;
use legwork_common::team::AgentKind;
use legwork_common::team::Team;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::Work as _;

/// Teams whose models are remembered: a long-lived server may meet any number of teams, one at a time mostly a few.
const MAX_TEAMS: usize = 100;

/// The models of a team by agent.
type TeamModels = Arc<HashMap<String, AgentModel>>;

/// What an agent runs with.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentModel {
    /// Its models, separated by commas; `None` for an agent that is a program.
    pub(super) names: Option<String>,
    /// The first of them, and the price that the agent file has for it.
    first: Option<(String, Option<Price>)>,
}

/// The models of teams that were read. A digest names one content, so nothing here becomes outdated. Cheap to clone; all
/// clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownModels(Arc<Mutex<HashMap<TeamDigest, TeamModels>>>);

impl KnownModels {
    fn get(&self, team: &TeamDigest) -> Option<TeamModels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(team).map(Arc::clone)
    }

    fn insert(&self, team: TeamDigest, models: TeamModels) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_TEAMS {
            known.clear();
        }
        known.insert(team, models);
    }
}

impl Operator {
    /// Adds the model of its agent to each job whose team is stored and readable. Each team is read once.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub(super) async fn add_models(
        &self,
        jobs: impl IntoIterator<Item = &mut Job>,
    ) -> Result<(), QueueError> {
        for job in jobs {
            let Some(digest) = job.team.clone() else { continue };
            let Some(model) = self.model_of(job.session, &digest, &job.agent).await? else { continue };
            job.cost = self.price_of(&model).map(|price| price.of(job.usage));
            job.model = model.names;
        }
        Ok(())
    }

    /// What an agent of a stored team runs with; `None` where the team is not stored, or has no such agent.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub(super) async fn model_of(
        &self,
        session: SessionId,
        digest: &TeamDigest,
        agent: &str,
    ) -> Result<Option<AgentModel>, QueueError> {
        let models = match self.models.get(digest) {
            Some(models) => models,
            None => {
                let Some(json) = self.queue().team(session, digest).await? else { return Ok(None) };
                let models = Arc::new(models_of(&json));
                self.models.insert(digest.clone(), Arc::clone(&models));
                models
            }
        };
        Ok(models.get(agent).cloned())
    }

    /// The price of an agent's first model: the agent file's, else the fleet's.
    pub(super) fn price_of(&self, model: &AgentModel) -> Option<Price> {
        let (name, own) = model.first.as_ref()?;
        own.or_else(|| self.prices.of(name))
    }
}

/// The models of a stored team; none where this release cannot read it.
fn models_of(json: &str) -> HashMap<String, AgentModel> {
    let team: Option<Team> = serde_json::from_str(json).ok();
    let agents = team.iter().flat_map(|team| team.agents());
    agents
        .map(|agent| {
            let first = match &agent.kind {
                AgentKind::Models(models) => models.first().map(|model| (model.reference(), model.cost)),
                AgentKind::Auto | AgentKind::Command { .. } => None,
            };
            (agent.name.clone(), AgentModel { names: agent.model_names(), first })
        })
        .collect()
}
