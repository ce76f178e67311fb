//! Storing jobs and stopping them, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::Priority;
use legwork_common::job::TeamDigest;
use redis::Value;
use uuid::Uuid;

use crate::answer::Answer;
use crate::answer::next;
use crate::answer::unknown_word;
use crate::error::QueueError;
use crate::port::Asker;
use crate::port::Dispatch;
use crate::port::DispatchedBy;
use crate::port::Enqueue;
use crate::port::EnqueueRefusal;
use crate::port::Enqueued;
use crate::port::Lane;
use crate::port::NewJob;
use crate::port::Once;
use crate::port::OpenSession;
use crate::port::Opened;
use crate::port::SendOutcome;
use crate::port::SessionEnd;
use crate::port::StopOutcome;
use crate::port::StopRoot;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// Jobs of one call of `enqueue`: their arguments stay far below what Lua's `unpack` takes.
const ENQUEUE_PIECE: usize = 200;
/// Records of one page of a sweep.
const SWEEP_PAGE: usize = 200;

/// What became of a job's key of the namespace.
#[derive(Debug, Clone, Copy)]
enum Reserved {
    /// The job is to be stored under this id.
    Fresh(JobId),
    /// The key stands for another job.
    Known(Enqueued),
}

#[async_trait]
impl Dispatch for Queue {
    async fn open(&self, session: &OpenSession) -> Result<Opened, QueueError> {
        let lane = if session.own_lane { Lane::Session(session.session).name() } else { String::new() };
        let call = Call::on(self.keys.session_tag(session.session))
            .key(self.keys.session(session.session))
            .arg(session.session)
            .arg(session.owner.map(|owner| owner.to_string()).unwrap_or_default())
            .arg(match session.on_end {
                SessionEnd::Stop => "stop",
                SessionEnd::Keep => "keep",
            })
            .arg(session.cap)
            .arg(lane)
            .arg(self.lease_ms())
            .arg(session.budget.map(|tokens| tokens.to_string()).unwrap_or_default());
        let word = Answer::of("open", step::call(&self.link, &step::OPEN, &call).await?).text()?;
        match word.as_str() {
            "opened" => Ok(Opened::Open),
            "owned" => Ok(Opened::Owned),
            "closed" => Ok(Opened::Closed),
            other => Err(unknown_word("open", other)),
        }
    }

