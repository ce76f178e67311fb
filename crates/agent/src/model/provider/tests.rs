//! All wires against a provider on this machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use legwork_common::team::Api;
use legwork_common::team::ThinkingBudget;
use serde_json::Value;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::assignment::Opening;
use crate::assignment::Outcome;
use crate::message::Message;
use crate::message::ToolResult;
use crate::model::Delta;
use crate::model::Deltas;
use crate::model::ModelRequest;
use crate::model::Purpose;
use crate::model::verdict;
use crate::run::run;
use crate::testing;
use crate::testing::team;
use crate::testing::world;
use crate::tool::Interrupted;
use crate::tool::ToolSpec;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;

mod raw;
mod wires;

/// Providers with wires of their own.
const WIRES: [&str; 2] = ["openai", "anthropic"];

fn models() -> ProviderModels {
    // A second test finds it installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"].map(|key| (key.to_owned(), "sesame".to_owned()));
    ProviderModels::new(Environment::new(BTreeMap::from(keys), "/".into())).unwrap()
}

fn settings(wire: &str, provider: &FakeProvider) -> ModelSettings {
    let mut settings = ModelSettings::inline(wire, "test-model").unwrap();
    settings.base_url = Some(provider.url.clone());
    settings
}

fn think() -> ToolSpec {
    ToolSpec {
        name: "think".into(),
        description: "Think".into(),
        parameters: json!({"type": "object", "properties": {}, "additionalProperties": false}),
        read_only: true,
        interrupted: Interrupted::RunAgain,
    }
}

fn request(messages: Vec<Message>) -> ModelRequest {
    ModelRequest {
        agent: "a".into(),
        turn: 1,
        messages: messages.into_iter().map(Arc::new).collect(),
        tools: vec![think()],
        form: None,
        purpose: Purpose::Turn,
        waits_for_pauses: true,
    }
}

fn hello() -> ModelRequest {
    request(vec![Message::system("be good"), Message::system("be brief"), Message::user("hello")])
}

/// The message of a usable reply.
async fn stream(
    models: &ProviderModels,
    settings: &ModelSettings,
    request: &ModelRequest,
    deltas: &Deltas,
) -> Result<AssistantMessage, ModelError> {
    let reply = models.stream(ModelCall { settings, request, deltas }).await?;
    verdict::usable(settings, reply).map(|reply| reply.message)
}

async fn ask(
    wire: &str,
    provider: &FakeProvider,
    request: &ModelRequest,
) -> (Result<AssistantMessage, ModelError>, Vec<Delta>) {
    let deltas = Deltas::default();
    let answer = stream(&models(), &settings(wire, provider), request, &deltas).await;
    (answer, deltas.left())
}

fn two_calls() -> Answer {
    Answer::Reply {
        reasoning: Some("hm"),
        text: vec!["both ", "at once"],
        calls: vec![
            Call { id: "c1", name: "think", arguments: vec!["{\"thou", "ght\": \"ä", "\"}"] },
            Call { id: "c2", name: "list", arguments: vec![] },
        ],
    }
}

#[tokio::test]
async fn text_reasoning_calls_and_usage() {
    for wire in WIRES {
        let provider = FakeProvider::start(vec![two_calls()]).await;
        let (answer, deltas) = ask(wire, &provider, &hello()).await;
        let message = answer.unwrap();
        assert_eq!(message.text, "both at once", "{wire}");
        assert_eq!(message.reasoning.as_deref(), Some("hm"), "{wire}");
        let text = |text: &str| Delta::Text(text.into());
        assert_eq!(deltas, [Delta::Reasoning("hm".into()), text("both "), text("at once")], "{wire}");
        let calls: Vec<_> = message
            .tool_calls
            .iter()
            .map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(calls, [("c1", "think", "{\"thought\": \"ä\"}"), ("c2", "list", "{}")], "{wire}");
        let (input_tokens, cached_tokens) = if wire == "openai" { (31, 12) } else { (170, 100) };
        assert_eq!(message.usage, Usage { input_tokens, cached_tokens, output_tokens: 17, turns: 1 });
        let asked = &provider.asked()[0];
        let key = if wire == "openai" { "Bearer sesame" } else { "sesame" };
        let header = if wire == "openai" { "authorization" } else { "x-api-key" };
        assert_eq!(asked.headers[header], key);
        assert_eq!(asked.body["model"], "test-model");
        assert_eq!(asked.body["stream"], true);
    }
}

