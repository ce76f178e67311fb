//! At which events hooks run, with which keys, and what the built-in ones say.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::model::ModelReply;
use crate::testing::FakeModels;

/// A hook for each of these events that appends the event to the file `log`, one a line.
fn logging(events: &[&str]) -> Value {
    let hook = json!({"kind": {"command": "cat >> log; echo >> log"}});
    events.iter().map(|event| ((*event).to_owned(), json!([{"hooks": [hook]}]))).collect()
}

/// The events that were logged: their names, and what their hooks were given.
fn logged(folder: &Path) -> (Vec<String>, Vec<Value>) {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names = events.iter().map(|event| event["hook_event_name"].as_str().unwrap().to_owned());
    (names.collect(), events)
}

fn world_in(folder: &Path, script: &Value) -> World {
    let mut world = world(script);
    world.ports.environment = Arc::new(crate::testing::environment(folder));
    world
}

/// Runs agent `a` with these keys and this script; its folder is returned.
async fn ran(keys: Value, script: Value) -> (Outcome, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let world = world_in(folder.path(), &script);
    let outcome = run_to_end(&world, delegated(&team(&[("a", &[], keys)]), "a", Vec::new())).await;
    (outcome, folder)
}

#[tokio::test]
async fn hooks_hear_of_a_failure_and_of_used_up_iterations() {
    let events = logging(&["on_error", "on_max_iterations", "notification", "session_end"]);
    let (_, folder) = ran(json!({"hooks": events}), json!({"a": []})).await;
    let (names, events_of_failure) = logged(folder.path());
    assert_eq!(names, ["on_error", "notification", "session_end"]);
    assert_eq!(events_of_failure[1]["notification_level"], "error");
    let think = json!([{"kind": {"type": "think"}}]);
    let keys = json!({"hooks": events, "max_iterations": 1, "toolsets": think});
    let (_, folder) = ran(keys, json!({"a": [calls("think", json!({"thought": "t"}))]})).await;
    let (names, events) = logged(folder.path());
    assert_eq!(names, ["on_max_iterations", "notification", "session_end"]);
    assert_eq!(
        events[0]["notification_message"],
        "Execution stopped after reaching the configured max_iterations limit (1)."
    );
}

#[tokio::test]
async fn hooks_hear_of_another_agent() {
    let folder = tempfile::tempdir().unwrap();
    let script = json!({"a": [calls("handoff", json!({"agent": "b"}))], "b": [{}, {"text": "done"}]});
    let world = world_in(folder.path(), &script);
    let hooks = logging(&["on_agent_switch"]);
    let team = team(&[
        ("a", &[], json!({"hooks": hooks, "handoffs": ["b"]})),
        ("b", &[], json!({"instruction": "I am b"})),
    ]);
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let (_, events) = logged(folder.path());
    assert_eq!((&events[0]["from_agent"], &events[0]["to_agent"]), (&json!("a"), &json!("b")));
}

#[tokio::test]
async fn hooks_hear_what_was_decided_about_a_call() {
    let shell = json!([{"kind": {"type": "shell", "env": {}}}]);
    let keys =
        json!({"hooks": logging(&["on_tool_approval_decision"]), "safety": "restricted", "toolsets": shell});
    let script = json!({"a": [
        calls("shell", json!({"cmd": "echo x"})),
        calls("shell", json!({"cmd": "rm x"})),
        {"text": "done"},
    ]});
    let (_, folder) = ran(keys, script).await;
    let (_, events) = logged(folder.path());
    let decisions: Vec<&Value> = events.iter().map(|event| &event["approval_decision"]).collect();
    assert_eq!(decisions, ["allow", "deny"]);
    assert_eq!((&events[1]["tool_name"], &events[1]["tool_input"]["cmd"]), (&json!("shell"), &json!("rm x")));
}

