//! Redis outages: connections are cut, frozen, silent or slow; the server is read-only, full, or loses its scripts.

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
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::team::Team;
use crate::team::calls;

/// A worker behind a fault-injecting proxy, with a job in the middle of its second turn.
struct Scene {
    redis: Redis,
    proxy: Proxy,
    state: StateFolder,
    worker: Program,
    id: String,
    provider: Option<(Runtime, FakeProvider)>,
}

/// The reply of the second turn.
const TEN_WORDS: &str = "one two three four five six seven eight nine ten";

/// A turn with a command that records each run in a file, and a turn that streams words for three seconds.
fn two_turns(state: &StateFolder) -> Value {
    let file = state.path("runs").display().to_string();
    json!({"shell": [
        calls("shell", &json!({"cmd": format!("echo run >> {file}; echo first")})),
        {"text": TEN_WORDS, "chunk_delay_ms": 300},
    ]})
}

fn scene() -> Scene {
    scene_with("2s")
}

/// A scene with leases of this length.
fn scene_with(lease: &str) -> Scene {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    state.set(variables::LEASE, lease);
    let script = two_turns(&state);
    let team = Team::write(&mut state, &script);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "three");
    Scene { redis, proxy, state, worker, id, provider: None }
}

/// A scene whose second turn hangs after three words until a fault interrupts it, however slow this machine is. Its repeat
/// is answered at once.
fn hanging_scene(arguments: &[&str]) -> Scene {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    let command = format!("echo run >> {}; echo first", state.path("runs").display());
    let command: &'static str = json!({"cmd": command}).to_string().leak();
    let hung = AtomicBool::new(false);
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(move |body| {
        if !body.to_string().contains("echo first") {
            let call = Call { id: "1", name: "shell", arguments: vec![command] };
            return Answer::Reply { reasoning: None, text: vec!["I call shell."], calls: vec![call] };
        }
        let is_repeat = hung.swap(true, Ordering::SeqCst);
        if is_repeat { Answer::text(&[TEN_WORDS]) } else { Answer::Hang("one two three") }
    }));
    state.set("OPENAI_API_KEY", "sk-secret");
    state.set("OPENAI_BASE_URL", &fake.url);
    let team = "agents: {root: {model: openai/test, instruction: i, toolsets: [{type: shell}]}}";
    let file = state.file("team.yaml", team);
    let worker = state.worker(arguments);
    let id = state.dispatch(&[&file, "root", "go"]);
    state.until_output(&id, "three");
    Scene { redis, proxy, state, worker, id, provider: Some((runtime, fake)) }
}

impl Scene {
    /// Sleeps for this time.
    fn after(&self, time: Duration) {
        let began = Instant::now();
        // `park_timeout` can return early.
        while let Some(left) = time.checked_sub(began.elapsed()) {
            std::thread::park_timeout(left);
        }
    }

    /// Waits until the job completes; it must be in its first attempt, with its finished turn done once.
    fn completes_undisturbed(&self) -> String {
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
fn a_short_disconnection_does_not_suspend_an_attempt() {
    for (lease, outage) in [("5s", Duration::from_millis(500)), ("10s", Duration::from_secs(1))] {
        let scene = scene_with(lease);
        scene.proxy.cut();
        scene.after(outage);
        scene.proxy.restore();
        let output = scene.completes_undisturbed();
        assert!(!output.contains("suspended"), "{output}");
    }
}

#[test]
fn an_attempt_whose_lease_may_have_expired_is_suspended_and_resumes_in_place() {
    for cut in [true, false] {
        let scene = hanging_scene(&[]);
        if cut {
            scene.proxy.cut()
        } else {
            scene.proxy.freeze()
        }
        scene.after(Duration::from_secs(5));
        scene.proxy.restore();
        let output = scene.completes_undisturbed();
        assert!(output.contains("\n[attempt 1 was suspended and resumes from turn 2]\n"), "{output}");
    }
}

#[test]
fn a_worker_that_drains_during_an_outage_exits_in_time() {
    for cut in [true, false] {
        let mut scene = hanging_scene(&["--drain-timeout", "1s"]);
        if cut {
            scene.proxy.cut()
        } else {
            scene.proxy.freeze()
        }
        scene.worker.signal(Signal::TERM);
        let asked = Instant::now();
        assert_eq!(scene.worker.wait(), 0);
        assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
        scene.proxy.restore();
        let _second = scene.state.worker(&[]);
        // As after a crash: another worker resumes from what is stored.
        let view = scene.state.until_status(&scene.id, "completed");
        assert_eq!(view["attempt"], 2, "{view}");
        let output = view["output"].as_str().unwrap();
        let (_, resumed) = output.split_once("[attempt 2 resumes from turn 2]\n").unwrap();
        assert_eq!(resumed, TEN_WORDS);
        assert_eq!(std::fs::read_to_string(scene.state.path("runs")).unwrap(), "run\n");
    }
}

#[test]
fn a_waiting_parent_is_suspended_with_its_child_and_both_resume() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    let mut script = two_turns(&state);
    script["nested"] = json!([
        calls("run_background_agent", &json!({"agent": "shell", "task": "count"})),
        calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
        {"text": "below me: {{result:wait_background_agents}}"},
    ]);
    let team = Team::write(&mut state, &script);
    // One slot: the parent gives it to the child while it waits and gets it back.
    let worker = state.worker(&["--concurrency", "1"]);
    let parent = state.dispatch(&[&team.file, "nested", "go"]);
    let child = |state: &StateFolder| {
        let jobs = state.legwork(["list", "--json"]).json_lines();
        jobs.iter().find(|job| job["depth"] == 1).map(|job| job["id"].as_str().unwrap().to_owned())
    };
    until("the child is listed", || child(&state).is_some());
    let id = child(&state).unwrap();
    state.until_output(&id, "three");
    let scene = Scene { redis, proxy, state, worker, id, provider: None };
    scene.proxy.cut();
    scene.after(Duration::from_secs(5));
    scene.proxy.restore();
    scene.completes_undisturbed();
    let view = scene.state.until_status(&parent, "completed");
    assert_eq!((&view["attempt"], &view["usage"]["turns"]), (&json!(1), &json!(3)), "{view}");
    assert!(view["result"].as_str().unwrap().contains("eight nine ten"), "{view}");
}

#[test]
fn latency_of_50_ms_does_not_suspend_an_attempt() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    proxy.delay(Duration::from_millis(50));
    let mut state = StateFolder::on(&proxy.url());
    let script = two_turns(&state);
    let team = Team::write(&mut state, &script);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let followed = state.legwork(["view", &id, "--follow"]).expect_success();
    let scene = Scene { redis, proxy, state, worker, id, provider: None };
    let output = scene.completes_undisturbed();
    assert_eq!(followed, output);
    assert!(!output.contains("suspended"), "{output}");
}

