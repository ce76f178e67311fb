//! Storing jobs in batches, on Redis.

use legwork_common::id::JobId;
use legwork_common::webhook::WebhookUrl;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::DispatchedBy;
use crate::port::Enqueue;
use crate::port::EnqueueRefusal;
use crate::port::Enqueued;
use crate::port::NewJob;
use crate::queue::Queue;
use crate::queue::reservation::KeyReservation;
use crate::queue::signing::stored_request;
use crate::queue::signing::timeout_ms;
use crate::step;
use crate::step::Call;

/// Jobs of one call of `enqueue`. Their 400 arguments and what the step does with them take 0.7 ms of the server's
/// processor, and 1.5 ms where each has a key; twice as many took up to 7 ms on a busy machine, for which they held up the
/// heartbeats of the fleet.
pub(crate) const ENQUEUE_BATCH_SIZE: usize = 100;

/// What became of a job that was to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored {
    /// It is stored, or its key stands for another job.
    As(Enqueued),
    /// Its id is void: its key may stand for another job by now.
    Void(JobId),
}

impl Queue {
    /// Reserves the keys of each batch, and stores its jobs. A refusal ends it; batches before it are stored.
    pub(super) async fn enqueue_in_batches(
        &self,
        request: &Enqueue,
    ) -> Result<Result<Vec<Enqueued>, EnqueueRefusal>, QueueError> {
        let mut all = Vec::with_capacity(request.jobs.len());
        for batch in request.jobs.chunks(ENQUEUE_BATCH_SIZE) {
            let reservations = self.reserve_keys(request.session, batch).await?;
            let fresh: Vec<(&NewJob, JobId)> = batch
                .iter()
                .zip(&reservations)
                .filter_map(|(job, reserved)| match reserved {
                    KeyReservation::Fresh(id) => Some((job, *id)),
                    KeyReservation::Known(_) => None,
                })
                .collect();
            let mut stored = match self.store_batch(request, &fresh).await? {
                Ok(stored) => stored.into_iter(),
                Err(refusal) => return Ok(Err(refusal)),
            };
            for (job, reserved) in batch.iter().zip(reservations) {
                let outcome = match reserved {
                    KeyReservation::Known(known) => Stored::As(known),
                    KeyReservation::Fresh(id) => stored.next().unwrap_or(Stored::As(Enqueued::Stored(id))),
                };
                all.push(match outcome {
                    Stored::As(known) => known,
                    Stored::Void(id) => match self.enqueue_again(request, job, id).await? {
                        Ok(known) => known,
                        Err(refusal) => return Ok(Err(refusal)),
                    },
                });
            }
        }
        Ok(Ok(all))
    }

    /// Stores jobs under the given ids in one step. Answers in their order.
    pub(super) async fn store_batch(
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
            let stored = stored_request(request, job, *id, self.keys.namespace())?;
            push_job(&mut call, job, *id, stored);
        }
        let (word, mut rest) = step::ENQUEUE.call(&self.link, &call).await?.tagged()?;
        let refusal = match word.as_str() {
            "stored" => return rest.item()?.items()?.map(read_stored).collect::<Result<_, _>>().map(Ok),
            "missing" => EnqueueRefusal::NoSession,
            "closed" => EnqueueRefusal::Closed,
            "stale" => EnqueueRefusal::Stale,
            "deep" => EnqueueRefusal::TooDeep,
            "stopping" => EnqueueRefusal::Stopping,
            "team" => EnqueueRefusal::NoTeam,
            "full" => {
                EnqueueRefusal::Full { unfinished: rest.item()?.parse()?, quota: rest.item()?.parse()? }
            }
            _ => return Err(word.unknown()),
        };
        Ok(Err(refusal))
    }
}

/// Adds one job's arguments to a call of `enqueue`, in the order that the step names them.
fn push_job(call: &mut Call, job: &NewJob, id: JobId, stored: String) {
    let (key, options) = (job.idempotency_key.as_ref(), &job.job_options);
    call.push(id.uuid());
    call.push_bytes(id.as_bytes());
    call.push(format!(
        "{} {} {} {} {} {} {} {} {} {} {}",
        options.queue,
        options.priority.level(),
        options.delay.as_millis(),
        timeout_ms(options.timeout).unwrap_or(0),
        options.retries,
        options.retry_delay.as_millis(),
        key.map_or("-", |key| key.key.as_str()),
        key.map_or("-", |key| key.request.as_str()),
        job.spec.retry_of.map_or_else(|| "-".to_owned(), |id| id.uuid().to_string()),
        u8::from(job.again),
        job.spec.notify.as_ref().map_or("-", WebhookUrl::as_str),
    ));
    call.push(stored);
}

/// Reads the answer for one job: an id, or `conflict:`, `retried:` or `void:` with one.
fn read_stored(answer: Answer) -> Result<Stored, QueueError> {
    let word = answer.word()?;
    let id = |text: &str| text.parse().map_err(|_| word.unknown());
    match word.as_str().split_once(':') {
        Some(("conflict", other)) => id(other).map(Enqueued::Conflict).map(Stored::As),
        Some(("retried", other)) => id(other).map(Enqueued::Retried).map(Stored::As),
        Some(("void", void)) => id(void).map(Stored::Void),
        Some(_) => Err(word.unknown()),
        None => id(word.as_str()).map(Enqueued::Stored).map(Stored::As),
    }
}
