//! Redis in trouble: the line to it is cut, stands still or is slow.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use legwork_common::variables;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::http_get;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::teams::Team;
use crate::teams::calls;

/// A worker behind a bad line, with a job in the middle of its second turn.
struct Scene {
    redis: Redis,
    line: Proxy,
    state: StateFolder,
    _worker: Program,
    id: String,
}

/// A turn with a command that counts its runs, and one of words that take some seconds.
fn two_turns(state: &StateFolder) -> Value {
    let file = state.path("runs").display().to_string();
    json!({"shell": [
        calls("shell", &json!({"cmd": format!("echo run >> {file}; echo first")})),
        {"text": "one two three four five six seven eight nine ten", "chunk_delay_ms": 300},
    ]})
}

fn scene() -> Scene {
    scene_with("2s")
}

/// With leases of this length.
fn scene_with(lease: &str) -> Scene {
    let redis = Redis::start();
    let line = redis.behind_proxy();
    let mut state = StateFolder::on(&line.url());
    state.set(variables::LEASE, lease);
    let script = two_turns(&state);
    let team = Team::in_house(&mut state, &script);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "three");
    Scene { redis, line, state, _worker: worker, id }
}

impl Scene {
    /// Lets this time pass.
    fn after(&self, time: Duration) {
        let began = Instant::now();
        // Woken early, it looks again.
        while let Some(left) = time.checked_sub(began.elapsed()) {
            std::thread::park_timeout(left);
        }
    }

    /// The job completes in its first attempt, with its finished turn done once.
    fn completes_as_if_nothing_were(&self) -> String {
        let view = self.state.until_status(&self.id, "completed");
        assert_eq!(view["attempt"], 1, "{view}");
        assert_eq!(view["usage"]["turns"], 2, "{view}");
        let runs = std::fs::read_to_string(self.state.path("runs")).unwrap();
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
    for (lease, outage) in [("2s", Duration::from_millis(500)), ("10s", Duration::from_secs(1))] {
        let scene = scene_with(lease);
        scene.line.cut();
        scene.after(outage);
        scene.line.mend();
        let output = scene.completes_as_if_nothing_were();
        assert!(!output.contains("suspended"), "{output}");
    }
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
        assert!(output.contains("\n[attempt 1 was suspended and resumes from turn 2]\n"), "{output}");
    }
}

#[test]
fn a_parent_that_waits_is_suspended_with_its_child_and_both_go_on() {
    let redis = Redis::start();
    let line = redis.behind_proxy();
    let mut state = StateFolder::on(&line.url());
    let mut script = two_turns(&state);
    script["nested"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "count"})),
        calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
        {"text": "below me: {{result:wait_background_agents}}"},
    ]);
    let team = Team::in_house(&mut state, &script);
    // One slot: the parent has given it to the child, and gets it back.
    let worker = state.worker(&["--concurrency", "1"]);
    let parent = state.dispatch(&[&team.file, "nested", "go"]);
    let child = |state: &StateFolder| {
        let jobs = state.legwork(["list", "--json"]).objects();
        jobs.iter().find(|job| job["depth"] == 1).map(|job| job["id"].as_str().unwrap().to_owned())
    };
    until("there is a child", || child(&state).is_some());
    let id = child(&state).unwrap();
    state.until_output(&id, "three");
    let scene = Scene { redis, line, state, _worker: worker, id };
    scene.line.cut();
    scene.after(Duration::from_secs(5));
    scene.line.mend();
    scene.completes_as_if_nothing_were();
    let view = scene.state.until_status(&parent, "completed");
    assert_eq!((&view["attempt"], &view["usage"]["turns"]), (&json!(1), &json!(3)), "{view}");
    assert!(view["result"].as_str().unwrap().contains("eight nine ten"), "{view}");
}

#[test]
fn a_slow_line_is_only_slow() {
    let redis = Redis::start();
    let line = redis.behind_proxy();
    line.delay(Duration::from_millis(50));
    let mut state = StateFolder::on(&line.url());
    let script = two_turns(&state);
    let team = Team::in_house(&mut state, &script);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let followed = state.legwork(["view", &id, "--follow"]).good();
    let scene = Scene { redis, line, state, _worker: worker, id };
    let output = scene.completes_as_if_nothing_were();
    assert_eq!(followed, output);
    assert!(!output.contains("suspended"), "{output}");
}

#[test]
fn a_server_that_is_a_replica_for_a_while_is_waited_for() {
    for (seconds, suspends) in [(0.5, false), (4.0, true)] {
        let scene = scene();
        assert_eq!(scene.redis.say("REPLICAOF 127.0.0.1 1"), "+OK");
        scene.after(Duration::from_secs_f64(seconds));
        assert_eq!(scene.redis.say("REPLICAOF NO ONE"), "+OK");
        let output = scene.completes_as_if_nothing_were();
        assert!(suspends || !output.contains("suspended"), "{output}");
        assert!(scene.state.worker_log().contains("read-only; reconnecting"));
    }
}

#[test]
fn a_flushed_script_cache_is_filled_again() {
    let scene = scene();
    for _ in 0..5 {
        assert_eq!(scene.redis.say("SCRIPT FLUSH"), "+OK");
        scene.after(Duration::from_millis(300));
    }
    scene.completes_as_if_nothing_were();
}

