//! The teams that this worker has read: jobs of one agent file read it once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_common::job::TeamDigest;
use legwork_common::team::Team;
use tokio::sync::OnceCell;

/// Teams that are kept. A fleet runs a few agent files at a time, and a team is some kilobytes.
const MAX_TEAMS: usize = 32;

/// A team and its JSON, which its own jobs are dispatched with.
pub type StoredTeam = (Arc<Team>, Arc<str>);

/// Teams by digest, which names their content, so that none becomes stale. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct TeamCache {
    // A std mutex: held for a lookup or an insertion, never over an await. A cell is empty until its team was read.
    teams: Arc<Mutex<HashMap<TeamDigest, Arc<OnceCell<StoredTeam>>>>>,
}

impl TeamCache {
    /// The team of this digest, which `read` reads if it is not kept. Of attempts that start together one reads, so that all
    /// have the same copy; the others wait, and read after each other where it found none. A `read` that is dropped is
    /// another one's turn.
    ///
    /// # Errors
    ///
    /// That of `read`.
    pub async fn get_or_read<E>(
        &self,
        digest: &TeamDigest,
        read: impl Future<Output = Result<Option<StoredTeam>, E>>,
    ) -> Result<Option<StoredTeam>, E> {
        let cell = self.cell(digest);
        let found = cell.get_or_try_init(|| async { read.await.map_err(Some)?.ok_or(None) }).await;
        match found {
            Ok(team) => Ok(Some(team.clone())),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// The cell of a team. Beyond `MAX_TEAMS` all others are dropped: they are read again when they are needed.
    fn cell(&self, digest: &TeamDigest) -> Arc<OnceCell<StoredTeam>> {
        let mut teams = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = teams.get(digest) {
            return Arc::clone(cell);
        }
        if teams.len() >= MAX_TEAMS {
            teams.clear();
        }
        Arc::clone(teams.entry(digest.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use futures::future::join_all;
    use legwork_common::team;

    use super::*;

    fn stored() -> StoredTeam {
        let yaml = b"agents: {root: {model: scripted/any, instruction: i}}\n";
        (Arc::new(team::parse("team.yaml", yaml).unwrap().team), Arc::from("{}"))
    }

    fn digest(number: usize) -> TeamDigest {
        TeamDigest(format!("{number:064}"))
    }

    #[tokio::test]
    async fn the_number_of_teams_is_bounded() {
        let (cache, team) = (TeamCache::default(), stored());
        for number in 0..2 * MAX_TEAMS + 1 {
            let read = async { Ok::<_, Infallible>(Some(team.clone())) };
            assert!(cache.get_or_read(&digest(number), read).await.unwrap().is_some());
        }
        assert_eq!(cache.teams.lock().unwrap().len(), 1);
        assert_eq!(Arc::strong_count(&team.0), 2);
    }

    #[tokio::test]
    async fn attempts_that_start_together_read_a_team_once_and_again_after_a_failure() {
        let (cache, team, reads) = (TeamCache::default(), stored(), AtomicUsize::new(0));
        let wanted = digest(1);
        let get = |_| {
            cache.get_or_read(&wanted, async {
                let number = reads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                if number == 0 { Err("away") } else { Ok(Some(team.clone())) }
            })
        };
        let found = join_all((0..1000).map(get)).await;
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        assert_eq!(found.iter().filter(|found| found.is_err()).count(), 1);
        assert_eq!(Arc::strong_count(&team.0), 1 + 1 + 999);
        let missing = cache.get_or_read(&digest(2), async { Ok::<_, Infallible>(None) }).await;
        assert!(matches!(missing, Ok(None)));
    }
}
