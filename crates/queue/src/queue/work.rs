//! What a worker does with a job, on Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::TeamDigest;
use legwork_common::service::MailId;
use redis::Value;

use crate::answer::Answer;
use crate::answer::next;
use crate::answer::unknown_word;
use crate::error::QueueError;
use crate::link::COMMAND_TIMEOUT;
use crate::port::Append;
use crate::port::Appended;
use crate::port::Begun;
use crate::port::Claim;
use crate::port::Claimed;
use crate::port::Ending;
use crate::port::Finish;
use crate::port::Finished;
use crate::port::Heartbeat;
use crate::port::Lane;
use crate::port::Lease;
use crate::port::MailEntry;
use crate::port::MailEntryContent;
use crate::port::Parked;
use crate::port::Release;
use crate::port::ReleaseMode;
use crate::port::Renewal;
use crate::port::Renewed;
use crate::port::Work;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// How long the blocking wake waits: the longest that a lost token can delay a job.
const WAKE_SECONDS: u32 = 2;
/// Leases of one call of `renew`, and endings of one call of `finish`.
const PIECE: usize = 400;
/// Turn entries of one read.
const TURNS_PAGE: usize = 200;

#[async_trait]
impl Work for Queue {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, QueueError> {
        let mut call = Call::on(self.keys.tag(claim.shard))
            .arg(&claim.worker)
            .arg(claim.number)
            .arg(RunToken::random())
            .arg(claim.slots)
            .arg(self.lease_ms());
        for lane in &claim.lanes {
            call.push(lane.name());
        }
        let answer = Answer::of("claim", step::call(&self.link, &step::CLAIM, &call).await?);
        answer.list()?.into_iter().map(read_claimed).collect()
    }

