//! Cost of long jobs: traffic to Redis is linear in the number of turns, and a crash near the end costs at most one turn.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

/// The context size is large enough that the conversation is never compacted.
const TEAM: &str = "
models:
  large: {provider: scripted, model: any, provider_opts: {context_size: 100000000}}
agents:
  root: {model: large, instruction: Coordinate., sub_agents: [long]}
  long: {model: large, description: Works long., instruction: Work., max_iterations: 0, toolsets: [{type: filesystem}]}
";
/// Bytes of text per turn, about 200 tokens.
const TEXT_BYTES: usize = 800;

/// This many turns with text and a tool call. The last but one streams slowly, so that the worker can be killed in it.
fn turns(count: usize) -> Vec<Value> {
    let mut turns: Vec<Value> = (1..count)
        .map(|turn| {
            let text = format!("{:width$}", format!("turn{turn}."), width = TEXT_BYTES);
            json!({"text": text, "tool_calls": [{"name": "write_file", "arguments": {"path": "f", "content": turn.to_string()}}]})
        })
        .collect();
    let slow = format!("turn{}. {}", count - 1, "word ".repeat(TEXT_BYTES / 5));
    turns[count - 2]["text"] = json!(slow);
    turns[count - 2]["chunk_delay_ms"] = json!(5);
    turns.push(json!({"text": "done"}));
    turns
}

/// Counters of the Redis server. The number of all its commands grows with the time too, by heartbeats, and a busy machine takes
/// long.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Calls that append output or turns, without the first of an attempt: each asks how long the output is.
    appends: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Cost {
    fn of(redis: &Redis) -> Self {
        Self {
            appends: redis.calls("strlen"),
            bytes_in: redis.info("stats", "total_net_input_bytes"),
            bytes_out: redis.info("stats", "total_net_output_bytes"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            appends: self.appends - before.appends,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

/// Runs a job of this many turns and kills its worker in the last but one. Returns the cost until then and the cost after.
fn cost_of(count: usize) -> (Cost, Cost) {
    let redis = Redis::start();
    // Faster, and the number of commands and bytes is the same.
    assert_eq!(redis.command("CONFIG SET appendonly no"), "+OK");
    let mut state = StateFolder::on(&redis.url());
    let file = state.file("team.yaml", TEAM);
    let script = state.file("script.json", json!({"agents": {"long": turns(count)}}).to_string());
    state.set(variables::SCRIPT, &script);
    let mut first = state.worker(&[]);
    let before = Cost::of(&redis);
    let id = state.dispatch(&[&file, "long", "go"]);
    let mut follower = state.start_legwork(["view", &id, "--follow"]);
    follower.until_printed(&format!("turn{}. word", count - 1));
    first.kill();
    let whole = Cost::of(&redis).since(before);
    let _second = state.worker(&[]);
    let killed = Cost::of(&redis);
    // The follower gets only new output.
    assert_eq!(follower.wait_with_output().status, 0);
    let resumed = Cost::of(&redis).since(killed);
    let view = state.view(&id);
    assert_eq!((&view["attempt"], &view["usage"]["turns"]), (&json!(2), &json!(count)), "{}", view["error"]);
    let entries = state.legwork(["view", &id, "--transcript", "--json"]).json_lines();
    let replies = (1..=count).map(|turn| json!(turn));
    let recorded = entries.iter().filter(|entry| entry["entry"] == "reply");
    assert!(recorded.map(|entry| entry["turn"].clone()).eq(replies), "each turn is recorded once");
    assert_eq!(
        entries.len(),
        2 * count - 1,
        "each turn has a reply and a tool result, the last has only a reply"
    );
    let output = view["output"].as_str().unwrap();
    for turn in 1..count - 1 {
        assert_eq!(output.matches(&format!("turn{turn}.")).count(), 1, "turn {turn}");
    }
    (whole, resumed)
}

#[test]
fn cost_is_linear_in_turns_and_a_late_crash_repeats_one() {
    let (short, _) = cost_of(100);
    let (whole, resumed) = cost_of(1000);
    println!("{short:?}, {whole:?}, and after the crash {resumed:?}");
    // Ten times the turns. Quadratic cost would be a hundred times.
    assert!(whole.appends < 13 * short.appends && whole.bytes_in < 13 * short.bytes_in);
    // Each text is sent twice, as output and in the recorded reply. The rest is tool calls and overhead.
    let text_bytes = 1000 * TEXT_BYTES as u64;
    assert!(whole.bytes_in < 6 * text_bytes && whole.bytes_out < 6 * text_bytes, "{whole:?}");
    // The log is read once, and no part of it is written again.
    assert!(resumed.bytes_in < whole.bytes_in / 10 && resumed.bytes_out < 3 * text_bytes, "{resumed:?}");
}
