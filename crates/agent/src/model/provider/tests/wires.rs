//! The wires of Google and Bedrock, and the providers that speak OpenAI's language elsewhere.

use super::*;
use crate::message::ToolCall;

/// Keys of every provider.
const KEYS: [&str; 23] = [
    "GOOGLE_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AZURE_API_KEY",
    "MISTRAL_API_KEY",
    "XAI_API_KEY",
    "NEBIUS_API_KEY",
    "REQUESTY_API_KEY",
    "MINIMAX_API_KEY",
    "NVIDIA_API_KEY",
    "OPENROUTER_API_KEY",
    "BASETEN_API_KEY",
    "OVH_AI_ENDPOINTS_ACCESS_TOKEN",
    "GROQ_API_KEY",
    "FIREWORKS_API_KEY",
    "DEEPSEEK_API_KEY",
    "CEREBRAS_API_KEY",
    "TOGETHER_API_KEY",
    "HF_TOKEN",
    "MOONSHOT_API_KEY",
    "AI_GATEWAY_API_KEY",
    "CLOUDFLARE_API_TOKEN",
    "GITHUB_TOKEN",
    "OPENCODE_API_KEY",
];

fn models() -> ProviderModels {
    rustls::crypto::ring::default_provider().install_default().ok();
    let keys = KEYS.map(|key| (key.to_owned(), "sesame".to_owned()));
    ProviderModels::new(Environment::new(BTreeMap::from(keys), "/".into())).unwrap()
}

/// A model of a built-in provider, at this address.
fn at(provider: &str, model: &str, url: &str) -> ModelSettings {
    // Azure has no address of its own, so it cannot be named inline.
    let inline = ModelSettings::inline(provider, model);
    let mut settings = inline.unwrap_or_else(|| ModelSettings {
        provider: provider.to_owned(),
        token_keys: vec!["AZURE_API_KEY".to_owned()],
        ..ModelSettings::inline("openai", model).unwrap()
    });
    settings.base_url = Some(url.to_owned());
    settings
}

async fn ask(
    settings: &ModelSettings,
    request: &ModelRequest,
) -> Result<(AssistantMessage, String), ModelError> {
    let deltas = Deltas::default();
    let message = stream(&models(), settings, request, &deltas).await?;
    let mut text = String::new();
    for delta in deltas.left() {
        if let Delta::Text(piece) = delta {
            text.push_str(&piece);
        }
    }
    Ok((message, text))
}

fn read(call: &ToolCall) -> Value {
    serde_json::from_str(&call.arguments).unwrap()
}

/// A turn with two calls, and the next one; the body of the second request.
async fn two_turns(settings: &ModelSettings, provider: &FakeProvider, cached: u64) -> Value {
    let mut request = hello();
    let (message, streamed) = ask(settings, &request).await.unwrap();
    assert_eq!((message.text.as_str(), streamed.as_str()), ("both at once", "both at once"));
    let calls: Vec<_> =
        message.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str(), read(call))).collect();
    assert_eq!(calls, [("c1", "think", json!({"thought": "ä"})), ("c2", "list", json!({}))]);
    let usage = Usage { input_tokens: 31, cached_tokens: cached, output_tokens: 17, turns: 1 };
    assert_eq!(message.usage, usage);
    assert_eq!(message.reasoning.as_deref(), Some("hm"));
    request.messages.push(Message::assistant(message).into());
    for (id, name, text) in [("c1", "think", "one"), ("c2", "list", "two")] {
        request.messages.push(result(id, name, text).into());
    }
    assert_eq!(ask(settings, &request).await.unwrap().0.text, "done");
    provider.asked()[1].body.clone()
}

