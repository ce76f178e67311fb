//! Whole runs against fakes: mail, records, resumption, cancellation and failures.

mod answers;
mod approval;
mod budget;
mod compact;
mod handoff;
mod hook_events;
mod hooks;
mod models;
mod repetition;
mod retries;
mod skills;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::contract;
use legwork_common::lifecycle::State;
use legwork_common::money::Prices;
use legwork_common::service::CallIndex;
use legwork_common::service::MailId;
use legwork_common::team::ModelSettings;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::assignment::Opening;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::message::ToolCall;
use crate::testing::World;
use crate::testing::assignment as first_attempt;
use crate::testing::team;
use crate::testing::viewed;
use crate::testing::world;

fn delegated(team: &Arc<Team>, agent: &str, recorded: Vec<TurnEntry>) -> Assignment {
    let opening = Opening::Delegated { task: "the task".into(), expected_output: None };
    Assignment { recorded, ..first_attempt(team.clone(), agent, opening) }
}

/// A team of one agent, with the tools `think` and `shell`.
fn lone() -> Arc<Team> {
    let toolsets = json!([{"kind": {"type": "think"}}, {"kind": {"type": "shell", "env": {}}}]);
    team(&[("a", &[], json!({"toolsets": toolsets}))])
}

/// A team in which `a` dispatches to `b`.
fn dispatching() -> Arc<Team> {
    let toolsets = json!([{"kind": {"type": "background_agents"}}]);
    team(&[("a", &["b"], json!({"toolsets": toolsets})), ("b", &[], json!({"description": "helps"}))])
}

fn calls(name: &str, arguments: Value) -> Value {
    json!({"tool_calls": [{"name": name, "arguments": arguments}]})
}

async fn run_to_end(world: &World, assignment: Assignment) -> Outcome {
    run(assignment, world.ports.clone(), CancellationToken::new()).await
}

