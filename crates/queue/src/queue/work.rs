//! What a worker does with a job, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::TeamDigest;
use legwork_common::service::MailId;
use legwork_common::stored::RECORD;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::Append;
use crate::port::Appended;
use crate::port::Begun;
use crate::port::Claim;
use crate::port::Claimed;
use crate::port::Claims;
use crate::port::Finish;
use crate::port::Finished;
use crate::port::Heartbeat;
use crate::port::Lane;
use crate::port::Lease;
use crate::port::MailEntry;
use crate::port::Parked;
use crate::port::Release;
use crate::port::ReleaseMode;
use crate::port::Renewal;
use crate::port::Renewed;
use crate::port::WakeToken;
use crate::port::Work;
use crate::port::WorkerReport;
use crate::queue::Queue;
use crate::queue::record;
use crate::queue::signing::signed_job;
use crate::step;
use crate::step::Call;
use crate::stored::facts;
use crate::stored::request;

/// Jobs of one claim at most, so that one step stays short: a claimed job takes 8 us of the server's processor, and Lua
/// passes a command at most some 8,000 values.
const MAX_CLAIMED: u32 = 1000;
/// How long one blocking read waits for a wake token: the longest that a lost token can delay a job.
const WAKE_SECONDS: u32 = 2;
/// The name of the wait for a wake token in errors.
const AWAIT_WORK: &str = "await work";
/// After this long the tokens of a lane that no worker waits on are dropped, as in `admission.lua`.
const WAKE_EXPIRY_SECONDS: u32 = 3600;
/// Leases of one call of `renew`: a renewal takes 2 us of the server's processor.
const BATCH_SIZE: usize = 100;

#[async_trait]
impl Work for Queue {
    async fn claim(&self, claim: &Claim) -> Result<Claims, QueueError> {
        let answer = step::CLAIM.call(&self.link, &self.claim_call(claim)).await?;
        self.read_claims(claim, answer).await
    }

    async fn await_work(&self, lanes: &[Lane]) -> Result<Option<WakeToken>, QueueError> {
        // All keys of a shard are in one slot of a Cluster; on one Redis, one read takes those of all shards.
        let of_shard = |shard| lanes.iter().map(|lane| self.keys.wake(shard, &lane.name())).collect();
        let groups = (0..self.keys.shards()).map(of_shard).collect();
        let answer = self.wake.take(&self.target, groups, WAKE_SECONDS, AWAIT_WORK).await?;
        read_token(answer)
    }

    fn claims_when_woken(&self) -> bool {
        self.keys.shards() == 1 && !self.target.is_cluster()
    }

    async fn claim_when_woken(
        &self,
        claim: &Claim,
    ) -> Result<(Option<WakeToken>, Option<Claims>), QueueError> {
        let wakes = claim.lanes.iter().map(|lane| self.keys.wake(claim.shard, &lane.name())).collect();
        let command = step::CLAIM.command(&self.claim_call(claim));
        let [token, answer] =
            self.wake.take_and_send(&self.target, wakes, WAKE_SECONDS, AWAIT_WORK, &command).await?;
        let token =
            read_token(token.extract_error().map_err(|error| QueueError::from_redis(AWAIT_WORK, error))?)?;
        // Such as a script that the server has forgotten: a claim on the other connection loads it.
        let Ok(answer) = answer.extract_error() else { return Ok((token, None)) };
        let claims = self.read_claims(claim, step::CLAIM.answer(answer)).await?;
        Ok((token, Some(claims)))
    }

    async fn return_wake(&self, token: WakeToken) -> Result<(), QueueError> {
        let mut pipeline = redis::pipe();
        // First in line, as it was.
        pipeline.cmd("LPUSH").arg(&token.key).arg(1);
        pipeline.cmd("EXPIRE").arg(&token.key).arg(WAKE_EXPIRY_SECONDS);
        self.link.ask_all("return wake", &pipeline).await.map(drop)
    }

    async fn begin(&self, claimed: &[(Lease, u32)]) -> Result<Vec<Option<Begun>>, QueueError> {
        self.set_fences(claimed).await
    }

