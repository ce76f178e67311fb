//! Opening sessions: with an owner whose lease this process renews, or without one.

use std::time::Duration;

use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::money::Money;
use legwork_common::money::SpendingLimit;
use legwork_common::service::ServiceError;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::SessionLanes;
use crate::port::Asker;
use crate::port::Dispatch as _;
use crate::port::OpenSession;
use crate::port::Opened;
use crate::port::Renewal;
use crate::port::Renewed;
use crate::port::SessionEnd;
use crate::port::SessionLease;
use crate::port::StopRoot;
use crate::port::Work as _;
use crate::queue::Queue;

/// What a session is opened with. Joining a session that is open changes none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// How many of its jobs are admitted at once for each queue; 0 for no cap, `None` for the namespace's.
    pub cap: Option<u32>,
    /// How many tokens all its agents' models may count together; `None` for no limit.
    pub budget: Option<u64>,
    /// What all its agents' models may cost together; `None` for no limit.
    pub max_cost: Option<Money>,
}

impl SessionOptions {
    /// With this cap, and with this limit next to the token budget of the agent file, which a limit in tokens replaces.
    #[must_use]
    pub fn new(cap: Option<u32>, limit: Option<SpendingLimit>, of_team: Option<u64>) -> Self {
        Self {
            cap,
            budget: limit.and_then(SpendingLimit::tokens).or(of_team),
            max_cost: limit.and_then(SpendingLimit::money),
        }
    }
}

/// What becomes of a session whose owner is away or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerTerms {
    /// How long the owner may be away, without renewing its lease, before it counts as gone; at least a lease.
    pub grace: Duration,
    /// What becomes of the session's jobs then.
    pub on_end: SessionEnd,
}

/// The outcome of an owner's renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The session is owned for another term.
    Kept,
    /// The owner was away for longer than its grace: a reaper has ended the ownership, for good.
    Lost,
}

/// The proof of owning a session. Dropping it changes nothing: the lease runs out, and a reaper does what the session's
/// end means.
#[derive(Debug, Clone)]
pub struct SessionOwner {
    queue: Queue,
    lease: SessionLease,
}

impl SessionOwner {
    /// The session.
    pub fn session(&self) -> SessionId {
        self.lease.session
    }

    /// How often to renew: a little more than three times in a lease, so that two lost renewals cost nothing.
    pub fn renew_every(&self) -> Duration {
        self.queue.settings().renew_every()
    }

    /// How long a job may stand still before it counts as lost: what an owner's absence is measured with.
    pub fn lease(&self) -> Duration {
        self.queue.settings().lease
    }

    /// Renews the owner's lease, even one that has expired, unless a reaper or another owner was faster: then it stays
    /// lost, and this changes nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; a repeat before the lease runs out loses nothing.
    pub async fn renew(&self) -> Result<Ownership, QueueError> {
        let renewal = Renewal { jobs: Vec::new(), sessions: vec![self.lease] };
        let (_, sessions) = self.queue.renew(&renewal).await?;
        Ok(if sessions == [Renewed::Lost] { Ownership::Lost } else { Ownership::Kept })
    }

    /// Closes the session to new jobs and stops all that live. The stop mark is durable when this answers; the tree to
    /// wait for with [`Operator::until_stopped`] is returned.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; the session may or may not be stopped then.
    pub async fn stop(&self, why: Cause) -> Result<StopRoot, QueueError> {
        let root = StopRoot::Session { id: self.lease.session, close: true };
        self.queue.stop(root, Asker::Root, why).await?;
        Ok(root)
    }

    /// Closes the session to new jobs and gives up its ownership. Running jobs continue; stopping them is a call of its
    /// own.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; then the lease runs out.
    pub async fn close(&self) -> Result<(), QueueError> {
        self.queue.close(self.lease.session, self.lease.owner).await
    }

    /// Gives up the ownership and leaves the session open. Its jobs continue.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached; then the lease runs out.
    pub async fn detach(&self) -> Result<(), QueueError> {
        self.queue.detach(self.lease.session, self.lease.owner).await
    }
}

impl Operator {
    /// Opens a session without an owner, or joins one that is open, whichever process owns it. Its jobs continue when this
    /// process ends.
    ///
    /// # Errors
    ///
    /// [`ServiceError::SessionClosed`], or that Redis cannot be reached.
    pub async fn join_session(
        &self,
        session: SessionId,
        options: SessionOptions,
    ) -> Result<(), ServiceError> {
        let terms = OwnerTerms { grace: Duration::ZERO, on_end: SessionEnd::Keep };
        self.open(self.opening(session, options, None, terms)).await
    }

    /// Opens a new session that this process owns. `terms` say what becomes of its jobs if this process is away, or
    /// gone.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when Redis cannot be reached.
    pub async fn own_session(
        &self,
        options: SessionOptions,
        terms: OwnerTerms,
    ) -> Result<SessionOwner, ServiceError> {
        let lease = SessionLease { session: SessionId::random(), owner: RunToken::random() };
        self.open(self.opening(lease.session, options, Some(lease.owner), terms)).await?;
        Ok(SessionOwner { queue: self.queue().clone(), lease })
    }

    /// A session that another process owns may be joined, because its jobs belong to the session and not to its owner;
    /// owning it as well is refused.
    async fn open(&self, opening: OpenSession) -> Result<(), ServiceError> {
        match self.queue().open(&opening).await? {
            Opened::Open => Ok(()),
            Opened::Owned if opening.owner.is_none() => Ok(()),
            Opened::Owned => Err(ServiceError::LeaseLost),
            Opened::Closed => Err(ServiceError::SessionClosed(opening.session.to_string())),
        }
    }

    /// The step's arguments. A session without an owner never ends with one, so its terms have no effect.
    fn opening(
        &self,
        session: SessionId,
        options: SessionOptions,
        owner: Option<RunToken>,
        terms: OwnerTerms,
    ) -> OpenSession {
        OpenSession {
            session,
            owner,
            owner_grace: terms.grace,
            on_end: terms.on_end,
            cap: options.cap.unwrap_or(self.queue().settings().session_cap),
            own_lane: self.lanes == SessionLanes::Own,
            budget: options.budget,
            max_cost: options.max_cost,
        }
    }
}
