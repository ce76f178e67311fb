//! What is below a job's own tag, on Redis: its output, the journal of its turns, and the fence of both.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::Usage;

use crate::answer::Answer;
use crate::answer::Word;
use crate::error::QueueError;
use crate::port::Append;
use crate::port::Appended;
use crate::port::Begun;
use crate::port::Lease;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// What reading turns is called in messages.
const TURNS: &str = "turns";
/// Turn entries of one read. An entry may hold a whole tool result, so a page of large ones is some ten megabytes.
const TURNS_PAGE_SIZE: usize = 200;

impl Queue {
    /// A call below a job's own tag.
    pub(super) fn own_call(&self, id: JobId) -> Call {
        Call::on(self.keys.output(id)).key(self.keys.turns(id)).key(self.keys.fence(id))
    }

    /// Sets the fences of claimed jobs in one round trip.
    pub(super) async fn set_fences(
        &self,
        claimed: &[(Lease, u32)],
    ) -> Result<Vec<Option<Begun>>, QueueError> {
        let calls: Vec<Call> = claimed
            .iter()
            .map(|(lease, attempt)| self.own_call(lease.id).arg(attempt).arg(lease.token))
            .collect();
        step::BEGIN.call_all(&self.link, &calls).await?.into_iter().map(read_begun).collect()
    }

    /// Appends for several jobs in one round trip.
    pub(super) async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, QueueError> {
        let calls: Vec<Call> = appends.iter().map(|append| self.append_call(append)).collect();
        step::APPEND.call_all(&self.link, &calls).await?.into_iter().map(read_appended).collect()
    }

    fn append_call(&self, append: &Append) -> Call {
        let id = append.lease.id;
        let mut call = self
            .own_call(id)
            .arg(append.lease.token)
            .arg(self.keys.job_channel(id))
            .arg(append.offset)
            .bytes(&append.bytes)
            .arg(append.finished_turns.map(|turns| turns.to_string()).unwrap_or_default())
            .arg(u8::from(append.waits_for.is_some()))
            .arg(append.waits_for.as_deref().unwrap_or_default())
            .arg(append.usage.map(Usage::stored).unwrap_or_default());
        for (sequence, entry) in &append.entries {
            call.push(sequence);
            call.push(entry);
        }
        call
    }

    /// Reads all turn entries after a sequence, in pages.
    pub(super) async fn read_turns(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError> {
        let mut turns: Vec<(u64, String)> = Vec::new();
        loop {
            let last = turns.last().map_or(after, |(sequence, _)| *sequence);
            // An entry is named by its sequence and its time, so this is behind all entries of that sequence.
            let behind = format!("({last}-{}", u64::MAX);
            let mut command = redis::cmd("XRANGE");
            command.arg(self.keys.turns(id)).arg(behind).arg("+").arg("COUNT").arg(TURNS_PAGE_SIZE);
            let page = self.link.ask(TURNS, &command).await?.items()?;
            let is_full = page.len() == TURNS_PAGE_SIZE;
            for entry in page {
                let (name, _, value) = read_entry(entry)?;
                let (sequence, _) = read_name(&name)?;
                turns.push((sequence, value.text()?));
            }
            if !is_full {
                return Ok(turns);
            }
        }
    }

    /// How long ago a turn entry was stored.
    pub(super) async fn read_turn_age(
        &self,
        id: JobId,
        sequence: u64,
    ) -> Result<Option<Duration>, QueueError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.turns(id)).arg(sequence).arg(sequence).arg("COUNT").arg(1);
        let Some(entry) = self.link.ask(TURNS, &command).await?.items()?.next() else { return Ok(None) };
        let (name, _, _) = read_entry(entry)?;
        let (_, stored) = read_name(&name)?;
        Ok(Some(Duration::from_millis(self.now_ms().await?.saturating_sub(stored))))
    }
}

/// Splits a stream entry into its name and its first field.
pub(super) fn read_entry(answer: Answer) -> Result<(Word, Word, Answer), QueueError> {
    let mut parts = answer.items()?;
    let name = parts.item()?.word()?;
    let mut fields = parts.item()?.items()?;
    Ok((name, fields.item()?.word()?, fields.item()?))
}

/// The sequence of a turn entry and the time it was stored at, in milliseconds, from its name.
fn read_name(name: &Word) -> Result<(u64, u64), QueueError> {
    let parts = name.as_str().split_once('-');
    let parts = parts.and_then(|(sequence, time)| Some((sequence.parse().ok()?, time.parse().ok()?)));
    parts.ok_or_else(|| name.unknown())
}

fn read_begun(answer: Answer) -> Result<Option<Begun>, QueueError> {
    let (word, mut rest) = answer.tagged()?;
    match word.as_str() {
        "begun" => {
            let output_bytes = rest.item()?.parse()?;
            let last = rest.item()?.word()?;
            let last_entry = if last.as_str().is_empty() { 0 } else { read_name(&last)?.0 };
            Ok(Some(Begun { output_bytes, last_entry, finished_turns: rest.item()?.parse()? }))
        }
        "stale" => Ok(None),
        _ => Err(word.unknown()),
    }
}

fn read_appended(answer: Answer) -> Result<Appended, QueueError> {
    let (word, mut rest) = answer.tagged()?;
    match word.as_str() {
        "appended" => Ok(Appended::Stored(rest.item()?.parse()?)),
        "fenced" => Ok(Appended::Fenced),
        // The server lost output that it had confirmed, as it may with `appendfsync everysec`. Ending the attempt lets
        // the next one continue from what is there; an error would hold up all jobs of the same round trip forever.
        "gap" => {
            let stored = rest.item()?.text()?;
            tracing::warn!(stored, "Redis lost output that it had confirmed; ending the attempt");
            Ok(Appended::Fenced)
        }
        _ => Err(word.unknown()),
    }
}