    async fn close(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError> {
        self.leave(session, owner, "close").await
    }

    async fn detach(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError> {
        self.leave(session, owner, "detach").await
    }

    async fn store_team(
        &self,
        session: SessionId,
        digest: &TeamDigest,
        json: &str,
    ) -> Result<(), QueueError> {
        let shard = session.shard(self.keys.shards());
        let call = Call::on(self.keys.tag(shard)).key(self.keys.team(shard, digest)).arg(json);
        step::call(&self.link, &step::TEAM, &call).await.map(drop)
    }

    async fn enqueue(&self, request: &Enqueue) -> Result<Result<Vec<Enqueued>, EnqueueRefusal>, QueueError> {
        let mut all = Vec::with_capacity(request.jobs.len());
        for piece in request.jobs.chunks(ENQUEUE_PIECE) {
            let ids = self.reserve(request.session, piece).await?;
            let fresh: Vec<(&NewJob, JobId)> = piece
                .iter()
                .zip(&ids)
                .filter_map(|(job, reserved)| match reserved {
                    Reserved::Fresh(id) => Some((job, *id)),
                    Reserved::Known(_) => None,
                })
                .collect();
            let mut stored = match self.enqueue_piece(request, &fresh).await? {
                Ok(stored) => stored.into_iter(),
                Err(refusal) => return Ok(Err(refusal)),
            };
            for reserved in ids {
                all.push(match reserved {
                    Reserved::Fresh(id) => stored.next().unwrap_or(Enqueued::Stored(id)),
                    Reserved::Known(known) => known,
                });
            }
        }
        Ok(Ok(all))
    }

    async fn stop(&self, root: StopRoot, asker: Asker, why: Cause) -> Result<StopOutcome, QueueError> {
        let (shard, uuid) = self.place_of(root);
        let (kind, close) = match root {
            StopRoot::Job(_) => ("job", false),
            StopRoot::Session { close, .. } => ("session", close),
        };
        let who = match (asker, root) {
            (Asker::Operator, _) => String::new(),
            (Asker::Job(id), _) => id.uuid().to_string(),
            (Asker::Root, StopRoot::Session { id, .. }) => id.to_string(),
            (Asker::Root, StopRoot::Job(id)) => self.session_of(id).await?,
        };
        let call = Call::on(self.keys.tag(shard)).arg(uuid).arg(kind).arg(who).arg(why).arg(u8::from(close));
        let answer = Answer::of("stop", step::call(&self.link, &step::STOP, &call).await?);
        let (word, mut rest) = answer.tagged()?;
        match word.as_str() {
            "marked" => {
                let cause = next("stop", &mut rest)?.parse()?;
                self.sweep_tree(shard, uuid, matches!(root, StopRoot::Job(_))).await?;
                Ok(StopOutcome::Marked(cause))
            }
            "ended" => Ok(StopOutcome::AlreadyEnded(next("stop", &mut rest)?.parse()?)),
            "missing" => Ok(StopOutcome::NotFound),
            other => Err(unknown_word("stop", other)),
        }
    }

    async fn sweep(&self, root: StopRoot) -> Result<u64, QueueError> {
        let (shard, uuid) = self.place_of(root);
        self.sweep_tree(shard, uuid, matches!(root, StopRoot::Job(_))).await
    }

    async fn send(
        &self,
        id: JobId,
        message: &str,
        request: &str,
        keep: Duration,
    ) -> Result<SendOutcome, QueueError> {
        let call = Call::on(self.keys.job_tag(id))
            .key(self.keys.job(id))
            .arg(id.uuid())
            .arg(message)
            .arg(request)
            .arg(keep.as_millis());
        let answer = Answer::of("send", step::call(&self.link, &step::SEND, &call).await?);
        let (word, mut rest) = answer.tagged()?;
        match word.as_str() {
            "sent" => Ok(SendOutcome::Sent),
            "state" => Ok(SendOutcome::NotRunning(next("send", &mut rest)?.parse()?)),
            "missing" => Ok(SendOutcome::NotFound),
            other => Err(unknown_word("send", other)),
        }
    }
}

impl Queue {
    /// The shard and the name of a tree's mark.
    fn place_of(&self, root: StopRoot) -> (u16, Uuid) {
        match root {
            StopRoot::Job(id) => (id.shard(self.keys.shards()), id.uuid()),
            StopRoot::Session { id, .. } => (id.shard(self.keys.shards()), id.uuid()),
        }
    }

    async fn leave(&self, session: SessionId, owner: RunToken, mode: &str) -> Result<(), QueueError> {
        let call = Call::on(self.keys.session_tag(session))
            .key(self.keys.session(session))
            .arg(session)
            .arg(owner)
            .arg(mode);
        step::call(&self.link, &step::CLOSE, &call).await.map(drop)
    }

    async fn session_of(&self, id: JobId) -> Result<String, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.job(id)).arg("session");
        let value = self.link.command(&command).await;
        Answer::of("stop", value.map_err(|error| QueueError::from_redis("stop", error))?).text()
    }

