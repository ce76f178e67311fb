//! A program that is killed or frozen leaves no process of its jobs behind.

use std::fs;
use std::path::Path;

use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::is_alive;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// A shell with a child process that writes both process ids into this file. If `ignores_sigterm`, only SIGKILL ends them.
fn shell_with_child(file: &Path, ignores_sigterm: bool) -> Value {
    let trap = if ignores_sigterm { "trap '' TERM;" } else { "" };
    let file = file.display();
    let cmd = format!("{trap} sleep 300 & echo $$ $! > {file}.new; mv {file}.new {file}; wait; sleep 300");
    calls("shell", &json!({"cmd": cmd, "timeout": 300}))
}

/// Waits for the file and returns its two process ids, which must be alive.
fn recorded_pids(file: &Path) -> Vec<u32> {
    until("the shell runs", || file.exists());
    let pids: Vec<u32> =
        fs::read_to_string(file).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
    pids
}

fn until_gone(pids: &[u32]) {
    until("its processes are gone", || !pids.iter().any(|&pid| is_alive(pid)));
}

struct Fleet {
    state: StateFolder,
    worker: Program,
    pids: Vec<u32>,
    id: String,
    _redis: Redis,
}

/// A worker that runs a job with a shell and its child.
fn fleet(ignores_sigterm: bool) -> Fleet {
    let (redis, mut state) = StateFolder::with_redis();
    let file = state.path("pids");
    let script =
        json!({"shell": [shell_with_child(&file, ignores_sigterm), {"text": "after: {{result:shell}}"}]});
    let team = Team::write(&mut state, &script);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let pids = recorded_pids(&file);
    Fleet { state, worker, pids, id, _redis: redis }
}

#[test]
fn a_killed_worker_leaves_no_process_behind() {
    for ignores_sigterm in [false, true] {
        let mut fleet = fleet(ignores_sigterm);
        fleet.worker.kill();
        until_gone(&fleet.pids);
    }
}

#[test]
fn a_frozen_worker_has_no_process_after_its_lease() {
    let fleet = fleet(false);
    fleet.worker.signal(Signal::STOP);
    until_gone(&fleet.pids);
    // There is no other worker: once it continues, it reclaims the job itself.
    fleet.worker.signal(Signal::CONT);
    let view = fleet.state.until_status(&fleet.id, "completed");
    assert!(view["result"].as_str().unwrap().contains("interrupted"), "{view}");
}

#[test]
fn the_guard_exits_with_its_worker() {
    let mut fleet = fleet(false);
    let guard = fleet.worker.children();
    assert!(guard.len() >= 2, "a guard and a shell: {guard:?}");
    fleet.state.legwork(["stop", &fleet.id]).expect_success();
    fleet.worker.signal(Signal::TERM);
    assert_eq!(fleet.worker.wait(), 0);
    until_gone(&guard);
}

#[test]
fn a_command_that_cannot_be_registered_with_its_guard_does_not_start() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let file = state.path("started").display().to_string();
    let parent = std::process::id().to_string();
    for (program, why) in
        [("1", "the program that started it is gone"), (&parent, "it does not lead a process group")]
    {
        // As its own user, in no control group, without a sandbox.
        let restrictions = ["-", "0", "--"];
        let begin = ["__guarded", "lease", program, "no-such-guard"];
        let output = state.legwork([&begin[..], &restrictions, &["touch", &file]].concat());
        assert_eq!(output.status, 126, "{output:?}");
        assert!(output.stderr.contains(why), "{output:?}");
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
    let team = state.team_with_shells();
    state.set(legwork_common::variables::SCRIPT, &script);
    let mut run = state.start_legwork(["run", &team, "go"]);
    let pids = [recorded_pids(&root), recorded_pids(&job)].concat();
    run.kill();
    until_gone(&pids);
}