fn result_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Completed { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

/// The recorded entries in short: `reply 1 text`, `result 1.0 text`, `delivered 2 ids`.
fn entries(world: &World) -> Vec<String> {
    let short = |entry: TurnEntry| match entry {
        TurnEntry::Reply { turn, message } => format!("reply {turn} {}", message.text),
        TurnEntry::Result { turn, index, text, .. } => format!("result {turn}.{index} {text}"),
        TurnEntry::Compacted { turn, kept, .. } => format!("compacted {turn} {kept}"),
        TurnEntry::Retried { of } => format!("retried {of}"),
        TurnEntry::Stderr { text } => format!("stderr {text}"),
        TurnEntry::Asked { turn, index, tool, .. } => format!("asked {turn}.{index} {tool}"),
        TurnEntry::Decided { turn, index, answer } => format!("decided {turn}.{index} {answer}"),
        TurnEntry::Delivered { turn, mail, .. } => {
            let ids: Vec<String> = mail.into_iter().map(|id| id.0).collect();
            format!("delivered {turn} {}", ids.join(","))
        }
    };
    world.journal.entries().into_iter().map(short).collect()
}

#[tokio::test]
async fn results_of_tools_are_sent_to_the_model() {
    let world = world(&json!({"a": [
        {"text": "hm", "tool_calls": [{"name": "think", "arguments": {"thought": "one"}}, {"name": "nope"}, {"name": "think", "arguments": "{broken"}, {"name": "think", "arguments": "[1]"}]},
        {"text": "{{result:0}}", "input_tokens": 7},
    ]}));
    let outcome = run_to_end(&world, delegated(&lone(), "a", Vec::new())).await;
    assert!(
        matches!(&outcome, Outcome::Completed { usage, .. } if usage.turns == 2 && usage.input_tokens == 7)
    );
    assert_eq!(result_of(outcome), "Thoughts:\none");
    assert_eq!(world.journal.output(), "hm\n\nThoughts:\none");
    let entries = entries(&world);
    assert_eq!(entries[0], "reply 1 hm");
    assert_eq!(entries[5], "reply 2 Thoughts:\none");
    let mut results = entries[1..5].to_vec();
    results.sort();
    assert_eq!(results[0], "result 1.0 Thoughts:\none");
    assert!(
        results[1].starts_with("result 1.1 unknown tool `nope`. Available: think, shell,"),
        "{results:?}"
    );
    assert!(results[2].starts_with("result 1.2 the arguments of think are not valid JSON"), "{results:?}");
    assert_eq!(results[3], "result 1.3 the arguments of think are not a JSON object");
}

#[tokio::test]
async fn the_first_messages_have_the_contracts_order() {
    let toolsets = json!([{"kind": {"type": "think"}, "instruction": "think first"}]);
    let team = team(&[
        (
            "a",
            &["b"],
            json!({"instruction": "be good", "toolsets": toolsets, "add_date": true, "add_environment_info": true}),
        ),
        ("b", &[], json!({"description": "helps"})),
    ]);
    let world = world(&json!({}));
    let opened = OpenAgent::open(&team, team.agent("a").unwrap(), &world.ports, &CancellationToken::new())
        .await
        .unwrap();
    let opening = Opening::Delegated { task: "count".into(), expected_output: Some("a number".into()) };
    let opening = opening.messages().into_iter().map(Arc::new);
    let messages = opened.head.into_iter().chain(opening);
    let texts: Vec<(bool, String)> = messages
        .map(|message| match &*message {
            Message::System { text } => (true, text.clone()),
            Message::User { text } => (false, text.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(texts[0].1.contains("Name: b | Description: helps\n"), "{texts:?}");
    assert_eq!(texts[1].1, "be good");
    assert_eq!(texts[2].1, "think first");
    assert!(texts[3].1.starts_with("Today's date: 2"), "{texts:?}");
    assert!(texts[4].1.contains("Working directory: /\n"), "{texts:?}");
    assert_eq!(texts[5].1, contract::assignment("count", Some("a number")));
    assert_eq!(texts[6], (false, "Please proceed.".to_owned()));
    assert_eq!(texts.iter().filter(|(system, _)| *system).count(), 6);
}

#[tokio::test]
async fn a_dispatcher_waits_for_its_jobs_and_their_ends_are_delivered_once() {
    let world = world(&json!({"a": [
        calls("run_background_agent", json!({"agent": "b", "task": "count"})),
        {"text": "I wait."},
        {"text": "Delivered: {{last_user}}"},
    ]}));
    let result = result_of(run_to_end(&world, delegated(&dispatching(), "a", Vec::new())).await);
    assert!(
        result.starts_with(
            "Delivered: Background agent tasks finished since your last turn:\n\nID: agent_task_"
        )
    );
    assert!(result.contains("  Output:\nresult 0\n"), "{result}");
    assert_eq!(world.service.acknowledged(), ["end-0"]);
    assert_eq!(world.service.settled_calls(), 2);
    assert_eq!(entries(&world)[3], "delivered 3 end-0");
    let call = Some(CallIndex { turn: 1, index: 0 });
    assert_eq!(world.service.requests()[0].call, call);
}

#[tokio::test]
async fn an_end_seen_by_wait_is_not_announced() {
    let world = world(&json!({"a": [
        calls("run_background_agent", json!({"agent": "b", "task": "count", "expected_output": null})),
        calls("wait_background_agents", json!({"task_ids": ["{{jobs}}"], "timeout": null})),
        {"text": "done"},
    ]}));
    assert_eq!(result_of(run_to_end(&world, delegated(&dispatching(), "a", Vec::new())).await), "done");
    assert_eq!(world.service.acknowledged(), ["end-0"]);
    assert!(!entries(&world).iter().any(|entry| entry.starts_with("delivered")), "{:?}", entries(&world));
}

#[tokio::test]
async fn mail_is_recorded_before_the_model_call_and_known_mail_is_only_acknowledged() {
    let world = world(&json!({"a": [{"text": "{{last_user}}"}]}));
    world.service.post_end("e", viewed(7, "b", State::Completed, "seven"));
    world.service.post("m1", "first");
    world.service.post("m0", "old");
    let delivered = |ids: &[&str], text: &str| TurnEntry::Delivered {
        turn: 1,
        mail: ids.iter().map(|&id| MailId(id.into())).collect(),
        text: text.into(),
    };
    let outcome = run_to_end(&world, delegated(&lone(), "a", vec![delivered(&["m0"], "old")])).await;
    assert_eq!(result_of(outcome), "first");
    assert_eq!(entries(&world), ["delivered 1 e", "delivered 1 m1", "reply 1 first"]);
    assert_eq!(world.service.acknowledged(), ["m0", "e", "m1"]);
    assert_eq!(world.service.settled_calls(), 0, "an agent that dispatches nothing waits for nothing");
}

/// A recorded reply with these calls.
fn reply(turn: u32, names: &[(&str, Value)]) -> TurnEntry {
    let tool_calls = names.iter().map(|(name, arguments)| ToolCall {
        id: (*name).into(),
        name: (*name).into(),
        arguments: arguments.to_string(),
        thought_signature: None,
    });
    let message = AssistantMessage { tool_calls: tool_calls.collect(), ..AssistantMessage::default() };
    TurnEntry::Reply { turn, message }
}

#[tokio::test]
async fn resumes_an_open_turn() {
    let toolsets = json!([{"kind": {"type": "think"}}, {"kind": {"type": "shell", "env": {}}}, {"kind": {"type": "background_agents"}}]);
    let team = team(&[("a", &["b"], json!({"toolsets": toolsets})), ("b", &[], json!({}))]);
    let world = world(&json!({"a": [{}, {}, {"text": "{{results}}"}]}));
    let dispatch = json!({"agent": "b", "task": "again"});
    let recorded = vec![
        reply(1, &[("think", json!({"thought": "before"}))]),
        TurnEntry::Result {
            turn: 1,
            index: 0,
            call_id: "think".into(),
            text: "Thoughts:\nbefore".into(),
            images: Vec::new(),
            is_error: false,
            ended: Vec::new(),
        },
        reply(
            2,
            &[
                ("shell", json!({"cmd": "exit 1"})),
                ("run_background_agent", dispatch.clone()),
                ("transfer_task", dispatch),
                ("think", json!({"thought": "after"})),
            ],
        ),
    ];
    let text = result_of(run_to_end(&world, delegated(&team, "a", recorded)).await);
    let parts: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(parts[0], "This call was interrupted and its outcome is unknown. It was not repeated.");
    assert!(parts[1].starts_with("Background agent task started with ID: "), "{parts:?}");
    assert_eq!(parts[2], "result 1");
    assert_eq!(parts[3], "Thoughts:\nbefore\nafter");
    let calls: Vec<_> = world.service.requests().into_iter().map(|request| request.call).collect();
    let at = |index| Some(CallIndex { turn: 2, index });
    assert_eq!(calls, [at(1), at(2)], "the same places find the same children");
    assert!(entries(&world)[0].starts_with("result 2.0 This call was interrupted"));
}

#[tokio::test]
async fn a_run_that_crashed_after_its_last_reply_calls_no_model() {
    let world = world(&json!({}));
    let message = AssistantMessage { text: "the end".into(), ..AssistantMessage::default() };
    let recorded = vec![TurnEntry::Reply { turn: 1, message }];
    assert_eq!(result_of(run_to_end(&world, delegated(&lone(), "a", recorded)).await), "the end");
    assert!(world.journal.entries().is_empty());
}

#[tokio::test]
async fn fails_when_iterations_are_used_up() {
    let toolsets = json!([{"kind": {"type": "think"}}]);
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "max_iterations": 2}))]);
    let think = calls("think", json!({"thought": "more"}));
    let world = world(&json!({"a": [think, think, think]}));
    match run_to_end(&world, delegated(&team, "a", Vec::new())).await {
        Outcome::Failed { cause, message, usage } => {
            assert_eq!(cause, Cause::MaxIterations);
            assert_eq!(message, "Execution stopped after reaching the configured max_iterations limit (2).");
            assert_eq!(usage.turns, 2);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lost_lease_ends_the_run() {
    let world = world(&json!({"a": [{"text": "x"}]}));
    world.journal.lost.store(true, Ordering::Relaxed);
    assert_eq!(run_to_end(&world, delegated(&lone(), "a", Vec::new())).await, Outcome::Lost);
}

#[tokio::test]
async fn a_refused_model_call_fails_the_run() {
    let world = world(&json!({"a": []}));
    match run_to_end(&world, delegated(&lone(), "a", Vec::new())).await {
        Outcome::Failed { cause: Cause::ProviderError, message, .. } => {
            assert!(message.contains("turn 1 needs one more"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stops_during_a_model_call() {
    let world = world(&json!({"a": [{"text": "some words and no end", "chunk_delay_ms": 20}]}));
    let cancel = CancellationToken::new();
    let running = run(delegated(&lone(), "a", Vec::new()), world.ports.clone(), cancel.clone());
    let stopping = async {
        world.journal.saw_output("some ").await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(running, stopping);
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
    assert!(world.journal.output().starts_with("some "));
    assert!(world.journal.entries().is_empty());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_output_that_cannot_be_written() {
    // With the whole answer there, and in the middle of it.
    for reply in [json!({"text": "one"}), json!({"text": "some words", "chunk_delay_ms": 20})] {
        let world = world(&json!({"a": [reply]}));
        world.journal.hangs.store(true, Ordering::Relaxed);
        let cancel = CancellationToken::new();
        let running = run(delegated(&lone(), "a", Vec::new()), world.ports.clone(), cancel.clone());
        let stopping = async {
            world.journal.saw_output("o").await;
            cancel.cancel();
        };
        let stopped = async { tokio::join!(running, stopping).0 };
        let outcome = tokio::time::timeout(Duration::from_secs(30), stopped).await.unwrap();
        assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn stops_during_a_tool_call() {
    let world = world(&json!({"a": [calls("shell", json!({"cmd": "sleep 100 & sleep 100"}))]}));
    let cancel = CancellationToken::new();
    let running = run(delegated(&lone(), "a", Vec::new()), world.ports.clone(), cancel.clone());
    let stopping = async {
        world.journal.saw(|event| matches!(event, RunEvent::ToolStarted { .. })).await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(running, stopping);
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
    assert_eq!(entries(&world), ["reply 1 "]);
}

#[tokio::test]
async fn denied_tools_are_errors_and_missing_toolsets_are_warnings() {
    let toolsets = json!([
        {"kind": {"type": "think"}, "tools": ["nothing"]},
        {"kind": {"type": "shell", "env": {"A": "${NOT_THERE}"}}},
        {"kind": {"type": "unsupported", "kind": "teleport"}},
        {"kind": {"type": "todo", "shared": false}},
    ]);
    let mut parts = serde_json::to_value(&*team(&[("a", &[], json!({"toolsets": toolsets}))])).unwrap();
    parts["permissions"]["deny"] = json!(["list_*"]);
    let team: Arc<Team> = Arc::new(serde_json::from_value(parts).unwrap());
    let world = world(&json!({"a": [
        {"tool_calls": [{"name": "list_todos"}, {"name": "think", "arguments": {"thought": "x"}}]},
        {"text": "{{results}}"},
    ]}));
    assert_eq!(
        result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await),
        "Tool 'list_todos' is denied by permissions configuration.\n\n\
         unknown tool `think`. Available: create_todo, create_todos, update_todos, list_todos"
    );
    let warnings: Vec<String> = world
        .journal
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Warning(text) => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(
        warnings,
        [
            "toolset shell failed: environment variable NOT_THERE is not set",
            "toolset teleport failed: unknown toolset type: teleport",
        ]
    );
}

#[tokio::test]
async fn an_unknown_agent_is_rejected() {
    let world = world(&json!({}));
    let outcome = run_to_end(&world, delegated(&lone(), "x", Vec::new())).await;
    assert!(matches!(outcome, Outcome::Failed { cause: Cause::Rejected, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_store_that_refuses_fails_the_run() {
    let world = world(&json!({"a": [{"text": "x"}]}));
    world.journal.refuses.store(true, Ordering::Relaxed);
    match run_to_end(&world, delegated(&lone(), "a", Vec::new())).await {
        Outcome::Failed { cause: Cause::AgentError, message, .. } => {
            assert_eq!(message, "the run cannot be recorded: the store is full");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_mailbox_is_skipped_before_a_turn_and_retried_at_the_end() {
    let world = world(&json!({"a": [{"text": "x"}, {"text": "{{last_user}}"}]}));
    world.service.post("m", "late");
    world.service.fail_mailbox(5);
    assert_eq!(result_of(run_to_end(&world, delegated(&lone(), "a", Vec::new())).await), "late");
    assert_eq!(entries(&world), ["reply 1 x", "delivered 2 m", "reply 2 late"]);
    world.service.fail_mailbox(1000);
    let outcome = run_to_end(&world, delegated(&lone(), "a", Vec::new())).await;
    assert!(matches!(outcome, Outcome::Failed { cause: Cause::AgentError, .. }), "{outcome:?}");
}

#[tokio::test]
async fn everything_is_recorded_before_what_depends_on_it() {
    let world = world(&json!({"a": [calls("think", json!({"thought": "x"})), {"text": "end"}]}));
    world.service.post("m", "hello");
    run_to_end(&world, delegated(&lone(), "a", Vec::new())).await;
    let order = ["delivered", "asked", "reply", "started", "ended", "result", "asked", "reply"];
    assert_eq!(world.journal.order(), order);
}

#[tokio::test]
async fn an_attempt_without_its_lease_starts_no_tool() {
    let world = world(&json!({"a": [calls("think", json!({"thought": "x"}))]}));
    world.journal.lost_after_record.store(true, Ordering::Relaxed);
    assert_eq!(run_to_end(&world, delegated(&lone(), "a", Vec::new())).await, Outcome::Lost);
    assert_eq!(world.journal.order(), ["asked", "reply"]);
}

#[tokio::test]
async fn the_calls_of_one_reply_run_concurrently() {
    let folder = tempfile::tempdir().unwrap();
    let shell = |cmd: &str| json!({"name": "shell", "arguments": {"cmd": cmd, "timeout": 20}});
    let mut world = world(&json!({"a": [
        {"tool_calls": [shell("until [ -e there ]; do sleep 0.01; done; echo met"), shell("touch there")]},
        {"text": "{{result:0}}"},
    ]}));
    world.ports.environment = Arc::new(crate::testing::environment(folder.path()));
    assert_eq!(result_of(run_to_end(&world, delegated(&lone(), "a", Vec::new())).await), "met\n");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_mcp_server_that_never_answers() {
    let launch = json!({"command": "sh", "args": ["-c", "touch up; sleep 1000"], "env": {}});
    let toolsets = json!([{"kind": {"type": "mcp", "name": null, "server": {"command": launch}}}]);
    let team = team(&[("a", &[], json!({"toolsets": toolsets}))]);
    let mut world = world(&json!({}));
    let folder = tempfile::tempdir().unwrap();
    world.ports.environment = Arc::new(crate::testing::environment(folder.path()));
    let cancel = CancellationToken::new();
    let running = run(delegated(&team, "a", Vec::new()), world.ports.clone(), cancel.clone());
    let stopping = async {
        while !folder.path().join("up").exists() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(running, stopping);
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
}

#[tokio::test]
async fn the_output_of_a_resumed_attempt_begins_without_a_separator() {
    let first = json!({"text": "one", "tool_calls": [{"name": "think", "arguments": {"thought": "t"}}]});
    let script = json!({"a": [first, {"text": "two"}]});
    let before = world(&script);
    assert_eq!(result_of(run_to_end(&before, delegated(&lone(), "a", Vec::new())).await), "two");
    assert_eq!(before.journal.output(), "one\n\ntwo");
    let recorded = before.journal.entries()[..2].to_vec();
    let after = world(&script);
    assert_eq!(result_of(run_to_end(&after, delegated(&lone(), "a", recorded)).await), "two");
    assert_eq!(after.journal.output(), "two");
}

/// A worker runs ten thousand agents at once, and each holds its future for as long as a model takes. Who makes it larger
/// should box what is rare, or over before the model is called; `-Zprint-type-sizes` shows what is in it.
#[test]
fn a_run_that_waits_for_its_model_takes_little_memory() {
    fn bytes<F>(_run: impl FnOnce(Assignment, Ports, CancellationToken) -> F) -> usize {
        size_of::<F>()
    }
    let (future, state) = (bytes(run), size_of::<RunState<'_>>());
    assert!(future <= 2000 && state <= 1250, "{future} and {state} bytes");
}
