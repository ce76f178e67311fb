//! Skills that run in a conversation of their own: `context: fork`.

use std::fs;

use super::*;

/// A team of one agent that has the shell, `think` and a skill with these keys.
fn with_skill(keys: Value) -> Arc<Team> {
    let mut skill = json!({"name": "audit", "description": "d", "instructions": "Audit it.", "fork": true});
    for (key, value) in keys.as_object().unwrap() {
        skill[key] = value.clone();
    }
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}, {"kind": {"type": "think"}}]);
    team(&[("a", &[], json!({"toolsets": toolsets, "skills": {"inline": [skill]}}))])
}

fn run_skill() -> Value {
    calls("run_skill", json!({"name": "audit", "task": "Look at it."}))
}

#[tokio::test]
async fn a_skill_runs_by_itself_and_its_answer_is_the_result() {
    let mut think = calls("think", json!({"thought": "hm"}));
    think["input_tokens"] = json!(70);
    let world = world(&json!({
        "a": [run_skill(), {"text": "{{results}}", "input_tokens": 5}],
        "a/audit": [think, {"text": "{{last_user}} {{result:0}}", "output_tokens": 3}],
    }));
    let outcome = run_to_end(&world, delegated(&with_skill(json!({})), "a", Vec::new())).await;
    let Outcome::Completed { result, usage } = outcome else { panic!("{outcome:?}") };
    assert_eq!(result, "Look at it. Thoughts:\nhm");
    // Its tokens count for the agent, its turns do not: they are not recorded.
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.turns), (75, 3, 2));
    assert_eq!(world.journal.output(), result, "its texts are not output");
    let recorded = world.journal.entries();
    let again = crate::testing::world(&json!({"a": [run_skill(), {"text": "done"}]}));
    let outcome = run_to_end(&again, delegated(&with_skill(json!({})), "a", recorded[..3].to_vec())).await;
    assert!(matches!(outcome, Outcome::Completed { usage, .. } if usage.input_tokens == 70), "{outcome:?}");
}

#[tokio::test]
async fn a_skill_has_the_tools_that_are_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let touch = calls("shell", json!({"cmd": "touch made"}));
    let script =
        json!({"a": [run_skill(), {"text": "{{results}}"}], "a/audit": [touch, {"text": "{{result:0}}"}]});
    for (keys, expected) in [
        (json!({"allowed_tools": ["th*"]}), "unknown tool `shell`. Available: think"),
        (
            json!({"allowed_tools": ["list_*"], "more_toolsets": [{"kind": {"type": "todo", "shared": false}, "tools": ["list_todos"]}]}),
            "unknown tool `shell`. Available: list_background_jobs, list_todos",
        ),
    ] {
        let mut world = world(&script);
        world.ports.environment = Arc::new(crate::testing::environment(folder.path()));
        assert_eq!(
            result_of(run_to_end(&world, delegated(&with_skill(keys), "a", Vec::new())).await),
            expected
        );
        assert!(!folder.path().join("made").exists());
    }
}

#[tokio::test]
async fn a_skill_of_the_machine_runs_by_itself_and_is_held_back_as_its_agent_is() {
    let folder = tempfile::tempdir().unwrap();
    let skill = folder.path().join(".agents/skills/audit");
    fs::create_dir_all(&skill).unwrap();
    let text =
        "---\nname: audit\ndescription: d\ncontext: fork\nallowed-tools: [shell, think]\n---\nAudit it.\n";
    fs::write(skill.join("SKILL.md"), text).unwrap();
    let touch = calls("shell", json!({"cmd": "touch made"}));
    let mut world = world(&json!({"a": [
        calls("read_skill", json!({"name": "audit"})), run_skill(), {"text": "{{results}}"},
    ], "a/audit": [touch, {"text": "{{result:0}}"}]}));
    world.ports.environment = Arc::new(crate::testing::environment(folder.path()));
    let shell = json!([{"kind": {"type": "shell", "env": {}}}]);
    let mut parts = json!(*team(&[("a", &[], json!({"toolsets": shell, "skills": {"local": true}}))]));
    parts["permissions"]["deny"] = json!(["shell:cmd=touch*"]);
    let team: Arc<Team> = Arc::new(serde_json::from_value(parts).unwrap());
    let result = result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await);
    assert!(result.contains("Tool 'shell' is denied by permissions configuration."), "{result}");
    assert!(entries(&world)[1].ends_with("skill audit is not read: run it with run_skill"));
    assert!(!folder.path().join("made").exists());
}

#[tokio::test]
async fn a_skill_that_is_not_there_or_has_no_task_is_an_error() {
    let world = world(&json!({"a": [
        calls("run_skill", json!({"name": "nope", "task": "t"})),
        calls("run_skill", json!({"name": "audit", "task": " "})),
        {"text": "done"},
    ]}));
    run_to_end(&world, delegated(&with_skill(json!({})), "a", Vec::new())).await;
    let entries = entries(&world);
    assert_eq!(entries[1], "result 1.0 no skill `nope` runs in a conversation of its own. These do: audit");
    assert_eq!(entries[3], "result 2.0 task must not be empty");
}

#[tokio::test]
async fn skills_at_the_same_time_share_the_tokens_that_are_left() {
    let two = json!({"tool_calls": [
        {"name": "run_skill", "arguments": {"name": "audit", "task": "one"}},
        {"name": "run_skill", "arguments": {"name": "audit", "task": "two"}},
    ]});
    // Each of the skills would fit alone: a turn uses 4000 of 6000 tokens.
    let mut turn = calls("think", json!({"thought": "hm"}));
    turn["input_tokens"] = json!(4000);
    let world = world(
        &json!({"a": [two, {"text": "{{results}}"}], "a/audit": [turn.clone(), turn, {"text": "ok"}, {"text": "ok"}]}),
    );
    let assignment = Assignment { budget: Some(6000), ..delegated(&with_skill(json!({})), "a", Vec::new()) };
    let outcome = run_to_end(&world, assignment).await;
    let (Outcome::Completed { usage, .. } | Outcome::Failed { usage, .. }) = &outcome else {
        panic!("{outcome:?}")
    };
    let entries = entries(&world);
    let refusals = entries.iter().filter(|entry| entry.contains("of its 6000 tokens")).count();
    assert!(refusals >= 1, "{entries:?}");
    assert!(usage.input_tokens < 12000, "{usage:?} {entries:?}");
}

#[tokio::test]
async fn the_time_of_a_skill_counts_once() {
    let mut parts = json!(*with_skill(json!({})));
    parts["budget"] = json!({"max_time": {"secs": 3600, "nanos": 0}});
    let team: Arc<Team> = Arc::new(serde_json::from_value(parts).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let slow = calls("shell", json!({"cmd": "sleep 0.3"}));
    let mut world = world(&json!({"a": [run_skill(), {"text": "done"}], "a/audit": [slow, {"text": "ok"}]}));
    world.ports.environment = Arc::new(crate::testing::environment(folder.path()));
    let began = std::time::Instant::now();
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let passed = u64::try_from(began.elapsed().as_millis()).unwrap();
    let counted = world.service.pots()["budget.max_time"];
    assert!((300..=passed).contains(&counted), "{counted} ms of {passed} ms");
}