#[test]
fn a_worker_waits_while_its_server_is_a_read_only_replica() {
    for (seconds, suspends) in [(0.5, false), (4.0, true)] {
        let scene = if suspends { hanging_scene(&[]) } else { scene() };
        assert_eq!(scene.redis.command("REPLICAOF 127.0.0.1 1"), "+OK");
        scene.after(Duration::from_secs_f64(seconds));
        assert_eq!(scene.redis.command("REPLICAOF NO ONE"), "+OK");
        let output = scene.completes_undisturbed();
        assert_eq!(output.contains("suspended"), suspends, "{output}");
        assert!(scene.state.worker_log().contains("read-only; reconnecting"));
    }
}

#[test]
fn a_flushed_script_cache_is_filled_again() {
    let scene = scene();
    for _ in 0..5 {
        assert_eq!(scene.redis.command("SCRIPT FLUSH"), "+OK");
        scene.after(Duration::from_millis(300));
    }
    scene.completes_undisturbed();
}

#[test]
fn a_full_redis_rejects_new_jobs_and_lets_running_jobs_finish() {
    let scene = scene();
    assert_eq!(scene.redis.command("CONFIG SET maxmemory 1"), "+OK");
    let file = scene.state.path("team.yaml").display().to_string();
    let output = scene.state.legwork(["dispatch", &file, "quick", "more"]);
    assert_eq!(output.status, 5, "{output:?}");
    assert!(
        output.stderr.contains("Redis is full") && output.stderr.contains("raise maxmemory"),
        "{output:?}"
    );
    scene.completes_undisturbed();
    assert_eq!(scene.state.legwork(["list", "--json"]).json_lines().len(), 1);
    assert_eq!(scene.redis.command("CONFIG SET maxmemory 0"), "+OK");
    let id = scene.state.dispatch(&[&file, "shell", "more"]);
    scene.state.until_status(&id, "completed");
}

