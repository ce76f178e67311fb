//! The models of jobs, from the teams that are stored with them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_common::job::Job;
use legwork_common::job::TeamDigest;
use legwork_common::team::Team;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::Work as _;

/// Teams whose models are remembered: a long-lived server may meet any number of teams, one at a time mostly a few.
const MAX_TEAMS: usize = 100;

/// The models of a team by agent; `None` for an agent that is a program.
type TeamModels = Arc<HashMap<String, Option<String>>>;

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
            let models = match self.models.get(&digest) {
                Some(models) => models,
                None => {
                    let Some(json) = self.queue().team(job.session, &digest).await? else { continue };
                    let models = Arc::new(models_of(&json));
                    self.models.insert(digest, Arc::clone(&models));
                    models
                }
            };
            job.model = models.get(&job.agent).cloned().flatten();
        }
        Ok(())
    }
}

/// The models of a stored team; none where this release cannot read it.
fn models_of(json: &str) -> HashMap<String, Option<String>> {
    let team: Option<Team> = serde_json::from_str(json).ok();
    let agents = team.iter().flat_map(|team| team.agents());
    agents.map(|agent| (agent.name.clone(), agent.model_names())).collect()
}