#[tokio::test]
async fn gemini_by_key_with_its_signed_calls() {
    let provider = FakeProvider::start(vec![two_calls(), Answer::text(&["done"])]).await;
    let settings = at("google", "gemini-2.5-flash", &provider.url);
    let body = two_turns(&settings, &provider, 12).await;
    let asked = &provider.asked()[0];
    assert_eq!(asked.path, "/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(asked.headers["x-goog-api-key"], "sesame");
    assert!(asked.body["systemInstruction"].to_string().contains("be brief"), "{}", asked.body);
    assert_eq!(asked.body["tools"][0]["functionDeclarations"][0]["name"], "think");
    let contents = body["contents"].as_array().unwrap();
    let text = contents[1].to_string();
    assert!(text.contains("\"functionCall\"") && text.contains("\"thoughtSignature\":\"signed\""), "{text}");
    let results = contents[2].to_string();
    assert!(results.matches("functionResponse").count() == 2 && results.contains("one"), "{results}");
}

#[tokio::test]
async fn gemini_on_vertex_takes_an_access_token() {
    let provider = FakeProvider::start(vec![Answer::text(&["hello"])]).await;
    let mut settings = at("google", "gemini-2.5-flash", &provider.url);
    settings.provider_opts.insert("project".into(), json!("p"));
    settings.provider_opts.insert("location".into(), json!("europe-west1"));
    let refused = ask(&settings, &hello()).await.unwrap_err().to_string();
    assert!(refused.contains("takes no API key: name with `token_key`"), "{refused}");
    settings.token_keys = vec!["MISTRAL_API_KEY".to_owned()];
    assert_eq!(ask(&settings, &hello()).await.unwrap().0.text, "hello");
    let asked = &provider.asked()[0];
    assert_eq!(asked.headers["authorization"], "Bearer sesame");
    assert!(asked.path.starts_with("/v1/publishers/google/models/gemini-2.5-flash:stream"), "{}", asked.path);
}

#[tokio::test]
async fn bedrock_by_token_with_its_signed_thoughts() {
    let provider = FakeProvider::start(vec![two_calls(), Answer::text(&["done"])]).await;
    let mut settings = at("amazon-bedrock", "global.anthropic.claude-sonnet-4-5:0", &provider.url);
    // The place by the option that is Bedrock's own.
    let url = settings.base_url.take().unwrap();
    settings.provider_opts.insert("endpoint_url".into(), json!(url));
    let body = two_turns(&settings, &provider, 12).await;
    let asked = &provider.asked()[0];
    assert_eq!(asked.path, "/v1/model/global.anthropic.claude-sonnet-4-5%3A0/converse-stream");
    assert_eq!(asked.headers["authorization"], "Bearer sesame");
    assert!(asked.body["system"].to_string().contains("be brief"), "{}", asked.body);
    let messages = body["messages"].as_array().unwrap();
    let reply = messages[1].to_string();
    assert!(reply.contains("\"signature\":\"signed\"") && reply.contains("\"toolUseId\":\"c1\""), "{reply}");
    assert_eq!(messages[2].to_string().matches("toolResult").count(), 2, "{}", messages[2]);
}

#[tokio::test]
async fn bedrock_by_access_key() {
    let provider = FakeProvider::start(vec![Answer::text(&["hello"])]).await;
    let settings = at("amazon-bedrock", "nova", &provider.url);
    let ask = async |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let models = ProviderModels::new(Environment::new(variables.collect(), "/".into())).unwrap();
        stream(&models, &settings, &hello(), &Deltas::default()).await
    };
    let (id, secret) = (("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hidden"));
    assert_eq!(ask(&[id, secret, ("AWS_REGION", "eu-west-1")]).await.unwrap().text, "hello");
    let key = provider.asked()[0].headers["authorization"].to_str().unwrap().to_owned();
    assert!(key.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{key}");
    assert!(
        key.contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date"),
        "{key}"
    );
    let error = ask(&[id]).await.unwrap_err().to_string();
    let expected = "agent `a` needs the environment variable AWS_SECRET_ACCESS_KEY for amazon-bedrock/nova, and it is not set";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn classifies_failures_of_google_and_bedrock() {
    for (provider, model) in [("google", "gemini"), ("amazon-bedrock", "nova")] {
        let fake = FakeProvider::start(vec![
            Answer::Cut("half"),
            Answer::ErrorInside("half", "throttlingException"),
            Answer::Status(429, vec![("retry-after", "7")], "{\"error\": {\"message\": \"slow down\"}}"),
            Answer::Status(403, vec![], "{\"message\": \"bad key\"}"),
            Answer::Status(503, vec![], "overloaded"),
        ])
        .await;
        let settings = at(provider, model, &fake.url);
        let mut errors = Vec::new();
        for _ in 0..5 {
            errors.push(ask(&settings, &hello()).await.unwrap_err());
        }
        for at in [0, 1, 4] {
            let retried = matches!(
                errors[at],
                ModelError::Transient { .. } | ModelError::Overloaded { .. } | ModelError::RateLimited { .. }
            );
            assert!(retried, "{provider} {at} {:?}", errors[at]);
        }
        let wait = Some(Duration::from_secs(7));
        assert!(
            matches!(&errors[2], ModelError::RateLimited { retry_after, .. } if *retry_after == wait),
            "{errors:?}"
        );
        assert_eq!(errors[3].to_string(), format!("{provider}/{model} refused: 403: bad key"));
    }
}

#[tokio::test]
async fn calls_that_a_model_wrote_as_text_are_calls_on_every_wire() {
    let written = "<tool_call>{\"name\": \"think\", \"arguments\": {\"thought\": \"x\"}}</tool_call>";
    let keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"];
    let keys = keys.map(|key| (key.to_owned(), "sesame".to_owned()));
    rustls::crypto::ring::default_provider().install_default().ok();
    let models = ProviderModels::new(Environment::new(BTreeMap::from(keys), "/".into())).unwrap();
    for (provider, api) in [
        ("openai", Api::OpenaiChat),
        ("openai", Api::OpenaiResponses),
        ("anthropic", Api::Anthropic),
        ("google", Api::Google),
        ("amazon-bedrock", Api::AmazonBedrock),
    ] {
        let answers = [written, "Use <tool_call>", written].map(|text| Answer::text(&[text]));
        let fake = FakeProvider::start(answers.into()).await;
        let mut settings = at(provider, "m", &fake.url);
        settings.api = api;
        if api == Api::OpenaiResponses {
            settings.provider_opts.insert("api_type".into(), json!("openai_responses"));
        }
        let ask = async |request: ModelRequest| {
            stream(&models, &settings, &request, &Deltas::default()).await.unwrap()
        };
        let called = ask(hello()).await;
        assert_eq!((called.tool_calls.len(), called.text.as_str()), (1, ""), "{provider} {api:?}");
        assert_eq!(
            (called.tool_calls[0].name.as_str(), read(&called.tool_calls[0])),
            ("think", json!({"thought": "x"}))
        );
        assert!(ask(hello()).await.tool_calls.is_empty(), "{provider} {api:?}: words beside it");
        let form = json!({"name": "answer", "schema": {"type": "object", "properties": {}}});
        let formed = ask(ModelRequest { form: Some(form), ..hello() }).await;
        assert!(formed.tool_calls.is_empty(), "{provider} {api:?}: the answer has a form");
    }
}

#[tokio::test]
async fn azure_by_deployment_version_and_key() {
    let answers = (0..3).map(|_| Answer::text(&["hello"])).collect();
    let provider = FakeProvider::start(answers).await;
    let resource = provider.url.trim_end_matches("/v1").to_owned();
    let mut settings = at("azure", "gpt-4.1", &resource);
    settings.api = Api::OpenaiChat;
    ask(&settings, &hello()).await.unwrap();
    settings.provider_opts.insert("api_version".into(), json!("2024-12-01-preview"));
    ask(&settings, &hello()).await.unwrap();
    settings.base_url = Some(format!("{resource}/openai/deployments/mine"));
    ask(&settings, &hello()).await.unwrap();
    let asked = provider.asked();
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/openai/deployments/gpt-41/chat/completions?api-version=2024-10-21",
            "/openai/deployments/gpt-41/chat/completions?api-version=2024-12-01-preview",
            "/openai/deployments/mine/chat/completions?api-version=2024-12-01-preview",
        ]
    );
    let by_key = |asked: &legwork_tests::provider::Asked| {
        asked.headers["api-key"] == "sesame" && !asked.headers.contains_key("authorization")
    };
    assert!(asked.iter().all(by_key));
}

