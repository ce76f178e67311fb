//! The tool contract as a model sees it, over the APIs of OpenAI and Anthropic.

use legwork_tests::programs::StateFolder;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
use serde_json::Value;
use serde_json::json;

/// A team whose models are from one provider.
fn team(provider: &str) -> String {
    format!(
        "agents:
  root:
    model: {provider}/test
    instruction: Coordinate the team.
    sub_agents: [helper]
    toolsets: [{{type: background_agents}}]
  helper:
    model: {provider}/test
    description: Helps.
    instruction: You help.
"
    )
}

/// The texts of all tool results in a request of either API.
fn tool_results(body: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    for message in body["messages"].as_array().unwrap() {
        if message["role"] == "tool" {
            texts.push(text_of(&message["content"]));
        }
        for part in message["content"].as_array().into_iter().flatten() {
            if part["type"] == "tool_result" {
                texts.push(text_of(&part["content"]));
            }
        }
    }
    texts
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str().unwrap_or_default()).collect(),
        other => other.to_string(),
    }
}

/// The replies of the models: the helper answers, the root calls one tool after the other.
fn choose(body: &Value) -> Answer {
    let whole = body.to_string();
    if whole.contains("You help.") {
        return Answer::text(&["It is ", "forty-two."]);
    }
    let results = tool_results(body);
    let id =
        results.iter().find_map(|text| Some(&text[text.find("agent_task_")?..][..47])).unwrap_or_default();
    let one = |name: &'static str, arguments: Value| {
        let arguments: &'static str = arguments.to_string().leak();
        let half = arguments.len() / 2;
        let call = Call { id: "call", name, arguments: vec![&arguments[..half], &arguments[half..]] };
        Answer::Reply { reasoning: None, text: vec!["Next."], calls: vec![call] }
    };
    match results.len() {
        0 => one("list_background_agents", json!({})),
        1 => one("run_background_agent", json!({"agent": "", "task": "x", "expected_output": null})),
        2 => one("run_background_agent", json!({"agent": "helper", "task": ""})),
        3 => one("run_background_agent", json!({"agent": "stranger", "task": "x"})),
        4 => one(
            "run_background_agent",
            json!({"agent": "helper", "task": "What is it?", "expected_output": "A number."}),
        ),
        5 => one("wait_background_agents", json!({"task_ids": [id, "agent_task_none"], "timeout": 20})),
        6 => one("list_background_agents", json!({})),
        7 => one("view_background_agent", json!({"task_id": id})),
        8 => one("stop_background_agent", json!({"task_id": id})),
        9 => one("view_background_agent", json!({"task_id": "agent_task_none"})),
        _ => Answer::text(&["All done."]),
    }
}

fn scenario(provider: &str) -> (String, Value) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(choose));
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_API_KEY", "sk-secret");
    state.set("ANTHROPIC_API_KEY", "sk-secret");
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("ANTHROPIC_BASE_URL", &fake.url);
    let file = state.file("team.yaml", team(provider));
    let _worker = state.worker(&[]);
    let output = state.legwork(["run", &file, "Ask the helper."]);
    assert_eq!(output.status, 0, "{output:?}");
    let requests = fake.asked();
    let last = requests.iter().rev().find(|request| !request.body.to_string().contains("You help.")).unwrap();
    let id = state.legwork(["list", "--json"]).json_lines()[0]["id"].as_str().unwrap().to_owned();
    let texts = tool_results(&last.body).join("\n=====\n").replace(&id, "<id>");
    let texts = texts.lines().map(without_runtime).collect::<Vec<_>>().join("\n");
    let helper = requests.iter().find(|request| request.body.to_string().contains("You help.")).unwrap();
    (texts, helper.body.clone())
}

/// Replaces a job's runtime, which differs from run to run.
fn without_runtime(line: &str) -> String {
    match line.find("Runtime: ") {
        Some(at) => format!("{}Runtime: <duration>", &line[..at]),
        None => line.to_owned(),
    }
}

/// JSON with sorted keys: the default order depends on features that other crates of the build enable.
fn pretty(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(sorted).collect(),
            Value::Object(map) => {
                let mut pairs: Vec<_> = map.iter().collect();
                pairs.sort_by_key(|(key, _)| *key);
                pairs.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
            }
            other => other.clone(),
        }
    }
    serde_json::to_string_pretty(&sorted(value)).unwrap()
}

#[test]
fn the_tools_texts_over_openais_wire() {
    let (texts, helper) = scenario("openai");
    insta::assert_snapshot!("tool_texts", texts);
    insta::assert_snapshot!("helper_openai", pretty(&helper["messages"]));
}

#[test]
fn the_tools_texts_over_anthropics_wire() {
    let (texts, helper) = scenario("anthropic");
    insta::assert_snapshot!("tool_texts", texts);
    let messages = json!({"system": helper["system"], "messages": helper["messages"]});
    insta::assert_snapshot!("helper_anthropic", pretty(&messages));
}

#[test]
fn a_persistent_rate_limit_fails_the_job_with_its_cause() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = runtime
        .block_on(FakeProvider::choosing(|_| Answer::Status(429, vec![("retry-after", "0")], "slow down")));
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_API_KEY", "sk-secret");
    state.set("OPENAI_BASE_URL", &fake.url);
    let file = state.file("team.yaml", team("openai"));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "helper", "help"]);
    let view = state.until_status(&id, "failed");
    assert_eq!(view["cause"], "provider_error", "{view}");
    assert!(view["error"].as_str().unwrap().contains("429"), "{view}");
    assert!(!view.to_string().contains("sk-secret"), "{view}");
}
