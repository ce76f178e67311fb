//! Which model answers which turn.

use legwork_common::team::ModelSettings;

use super::*;

/// The models that were called, in this order.
fn called_models(world: &World) -> Vec<String> {
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
async fn the_toolset_of_the_last_call_names_the_next_model() {
    let toolsets = json!([
        {"kind": {"type": "think"}, "model": [model("small")]},
        {"kind": {"type": "todo", "shared": false}},
    ]);
    let runner = json!({"models": [model("own")]});
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "kind": runner}))]);
    let script = json!({"a": [
        calls("think", json!({"thought": "t"})),
        calls("list_todos", json!({})),
        {"text": "done"},
    ]});
    let whole = world(&script);
    assert_eq!(result_of(run_to_end(&whole, delegated(&team, "a", Vec::new())).await), "done");
    assert_eq!(called_models(&whole), ["scripted/own", "scripted/small", "scripted/own"]);

    // A new attempt decides the same from the recorded turns.
    let recorded = whole.journal.entries()[..2].to_vec();
    let after = world(&script);
    assert_eq!(result_of(run_to_end(&after, delegated(&team, "a", recorded)).await), "done");
    assert_eq!(called_models(&after), ["scripted/small", "scripted/own"]);
}

#[tokio::test]
async fn a_routing_rule_answers_prompts_that_resemble_its_examples() {
    let mut routed = model("own");
    routed["routing"] = json!([{"model": model("small"), "examples": ["do the task"]}]);
    let team = team(&[("a", &[], json!({"kind": {"models": [routed]}}))]);
    // A sub-agent is routed by its task, because it has no prompt of a user.
    let job = world(&json!({"a": [{"text": "done"}]}));
    assert_eq!(result_of(run_to_end(&job, delegated(&team, "a", Vec::new())).await), "done");
    assert_eq!(called_models(&job), ["scripted/small"]);

    for (prompt, expected) in [("Another task, please", "scripted/small"), ("Good morning", "scripted/own")] {
        let root = world(&json!({"a": [{"text": "done"}]}));
        let opening = Opening::Conversation { messages: vec![Message::user(prompt)] };
        let assignment = Assignment { opening, ..delegated(&team, "a", Vec::new()) };
        assert_eq!(result_of(run_to_end(&root, assignment).await), "done");
        assert_eq!(called_models(&root), [expected], "{prompt}");
    }
}

#[tokio::test]
async fn each_turn_draws_one_of_the_models() {
    let mut replies: Vec<Value> =
        (0..60).map(|turn| calls("think", json!({"thought": turn.to_string()}))).collect();
    replies.push(json!({"text": "done"}));
    let world = world(&json!({"a": replies}));
    let drawn = ["one", "two"].map(|model| ModelSettings::inline("scripted", model).unwrap());
    let toolsets = json!([{"kind": {"type": "think"}}]);
    let more = json!({"toolsets": toolsets, "kind": {"models": drawn}});
    assert_eq!(
        result_of(run_to_end(&world, delegated(&team(&[("a", &[], more)]), "a", Vec::new())).await),
        "done"
    );
    for model in ["scripted/one", "scripted/two"] {
        let asked = |event: &RunEvent| matches!(event, RunEvent::ModelAsked { model: m, .. } if m == model);
        // Of 61 draws none is this one once in 2^61 runs.
        assert!(world.journal.events().iter().any(asked), "{model}");
    }
    assert_eq!(world.journal.entries().len(), 121);
}
