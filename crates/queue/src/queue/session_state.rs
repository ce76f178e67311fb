//! The state that the agents of a session share, on Redis.

use async_trait::async_trait;
use legwork_common::id::RequestId;
use legwork_common::id::SessionId;
use legwork_common::money::Money;
use legwork_common::service::CallIndex;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::Todo;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

use crate::answer::Word;
use crate::error::QueueError;
use crate::port::DispatchedBy;
use crate::port::SessionStateRefusal;
use crate::port::SessionStateStore;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

#[async_trait]
impl SessionStateStore for Queue {
    async fn todos(
        &self,
        session: SessionId,
        by: DispatchedBy,
        change: &TodoChange,
        call: Option<CallIndex>,
    ) -> Result<Result<TodoList, SessionStateRefusal>, QueueError> {
        let call_name = match (by, call) {
            (DispatchedBy::Job { .. }, Some(call)) => format!("{}:{}", call.turn, call.index),
            // A root repeats no call after a crash, but a lost answer makes this step repeat.
            (DispatchedBy::Job { .. } | DispatchedBy::Root, _) => RequestId::random().to_string(),
        };
        let mut call = self.session_state_call(session, self.keys.todos(session), by).arg(call_name);
        match change {
            TodoChange::Read => call.push("read"),
            TodoChange::Add(texts) => {
                call.push("add");
                texts.iter().for_each(|text| call.push(text));
            }
            TodoChange::Update(updates) => {
                call.push("update");
                for (id, status) in updates {
                    // The step counts from 1 and ignores 0, which stands for an id that is not one of a todo.
                    call.push(Todo::index(id).map_or(0, |place| place + 1));
                    call.push(status);
                }
            }
        }
        let (word, mut rest) = step::TODO_LIST.call(&self.link, &call).await?.tagged()?;
        if word.as_str() != "list" {
            return refusal(&word).map(Err);
        }
        let first_added = rest.item()?.parse()?;
        let mut todos = Vec::new();
        while let Some(status) = rest.next() {
            let description = rest.item()?.text()?;
            todos.push(Todo { id: Todo::id_at(todos.len()), description, status: status.text()? });
        }
        Ok(Ok(TodoList { todos, first_added }))
    }

    async fn reserve(
        &self,
        session: SessionId,
        by: DispatchedBy,
        used: u64,
        wanted: u64,
    ) -> Result<Result<BudgetReservation, SessionStateRefusal>, QueueError> {
        let call = self.session_state_call(session, self.keys.budget(session), by).arg(used).arg(wanted);
        let (word, mut rest) = step::BUDGET.call(&self.link, &call).await?.tagged()?;
        Ok(Ok(match word.as_str() {
            "unlimited" => BudgetReservation::Unlimited,
            "granted" => BudgetReservation::Granted,
            "wait" => BudgetReservation::Wait(rest.item()?.parse()?),
            "spent" => {
                BudgetReservation::Exhausted { spent: rest.item()?.parse()?, budget: rest.item()?.parse()? }
            }
            _ => return refusal(&word).map(Err),
        }))
    }

    async fn cost_limit(&self, session: SessionId) -> Result<Option<Money>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.session(session)).arg("max_cost");
        let stored: Option<u64> = self.link.ask("cost limit", &command).await?.parse_optional()?;
        Ok(stored.map(Money))
    }

    async fn spend(
        &self,
        session: SessionId,
        by: DispatchedBy,
        run: &str,
        used: &[(String, u64)],
    ) -> Result<Result<Vec<u64>, SessionStateRefusal>, QueueError> {
        let mut call = self.session_state_call(session, self.keys.pots(session), by).arg(run);
        for (pot, amount) in used {
            call.push(pot);
            call.push(amount);
        }
        let (word, rest) = step::POTS.call(&self.link, &call).await?.tagged()?;
        if word.as_str() != "spent" {
            return refusal(&word).map(Err);
        }
        let mut totals = Vec::new();
        for total in rest {
            totals.push(total.parse()?);
        }
        Ok(Ok(totals))
    }
}

impl Queue {
    /// A call below the session's tag, with the dispatcher that makes it.
    fn session_state_call(&self, session: SessionId, key: String, by: DispatchedBy) -> Call {
        let call = Call::on(self.keys.session_tag(session)).key(key).arg(session);
        match by {
            DispatchedBy::Root => call.arg("").arg(""),
            DispatchedBy::Job { id, token } => call.arg(id.uuid()).arg(token),
        }
    }
}

fn refusal(word: &Word) -> Result<SessionStateRefusal, QueueError> {
    match word.as_str() {
        "missing" => Ok(SessionStateRefusal::NoSession),
        "stale" => Ok(SessionStateRefusal::Stale),
        "full" => Ok(SessionStateRefusal::Full),
        _ => Err(word.unknown()),
    }
}
