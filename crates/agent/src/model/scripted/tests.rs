//! Scripts, read and played.

use serde_json::json;

use super::*;
use crate::message::Message;
use crate::message::ToolResult;
use crate::model::Purpose;
use crate::testing::settings;

fn script(value: &Value) -> ScriptedModels {
    ScriptedModels::parse(value.to_string().as_bytes()).unwrap()
}

fn request(agent: &str, turn: u32, messages: Vec<Message>) -> ModelRequest {
    ModelRequest {
        agent: agent.into(),
        turn,
        messages,
        tools: Vec::new(),
        form: None,
        purpose: Purpose::Turn,
    }
}

async fn ask(
    models: &ScriptedModels,
    request: ModelRequest,
) -> (Result<AssistantMessage, ModelError>, String) {
    let (sender, mut receiver) = mpsc::channel(64);
    let answer = models.stream(&settings(), &request, sender).await;
    let mut text = String::new();
    while let Some(Delta::Text(piece)) = receiver.recv().await {
        text.push_str(&piece);
    }
    (answer, text)
}

fn result(name: &str, text: &str) -> Message {
    Message::ToolResult(ToolResult {
        call_id: "c".into(),
        name: name.into(),
        text: text.into(),
        is_error: false,
    })
}

#[tokio::test(start_paused = true)]
async fn each_turn_has_its_reply_and_the_last_says_so() {
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
async fn facts_of_the_conversation_are_quoted() {
    let first = "agent_task_11111111-1111-4111-8111-11111111abcd";
    let second = "agent_task_22222222-2222-4222-8222-22222222abcd";
    let messages = vec![
        Message::system("do it:\n<task>\nthe task\n</task>"),
        Message::user("Please proceed."),
        Message::Assistant(AssistantMessage::default()),
        result("run_background_agent", &format!("started with ID: {first}\nAgent: x")),
        Message::Assistant(AssistantMessage::default()),
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
async fn mistakes_are_told() {
    let error = ScriptedModels::parse(br#"{"agents": {"a": [{"txt": "x"}]}}"#).unwrap_err();
    assert!(legwork_common::error::chain(&error).contains("unknown field `txt`"), "{error:?}");
    let models = script(&json!({"agents": {"a": [{"text": "{{result:9}}"}]}}));
    for agent in ["a", "nobody"] {
        let (answer, _) = ask(&models, request(agent, 1, Vec::new())).await;
        assert!(matches!(answer, Err(ModelError::Refused { .. })), "{answer:?}");
    }
}