#[test]
fn a_batch_that_is_rejected_halfway_reports_what_is_stored() {
    let (redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({}));
    let task = "word ".repeat(2000);
    let lines: Vec<String> = (0..1000).map(|_| json!({"agent": "quick", "task": task}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let used = redis.info("memory", "used_memory");
    assert_eq!(redis.command(&format!("CONFIG SET maxmemory {}", used + 8_000_000)), "+OK");
    let output = state.legwork(["dispatch", &team.file, "--batch", &batch]);
    assert_eq!(output.status, 5, "{output:?}");
    let count = output.stdout.lines().count();
    assert!((1..1000).contains(&count), "{count}");
    let left = 1000 - count;
    let expected =
        format!("error: {count} of 1,000 stored and run, the other {left} are not stored: Redis is full");
    assert!(
        output.stderr.contains(&expected) && output.stderr.contains("raise maxmemory"),
        "{}",
        output.stderr
    );
    let listed = state.legwork(["list", "--json", "--limit", "1000"]).json_lines();
    let mut stored: Vec<&str> = listed.iter().map(|job| job["id"].as_str().unwrap()).collect();
    let mut printed: Vec<&str> = output.stdout.lines().collect();
    stored.sort_unstable();
    printed.sort_unstable();
    assert_eq!(printed, stored);
}

#[test]
fn a_worker_warns_of_an_eviction_policy() {
    let redis = Redis::start();
    assert_eq!(redis.command("CONFIG SET maxmemory-policy allkeys-lru"), "+OK");
    let state = StateFolder::on(&redis.url());
    let _worker = state.worker(&[]);
    let log = state.worker_log();
    assert!(log.contains("WARN") && log.contains("maxmemory-policy is allkeys-lru"), "{log}");
}

#[test]
fn a_worker_is_ready_while_redis_answers() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let state = StateFolder::on(&proxy.url());
    let address = format!("127.0.0.1:{}", legwork_tests::redis::free_port());
    let _worker = state.worker(&["--health", &address]);
    let ready = |yes: bool| {
        let what = if yes { "the worker is ready" } else { "the worker is not ready" };
        until(what, || http_get(&address, "/readyz").starts_with("HTTP/1.1 200") == yes);
    };
    ready(true);
    proxy.freeze();
    ready(false);
    proxy.restore();
    ready(true);
    proxy.cut();
    ready(false);
    proxy.restore();
    ready(true);
}

#[test]
fn a_worker_replaces_connections_that_went_silent() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let state = StateFolder::on(&proxy.url());
    replaces_silent_connections(redis, proxy, state);
}

#[test]
fn a_worker_replaces_tls_connections_that_went_silent() {
    let redis = Redis::with_tls();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.tls_url());
    state.set("SSL_CERT_FILE", &redis.certificate());
    replaces_silent_connections(redis, proxy, state);
}

fn replaces_silent_connections(redis: Redis, proxy: Proxy, mut state: StateFolder) {
    state.set(variables::LEASE, "10s");
    let script = two_turns(&state);
    let team = Team::write(&mut state, &script);
    let address = format!("127.0.0.1:{}", legwork_tests::redis::free_port());
    let worker = state.worker(&["--health", &address]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&id, "three");
    proxy.silence_open();
    let scene = Scene { redis, proxy, state, worker, id, provider: None };
    scene.completes_undisturbed();
    until("the worker is ready", || http_get(&address, "/readyz").starts_with("HTTP/1.1 200"));
    // Claims, and the wait for work before them, have new connections too.
    let next = scene.state.dispatch(&[&team.file, "shell", "more"]);
    scene.state.until_status(&next, "completed");
}

#[test]
fn a_stop_after_an_outage_of_five_seconds_arrives_by_hint() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    // Without a hint the worker learns of a stop at its next renewal, 20 s apart.
    state.set(variables::LEASE, "60s");
    let script = json!({"shell": [{"text": "one two three", "chunk_delay_ms": 120_000}]});
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_status(&id, "running");
    let channels = || redis.info("stats", "pubsub_channels");
    until("the worker listens", || channels() > 0);
    proxy.cut();
    until("the server has closed its connections", || channels() == 0);
    let outage = Instant::now();
    while outage.elapsed() < Duration::from_secs(5) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    proxy.restore();
    until("the worker listens again", || channels() > 0);
    let began = Instant::now();
    state.legwork(["stop", &id]).expect_success();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
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

/// Uses leases of the default length and a provider that records its requests.
fn an_outage_costs_no_finished_turn(outage: Duration) {
    let runtime = Runtime::new().unwrap();
    let hung = AtomicBool::new(false);
    let fake = runtime.block_on(FakeProvider::choosing(move |body| {
        if !body.to_string().contains("first words") {
            let call = Call { id: "1", name: "shell", arguments: vec!["{\"cmd\": \"echo first words\"}"] };
            return Answer::Reply { reasoning: None, text: vec!["I check."], calls: vec![call] };
        }
        // The first call of the second turn hangs until the outage interrupts it; its repeat is answered at once.
        if hung.swap(true, Ordering::SeqCst) { Answer::text(&["all is well"]) } else { Answer::Hang("half") }
    }));
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    state.set(variables::LEASE, "10s");
    state.set("OPENAI_API_KEY", "sk-secret");
    state.set("OPENAI_BASE_URL", &fake.url);
    let team = "agents: {root: {model: openai/test, instruction: i, toolsets: [{type: shell}]}}";
    let file = state.file("team.yaml", team);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "root", "go"]);
    state.until_output(&id, "half");
    let scene = Scene { redis, proxy, state, worker, id, provider: Some((runtime, fake)) };
    scene.proxy.cut();
    scene.after(outage);
    scene.proxy.restore();
    let view = scene.state.until_status(&scene.id, "completed");
    assert_eq!((&view["attempt"], &view["result"]), (&json!(1), &json!("all is well")), "{view}");
    let (_, fake) = scene.provider.as_ref().unwrap();
    let requests: Vec<bool> =
        fake.asked().iter().map(|request| request.body.to_string().contains("first words")).collect();
    assert_eq!(requests, [false, true, true]);
}
