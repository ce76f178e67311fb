//! What a session's agents share.

use std::fmt::Debug;

use async_trait::async_trait;
use legwork_common::id::SessionId;
use legwork_common::service::CallIndex;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

use crate::error::QueueError;
use crate::port::DispatchedBy;

/// Why a caller does not get at what is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStateRefusal {
    /// There is no such session.
    NoSession,
    /// The caller's attempt no longer holds its lease.
    Stale,
    /// The list has as many things as it may have.
    Full,
}

/// The shared list of things to do and the token budget of a session. Both end with the session.
#[async_trait]
pub trait SessionStateStore: Debug + Send + Sync {
    /// Changes and reads the list. A job's call is known again by its place, so a repeat after a crash changes nothing.
    async fn todos(
        &self,
        session: SessionId,
        by: DispatchedBy,
        change: &TodoChange,
        call: Option<CallIndex>,
    ) -> Result<Result<TodoList, SessionStateRefusal>, QueueError>;

    /// Counts what the caller used in all as spent, and reserves `wanted` tokens in place of what it had reserved (0: gives
    /// it back). A reservation whose attempt died is dropped by whoever needs its tokens.
    async fn reserve(
        &self,
        session: SessionId,
        by: DispatchedBy,
        used: u64,
        wanted: u64,
    ) -> Result<Result<BudgetReservation, SessionStateRefusal>, QueueError>;
}
