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
use crate::port::IdempotencyKey;
use crate::port::Lane;
use crate::port::NewJob;
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
pub(crate) const ENQUEUE_PIECE: usize = 200;
/// Records of one page of a sweep.
const SWEEP_PAGE: usize = 200;

/// How long an id that was reserved and is void is remembered: longer than any caller may be on its way.
const VOID_MS: u64 = 24 * 3600 * 1000;
/// How long whoever reserved a key is given to store its job.
const ABOUT_TO_STORE: Duration = Duration::from_millis(20);

/// What became of a job's key of the namespace.
#[derive(Debug, Clone, Copy)]
enum KeyReservation {
    /// The job is to be stored under this id.
    Fresh(JobId),
    /// The key stands for another job.
    Known(Enqueued),
}

/// What became of a job that was to be stored.
#[derive(Debug, Clone, Copy)]
enum Stored {
    /// It is answered so.
    As(Enqueued),
    /// Its id is void: its key may stand for another job by now.
    Void(JobId),
}

/// What one page of a sweep found.
#[derive(Debug)]
struct SweptPage {
    /// How many of it live.
    live: u64,
    /// Where the next page begins, if there is one.
    following: Option<u64>,
    /// Which asking for the stop is being swept for.
    asked: String,
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
                    KeyReservation::Fresh(id) => Some((job, *id)),
                    KeyReservation::Known(_) => None,
                })
                .collect();
            let mut stored = match self.enqueue_piece(request, &fresh).await? {
                Ok(stored) => stored.into_iter(),
                Err(refusal) => return Ok(Err(refusal)),
            };
            for (job, reserved) in piece.iter().zip(ids) {
                let outcome = match reserved {
                    KeyReservation::Known(known) => Stored::As(known),
                    KeyReservation::Fresh(id) => stored.next().unwrap_or(Stored::As(Enqueued::Stored(id))),
                };
                all.push(match outcome {
                    Stored::As(known) => known,
                    Stored::Void(id) => match self.enqueue_anew(request, job, id).await? {
                        Ok(known) => known,
                        Err(refusal) => return Ok(Err(refusal)),
                    },
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
    async fn reserve(&self, session: SessionId, jobs: &[NewJob]) -> Result<Vec<KeyReservation>, QueueError> {
        let failed = |error| QueueError::from_redis("reserve a key", error);
        let mut pipeline = redis::pipe();
        for job in jobs {
            if let Some(once) = job.idempotency_key.as_ref().filter(|once| once.in_namespace) {
                let reservation = format!("{} {}", job.id.uuid(), once.request);
                let key = self.keys.namespace_idempotency_key(&once.key);
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
            let Some(once) = job.idempotency_key.as_ref().filter(|once| once.in_namespace) else {
                reserved.push(KeyReservation::Fresh(job.id));
                continue;
            };
            let value = answers.next().unwrap_or(Value::Nil).extract_error().map_err(failed)?;
            let earlier = Answer::of("reserve a key", value).text()?;
            reserved.push(self.reserved(session, job.id, once, earlier).await?);
        }
        Ok(reserved)
    }

    /// Stores a job whose reserved id is void: somebody else took over its key, or was about to.
    async fn enqueue_anew(
        &self,
        request: &Enqueue,
        job: &NewJob,
        mut void: JobId,
    ) -> Result<Result<Enqueued, EnqueueRefusal>, QueueError> {
        let Some(once) = &job.idempotency_key else { return Err(unknown_word("enqueue", "void")) };
        loop {
            let own = JobId::random_in(request.session);
            let earlier = format!("{} {}", void.uuid(), once.request);
            let holder = self.take_over(once, &earlier, own).await?;
            let id = match self.reserved(request.session, own, once, holder).await? {
                KeyReservation::Known(known) => return Ok(Ok(known)),
                KeyReservation::Fresh(id) => id,
            };
            match self.enqueue_piece(request, &[(job, id)]).await? {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(stored) => match stored.first() {
                    Some(Stored::Void(id)) => void = *id,
                    Some(Stored::As(known)) => return Ok(Ok(*known)),
                    None => return Ok(Ok(Enqueued::Stored(id))),
                },
            }
        }
    }

    /// What an earlier reservation, or none, means for a job that would be stored as `own`.
    async fn reserved(
        &self,
        session: SessionId,
        own: JobId,
        once: &IdempotencyKey,
        mut earlier: String,
    ) -> Result<KeyReservation, QueueError> {
        let shards = self.keys.shards();
        loop {
            let Some((id, request)) = earlier.split_once(' ') else { return Ok(KeyReservation::Fresh(own)) };
            let id: JobId = id.parse().map_err(|_| unknown_word("reserve a key", &earlier))?;
            if request != once.request {
                return Ok(KeyReservation::Known(Enqueued::Conflict(id)));
            }
            if id.shard(shards) == session.shard(shards) {
                return Ok(KeyReservation::Fresh(id));
            }
            // A job of another shard cannot be completed from this session, but found; where whoever reserved it
            // is dead, or so slow, its id becomes void.
            if self.exists(id).await? {
                return Ok(KeyReservation::Known(Enqueued::Stored(id)));
            }
            tokio::time::sleep(ABOUT_TO_STORE).await;
            if self.is_stored_or_void(id).await? {
                return Ok(KeyReservation::Known(Enqueued::Stored(id)));
            }
            earlier = self.take_over(once, &earlier, own).await?;
        }
    }

    /// Reserves a key for `own` instead of `earlier`; the reservation that holds now.
    async fn take_over(
        &self,
        once: &IdempotencyKey,
        earlier: &str,
        own: JobId,
    ) -> Result<String, QueueError> {
        let reservation = format!("{} {}", own.uuid(), once.request);
        let call = Call::on(self.keys.namespace_idempotency_key(&once.key)).arg(earlier).arg(reservation);
        Answer::of("reserve a key", step::call(&self.link, &step::RESERVE, &call).await?).text()
    }

    /// Whether a reserved job is stored; if not, it never will be.
    async fn is_stored_or_void(&self, id: JobId) -> Result<bool, QueueError> {
        let call = Call::on(self.keys.job_tag(id)).key(self.keys.spec(id)).arg(VOID_MS);
        let word = Answer::of("void", step::call(&self.link, &step::VOID, &call).await?).text()?;
        match word.as_str() {
            "stored" => Ok(true),
            "void" => Ok(false),
            other => Err(unknown_word("void", other)),
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
    ) -> Result<Result<Vec<Stored>, EnqueueRefusal>, QueueError> {
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
                return ids.into_iter().map(read_stored).collect::<Result<_, _>>().map(Ok);
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
        let mut asked = None;
        let mut walk = vec![root];
        if root_is_job {
            let Some(page) = self.sweep_page(shard, root, None, &mut Vec::new()).await? else {
                return Ok(0);
            };
            live += page.live;
            asked.get_or_insert(page.asked);
        }
        while let Some(dispatcher) = walk.pop() {
            let mut offset = Some(0);
            while let Some(from) = offset {
                let place = Some((dispatcher, from));
                let Some(page) = self.sweep_page(shard, root, place, &mut walk).await? else {
                    return Ok(0);
                };
                live += page.live;
                offset = page.following;
                asked.get_or_insert(page.asked);
            }
        }
        if live == 0 {
            let call = Call::on(self.keys.tag(shard)).arg(root).arg("unmark").arg(asked.unwrap_or_default());
            step::call(&self.link, &step::SWEEP, &call).await?;
        }
        Ok(live)
    }

    /// One page of a sweep; `None` where another sweep dropped the mark, which was the end of it.
    async fn sweep_page(
        &self,
        shard: u16,
        root: Uuid,
        page: Option<(Uuid, u64)>,
        walk: &mut Vec<Uuid>,
    ) -> Result<Option<SweptPage>, QueueError> {
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
        let asked = next("sweep", &mut items)?.text()?;
        for id in items {
            walk.push(id.parse()?);
        }
        let following = u64::try_from(following).ok();
        Ok(u64::try_from(live).ok().map(|live| SweptPage { live, following, asked }))
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
    call.push(&job.job_options.queue);
    call.push(match job.job_options.priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    });
    call.push(job.job_options.delay.as_millis());
    call.push(job.job_options.timeout.map_or(0, |timeout| timeout.as_millis().max(1)));
    call.push(job.job_options.retries);
    let once = job.idempotency_key.as_ref();
    call.push(once.map(|once| once.key.as_str()).unwrap_or_default());
    call.push(once.map(|once| once.request.as_str()).unwrap_or_default());
    call.push(job.job_options.retry_delay.as_millis());
    call.push(job.spec.retry_of.map(|id| id.uuid().to_string()).unwrap_or_default());
    Ok(())
}

fn read_stored(answer: Answer) -> Result<Stored, QueueError> {
    let text = answer.text()?;
    let id = |text: &str| text.parse().map_err(|_| unknown_word("enqueue", text));
    match text.split_once(':') {
        Some(("conflict", other)) => id(other).map(Enqueued::Conflict).map(Stored::As),
        Some(("void", void)) => id(void).map(Stored::Void),
        Some(_) => Err(unknown_word("enqueue", &text)),
        None => id(&text).map(Enqueued::Stored).map(Stored::As),
    }
}
