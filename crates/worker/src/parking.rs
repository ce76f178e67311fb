//! The service that a running job sees: while it waits for its own jobs it holds no slot.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use legwork_common::id::JobId;
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

use crate::active_attempts::HeldAttempt;
use crate::supervisor::WorkerEvent;

/// The service of one attempt, with its slot. It asks on while Redis cannot be reached: every call of a job may be
/// repeated, and for how long is not decided here, for an attempt whose lease is not sure drops the call.
#[derive(Debug)]
pub struct ParkingService {
    inner: Service,
    work: std::sync::Arc<dyn Work>,
    held: HeldAttempt,
    events: mpsc::Sender<WorkerEvent>,
    // How many calls of this attempt wait now. Calls of one turn run side by side: the first to wait gives
    // the slot back, the last to go on takes one again. ActiveAttempts over an await on purpose: whoever comes
    // meanwhile must not act before the change is done.
    waiting: Mutex<u32>,
    open: Option<OpenTurn>,
}

/// The turn that an earlier run left open.
#[derive(Debug, Clone, Copy)]
pub struct OpenTurn {
    /// Its number.
    pub turn: u32,
    /// When its calls were asked for, by this machine's clock.
    pub asked: Instant,
}

impl ParkingService {
    /// `inner` for the attempt `held`; the worker hears of parking through `events`. The calls of `open` run again.
    pub fn new(
        inner: Service,
        work: std::sync::Arc<dyn Work>,
        held: HeldAttempt,
        events: mpsc::Sender<WorkerEvent>,
        open: Option<OpenTurn>,
    ) -> Self {
        Self { inner, work, held, events, waiting: Mutex::new(0), open }
    }

    /// Waits without a slot. Dropped in the middle, the attempt is over and its slot with it.
    async fn without_slot<T>(
        &self,
        wait: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        self.begin_waiting().await?;
        let answer = wait.await;
        self.end_waiting().await?;
        answer
    }

    async fn begin_waiting(&self) -> Result<(), ServiceError> {
        let mut waiting = self.waiting.lock().await;
        if *waiting == 0 {
            // Slots that were granted to a wait which was dropped are not this wait's.
            self.held.slot.forget_permits(Semaphore::MAX_PERMITS);
            // Before it is so: whoever drops this has to come back, wherever it was.
            self.held.parked.store(true, Ordering::SeqCst);
            let lease = self.held.lease;
            retry_while_unavailable(None, || async move { parked(self.work.park(lease).await?) }).await?;
            // The worker ends only after its attempts, so somebody listens.
            let _gone = self.events.send(WorkerEvent::Parked(self.held.lease.id)).await;
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

    /// Comes back with a slot, where a run of this attempt was dropped while it waited. Asks on while Redis cannot
    /// be reached. Dropped in the middle, it may be called again.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] for what no repeat cures.
    pub async fn come_back(&self) -> Result<(), ServiceError> {
        if !self.held.parked.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.take_slot().await
    }

    async fn take_slot(&self) -> Result<(), ServiceError> {
        let _gone = self.events.send(WorkerEvent::SlotWanted(self.held.lease.id)).await;
        match self.held.slot.acquire().await {
            Ok(slot) => slot.forget(),
            Err(_) => return Err(ServiceError::LeaseLost),
        }
        let lease = self.held.lease;
        retry_while_unavailable(None, || async move { parked(self.work.resume(lease).await?) }).await?;
        self.held.parked.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// A job that shall stop, or is another's, does not wait; its cancellation is on the way.
fn parked(parked: Parked) -> Result<(), ServiceError> {
    match parked {
        Parked::Done => Ok(()),
        Parked::Stopping => Err(ServiceError::Stopping),
        Parked::Lost => Err(ServiceError::LeaseLost),
    }
}

#[async_trait]
impl BackgroundAgents for ParkingService {
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError> {
        retry_while_unavailable(None, || self.inner.run(request.clone())).await
    }

    async fn list(&self) -> Result<JobList, ServiceError> {
        retry_while_unavailable(None, || self.inner.list()).await
    }

    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError> {
        retry_while_unavailable(None, || self.inner.view(id, since)).await
    }

    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError> {
        retry_while_unavailable(None, || self.inner.stop(id)).await
    }

    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError> {
        // Run again it keeps its first deadline.
        let open = self.open.filter(|open| request.call.is_some_and(|call| call.turn == open.turn));
        let began = open.map_or_else(Instant::now, |open| open.asked);
        let look = WaitRequest { timeout: Some(Duration::ZERO), ..request.clone() };
        let items = retry_while_unavailable(None, || self.inner.wait(look.clone())).await?;
        if request.mode.is_over(&items) || request.timeout == Some(Duration::ZERO) {
            return Ok(items);
        }
        let wait = retry_while_unavailable(None, || {
            let timeout = request.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            self.inner.wait(WaitRequest { timeout, ..request.clone() })
        });
        self.without_slot(wait).await
    }

    async fn send(&self, request: SendRequest) -> Result<(), ServiceError> {
        retry_while_unavailable(None, || self.inner.send(request.clone())).await
    }
}

#[async_trait]
impl SessionState for ParkingService {
    async fn todos(&self, change: TodoChange, call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        retry_while_unavailable(None, || self.inner.todos(change.clone(), call)).await
    }

    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        retry_while_unavailable(None, || self.inner.reserve(used, wanted)).await
    }
}

#[async_trait]
impl Mailbox for ParkingService {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
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
