//! What all agents of a session have in common: a list of things to do, and a budget of tokens.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::Serialize;

use crate::service::CallIndex;
use crate::service::ServiceError;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Todo {
    /// Its name in the list: `todo_` and its place, counted from 1.
    pub id: String,
    /// What there is to do.
    pub description: String,
    /// How far it is, in the model's words; at first `pending`.
    pub status: String,
}

impl Todo {
    /// The name of the thing at this place, counted from 0.
    pub fn id_at(place: usize) -> String {
        format!("todo_{}", place + 1)
    }

    /// The place that a name stands for, counted from 0.
    pub fn place(id: &str) -> Option<usize> {
        id.strip_prefix("todo_")?.parse::<usize>().ok()?.checked_sub(1)
    }
}

/// What shall happen to the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TodoChange {
    /// Nothing: it is only read.
    Nothing,
    /// These are added at the end.
    Add(Vec<String>),
    /// These names get these statuses. Names that the list does not have change nothing.
    Update(Vec<(String, String)>),
}

/// The list after a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TodoList {
    /// All of it, in order.
    pub todos: Vec<Todo>,
    /// Where what was added begins.
    pub first_added: usize,
}

/// Whether a model call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetReservation {
    /// The session has no budget, and gets none.
    Unlimited,
    /// It may.
    Granted,
    /// Not before other calls have ended, which reserved so many tokens.
    Wait(u64),
    /// It may not: too little is left.
    Spent {
        /// Tokens that were spent.
        spent: u64,
        /// Tokens that the session had.
        budget: u64,
    },
}

/// What a session's agents share, bound to one of them.
#[async_trait]
pub trait SessionState: Debug + Send + Sync {
    /// Changes and reads the list. Repeated with the same place of the call it changes nothing and answers with what is there.
    ///
    /// Dropping the future leaves the change done or not.
    async fn todos(&self, change: TodoChange, call: Option<CallIndex>) -> Result<TodoList, ServiceError>;

    /// Says that the caller has used so many tokens in all, and reserves what its next model call may cost in place of what
    /// it had reserved; 0 gives that back. What an attempt had reserved when it died counts no more.
    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError>;
}
