//! Models behind the fleet's rate limits: a call starts once every limit that it counts against has given a permit.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::iter;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::model::Delta;
use legwork_agent::model::Deltas;
use legwork_agent::model::ModelCall;
use legwork_agent::model::ModelError;
use legwork_agent::model::ModelPort;
use legwork_agent::model::ModelReply;
use legwork_agent::model::ModelRequest;
use legwork_common::duration;
use legwork_common::id::RequestId;
use legwork_common::policy::Policy;
use legwork_common::policy::RateLimit;
use legwork_common::team::ModelSettings;
use legwork_queue::QueueError;
use legwork_queue::port::PermitRequest;
use legwork_queue::port::Permits;
use legwork_queue::port::Permitted;
use legwork_queue::port::WaitReason;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::metered::ModelMetrics;

/// The longest pause of a provider after one refusal (429), whatever its `Retry-After` asks for: limits are mostly per
/// minute, and a mistaken header must not stop a fleet for hours.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Polling interval for a permit where the number of concurrent calls is limited. Nothing announces the end of another
/// call, and calls take seconds.
const PERMIT_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two renewals of the permits of a call. A permit expires after 30 s, so two renewals may fail.
const PERMIT_RENEWAL_INTERVAL: Duration = Duration::from_secs(10);
/// The longest that a place in line is waited for without asking again: an earlier one may have been given up. At most a
/// few requests for each call, against waits of up to a minute.
const MAX_PLACE_WAIT: Duration = Duration::from_secs(5);
/// For how long a limit that was found free is not asked for again: a refusal on another worker slows this one that much
/// later, and a worker with a thousand calls a second asks once.
const FREE_FOR: Duration = Duration::from_secs(1);
/// Requests for permits of one limit that are in flight at once, of all calls of the worker: over 1,200 calls a second on a
/// Redis that is 50 ms away. Where thousands of agents start together, the others wait here, and find that the limit is
/// free. A request takes some kilobytes of memory until it is answered.
const MAX_REQUESTS: usize = 64;
/// Limits that are remembered. Beyond them those are forgotten that no call asks for: they are asked for once more.
const MAX_LIMITS: usize = 1024;
/// Delay before a permit is requested, kept or returned again when Redis could not be asked.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Shorter waits are not reported: a write to Redis for each would cost more than the information is worth.
const MIN_REPORTED_WAIT: Duration = Duration::from_secs(1);
/// Bytes of text for each token, roughly, for the estimate before a call. It is corrected after the call.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens that a reply is expected to have, for the same estimate.
const EXPECTED_REPLY_TOKENS: u64 = 500;

/// Models behind the fleet's rate limits.
#[derive(Debug)]
pub struct RateLimitedModels {
    models: Arc<dyn ModelPort>,
    permits: Arc<dyn Permits>,
    policy: Arc<Policy>,
    /// Counts the pauses.
    metrics: ModelMetrics,
    /// What is known of each limit. A std mutex: never held over an await.
    limits: Mutex<HashMap<String, Limit>>,
    abandoned: Abandoned,
}

/// What a worker knows of one limit.
#[derive(Debug)]
struct Limit {
    /// When it was last found free; `None` after a refusal.
    free_since: Option<Instant>,
    /// Bounds the requests that are in flight. One for each limit: another one's server may be away.
    requests: Arc<Semaphore>,
}

/// Permits of calls that were dropped in the middle, with the tokens that are given back with each. Dropping cannot wait
/// for Redis, so [`RateLimitedModels::return_forever`] and the next call return them.
#[derive(Debug, Default)]
struct Abandoned {
    // A std mutex: never held over an await.
    permits: Mutex<Vec<(PermitRequest, i64)>>,
    added: Notify,
}

impl Abandoned {
    fn permits(&self) -> MutexGuard<'_, Vec<(PermitRequest, i64)>> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RateLimitedModels {
    /// Puts `models` behind the limits of `policy`, which are counted by `permits`.
    pub fn new(models: Arc<dyn ModelPort>, permits: Arc<dyn Permits>, policy: Arc<Policy>) -> Self {
        let (metrics, limits, abandoned) = (ModelMetrics::default(), Mutex::default(), Abandoned::default());
        Self { models, permits, policy, metrics, limits, abandoned }
    }

