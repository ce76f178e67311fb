//! Idempotency keys of the whole namespace, which are reserved before their jobs are stored.
//!
//! Such a key has a hash tag of its own, so it cannot be written in the step that stores its job: the key is reserved
//! first, and a caller may die, or be slow, between the two. These races are settled here:
//!
//! - Another caller of the same shard finds the reservation and stores the job under the reserved id: whichever of the
//!   two is second finds the job.
//! - Another caller of another shard cannot store that job. It waits for a moment, then makes the reserved id void and
//!   takes the key over. The slow caller finds its id void and asks again which job the key names.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;

use crate::error::QueueError;
use crate::port::Enqueue;
use crate::port::EnqueueRefusal;
use crate::port::Enqueued;
use crate::port::IdempotencyKey;
use crate::port::NewJob;
use crate::queue::Queue;
use crate::queue::enqueue::Stored;
use crate::step;
use crate::step::Call;

/// What these commands are called in messages.
const ASKED: &str = "reserve a key";
/// How long a void id is remembered: far longer than a call can be on its way.
const VOID_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// How long another caller is given to store the job that it reserved a key for: a few round trips.
const STORE_GRACE_PERIOD: Duration = Duration::from_millis(20);

/// What became of a job's key of the namespace.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyReservation {
    /// The job is to be stored under this id.
    Fresh(JobId),
    /// The key stands for another job.
    Known(Enqueued),
}

/// The key of a job, if it is one of the whole namespace.
fn namespace_key(job: &NewJob) -> Option<&IdempotencyKey> {
    job.idempotency_key.as_ref().filter(|key| key.in_namespace)
}

/// A reservation as it is stored: the job's id, and the hash of the request that it is for.
fn reservation(id: JobId, key: &IdempotencyKey) -> String {
    format!("{} {}", id.uuid(), key.request)
}

impl Queue {
    /// Reserves the keys of the namespace among those of `jobs`, all in one round trip. A repeat finds the id that was
    /// reserved first, and completes what a dead caller began.
    pub(super) async fn reserve_keys(
        &self,
        session: SessionId,
        jobs: &[NewJob],
    ) -> Result<Vec<KeyReservation>, QueueError> {
        let mut pipeline = redis::pipe();
        for job in jobs {
            if let Some(key) = namespace_key(job) {
                let name = self.keys.namespace_idempotency_key(&key.key);
                pipeline.cmd("SET").arg(name).arg(reservation(job.id, key)).arg("NX").arg("GET");
            }
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let mut reserved = Vec::with_capacity(jobs.len());
        for job in jobs {
            reserved.push(match namespace_key(job) {
                None => KeyReservation::Fresh(job.id),
                Some(key) => {
                    let earlier = answers.item()?.text()?;
                    self.resolve(session, job.id, key, earlier).await?
                }
            });
        }
        Ok(reserved)
    }

    /// Stores a job whose reserved id is void: another caller took its key over, or was about to.
    pub(super) async fn enqueue_again(
        &self,
        request: &Enqueue,
        job: &NewJob,
        mut void: JobId,
    ) -> Result<Result<Enqueued, EnqueueRefusal>, QueueError> {
        // Only an id that was reserved for a key is ever made void.
        let Some(key) = &job.idempotency_key else {
            return Err(QueueError::Unexpected { step: "enqueue", detail: "`void`".to_owned() });
        };
        loop {
            let own = JobId::random_in(request.session);
            let holder = self.take_over(key, &reservation(void, key), own).await?;
            let id = match self.resolve(request.session, own, key, holder).await? {
                KeyReservation::Known(known) => return Ok(Ok(known)),
                KeyReservation::Fresh(id) => id,
            };
            match self.store_batch(request, &[(job, id)]).await? {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(stored) => match stored.first() {
                    Some(Stored::Void(id)) => void = *id,
                    Some(Stored::As(known)) => return Ok(Ok(*known)),
                    None => return Ok(Ok(Enqueued::Stored(id))),
                },
            }
        }
    }

    /// What an earlier reservation (or none: an empty text) means for a job that would be stored as `own`.
    async fn resolve(
        &self,
        session: SessionId,
        own: JobId,
        key: &IdempotencyKey,
        mut earlier: String,
    ) -> Result<KeyReservation, QueueError> {
        let shards = self.keys.shards();
        loop {
            let Some((id, request)) = earlier.split_once(' ') else { return Ok(KeyReservation::Fresh(own)) };
            let id: JobId = id.parse().map_err(|_| QueueError::Unexpected {
                step: ASKED,
                detail: format!("the reservation `{earlier}`"),
            })?;
            if request != key.request {
                return Ok(KeyReservation::Known(Enqueued::Conflict(id)));
            }
            if id.shard(shards) == session.shard(shards) {
                return Ok(KeyReservation::Fresh(id));
            }
            if self.exists(id).await? {
                return Ok(KeyReservation::Known(Enqueued::Stored(id)));
            }
            tokio::time::sleep(STORE_GRACE_PERIOD).await;
            if self.is_stored_or_void(id).await? {
                return Ok(KeyReservation::Known(Enqueued::Stored(id)));
            }
            earlier = self.take_over(key, &earlier, own).await?;
        }
    }

    /// Reserves a key for `own` in place of the reservation `earlier`. Returns the reservation that holds now.
    async fn take_over(&self, key: &IdempotencyKey, earlier: &str, own: JobId) -> Result<String, QueueError> {
        let call =
            Call::on(self.keys.namespace_idempotency_key(&key.key)).arg(earlier).arg(reservation(own, key));
        step::RESERVE.call(&self.link, &call).await?.text()
    }

    /// Whether a job is stored. If not, its id is void from now on, so it never will be.
    async fn is_stored_or_void(&self, id: JobId) -> Result<bool, QueueError> {
        let call = Call::on(self.keys.job_tag(id)).key(self.keys.spec(id)).arg(VOID_EXPIRY.as_millis());
        let word = step::VOID.call(&self.link, &call).await?.word()?;
        match word.as_str() {
            "stored" => Ok(true),
            "void" => Ok(false),
            _ => Err(word.unknown()),
        }
    }

    /// Whether a job's record exists.
    async fn exists(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(self.link.ask(ASKED, redis::cmd("EXISTS").arg(self.keys.job(id))).await?.text()? == "1")
    }
}