#[tokio::test]
async fn providers_compatible_with_chat_completions() {
    for (provider, has_key) in [
        ("mistral", true),
        ("xai", true),
        ("nebius", true),
        ("requesty", true),
        ("minimax", true),
        ("nvidia", true),
        ("openrouter", true),
        ("baseten", true),
        ("ovhcloud", true),
        ("groq", true),
        ("fireworks", true),
        ("deepseek", true),
        ("cerebras", true),
        ("together", true),
        ("huggingface", true),
        ("moonshot", true),
        ("vercel", true),
        ("cloudflare-workers-ai", true),
        ("cloudflare-ai-gateway", true),
        ("github-copilot", true),
        ("opencode-zen", true),
        ("opencode-go", true),
        ("ollama", false),
        ("dmr", false),
    ] {
        let fake = FakeProvider::start(vec![two_calls(), Answer::text(&["done"])]).await;
        let settings = at(provider, "some/model", &fake.url);
        let mut request = hello();
        let (message, streamed) = ask(&settings, &request).await.unwrap();
        assert_eq!(
            (streamed.as_str(), message.tool_calls[0].name.as_str()),
            ("both at once", "think"),
            "{provider}"
        );
        assert_eq!(message.usage.input_tokens, 31, "{provider}");
        request.messages.push(Message::assistant(message).into());
        for call_id in ["c1", "c2"] {
            request.messages.push(result(call_id, "think", "ok").into());
        }
        assert_eq!(ask(&settings, &request).await.unwrap().0.text, "done", "{provider}");
        let asked = &fake.asked()[0];
        assert_eq!(asked.path, "/v1/chat/completions");
        assert_eq!(asked.body["model"], "some/model");
        let key = if has_key { "Bearer sesame" } else { "Bearer none" };
        assert_eq!(asked.headers["authorization"], key, "{provider}");
    }
}

#[tokio::test]
async fn thinking_between_calls_is_asked_for() {
    let provider = FakeProvider::start(vec![Answer::text(&["hello"])]).await;
    let mut settings = settings("anthropic", &provider);
    settings.provider_opts.insert("interleaved_thinking".into(), json!(true));
    stream(&super::models(), &settings, &hello(), &Deltas::default()).await.unwrap();
    let beta = provider.asked()[0].headers["anthropic-beta"].to_str().unwrap().to_owned();
    assert!(beta.contains("interleaved-thinking"), "{beta}");
}
