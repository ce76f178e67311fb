//! Token budgets of a job and of its session.

use super::*;

#[tokio::test]
async fn a_stop_does_not_wait_until_the_budget_of_the_session_answers() {
    let mut world = world(&json!({"a": [calls("shell", json!({"cmd": "true"}))]}));
    let mute = Arc::new(Mute::default());
    world.ports.session_state = mute.clone();
    let cancel = CancellationToken::new();
    let running = run(delegated(&lone(), "a", Vec::new()), world.ports.clone(), cancel.clone());
    let stopping = async {
        mute.0.notified().await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(running, stopping);
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_budget_is_kept_over_attempts() {
    let spent = |text: &str, tokens: u64| {
        json!({"text": text, "input_tokens": tokens, "output_tokens": 100,
        "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]})
    };
    let world = world(&json!({"a": [spent("one", 900), spent("two", 900), spent("three", 900)]}));
    let within = |budget, recorded| Assignment { budget: Some(budget), ..delegated(&lone(), "a", recorded) };
    let outcome = go(&world, within(3000, Vec::new())).await;
    let Outcome::Failed { cause: Cause::Budget, message, usage } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("used 2000 of its 3000 tokens"), "{message}");
    assert_eq!(usage.turns, 2);
    assert_eq!(world.journal.output(), "one\n\ntwo");
    // Another attempt has nothing left, and asks nothing.
    let recorded = world.journal.entries();
    let outcome = go(&world, within(3000, recorded)).await;
    assert!(matches!(outcome, Outcome::Failed { cause: Cause::Budget, .. }), "{outcome:?}");
    assert_eq!(world.journal.output(), "one\n\ntwo");
}

#[tokio::test]
async fn a_sessions_budget_is_reserved_before_each_call_and_told_after_it() {
    let turn = |text: &str| {
        json!({"text": text, "input_tokens": 900, "output_tokens": 100,
        "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]})
    };
    let world = world(&json!({"a": [turn("one"), turn("two"), turn("three")]}));
    world.service.have_budget(3000);
    let outcome = go(&world, delegated(&lone(), "a", Vec::new())).await;
    let Outcome::Failed { cause: Cause::Budget, message, .. } = outcome else { panic!("{outcome:?}") };
    assert!(message.starts_with("the session used 2000 of its 3000 tokens"), "{message}");
    assert_eq!(world.journal.output(), "one\n\ntwo");
    let reserved = world.service.reserved();
    let used: Vec<u64> = reserved.iter().map(|(used, _)| *used).collect();
    assert_eq!(used, [0, 1000, 1000, 2000, 2000]);
    let wanted: Vec<bool> = reserved.iter().map(|(_, wanted)| *wanted > 500).collect();
    assert_eq!(wanted, [true, false, true, false, true]);

    // A call that fails gives back what it reserved.
    let world = crate::testing::world(&json!({"a": []}));
    world.service.have_budget(3000);
    let outcome = go(&world, delegated(&lone(), "a", Vec::new())).await;
    assert!(matches!(outcome, Outcome::Failed { cause: Cause::ProviderError, .. }), "{outcome:?}");
    assert_eq!(world.service.reserved().last(), Some(&(0, 0)));

    // Without a budget nobody is asked twice.
    let world = crate::testing::world(&json!({"a": [turn("one"), {"text": "done"}]}));
    assert_eq!(completed(go(&world, delegated(&lone(), "a", Vec::new())).await), "done");
    assert_eq!(world.service.reserved().len(), 1);
}
