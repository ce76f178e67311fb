//! View, wait and stop for a caller that may name any job: the commands of an operator. The service of a dispatcher
//! checks first that the job is below it.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::service::JobView;
use legwork_common::service::MAX_VIEW_BYTES;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::team::AgentKind;
use legwork_common::team::Team;
use tokio::time::Instant;

use crate::error::QueueError;
use crate::hints::Hints;
use crate::hints::Listener;
use crate::port::Asker;
use crate::port::Dispatch as _;
use crate::port::SendOutcome;
use crate::port::StopOutcome;
use crate::port::StopRoot;
use crate::port::Watch as _;
use crate::queue::Queue;
use crate::queue::ViewDepth;

/// Poll interval of everything that waits for a hint: the longest that a lost hint delays it. One read every two
/// seconds is cheap for the server, and two seconds are short next to a model call.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How long a waiter for several jobs collects further hints after the first one. Jobs end in bursts, and each read
/// covers all of them.
const GATHER_TIME: Duration = Duration::from_millis(20);

/// A queue and its hints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Observer {
    // Shared, because each running job has a clone.
    queue: Arc<Queue>,
    hints: Hints,
}

impl Observer {
    /// Watches `queue` with the help of `hints`.
    pub fn new(queue: Queue, hints: Hints) -> Self {
        Self { queue: Arc::new(queue), hints }
    }

    /// The queue that is observed.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The hints of its changes.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// One job with a slice of its output: from `since`, or else its tail; at most [`MAX_VIEW_BYTES`].
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], or [`ServiceError::Unavailable`] when Redis cannot be reached.
    pub async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError> {
        let view = self.queue.view(id, since, MAX_VIEW_BYTES).await?;
        view.ok_or_else(|| ServiceError::NotFound(id.to_string()))
    }

    /// One job with its output from `since`, as soon as there is output after `since` (without it: after now), the job
    /// has ended, or `deadline` has passed. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], or [`ServiceError::Unavailable`] when Redis cannot be reached.
    pub async fn view_grown(
        &self,
        id: JobId,
        since: Option<u64>,
        deadline: Instant,
    ) -> Result<JobView, ServiceError> {
        // Listening begins before the read, so that what changes in between is not missed.
        let mut output = self.hints.listen(self.queue.keys().job_channel(id)).await;
        let first = self.view(id, since).await?;
        let mut ends = self.hints.listen(self.queue.keys().session_channel(first.job.session)).await;
        let seen = since.unwrap_or(first.output.total);
        loop {
            let view = self.view(id, since).await?;
            let has_grown = view.output.total > seen || view.job.status.is_terminal();
            if has_grown || deadline <= Instant::now() {
                return Ok(view);
            }
            let until = deadline.min(Instant::now() + POLL_INTERVAL);
            tokio::select! {
                _hint = output.next() => {}
                _hint = ends.next() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Waits until all or any of the jobs have ended, or until `deadline`, and answers with a view of each in the order
    /// of `ids`, of which as much is read as `detail` says. `None` stands for a text that names no job. Dropping the future
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when Redis cannot be reached.
    pub async fn wait(
        &self,
        ids: &[(String, Option<JobId>)],
        mode: WaitMode,
        detail: WaitDetail,
        deadline: Option<Instant>,
    ) -> Result<Vec<WaitItem>, ServiceError> {
        let is_late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let known: Vec<JobId> = ids.iter().filter_map(|(_, id)| *id).collect();
        // A check without a wait needs no hints.
        let mut listeners = if is_late() { Vec::new() } else { self.listen(&known).await? };
        let mut live = known.clone();
        loop {
            let states = self.queue.states(&live).await?;
            let mut states = states.into_iter();
            live.retain(|_| states.next().flatten().is_some_and(|state| !state.is_terminal()));
            let over = match mode {
                WaitMode::All => live.is_empty(),
                WaitMode::Any => live.len() < known.len() || known.is_empty(),
            };
            if over || is_late() {
                break;
            }
            let poll = Instant::now() + POLL_INTERVAL;
            let until = deadline.map_or(poll, |deadline| deadline.min(poll));
            // A hint or the timeout: the states are read again either way.
            if tokio::time::timeout_at(until, any_hint(&mut listeners)).await.is_ok() && live.len() > 1 {
                tokio::time::sleep(GATHER_TIME).await;
            }
        }
        let mut views = self.queue.views(&known, ViewDepth::of(detail)).await?.into_iter();
        let item = |(text, id): &(String, Option<JobId>)| match id.and_then(|_| views.next().flatten()) {
            Some(view) => WaitItem::Found(Box::new(view)),
            None => WaitItem::NotFound(text.clone()),
        };
        Ok(ids.iter().map(item).collect())
    }

    /// Puts a message into a job's mailbox, where its agent can hear it. `request` names the call: a repeat within the
    /// retention sends nothing again.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the job takes no messages, or when Redis cannot be reached.
    pub async fn send(
        &self,
        id: JobId,
        message: &str,
        request: &str,
        seal: Option<&str>,
    ) -> Result<(), ServiceError> {
        if self.runs_a_program(id).await? {
            return Err(ServiceError::HearsNothing(id));
        }
        let keep = self.queue.settings().retention;
        match self.queue.send(id, (message, seal), request, keep).await? {
            SendOutcome::Sent => Ok(()),
            SendOutcome::NotRunning(status) => Err(ServiceError::NotRunning { id, status }),
            SendOutcome::NotFound => Err(ServiceError::NotFound(id.to_string())),
        }
    }

    /// Whether a job that has not ended runs a program instead of an agent. A team that cannot be read is left to its
    /// worker.
    async fn runs_a_program(&self, id: JobId) -> Result<bool, ServiceError> {
        let Some(original) = self.queue.original(id).await? else { return Ok(false) };
        let json = original.team_json.filter(|_| !original.status.is_terminal()).unwrap_or_default();
        let team: Option<Team> = serde_json::from_str(&json).ok();
        let agent = team.as_ref().and_then(|team| team.agent(&original.spec.agent));
        Ok(agent.is_some_and(|agent| matches!(agent.kind, AgentKind::Command { .. })))
    }

    /// Stops a tree. The stop mark is durable when this answers.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; the tree may or may not have been marked.
    pub async fn stop(&self, root: StopRoot, asker: Asker, why: Cause) -> Result<StopOutcome, QueueError> {
        self.queue.stop(root, asker, why).await
    }

    /// Listens for jobs that end in the sessions of these jobs.
    async fn listen(&self, ids: &[JobId]) -> Result<Vec<Listener>, QueueError> {
        let sessions = self.queue.sessions_of(ids).await?;
        let mut listeners = Vec::with_capacity(sessions.len());
        for session in sessions {
            listeners.push(self.hints.listen(self.queue.keys().session_channel(session)).await);
        }
        Ok(listeners)
    }
}

/// Returns at the first hint of any of the listeners; never without listeners.
async fn any_hint(listeners: &mut [Listener]) {
    if listeners.is_empty() {
        return std::future::pending().await;
    }
    let waits = listeners.iter_mut().map(|listener| Box::pin(listener.next()));
    let _first = futures::future::select_all(waits).await;
}