#[test]
fn full_memory_refuses_what_is_new_and_lets_what_runs_finish() {
    let scene = scene();
    assert_eq!(scene.redis.say("CONFIG SET maxmemory 1"), "+OK");
    let file = scene.state.path("team.yaml").display().to_string();
    let said = scene.state.legwork(["dispatch", &file, "quick", "more"]);
    assert_eq!(said.status, 5, "{said:?}");
    assert!(said.err.contains("Redis is full") && said.err.contains("raise maxmemory"), "{said:?}");
    scene.completes_as_if_nothing_were();
    assert_eq!(scene.state.legwork(["list", "--json"]).objects().len(), 1);
    assert_eq!(scene.redis.say("CONFIG SET maxmemory 0"), "+OK");
    let id = scene.state.dispatch(&[&file, "shell", "more"]);
    scene.state.until_status(&id, "completed");
}

#[test]
fn a_batch_that_is_refused_in_the_middle_says_what_is_stored() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::in_house(&mut state, &json!({}));
    let task = "word ".repeat(2000);
    let lines: Vec<String> = (0..1000).map(|_| json!({"agent": "quick", "task": task}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let used = redis.info("memory", "used_memory");
    assert_eq!(redis.say(&format!("CONFIG SET maxmemory {}", used + 8_000_000)), "+OK");
    let said = state.legwork(["dispatch", &team.file, "--batch", &batch]);
    assert_eq!(said.status, 5, "{said:?}");
    let count = said.out.lines().count();
    assert!((1..1000).contains(&count), "{count}");
    let told = format!("error: {count} of 1000 jobs were stored: Redis is full");
    assert!(said.err.contains(&told) && said.err.contains("raise maxmemory"), "{}", said.err);
    let listed = state.legwork(["list", "--json", "--limit", "1000"]).objects();
    let mut stored: Vec<&str> = listed.iter().map(|job| job["id"].as_str().unwrap()).collect();
    let mut printed: Vec<&str> = said.out.lines().collect();
    stored.sort_unstable();
    printed.sort_unstable();
    assert_eq!(printed, stored);
}

#[test]
fn a_server_that_evicts_is_warned_of() {
    let redis = Redis::start();
    assert_eq!(redis.say("CONFIG SET maxmemory-policy allkeys-lru"), "+OK");
    let state = StateFolder::on(&redis.url());
    let _worker = state.worker(&[]);
    let log = state.worker_log();
    assert!(log.contains("WARN") && log.contains("maxmemory-policy is allkeys-lru"), "{log}");
}

#[test]
fn a_worker_is_ready_while_redis_answers() {
    let redis = Redis::start();
    let line = redis.behind_proxy();
    let state = StateFolder::on(&line.url());
    let address = format!("127.0.0.1:{}", legwork_tests::redis::free_port());
    let _worker = state.worker(&["--health", &address]);
    let ready = |yes: bool| {
        let what = if yes { "the worker is ready" } else { "the worker is not ready" };
        until(what, || http_get(&address, "/readyz").starts_with("HTTP/1.1 200") == yes);
    };
    ready(true);
    line.stall();
    ready(false);
    line.mend();
    ready(true);
    line.cut();
    ready(false);
    line.mend();
    ready(true);
}

#[test]
fn ten_seconds_without_redis_cost_no_finished_turn() {
    an_outage_costs_no_finished_turn(Duration::from_secs(10));
}

#[test]
#[ignore = "takes more than a minute"]
fn a_minute_without_redis_costs_no_finished_turn() {
    an_outage_costs_no_finished_turn(Duration::from_secs(60));
}

/// With leases of the usual length, and a provider that counts.
fn an_outage_costs_no_finished_turn(outage: Duration) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hung = AtomicBool::new(false);
    let fake = runtime.block_on(FakeProvider::choosing(move |body| {
        if !body.to_string().contains("first words") {
            let call = Call { id: "1", name: "shell", arguments: vec!["{\"cmd\": \"echo first words\"}"] };
            return Answer::Reply { reasoning: None, text: vec!["I look."], calls: vec![call] };
        }
        // The second turn takes until it is cut off, and is quick when it is asked again.
        if hung.swap(true, Ordering::SeqCst) { Answer::text(&["all is well"]) } else { Answer::Hang("half") }
    }));
    let redis = Redis::start();
    let line = redis.behind_proxy();
    let mut state = StateFolder::on(&line.url());
    state.set(variables::LEASE, "10s");
    state.set("OPENAI_API_KEY", "sk-secret");
    state.set("OPENAI_BASE_URL", &fake.url);
    let team = "agents: {root: {model: openai/test, instruction: i, toolsets: [{type: shell}]}}";
    let file = state.file("team.yaml", team);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "root", "go"]);
    state.until_output(&id, "half");
    let scene = Scene { redis, line, state, _worker: worker, id };
    scene.line.cut();
    scene.after(outage);
    scene.line.mend();
    let view = scene.state.until_status(&scene.id, "completed");
    assert_eq!((&view["attempt"], &view["result"]), (&json!(1), &json!("all is well")), "{view}");
    let asked: Vec<bool> =
        fake.asked().iter().map(|asked| asked.body.to_string().contains("first words")).collect();
    assert_eq!(asked, [false, true, true]);
}
