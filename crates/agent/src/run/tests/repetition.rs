//! Models that repeat themselves, and models that never end.

use legwork_common::team::DEFAULT_MAX_ITERATIONS;

use super::*;

fn failure_of(outcome: Outcome) -> (Cause, String) {
    match outcome {
        Outcome::Failed { cause, message, .. } => (cause, message),
        other => panic!("{other:?}"),
    }
}

fn thoughts(thought: impl Fn(u32) -> String, turns: u32) -> Value {
    (1..=turns).map(|turn| calls("think", json!({"thought": thought(turn)}))).collect()
}

#[tokio::test]
async fn the_same_call_five_times_in_a_row_ends_the_run() {
    let world = world(&json!({"a": thoughts(|_| "again".into(), 9)}));
    let (cause, message) = failure_of(run_to_end(&world, delegated(&lone(), "a", Vec::new())).await);
    assert_eq!(cause, Cause::AgentError);
    assert_eq!(
        message,
        "Agent terminated: detected 5 consecutive identical calls to think. The model makes no progress (max_consecutive_tool_calls)."
    );
    assert_eq!(world.journal.entries().len(), 10, "the fifth call has its result");

    // Another attempt does not begin to count anew.
    let resumed = crate::testing::world(&json!({"a": []}));
    let again = run_to_end(&resumed, delegated(&lone(), "a", world.journal.entries())).await;
    assert_eq!(failure_of(again), (cause, message));
}

#[tokio::test]
async fn the_agent_file_sets_how_often_a_call_may_be_repeated() {
    let toolsets = json!([{"kind": {"type": "think"}}]);
    let limits = json!({"max_consecutive_tool_calls": 2});
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "limits": limits}))]);
    let world = world(&json!({"a": thoughts(|turn| (turn / 2).to_string(), 4)}));
    let (_, message) = failure_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await);
    assert!(
        message.starts_with("Agent terminated: detected 2 consecutive identical calls to think."),
        "{message}"
    );
    assert_eq!(world.journal.entries().len(), 6);
}

#[tokio::test]
async fn an_agent_without_max_iterations_ends_too() {
    let turns = DEFAULT_MAX_ITERATIONS;
    let mut replies = thoughts(|turn| turn.to_string(), turns + 1);
    let endless = world(&json!({"a": replies}));
    let (cause, message) = failure_of(run_to_end(&endless, delegated(&lone(), "a", Vec::new())).await);
    assert_eq!(cause, Cause::MaxIterations);
    let expected = "the agent used up its 500 iterations (max_iterations, which its file does not set)";
    assert_eq!(message, expected);

    // Zero means no limit.
    replies.as_array_mut().unwrap().push(json!({"text": "done"}));
    let toolsets = json!([{"kind": {"type": "think"}}]);
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "max_iterations": 0}))]);
    let unlimited = world(&json!({"a": replies}));
    assert_eq!(result_of(run_to_end(&unlimited, delegated(&team, "a", Vec::new())).await), "done");
}

#[tokio::test]
async fn a_long_result_loses_its_middle_and_old_calls_their_content() {
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    let limits = json!({"max_tool_result_tokens": 10, "max_old_tool_call_tokens": 30});
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "limits": limits}))]);
    let world = world(&json!({"a": [
        calls("shell", json!({"cmd": "printf '%0040d' 7"})),
        calls("shell", json!({"cmd": "printf '%0100d' 1"})),
        {"text": "{{results}}"},
    ]}));
    let result = result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await);
    let zeros = "0".repeat(20);
    assert_eq!(result, format!("{zeros}\n\n[60 bytes omitted]\n\n{}1", &zeros[1..]));

    let asked = Transcript::new(Vec::new(), &world.journal.entries());
    let shown = crate::history::with_old_calls_truncated(asked.messages().to_vec(), Some(30));
    let Message::ToolResult(first) = &*shown[1] else { panic!("{shown:?}") };
    assert_eq!(first.text, "[content truncated]");
    let Message::Assistant(reply) = &*shown[0] else { panic!("{shown:?}") };
    assert_eq!(reply.tool_calls[0].arguments, r#"{"content":"[content truncated]"}"#);
    assert_eq!(shown[3..], asked.messages()[3..]);
}
