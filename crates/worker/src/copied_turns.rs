//! A job that tries another again goes on from the turns that the other recorded.
//!
//! They are copied into its own turns, in order, and then marked as copied. An attempt that dies in the
//! middle leaves a part, from which the next one goes on copying.

use legwork_agent::journal::TurnEntry;
use legwork_common::id::JobId;
use legwork_common::job::JobSpec;
use legwork_queue::QueueError;
use legwork_queue::port::Work;

use crate::log_writer::AttemptBuffer;
use crate::log_writer::Gone;
use crate::log_writer::LogWriter;

/// What is still to be copied.
#[derive(Debug)]
pub(crate) struct CopiedTurns {
    of: JobId,
    left: Vec<String>,
}

/// What a job has yet to take over; `None` for a job that tries none again, or has done so.
///
/// # Errors
///
/// [`QueueError`] when the other job's turns cannot be read.
pub(crate) async fn still_to_take(
    work: &dyn Work,
    spec: &JobSpec,
    recorded: &[TurnEntry],
) -> Result<Option<CopiedTurns>, QueueError> {
    let Some(of) = spec.retry_of.filter(|_| !spec.fresh) else { return Ok(None) };
    if recorded.contains(&TurnEntry::Retried { of }) {
        return Ok(None);
    }
    let turns = work.turns(of, recorded.len() as u64).await?;
    Ok(Some(CopiedTurns { of, left: turns.into_iter().map(|(_, entry)| entry).collect() }))
}

impl CopiedTurns {
    /// Copies the rest and adds it to what is recorded.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the attempt is fenced.
    pub(crate) async fn take(
        self,
        log_writer: &LogWriter,
        page: &AttemptBuffer,
        recorded: &mut Vec<TurnEntry>,
    ) -> Result<(), Gone> {
        for text in self.left {
            // One that cannot be read is of a later version: what follows it is beyond this one too.
            let Ok(entry) = serde_json::from_str(&text) else {
                tracing::warn!(of = %self.of, "an entry of the turns cannot be read; the job begins before it");
                break;
            };
            log_writer.record(page, text, None).await?;
            recorded.push(entry);
        }
        let mark = TurnEntry::Retried { of: self.of };
        let last = recorded.iter().filter_map(turn_of).next_back().unwrap_or(0);
        log_writer.output(page, &format!("[goes on from turn {} of {}]\n", last + 1, self.of)).await?;
        let text = serde_json::to_string(&mark).map_err(|_| Gone)?;
        log_writer.record(page, text, None).await?;
        recorded.push(mark);
        Ok(())
    }
}

/// The turn that an entry belongs to.
fn turn_of(entry: &TurnEntry) -> Option<u32> {
    match entry {
        TurnEntry::Reply { turn, .. } | TurnEntry::Result { turn, .. } => Some(*turn),
        TurnEntry::Delivered { .. }
        | TurnEntry::Compacted { .. }
        | TurnEntry::Stderr { .. }
        | TurnEntry::Retried { .. } => None,
    }
}
