//! A run within a run, which carries out one tool call: it has the caller's ports, and neither its turns nor its output are
//! recorded. What it used counts for the caller.

mod shared;

use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::job::Usage;
use legwork_common::money::Money;
use legwork_common::service::CallIndex;
use legwork_common::service::Mail;
use legwork_common::service::MailId;
use legwork_common::service::Mailbox;
use legwork_common::service::ServiceError;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

pub(super) use self::shared::InnerRuns;
use super::halt::Halt;
use super::run;
use super::state::RunState;
use crate::assignment::Assignment;
use crate::assignment::Opening;
use crate::assignment::Outcome;
use crate::assignment::Ports;
use crate::journal::Journal;
use crate::journal::JournalError;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::tool::InnerRun;
use crate::tool::ToolOutcome;

/// The caller's journal, for a run whose turns are not recorded.
#[derive(Debug)]
struct InnerJournal(Arc<dyn Journal>);

#[async_trait]
impl Journal for InnerJournal {
    async fn output(&self, _text: &str) -> Result<(), JournalError> {
        Ok(())
    }

    async fn record(&self, _entry: &TurnEntry) -> Result<(), JournalError> {
        Ok(())
    }

    fn note(&self, event: RunEvent) {
        // Places of calls are those of another run.
        if !matches!(event, RunEvent::ToolStarted { .. } | RunEvent::ToolEnded { .. }) {
            self.0.note(event);
        }
    }

    async fn confirm_lease(&self) -> Result<(), JournalError> {
        self.0.confirm_lease().await
    }
}

/// A mailbox without mail: that of the job is the caller's.
#[derive(Debug)]
struct NoMail;

#[async_trait]
impl Mailbox for NoMail {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _mail: &[MailId]) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn settled(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// The session of the caller, of whose tokens this is one user among several.
#[derive(Debug)]
struct InnerSession {
    session: Arc<dyn SessionState>,
    runs: Arc<InnerRuns>,
    number: usize,
}

#[async_trait]
impl SessionState for InnerSession {
    async fn todos(&self, change: TodoChange, _call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        // The place of the call is that of another run, which may have one at the same place.
        self.session.todos(change, None).await
    }

    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        let totals = match self.runs.reserve(self.number, used, wanted) {
            Ok(totals) => totals,
            Err(refused) => return Ok(refused),
        };
        let reserved = self.session.reserve(totals.used, totals.reserved).await?;
        match reserved {
            BudgetReservation::Wait(_) | BudgetReservation::Exhausted { .. } => {
                self.runs.release(self.number);
            }
            // The job has a limit of its own, so the runs keep asking.
            BudgetReservation::Unlimited if self.runs.has_limit() => return Ok(BudgetReservation::Granted),
            BudgetReservation::Unlimited | BudgetReservation::Granted => {}
        }
        Ok(reserved)
    }

    async fn cost_limit(&self) -> Result<Option<Money>, ServiceError> {
        self.session.cost_limit().await
    }

    async fn spend(&self, run: &str, used: &[(String, u64)]) -> Result<Vec<u64>, ServiceError> {
        self.session.spend(run, used).await
    }
}

impl RunState<'_> {
    /// Carries out a call by a run of its own, and returns what it used. A cancellation of the caller ends it.
    pub(super) async fn run_inner(&self, inner: InnerRun) -> Result<(ToolOutcome, Usage), Halt> {
        let InnerRun { agent, prompt } = inner;
        let runs = Arc::clone(&self.inner_runs);
        let number = runs.begin();
        let _timed = runs.timed();
        let assignment = Assignment {
            agent: agent.name.clone(),
            team: Arc::new(self.team.with_agent(agent)),
            opening: Opening::Conversation { messages: vec![Message::user(prompt)] },
            recorded: Vec::new(),
            // Kept by the session below, for all runs of the batch together.
            budget: None,
            max_cost: self.pots.max_cost.clone(),
            prices: self.pots.prices.clone(),
            safety: self.safety(),
        };
        let ports = Ports {
            journal: Arc::new(InnerJournal(Arc::clone(&self.ports.journal))),
            mailbox: Arc::new(NoMail),
            // A question that waits for days would be asked by a run whose turns are not recorded.
            person: self.ports.person.clone().filter(|person| !person.is_durable()),
            session_state: Arc::new(InnerSession {
                session: Arc::clone(&self.ports.session_state),
                runs: Arc::clone(&runs),
                number,
            }),
            ..Ports::clone(&self.ports)
        };
        // A run holds the state of its calls: without the box its size would have no end.
        match Box::pin(run(assignment, ports, self.cancel.clone())).await {
            Outcome::Completed { result, usage } => Ok((ToolOutcome::ok(result), usage)),
            Outcome::Failed { message, usage, .. } => {
                let message = runs.refusal(number).unwrap_or(message);
                Ok((ToolOutcome::error(message), usage))
            }
            Outcome::Stopped { .. } => Err(Halt::Stopped),
            Outcome::Lost => Err(Halt::Lost),
        }
    }
}