/// What the second turn sends back of the first.
async fn second_turn(wire: &str) -> Value {
    let provider = FakeProvider::start(vec![two_calls(), Answer::text(&["done"])]).await;
    let mut request = hello();
    let mut message = ask(wire, &provider, &request).await.0.unwrap();
    message.tool_calls[1].arguments = "{broken".into();
    request.messages.push(Message::assistant(message).into());
    for (id, text) in [("c1", "one"), ("c2", "")] {
        request.messages.push(result(id, "think", text).into());
    }
    let (answer, _) = ask(wire, &provider, &request).await;
    assert_eq!(answer.unwrap().text, "done");
    provider.asked()[1].body.clone()
}

#[tokio::test]
async fn a_turn_goes_back_to_openai() {
    let body = second_turn("openai").await;
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "system", "user", "assistant", "tool", "tool"]);
    let call = &messages[3]["tool_calls"][1];
    assert_eq!(call["id"], "c2");
    assert_eq!(call["function"]["arguments"], r#"{"invalid_json":"{broken"}"#);
    assert_eq!((&messages[4]["tool_call_id"], &messages[4]["content"]), (&json!("c1"), &json!("one")));
    assert_eq!(messages[5]["content"], "<no output>");
    assert_eq!(body["tools"][0]["function"]["name"], "think");
}

#[tokio::test]
async fn a_turn_goes_back_to_anthropic_with_its_signed_thoughts() {
    let body = second_turn("anthropic").await;
    let messages = body["messages"].as_array().unwrap();
    let kinds = |at: usize| -> Vec<&str> {
        messages[at]["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["type"].as_str().unwrap())
            .collect()
    };
    assert_eq!(kinds(1), ["thinking", "text", "tool_use", "tool_use"]);
    let thought = &messages[1]["content"][0];
    assert_eq!((&thought["thinking"], &thought["signature"]), (&json!("hm"), &json!("signed")));
    assert_eq!(kinds(2), ["tool_result", "tool_result"]);
    assert_eq!(messages[2]["content"][1]["cache_control"]["type"], "ephemeral");
    assert!(body["system"].to_string().contains("be brief"), "{body}");
}

#[tokio::test]
async fn classifies_failures() {
    for wire in WIRES {
        let provider = FakeProvider::start(vec![
            Answer::Cut("half"),
            Answer::ErrorInside("half", "overloaded_error"),
            Answer::Status(429, vec![("retry-after", "7")], "{\"error\": {\"message\": \"slow down\"}}"),
            Answer::Status(401, vec![], "{\"error\": {\"message\": \"bad key\"}}"),
            Answer::Status(529, vec![], "overloaded"),
        ])
        .await;
        let mut errors = Vec::new();
        for _ in 0..5 {
            errors.push(ask(wire, &provider, &hello()).await.0.unwrap_err());
        }
        let transient = |at: usize| matches!(errors[at], ModelError::Transient { .. });
        let overloaded = |at: usize| matches!(errors[at], ModelError::Overloaded { .. });
        assert!(transient(0) && overloaded(1) && overloaded(4), "{wire} {errors:?}");
        assert!(errors[0].to_string().contains("ended in the middle"), "{}", errors[0]);
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(&errors[2], ModelError::RateLimited { retry_after, .. } if *retry_after == wait));
        assert_eq!(errors[3].to_string(), format!("{wire}/test-model refused: 401: bad key"));
    }
}

#[tokio::test]
async fn a_refused_connection_is_transient() {
    let mut settings = ModelSettings::inline("openai", "m").unwrap();
    settings.base_url = Some("http://127.0.0.1:1/v1".into());
    let error = stream(&models(), &settings, &hello(), &Deltas::default()).await.unwrap_err();
    assert!(matches!(error, ModelError::Transient { .. }), "{error:?}");
}

/// A whole run of one agent against a provider.
async fn go(wire: &str, answers: Vec<Answer>, cancel_at: Option<&str>) -> (Outcome, String, usize) {
    let provider = FakeProvider::start(answers).await;
    let runner = json!({"models": [settings(wire, &provider)]});
    let toolsets = json!([{"kind": {"type": "think"}}]);
    let team = team(&[("a", &[], json!({"kind": runner, "toolsets": toolsets}))]);
    let mut world = world(&json!({}));
    world.ports.models = Arc::new(models());
    let opening = Opening::Delegated { task: "t".into(), expected_output: None };
    let assignment = testing::assignment(team, "a", opening);
    let cancel = CancellationToken::new();
    let cancelling = async {
        if let Some(text) = cancel_at {
            world.journal.saw_output(text).await;
            cancel.cancel();
        }
    };
    let running = run(assignment, world.ports.clone(), cancel.clone());
    let (outcome, ()) = tokio::join!(running, cancelling);
    (outcome, world.journal.output(), provider.asked().len())
}

