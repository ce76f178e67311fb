//! Parking: the service that a running job calls, which gives back the job's slot while it waits for its own jobs.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::money::Money;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::CallIndex;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::Mail;
use legwork_common::service::MailId;
use legwork_common::service::Mailbox;
use legwork_common::service::RunRequest;
use legwork_common::service::SendRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitRequest;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;
use legwork_queue::Service;
use legwork_queue::port::Parked;
use legwork_queue::port::Work;
use legwork_queue::retry_while_unavailable;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::active_attempts::AttemptHandle;
use crate::supervisor::WorkerEvent;

/// Calls of one attempt that Redis answers at once and that are made together. Without a bound the thousands of calls that one
/// reply may ask for wait for one connection, and on a busy machine all of them take longer than a round trip may, fail, and
/// are repeated.
const MAX_ASKING: usize = 128;

/// The background agents, session state and mail of one attempt. Every call is repeated while Redis is unreachable,
/// without a bound of its own: an attempt whose lease is in doubt is suspended, which drops the call.
#[derive(Debug)]
pub struct ParkingService {
    inner: Service,
    work: Arc<dyn Work>,
    handle: Arc<AttemptHandle>,
    events: mpsc::Sender<WorkerEvent>,
    /// How many calls of this attempt wait now. Calls of one turn run concurrently: the first to wait gives the slot
    /// back, the last to continue takes one again. A tokio mutex, held over the awaits of either change on purpose: a
    /// call that comes in between must not act before the change is done.
    waiting: Mutex<u32>,
    open_turn: Option<OpenTurn>,
    has_session_budget: bool,
    mailbox: KnownMailbox,
    /// Places of the calls that Redis answers at once.
    asking: Semaphore,
}

/// Whether the mailbox of an attempt is known to be empty.
#[derive(Debug, Default)]
struct KnownMailbox {
    empty_until: Option<Instant>,
    /// Whether it was asked for: what is sent while the first turn runs is to be heard in the second.
    was_asked_for: AtomicBool,
}

impl KnownMailbox {
    /// Whether the mailbox need not be read, for one that asks now.
    fn is_empty(&self, now: Instant) -> bool {
        let is_first = !self.was_asked_for.swap(true, Ordering::SeqCst);
        is_first && self.empty_until.is_some_and(|until| now < until)
    }
}

/// The last turn of an earlier run, whose calls may run again.
#[derive(Debug, Clone, Copy)]
pub struct OpenTurn {
    /// The turn, counted from 1 over all attempts.
    pub turn: u32,
    /// When the reply with its calls was recorded, by this machine's clock.
    pub replied_at: Instant,
}

impl ParkingService {
    /// Wraps `inner` for the attempt behind `handle`; parking is reported through `events`. Waits of `open_turn` keep
    /// their first deadline.
    pub fn new(
        inner: Service,
        work: Arc<dyn Work>,
        handle: Arc<AttemptHandle>,
        events: mpsc::Sender<WorkerEvent>,
        open_turn: Option<OpenTurn>,
    ) -> Self {
        Self {
            inner,
            work,
            handle,
            events,
            waiting: Mutex::new(0),
            open_turn,
            has_session_budget: true,
            mailbox: KnownMailbox::default(),
            asking: Semaphore::new(MAX_ASKING),
        }
    }

