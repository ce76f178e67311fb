//! What is below a job's own tag, on Redis: its output, the journal of its turns, and the fence of both.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::stored::SoleReply;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::Append;
use crate::port::Appended;
use crate::port::Begun;
use crate::port::Lease;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;
use crate::stored::record::UsageField;

/// What reading turns is called in messages.
const TURNS: &str = "turns";
/// Turn entries of one read. An entry may hold a whole tool result, so a page of large ones is some ten megabytes.
const TURNS_PAGE_SIZE: u64 = 200;

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
            .arg(append.waits_for.as_ref().map(|reason| format!("={reason}")).unwrap_or_default())
            .arg(append.usage.map(Usage::stored).unwrap_or_default());
        // Entries of one append follow each other.
        if let Some((first, _)) = append.entries.first() {
            call.push(first);
        }
        for (_, entry) in &append.entries {
            call.push(entry);
        }
        call
    }

    /// Reads all turn entries after a sequence, in pages.
    pub(super) async fn read_turns(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError> {
        let mut turns: Vec<(u64, String)> = Vec::new();
        loop {
            let last = turns.last().map_or(after, |(sequence, _)| *sequence);
            // The entry of a sequence is at that place less one.
            let mut command = redis::cmd("LRANGE");
            command.arg(self.keys.turns(id)).arg(last).arg(last + TURNS_PAGE_SIZE - 1);
            let page = self.link.ask(TURNS, &command).await?.items()?;
            let is_full = page.len() as u64 == TURNS_PAGE_SIZE;
            for (sequence, entry) in (last + 1..).zip(page) {
                let text = entry.text()?;
                let entry = text.split_once(' ').map_or(text.as_str(), |(_, entry)| entry);
                turns.push((sequence, entry.to_owned()));
            }
            if !is_full && last == 0 && turns.is_empty() {
                return self.derived_turns(id).await;
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
        let mut command = redis::cmd("LINDEX");
        command.arg(self.keys.turns(id)).arg(sequence.saturating_sub(1));
        let Some(entry) = self.link.ask(TURNS, &command).await?.optional_text()? else { return Ok(None) };
        let stored: Option<u64> = entry.split_once(' ').and_then(|(time, _)| time.parse().ok());
        let Some(stored) = stored else { return Ok(None) };
        Ok(Some(Duration::from_millis(self.now_ms().await?.saturating_sub(stored))))
    }

    /// The turns of a job that has none of its own any more, because they follow from its output and its record.
    async fn derived_turns(&self, id: JobId) -> Result<Vec<(u64, String)>, QueueError> {
        // First the record alone: most jobs without turns have not recorded any yet, and their output may have megabytes.
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.job(id)).arg("reply").arg("usage");
        let mut fields = self.link.ask(TURNS, &command).await?.items()?;
        let (origin, usage) = (fields.item()?.optional_text()?, fields.item()?.optional_text()?);
        let Some(origin) = origin else { return Ok(Vec::new()) };
        let field = UsageField::decode(&usage.unwrap_or_default());
        let mut command = redis::cmd("GET");
        command.arg(self.keys.output(id));
        let text = self.link.ask(TURNS, &command).await?.optional_text()?.unwrap_or_default();
        if text.len() as u64 != field.result_bytes {
            return Ok(Vec::new());
        }
        let entry = SoleReply::from_stored(text, field.usage, &origin).entry();
        Ok(entry.into_iter().map(|entry| (1, entry)).collect())
    }
}

fn read_begun(answer: Answer) -> Result<Option<Begun>, QueueError> {
    let (word, mut rest) = answer.tagged()?;
    match word.as_str() {
        "begun" => {
            let (output_bytes, last_entry) = (rest.item()?.parse()?, rest.item()?.parse()?);
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
        "followed" => Ok(Appended::Followed(rest.item()?.parse()?)),
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
