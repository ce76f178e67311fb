//! What the files of an agent can do to its worker and to the jobs beside it: nothing.

use std::process::Command;
use std::process::Stdio;

use legwork_tests::programs::StateFolder;
use serde_json::json;

use crate::team::calls;

/// Agents whose tools read and write files.
const TEAM: &str = "
agents:
  files: {model: scripted/any, instruction: i, toolsets: [{type: filesystem}]}
  innocent: {model: scripted/any, instruction: i, toolsets: [{type: shell}]}
";

/// The address space of the worker: it starts with less than half of it.
const MAX_MEMORY: &str = "4194304";

#[test]
fn a_worker_with_little_memory_survives_every_file_that_an_agent_names() {
    let (_redis, mut state) = StateFolder::with_redis();
    let long_line = state.path("long");
    let file = std::fs::File::create(&long_line).unwrap();
    // Sparse: it takes no room on the disk.
    file.set_len(3 << 30).unwrap();
    let long_line = long_line.display().to_string();
    let edits = json!([{"oldText": "a", "newText": "b"}]);
    let attacks = [
        calls("edit_file", &json!({"path": "/dev/zero", "edits": edits})),
        calls("read_file", &json!({"path": "/proc/self/maps"})),
        calls("read_file", &json!({"path": "/dev/zero"})),
        calls("edit_file", &json!({"path": long_line, "edits": edits})),
        calls("search_files_content", &json!({"path": long_line, "query": "needle"})),
        calls("read_multiple_files", &json!({"paths": vec!["/dev/zero"; 400]})),
    ];
    let mut attacker: Vec<_> = attacks.into();
    attacker.push(json!({"text": "survived"}));
    let script = json!({"agents": {
        "files": attacker,
        "innocent": [calls("shell", &json!({"cmd": "sleep 1; echo fine"})), {"text": "{{result:shell}}"}],
    }});
    let script = state.file("script.json", script.to_string());
    state.set(legwork_common::variables::SCRIPT, &script);
    let team = state.file("team.yaml", TEAM);
    let mut limited = state.other_program("sh");
    let worker = legwork_tests::programs::program_path("legwork-worker");
    limited.args(["-c", "ulimit -v $1; exec $2", "sh", MAX_MEMORY, worker.to_str().unwrap()]);
    let mut limited = spawn(limited);
    let attack = state.dispatch(&[&team, "files", "go"]);
    let innocent = state.dispatch(&[&team, "innocent", "go"]);
    assert_eq!(state.until_status(&innocent, "completed")["result"], "fine\n");
    let view = state.until_status(&attack, "completed");
    assert_eq!((&view["result"], &view["attempt"]), (&json!("survived"), &json!(1)), "{view}");
    limited.kill().unwrap();
    limited.wait().unwrap();
}

fn spawn(mut command: Command) -> std::process::Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
