//! The teams that this worker has read: jobs of one agent file read it once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_common::job::TeamDigest;
use legwork_common::team::Team;

/// Teams that are kept. A fleet runs a few agent files at a time, and a team is some kilobytes.
const MAX_TEAMS: usize = 32;

/// A team and its JSON, which its own jobs are dispatched with.
pub type StoredTeam = (Arc<Team>, Arc<str>);

/// Teams by digest, which names their content, so that none becomes stale. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct TeamCache {
    // A std mutex: held for a lookup or an insertion, never over an await.
    teams: Arc<Mutex<HashMap<TeamDigest, StoredTeam>>>,
}

impl TeamCache {
    /// The team of this digest, if it is kept.
    pub fn get(&self, digest: &TeamDigest) -> Option<StoredTeam> {
        self.teams.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Keeps a team. Beyond `MAX_TEAMS` all others are dropped: they are read again when they are needed.
    pub fn insert(&self, digest: TeamDigest, team: StoredTeam) {
        let mut teams = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
        if teams.len() >= MAX_TEAMS {
            teams.clear();
        }
        teams.insert(digest, team);
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::team;

    use super::*;

    #[test]
    fn the_number_of_teams_is_bounded() {
        let yaml = b"agents: {root: {model: scripted/any, instruction: i}}\n";
        let parsed = Arc::new(team::parse("team.yaml", yaml).unwrap().team);
        let cache = TeamCache::default();
        let digest = |number: usize| TeamDigest(format!("{number:064}"));
        for number in 0..2 * MAX_TEAMS + 1 {
            cache.insert(digest(number), (Arc::clone(&parsed), Arc::from("{}")));
            assert!(cache.get(&digest(number)).is_some());
        }
        assert!(cache.get(&digest(0)).is_none());
        assert_eq!(Arc::strong_count(&parsed), 2);
    }
}
