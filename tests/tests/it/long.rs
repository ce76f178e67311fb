//! A long job costs what its turns cost, and a crash near its end costs no more than a turn.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

/// The model takes all of it: nothing is summed up.
const TEAM: &str = "
models:
  patient: {provider: scripted, model: any, provider_opts: {context_size: 100000000}}
agents:
  root: {model: patient, instruction: Coordinate., sub_agents: [long]}
  long: {model: patient, description: Works long., instruction: Work., toolsets: [{type: filesystem}]}
";
/// Bytes of what each turn says: with the question before it about 200 tokens.
const SAID: usize = 800;

/// So many turns of words and a call; the one before the last takes long.
fn turns(count: usize) -> Vec<Value> {
    let mut turns: Vec<Value> = (1..count)
        .map(|turn| {
            let text = format!("{:width$}", format!("turn{turn}."), width = SAID);
            json!({"text": text, "tool_calls": [{"name": "write_file", "arguments": {"path": "f", "content": "x"}}]})
        })
        .collect();
    let slow = format!("turn{}. {}", count - 1, "word ".repeat(SAID / 5));
    turns[count - 2]["text"] = json!(slow);
    turns[count - 2]["chunk_delay_ms"] = json!(5);
    turns.push(json!({"text": "done"}));
    turns
}

/// What the server was sent, and what it did.
#[derive(Debug, Clone, Copy)]
struct Cost {
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Cost {
    fn of(redis: &Redis) -> Self {
        Self {
            commands: redis.info("stats", "total_commands_processed"),
            bytes_in: redis.info("stats", "total_net_input_bytes"),
            bytes_out: redis.info("stats", "total_net_output_bytes"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            commands: self.commands - before.commands,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

/// A job of so many turns whose worker is killed in the last but one: what it cost until then, and after.
fn cost_of(count: usize) -> (Cost, Cost) {
    let redis = Redis::start();
    // Quicker, and no less to write.
    assert_eq!(redis.say("CONFIG SET appendonly no"), "+OK");
    let mut state = StateFolder::on(&redis.url());
    let file = state.file("team.yaml", TEAM);
    let script = state.file("script.json", json!({"agents": {"long": turns(count)}}).to_string());
    state.set(variables::SCRIPT, &script);
    let mut first = state.worker(&[]);
    let before = Cost::of(&redis);
    let id = state.dispatch(&[&file, "long", "go"]);
    let mut follower = state.start_legwork(["view", &id, "--follow"]);
    follower.until_said(&format!("turn{}. word", count - 1));
    first.kill();
    let whole = Cost::of(&redis).since(before);
    let _second = state.worker(&[]);
    let killed = Cost::of(&redis);
    // The follower hears only what is new.
    assert_eq!(follower.end().status, 0);
    let resumed = Cost::of(&redis).since(killed);
    let view = state.view(&id);
    assert_eq!((&view["attempt"], &view["usage"]["turns"]), (&json!(2), &json!(count)), "{}", view["error"]);
    let entries = state.legwork(["view", &id, "--transcript", "--json"]).objects();
    let replies = (1..=count).map(|turn| json!(turn));
    let recorded = entries.iter().filter(|entry| entry["entry"] == "reply");
    assert!(recorded.map(|entry| entry["turn"].clone()).eq(replies), "each turn is recorded once");
    assert_eq!(entries.len(), 2 * count - 1, "a reply and a result each, but for the last");
    let output = view["output"].as_str().unwrap();
    for turn in 1..count - 1 {
        assert_eq!(output.matches(&format!("turn{turn}.")).count(), 1, "turn {turn}");
    }
    (whole, resumed)
}

#[test]
fn a_thousand_turns_cost_what_they_say_and_a_crash_at_their_end_one() {
    let (short, _) = cost_of(100);
    let (whole, resumed) = cost_of(1000);
    println!("{short:?}, {whole:?}, and after the crash {resumed:?}");
    // Ten times the turns; with the square it would be a hundred times.
    assert!(whole.commands < 13 * short.commands && whole.bytes_in < 13 * short.bytes_in);
    // What is said is output and a part of a reply; the rest is the names of what is called.
    let said = 1000 * SAID as u64;
    assert!(whole.bytes_in < 6 * said && whole.bytes_out < 6 * said, "{whole:?}");
    // The log is read once, and nothing of it is written again.
    assert!(resumed.bytes_in < whole.bytes_in / 10 && resumed.bytes_out < 3 * said, "{resumed:?}");
}
