//! The state that the agents of a session share: a todo list, a token budget, and pots.

use std::fmt::Debug;

use async_trait::async_trait;
use legwork_common::id::SessionId;
use legwork_common::money::Money;
use legwork_common::service::CallIndex;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

use crate::error::QueueError;
use crate::port::DispatchedBy;

/// Why a caller was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStateRefusal {
    /// The session does not exist, or expired.
    NoSession,
    /// The caller's attempt no longer holds its lease.
    Stale,
    /// The list would be longer than 1,000 todos. Nothing was added.
    Full,
}

/// The shared todo list, the token budget and the pots of a session. They end with the session.
#[async_trait]
pub trait SessionStateStore: Debug + Send + Sync {
    /// Changes and reads the list. `call` is the call's place in a job's turns: a job that makes the same call again
    /// after a crash finds it, and changes nothing.
    async fn todos(
        &self,
        session: SessionId,
        by: DispatchedBy,
        change: &TodoChange,
        call: Option<CallIndex>,
    ) -> Result<Result<TodoList, SessionStateRefusal>, QueueError>;

    /// Counts `used`, what the caller used in all its attempts, as spent, and replaces the caller's reservation by one
    /// of `wanted` tokens (0: none). The reservation of an attempt that died is dropped as soon as another caller needs
    /// its tokens.
    async fn reserve(
        &self,
        session: SessionId,
        by: DispatchedBy,
        used: u64,
        wanted: u64,
    ) -> Result<Result<BudgetReservation, SessionStateRefusal>, QueueError>;

    /// What the models of a session may cost together; `None` for no limit.
    async fn cost_limit(&self, session: SessionId) -> Result<Option<Money>, QueueError>;

    /// Counts what the run `run` of the caller used of each pot in all, and returns what is spent of each in the whole
    /// session. A repeat counts nothing twice.
    async fn spend(
        &self,
        session: SessionId,
        by: DispatchedBy,
        run: &str,
        used: &[(String, u64)],
    ) -> Result<Result<Vec<u64>, SessionStateRefusal>, QueueError>;
}
