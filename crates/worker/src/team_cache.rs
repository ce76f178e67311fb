//! The teams that this worker has read: jobs of one agent file read it once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::team::Team;

/// Teams that are kept. A fleet runs a few agent files at a time, and a team is some kilobytes.
const MAX_TEAMS: usize = 32;

/// A team and its JSON, which its own jobs are dispatched with.
pub type StoredTeam = (Arc<Team>, Arc<str>);

/// A team that was read, or is being read.
#[derive(Debug, Default)]
struct Cell {
    team: OnceLock<StoredTeam>,
    /// By shard, as each stores a copy: held by the one that reads it there.
    readers: Mutex<HashMap<u16, Arc<tokio::sync::Mutex<()>>>>,
}

impl Cell {
    fn reader(&self, shard: u16) -> Arc<tokio::sync::Mutex<()>> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(readers.entry(shard).or_default())
    }
}

/// Teams by digest, which names their content, so that none becomes stale. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct TeamCache {
    shards: u16,
    // A std mutex: held for a lookup or an insertion, never over an await.
    teams: Arc<Mutex<HashMap<TeamDigest, Arc<Cell>>>>,
}

impl TeamCache {
    /// No teams yet, of a namespace with so many shards.
    pub fn new(shards: u16) -> Self {
        Self { shards, teams: Arc::default() }
    }

    /// The team of this digest, which `read` reads from the shard of `session` if it is not kept. Of attempts in a shard that
    /// start together one reads, so that all have the same copy; the others wait, and read after each other where it found
    /// none. None waits for a shard that is away, other than its own. A `read` that is dropped is another one's turn.
    ///
    /// # Errors
    ///
    /// That of `read`.
    pub async fn get_or_read<E>(
        &self,
        digest: &TeamDigest,
        session: SessionId,
        read: impl Future<Output = Result<Option<StoredTeam>, E>>,
    ) -> Result<Option<StoredTeam>, E> {
        let cell = self.cell(digest);
        if let Some(team) = cell.team.get() {
            return Ok(Some(team.clone()));
        }
        let reader = cell.reader(session.shard(self.shards));
        let _turn = reader.lock().await;
        if let Some(team) = cell.team.get() {
            return Ok(Some(team.clone()));
        }
        // Another shard's reader may have been first: then its copy is everyone's.
        Ok(read.await?.map(|team| cell.team.get_or_init(|| team).clone()))
    }

    /// The cell of a team. Beyond `MAX_TEAMS` all others are dropped: they are read again when they are needed.
    fn cell(&self, digest: &TeamDigest) -> Arc<Cell> {
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
        let (cache, team) = (TeamCache::new(1), stored());
        for number in 0..2 * MAX_TEAMS + 1 {
            let read = async { Ok::<_, Infallible>(Some(team.clone())) };
            assert!(cache.get_or_read(&digest(number), SessionId::random(), read).await.unwrap().is_some());
        }
        assert_eq!(cache.teams.lock().unwrap().len(), 1);
        assert_eq!(Arc::strong_count(&team.0), 2);
    }

    #[tokio::test]
    async fn attempts_that_start_together_read_a_team_once_and_again_after_a_failure() {
        let (cache, team, reads) = (TeamCache::new(1), stored(), AtomicUsize::new(0));
        let (wanted, session) = (digest(1), SessionId::random());
        let get = |_| {
            cache.get_or_read(&wanted, session, async {
                let number = reads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                if number == 0 { Err("away") } else { Ok(Some(team.clone())) }
            })
        };
        let found = join_all((0..1000).map(get)).await;
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        assert_eq!(found.iter().filter(|found| found.is_err()).count(), 1);
        assert_eq!(Arc::strong_count(&team.0), 1 + 1 + 999);
        let missing = cache.get_or_read(&digest(2), session, async { Ok::<_, Infallible>(None) }).await;
        assert!(matches!(missing, Ok(None)));
    }

    #[tokio::test]
    async fn a_shard_that_does_not_answer_holds_up_its_own_attempts_alone() {
        let (cache, team, wanted) = (TeamCache::new(2), stored(), digest(1));
        let session_in = |shard| loop {
            let session = SessionId::random();
            if session.shard(2) == shard {
                return session;
            }
        };
        let [away, alive] = [0, 1].map(session_in);
        let hanging = std::future::pending::<Result<Option<StoredTeam>, Infallible>>();
        let mut waiting = Box::pin(cache.get_or_read(&wanted, away, hanging));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        let never = async { unreachable!("it is kept by then") };
        let mut behind = Box::pin(cache.get_or_read::<Infallible>(&wanted, away, never));
        assert!(futures::poll!(behind.as_mut()).is_pending());
        let read = async { Ok::<_, Infallible>(Some(team.clone())) };
        assert!(cache.get_or_read(&wanted, alive, read).await.unwrap().is_some());
        drop(waiting);
        assert!(behind.await.unwrap().is_some());
    }
}
