//! The state that all agents of a session share: a todo list, a token budget, and pots of the agent file.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::Serialize;

use crate::money::Money;
use crate::service::CallIndex;
use crate::service::ServiceError;

/// An item of the shared todo list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Todo {
    /// Its id: `todo_` and its position in the list, counted from 1. Items are never removed, so ids are stable.
    pub id: String,
    /// The text of the item.
    pub description: String,
    /// The status: `pending` at first, then as the model reports it, usually `in-progress` and `completed`. The
    /// store accepts any text.
    pub status: String,
}

impl Todo {
    /// The id of the item at `index`, counted from 0.
    pub fn id_at(index: usize) -> String {
        format!("todo_{}", index + 1)
    }

    /// The index, counted from 0, of the item with this id; `None` for text that is not an id. The list may
    /// be shorter.
    pub fn index(id: &str) -> Option<usize> {
        id.strip_prefix("todo_")?.parse::<usize>().ok()?.checked_sub(1)
    }
}

/// A change of the todo list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TodoChange {
    /// No change: the list is only read.
    Read,
    /// Appends items with these texts, all `pending`.
    Add(Vec<String>),
    /// Sets the status of items, given as id and status. Unknown ids are ignored.
    Update(Vec<(String, String)>),
}

/// The todo list after a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TodoList {
    /// All items, in order.
    pub todos: Vec<Todo>,
    /// The index of the first item that [`TodoChange::Add`] appended. Not meaningful after another change.
    pub first_added: usize,
}

/// The answer to a request for tokens of the session's budget before a model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetReservation {
    /// The session has no budget. A budget is set only when a session is opened, so the caller need not ask again.
    Unlimited,
    /// The tokens are reserved; the call can be made.
    Granted,
    /// Not enough tokens are free now, because concurrent calls have reserved this many. Ask again when they
    /// have ended.
    Wait(u64),
    /// The budget is used up: even without other reservations too few tokens are left. The run fails with the
    /// cause `budget`.
    Exhausted {
        /// Tokens spent so far by all agents of the session.
        spent: u64,
        /// The budget of the session, in tokens.
        budget: u64,
    },
}

/// The shared state of a session, as seen by one of its agents: the root, or a running job. It lives as long
/// as the session.
#[async_trait]
pub trait SessionState: Debug + Send + Sync {
    /// Applies a change to the todo list and returns the list. `call` identifies the change: a repeat after a
    /// crash changes nothing and returns the current list.
    ///
    /// If the future is dropped, the change may or may not have been applied.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Full`] when the list has 1,000 items, [`ServiceError::LeaseLost`] when the caller's
    /// attempt is over, and [`ServiceError::Unavailable`].
    async fn todos(&self, change: TodoChange, call: Option<CallIndex>) -> Result<TodoList, ServiceError>;

    /// Reports `used`, the tokens of all model calls of the caller so far, over all its attempts, and
    /// replaces the caller's reservation with `wanted` tokens for its next call; 0 releases the reservation.
    ///
    /// Reserving before the call keeps concurrent jobs from exceeding the budget together. The reservation of
    /// an attempt that crashed is dropped as soon as another caller needs its tokens.
    ///
    /// # Errors
    ///
    /// [`ServiceError::LeaseLost`] when the caller's attempt is over, and [`ServiceError::Unavailable`].
    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError>;

    /// What the models of all agents of the session may cost together; `None` for no limit. It is set only when a session
    /// is opened, so the caller need not ask again.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unavailable`].
    async fn cost_limit(&self) -> Result<Option<Money>, ServiceError> {
        Ok(None)
    }

    /// Reports what the caller used of each pot since its run `run` began, and returns what the whole session has used of
    /// them, in the same order. A pot is the place of its limit in the agent file, `budgets.day.max_cost`. `run` names
    /// one execution of the caller: another attempt has another name, and counts from 0 again.
    ///
    /// A repeat counts nothing twice. What an attempt used after its last report before a crash is lost.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] when the session is gone, [`ServiceError::LeaseLost`] when the caller's attempt is over,
    /// and [`ServiceError::Unavailable`].
    async fn spend(&self, run: &str, used: &[(String, u64)]) -> Result<Vec<u64>, ServiceError>;
}