    async fn await_work(&self, lanes: &[Lane]) -> Result<(), QueueError> {
        let mut command = redis::cmd("BLPOP");
        // On one Redis all shards' lists can be awaited at once.
        for shard in 0..self.keys.shards() {
            for lane in lanes {
                command.arg(self.keys.wake(shard, &lane.name()));
            }
        }
        command.arg(WAKE_SECONDS);
        let mut held = self.wake.lock().await;
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.target.blocking_connection().await?,
        };
        // Dropped in the middle, the connection is gone with the future, so no later command can stall
        // behind the read or take its answer.
        let bound = Duration::from_secs(u64::from(WAKE_SECONDS)) + COMMAND_TIMEOUT;
        let woken = tokio::time::timeout(bound, connection.send_packed_command(&command)).await;
        let answer = woken.map_err(|_| {
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            QueueError::from_redis("await work", error.into())
        })?;
        answer.and_then(Value::extract_error).map_err(|error| QueueError::from_redis("await work", error))?;
        *held = Some(connection);
        Ok(())
    }

    async fn begin(&self, claimed: &[(Lease, u32)]) -> Result<Vec<Option<Begun>>, QueueError> {
        let calls: Vec<Call> = claimed
            .iter()
            .map(|(lease, attempt)| self.own_call(lease.id).arg(attempt).arg(lease.token))
            .collect();
        let answers = step::call_all(&self.link, &step::BEGIN, &calls).await?;
        answers.into_iter().map(|value| read_begun(Answer::of("begin", value))).collect()
    }

    async fn renew(&self, renewal: &Renewal) -> Result<(Vec<Renewed>, Vec<Renewed>), QueueError> {
        let shards = self.keys.shards();
        // One call for each shard and piece; positions remember the order of asking.
        let mut jobs: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (position, lease) in renewal.jobs.iter().enumerate() {
            jobs.entry(lease.id.shard(shards)).or_default().push(position);
        }
        let mut kept = vec![Renewed::Lost; renewal.jobs.len()];
        let mut calls = Vec::new();
        for (shard, positions) in &jobs {
            for piece in positions.chunks(PIECE) {
                let mut call = Call::on(self.keys.tag(*shard)).arg(self.lease_ms()).arg(piece.len());
                for &position in piece {
                    call.push(renewal.jobs[position].id.uuid());
                    call.push(renewal.jobs[position].token);
                }
                calls.push(async move { Ok::<_, QueueError>((piece, self.renewed(&call).await?)) });
            }
        }
        // All at once: a shard that is slow must not make the others late.
        for (piece, answers) in try_join_all(calls).await? {
            for (&position, answer) in piece.iter().zip(answers) {
                kept[position] = answer;
            }
        }
        let mut sessions = Vec::with_capacity(renewal.sessions.len());
        for lease in &renewal.sessions {
            let call = Call::on(self.keys.session_tag(lease.session))
                .arg(self.lease_ms())
                .arg(0)
                .arg(lease.session)
                .arg(lease.owner);
            sessions.extend(self.renewed(&call).await?);
        }
        Ok((kept, sessions))
    }

    async fn append(&self, appends: &[Append]) -> Result<Vec<Appended>, QueueError> {
        let calls: Vec<Call> = appends.iter().map(|append| self.append_call(append)).collect();
        let answers = step::call_all(&self.link, &step::APPEND, &calls).await?;
        answers.into_iter().map(|value| read_appended(Answer::of("append", value))).collect()
    }

    async fn park(&self, lease: Lease) -> Result<Parked, QueueError> {
        self.park_or_resume(lease, "park").await
    }

    async fn resume(&self, lease: Lease) -> Result<Parked, QueueError> {
        self.park_or_resume(lease, "resume").await
    }

    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>, QueueError> {
        let mut by_shard: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (position, finish) in finishes.iter().enumerate() {
            by_shard.entry(finish.lease.id.shard(self.keys.shards())).or_default().push(position);
        }
        let mut all = vec![Finished::Lost; finishes.len()];
        for (shard, positions) in by_shard {
            for piece in positions.chunks(PIECE) {
                let mut call = Call::on(self.keys.tag(shard));
                for &position in piece {
                    push_finish(&mut call, &finishes[position]);
                }
                let answer = Answer::of("finish", step::call(&self.link, &step::FINISH, &call).await?);
                for (&position, word) in piece.iter().zip(answer.list()?) {
                    all[position] = self.finished(finishes[position].lease.id, &word.text()?).await?;
                }
            }
        }
        Ok(all)
    }

    async fn release(&self, release: &Release) -> Result<Finished, QueueError> {
        let id = release.lease.id;
        let (mode, reason) = match &release.mode {
            ReleaseMode::Drain => ("drain", ""),
            ReleaseMode::Lack(reason) => ("lack", reason.as_str()),
        };
        let call = Call::on(self.keys.job_tag(id))
            .key(self.keys.job(id))
            .arg(id.uuid())
            .arg(release.lease.token)
            .arg(mode)
            .arg(&release.worker)
            .arg(reason)
            .arg(release.output_bytes);
        let answer = Answer::of("release", step::call(&self.link, &step::RELEASE, &call).await?);
        let (word, _) = answer.tagged()?;
        self.finished(id, &word).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), QueueError> {
        let lanes: Vec<String> = heartbeat.lanes.iter().map(Lane::name).collect();
        for shard in 0..self.keys.shards() {
            let call = self
                .heartbeat_call(shard, &heartbeat.worker, "alive")
                .arg("host")
                .arg(&heartbeat.host)
                .arg("lanes")
                .arg(lanes.join(" "))
                .arg("slots")
                .arg(heartbeat.slots)
                .arg("used")
                .arg(heartbeat.used)
                .arg("jobs")
                .arg(heartbeat.jobs)
                .arg("draining")
                .arg(u8::from(heartbeat.draining));
            step::call(&self.link, &step::HEARTBEAT, &call).await?;
        }
        Ok(())
    }

    async fn goodbye(&self, worker: &WorkerId) -> Result<(), QueueError> {
        for shard in 0..self.keys.shards() {
            let call = self.heartbeat_call(shard, worker, "gone");
            step::call(&self.link, &step::HEARTBEAT, &call).await?;
        }
        Ok(())
    }

    async fn mail(&self, session: SessionId, of: Dispatcher) -> Result<Vec<MailEntry>, QueueError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.mailbox(session, of)).arg("-").arg("+").arg("COUNT").arg(1000);
        let value = self.link.command(&command).await;
        let answer = Answer::of("mail", value.map_err(|error| QueueError::from_redis("mail", error))?);
        answer.list()?.into_iter().map(read_mail).collect()
    }

    async fn acknowledge(
        &self,
        session: SessionId,
        of: Dispatcher,
        mail: &[MailId],
    ) -> Result<(), QueueError> {
        for piece in mail.chunks(PIECE) {
            let mut call = Call::on(self.keys.session_tag(session)).key(self.keys.mailbox(session, of));
            for id in piece {
                call.push(&id.0);
            }
            step::call(&self.link, &step::ACKNOWLEDGE, &call).await?;
        }
        Ok(())
    }

    async fn team(&self, session: SessionId, digest: &TeamDigest) -> Result<Option<String>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.team(session.shard(self.keys.shards()), digest)).arg("json");
        let value = self.link.command(&command).await;
        let answer = Answer::of("team", value.map_err(|error| QueueError::from_redis("team", error))?);
        Ok(answer.bytes()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn turns(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError> {
        let mut turns: Vec<(u64, String)> = Vec::new();
        loop {
            let from = turns.last().map_or(after, |(sequence, _)| *sequence);
            let mut command = redis::cmd("XRANGE");
            // Behind all that begins with this sequence: the other half of an entry's name is its time.
            let behind = format!("({from}-{}", u64::MAX);
            command.arg(self.keys.turns(id)).arg(behind).arg("+").arg("COUNT").arg(TURNS_PAGE);
            let value = self.link.command(&command).await;
            let answer = Answer::of("turns", value.map_err(|error| QueueError::from_redis("turns", error))?);
            let page = answer.list()?;
            let full = page.len() == TURNS_PAGE;
            for entry in page {
                turns.push(read_turn(entry)?);
            }
            if !full {
                return Ok(turns);
            }
        }
    }

    async fn turn_age(&self, id: JobId, sequence: u64) -> Result<Option<Duration>, QueueError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.turns(id)).arg(sequence).arg(sequence).arg("COUNT").arg(1);
        let value = self.link.command(&command).await;
        let answer = Answer::of("turns", value.map_err(|error| QueueError::from_redis("turns", error))?);
        let Some(entry) = answer.list()?.into_iter().next() else { return Ok(None) };
        let (name, _, _) = read_entry("turns", entry)?;
        let stored: Option<u64> = name.split('-').nth(1).and_then(|digits| digits.parse().ok());
        let stored = stored.ok_or_else(|| unknown_word("turns", &name))?;
        Ok(Some(Duration::from_millis(self.now_ms().await?.saturating_sub(stored))))
    }
}

