//! Hooks, safety modes, and what is kept from the model.

use std::fs;

use legwork_common::team::SafetyMode;

use super::*;

/// A team of one agent with the shell and these keys; its working folder is `folder`.
fn with_shell(more: Value) -> Arc<Team> {
    let mut agent = json!({"toolsets": [{"kind": {"type": "shell", "env": {}}}]});
    for (key, value) in more.as_object().unwrap() {
        agent[key] = value.clone();
    }
    team(&[("a", &[], agent)])
}

fn world_in(folder: &std::path::Path, script: &Value) -> World {
    let mut world = world(script);
    world.ports.environment = Arc::new(crate::testing::environment(folder));
    world
}

fn command(command: &str) -> Value {
    json!({"kind": {"command": command}})
}

fn rule(matcher: &str, commands: &[&str]) -> Value {
    let hooks: Vec<Value> = commands.iter().map(|text| command(text)).collect();
    json!([{"matcher": matcher, "hooks": hooks}])
}

/// The result of one call of the shell by an agent with these keys.
async fn shell_with(more: Value, cmd: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let world = world_in(
        folder.path(),
        &json!({"a": [calls("shell", json!({"cmd": cmd})), {"text": "{{results}}"}]}),
    );
    let result = result_of(run_to_end(&world, delegated(&with_shell(more), "a", Vec::new())).await);
    (result, folder)
}

#[tokio::test]
async fn a_hook_refuses_a_call_with_its_reason() {
    let hooks = json!({"pre_tool_use": rule("shell", &["echo 'no shell here' >&2; exit 2"])});
    let (result, folder) = shell_with(json!({"hooks": hooks}), "touch made").await;
    assert_eq!(result, "Tool 'shell' is denied by a hook: no shell here");
    assert!(!folder.path().join("made").exists());

    // A guard that fails guards nothing, so the call is not made.
    let hooks = json!({"tool_guard": [{"hooks": [command("exit 1")]}]});
    let (result, folder) = shell_with(json!({"hooks": hooks}), "touch made").await;
    assert!(result.contains("the hook of tool_guard failed: exit status 1"), "{result}");
    assert!(!folder.path().join("made").exists());
}

#[tokio::test]
async fn hooks_see_the_call_and_change_its_arguments_and_its_result() {
    let input =
        r#"cat > seen.json; echo '{"hook_specific_output": {"updated_input": {"cmd": "echo changed"}}}'"#;
    let output = r#"echo '{"hook_specific_output": {"updated_tool_response": "short"}}'"#;
    let hooks = json!({
        "tool_input_transform": rule("shell", &[input]),
        "tool_response_transform": rule("sh.*", &["cat > response.json", output]),
        "post_tool_use": rule("shell", &["cat > after.json"]),
        "pre_tool_use": rule("other", &["exit 2"]),
    });
    let (result, folder) = shell_with(json!({"hooks": hooks}), "echo original").await;
    assert_eq!(result, "short");
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(folder.path().join(name)).unwrap()).unwrap()
    };
    let seen = read("seen.json");
    assert_eq!(
        (&seen["hook_event_name"], &seen["tool_name"]),
        (&json!("tool_input_transform"), &json!("shell"))
    );
    assert_eq!(seen["tool_input"]["cmd"], json!("echo original"));
    assert_eq!(read("response.json")["tool_response"], json!("changed\n"));
    assert_eq!(read("after.json")["tool_response"], json!("short"));
}

#[tokio::test]
async fn deny_holds_for_what_a_hook_made_of_a_call() {
    let changed = r#"echo '{"hook_specific_output": {"updated_input": {"cmd": "touch made"}, "permission_decision": "allow"}}'"#;
    let hooks = json!({"pre_tool_use": rule("shell", &[changed])});
    let mut parts = serde_json::to_value(&*with_shell(json!({"hooks": hooks}))).unwrap();
    parts["permissions"]["deny"] = json!(["shell:cmd=touch*"]);
    let team: Arc<Team> = Arc::new(serde_json::from_value(parts).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let script = json!({"a": [calls("shell", json!({"cmd": "ls"})), {"text": "{{results}}"}]});
    let world = world_in(folder.path(), &script);
    let result = result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await);
    assert_eq!(result, "Tool 'shell' is denied by permissions configuration.");
    assert!(!folder.path().join("made").exists());
}

