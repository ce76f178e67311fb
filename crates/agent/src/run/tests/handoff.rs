//! Handoffs between the agents of a team.

use super::*;

/// A team in which `a` can hand over to `b`, and `b` to `a`.
fn handoff_team() -> Arc<Team> {
    let think = json!([{"kind": {"type": "think"}}]);
    team(&[
        (
            "a",
            &[],
            json!({"instruction": "I am a", "handoffs": ["b"], "toolsets": think, "max_iterations": 2}),
        ),
        (
            "b",
            &[],
            json!({"instruction": "I am b", "handoffs": ["a"], "description": "knows", "max_iterations": 1}),
        ),
    ])
}

#[tokio::test]
async fn the_next_agent_has_its_own_tools_and_limit() {
    let world = world(&json!({
        "a": [calls("think", json!({"thought": "hm"})), calls("handoff", json!({"agent": "b"}))],
        "b": [{}, {}, {"text": "{{result:0}}", "tool_calls": [{"name": "think", "arguments": {"thought": "x"}}]}],
    }));
    let outcome = run_to_end(&world, delegated(&handoff_team(), "a", Vec::new())).await;
    let entries = entries(&world);
    assert!(
        entries[3].starts_with("result 2.0 The agent a handed the conversation over to you, b."),
        "{entries:?}"
    );
    assert!(entries[4].starts_with("reply 3 The agent a handed"), "{entries:?}");
    assert_eq!(entries[5], "result 3.0 unknown tool `think`. Available: handoff");
    let Outcome::Failed { cause, message, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        (cause, message.as_str()),
        (Cause::MaxIterations, "Execution stopped after reaching the configured max_iterations limit (1).")
    );
}

#[tokio::test]
async fn a_new_attempt_resumes_with_the_active_agent() {
    let script = json!({
        "a": [calls("handoff", json!({"agent": "b"})), {}, calls("think", json!({"thought": "again"})), {"text": "done"}],
        "b": [{}, calls("handoff", json!({"agent": "a"}))],
    });
    let whole = world(&script);
    assert_eq!(result_of(run_to_end(&whole, delegated(&handoff_team(), "a", Vec::new())).await), "done");
    let recorded = whole.journal.entries();
    assert_eq!(recorded.len(), 7);
    for done in 0..recorded.len() {
        let world = world(&script);
        let again = run_to_end(&world, delegated(&handoff_team(), "a", recorded[..done].to_vec())).await;
        assert_eq!(result_of(again), "done", "after {done} entries");
        assert_eq!(world.journal.entries(), recorded[done..], "after {done} entries");
    }
}

#[tokio::test]
async fn the_next_agent_has_its_own_system_messages() {
    let world = world(&json!({
        "a": [calls("handoff", json!({"agent": "b"}))],
        "b": [{}, {"text": "ok"}],
    }));
    result_of(run_to_end(&world, delegated(&handoff_team(), "a", Vec::new())).await);
    let team = handoff_team();
    let opened = OpenAgent::open(&team, team.agent("b").unwrap(), &world.ports, &CancellationToken::new())
        .await
        .unwrap();
    let texts: Vec<String> = opened
        .head
        .iter()
        .map(|message| match &**message {
            Message::System { text } => text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(texts[0].starts_with("You can hand this conversation over") && texts[0].contains("Name: a |"));
    assert_eq!(texts[1], "I am b");
}