impl Queue {
    /// A call below a job's own tag.
    pub(super) fn own_call(&self, id: JobId) -> Call {
        Call::on(self.keys.output(id)).key(self.keys.turns(id)).key(self.keys.fence(id))
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
            .arg(append.waits_for.as_deref().unwrap_or_default());
        for (sequence, entry) in &append.entries {
            call.push(sequence);
            call.push(entry);
        }
        call
    }

    fn heartbeat_call(&self, shard: u16, worker: &WorkerId, mode: &str) -> Call {
        Call::on(self.keys.tag(shard)).arg(worker).arg(self.lease_ms()).arg(mode)
    }

    async fn renewed(&self, call: &Call) -> Result<Vec<Renewed>, QueueError> {
        let answer = Answer::of("renew", step::call(&self.link, &step::RENEW, call).await?);
        answer.list()?.into_iter().map(|word| read_renewed(&word.text()?)).collect()
    }

    async fn park_or_resume(&self, lease: Lease, direction: &str) -> Result<Parked, QueueError> {
        let call = Call::on(self.keys.job_tag(lease.id))
            .key(self.keys.job(lease.id))
            .arg(lease.id.uuid())
            .arg(lease.token)
            .arg(direction);
        let word = Answer::of("park", step::call(&self.link, &step::PARK, &call).await?).text()?;
        match word.as_str() {
            "parked" | "resumed" => Ok(Parked::Done),
            "stopping" => Ok(Parked::Stopping),
            "lost" => Ok(Parked::Lost),
            other => Err(unknown_word("park", other)),
        }
    }

    /// Reads what became of a job; where its failure marked a tree, sweeps it.
    pub(super) async fn finished(&self, id: JobId, word: &str) -> Result<Finished, QueueError> {
        if word == "lost" {
            return Ok(Finished::Lost);
        }
        if let Some(state) = word.strip_suffix("+tree") {
            self.sweep_tree(id.shard(self.keys.shards()), id.uuid(), false).await?;
            return state.parse().map(Finished::Now).map_err(|_| unknown_word("finish", word));
        }
        word.parse().map(Finished::Now).map_err(|_| unknown_word("finish", word))
    }
}

fn push_finish(call: &mut Call, finish: &Finish) {
    let (outcome, cause, text) = match &finish.ending {
        Ending::Completed { result } => ("completed", None, result.as_str()),
        Ending::Failed { cause, message } => ("failed", Some(*cause), message.as_str()),
        Ending::Stopped { cause } => ("stopped", Some(*cause), ""),
    };
    call.push(finish.lease.id.uuid());
    call.push(finish.lease.token);
    call.push(outcome);
    call.push(cause.map(Cause::as_str).unwrap_or_default());
    call.push(text);
    call.push(finish.output_bytes);
    call.push(finish.usage.input_tokens);
    call.push(finish.usage.cached_tokens);
    call.push(finish.usage.output_tokens);
    call.push(finish.usage.turns);
    call.push(finish.retry_delay.as_millis());
    call.push_bytes(finish.lease.id.as_bytes());
    call.push(u8::from(cause.is_some_and(Cause::is_retryable)));
}

