//! Scripts, parsed, replayed and recorded.

use std::sync::Arc;

use legwork_common::secrets::Secrets;
use serde_json::json;

use super::*;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::message::ToolResult;
use crate::model::Deltas;
use crate::model::Purpose;
use crate::testing::settings;

fn script(value: &Value) -> ScriptedModels {
    ScriptedModels::parse(value.to_string().as_bytes()).unwrap()
}

fn request(agent: &str, turn: u32, messages: Vec<Message>) -> ModelRequest {
    ModelRequest {
        agent: agent.into(),
        turn,
        messages: messages.into_iter().map(Arc::new).collect(),
        tools: Vec::new(),
        form: None,
        purpose: Purpose::Turn,
        waits_for_pauses: true,
    }
}

async fn ask(
    models: &ScriptedModels,
    request: ModelRequest,
) -> (Result<AssistantMessage, ModelError>, String) {
    let deltas = Deltas::default();
    let answer = models.stream(ModelCall { settings: &settings(), request: &request, deltas: &deltas }).await;
    let mut text = String::new();
    for delta in deltas.left() {
        let Delta::Text(piece) = delta else { break };
        text.push_str(&piece);
    }
    (answer.map(|reply| reply.message), text)
}

fn result(name: &str, text: &str) -> Message {
    Message::tool_result(ToolResult {
        call_id: "c".into(),
        name: name.into(),
        text: text.into(),
        images: Vec::new(),
        is_error: false,
    })
}

#[tokio::test(start_paused = true)]
async fn each_turn_has_its_reply_and_the_turn_after_the_last_is_refused() {
    let models = script(&json!({"agents": {
        "a": [{"text": "one two", "chunk_delay_ms": 5}, {"text": "three"}],
        "*": [{"text": "anyone", "delay_ms": 3}],
    }}));
    for (agent, turn, text) in [("a", 1, "one two"), ("a", 2, "three"), ("b", 1, "anyone")] {
        let (answer, streamed) = ask(&models, request(agent, turn, Vec::new())).await;
        assert_eq!((answer.unwrap().text.as_str(), streamed.as_str()), (text, text));
    }
    let (answer, _) = ask(&models, request("a", 3, Vec::new())).await;
    assert_eq!(
        answer.unwrap_err().to_string(),
        "scripted/test refused: the script has 2 replies for agent `a`, and turn 3 needs one more"
    );
}

#[tokio::test]
async fn placeholders_are_filled_from_the_conversation() {
    let first = "agent_task_11111111-1111-4111-8111-11111111abcd";
    let second = "agent_task_22222222-2222-4222-8222-22222222abcd";
    let messages = vec![
        Message::system("do it:\n<task>\nthe task\n</task>"),
        Message::user("Please proceed."),
        Message::assistant(AssistantMessage::default()),
        result("run_background_agent", &format!("started with ID: {first}\nAgent: x")),
        Message::assistant(AssistantMessage::default()),
        result("run_background_agent", &format!("started with ID: {second}.")),
        result("shell", "{{task}} 42"),
    ];
    let models = script(&json!({"agents": {"a": [{
        "text": "{{task}}|{{last_user}}|{{result:1}}|{{result:run_background_agent}}|{{job:0}}|{{results}}|{{open",
        "tool_calls": [
            {"name": "wait", "arguments": {"task_ids": ["{{jobs}}"], "deep": [{"x": "{{job:1}}"}], "n": 1}},
            {"name": "broken", "arguments": "{not json"},
            {"name": "none"},
        ],
    }]}}));
    let (answer, _) = ask(&models, request("a", 1, messages)).await;
    let message = answer.unwrap();
    let started = format!("started with ID: {second}.");
    assert_eq!(
        message.text,
        format!(
            "the task|Please proceed.|{{{{task}}}} 42|{started}|{first}|{started}\n\n{{{{task}}}} 42|{{{{open"
        )
    );
    let waited: Value = serde_json::from_str(&message.tool_calls[0].arguments).unwrap();
    assert_eq!(waited, json!({"task_ids": [first, second], "deep": [{"x": second}], "n": 1}));
    assert_eq!(message.tool_calls[1].arguments, "{not json");
    assert_eq!(message.tool_calls[2].arguments, "{}");
}

