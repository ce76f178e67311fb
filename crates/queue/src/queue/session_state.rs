//! What a session's agents share, on Redis.

use async_trait::async_trait;
use legwork_common::id::RequestId;
use legwork_common::id::SessionId;
use legwork_common::service::CallIndex;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::Todo;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

use crate::answer::Answer;
use crate::answer::next;
use crate::answer::unknown_word;
use crate::error::QueueError;
use crate::port::DispatchedBy;
use crate::port::SessionStateRefusal;
use crate::port::SessionStateStore;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

const TODOS: &str = "todo";
const BUDGET: &str = "budget";

#[async_trait]
impl SessionStateStore for Queue {
    async fn todos(
        &self,
        session: SessionId,
        by: DispatchedBy,
        change: &TodoChange,
        call: Option<CallIndex>,
    ) -> Result<Result<TodoList, SessionStateRefusal>, QueueError> {
        let place = match (by, call) {
            (DispatchedBy::Job { .. }, Some(call)) => format!("{}:{}", call.turn, call.index),
            // Where no crash leads to a repeat, a lost reply does.
            (DispatchedBy::Job { .. } | DispatchedBy::Root, _) => RequestId::random().to_string(),
        };
        let mut step = self.shared_call(session, self.keys.todos(session), by).arg(place);
        match change {
            TodoChange::Read => step.push("read"),
            TodoChange::Add(texts) => {
                step.push("add");
                texts.iter().for_each(|text| step.push(text));
            }
            TodoChange::Update(updates) => {
                step.push("update");
                for (id, status) in updates {
                    step.push(Todo::index(id).map_or(0, |place| place + 1));
                    step.push(status);
                }
            }
        }
        let answer = Answer::of(TODOS, step::call(&self.link, &step::TODOS, &step).await?);
        let (word, mut rest) = answer.tagged()?;
        if word != "list" {
            return refusal(TODOS, &word).map(Err);
        }
        let first_added = next(TODOS, &mut rest)?.parse()?;
        let mut todos = Vec::new();
        while let Some(status) = rest.next() {
            let description = next(TODOS, &mut rest)?.text()?;
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
        let call = self.shared_call(session, self.keys.budget(session), by).arg(used).arg(wanted);
        let answer = Answer::of(BUDGET, step::call(&self.link, &step::BUDGET, &call).await?);
        let (word, mut rest) = answer.tagged()?;
        Ok(Ok(match word.as_str() {
            "unlimited" => BudgetReservation::Unlimited,
            "granted" => BudgetReservation::Granted,
            "wait" => BudgetReservation::Wait(next(BUDGET, &mut rest)?.parse()?),
            "spent" => BudgetReservation::Exhausted {
                spent: next(BUDGET, &mut rest)?.parse()?,
                budget: next(BUDGET, &mut rest)?.parse()?,
            },
            other => return refusal(BUDGET, other).map(Err),
        }))
    }
}

impl Queue {
    /// A call below the session's tag that says who makes it.
    fn shared_call(&self, session: SessionId, key: String, by: DispatchedBy) -> Call {
        let call = Call::on(self.keys.session_tag(session)).key(key).arg(session);
        match by {
            DispatchedBy::Root => call.arg("").arg(""),
            DispatchedBy::Job { id, token } => call.arg(id.uuid()).arg(token),
        }
    }
}

fn refusal(step: &'static str, word: &str) -> Result<SessionStateRefusal, QueueError> {
    match word {
        "missing" => Ok(SessionStateRefusal::NoSession),
        "stale" => Ok(SessionStateRefusal::Stale),
        "full" => Ok(SessionStateRefusal::Full),
        other => Err(unknown_word(step, other)),
    }
}
