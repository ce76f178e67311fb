//! Token budgets of a job and of its session.

use async_trait::async_trait;
use legwork_common::service::ServiceError;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

use super::*;

/// A session's budget that grants everything and never answers when it is settled. Notifies when it is asked to.
#[derive(Debug, Default)]
struct HangsOnSettle(tokio::sync::Notify);

#[async_trait]
impl SessionState for HangsOnSettle {
    async fn todos(&self, _change: TodoChange, _call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        Ok(TodoList::default())
    }

    async fn reserve(&self, _used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        if wanted == 0 {
            self.0.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(BudgetReservation::Granted)
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_sessions_budget() {
    let mut world = world(&json!({"a": [calls("shell", json!({"cmd": "true"}))]}));
    let budget = Arc::new(HangsOnSettle::default());
    world.ports.session_state = budget.clone();
    let cancel = CancellationToken::new();
    let running = run(delegated(&lone(), "a", Vec::new()), world.ports.clone(), cancel.clone());
    let stopping = async {
        budget.0.notified().await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(running, stopping);
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_budget_counts_all_attempts() {
    let spent = |text: &str, tokens: u64| {
        json!({"text": text, "input_tokens": tokens, "output_tokens": 100,
        "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]})
    };
    let world = world(&json!({"a": [spent("one", 900), spent("two", 900), spent("three", 900)]}));
    let within = |budget, recorded| Assignment { budget: Some(budget), ..delegated(&lone(), "a", recorded) };
    let outcome = run_to_end(&world, within(3000, Vec::new())).await;
    let Outcome::Failed { cause: Cause::Budget, message, usage } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("used 2000 of its 3000 tokens"), "{message}");
    assert_eq!(usage.turns, 2);
    assert_eq!(world.journal.output(), "one\n\ntwo");
    // Another attempt has nothing left and calls no model.
    let recorded = world.journal.entries();
    let outcome = run_to_end(&world, within(3000, recorded)).await;
    assert!(matches!(outcome, Outcome::Failed { cause: Cause::Budget, .. }), "{outcome:?}");
    assert_eq!(world.journal.output(), "one\n\ntwo");
}

#[tokio::test]
async fn a_sessions_budget_is_reserved_before_each_call_and_settled_after_it() {
    let turn = |text: &str| {
        json!({"text": text, "input_tokens": 900, "output_tokens": 100,
        "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]})
    };
    let world = world(&json!({"a": [turn("one"), turn("two"), turn("three")]}));
    world.service.set_budget(3000);
    let outcome = run_to_end(&world, delegated(&lone(), "a", Vec::new())).await;
    let Outcome::Failed { cause: Cause::Budget, message, .. } = outcome else { panic!("{outcome:?}") };
    assert!(message.starts_with("the session used 2000 of its 3000 tokens"), "{message}");
    assert_eq!(world.journal.output(), "one\n\ntwo");
    let reserved = world.service.reserved();
    let used: Vec<u64> = reserved.iter().map(|(used, _)| *used).collect();
    assert_eq!(used, [0, 1000, 1000, 2000, 2000]);
    let wanted: Vec<bool> = reserved.iter().map(|(_, wanted)| *wanted > 500).collect();
    assert_eq!(wanted, [true, false, true, false, true]);

    // A call that fails returns its reservation.
    let world = crate::testing::world(&json!({"a": []}));
    world.service.set_budget(3000);
    let outcome = run_to_end(&world, delegated(&lone(), "a", Vec::new())).await;
    assert!(matches!(outcome, Outcome::Failed { cause: Cause::ProviderError, .. }), "{outcome:?}");
    assert_eq!(world.service.reserved().last(), Some(&(0, 0)));

    // A session without a budget is asked only once.
    let world = crate::testing::world(&json!({"a": [turn("one"), {"text": "done"}]}));
    assert_eq!(result_of(run_to_end(&world, delegated(&lone(), "a", Vec::new())).await), "done");
    assert_eq!(world.service.reserved().len(), 1);
}
