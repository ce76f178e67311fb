//! How the session of a `legwork run` ends on a shared Redis with separate workers.

use std::path::Path;

use legwork_common::variables;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// A root that waits for a job, which waits for another job with a long-running command.
fn long_tree(sleep: &str) -> Value {
    let waits = calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"], "timeout": 3000}));
    json!({
        "root": [calls("run_background_agent", &json!({"agent": "nested", "task": "t"})), waits, {"text": "never"}],
        "nested": [calls("run_background_agent", &json!({"agent": "shell", "task": "t"})), waits, {"text": "never"}],
        "shell": [calls("shell", &json!({"cmd": format!("sleep {sleep}"), "timeout": 3000})), {"text": "never"}],
    })
}

/// A run whose command at the bottom of the tree is running.
struct Scene {
    state: StateFolder,
    worker: Program,
    run: Program,
    sleep: &'static str,
    _redis: Redis,
}

fn scene(sleep: &'static str, lease: &str) -> Scene {
    let (redis, mut state) = StateFolder::with_redis();
    state.set(variables::LEASE, lease);
    state.set(variables::OWNER_GRACE, lease);
    let team = Team::write(&mut state, &long_tree(sleep));
    let worker = state.worker(&[]);
    let run = state.start_legwork(["run", &team.file, "go"]);
    until("the command runs", || !processes(&format!("sleep {sleep}")).is_empty());
    Scene { state, worker, run, sleep, _redis: redis }
}

impl Scene {
    fn jobs(&self) -> Vec<Value> {
        self.state.legwork(["list", "--json"]).json_lines()
    }

    fn all_are(&self, status: &str) -> bool {
        self.jobs().iter().all(|job| job["status"] == status)
    }

    /// Starts the same run once more, with a grace of its own for its owner.
    fn start_another_run(&mut self, grace: &str) -> Program {
        self.state.set(variables::OWNER_GRACE, grace);
        let file = self.state.path("team.yaml").display().to_string();
        self.state.start_legwork(["run", &file, "go"])
    }

    /// Checks that both jobs were stopped with this cause and that no command of theirs is left.
    fn assert_stopped(&self, cause: &str) {
        let jobs = self.jobs();
        assert_eq!(jobs.len(), 2, "{jobs:#?}");
        for job in &jobs {
            assert_eq!((&job["status"], &job["cause"]), (&json!("stopped"), &json!(cause)), "{job:#}");
        }
        assert_eq!(processes(&format!("sleep {}", self.sleep)), Vec::<String>::new());
    }
}

#[test]
fn the_jobs_of_a_killed_run_are_stopped() {
    let mut scene = scene("63.125", "2s");
    scene.run.kill();
    // The workers do that once the lease of the session has expired.
    until("the jobs are stopped", || scene.all_are("stopped"));
    scene.assert_stopped("session_end");
}

#[test]
fn ctrl_c_stops_the_tree_and_waits_for_it() {
    let mut scene = scene("63.25", "2s");
    scene.run.signal(Signal::INT);
    assert_eq!(scene.run.wait(), 130);
    scene.assert_stopped("operator");
}

#[test]
fn a_second_ctrl_c_ends_the_run_without_waiting_for_its_jobs() {
    let mut scene = scene("63.375", "30s");
    // A frozen worker confirms no stop.
    scene.worker.signal(Signal::STOP);
    scene.run.signal(Signal::INT);
    until("the run waits for the tree", || scene.all_are("stopping"));
    assert!(scene.run.is_running());
    scene.run.signal(Signal::INT);
    assert_eq!(scene.run.wait(), 130);
    assert!(scene.all_are("stopping"), "the run did not wait: {:#?}", scene.jobs());
    scene.worker.signal(Signal::CONT);
    until("the jobs are stopped", || scene.all_are("stopped"));
    scene.assert_stopped("operator");
}