    /// Makes a call that Redis answers at once, and repeats it while Redis is unreachable. Dropping the future leaves the call
    /// done or not done.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        // An error says that the semaphore is closed, which it never is.
        let _place = self.asking.acquire().await;
        retry_while_unavailable(None, call).await
    }

    /// Of a job whose session is known to have no budget: [`SessionState::reserve`] and [`SessionState::cost_limit`] do not ask
    /// the queue.
    #[must_use]
    pub fn without_session_budget(mut self) -> Self {
        self.has_session_budget = false;
        self
    }

    /// Of an attempt whose mailbox was empty when it was claimed: until then, the first [`Mailbox::mail`] does not ask the queue.
    /// What was sent since the claim is found by the next one, before the job completes.
    #[must_use]
    pub fn without_mail_until(mut self, until: Instant) -> Self {
        self.mailbox.empty_until = Some(until);
        self
    }

    /// Waits without a slot. Dropped in the middle, the attempt is either over, and its slot with it, or suspended, and
    /// [`Self::resume_if_parked`] takes a slot again.
    async fn without_slot<T>(
        &self,
        wait: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        self.begin_waiting().await?;
        let answer = wait.await;
        self.end_waiting().await?;
        answer
    }

    /// Asks a person, and waits for the answer without a slot. The question is stored before the job is parked, so that it
    /// is never parked for nothing that can be seen.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the attempt is over, or the job is being stopped.
    pub async fn ask(
        &self,
        call: CallIndex,
        question: &Question,
        expiry: Duration,
    ) -> Result<Answer, ServiceError> {
        let question = &question.bounded();
        let ask = || self.inner.ask(call, question, expiry);
        let mut waiting = match retry_while_unavailable(None, ask).await? {
            Ok(answer) => return Ok(answer),
            Err(waiting) => waiting,
        };
        tracing::info!(job = %self.handle.lease.id, "waits for a person: {}", question.phrase());
        let answered = async {
            loop {
                retry_while_unavailable(None, || self.inner.until_decided(waiting)).await?;
                match retry_while_unavailable(None, ask).await? {
                    Ok(answer) => return Ok(answer),
                    // Redis' clock decides when it expires.
                    Err(still) => waiting = still,
                }
            }
        };
        self.without_slot(answered).await
    }

    async fn begin_waiting(&self) -> Result<(), ServiceError> {
        let mut waiting = self.waiting.lock().await;
        if *waiting == 0 {
            // Slots that were granted to an earlier wait which was dropped are not for this one.
            self.handle.slot.forget_permits(Semaphore::MAX_PERMITS);
            // Before the job is parked: wherever this future is dropped, the next run must resume the job first.
            self.handle.parked.store(true, Ordering::SeqCst);
            let lease = self.handle.lease;
            retry_while_unavailable(None, || async move { into_result(self.work.park(lease).await?) })
                .await?;
            // The driver receives until all attempts have ended. A full channel is waited for.
            let _no_receiver = self.events.send(WorkerEvent::Parked(lease)).await;
        }
        *waiting += 1;
        Ok(())
    }

    async fn end_waiting(&self) -> Result<(), ServiceError> {
        let mut waiting = self.waiting.lock().await;
        *waiting -= 1;
        if *waiting == 0 {
            self.take_slot().await?;
        }
        Ok(())
    }

    /// Takes a slot again, where an earlier run of this attempt was suspended while it was parked. Repeats its calls
    /// while Redis is unreachable. Dropped in the middle, it may be called again.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] for what no retry cures.
    pub async fn resume_if_parked(&self) -> Result<(), ServiceError> {
        if !self.handle.parked.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Boxed, because every attempt begins with this call and few are parked then.
        Box::pin(self.take_slot()).await
    }

    /// Waits for a slot without a bound: other jobs hold them. A stop, the job's timeout and a lost lease end the wait
    /// by dropping it.
    async fn take_slot(&self) -> Result<(), ServiceError> {
        let lease = self.handle.lease;
        let _no_receiver = self.events.send(WorkerEvent::SlotRequested(lease)).await;
        match self.handle.slot.acquire().await {
            Ok(slot) => slot.forget(),
            Err(_) => return Err(ServiceError::LeaseLost),
        }
        retry_while_unavailable(None, || async move { into_result(self.work.resume(lease).await?) }).await?;
        self.handle.parked.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// A job that is being stopped, or is leased to another attempt, neither parks nor resumes; its cancellation follows.
fn into_result(parked: Parked) -> Result<(), ServiceError> {
    match parked {
        Parked::Done => Ok(()),
        Parked::Stopping => Err(ServiceError::Stopping),
        Parked::Lost => Err(ServiceError::LeaseLost),
    }
}

#[async_trait]
impl BackgroundAgents for ParkingService {
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError> {
        self.call(|| self.inner.run(request.clone())).await
    }

    async fn list(&self) -> Result<JobList, ServiceError> {
        self.call(|| self.inner.list()).await
    }

    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError> {
        self.call(|| self.inner.view(id, since)).await
    }

    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError> {
        self.call(|| self.inner.stop(id)).await
    }

    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError> {
        // A wait that runs again, because its attempt died or was suspended, keeps its first deadline.
        let open_turn = self.open_turn.filter(|open| request.call.is_some_and(|call| call.turn == open.turn));
        let started = open_turn.map_or_else(Instant::now, |open| open.replied_at);
        // Checked first: a wait that is over already costs no slot change.
        let check = WaitRequest { timeout: Some(Duration::ZERO), ..request.clone() };
        let items = retry_while_unavailable(None, || self.inner.wait(check.clone())).await?;
        if request.mode.is_over(&items) || request.timeout == Some(Duration::ZERO) {
            return Ok(items);
        }
        let wait = retry_while_unavailable(None, || {
            let timeout = request.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            self.inner.wait(WaitRequest { timeout, ..request.clone() })
        });
        self.without_slot(wait).await
    }

    async fn send(&self, request: SendRequest) -> Result<(), ServiceError> {
        self.call(|| self.inner.send(request.clone())).await
    }
}

#[async_trait]
impl SessionState for ParkingService {
    async fn todos(&self, change: TodoChange, call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        self.call(|| self.inner.todos(change.clone(), call)).await
    }

    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        if !self.has_session_budget {
            return Ok(BudgetReservation::Unlimited);
        }
        retry_while_unavailable(None, || self.inner.reserve(used, wanted)).await
    }

    async fn cost_limit(&self) -> Result<Option<Money>, ServiceError> {
        if !self.has_session_budget {
            return Ok(None);
        }
        retry_while_unavailable(None, || self.inner.cost_limit()).await
    }

    async fn spend(&self, run: &str, used: &[(String, u64)]) -> Result<Vec<u64>, ServiceError> {
        retry_while_unavailable(None, || self.inner.spend(run, used)).await
    }
}

#[async_trait]
impl Mailbox for ParkingService {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
        if self.mailbox.is_empty(Instant::now()) {
            return Ok(Vec::new());
        }
        self.inner.mail().await
    }

    async fn acknowledge(&self, mail: &[MailId]) -> Result<(), ServiceError> {
        self.inner.acknowledge(mail).await
    }

    async fn settled(&self) -> Result<(), ServiceError> {
        if self.inner.is_settled().await? {
            return Ok(());
        }
        self.without_slot(retry_while_unavailable(None, || self.inner.settled())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_turn_that_begins_in_time_does_without_its_mailbox() {
        let now = Instant::now();
        let until = now + Duration::from_millis(100);
        for (empty_until, asked_at, expected) in [
            (Some(until), [now, now], [true, false]),
            (Some(until), [until, now], [false, false]),
            (None, [now, now], [false, false]),
        ] {
            let mailbox = KnownMailbox { empty_until, ..KnownMailbox::default() };
            assert_eq!(asked_at.map(|at| mailbox.is_empty(at)), expected, "{empty_until:?}");
        }
    }
}
