//! The session of a root agent: its owner's lease, its journal, what it dispatches through.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use legwork_agent::journal::Journal;
use legwork_agent::journal::JournalError;
use legwork_agent::journal::RunEvent;
use legwork_agent::journal::TurnEntry;
use legwork_agent::pruning::prune_replaced;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
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
use legwork_common::trace::TraceParent;
use legwork_queue::Caller;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::Service;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::OpenSession;
use legwork_queue::port::Opened;
use legwork_queue::port::Renewal;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::SessionLease;
use legwork_queue::port::Work as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::panel::Screen;

/// What a root's session is opened with.
#[derive(Debug, Clone)]
pub struct RootOptions {
    /// The stored name of the team.
    pub team: TeamDigest,
    /// The team as JSON.
    pub team_json: Arc<str>,
    /// How many of its jobs are admitted at once for each queue.
    pub cap: u32,
    /// How many tokens the models of the session may count; `None` for no limit.
    pub budget: Option<u64>,
    /// Whether its jobs go to its own lane.
    pub own_lane: bool,
    /// What becomes of its jobs should the program die.
    pub on_end: SessionEnd,
    /// Whether the root waits for its jobs at the end of its turn.
    pub waits: bool,
    /// The folder that its jobs run in.
    pub working_dir: Option<String>,
    /// What the fleet decides for its jobs.
    pub policy: Arc<Policy>,
    /// The trace that its jobs belong to.
    pub trace: Option<TraceParent>,
}

/// An open session and the proof of owning it.
#[derive(Debug, Clone)]
pub struct RootSession {
    /// The session.
    pub lease: SessionLease,
    /// What the root dispatches and waits through.
    pub service: Arc<RootService>,
    queue: Queue,
}

impl RootSession {
    /// Opens a new session. When its owner dies, its jobs are stopped, or go on where the options say so.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the queue cannot be asked.
    pub async fn open(observer: &Observer, options: RootOptions) -> Result<Self, Failure> {
        let lease = SessionLease { session: SessionId::random(), owner: RunToken::random() };
        let queue = observer.queue().clone();
        let open = OpenSession {
            session: lease.session,
            owner: Some(lease.owner),
            on_end: options.on_end,
            cap: options.cap,
            own_lane: options.own_lane,
            budget: options.budget,
        };
        match queue.open(&open).await? {
            Opened::Open => {}
            Opened::Owned | Opened::Closed => return Err(Failure::usage("a new session was in use already")),
        }
        let caller = Caller {
            session: lease.session,
            by: DispatchedBy::Root,
            team: options.team,
            team_json: options.team_json,
            working_dir: options.working_dir,
            keys_in_namespace: false,
            policy: options.policy,
            trace: options.trace,
        };
        let inner = Service::new(observer.clone(), caller);
        let service = Arc::new(RootService { inner, waits: options.waits });
        Ok(Self { lease, service, queue })
    }

    /// Renews the owner's lease until `over`. Trouble is logged and tried again; a lease that ran out is
    /// found by whoever reaps, and then it has no owner any more.
    pub async fn keep(self, over: CancellationToken) {
        let mut tick = tokio::time::interval(self.queue.settings().renew_every());
        let renewal = Renewal { jobs: Vec::new(), sessions: vec![self.lease] };
        while over.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.queue.renew(&renewal).await {
                tracing::warn!(%error, "could not renew the session's lease");
            }
        }
    }

    /// Closes the session: nothing new is dispatched into it.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the queue cannot be asked; then the owner's lease runs out.
    pub async fn close(&self) -> Result<(), Failure> {
        Ok(self.queue.close(self.lease.session, self.lease.owner).await?)
    }

    /// Gives up the ownership; the jobs go on.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the queue cannot be asked.
    pub async fn detach(&self) -> Result<(), Failure> {
        Ok(self.queue.detach(self.lease.session, self.lease.owner).await?)
    }
}

/// The service that a root sees. A root is not run again after a crash, so its calls have no place in
/// turns: a second prompt's first call is not the first prompt's.
#[derive(Debug)]
pub struct RootService {
    inner: Service,
    waits: bool,
}

impl RootService {
    /// Whether no job that the root dispatched is live.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the queue cannot be asked.
    pub async fn is_settled(&self) -> Result<bool, ServiceError> {
        self.inner.is_settled().await
    }
}

#[async_trait]
impl BackgroundAgents for RootService {
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError> {
        self.inner.run(RunRequest { call: None, ..request }).await
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
        self.inner.wait(request).await
    }

    async fn send(&self, request: SendRequest) -> Result<(), ServiceError> {
        self.inner.send(SendRequest { call: None, ..request }).await
    }
}

#[async_trait]
impl SessionState for RootService {
    async fn todos(&self, change: TodoChange, _call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        self.inner.todos(change, None).await
    }

    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        self.inner.reserve(used, wanted).await
    }
}

#[async_trait]
impl Mailbox for RootService {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
        self.inner.mail().await
    }

    async fn acknowledge(&self, mail: &[MailId]) -> Result<(), ServiceError> {
        self.inner.acknowledge(mail).await
    }

    async fn settled(&self) -> Result<(), ServiceError> {
        if self.waits { self.inner.settled().await } else { Ok(()) }
    }
}

/// What a root writes goes to the screen; its turns are kept for the next prompt.
#[derive(Debug)]
pub struct ScreenJournal {
    screen: Arc<Screen>,
    entries: Mutex<Vec<TurnEntry>>,
    keeps_all: bool,
}

impl ScreenJournal {
    /// A journal for one prompt, which goes on from what is recorded. What summaries stand for is dropped, unless it
    /// `keeps_all`.
    pub fn new(screen: Arc<Screen>, recorded: Vec<TurnEntry>, keeps_all: bool) -> Self {
        Self { screen, entries: Mutex::new(recorded), keeps_all }
    }

    /// The turns so far.
    pub fn entries(&self) -> Vec<TurnEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Journal for ScreenJournal {
    async fn output(&self, text: &str) -> Result<(), JournalError> {
        self.screen.answer(text);
        Ok(())
    }

    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry.clone());
        if !self.keeps_all && matches!(entry, TurnEntry::Compacted { .. }) {
            prune_replaced(&mut entries);
        }
        drop(entries);
        if let TurnEntry::Delivered { text, .. } = entry {
            self.screen.event("told", &json!({"text": text}));
        }
        Ok(())
    }

    fn note(&self, event: RunEvent) {
        match event {
            RunEvent::ModelAsked { turn, model } => {
                self.screen.event("turn", &json!({"turn": turn, "model": model}));
            }
            RunEvent::ModelRetried { turn, reason } => {
                self.screen.event("retry", &json!({"turn": turn, "reason": reason}));
                self.screen.note(&format!("asking the model again: {reason}"));
            }
            RunEvent::ModelWaits { why } => {
                self.screen.event("waits", &json!({"why": why}));
                if let Some(why) = why {
                    self.screen.note(&format!("waiting: {why}"));
                }
            }
            RunEvent::ToolStarted { call, name, arguments } => {
                self.screen.event("tool", &json!({"turn": call.turn, "name": name, "arguments": arguments}));
                self.screen.note(&format!("→ {name}"));
            }
            RunEvent::ToolEnded { call, name, is_error } => {
                self.screen
                    .event("tool_ended", &json!({"turn": call.turn, "name": name, "is_error": is_error}));
                if is_error {
                    self.screen.note(&format!("✗ {name} failed"));
                }
            }
            RunEvent::Warning(text) => {
                self.screen.event("warning", &json!({"text": text}));
                self.screen.note(&format!("warning: {text}"));
            }
        }
    }
}