#[tokio::test]
async fn hooks_hear_of_the_end_of_a_sub_agent() {
    let folder = tempfile::tempdir().unwrap();
    let world = world_in(folder.path(), &json!({"a": [{"text": "done"}]}));
    let mut team = json!(*dispatching());
    team["agents"][0]["hooks"] = logging(&["subagent_stop"]);
    let team: Arc<Team> = Arc::new(serde_json::from_value(team).unwrap());
    world.service.post_end("m1", viewed(1, "b", State::Completed, "helped"));
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let (names, events) = logged(folder.path());
    assert_eq!(names, ["subagent_stop"]);
    assert_eq!((&events[0]["agent_name"], &events[0]["stop_response"]), (&json!("b"), &json!("helped")));
}

#[tokio::test]
async fn a_hook_has_its_arguments_variables_folder_and_time() {
    let command = json!({
        "kind": {"command": "printf '%s' \"$WHO\" > said; printf ' %s' "},
        "args": ["$1 is kept", "b"],
        "env": {"WHO": "me"},
        "working_dir": "inner",
    });
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    let world = world_in(folder.path(), &json!({}));
    let reply = AssistantMessage { text: "done".into(), ..AssistantMessage::default() };
    let models = Arc::new(FakeModels::new([Ok(ModelReply::complete(reply))]));
    let ports = Ports { models: models.clone(), ..world.ports.clone() };
    let slow = json!({"kind": {"command": "sleep 600.77"}, "timeout": 1, "name": "slow"});
    let loose = json!({"kind": {"command": "echo no JSON"}, "strict_output": true, "on_error": "ignore"});
    let hooks = json!({"turn_start": [{"hooks": [command, slow, loose]}]});
    let team = team(&[("a", &[], json!({"hooks": hooks}))]);
    let outcome = run(delegated(&team, "a", Vec::new()), ports, CancellationToken::new()).await;
    assert_eq!(result_of(outcome), "done");
    assert_eq!(fs::read_to_string(folder.path().join("inner/said")).unwrap(), "me");
    let request = models.requests().remove(0).1;
    assert!(request.messages.contains(&Message::system("$1 is kept b").into()), "{:?}", request.messages);
    assert!(!format!("{:?}", request.messages).contains("no JSON"));
    let warnings: Vec<RunEvent> =
        world.journal.events().into_iter().filter(|event| matches!(event, RunEvent::Warning(_))).collect();
    let expected = "the hook slow of turn_start failed: it took longer than 1s";
    assert_eq!(warnings, [RunEvent::Warning(expected.into())]);
}

/// Runs `git` in a folder.
fn git(folder: &Path, line: &str) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=A", "-c", "user.email=a@example.com"]).args(line.split(' '));
    assert!(command.current_dir(folder).output().unwrap().status.success(), "{line}");
}

#[tokio::test]
async fn built_in_hooks_tell_the_model_about_its_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("RULES.md"), "Be kind.").unwrap();
    git(folder.path(), "init -q");
    git(folder.path(), "add RULES.md");
    git(folder.path(), "commit -q -m first-commit");
    fs::write(folder.path().join("RULES.md"), "Be kinder.").unwrap();
    let table: [(&str, &[&str], &str); 8] = [
        ("add_date", &[], "Today is "),
        ("add_environment_info", &[], "Working directory: "),
        ("add_prompt_files", &["RULES.md"], "Instructions from RULES.md\n\nBe kinder."),
        ("add_git_status", &[], " M RULES.md"),
        ("add_git_diff", &["full"], "+Be kinder."),
        ("add_directory_listing", &[], "RULES.md"),
        ("add_user_info", &[], "User: "),
        ("add_recent_commits", &["1"], "first-commit"),
    ];
    for (name, args, expected) in table {
        let mut world = world_in(folder.path(), &json!({}));
        let reply = AssistantMessage { text: "done".into(), ..AssistantMessage::default() };
        let models = Arc::new(FakeModels::new([Ok(ModelReply::complete(reply))]));
        world.ports.models = models.clone();
        let hooks = json!({"session_start": [{"hooks": [{"kind": {"builtin": name}, "args": args}]}]});
        let team = team(&[("a", &[], json!({"hooks": hooks}))]);
        run_to_end(&world, delegated(&team, "a", Vec::new())).await;
        let request = models.requests().remove(0).1;
        let told = |message: &Arc<Message>| matches!(&**message, Message::System { text } if text.contains(expected));
        assert!(request.messages.iter().any(told), "{name}: {:?}", request.messages);
    }
}
