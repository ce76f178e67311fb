//! Answers that are kept, and answers by a tool.

use std::fs;

use super::*;

/// A run of agent `a` with these keys in a folder, as an orchestrator that was asked `prompt`.
async fn asked(world: &World, keys: Value, prompt: &str, recorded: Vec<TurnEntry>) -> Outcome {
    let messages = vec![Message::user(prompt)];
    let assignment = Assignment {
        opening: Opening::Conversation { messages },
        ..delegated(&team(&[("a", &[], keys)]), "a", recorded)
    };
    run_to_end(world, assignment).await
}

fn world_in(folder: &std::path::Path, replies: Value) -> World {
    let mut world = world(&json!({"a": replies}));
    world.ports.environment = Arc::new(crate::testing::environment(folder));
    world
}

fn usage_of(outcome: &Outcome) -> Usage {
    match outcome {
        Outcome::Completed { usage, .. } => *usage,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_same_message_is_answered_from_the_file_without_a_model_call() {
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({"cache": {"trim_spaces": true, "path": "kept.json"}});
    let first = world_in(folder.path(), json!([{"text": "Paris", "input_tokens": 9}]));
    assert_eq!(result_of(asked(&first, keys.clone(), "Capital of France?", Vec::new()).await), "Paris");
    assert_eq!(
        fs::read_to_string(folder.path().join("kept.json")).unwrap(),
        r#"{"capital of france?":"Paris"}"#
    );
    // No reply is prepared: a model call would fail.
    let again = world_in(folder.path(), json!([]));
    let outcome = asked(&again, keys.clone(), "  CAPITAL of France? ", Vec::new()).await;
    assert_eq!((usage_of(&outcome).turns, usage_of(&outcome).input_tokens), (0, 0));
    assert_eq!((result_of(outcome), again.journal.output()), ("Paris".to_owned(), "Paris".to_owned()));
    let other = world_in(folder.path(), json!([{"text": "Rome"}]));
    assert_eq!(result_of(asked(&other, keys, "Capital of Italy?", Vec::new()).await), "Rome");
    let strict = json!({"cache": {"case_sensitive": true, "path": "kept.json"}});
    let other = world_in(folder.path(), json!([{"text": "asked"}]));
    assert_eq!(result_of(asked(&other, strict, "CAPITAL OF FRANCE?", Vec::new()).await), "asked");
}

#[tokio::test]
async fn a_task_is_looked_up_too_and_a_broken_file_costs_a_model_call() {
    let folder = tempfile::tempdir().unwrap();
    let team = team(&[("a", &[], json!({"cache": {"path": "kept.json"}}))]);
    let first = world_in(folder.path(), json!([{"text": "one"}]));
    assert_eq!(result_of(run_to_end(&first, delegated(&team, "a", Vec::new())).await), "one");
    let again = world_in(folder.path(), json!([]));
    assert_eq!(result_of(run_to_end(&again, delegated(&team, "a", Vec::new())).await), "one");

    fs::write(folder.path().join("kept.json"), "[]").unwrap();
    let broken = world_in(folder.path(), json!([{"text": "two"}]));
    assert_eq!(result_of(run_to_end(&broken, delegated(&team, "a", Vec::new())).await), "two");
    let events = broken.journal.events();
    let is_about_file =
        |event: &RunEvent| matches!(event, RunEvent::Warning(text) if text.contains("kept.json"));
    assert_eq!(events.iter().filter(|event| is_about_file(event)).count(), 2, "{events:?}");
    assert_eq!(fs::read_to_string(folder.path().join("kept.json")).unwrap(), "[]", "it is not changed");

    let outside = self::team(&[("a", &[], json!({"cache": {"path": "../kept.json"}}))]);
    let world = world_in(folder.path(), json!([{"text": "three"}]));
    assert_eq!(result_of(run_to_end(&world, delegated(&outside, "a", Vec::new())).await), "three");
}

#[tokio::test]
async fn without_a_file_the_conversation_is_the_cache() {
    let messages = |last: &str| {
        let earlier = AssistantMessage { text: "Paris".into(), ..AssistantMessage::default() };
        vec![Message::user("Capital?"), Message::assistant(earlier), Message::user(last)]
    };
    let team = team(&[("a", &[], json!({"cache": {}}))]);
    for (last, expected) in [("CAPITAL?", "Paris"), ("Other?", "asked")] {
        let world = world(&json!({"a": [{"text": "asked"}]}));
        let opening = Opening::Conversation { messages: messages(last) };
        let assignment = Assignment { opening, ..delegated(&team, "a", Vec::new()) };
        assert_eq!(result_of(run_to_end(&world, assignment).await), expected);
    }
}

#[tokio::test]
async fn mail_and_a_resumed_run_are_not_answered_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kept.json"), r#"{"the task":"wrong","hello":"wrong"}"#).unwrap();
    let team = team(&[("a", &[], json!({"cache": {"path": "kept.json"}}))]);
    // The first attempt died after a message was delivered to it.
    let delivered = TurnEntry::Delivered { turn: 2, mail: vec![MailId("m".into())], text: "hello".into() };
    let recorded = vec![reply(1, &[]), delivered];
    let world = world_in(folder.path(), json!([{"text": "unused"}, {"text": "right"}]));
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", recorded)).await), "right");
    let kept = fs::read_to_string(folder.path().join("kept.json")).unwrap();
    assert!(!kept.contains("right"), "the answer is not one to that message: {kept}");
}

#[tokio::test]
async fn no_secret_is_kept_and_a_message_with_one_is_not_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({"cache": {"path": "kept.json"}});
    let secret = |world: &mut World| {
        let mut environment = crate::testing::environment(folder.path());
        let known = std::collections::BTreeMap::from([("A_KEY".to_owned(), "canary-canary".to_owned())]);
        environment.secrets = Arc::new(Secrets::of(&known));
        world.ports.environment = Arc::new(environment);
    };
    let shape = format!("ghp_{}", "a".repeat(36));
    let mut first = world(&json!({"a": [{"text": format!("canary-canary and {shape}")}]}));
    secret(&mut first);
    asked(&first, keys.clone(), "Which key?", Vec::new()).await;
    let kept = fs::read_to_string(folder.path().join("kept.json")).unwrap();
    assert_eq!(kept, r#"{"which key?":"[hidden: A_KEY] and [REDACTED]"}"#);
    let mut second = world(&json!({"a": [{"text": "no"}]}));
    secret(&mut second);
    asked(&second, keys, "Is it canary-canary?", Vec::new()).await;
    assert_eq!(fs::read_to_string(folder.path().join("kept.json")).unwrap(), kept);
}

/// The keys of an agent that answers by the tool.
fn by_tool() -> Value {
    let schema =
        json!({"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}});
    json!({"structured_output": {"name": "verdict", "mode": "tool", "schema": schema}})
}

fn submit(arguments: Value) -> Value {
    calls("submit_answer", arguments)
}

#[tokio::test]
async fn an_answer_by_the_tool_is_the_result_once_it_has_the_form() {
    let world = world(&json!({"a": [
        {"text": "I think it is good."},
        submit(json!({"score": "high"})),
        submit(json!({"score": 4})),
    ]}));
    let team = team(&[("a", &[], by_tool())]);
    let outcome = run_to_end(&world, delegated(&team, "a", Vec::new())).await;
    assert_eq!(usage_of(&outcome).turns, 3, "an accepted answer needs no further model call");
    assert_eq!(result_of(outcome), r#"{"score":4}"#);
    let entries = entries(&world);
    assert_eq!(entries[1], "delivered 2 submit_answer:2", "{entries:?}");
    assert!(entries[3].contains("does not have the form that is asked for:\n- /score: "), "{entries:?}");
    assert_eq!(entries[5], "result 3.0 The answer is accepted.");
    assert!(world.journal.output().ends_with("\n\n{\"score\":4}"), "{}", world.journal.output());
    // An attempt that died after the answer was accepted has it.
    let recorded = world.journal.entries();
    let again = crate::testing::world(&json!({"a": []}));
    assert_eq!(result_of(run_to_end(&again, delegated(&team, "a", recorded)).await), r#"{"score":4}"#);
}

#[tokio::test]
async fn a_model_that_waits_for_its_jobs_is_not_reminded() {
    let mut keys = by_tool();
    keys["toolsets"] = json!([{"kind": {"type": "background_agents"}}]);
    let team = team(&[("a", &["b"], keys), ("b", &[], json!({"description": "helps"}))]);
    let world = world(&json!({"a": [
        calls("run_background_agent", json!({"agent": "b", "task": "t"})),
        {"text": "I wait."},
        submit(json!({"score": 4})),
    ]}));
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), r#"{"score":4}"#);
    let entries = entries(&world);
    assert_eq!(entries[3], "delivered 3 end-0", "{entries:?}");
    assert!(entries.iter().all(|entry| !entry.contains("submit_answer")), "{entries:?}");
}

#[tokio::test]
async fn a_model_that_never_answers_by_the_tool_fails() {
    let world = world(&json!({"a": vec![json!({"text": "no"}); 9]}));
    let outcome = run_to_end(&world, delegated(&team(&[("a", &[], by_tool())]), "a", Vec::new())).await;
    let Outcome::Failed { cause: Cause::AgentError, message, usage } = outcome else { panic!("{outcome:?}") };
    assert!(message.starts_with("the model was reminded 3 times"), "{message}");
    assert_eq!(usage.turns, 4);
}

#[tokio::test]
async fn no_mode_and_no_limit_keeps_the_answer_from_being_given() {
    let mut keys = by_tool();
    keys["safety"] = json!("strict");
    keys["readonly"] = json!(true);
    keys["max_iterations"] = json!(1);
    let world = world(&json!({"a": [submit(json!({"score": 1}))]}));
    let outcome = run_to_end(&world, delegated(&team(&[("a", &[], keys)]), "a", Vec::new())).await;
    assert_eq!(result_of(outcome), r#"{"score":1}"#);
}
