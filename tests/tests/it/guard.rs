//! Whoever dies or stands still leaves no process of its jobs behind.

use std::fs;
use std::path::Path;

use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::lives;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::teams::Team;
use crate::teams::calls;

/// A shell with a child, deaf to SIGTERM where it is `deaf`; both write who they are into this file.
fn shell_with_child(file: &Path, deaf: bool) -> Value {
    let trap = if deaf { "trap '' TERM;" } else { "" };
    let file = file.display();
    let cmd = format!("{trap} sleep 300 & echo $$ $! > {file}.new; mv {file}.new {file}; wait; sleep 300");
    calls("shell", &json!({"cmd": cmd, "timeout": 300}))
}

/// The processes that wrote themselves down, all alive.
fn written_down(file: &Path) -> Vec<u32> {
    until("the shell runs", || file.exists());
    let pids: Vec<u32> =
        fs::read_to_string(file).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|&pid| lives(pid)), "{pids:?}");
    pids
}

fn until_gone(pids: &[u32]) {
    until("its processes are gone", || !pids.iter().any(|&pid| lives(pid)));
}

struct Fleet {
    state: StateFolder,
    worker: Program,
    pids: Vec<u32>,
    id: String,
    _redis: Redis,
}

/// A worker that runs a shell with a child, and holds the job.
fn fleet(deaf: bool) -> Fleet {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let file = state.path("pids");
    let script = json!({"shell": [shell_with_child(&file, deaf), {"text": "after: {{result:shell}}"}]});
    let team = Team::in_house(&mut state, &script);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let pids = written_down(&file);
    Fleet { state, worker, pids, id, _redis: redis }
}

#[test]
fn a_killed_worker_leaves_no_process_behind() {
    for deaf in [false, true] {
        let mut fleet = fleet(deaf);
        fleet.worker.kill();
        until_gone(&fleet.pids);
    }
}

#[test]
fn a_worker_that_stands_still_has_no_process_after_its_lease() {
    let fleet = fleet(false);
    fleet.worker.signal(Signal::STOP);
    until_gone(&fleet.pids);
    // Nobody else is there to take the job: awake again, the worker takes it back itself.
    fleet.worker.signal(Signal::CONT);
    let view = fleet.state.until_status(&fleet.id, "completed");
    assert!(view["result"].as_str().unwrap().contains("interrupted"), "{view}");
}

#[test]
fn a_worker_that_ends_takes_its_guard_with_it() {
    let mut fleet = fleet(false);
    let guard = fleet.worker.children();
    assert!(guard.len() >= 2, "a guard and a shell: {guard:?}");
    fleet.state.legwork(["stop", &fleet.id]).good();
    fleet.worker.signal(Signal::TERM);
    assert_eq!(fleet.worker.status(), 0);
    until_gone(&guard);
}

#[test]
fn a_command_that_its_guard_cannot_hear_of_does_not_begin() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let file = state.path("begun").display().to_string();
    let parent = std::process::id().to_string();
    for (program, why) in
        [("1", "the program that started it is gone"), (&parent, "the guard's pipe is closed")]
    {
        let said = state.legwork(["__guarded", "lease", program, "1", "7", "touch", &file]);
        assert_eq!(said.status, 126, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
        assert!(!Path::new(&file).exists());
    }
}

#[test]
fn a_killed_run_leaves_no_process_of_its_root_or_its_jobs_behind() {
    let mut state = StateFolder::embedded();
    let (root, job) = (state.path("root.pids"), state.path("job.pids"));
    let script = json!({
        "root": [
            calls("run_background_agent", &json!({"agent": "worker", "task": "t"})),
            shell_with_child(&root, false),
            {"text": "never"},
        ],
        "worker": [shell_with_child(&job, false), {"text": "never"}],
    });
    let script = state.file("script.json", json!({"agents": script}).to_string());
    let team = state.file(
        "team.yaml",
        "agents:
  root: {model: scripted/any, instruction: i, sub_agents: [worker], toolsets: [{type: background_agents}, {type: shell}]}
  worker: {model: scripted/any, description: d, instruction: i, toolsets: [{type: shell}]}
",
    );
    state.set(legwork_common::variables::SCRIPT, &script);
    let mut run = state.start_legwork(["run", &team, "go"]);
    let pids = [written_down(&root), written_down(&job)].concat();
    run.kill();
    until_gone(&pids);
}
