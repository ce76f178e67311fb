//! A file system that hangs costs a job its calls, and nothing else.

use std::fs;

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
  skilled: {model: scripted/any, description: d, instruction: i, skills: true}
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

#[test]
fn jobs_whose_skills_are_on_such_a_file_system_end_in_time_and_leave_their_worker_to_others() {
    let (_redis, mut state) = StateFolder::with_redis();
    fs::create_dir_all(state.path("shared/.agents")).unwrap();
    let Some(hung) = HungMount::at(&state.path("shared/.agents/skills")) else { return };
    let never = json!({"text": "never"});
    Team::write(&mut state, &json!({"skilled": [never], "quick": [{"text": "done"}]}));
    let team = state.file("files.yaml", TEAM);
    let shared = state.path("shared").display().to_string();
    let _worker = state.worker(&["--work-dir", &shared, "--shared-work-dir"]);
    // More than the worker's runtime has threads.
    let late: Vec<String> =
        (0..8).map(|_| state.dispatch(&[&team, "skilled", "go", "--timeout", "2s"])).collect();
    let neighbour = state.dispatch(&[&team, "quick", "go"]);
    assert_eq!(state.until_status(&neighbour, "completed")["result"], "done");
    for id in late {
        let view = state.until_status(&id, "failed");
        assert_eq!(view["cause"], "deadline", "{view}");
    }
    drop(hung);
}
