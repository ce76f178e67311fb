//! The session of a root agent under `run`: the owner's lease, the service that the root calls, and its journal.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::journal::Journal;
use legwork_agent::journal::JournalError;
use legwork_agent::journal::RunEvent;
use legwork_agent::journal::TurnEntry;
use legwork_agent::pruning::prune_replaced;
use legwork_common::duration;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::question::Approvals;
use legwork_common::trace::TraceParent;
use legwork_queue::Caller;
use legwork_queue::DispatchedBy;
use legwork_queue::Operator;
use legwork_queue::Service;
use legwork_queue::operator::OwnerTerms;
use legwork_queue::operator::Ownership;
use legwork_queue::operator::SessionEnd;
use legwork_queue::operator::SessionOptions;
use legwork_queue::operator::SessionOwner;
use legwork_worker::lease_clock::LeaseClock;
use serde_json::json;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::panel::Screen;
use crate::render;

/// The most characters of a tool call in a line: its name and the beginning of its arguments, on one line of a terminal
/// of 100 columns.
const TOOL_CALL_CHARS: usize = 96;

/// The options of a new root session.
#[derive(Debug, Clone)]
pub struct RootOptions {
    /// The agent of the root.
    pub agent: String,
    /// The digest under which the team is stored.
    pub team: TeamDigest,
    /// The team as JSON, stored with the first job.
    pub team_json: Arc<str>,
    /// The cap on its jobs and its token budget.
    pub session: SessionOptions,
    /// How long this program may be away, and what happens to its jobs after that.
    pub terms: OwnerTerms,
    /// Whether the root waits for its jobs at the end of its turn.
    pub waits: bool,
    /// The working directory of its jobs, on a worker of this machine.
    pub working_dir: Option<String>,
    /// The fleet's policy, applied to its jobs.
    pub policy: Arc<Policy>,
    /// The trace that its jobs belong to.
    pub trace: Option<TraceParent>,
    /// What becomes of calls of its jobs that need a person's approval; `None` for what the workers' policies say.
    pub approvals: Option<Approvals>,
}

/// An open session, with the proof of owning it.
#[derive(Debug, Clone)]
pub struct RootSession {
    /// The proof of owning the session.
    pub owner: SessionOwner,
    /// What becomes of the session while this program is away.
    terms: OwnerTerms,
    /// The service that the root dispatches and waits through.
    pub service: Arc<Service>,
    /// Held over a renewal, so that each absence is reported once.
    term: Arc<AsyncMutex<Term>>,
}

/// When the owner last renewed its lease.
#[derive(Debug)]
struct Term {
    /// Runs on while the machine sleeps.
    clock: LeaseClock,
    /// By the clock, in milliseconds.
    renewed_at: u64,
    /// Whether the session was ended for this program's absence.
    lost: bool,
}

impl Term {
    fn since_renewal(&self) -> Duration {
        Duration::from_millis(self.clock.now().saturating_sub(self.renewed_at))
    }
}

impl RootSession {
    /// Opens a new session. If its owner dies, or is away for longer than its grace, the reaper stops its jobs, or leaves
    /// them running, as the terms say.
    ///
    /// # Errors
    ///
    /// [`Failure`] when Redis cannot be asked.
    pub async fn open(operator: &Operator, options: RootOptions) -> Result<Self, Failure> {
        let owner = operator.own_session(options.session, options.terms).await?;
        let caller = Caller {
            session: owner.session(),
            by: DispatchedBy::Root,
            team: options.team,
            team_json: options.team_json,
            working_dir: options.working_dir,
            keys_in_namespace: false,
            policy: options.policy,
            trace: options.trace,
            root_agent: Some(options.agent),
            approvals: options.approvals,
        };
        let service = operator.service(caller);
        let service = Arc::new(if options.waits { service } else { service.without_waiting() });
        let clock = LeaseClock::new(owner.lease());
        let term = Term { renewed_at: clock.now(), clock, lost: false };
        Ok(Self { owner, terms: options.terms, service, term: Arc::new(AsyncMutex::new(term)) })
    }