#[test]
fn a_run_that_stood_still_within_its_grace_keeps_its_jobs_and_says_so() {
    let mut patient = scene("6363.5", "2s");
    let mut away = patient.start_another_run("10m");
    let id = |state: &StateFolder, n: usize| {
        let jobs = state.legwork(["list", "--json"]).json_lines();
        let tops: Vec<&Value> = jobs.iter().filter(|job| job["depth"] == 0).collect();
        // The newest is listed first.
        tops.get(n).and_then(|job| job["id"].as_str().map(str::to_owned))
    };
    until("both runs have a job", || id(&patient.state, 1).is_some());
    let [kept, ended] = [0, 1].map(|n| id(&patient.state, n).unwrap());
    // Both jobs of each run, and their commands: nothing is left to be dispatched.
    until("both trees run", || {
        patient.state.legwork(["list", "--status", "waiting", "--json"]).json_lines().len() == 2
    });
    until("the command of the other run runs", || processes("sleep 6363.5").len() >= 2);
    for run in [&away, &patient.run] {
        run.signal(Signal::STOP);
    }
    let view = patient.state.until_status(&ended, "stopped");
    assert_eq!(view["cause"], "session_end", "{view}");
    assert_eq!(patient.state.view(&kept)["status"], "waiting", "the other one's grace is not over");
    for run in [&away, &patient.run] {
        run.signal(Signal::CONT);
    }
    // Its wait is over, because the job that it waited for was stopped.
    let lost = patient.run.until_line_noted("this program was away for ");
    assert!(lost.contains("longer than its --owner-grace of 2s"), "{lost}");
    assert!(lost.contains("its jobs were stopped (session_end)"), "{lost}");
    let returned = away.until_line_noted("this program was away for ");
    assert!(returned.ends_with("; its jobs continued"), "{returned}");
    assert_eq!(patient.state.view(&kept)["status"], "waiting");
    away.signal(Signal::INT);
    assert_eq!(away.wait(), 130);
    assert_eq!(patient.state.view(&kept)["cause"], "operator");
}

/// A root that starts a job and ends, or hangs after starting it so that it can be killed. The job ends once there is the
/// file `go`.
fn leaves_a_job(root_ends: bool, go: &Path) -> Value {
    let delay = if root_ends { 0 } else { 600_000 };
    json!({
        "root": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "t"})),
            {"text": "I leave.", "delay_ms": delay},
        ],
        "shell": [
            calls("shell", &json!({"cmd": format!("while ! test -e {}; do sleep 0.1; done", go.display())})),
            {"text": "finished"},
        ],
    })
}

#[test]
fn the_jobs_of_a_detached_run_continue_even_when_it_is_killed() {
    for (embedded, killed) in [(false, false), (false, true), (true, false), (true, true)] {
        let redis = Redis::start();
        let mut state = if embedded { StateFolder::embedded() } else { StateFolder::on(&redis.url()) };
        let script = leaves_a_job(!killed, &state.path("go"));
        let team = Team::write(&mut state, &script);
        let _worker = (!embedded).then(|| state.worker(&[]));
        let mut run = state.start_legwork(["run", &team.file, "--detach", "go"]);
        let mut jobs = Vec::new();
        until("the job is listed", || {
            jobs = state.legwork(["list", "--json"]).json_lines();
            !jobs.is_empty()
        });
        let id = jobs[0]["id"].as_str().unwrap();
        if killed {
            // On the embedded server the background worker is still starting.
            state.until_status(id, "running");
            run.kill();
            state.file("go", "");
        } else {
            let left = run.wait_with_output();
            assert_eq!(left.status, 0, "{left:?}");
            // It names the session, the job and the next command, which works.
            let session = jobs[0]["session"].as_str().unwrap();
            assert!(
                left.stderr
                    .contains(&format!("session {session} continues in the background\n  {id} shell ")),
                "{left:?}"
            );
            state.file("go", "");
            let next = left.stderr.lines().find_map(|line| line.strip_prefix("to see its output: ")).unwrap();
            let followed = state.start_shell(next).wait_with_output();
            assert!(followed.status == 0 && followed.stdout.ends_with("finished"), "{followed:?}");
        }
        let view = state.until_status(id, "completed");
        assert_eq!((&view["attempt"], &view["result"]), (&json!(1), &json!("finished")), "{view}");
    }
}