    async fn renew(&self, renewal: &Renewal) -> Result<(Vec<Renewed>, Vec<Renewed>), QueueError> {
        let by_shard = self.by_shard(renewal.jobs.iter().map(|lease| lease.id));
        let mut calls = Vec::new();
        for (shard, positions) in &by_shard {
            for batch in positions.chunks(BATCH_SIZE) {
                let mut call = Call::on(self.keys.tag(*shard)).arg(self.lease_ms()).arg(batch.len());
                for &position in batch {
                    call.push(renewal.jobs[position].id.uuid());
                    call.push(renewal.jobs[position].token);
                }
                calls.push(async move { Ok::<_, QueueError>((batch, self.renewed(&call).await?)) });
            }
        }
        let mut kept = vec![Renewed::Lost; renewal.jobs.len()];
        // All at once, because a slow shard must not delay the renewals of the others.
        for (batch, answers) in try_join_all(calls).await? {
            for (&position, answer) in batch.iter().zip(answers) {
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
        self.append_all(appends).await
    }

    async fn park(&self, lease: Lease) -> Result<Parked, QueueError> {
        self.park_or_resume(lease, "park").await
    }

    async fn resume(&self, lease: Lease) -> Result<Parked, QueueError> {
        self.park_or_resume(lease, "resume").await
    }

    async fn leave_quarantine(&self, lease: Lease) -> Result<bool, QueueError> {
        let call = Call::on(self.keys.job_tag(lease.id))
            .key(self.keys.job(lease.id))
            .arg(lease.id.uuid())
            .arg(lease.token);
        let word = step::LEAVE_QUARANTINE.call(&self.link, &call).await?.word()?;
        Ok(word.as_str() == "left")
    }

    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>, QueueError> {
        self.finish_all(finishes).await
    }

    async fn confirm(&self, finish: &Finish) -> Result<Option<Finished>, QueueError> {
        let Some(link) = &self.durable else { return Ok(None) };
        let shard = finish.lease.id.shard(self.keys.shards());
        Ok(self.finish_batch(link, shard, &[0], std::slice::from_ref(finish)).await?.pop())
    }

    fn confirms(&self) -> bool {
        self.durable.is_some()
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
        let (word, _) = step::RELEASE.call(&self.link, &call).await?.tagged()?;
        self.finished(id, &word).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<bool, QueueError> {
        let lanes: Vec<String> = heartbeat.lanes.iter().map(Lane::name).collect();
        let mut drain = false;
        for shard in 0..self.keys.shards() {
            let call = self
                .heartbeat_call(shard, &heartbeat.worker, "alive")
                .arg("host")
                .arg(&heartbeat.host)
                .arg("process")
                .arg(heartbeat.process)
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
            let call = report_fields(call, &heartbeat.report);
            let answer = step::HEARTBEAT.call(&self.link, &call).await?.word()?;
            drain |= answer.as_str() == "drain";
        }
        Ok(drain)
    }

    async fn goodbye(&self, worker: &WorkerId) -> Result<(), QueueError> {
        for shard in 0..self.keys.shards() {
            let call = self.heartbeat_call(shard, worker, "gone");
            step::HEARTBEAT.call(&self.link, &call).await?;
        }
        Ok(())
    }

    async fn mail(&self, session: SessionId, of: Dispatcher) -> Result<Vec<MailEntry>, QueueError> {
        self.read_mailbox(session, of).await
    }

    async fn acknowledge(
        &self,
        session: SessionId,
        of: Dispatcher,
        mail: &[MailId],
    ) -> Result<(), QueueError> {
        self.drop_mail(session, of, mail).await
    }

    async fn team(&self, session: SessionId, digest: &TeamDigest) -> Result<Option<String>, QueueError> {
        let key = self.keys.team(session.shard(self.keys.shards()), digest);
        self.link.ask("team", redis::cmd("HGET").arg(key).arg("json")).await?.optional_text()
    }

    async fn turns(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError> {
        self.read_turns(id, after).await
    }

    async fn turn_age(&self, id: JobId, sequence: u64) -> Result<Option<Duration>, QueueError> {
        self.read_turn_age(id, sequence).await
    }
}

impl Queue {
    fn claim_call(&self, claim: &Claim) -> Call {
        let mut call = Call::on(self.keys.tag(claim.shard))
            .arg(&claim.worker)
            .arg(claim.number)
            .arg(RunToken::random())
            .arg(claim.slots.min(MAX_CLAIMED))
            .arg(self.lease_ms())
            .arg(u8::from(claim.idle));
        for lane in &claim.lanes {
            call.push(lane.name());
        }
        call
    }

    /// Reads the answer of a claim; gives back what this release cannot read.
    async fn read_claims(&self, claim: &Claim, answer: Answer) -> Result<Claims, QueueError> {
        let mut answer = answer.items()?;
        let mut jobs = Vec::new();
        let Some(first) = answer.next().map(Answer::word).transpose()? else { return Ok(Claims::default()) };
        if first.as_str() == "clear" {
            return Ok(Claims { jobs, clears: true });
        }
        let token = first.parse()?;
        while let Some(id) = answer.next() {
            let lease = Lease { id: id.parse()?, token };
            match read_claimed(lease, self.keys.namespace(), answer.item()?, answer.item()?) {
                Ok(claimed) => jobs.push(claimed),
                Err(error) => self.give_back(&claim.worker, lease, error).await,
            }
        }
        Ok(Claims { jobs, clears: false })
    }

    /// Gives back a job that this release cannot read, so that a worker of another release gets it. Without one it ends
    /// failed with the reason. The other jobs of the claim are not concerned.
    async fn give_back(&self, worker: &WorkerId, lease: Lease, error: QueueError) {
        let stored = self.link.ask("STRLEN", redis::cmd("STRLEN").arg(self.keys.output(lease.id))).await;
        let mode = ReleaseMode::Lack(format!("a release of Legwork that can read the job: {error}"));
        let output_bytes = stored.and_then(Answer::parse).unwrap_or(0);
        let release = Release { lease, worker: worker.clone(), mode, output_bytes };
        match Work::release(self, &release).await {
            Ok(state) => {
                tracing::warn!(%error, id = %lease.id, ?state, "gave back a job that cannot be read")
            }
            Err(failed) => tracing::warn!(%failed, %error, id = %lease.id, "could not give back a job"),
        }
    }

    fn heartbeat_call(&self, shard: u16, worker: &WorkerId, mode: &str) -> Call {
        Call::on(self.keys.tag(shard)).arg(worker).arg(self.lease_ms()).arg(mode)
    }

    async fn renewed(&self, call: &Call) -> Result<Vec<Renewed>, QueueError> {
        step::RENEW.call(&self.link, call).await?.items()?.map(read_renewed).collect()
    }

    async fn park_or_resume(&self, lease: Lease, direction: &str) -> Result<Parked, QueueError> {
        let call = Call::on(self.keys.job_tag(lease.id))
            .key(self.keys.job(lease.id))
            .arg(lease.id.uuid())
            .arg(lease.token)
            .arg(direction);
        let word = step::PARK.call(&self.link, &call).await?.word()?;
        match word.as_str() {
            "parked" | "resumed" => Ok(Parked::Done),
            "stopping" => Ok(Parked::Stopping),
            "lost" => Ok(Parked::Lost),
            _ => Err(word.unknown()),
        }
    }
}

/// The key and the token of a lane, or nothing after the time.
fn read_token(answer: redis::Value) -> Result<Option<WakeToken>, QueueError> {
    let key = Answer::of(AWAIT_WORK, answer).items()?.next().map(Answer::text).transpose()?;
    Ok(key.map(|key| WakeToken { key }))
}

/// Adds the fields of a worker's report to a heartbeat.
fn report_fields(call: Call, report: &WorkerReport) -> Call {
    call.arg("version")
        .arg(&report.version)
        .arg("run")
        .arg(report.run)
        .arg("failed")
        .arg(report.failed)
        .arg("given_back")
        .arg(report.given_back)
        .arg("in_a_row")
        .arg(report.given_back_in_a_row)
        .arg("last_reason")
        .arg(&report.last_reason)
}

/// Reads one job of a claim: its facts and request, and what changes in it.
fn read_claimed(
    lease: Lease,
    namespace: &str,
    text: Answer,
    changing: Answer,
) -> Result<Claimed, QueueError> {
    let (text, changing) = (text.text()?, changing.text()?);
    let (facts, request) = facts::split(&text)?;
    let unexpected = |detail: String| QueueError::Unexpected { step: "claim", detail };
    let words: Vec<&str> = changing.split(' ').collect();
    let &[attempt, ran, retries, failures, version, quarantine, mail] = words.as_slice() else {
        return Err(unexpected(changing));
    };
    if version != "-" {
        RECORD.check(version)?;
    }
    let number = |word: &str| word.parse::<i64>().map_err(|_| unexpected(format!("`{word}` in a record")));
    let small = |word: &str| number(word).map(|number| u32::try_from(number).unwrap_or(0));
    Ok(Claimed {
        lease,
        session: facts.session,
        dispatcher: facts.parent.map_or(Dispatcher::Root(facts.session), Dispatcher::Job),
        depth: u8::try_from(facts.ancestors.len()).unwrap_or(u8::MAX),
        attempt: small(attempt)?,
        created: record::time(facts.created).unwrap_or(Timestamp::UNIX_EPOCH),
        // Below zero where an earlier release counted through a step of the clock.
        ran: Duration::from_millis(u64::try_from(number(ran)?).unwrap_or(0)),
        timeout: facts.timeout,
        retries: if retries == "-" { facts.retries } else { small(retries)? },
        quarantine: (quarantine != "-").then(|| small(quarantine)).transpose()?,
        failures: small(failures)?,
        retry_delay: facts.retry_delay,
        has_session_budget: facts.has_session_budget,
        was_messaged: mail != "-",
        spec: request::decode(request, &facts.team)?,
        signed: signed_job(lease.id, &facts, request, namespace).map(Box::new),
        queue: facts.queue,
    })
}

fn read_renewed(answer: Answer) -> Result<Renewed, QueueError> {
    let word = answer.word()?;
    match word.as_str() {
        "kept" => Ok(Renewed::Kept),
        "mail" => Ok(Renewed::Mail),
        "stop" => Ok(Renewed::StopRequested),
        "lost" => Ok(Renewed::Lost),
        _ => Err(word.unknown()),
    }
}
