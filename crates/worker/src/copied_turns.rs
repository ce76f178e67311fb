//! A job that retries another one (`legwork retry`) resumes from the turns that the other recorded.
//!
//! They are copied into its own turns, in order, and then marked as copied. An attempt that dies in the middle leaves a
//! part of them; the next one copies the rest.

use legwork_agent::journal::TurnEntry;
use legwork_common::id::JobId;
use legwork_common::job::JobSpec;
use legwork_queue::port::Work;

use crate::admission::AttemptAdmission;
use crate::log_writer::AttemptBuffer;
use crate::log_writer::BufferClosed;
use crate::log_writer::LogWriter;
use crate::log_writer::Progress;
use crate::prepare::PrepareError;
use crate::prepare::opened;

/// The turns that are still to be copied.
#[derive(Debug)]
pub(crate) struct CopiedTurns {
    source: JobId,
    /// Each entry with its recorded text.
    remaining: Vec<(TurnEntry, String)>,
}

/// Reads what a job has yet to copy, verified where the worker does not trust every job; `None` for a job that retries no other,
/// or has copied everything.
///
/// # Errors
///
/// [`PrepareError`] when the other job's turns cannot be read, or were recorded by a later release.
pub(crate) async fn still_to_copy(
    work: &dyn Work,
    spec: &JobSpec,
    recorded: &[TurnEntry],
    admission: &AttemptAdmission,
) -> Result<Option<CopiedTurns>, PrepareError> {
    let Some(source) = spec.retry_of.filter(|_| !spec.fresh) else { return Ok(None) };
    if recorded.contains(&TurnEntry::Retried { of: source }) {
        return Ok(None);
    }
    // Without the mark, everything that is recorded is a copy: the rest begins after as many entries.
    let copied = recorded.len() as u64;
    let mut verifier = admission.turn_verifier(source);
    // A signature is over all entries before it too.
    let read_after = if verifier.is_some() { 0 } else { copied };
    let mut remaining = Vec::new();
    for (sequence, text) in work.turns(source, read_after).await? {
        let text = opened(&mut verifier, &text)?.into_owned();
        if sequence > copied {
            remaining.push((TurnEntry::decode(&text)?, text));
        }
    }
    admission.check_all_turns(source, verifier.as_ref()).await?;
    Ok(Some(CopiedTurns { source, remaining }))
}

impl CopiedTurns {
    /// Copies the remaining turns into `buffer` and adds them to `recorded`. Cut off by a crash, it leaves a part of
    /// them recorded, without the mark.
    ///
    /// # Errors
    ///
    /// [`BufferClosed`] once the attempt is fenced.
    pub(crate) async fn copy_into(
        self,
        log_writer: &LogWriter,
        buffer: &AttemptBuffer,
        recorded: &mut Vec<TurnEntry>,
    ) -> Result<(), BufferClosed> {
        for (entry, text) in self.remaining {
            log_writer.record(buffer, text, Progress::default()).await?;
            recorded.push(entry);
        }
        let mark = TurnEntry::Retried { of: self.source };
        let last = recorded.iter().filter_map(turn_of).next_back().unwrap_or(0);
        log_writer.output(buffer, &format!("[resumes from turn {} of {}]\n", last + 1, self.source)).await?;
        let text = mark.encode().map_err(|_| BufferClosed)?;
        log_writer.record(buffer, text, Progress::default()).await?;
        recorded.push(mark);
        Ok(())
    }
}

/// The turn that an entry belongs to; `None` for entries between turns.
fn turn_of(entry: &TurnEntry) -> Option<u32> {
    match entry {
        TurnEntry::Reply { turn, .. }
        | TurnEntry::Result { turn, .. }
        | TurnEntry::Asked { turn, .. }
        | TurnEntry::Decided { turn, .. } => Some(*turn),
        TurnEntry::Delivered { .. }
        | TurnEntry::Compacted { .. }
        | TurnEntry::Stderr { .. }
        | TurnEntry::Retried { .. } => None,
    }
}
