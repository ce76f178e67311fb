//! `run --record` against a provider, and a replay of the record without one.

use legwork_tests::programs::StateFolder;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
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

/// The root dispatches, waits for the job and ends. The counter's reply contains an API key, which must not be recorded.
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
            let result = messages.last().unwrap()["content"].as_str().unwrap();
            let id = result.lines().next().unwrap().rsplit(' ').next().unwrap();
            call("wait_background_agents", json!({"task_ids": [id]}).to_string())
        }
        _ => Answer::text(&["It counted."]),
    }
}

/// The events of a run without those that differ from run to run.
fn stable_events(state: &StateFolder, arguments: &[&str]) -> Vec<String> {
    let output = state.legwork(["run", "--json"].iter().chain(arguments));
    assert_eq!(output.status, 0, "{output:?}");
    let stable = |event: &Value| match event["event"].as_str().unwrap() {
        "output" | "delivered" | "completed" => Some(event.to_string()),
        "tool" => Some(format!("{} {}", event["name"], event["turn"])),
        _ => None,
    };
    output.json_lines().iter().filter_map(stable).collect()
}

#[test]
fn a_replay_gives_the_same_run_and_no_key_is_recorded() {
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(answer));
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("ANTHROPIC_BASE_URL", &fake.url);
    for (name, value) in KEYS {
        state.set(name, value);
    }
    let team = state.file("team.yaml", TEAM);
    let record = state.path("record.json").display().to_string();
    let first = {
        let _worker = state.worker(&[]);
        stable_events(&state, &["--record", &record, &team, "Let it count"])
    };
    let requests = fake.asked().len();
    let written = std::fs::read_to_string(&record).unwrap();
    assert!(!written.contains("sesame"), "{written}");
    assert!(written.contains("[hidden: OPENAI_API_KEY]") && !written.contains("agent_task_"), "{written}");

    let _worker = state.worker(&["--script", &record]);
    let second = stable_events(&state, &["--script", &record, &team, "Let it count"]);
    let hidden = |line: &String| line.replace("sesame-one", "[hidden: OPENAI_API_KEY]");
    assert_eq!(second, first.iter().map(hidden).collect::<Vec<_>>());
    assert_eq!(fake.asked().len(), requests, "the replay sent no request");

    let missing = state.path("nowhere/record.json").display().to_string();
    let output = state.legwork(["run", "--record", &missing, &team, "hello"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("cannot write"), "{}", output.stderr);
}