fn read_claimed(answer: Answer) -> Result<Claimed, QueueError> {
    let mut items = answer.list()?.into_iter();
    let mut item = || next("claim", &mut items);
    let id: JobId = item()?.parse()?;
    let session: SessionId = item()?.parse()?;
    let parent: Option<JobId> = item()?.parse_optional()?;
    let attempt = item()?.parse()?;
    let queue = item()?.text()?;
    let _started = item()?;
    let ran = Duration::from_millis(item()?.parse()?);
    let timeout: u64 = item()?.parse()?;
    let retries = item()?.parse()?;
    let spec = item()?.bytes()?.unwrap_or_default();
    let depth = item()?.parse()?;
    let token = item()?.parse()?;
    let failures = item()?.parse()?;
    let retry_delay = Duration::from_millis(item()?.parse()?);
    Ok(Claimed {
        lease: Lease { id, token },
        session,
        dispatcher: Queue::dispatcher_of(session, parent),
        depth,
        attempt,
        queue,
        ran,
        timeout: (timeout > 0).then(|| Duration::from_millis(timeout)),
        retries,
        failures,
        retry_delay,
        spec: serde_json::from_slice(&spec)
            .map_err(|error| QueueError::Unexpected { step: "claim", detail: error.to_string() })?,
    })
}

fn read_begun(answer: Answer) -> Result<Option<Begun>, QueueError> {
    let (word, mut rest) = answer.tagged()?;
    match word.as_str() {
        "begun" => {
            let output_bytes = next("begin", &mut rest)?.parse()?;
            let last = next("begin", &mut rest)?.text()?;
            let last_entry = last.split('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
            Ok(Some(Begun { output_bytes, last_entry, finished_turns: next("begin", &mut rest)?.parse()? }))
        }
        "stale" => Ok(None),
        other => Err(unknown_word("begin", other)),
    }
}

fn read_renewed(word: &str) -> Result<Renewed, QueueError> {
    match word {
        "kept" => Ok(Renewed::Kept),
        "mail" => Ok(Renewed::Mail),
        "stop" => Ok(Renewed::StopRequested),
        "lost" => Ok(Renewed::Lost),
        other => Err(unknown_word("renew", other)),
    }
}

fn read_appended(answer: Answer) -> Result<Appended, QueueError> {
    let (word, mut rest) = answer.tagged()?;
    match word.as_str() {
        "appended" => Ok(Appended::Stored(next("append", &mut rest)?.parse()?)),
        "fenced" => Ok(Appended::Fenced),
        // The server lost what it had confirmed. The next attempt goes on from what is there; an error
        // would hold up all jobs of the same round trip, for ever.
        "gap" => {
            let stored = next("append", &mut rest)?.text()?;
            tracing::warn!(stored, "output that was confirmed is gone; the attempt ends");
            Ok(Appended::Fenced)
        }
        other => Err(unknown_word("append", other)),
    }
}

/// Splits a stream entry into its id and its first field.
fn read_entry(step: &'static str, answer: Answer) -> Result<(String, String, Answer), QueueError> {
    let mut parts = answer.list()?.into_iter();
    let id = next(step, &mut parts)?.text()?;
    let mut fields = next(step, &mut parts)?.list()?.into_iter();
    Ok((id, next(step, &mut fields)?.text()?, next(step, &mut fields)?))
}

fn read_mail(answer: Answer) -> Result<MailEntry, QueueError> {
    let (id, field, value) = read_entry("mail", answer)?;
    let content = match field.as_str() {
        "ended" => MailEntryContent::Ended(value.parse()?),
        "message" => MailEntryContent::Message(value.text()?),
        other => return Err(unknown_word("mail", other)),
    };
    Ok(MailEntry { id: MailId(id), content })
}

fn read_turn(answer: Answer) -> Result<(u64, String), QueueError> {
    let (id, _, value) = read_entry("turns", answer)?;
    let sequence = id.split('-').next().and_then(|digits| digits.parse().ok());
    Ok((sequence.ok_or_else(|| unknown_word("turns", &id))?, value.text()?))
}