#[tokio::test]
async fn a_run_over_both_wires() {
    for wire in WIRES {
        let first = Answer::Reply {
            reasoning: None,
            text: vec!["I think."],
            calls: vec![Call { id: "c", name: "think", arguments: vec!["{\"thought\"", ":\"x\"}"] }],
        };
        let answers = vec![
            first,
            Answer::Status(429, vec![("retry-after-ms", "20")], "slow down"),
            Answer::Cut("half of"),
            Answer::text(&["the ", "end"]),
        ];
        let (outcome, output, asked) = go(wire, answers, None).await;
        match outcome {
            Outcome::Completed { result, usage } => {
                assert_eq!((result.as_str(), usage.turns), ("the end", 2))
            }
            other => panic!("{wire} {other:?}"),
        }
        let cut = "\n[the model's answer was cut off; asking again]\n";
        assert_eq!(output, format!("I think.\n\nhalf of{cut}the end"), "{wire}");
        assert_eq!(asked, 4);
    }
}

#[tokio::test]
async fn a_run_fails_when_retries_are_used_up() {
    let bad = || Answer::Status(500, vec![], "{\"error\": {\"message\": \"broken\"}}");
    let (outcome, _, asked) = go("openai", vec![bad(), bad(), bad(), bad()], None).await;
    assert_eq!(asked, 3, "two repeats");
    let expected = "model failed: openai/test-model did not answer: 500: broken";
    assert!(matches!(&outcome, Outcome::Failed { message, .. } if message == expected), "{outcome:?}");
    let refused = Answer::Status(400, vec![], "no");
    assert_eq!(go("anthropic", vec![refused], None).await.2, 1, "a refusal is not repeated");
}

#[tokio::test]
async fn cancels_while_the_provider_hangs() {
    for wire in WIRES {
        let (outcome, output, asked) = go(wire, vec![Answer::Hang("so far")], Some("so far")).await;
        assert!(matches!(outcome, Outcome::Stopped { .. }), "{wire} {outcome:?}");
        assert_eq!((output.as_str(), asked), ("so far", 1));
    }
}

#[tokio::test]
async fn a_fallback_model_answers_at_once_and_during_the_cooldown() {
    let slow = FakeProvider::start(vec![Answer::Status(429, vec![("retry-after", "60")], "slow down")]).await;
    let missing = || Answer::Status(404, vec![], "no such model");
    let gone = FakeProvider::start(vec![missing(), missing()]).await;
    let good = FakeProvider::start(vec![two_calls(), Answer::text(&["here"])]).await;
    let runner = json!({"models": [settings("openai", &slow)]});
    let fallback = json!({"models": [settings("anthropic", &gone), settings("openai", &good)], "retries": 1});
    let team = team(&[("a", &[], json!({"kind": runner, "fallback": fallback}))]);
    let mut world = world(&json!({}));
    world.ports.models = Arc::new(models());
    let opening = Opening::Conversation { messages: vec![Message::user("hello")] };
    let assignment = testing::assignment(team, "a", opening);
    let outcome = run(assignment, world.ports.clone(), CancellationToken::new()).await;
    assert!(matches!(&outcome, Outcome::Completed { result, .. } if result == "here"), "{outcome:?}");
    assert_eq!([&slow, &gone, &good].map(|provider| provider.asked().len()), [1, 2, 2]);
}