#[tokio::test]
async fn hooks_of_a_run_add_to_what_the_model_knows_and_observe_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = |name: &str| json!([{"hooks": [command(&format!("echo {name} >> log"))]}]);
    let hooks = json!({
        "session_start": [{"hooks": [command("echo 'It is Monday.'")]}],
        "turn_start": [{"hooks": [command("echo turn >> log; echo 'It rains.'")]}],
        "before_llm_call": log("before"),
        "after_llm_call": log("after"),
        "turn_end": log("end"),
        "stop": log("stop"),
        "session_end": log("over"),
    });
    let mut world = world_in(folder.path(), &json!({}));
    let models = Arc::new(crate::testing::FakeModels::new([Ok(crate::model::ModelReply::complete(
        AssistantMessage { text: "done".into(), ..AssistantMessage::default() },
    ))]));
    world.ports.models = models.clone();
    let team = with_shell(json!({"hooks": hooks}));
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let told = format!("{:?}", models.requests()[0].1.messages);
    assert!(told.contains("It is Monday.") && told.contains("It rains."), "{told}");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log, "turn\nbefore\nafter\nend\nstop\nover\n");
}

#[tokio::test]
async fn a_hook_can_refuse_a_prompt_and_a_model_call() {
    let refuse = json!([{"hooks": [command("echo 'not today' >&2; exit 2")]}]);
    for (event, expected) in [
        ("user_prompt_submit", "a hook refused the prompt: not today"),
        ("before_llm_call", "a hook refused the model call: not today"),
    ] {
        let world = world(&json!({"a": [{"text": "x"}]}));
        let opening = Opening::Conversation { messages: vec![Message::user("hello")] };
        let team = with_shell(json!({"hooks": {event: refuse}}));
        let assignment = Assignment { opening, ..delegated(&team, "a", Vec::new()) };
        match run_to_end(&world, assignment).await {
            Outcome::Failed { message, .. } => assert_eq!(message, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_safety_mode_lets_safe_calls_run_and_refuses_others() {
    let (safe, _) = shell_with(json!({"safety": "restricted"}), "echo hello").await;
    assert_eq!(safe, "hello\n");
    let (refused, _) = shell_with(json!({"safety": "restricted"}), "rm -rf x").await;
    assert_eq!(refused, "Tool 'shell' is denied by permissions configuration.");
    let (asked, _) = shell_with(json!({"safety": "balanced"}), "make").await;
    assert_eq!(asked, "Tool 'shell' requires user confirmation but the session is non-interactive.");
    // A hook may answer instead of a person.
    let allow = r#"echo '{"hook_specific_output": {"permission_decision": "allow"}}'"#;
    let hooks = json!({"permission_request": rule("shell", &[allow])});
    let (allowed, _) = shell_with(json!({"safety": "strict", "hooks": hooks}), "echo hello").await;
    assert_eq!(allowed, "hello\n");
}

// `runtime.safety` is the team's own.
#[tokio::test]
async fn the_mode_of_the_file_holds_where_the_agent_has_none() {
    for (own, expected) in [
        (Value::Null, "Tool 'shell' is denied by permissions configuration."),
        (json!("autonomous"), "<no output>"),
    ] {
        let mut parts = serde_json::to_value(&*with_shell(json!({"safety": own}))).unwrap();
        parts["safety"] = json!("restricted");
        let team: Arc<Team> = Arc::new(serde_json::from_value(parts).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let script = json!({"a": [calls("shell", json!({"cmd": "rm -f x"})), {"text": "{{results}}"}]});
        let world = world_in(folder.path(), &script);
        assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), expected);
    }
}

#[tokio::test]
async fn a_readonly_toolset_has_only_tools_that_change_nothing() {
    let shell = json!({"kind": {"type": "shell", "env": {}}, "readonly": true});
    let (result, _) = shell_with(json!({"toolsets": [shell, {"kind": {"type": "think"}}]}), "ls").await;
    assert_eq!(
        result,
        "unknown tool `shell`. Available: list_background_jobs, view_background_job, wait_background_job, think"
    );
}

#[tokio::test]
async fn a_readonly_agent_has_only_tools_that_change_nothing() {
    let (result, _) = shell_with(json!({"readonly": true}), "ls").await;
    assert_eq!(
        result,
        "unknown tool `shell`. Available: list_background_jobs, view_background_job, wait_background_job"
    );
}

#[tokio::test]
async fn secrets_reach_neither_tools_nor_models_unless_the_file_says_so() {
    let secret = format!("ghp_{}", "a1B2".repeat(9));
    let (result, _) =
        shell_with(json!({}), &format!("echo {secret} ghp_; printf '%s%s' ghp_ {}", "a".repeat(36))).await;
    assert_eq!(result, "[REDACTED] ghp_\n[REDACTED]");
    let (result, _) = shell_with(json!({"redact_secrets": false}), &format!("echo {secret}")).await;
    assert_eq!(result.trim(), secret);
}

// Also without the built-in hook limit_large_tool_results.
#[tokio::test]
async fn a_long_result_is_an_excerpt_next_to_its_file() {
    let (result, folder) = shell_with(json!({}), "seq 1 3000").await;
    assert!(
        result.starts_with("[The result has 13893 bytes in 3000 lines. This is its end;"),
        "{}",
        &result[..99]
    );
    assert!(result.ends_with("\n3000"));
    let whole = fs::read_to_string(folder.path().join(".legwork/results/1-0-shell.txt")).unwrap();
    assert_eq!(whole.lines().count(), 3000);
}

#[tokio::test]
async fn variables_of_an_instruction_are_expanded() {
    let mut world = world(&json!({}));
    let mut environment = crate::testing::environment("/");
    environment.variables.insert("PLACE".into(), "Paris".into());
    world.ports.environment = Arc::new(environment);
    let toolsets = json!([{"kind": {"type": "think"}, "instruction": "Think of ${env.PLACE}."}]);
    let team = team(&[("a", &[], json!({"instruction": "You are in ${env.PLACE}.", "toolsets": toolsets}))]);
    let cancel = CancellationToken::new();
    let opened = OpenAgent::open(&team, team.agent("a").unwrap(), &world.ports, &cancel).await.unwrap();
    assert_eq!(opened.head[..2], ["You are in Paris.", "Think of Paris."].map(Message::system).map(Arc::new));
}

#[tokio::test]
async fn an_agent_passes_the_conversation_on_at_its_end() {
    let team =
        team(&[("a", &[], json!({"force_handoff": "b"})), ("b", &[], json!({"instruction": "I am b"}))]);
    let script = json!({"a": [{"text": "from a"}], "b": [{}, {"text": "{{last_user}}"}]});
    let whole = world(&script);
    let result = result_of(run_to_end(&whole, delegated(&team, "a", Vec::new())).await);
    assert_eq!(result, "The agent a is done. You, b, continue from here.");
    assert!(whole.service.acknowledged().is_empty());
    // Another attempt resumes with the agent that it was passed to.
    let after = world(&script);
    let recorded = whole.journal.entries()[..2].to_vec();
    assert_eq!(result_of(run_to_end(&after, delegated(&team, "a", recorded)).await), result);
}

#[tokio::test]
async fn a_model_judges_a_call_and_another_comments_the_turn() {
    let judge = json!({"kind": {"model": {"models": [crate::testing::settings()],
        "prompt": "May it run {{ .ToolInput.cmd }}?", "schema": "pre_tool_use_decision"}}});
    let comment = json!({"kind": {"model": {"models": [crate::testing::settings()], "prompt": "Say something.",
        "schema": null}}});
    let hooks = json!({"pre_tool_use": [{"matcher": "shell", "hooks": [judge]}],
        "turn_start": [{"hooks": [comment]}]});
    let said = |text: &str| {
        let message = AssistantMessage { text: text.into(), ..AssistantMessage::default() };
        Ok(crate::model::ModelReply::complete(message))
    };
    let call = |cmd: &str| {
        let arguments = json!({"cmd": cmd}).to_string();
        let call = ToolCall { id: "c".into(), name: "shell".into(), arguments, thought_signature: None };
        let message = AssistantMessage { tool_calls: vec![call], ..AssistantMessage::default() };
        Ok(crate::model::ModelReply::complete(message))
    };
    let models = Arc::new(crate::testing::FakeModels::new([
        said("It rains."),
        call("touch one"),
        said(r#"{"decision": "deny", "reason": "no files"}"#),
        said("It snows."),
        call("touch two"),
        said("I do not know."),
        said("The sun shines."),
        said("done"),
    ]));
    let folder = tempfile::tempdir().unwrap();
    let mut world = world_in(folder.path(), &json!({}));
    world.ports.models = models.clone();
    let outcome = run_to_end(&world, delegated(&with_shell(json!({"hooks": hooks})), "a", Vec::new())).await;
    assert_eq!(result_of(outcome), "done");
    assert_eq!(world.journal.output(), "done", "answers of hooks are not output");
    let results: Vec<String> =
        entries(&world).into_iter().filter(|entry| entry.starts_with("result")).collect();
    assert_eq!(results[0], "result 1.0 Tool 'shell' is denied by a hook: no files");
    assert!(results[1].contains("is not the JSON of pre_tool_use_decision"), "{}", results[1]);
    assert!(!folder.path().join("one").exists() && !folder.path().join("two").exists());
    let requests = models.requests();
    assert_eq!(requests[2].1.messages[1], Message::user("May it run touch one?").into());
    assert!(requests[1].1.messages.contains(&Message::system("It rains.").into()));
    assert!(requests[2].1.form.is_some() && requests[0].1.form.is_none());
}

#[tokio::test]
async fn a_job_inherits_the_safety_mode_of_its_dispatcher() {
    // What is dispatched has the dispatcher's mode.
    let mut team = json!(*dispatching());
    team["agents"][0]["safety"] = json!("autonomous");
    let team: Arc<Team> = Arc::new(serde_json::from_value(team).unwrap());
    let dispatch = calls("run_background_agent", json!({"agent": "b", "task": "t"}));
    let world = world(&json!({"a": [dispatch, {"text": "done"}, {"text": "done"}]}));
    let inherited = |safety, team: &Arc<Team>| Assignment { safety, ..delegated(team, "a", Vec::new()) };
    run_to_end(&world, inherited(Some(SafetyMode::Autonomous), &team)).await;
    assert_eq!(world.service.requests()[0].safety, Some(SafetyMode::Autonomous));
    // A job with a laxer mode of its own keeps the inherited one.
    let folder = tempfile::tempdir().unwrap();
    let script = json!({"a": [calls("shell", json!({"cmd": "touch made"})), {"text": "{{results}}"}]});
    let lax = with_shell(json!({"safety": "autonomous"}));
    let world = world_in(folder.path(), &script);
    let result = result_of(run_to_end(&world, inherited(Some(SafetyMode::Restricted), &lax)).await);
    assert_eq!(result, "Tool 'shell' is denied by permissions configuration.");
    assert!(!folder.path().join("made").exists());
}

/// A rule with one built-in hook.
fn builtin(name: &str, args: &[&str]) -> Value {
    json!([{"hooks": [{"kind": {"builtin": name}, "args": args}]}])
}

#[tokio::test]
async fn a_built_in_hook_ends_the_run_after_so_many_model_calls() {
    let hooks = json!({"before_llm_call": builtin("max_iterations", &["2"])});
    let world = world(&json!({"a": vec![calls("shell", json!({"cmd": "true"})); 2]}));
    let outcome = run_to_end(&world, delegated(&with_shell(json!({"hooks": hooks})), "a", Vec::new())).await;
    let Outcome::Failed { message, usage, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        message,
        "a hook refused the model call: the built-in hook max_iterations allows 2 model calls"
    );
    assert_eq!(usage.turns, 2);
}

#[tokio::test]
async fn a_built_in_hook_adds_what_its_templates_say() {
    let hooks =
        json!({"turn_start": builtin("add_context", &["You are {{ .AgentName }} in turn {{ .Turn }}."])});
    let mut world = world(&json!({}));
    let reply = AssistantMessage { text: "done".into(), ..AssistantMessage::default() };
    let models = Arc::new(crate::testing::FakeModels::new([Ok(crate::model::ModelReply::complete(reply))]));
    world.ports.models = models.clone();
    let team = with_shell(json!({"hooks": hooks}));
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let request = models.requests().remove(0).1;
    assert!(
        request.messages.contains(&Message::system("You are a in turn 1.").into()),
        "{:?}",
        request.messages
    );
}

#[tokio::test]
async fn a_repeated_result_is_left_out_only_where_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), "x".repeat(400)).unwrap();
    let hooks = json!({"tool_response_transform": builtin("elide_repeated_tool_results", &[])});
    let read = || {
        calls(
            "shell",
            json!({"cmd": "cat f; echo more >> g; cat g | wc -l | sed 's/[3-9]/other/;s/[12]/same/'"}),
        )
    };
    let world = world_in(folder.path(), &json!({"a": [read(), read(), read(), {"text": "done"}]}));
    run_to_end(&world, delegated(&with_shell(json!({"hooks": hooks})), "a", Vec::new())).await;
    let results: Vec<String> =
        entries(&world).into_iter().filter(|entry| entry.starts_with("result")).collect();
    assert!(results[0].contains("xxxx"), "{results:?}");
    assert!(results[1].ends_with("your earlier call of shell with the same arguments.]"), "{results:?}");
    assert!(results[2].contains("xxxx") && results[2].contains("other"), "{results:?}");
}

#[tokio::test]
async fn a_built_in_hook_posts_to_addresses_that_are_allowed() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let (sent, mut received) = tokio::sync::mpsc::channel::<String>(1);
    let posted = move |body: String| async move {
        sent.send(body).await.ok();
    };
    let url = crate::testing::serve(axum::Router::new().route("/done", axum::routing::post(posted))).await;
    let hooks = json!({"stop": builtin("http_post", &[&format!("{url}/done"), r#"{"done": true}"#])});
    let agent = with_shell(json!({"hooks": hooks}));
    for is_allowed in [false, true] {
        let mut world = world(&json!({"a": [{"text": "done"}]}));
        let mut environment = crate::testing::environment("/");
        if is_allowed {
            environment.variables.insert(legwork_common::variables::API_PRIVATE.into(), "1".into());
        }
        world.ports.environment = Arc::new(environment);
        assert_eq!(result_of(run_to_end(&world, delegated(&agent, "a", Vec::new())).await), "done");
        let warned = world.journal.events().iter().any(|event| matches!(event, RunEvent::Warning(_)));
        assert_eq!(warned, !is_allowed, "{:?}", world.journal.events());
    }
    assert_eq!(received.recv().await.unwrap(), r#"{"done": true}"#);
}