    /// Renews the owner's lease until `over`. A renewal that fails is logged and repeated at the next tick. An owner that
    /// was away, because it was suspended with its machine or cut off from Redis, reports what happened while it was.
    pub async fn keep(self, over: CancellationToken, screen: Arc<Screen>) {
        let mut tick = tokio::time::interval(self.owner.renew_every());
        // After a time away, the missed renewals are not made up for.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while over.run_until_cancelled(tick.tick()).await.is_some() {
            let mut term = self.term.lock().await;
            self.renew(&mut term, &screen).await;
            if term.lost {
                return;
            }
        }
    }

    /// Reports an absence that no renewal has noticed yet. What the root waited for may have ended while this program was
    /// away: then its conversation is over as soon as it is back, before the next renewal. Called before the session
    /// is closed, which ends the ownership too.
    pub async fn report_absence(&self, screen: &Screen) {
        let mut term = self.term.lock().await;
        if term.since_renewal() > self.owner.lease() {
            self.renew(&mut term, screen).await;
        }
    }

    /// Renews the owner's lease unless it is lost, and reports an absence.
    async fn renew(&self, term: &mut Term, screen: &Screen) {
        if term.lost {
            return;
        }
        let (sent, away) = (term.clock.now(), term.since_renewal());
        match self.owner.renew().await {
            Ok(Ownership::Kept) => {
                if away > self.owner.lease() {
                    self.report_return(screen, away);
                }
                term.renewed_at = sent;
            }
            Ok(Ownership::Lost) => {
                self.report_loss(screen, away);
                term.lost = true;
            }
            Err(error) => tracing::warn!(%error, "could not renew the session's lease"),
        }
    }

    fn report_return(&self, screen: &Screen, away: Duration) {
        screen.event("away", &json!({"away_ms": millis(away), "owns": true}));
        screen.note(&format!("this program was away for {}; its jobs continued", duration::short(away)));
    }

    fn report_loss(&self, screen: &Screen, away: Duration) {
        screen.event("away", &json!({"away_ms": millis(away), "owns": false}));
        let outcome = match self.terms.on_end {
            SessionEnd::Stop => "its session was closed and its jobs were stopped (session_end)",
            SessionEnd::Keep => "its jobs continue without it",
        };
        screen.note(&format!(
            "this program was away for {}, longer than its --owner-grace of {}: {outcome}",
            duration::short(away),
            duration::setting(self.terms.grace),
        ));
    }

    /// Closes the session to new jobs and gives up its ownership. Running jobs continue.
    ///
    /// # Errors
    ///
    /// [`Failure`] when Redis cannot be asked; the owner's lease expires then.
    pub async fn close(&self) -> Result<(), Failure> {
        Ok(self.owner.close().await?)
    }

    /// Gives up the ownership; the jobs continue.
    ///
    /// # Errors
    ///
    /// [`Failure`] when Redis cannot be asked; the owner's lease expires then.
    pub async fn detach(&self) -> Result<(), Failure> {
        Ok(self.owner.detach().await?)
    }
}

/// Milliseconds for an event.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A root's journal: output goes to the screen, turns stay in memory for the next prompt. A crash loses them, because a
/// root is not resumed.
#[derive(Debug)]
pub struct ScreenJournal {
    screen: Arc<Screen>,
    entries: Mutex<Vec<TurnEntry>>,
    keeps_all: bool,
}

impl ScreenJournal {
    /// A journal for one prompt, which continues after the `recorded` turns. Turns that a summary replaces are dropped,
    /// unless it `keeps_all`, which a recording needs.
    pub fn new(screen: Arc<Screen>, recorded: Vec<TurnEntry>, keeps_all: bool) -> Self {
        Self { screen, entries: Mutex::new(recorded), keeps_all }
    }

    /// A copy of the turns recorded so far.
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
        // A turn is recorded when its reply is complete.
        self.screen.settle();
        if let TurnEntry::Delivered { text, .. } = entry {
            self.screen.event("delivered", &json!({"text": text}));
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
                self.screen.settle();
                self.screen.note(&format!("retrying the model call: {reason}"));
            }
            RunEvent::ModelWaiting { why } | RunEvent::BudgetWaiting { why } => {
                self.screen.event("waits", &json!({"why": why}));
                if let Some(why) = why {
                    self.screen.note(&format!("waiting: {why}"));
                }
            }
            RunEvent::ToolStarted { call, name, arguments } => {
                let arguments = render::arguments(&arguments);
                let line = render::first_line(&format!("{name} {arguments}"), TOOL_CALL_CHARS);
                self.screen.event("tool", &json!({"turn": call.turn, "name": name, "arguments": arguments}));
                self.screen.note(&format!("→ {line}"));
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