    /// The same, with its pauses counted.
    #[must_use]
    pub fn counted_by(self, metrics: ModelMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Waits for the provider's pause to end, then for a permit of every limit, one after the other.
    ///
    /// # Errors
    ///
    /// [`ModelError::RateLimited`] where the provider is paused and the request does not wait for that.
    async fn acquire<'a>(
        &'a self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: &Deltas,
    ) -> Result<CallPermits<'a>, ModelError> {
        self.return_abandoned().await;
        let tokens = expected_tokens(request);
        let account = self.models.account(settings);
        let mut permits = CallPermits::new(self, account.clone());
        // The account first: during a pause no place of another limit is held.
        let limits = self.policy.limits(&settings.provider, &settings.model);
        for (name, limit) in iter::once((account.clone(), RateLimit::default())).chain(limits) {
            let shown = if name == account { settings.reference() } else { name.clone() };
            let waiter = Waiter { deltas, shown, waits_for_pauses: request.waits_for_pauses };
            let request = PermitRequest { name, limit, permit: RequestId::random(), tokens, due: None };
            if self.is_free(&request) {
                permits.granted.push(request);
                continue;
            }
            permits.add(request, &waiter).await.map_err(|Paused(remaining)| ModelError::RateLimited {
                model: settings.reference(),
                retry_after: Some(remaining),
                detail: format!("it is paused for {}", duration::short(remaining)),
            })?;
        }
        // They are held for as long as the model answers: mostly one, in room for four.
        permits.granted.shrink_to_fit();
        Ok(permits)
    }

    /// Waits for one permit, without a bound: the run that makes the call is cancelled from outside. A longer wait is
    /// reported, once for each reason.
    async fn wait_for_permit(
        &self,
        request: &mut PermitRequest,
        was_sent: &mut bool,
        waiter: &Waiter<'_>,
    ) -> Result<(), Paused> {
        let mut reported = None;
        loop {
            let (wait, reason) = match self.take(request, was_sent).await {
                Ok(Permitted::Go | Permitted::Free) => break,
                Ok(Permitted::Wait { pause, due, why }) => {
                    // The place in line: the next request is for this time.
                    request.due = Some(due);
                    (pause, why)
                }
                Err(error) => {
                    tracing::warn!(limit = %request.name, %error, "could not request a permit, trying again");
                    tokio::time::sleep(RETRY_DELAY).await;
                    continue;
                }
            };
            if reason == WaitReason::Paused && wait >= MIN_REPORTED_WAIT && !waiter.waits_for_pauses {
                return Err(Paused(wait));
            }
            let is_busy = reason == WaitReason::Busy;
            if (wait >= MIN_REPORTED_WAIT || is_busy) && reported != Some(reason) {
                reported = Some(reason);
                let why = describe(&waiter.shown, wait, reason);
                waiter.deltas.send(Delta::Waiting(Some(why))).await;
            }
            let min_wait = if is_busy { PERMIT_POLL_INTERVAL } else { Duration::ZERO };
            tokio::time::sleep(wait.clamp(min_wait, MAX_PLACE_WAIT)).await;
        }
        if reported.is_some() {
            waiter.deltas.send(Delta::Waiting(None)).await;
        }
        Ok(())
    }

    /// Requests a permit once it is this call's turn, unless the limit was found free by then.
    async fn take(&self, request: &PermitRequest, was_sent: &mut bool) -> Result<Permitted, QueueError> {
        // Never closed.
        let requests = self.requests_of(&request.name);
        let _turn = requests.acquire().await;
        if self.is_free(request) {
            return Ok(Permitted::Free);
        }
        *was_sent = true;
        let permitted = self.permits.take(request).await?;
        if permitted == Permitted::Free {
            self.set_free_since(&request.name, Some(Instant::now()));
        }
        Ok(permitted)
    }

    fn limits(&self) -> MutexGuard<'_, HashMap<String, Limit>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What bounds the requests for permits of this limit.
    fn requests_of(&self, name: &str) -> Arc<Semaphore> {
        let mut limits = self.limits();
        if let Some(limit) = limits.get(name) {
            return Arc::clone(&limit.requests);
        }
        if limits.len() >= MAX_LIMITS {
            limits.retain(|_, limit| Arc::strong_count(&limit.requests) > 1);
        }
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
        limits.insert(name.to_owned(), Limit { free_since: None, requests: Arc::clone(&requests) });
        requests
    }

    fn set_free_since(&self, name: &str, since: Option<Instant>) {
        if let Some(limit) = self.limits().get_mut(name) {
            limit.free_since = since;
        }
    }

    /// Whether a limit that is not configured was found to be free within the last [`FREE_FOR`], and no call was refused
    /// since.
    fn is_free(&self, request: &PermitRequest) -> bool {
        request.limit == RateLimit::default()
            && self
                .limits()
                .get(&request.name)
                .and_then(|limit| limit.free_since)
                .is_some_and(|since| since.elapsed() < FREE_FOR)
    }

    /// Returns the permits of calls that were dropped. One that could not be returned is kept for the next call.
    async fn return_abandoned(&self) {
        // Bound first: a guard in the condition would be held over the await.
        while let Some((request, beyond)) = self.take_abandoned() {
            let returned = self.permits.give_back(&request, beyond).await;
            if returned.as_ref().is_err_and(QueueError::is_transient) {
                self.abandoned.permits().push((request, beyond));
            }
            if returned.is_err() {
                return log_error(returned);
            }
        }
    }

    fn take_abandoned(&self) -> Option<(PermitRequest, i64)> {
        self.abandoned.permits().pop()
    }

    /// Returns the permits of dropped calls as soon as they are dropped, so that no other process waits behind them.
    /// May be dropped at any await: what is not returned expires.
    pub async fn return_forever(self: Arc<Self>) {
        loop {
            self.abandoned.added.notified().await;
            self.return_abandoned().await;
            while !self.abandoned.permits().is_empty() {
                tokio::time::sleep(RETRY_DELAY).await;
                self.return_abandoned().await;
            }
        }
    }
}