    /// Reserves the keys that hold in the whole namespace, each in its own slot. A repeat finds the id
    /// that was reserved first and completes what a dead caller began.
    async fn reserve(&self, session: SessionId, jobs: &[NewJob]) -> Result<Vec<Reserved>, QueueError> {
        let failed = |error| QueueError::from_redis("reserve a key", error);
        let mut pipeline = redis::pipe();
        for job in jobs {
            if let Some(once) = job.once.as_ref().filter(|once| once.in_namespace) {
                let reservation = format!("{} {}", job.id.uuid(), once.request);
                let key = self.keys.namespace_once(&once.key);
                pipeline.cmd("SET").arg(key).arg(reservation).arg("NX").arg("GET");
            }
        }
        let answers = if pipeline.is_empty() {
            Vec::new()
        } else {
            self.link.pipeline(&pipeline).await.map_err(failed)?
        };
        let mut answers = answers.into_iter();
        let mut reserved = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Some(once) = job.once.as_ref().filter(|once| once.in_namespace) else {
                reserved.push(Reserved::Fresh(job.id));
                continue;
            };
            let value = answers.next().unwrap_or(Value::Nil).extract_error().map_err(failed)?;
            let earlier = Answer::of("reserve a key", value).text()?;
            reserved.push(self.reserved(session, job, once, earlier).await?);
        }
        Ok(reserved)
    }

    /// What an earlier reservation, or none, means for a job.
    async fn reserved(
        &self,
        session: SessionId,
        job: &NewJob,
        once: &Once,
        mut earlier: String,
    ) -> Result<Reserved, QueueError> {
        let shards = self.keys.shards();
        loop {
            let Some((id, request)) = earlier.split_once(' ') else { return Ok(Reserved::Fresh(job.id)) };
            let id: JobId = id.parse().map_err(|_| unknown_word("reserve a key", &earlier))?;
            if request != once.request {
                return Ok(Reserved::Known(Enqueued::Conflict(id)));
            }
            if id.shard(shards) == session.shard(shards) {
                return Ok(Reserved::Fresh(id));
            }
            // A job of another shard cannot be completed from this session, but found.
            if self.exists(id).await? {
                return Ok(Reserved::Known(Enqueued::Stored(id)));
            }
            let call = Call::on(self.keys.namespace_once(&once.key)).arg(&earlier).arg(format!(
                "{} {}",
                job.id.uuid(),
                once.request
            ));
            earlier =
                Answer::of("reserve a key", step::call(&self.link, &step::RESERVE, &call).await?).text()?;
        }
    }

    async fn exists(&self, id: JobId) -> Result<bool, QueueError> {
        let failed = |error| QueueError::from_redis("reserve a key", error);
        let value = self.link.command(redis::cmd("EXISTS").arg(self.keys.job(id))).await.map_err(failed)?;
        Ok(Answer::of("reserve a key", value).text()? == "1")
    }

    async fn enqueue_piece(
        &self,
        request: &Enqueue,
        jobs: &[(&NewJob, JobId)],
    ) -> Result<Result<Vec<Enqueued>, EnqueueRefusal>, QueueError> {
        if jobs.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let shard = request.session.shard(self.keys.shards());
        let (by, token) = match request.by {
            DispatchedBy::Root => (String::new(), String::new()),
            DispatchedBy::Job { id, token } => (id.uuid().to_string(), token.to_string()),
        };
        let mut call = Call::on(self.keys.tag(shard))
            .key(self.keys.session(request.session))
            .key(self.keys.team(shard, &request.team))
            .arg(request.session)
            .arg(by)
            .arg(token)
            .arg(&request.team.0);
        for (job, id) in jobs {
            push_job(&mut call, job, *id)?;
        }
        let answer = Answer::of("enqueue", step::call(&self.link, &step::ENQUEUE, &call).await?);
        let (word, mut rest) = answer.tagged()?;
        let refusal = match word.as_str() {
            "stored" => {
                let ids = next("enqueue", &mut rest)?.list()?;
                return ids.into_iter().map(read_enqueued).collect::<Result<_, _>>().map(Ok);
            }
            "missing" => EnqueueRefusal::NoSession,
            "closed" => EnqueueRefusal::Closed,
            "stale" => EnqueueRefusal::Stale,
            "deep" => EnqueueRefusal::TooDeep,
            "stopping" => EnqueueRefusal::Stopping,
            "team" => EnqueueRefusal::NoTeam,
            other => return Err(unknown_word("enqueue", other)),
        };
        Ok(Err(refusal))
    }

    /// Walks the tree below a mark and ends its records in pages; drops the mark once nothing below it
    /// lives. Answers how many still live. May be cut off anywhere and begun again.
    pub(super) async fn sweep_tree(
        &self,
        shard: u16,
        root: Uuid,
        root_is_job: bool,
    ) -> Result<u64, QueueError> {
        let mut live = 0;
        let mut walk = vec![root];
        if root_is_job {
            let Some((lives, _)) = self.sweep_page(shard, root, None, &mut Vec::new()).await? else {
                return Ok(0);
            };
            live += lives;
        }
        while let Some(dispatcher) = walk.pop() {
            let mut offset = Some(0);
            while let Some(from) = offset {
                let page = Some((dispatcher, from));
                let Some((lives, following)) = self.sweep_page(shard, root, page, &mut walk).await? else {
                    return Ok(0);
                };
                live += lives;
                offset = following;
            }
        }
        if live == 0 {
            let call = Call::on(self.keys.tag(shard)).arg(root).arg("unmark");
            step::call(&self.link, &step::SWEEP, &call).await?;
        }
        Ok(live)
    }

    /// One page of a sweep: how many of it live, and where the next page begins; `None` where another
    /// sweep dropped the mark, which was the end of it.
    async fn sweep_page(
        &self,
        shard: u16,
        root: Uuid,
        page: Option<(Uuid, u64)>,
        walk: &mut Vec<Uuid>,
    ) -> Result<Option<(u64, Option<u64>)>, QueueError> {
        let (mode, dispatcher, offset) = match page {
            None => ("self", root, 0),
            Some((dispatcher, offset)) => ("children", dispatcher, offset),
        };
        let call =
            Call::on(self.keys.tag(shard)).arg(root).arg(mode).arg(dispatcher).arg(offset).arg(SWEEP_PAGE);
        let answer = Answer::of("sweep", step::call(&self.link, &step::SWEEP, &call).await?);
        let mut items = answer.list()?.into_iter();
        let live: i64 = next("sweep", &mut items)?.parse()?;
        let following: i64 = next("sweep", &mut items)?.parse()?;
        for id in items {
            walk.push(id.parse()?);
        }
        Ok(u64::try_from(live).ok().map(|live| (live, u64::try_from(following).ok())))
    }

    /// The dispatcher's name in a session, for key names.
    pub(super) fn dispatcher_of(session: SessionId, parent: Option<JobId>) -> Dispatcher {
        parent.map_or(Dispatcher::Root(session), Dispatcher::Job)
    }
}

