//! A run is recorded against a provider, and played again without one.

use legwork_tests::programs::StateFolder;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Runtime;

const TEAM: &str = "
agents:
  root:
    model: openai/gpt-4o
    instruction: Coordinate.
    sub_agents: [counter]
    toolsets: [{type: background_agents}]
  counter: {model: anthropic/claude, instruction: Count., description: Counts.}
";
const KEYS: [(&str, &str); 2] = [("OPENAI_API_KEY", "sesame-one"), ("ANTHROPIC_API_KEY", "sesame-two")];

/// The root dispatches, waits for what it is told the id of, and ends; the counter says a key that it should not know.
fn answer(body: &Value) -> Answer {
    let messages = body["messages"].as_array().unwrap();
    let call = |name: &'static str, arguments: String| Answer::Reply {
        reasoning: None,
        text: vec!["Well: {{result}}."],
        calls: vec![Call { id: "c", name, arguments: vec![arguments.leak()] }],
    };
    if body["model"] == "claude" {
        return Answer::text(&["one two ", "sesame-one"]);
    }
    let replies = messages.iter().filter(|message| message["role"] == "assistant").count();
    match replies {
        0 => call("run_background_agent", json!({"agent": "counter", "task": "Count"}).to_string()),
        1 => {
            let said = messages.last().unwrap()["content"].as_str().unwrap();
            let id = said.lines().next().unwrap().rsplit(' ').next().unwrap();
            call("wait_background_agents", json!({"task_ids": [id]}).to_string())
        }
        _ => Answer::text(&["It counted."]),
    }
}

/// The output, and what of the events does not differ from run to run.
fn course(state: &StateFolder, arguments: &[&str]) -> Vec<String> {
    let said = state.legwork(["run", "--json"].iter().chain(arguments));
    assert_eq!(said.status, 0, "{said:?}");
    let kept = |event: &Value| match event["event"].as_str().unwrap() {
        "output" | "delivered" | "completed" => Some(event.to_string()),
        "tool" => Some(format!("{} {}", event["name"], event["turn"])),
        _ => None,
    };
    said.objects().iter().filter_map(kept).collect()
}

#[test]
fn a_replay_gives_the_same_run_and_no_key_is_recorded() {
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(answer));
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("ANTHROPIC_BASE_URL", &fake.url);
    for (name, value) in KEYS {
        state.set(name, value);
    }
    let team = state.file("team.yaml", TEAM);
    let record = state.path("record.json").display().to_string();
    let first = {
        let _worker = state.worker(&[]);
        course(&state, &["--record", &record, &team, "Let it count"])
    };
    let asked = fake.asked().len();
    let written = std::fs::read_to_string(&record).unwrap();
    assert!(!written.contains("sesame"), "{written}");
    assert!(written.contains("[hidden: OPENAI_API_KEY]") && !written.contains("agent_task_"), "{written}");

    let _worker = state.worker(&["--script", &record]);
    let second = course(&state, &["--script", &record, &team, "Let it count"]);
    let hidden = |line: &String| line.replace("sesame-one", "[hidden: OPENAI_API_KEY]");
    assert_eq!(second, first.iter().map(hidden).collect::<Vec<_>>());
    assert_eq!(fake.asked().len(), asked, "the replay asked nobody");

    let nowhere = state.path("nowhere/record.json").display().to_string();
    let said = state.legwork(["run", "--record", &nowhere, &team, "hello"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("cannot write"), "{}", said.err);
}