/// How the wait for one permit is reported, and whether it may be one for a pause.
struct Waiter<'a> {
    deltas: &'a Deltas,
    /// What is waited for, as people know it.
    shown: String,
    waits_for_pauses: bool,
}

/// The provider is paused for so much longer, and that is not waited for.
struct Paused(Duration);

/// The permits of one call. Dropped before they are settled, they are returned by [`RateLimitedModels::return_forever`] or
/// the next call, or expire.
#[derive(Debug)]
struct CallPermits<'a> {
    models: &'a RateLimitedModels,
    /// What a refusal pauses: [`ModelPort::account`].
    account: String,
    granted: Vec<PermitRequest>,
    /// The one that is waited for. Kept from before it is requested: dropped while it waits, its place is given up.
    requested: Option<PermitRequest>,
    /// Whether the queue may know of that one.
    was_sent: bool,
}

impl<'a> CallPermits<'a> {
    /// None yet, of a call that counts against this account.
    fn new(models: &'a RateLimitedModels, account: String) -> Self {
        Self { models, account, granted: Vec::new(), requested: None, was_sent: false }
    }

    /// Waits for one more permit, and keeps those that were granted before.
    async fn add(&mut self, request: PermitRequest, waiter: &Waiter<'_>) -> Result<(), Paused> {
        let (models, granted, was_sent) = (self.models, &self.granted, &mut self.was_sent);
        *was_sent = false;
        let request = self.requested.insert(request);
        tokio::select! {
            waited = models.wait_for_permit(request, was_sent, waiter) => waited?,
            never = keep_alive(models, granted) => match never {},
        }
        self.granted.extend(self.requested.take());
        Ok(())
    }

