//! Token budgets of a job and of its session.

use std::collections::BTreeMap;

use async_trait::async_trait;
use legwork_common::money::Money;
use legwork_common::money::Price;
use legwork_common::service::ServiceError;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

use super::*;
use crate::assignment::CostLimit;

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

    async fn spend(&self, _run: &str, used: &[(String, u64)]) -> Result<Vec<u64>, ServiceError> {
        Ok(vec![0; used.len()])
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

/// A team with these budgets, whose agent draws from `day` and whose model has a price.
fn with_budgets(budgets: Value) -> Arc<Team> {
    let mut settings = json!(crate::testing::settings());
    settings["cost"] = json!({"input": 2.0, "output": 10.0, "cache_read": 0.5});
    let mut team = json!({"agents": [{
        "name": "a",
        "kind": {"models": [settings]},
        "toolsets": [{"kind": {"type": "think"}}],
        "budgets": ["day"],
    }]});
    for (key, value) in budgets.as_object().unwrap() {
        team[key] = value.clone();
    }
    Arc::new(serde_json::from_value(team).unwrap())
}

#[tokio::test]
async fn a_run_ends_between_turns_when_a_pot_is_empty() {
    let turn = json!({"text": "hm", "input_tokens": 1000, "output_tokens": 100,
        "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]});
    // Each turn costs 1000 * 2 + 100 * 10 millionths of a dollar.
    for (budgets, expected, turns) in [
        (json!({"budget": {"max_cost": 0.006}}), "budget.max_cost limit (used $0.0060 of $0.0060).", 2),
        (
            json!({"budgets": {"day": {"max_cost": 0.0031}}}),
            "budgets.day.max_cost limit (used $0.0060 of $0.0031).",
            2,
        ),
        (
            json!({"budget": {"max_cost": 5.0}, "budgets": {"day": {"max_tokens": 3000}}}),
            "budgets.day.max_tokens limit (used 3300 of 3000 tokens).",
            3,
        ),
    ] {
        let world = world(&json!({"a": vec![turn.clone(); 10]}));
        let outcome = run_to_end(&world, delegated(&with_budgets(budgets), "a", Vec::new())).await;
        let Outcome::Failed { cause: Cause::Budget, message, usage } = outcome else { panic!("{outcome:?}") };
        assert_eq!(message, format!("Execution stopped after reaching the configured {expected}"));
        assert_eq!(usage.turns, turns, "{message}");
    }
}

#[tokio::test]
async fn a_budget_in_money_ends_its_job_or_its_session_and_counts_at_the_fleets_prices() {
    let turn = json!({"text": "hm", "input_tokens": 1000, "output_tokens": 100,
        "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]});
    let mut team = json!(*with_budgets(json!({})));
    team["agents"][0]["kind"]["models"][0]["cost"] = Value::Null;
    let team: Arc<Team> = Arc::new(serde_json::from_value(team).unwrap());
    let price = Price { input: Money(2_000_000), output: Money(10_000_000), cache_read: None };
    let prices = Prices::from(BTreeMap::from([("scripted/test".to_owned(), price)]));
    let limit = |pot: &str, micros| Some(CostLimit { pot: pot.to_owned(), max: Money(micros) });
    let assignment =
        |max_cost| Assignment { max_cost, prices: prices.clone(), ..delegated(&team, "a", Vec::new()) };
    // Each turn costs 3000 millionths of a dollar.
    let world = world(&json!({"a": vec![turn.clone(); 30]}));
    let outcome = run_to_end(&world, assignment(limit("job.1", 5000))).await;
    let Outcome::Failed { cause: Cause::Budget, message, usage } = outcome else { panic!("{outcome:?}") };
    let expected =
        "Execution stopped after reaching the configured --budget limit (used $0.0060 of $0.0050).";
    assert_eq!((message.as_str(), usage.turns), (expected, 2));
    // Another attempt of the job has nothing left, and another job has its own.
    let again = run_to_end(&world, assignment(limit("job.1", 5000))).await;
    assert!(matches!(&again, Outcome::Failed { usage, .. } if usage.turns == 0), "{again:?}");
    let other = run_to_end(&world, assignment(limit("job.2", 2000))).await;
    assert!(matches!(&other, Outcome::Failed { usage, .. } if usage.turns == 1), "{other:?}");

    let world = crate::testing::world(&json!({"a": vec![turn; 30]}));
    world.service.set_max_cost(Money(7000));
    let outcome = run_to_end(&world, assignment(None)).await;
    let Outcome::Failed { cause: Cause::Budget, message, usage } = outcome else { panic!("{outcome:?}") };
    let expected =
        "Execution stopped after reaching the configured --session-budget limit (used $0.0090 of $0.0070).";
    assert_eq!((message.as_str(), usage.turns), (expected, 3));
    let next = run_to_end(&world, assignment(None)).await;
    assert!(matches!(&next, Outcome::Failed { usage, .. } if usage.turns == 0), "{next:?}");
}

#[tokio::test]
async fn a_budget_in_money_refuses_a_model_without_a_price_before_it_is_called() {
    let world = world(&json!({"a": [{"text": "done"}]}));
    let max_cost = Some(CostLimit { pot: "job.1".to_owned(), max: Money(1_000_000) });
    let outcome = run_to_end(&world, Assignment { max_cost, ..delegated(&lone(), "a", Vec::new()) }).await;
    let Outcome::Failed { cause: Cause::Budget, message, usage } = outcome else { panic!("{outcome:?}") };
    assert!(
        message.starts_with("the price of the model scripted/test is not known, so --budget cannot be kept"),
        "{message}"
    );
    assert_eq!(usage.turns, 0);
}

#[tokio::test]
async fn a_model_that_a_variable_names_has_the_price_of_the_one_that_is_called() {
    let mut team = json!(*lone());
    team["agents"][0]["kind"]["models"][0]["model"] = json!("${env.MODEL}");
    let team: Arc<Team> = Arc::new(serde_json::from_value(team).unwrap());
    let price = Price { input: Money(1), output: Money(1), cache_read: None };
    let max_cost = Some(CostLimit { pot: "job.1".to_owned(), max: Money(1_000_000) });
    let run = async |model: &str| {
        let mut world = world(&json!({"a": [{"text": "done", "input_tokens": 10}]}));
        let mut environment = crate::testing::environment("/");
        environment.variables.insert("MODEL".to_owned(), model.to_owned());
        world.ports.environment = Arc::new(environment);
        let prices = Prices::from(BTreeMap::from([("scripted/test".to_owned(), price)]));
        let assignment =
            Assignment { max_cost: max_cost.clone(), prices, ..delegated(&team, "a", Vec::new()) };
        run_to_end(&world, assignment).await
    };
    assert_eq!(result_of(run("test").await), "done");
    let Outcome::Failed { message, .. } = run("other").await else { panic!("it has no price") };
    assert!(message.starts_with("the price of the model scripted/other is not known"), "{message}");
}

#[tokio::test]
async fn the_jobs_of_a_session_share_its_pots_and_each_turn_counts_once() {
    let budgets = json!({"budget": {"max_cost": 1.0, "max_time": {"secs": 3600, "nanos": 0}}});
    let team = with_budgets(budgets);
    let answer = json!({"text": "done", "input_tokens": 1000, "output_tokens": 100});
    let world = world(&json!({"a": [answer]}));
    for runs in 1..=3 {
        let outcome = run_to_end(&world, delegated(&team, "a", Vec::new())).await;
        assert_eq!(result_of(outcome), "done");
        assert_eq!(world.service.pots()["budget.max_cost"], 3000 * runs);
        assert!(world.service.pots().contains_key("budget.max_time"));
    }
    // Another attempt of a job counts what it uses itself.
    let recorded = world.journal.entries();
    let outcome = run_to_end(&world, delegated(&team, "a", recorded[..1].to_vec())).await;
    assert_eq!(result_of(outcome), "done");
    assert_eq!(world.service.pots()["budget.max_cost"], 9000);
}

#[tokio::test]
async fn a_model_without_a_price_is_reported_once() {
    let turn = json!({"text": "hm", "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]});
    let world = world(&json!({"a": [turn.clone(), turn, {"text": "done"}]}));
    let mut team = json!(*with_budgets(json!({"budget": {"max_cost": 0.5}})));
    team["agents"][0]["kind"]["models"][0]["cost"] = Value::Null;
    let team: Arc<Team> = Arc::new(serde_json::from_value(team).unwrap());
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let warned = "the price of the model scripted/test is not known (`cost`), so it adds nothing to max_cost";
    let events = world.journal.events();
    let warnings = events.iter().filter(|event| **event == RunEvent::Warning(warned.into())).count();
    assert_eq!(warnings, 1);
}