/// Adds one job's arguments to a call of `enqueue`.
fn push_job(call: &mut Call, job: &NewJob, id: JobId) -> Result<(), QueueError> {
    let spec = serde_json::to_vec(&job.spec)
        .map_err(|error| QueueError::Unexpected { step: "enqueue", detail: error.to_string() })?;
    call.push(id.uuid());
    call.push_bytes(id.as_bytes());
    call.push_bytes(&spec);
    call.push(&job.spec.agent);
    call.push(&job.placement.queue);
    call.push(match job.placement.priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    });
    call.push(job.placement.delay.as_millis());
    call.push(job.placement.timeout.map_or(0, |timeout| timeout.as_millis().max(1)));
    call.push(job.placement.retries);
    let once = job.once.as_ref();
    call.push(once.map(|once| once.key.as_str()).unwrap_or_default());
    call.push(once.map(|once| once.request.as_str()).unwrap_or_default());
    call.push(job.placement.retry_delay.as_millis());
    call.push(job.spec.retry_of.map(|id| id.uuid().to_string()).unwrap_or_default());
    Ok(())
}

fn read_enqueued(answer: Answer) -> Result<Enqueued, QueueError> {
    let text = answer.text()?;
    let id = |text: &str| text.parse().map_err(|_| unknown_word("enqueue", text));
    match text.strip_prefix("conflict:") {
        Some(other) => id(other).map(Enqueued::Conflict),
        None => id(&text).map(Enqueued::Stored),
    }
}
