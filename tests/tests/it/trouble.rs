//! Redis in trouble: the line to it is cut, stands still or is slow.

use std::time::Duration;
use std::time::Instant;

use legwork_tests::programs::House;
use legwork_tests::programs::Program;
use legwork_tests::programs::until;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::teams::Team;
use crate::teams::calls;

/// A worker behind a bad line, with a job in the middle of its second turn.
struct Scene {
    _redis: Redis,
    line: Proxy,
    house: House,
    _worker: Program,
    id: String,
}

/// A turn with a command that counts its runs, and one of words that take some seconds.
fn two_turns(house: &House) -> Value {
    let file = house.path("runs").display().to_string();
    json!({"shell": [
        calls("shell", &json!({"cmd": format!("echo run >> {file}; echo first")})),
        {"text": "one two three four five six seven eight nine ten", "chunk_delay_ms": 200},
    ]})
}

fn scene() -> Scene {
    let redis = Redis::start();
    let line = redis.behind_proxy();
    let mut house = House::on(&line.url());
    let script = two_turns(&house);
    let team = Team::in_house(&mut house, &script);
    let worker = house.worker(&[]);
    let id = house.dispatch(&[&team.file, "shell", "go"]);
    house.until_output(&id, "three");
    Scene { _redis: redis, line, house, _worker: worker, id }
}

impl Scene {
    /// Lets this time pass.
    fn after(&self, time: Duration) {
        let began = Instant::now();
        until("time has passed", || began.elapsed() >= time);
    }

    /// The job completes in its first attempt, with its finished turn done once.
    fn completes_as_if_nothing_were(&self) -> String {
        let view = self.house.until_status(&self.id, "completed");
        assert_eq!(view["attempt"], 1, "{view}");
        assert_eq!(view["usage"]["turns"], 2, "{view}");
        let runs = std::fs::read_to_string(self.house.path("runs")).unwrap();
        assert_eq!(runs, "run\n");
        let output = view["output"].as_str().unwrap().to_owned();
        assert_eq!(output.matches("I call shell").count(), 1, "{output}");
        assert!(output.ends_with("eight nine ten"), "{output}");
        assert!(!output.contains("[attempt 2"), "{output}");
        output
    }
}

#[test]
fn a_cut_line_is_not_noticed_when_it_is_short() {
    let scene = scene();
    scene.line.cut();
    scene.after(Duration::from_millis(500));
    scene.line.mend();
    let output = scene.completes_as_if_nothing_were();
    assert!(!output.contains("suspended"), "{output}");
}

#[test]
fn an_attempt_whose_lease_is_not_sure_is_suspended_and_goes_on_in_place() {
    for cut in [true, false] {
        let scene = scene();
        if cut {
            scene.line.cut()
        } else {
            scene.line.stall()
        }
        scene.after(Duration::from_secs(5));
        scene.line.mend();
        let output = scene.completes_as_if_nothing_were();
        assert!(output.contains("\n[attempt 1 was suspended and goes on from turn 2]\n"), "{output}");
    }
}

#[test]
fn a_parent_that_waits_is_suspended_with_its_child_and_both_go_on() {
    let redis = Redis::start();
    let line = redis.behind_proxy();
    let mut house = House::on(&line.url());
    let mut script = two_turns(&house);
    script["nested"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "count"})),
        calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
        {"text": "below me: {{result:wait_background_agents}}"},
    ]);
    let team = Team::in_house(&mut house, &script);
    // One slot: the parent has given it to the child, and gets it back.
    let worker = house.worker(&["--concurrency", "1"]);
    let parent = house.dispatch(&[&team.file, "nested", "go"]);
    let child = |house: &House| {
        let jobs = house.legwork(["list", "--json"]).objects();
        jobs.iter().find(|job| job["depth"] == 1).map(|job| job["id"].as_str().unwrap().to_owned())
    };
    until("there is a child", || child(&house).is_some());
    let id = child(&house).unwrap();
    house.until_output(&id, "three");
    let scene = Scene { _redis: redis, line, house, _worker: worker, id };
    scene.line.cut();
    scene.after(Duration::from_secs(5));
    scene.line.mend();
    scene.completes_as_if_nothing_were();
    let view = scene.house.until_status(&parent, "completed");
    assert_eq!((&view["attempt"], &view["usage"]["turns"]), (&json!(1), &json!(3)), "{view}");
    assert!(view["result"].as_str().unwrap().contains("eight nine ten"), "{view}");
}