    /// Returns the permits with the tokens that were used, and pauses the account that was refused. Returns by how much
    /// that pause became longer; `None` where there was none.
    async fn settle(&mut self, answer: &Result<ModelReply, ModelError>) -> Option<Duration> {
        let mut paused = None;
        for request in std::mem::take(&mut self.granted) {
            let permits = &self.models.permits;
            log_error(match answer {
                Err(ModelError::RateLimited { retry_after, .. }) if request.name == self.account => {
                    self.models.set_free_since(&request.name, None);
                    permits.pause(&request, *retry_after, MAX_PAUSE).await.map(|longer| paused = Some(longer))
                }
                Err(_) if needs_return(&request) => permits.give_back(&request, 0).await,
                Ok(reply) if needs_return(&request) => {
                    let used =
                        reply.message.usage.input_tokens.saturating_add(reply.message.usage.output_tokens);
                    let beyond = i64::try_from(used).unwrap_or(i64::MAX)
                        - i64::try_from(request.tokens).unwrap_or(i64::MAX);
                    permits.give_back(&request, beyond).await
                }
                Ok(_) | Err(_) => Ok(()),
            });
        }
        paused
    }
}

impl Drop for CallPermits<'_> {
    fn drop(&mut self) {
        let in_flight = std::mem::take(&mut self.granted).into_iter().filter(needs_return);
        // What was not granted gives its place back, and all the tokens that it stood for.
        let waiting = self.requested.take().filter(|_| self.was_sent).map(|request| {
            let beyond = -i64::try_from(request.tokens).unwrap_or(i64::MAX);
            (request, beyond)
        });
        let unsettled: Vec<_> = in_flight.map(|request| (request, 0)).chain(waiting).collect();
        if !unsettled.is_empty() {
            self.models.abandoned.permits().extend(unsettled);
            self.models.abandoned.added.notify_one();
        }
    }
}

#[async_trait]
impl ModelPort for RateLimitedModels {
    fn account(&self, settings: &ModelSettings) -> String {
        self.models.account(settings)
    }

    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, request, deltas } = call;
        // Boxed, so that it is not held for as long as the model answers.
        let mut permits = Box::pin(self.acquire(settings, request, deltas)).await?;
        let answer = tokio::select! {
            answer = self.models.stream(ModelCall { settings, request, deltas }) => answer,
            never = keep_alive(self, &permits.granted) => match never {},
        };
        if let Some(longer) = Box::pin(permits.settle(&answer)).await {
            self.metrics.count_pause(settings, longer);
        }
        answer
    }
}

/// Renews the permits that count concurrent calls, until dropped. After a failure sooner: until they are renewed, other
/// calls may be granted in their place.
async fn keep_alive(models: &RateLimitedModels, granted: &[PermitRequest]) -> Infallible {
    let concurrent: Vec<(String, RequestId)> = granted
        .iter()
        .filter(|request| request.limit.concurrent.is_some())
        .map(|request| (request.name.clone(), request.permit))
        .collect();
    if concurrent.is_empty() {
        std::future::pending::<()>().await;
    }
    // Boxed, because few calls have such permits.
    Box::pin(renew(models, &concurrent)).await
}

async fn renew(models: &RateLimitedModels, concurrent: &[(String, RequestId)]) -> Infallible {
    let mut pause = PERMIT_RENEWAL_INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let kept = models.permits.keep(concurrent).await;
        pause = if kept.is_ok() { PERMIT_RENEWAL_INTERVAL } else { RETRY_DELAY };
        log_error(kept);
    }
}

/// Whether returning the permit changes anything: a mere rate of requests keeps no account of running calls.
fn needs_return(request: &PermitRequest) -> bool {
    request.limit.concurrent.is_some() || request.limit.tokens_per_minute.is_some()
}

/// A rough estimate of the tokens of a call: the request, and a usual reply.
fn expected_tokens(request: &ModelRequest) -> u64 {
    let bytes: usize = request.messages.iter().map(|message| message.bytes()).sum();
    EXPECTED_REPLY_TOKENS.saturating_add(u64::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u64::MAX))
}

/// Why a call waits, as shown to users.
fn describe(name: &str, wait: Duration, reason: WaitReason) -> String {
    match reason {
        WaitReason::Paused => {
            format!("{name} refused a call and is paused for {} at least", duration::short(wait))
        }
        WaitReason::Rate => format!("the rate limit of {name} permits the call in {}", duration::short(wait)),
        WaitReason::Busy => format!("{name} is at its limit of concurrent calls"),
    }
}

/// Logs a failed update of a permit. No call waits for a retry: the permit expires.
fn log_error(result: Result<(), QueueError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not update the rate limits of a model provider");
    }
}

#[cfg(test)]
mod tests;
