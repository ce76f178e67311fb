//! Which model takes which turn.

use super::*;

/// The models that were asked, in their order.
fn asked(world: &World) -> Vec<String> {
    let model = |event: &RunEvent| match event {
        RunEvent::ModelAsked { model, .. } => Some(model.clone()),
        _ => None,
    };
    world.journal.events().iter().filter_map(model).collect()
}

fn model(name: &str) -> Value {
    json!(ModelSettings::inline("scripted", name).unwrap())
}

#[tokio::test]
async fn the_toolset_of_the_last_call_says_which_model_goes_on() {
    let toolsets = json!([
        {"kind": {"type": "think"}, "model": [model("small")]},
        {"kind": {"type": "todo", "shared": false}},
    ]);
    let runner = json!({"models": [model("own")]});
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "runner": runner}))]);
    let script = json!({"a": [
        calls("think", json!({"thought": "t"})),
        calls("list_todos", json!({})),
        {"text": "done"},
    ]});
    let whole = world(&script);
    assert_eq!(completed(go(&whole, delegated(&team, "a", Vec::new())).await), "done");
    assert_eq!(asked(&whole), ["scripted/own", "scripted/small", "scripted/own"]);

    // A new attempt knows it from what is recorded.
    let recorded = whole.journal.entries()[..2].to_vec();
    let after = world(&script);
    assert_eq!(completed(go(&after, delegated(&team, "a", recorded)).await), "done");
    assert_eq!(asked(&after), ["scripted/small", "scripted/own"]);
}

#[tokio::test]
async fn a_rule_sends_the_turn_that_its_examples_resemble_to_its_model() {
    let mut routed = model("own");
    routed["routing"] = json!([{"model": model("small"), "examples": ["do the task"]}]);
    let team = team(&[("a", &[], json!({"runner": {"models": [routed]}}))]);
    // A sub-agent has its task in place of a user's words.
    let job = world(&json!({"a": [{"text": "done"}]}));
    assert_eq!(completed(go(&job, delegated(&team, "a", Vec::new())).await), "done");
    assert_eq!(asked(&job), ["scripted/small"]);

    for (said, expected) in [("Another task, please", "scripted/small"), ("Good morning", "scripted/own")] {
        let root = world(&json!({"a": [{"text": "done"}]}));
        let opening = Opening::Conversation { messages: vec![Message::user(said)] };
        let assignment = Assignment { opening, ..delegated(&team, "a", Vec::new()) };
        assert_eq!(completed(go(&root, assignment).await), "done");
        assert_eq!(asked(&root), [expected], "{said}");
    }
}

#[tokio::test]
async fn each_turn_draws_from_the_list_of_models() {
    let mut replies = vec![calls("think", json!({"thought": "t"})); 60];
    replies.push(json!({"text": "done"}));
    let world = world(&json!({"a": replies}));
    let drawn = ["one", "two"].map(|model| ModelSettings::inline("scripted", model).unwrap());
    let toolsets = json!([{"kind": {"type": "think"}}]);
    let more = json!({"toolsets": toolsets, "runner": {"models": drawn}});
    assert_eq!(completed(go(&world, delegated(&team(&[("a", &[], more)]), "a", Vec::new())).await), "done");
    for model in ["scripted/one", "scripted/two"] {
        let asked = |event: &RunEvent| matches!(event, RunEvent::ModelAsked { model: m, .. } if m == model);
        // Of 61 draws none is this one once in 2^61 runs.
        assert!(world.journal.events().iter().any(asked), "{model}");
    }
    assert_eq!(world.journal.entries().len(), 121);
}
