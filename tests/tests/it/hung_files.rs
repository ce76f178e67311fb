//! A file system that hangs costs a job its calls, and nothing else.

use legwork_tests::hung_mount::HungMount;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Both read files.
const TEAM: &str = "
agents:
  hung: {model: scripted/any, description: d, instruction: i, toolsets: [{type: filesystem}]}
  quick: {model: scripted/any, description: d, instruction: i, toolsets: [{type: filesystem}]}
";

#[test]
fn jobs_end_in_time_although_their_calls_hang_and_so_does_their_worker() {
    let (_redis, mut state) = StateFolder::with_redis();
    let Some(hung) = HungMount::at(&state.path("hang")) else { return };
    let (there, never) = (state.file("there.txt", "here"), state.path("hang/file").display().to_string());
    // More calls than a run has threads.
    let all: Vec<Value> =
        (0..40).map(|_| json!({"name": "read_file", "arguments": {"path": never}})).collect();
    let script = json!({
        "hung": [{"text": "I read.", "tool_calls": all}, {"text": "never"}],
        "quick": [calls("read_file", &json!({"path": there})), {"text": "{{result:read_file}}"}],
    });
    Team::write(&mut state, &script);
    let team = state.file("files.yaml", TEAM);
    let mut worker = state.worker(&["--drain-timeout", "0s"]);
    let late = state.dispatch(&[&team, "hung", "go", "--timeout", "2s", "--retries", "3"]);
    let stopped = state.dispatch(&[&team, "hung", "go"]);
    let is_reading = |id: &str| state.view(id)["output"].as_str().unwrap_or_default().contains("I read.");
    until("the calls hang", || is_reading(&late) && is_reading(&stopped));
    let neighbour = state.dispatch(&[&team, "quick", "go"]);
    let view = state.until_status(&neighbour, "completed");
    assert!(view["result"].as_str().unwrap().contains("here"), "{view}");

    let view = state.until_status(&late, "failed");
    assert_eq!((&view["cause"], &view["attempt"]), (&json!("deadline"), &json!(1)), "{view}");
    state.legwork(["stop", &stopped]).expect_success();
    state.until_status(&stopped, "stopped");
    let other = state.dispatch(&[&team, "quick", "go"]);
    state.until_status(&other, "completed");
    // Threads that hang do not keep the program.
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0);
    drop(hung);
}