#[tokio::test]
async fn the_responses_wire() {
    let provider = FakeProvider::start(vec![
        two_calls(),
        Answer::text(&["done"]),
        Answer::Cut("half"),
        Answer::ErrorInside("half", "server_error"),
    ])
    .await;
    let mut settings = settings("openai", &provider);
    settings.api = Api::OpenaiResponses;
    settings.provider_opts.insert("api_type".into(), json!("openai_responses"));
    let models = models();
    let ask = async |request: &ModelRequest| stream(&models, &settings, request, &Deltas::default()).await;
    let mut request = hello();
    let message = ask(&request).await.unwrap();
    assert_eq!(message.text, "both at once");
    assert_eq!(message.tool_calls[0].arguments, "{\"thought\": \"ä\"}");
    assert_eq!(message.usage, Usage { input_tokens: 31, cached_tokens: 12, output_tokens: 17, turns: 1 });
    request.messages.push(Message::assistant(message).into());
    for call_id in ["c1", "c2"] {
        request.messages.push(result(call_id, "think", "ok").into());
    }
    assert_eq!(ask(&request).await.unwrap().text, "done");
    for _ in 0..2 {
        let error = ask(&request).await.unwrap_err();
        assert!(matches!(error, ModelError::Transient { .. }), "{error:?}");
    }
    let body = &provider.asked()[1].body;
    let kinds: Vec<&str> = body["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().or(item["role"].as_str()).unwrap())
        .collect();
    let calls = ["function_call", "function_call", "function_call_output", "function_call_output"];
    assert_eq!(kinds[..3], ["system", "system", "user"]);
    assert_eq!(kinds[kinds.len() - 4..], calls);
    assert!(body.get("reasoning").is_none() && body.get("include").is_none(), "{body}");
}

#[tokio::test]
async fn the_form_of_the_answer_and_the_thinking_are_asked_for() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
        "additionalProperties": false});
    let form = json!({"name": "count", "description": "a count", "strict": true, "schema": schema});
    let asked_of = async |wire: &str, budget: ThinkingBudget| {
        let provider = FakeProvider::start(vec![Answer::text(&["{}"])]).await;
        let mut settings = settings(wire, &provider);
        settings.thinking_budget = Some(budget);
        // An effort is only sent to models that take one.
        if wire == "openai" {
            settings.model = "o3".to_owned();
        }
        let request = ModelRequest { form: Some(form.clone()), ..hello() };
        stream(&models(), &settings, &request, &Deltas::default()).await.unwrap();
        provider.asked()[0].body.clone()
    };
    let body = asked_of("openai", ThinkingBudget::Effort("low".into())).await;
    assert_eq!(body["response_format"]["json_schema"]["name"], "count");
    assert_eq!(body["response_format"]["json_schema"]["schema"]["properties"]["n"]["type"], "integer");
    assert_eq!(body["reasoning_effort"], "low");
    let body = asked_of("anthropic", ThinkingBudget::Tokens(2048)).await;
    assert!(body.to_string().contains(r#""n":{"type":"integer"}"#), "{body}");
    assert_eq!(body["thinking"]["budget_tokens"], 2048, "{body}");
}

#[tokio::test]
async fn the_settings_of_the_file_reach_the_provider() {
    let asked_of = async |wire: &str| {
        let provider = FakeProvider::start(vec![Answer::text(&["hello"])]).await;
        let mut settings = settings(wire, &provider);
        settings.max_tokens = Some(77);
        settings.temperature = Some(0.25);
        settings.top_p = Some(0.5);
        settings.frequency_penalty = Some(0.75);
        settings.presence_penalty = Some(-0.5);
        settings.parallel_tool_calls = Some(false);
        settings.track_usage = Some(false);
        // `token_key: OTHER_KEY`.
        settings.token_keys = vec!["OTHER_KEY".to_owned()];
        let environment = BTreeMap::from([("OTHER_KEY".to_owned(), "sesame".to_owned())]);
        rustls::crypto::ring::default_provider().install_default().ok();
        let models = ProviderModels::new(Environment::new(environment, "/".into())).unwrap();
        let answer = stream(&models, &settings, &hello(), &Deltas::default()).await.unwrap();
        (provider.asked()[0].body.clone(), answer.usage)
    };
    let (body, usage) = asked_of("openai").await;
    let sent = |key: &str| body[key].clone();
    assert_eq!([sent("temperature"), sent("top_p")], [json!(0.25), json!(0.5)]);
    assert_eq!([sent("frequency_penalty"), sent("presence_penalty")], [json!(0.75), json!(-0.5)]);
    assert_eq!(sent("parallel_tool_calls"), false);
    assert!(body.to_string().contains("77"), "{body}");
    assert_eq!(usage.input_tokens, 0, "usage is not tracked");
    let (body, _) = asked_of("anthropic").await;
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(77), &json!(0.25)));
    assert!(body.get("frequency_penalty").is_none(), "{body}");
}

/// The result of a call that did not fail.
fn result(call_id: &str, name: &str, text: &str) -> Message {
    let (call_id, name, text) = (call_id.into(), name.into(), text.into());
    Message::tool_result(ToolResult { call_id, name, text, images: Vec::new(), is_error: false })
}