#[tokio::test]
async fn errors_of_a_script_are_reported() {
    let error = ScriptedModels::parse(br#"{"agents": {"a": [{"txt": "x"}]}}"#).unwrap_err();
    assert!(legwork_common::error::chain(&error).contains("unknown field `txt`"), "{error:?}");
    let models = script(&json!({"agents": {"a": [{"text": "{{result:9}}"}]}}));
    for agent in ["a", "unknown"] {
        let (answer, _) = ask(&models, request(agent, 1, Vec::new())).await;
        assert!(matches!(answer, Err(ModelError::Refused { .. })), "{answer:?}");
    }
}

/// A run of an agent that dispatches, waits, and is compacted once.
fn recorded_run(job: &str) -> Vec<TurnEntry> {
    let reply = |turn: u32, text: &str, calls: Vec<ToolCall>| TurnEntry::Reply {
        turn,
        message: AssistantMessage {
            text: text.into(),
            reasoning: (turn == 1).then(|| "sesame opens it".to_owned()),
            tool_calls: calls,
            usage: Usage { input_tokens: 10, cached_tokens: 4, output_tokens: 2, turns: 1 },
            ..AssistantMessage::default()
        },
    };
    let call = |name: &str, arguments: &str| ToolCall {
        id: "c".into(),
        name: name.into(),
        arguments: arguments.into(),
        thought_signature: None,
    };
    let result = |turn: u32, text: &str| TurnEntry::Result {
        turn,
        index: 0,
        call_id: "c".into(),
        text: text.into(),
        images: Vec::new(),
        is_error: false,
        ended: Vec::new(),
    };
    vec![
        reply(1, "I let {{task}} run.", vec![call("run_background_agent", r#"{"agent":"b","task":"t"}"#)]),
        result(1, &format!("started with ID: {job}")),
        reply(2, "", vec![call("wait_background_agents", &format!(r#"{{"task_ids":["{job}"]}}"#))]),
        result(2, "done"),
        TurnEntry::Compacted { turn: 3, kept: 0, summary: format!("{job} is done"), usage: Usage::default() },
        reply(3, "the key sesame, of {job}", vec![call("shell", "{broken")]),
        result(3, "no"),
        reply(4, "end", vec![]),
    ]
}

#[tokio::test]
async fn a_recording_replays_the_same_replies() {
    let team = crate::testing::team(&[("a", &[], json!({}))]);
    let id = |digit: char| {
        "agent_task_11111111-1111-4111-8111-11111111abcd".replace("1111-4", &format!("111{digit}-4"))
    };
    let (then, now) = (id('2'), id('3'));
    let opening = |task: String| crate::Opening::Delegated { task, expected_output: None };
    let mut recording = Recording::new(Secrets::of(&[("API_KEY".to_owned(), "sesame".to_owned())].into()));
    recording.add(&team, "a", opening(format!("inspect {then}")), &recorded_run(&then));
    assert!(recording.ambiguous_agents().is_empty());
    let json = recording.to_json().unwrap();
    assert!(!json.contains("sesame") && !json.contains(&then), "{json}");
    insta::assert_snapshot!("recording", json);

    let models = ScriptedModels::parse(json.as_bytes()).unwrap();
    let mut transcript = crate::turn::Transcript::new(opening(format!("inspect {now}")).messages(), &[]);
    for entry in recorded_run(&now) {
        if let TurnEntry::Reply { turn, message } = &entry {
            let messages = transcript.messages().to_vec();
            let asked = ModelRequest { messages, ..request("a", *turn, Vec::new()) };
            let (answer, _) = ask(&models, asked).await;
            let answer = answer.unwrap();
            assert_eq!(answer.text, message.text.replace("sesame", "[hidden: API_KEY]"));
            assert_eq!(answer.usage, message.usage);
            let calls = |message: &AssistantMessage| -> Vec<_> {
                message.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect()
            };
            assert_eq!(calls(&answer), calls(message));
        }
        transcript.apply(&entry);
    }
    let summary = ModelRequest {
        purpose: Purpose::Summary,
        ..request("a", 3, vec![Message::user(format!("The task: inspect {now}"))])
    };
    assert_eq!(ask(&models, summary).await.0.unwrap().text, "[a job] is done");
    let elsewhere = request("a", 1, opening("another".into()).messages().to_vec());
    let refused = ask(&models, elsewhere).await.0.unwrap_err().to_string();
    assert!(refused.ends_with("no replies for agent `a` with the task `another`"), "{refused}");
}

#[test]
fn of_two_runs_with_the_same_task_the_first_is_kept() {
    let team = crate::testing::team(&[("a", &[], json!({}))]);
    let reply = |text: &str| TurnEntry::Reply {
        turn: 1,
        message: AssistantMessage { text: text.into(), ..AssistantMessage::default() },
    };
    let opening = || crate::Opening::Conversation { messages: vec![Message::user("again")] };
    let mut recording = Recording::default();
    recording.add(&team, "a", opening(), &[reply("one")]);
    recording.add(&team, "a", opening(), &[reply("one")]);
    assert!(recording.ambiguous_agents().is_empty());
    recording.add(&team, "a", opening(), &[reply("two")]);
    assert_eq!(recording.ambiguous_agents(), ["a"]);
    assert!(!recording.to_json().unwrap().contains("two"));
}
