//! The service that a running job sees: while it waits for its own jobs it holds no slot.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::service::BackgroundAgents;
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
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_queue::Service;
use legwork_queue::port::Parked;
use legwork_queue::port::Work;
use tokio::sync::Mutex;
use tokio::sync::mpsc;

use crate::held::HeldAttempt;
use crate::supervisor::WorkerEvent;

/// The service of one attempt, with its slot.
#[derive(Debug)]
pub struct ParkingService {
    inner: Service,
    work: std::sync::Arc<dyn Work>,
    held: HeldAttempt,
    events: mpsc::Sender<WorkerEvent>,
    // How many calls of this attempt wait now. Calls of one turn run side by side: the first to wait gives
    // the slot back, the last to go on takes one again. Held over an await on purpose: whoever comes
    // meanwhile must not act before the change is done.
    waiting: Mutex<u32>,
}

impl ParkingService {
    /// `inner` for the attempt `held`; the worker hears of parking through `events`.
    pub fn new(
        inner: Service,
        work: std::sync::Arc<dyn Work>,
        held: HeldAttempt,
        events: mpsc::Sender<WorkerEvent>,
    ) -> Self {
        Self { inner, work, held, events, waiting: Mutex::new(0) }
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
            parked(self.work.park(self.held.lease).await?)?;
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
            let _gone = self.events.send(WorkerEvent::SlotWanted(self.held.lease.id)).await;
            match self.held.slot.acquire().await {
                Ok(slot) => slot.forget(),
                Err(_) => return Err(ServiceError::LeaseLost),
            }
            parked(self.work.resume(self.held.lease).await?)?;
        }
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

/// Whether a wait is over with these answers.
fn is_over(items: &[WaitItem], mode: WaitMode) -> bool {
    let ended = |item: &WaitItem| match item {
        WaitItem::Found(view) => view.job.status.is_terminal(),
        WaitItem::NotFound(_) => true,
    };
    match mode {
        WaitMode::All => items.iter().all(ended),
        WaitMode::Any => items.iter().any(ended) || items.is_empty(),
    }
}

#[async_trait]
impl BackgroundAgents for ParkingService {
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError> {
        self.inner.run(request).await
    }

    async fn list(&self) -> Result<JobList, ServiceError> {
        self.inner.list().await
    }

    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError> {
        self.inner.view(id, since).await
    }

    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError> {
        self.inner.stop(id).await
    }

    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError> {
        let look = WaitRequest { timeout: Some(Duration::ZERO), ..request.clone() };
        let items = self.inner.wait(look).await?;
        if is_over(&items, request.mode) || request.timeout == Some(Duration::ZERO) {
            return Ok(items);
        }
        self.without_slot(self.inner.wait(request)).await
    }

    async fn send(&self, request: SendRequest) -> Result<(), ServiceError> {
        self.inner.send(request).await
    }
}

#[async_trait]
impl Mailbox for ParkingService {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
        self.inner.mail().await
    }

    async fn told(&self, mail: &[MailId]) -> Result<(), ServiceError> {
        self.inner.told(mail).await
    }

    async fn settled(&self) -> Result<(), ServiceError> {
        if self.inner.is_settled().await? {
            return Ok(());
        }
        self.without_slot(self.inner.settled()).await
    }
}
