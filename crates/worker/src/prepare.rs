//! What an attempt reads from the queue before it can run: its team, and the turns of earlier attempts.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use legwork_agent::journal::TurnEntry;
use legwork_agent::pruning::prune_replaced;
use legwork_common::id::JobId;
use legwork_common::job::TeamDigest;
use legwork_common::stored;
use legwork_common::stored::Unreadable;
use legwork_common::team::Team;
use legwork_queue::QueueError;
use legwork_queue::port::Claimed;
use legwork_queue::port::Work;
use legwork_signing::TurnVerifier;
use thiserror::Error;

use crate::admission::AdmissionError;
use crate::admission::AttemptAdmission;
use crate::admission::SignedTurns;
use crate::copied_turns;
use crate::copied_turns::CopiedTurns;
use crate::parking::OpenTurn;
use crate::team_cache::StoredTeam;
use crate::team_cache::TeamCache;

/// What an attempt needs from the queue. The default is enough for a runner without a team.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// The team and its JSON, which its own jobs are dispatched with; `None` where it was pruned.
    pub(crate) team: Option<StoredTeam>,
    /// The turn entries of earlier attempts and runs, without those that a summary has replaced.
    pub(crate) recorded: Vec<TurnEntry>,
    /// The last recorded turn, whose calls may run again.
    pub(crate) open_turn: Option<OpenTurn>,
    /// The turns of the job that this one retries, where they are still to be copied.
    pub(crate) copied_turns: Option<CopiedTurns>,
    /// Signs the turns after these; `None` where they are not signed.
    pub(crate) turn_signer: Option<SignedTurns>,
}

/// Why an attempt cannot be prepared.
#[derive(Debug, Error)]
pub(crate) enum PrepareError {
    /// The queue could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The stored team is not the one that the job was dispatched with.
    #[error("the stored team is not the one that the job was dispatched with: its digest differs")]
    AlteredTeam,
    /// The job is not trusted here, or that is not known.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// A later release stored what the attempt needs, or it is damaged: another worker may be able to read it.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Reads it, the turns only once the job is admitted. `has_turns`: whether an earlier attempt or run may have recorded turns.
///
/// # Errors
///
/// [`PrepareError`] when the queue cannot be asked, or has a team or turns that this release cannot read.
pub(crate) async fn read(
    work: &dyn Work,
    (teams, admission): (&TeamCache, &AttemptAdmission),
    claimed: &Claimed,
    has_turns: bool,
) -> Result<Prepared, PrepareError> {
    let job = claimed.lease.id;
    let team = read_team(work, teams, claimed).await?;
    admission.admit(claimed, team.as_ref().map(|(team, _)| &**team)).await?;
    let mut verifier = admission.turn_verifier(job);
    let (recorded, last_reply) =
        if has_turns { read_turns(work, job, &mut verifier).await? } else { (Vec::new(), None) };
    admission.check_all_turns(job, verifier.as_ref()).await?;
    let copied_turns = copied_turns::still_to_copy(work, &claimed.spec, &recorded, admission).await?;
    let open_turn = read_open_turn(work, job, last_reply).await?;
    let turn_signer = admission.turn_signer(job, verifier);
    Ok(Prepared { team, recorded, open_turn, copied_turns, turn_signer })
}

/// The job's team; `None` where it is not stored.
async fn read_team(
    work: &dyn Work,
    teams: &TeamCache,
    claimed: &Claimed,
) -> Result<Option<StoredTeam>, PrepareError> {
    let digest = &claimed.spec.team;
    let read = async {
        let Some(json) = work.team(claimed.session, digest).await? else { return Ok(None) };
        // Any program that can write to Redis could change what an agent does, and with which tools.
        if TeamDigest::of(&json) != *digest {
            return Err(PrepareError::AlteredTeam);
        }
        Ok(Some((Arc::new(stored::TEAM.from_json::<Team>(&json)?), Arc::from(json))))
    };
    teams.get_or_read(digest, read).await
}

/// The turn and the sequence of a recorded reply.
type Reply = (u32, u64);

/// The recorded entries, and the last reply among them.
async fn read_turns(
    work: &dyn Work,
    job: JobId,
    verifier: &mut Option<TurnVerifier>,
) -> Result<(Vec<TurnEntry>, Option<Reply>), PrepareError> {
    let mut recorded = Vec::new();
    let mut last_reply = None;
    for (sequence, entry) in work.turns(job, 0).await? {
        let entry = TurnEntry::decode(&opened(verifier, &entry)?)?;
        if let TurnEntry::Reply { turn, .. } = &entry {
            last_reply = Some((*turn, sequence));
        }
        let is_summary = matches!(entry, TurnEntry::Compacted { .. });
        recorded.push(entry);
        if is_summary {
            // At each summary, so that a long job never has all its entries in memory at once.
            prune_replaced(&mut recorded);
        }
    }
    Ok((recorded, last_reply))
}

/// A stored entry, verified and without its signature where the worker trusts only some.
pub(crate) fn opened<'a>(
    verifier: &mut Option<TurnVerifier>,
    stored: &'a str,
) -> Result<Cow<'a, str>, AdmissionError> {
    match verifier {
        None => Ok(Cow::Borrowed(stored)),
        Some(verifier) => Ok(Cow::Owned(verifier.open(stored)?)),
    }
}

/// When the calls of the last reply were requested: its age by Redis' clock, counted back on this machine's. `None`
/// where there is none, or where this machine started later.
async fn read_open_turn(
    work: &dyn Work,
    job: JobId,
    last_reply: Option<Reply>,
) -> Result<Option<OpenTurn>, QueueError> {
    let Some((turn, sequence)) = last_reply else { return Ok(None) };
    let age = work.turn_age(job, sequence).await?;
    let replied_at = age.and_then(|age| Instant::now().checked_sub(age));
    Ok(replied_at.map(|replied_at| OpenTurn { turn, replied_at }))
}
