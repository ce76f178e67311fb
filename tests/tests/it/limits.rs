//! Rate limits of model providers, policies that place agents on queues, and reports of stalled jobs.

use std::sync::Mutex;
use std::time::Instant;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::team::Team;
use crate::team::calls;

const ASKS: &str = "
agents:
  root: {model: openai/gpt-4o, instruction: Answer., description: Answers.}
";

/// A provider that accepts this many calls per second, as a token bucket of `burst` calls: as many as may come together
/// after this machine stood still for a while.
fn rate_limited(per_second: f64, burst: f64) -> impl Fn(&serde_json::Value) -> Answer {
    let bucket = Mutex::new((burst, Instant::now()));
    move |_| {
        let mut bucket = bucket.lock().unwrap();
        let filled = bucket.0 + bucket.1.elapsed().as_secs_f64() * per_second;
        *bucket = (filled.min(burst), Instant::now());
        if bucket.0 < 1.0 {
            return Answer::Status(429, vec![("retry-after", "1")], "slow down");
        }
        bucket.0 -= 1.0;
        Answer::text(&["fine"])
    }
}

#[test]
fn two_hundred_jobs_share_a_limit_of_five_calls_per_second_almost_without_429s() {
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(rate_limited(5.0, 50.0)));
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("OPENAI_API_KEY", "k");
    state.set(variables::RATE_LIMITS, "openai=requests:290");
    let team = state.file("team.yaml", ASKS);
    let _workers = [state.worker(&[]), state.worker(&[])];
    let lines: Vec<String> =
        (0..200).map(|n| json!({"agent": "root", "task": format!("{n}")}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let printed = state.dispatch(&[&team, "--batch", &batch, "--cap", "0"]);
    let ids: Vec<&str> = printed.lines().collect();
    let output = state.legwork(["wait", "--timeout", "300s"].iter().chain(&ids));
    assert_eq!(output.status, 0, "{}", output.stderr);
    let requests = fake.asked().len();
    // All jobs got a reply; at most one in a hundred requests was rejected.
    assert!((200..=202).contains(&requests), "{requests} requests for 200 replies");
}

#[test]
fn a_job_that_waits_for_a_rate_limit_shows_it() {
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(|_| Answer::text(&["fine"])));
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("OPENAI_API_KEY", "k");
    // The second call of a minute waits for most of it: until it is seen, on any machine.
    state.set(variables::RATE_LIMITS, "openai=requests:1");
    let team = state.file("team.yaml", ASKS);
    let _worker = state.worker(&[]);
    let first = state.dispatch(&[&team, "root", "one"]);
    assert_eq!(state.until_status(&first, "completed")["waits_for"], json!(null));
    let second = state.dispatch(&[&team, "root", "two"]);
    until("the job says what it waits for", || {
        let waits_for = &state.view(&second)["waits_for"];
        waits_for["reason"] == "rate_limit"
            && waits_for["detail"].as_str().is_some_and(|why| why.contains("the rate limit of openai"))
    });
    state.legwork(["stop", &second]).expect_success();
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn every_worker_backs_off_after_one_got_a_429() {
    let runtime = Runtime::new().unwrap();
    // Long enough to see a job that waits for it, on any machine.
    let refused = Mutex::new(None);
    let choose = move |_: &serde_json::Value| {
        let mut refused = refused.lock().unwrap();
        match *refused {
            None => {
                *refused = Some(Instant::now());
                Answer::Status(429, vec![("retry-after", "15")], "slow down")
            }
            Some(at) if at.elapsed().as_secs_f64() < 14.9 => {
                Answer::Status(400, Vec::new(), "I said slow down")
            }
            Some(_) => Answer::text(&["fine"]),
        }
    };
    let fake = runtime.block_on(FakeProvider::choosing(choose));
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("OPENAI_API_KEY", "k");
    let team = state.file("team.yaml", ASKS);
    let _workers = [state.worker(&["--queues", "a"]), state.worker(&["--queues", "b"])];
    let first = state.dispatch(&[&team, "--queue", "a", "root", "one"]);
    until("the provider refused", || !fake.asked().is_empty());
    let second = state.dispatch(&[&team, "--queue", "b", "root", "two"]);
    until("the other worker's job waits", || {
        let detail = &state.view(&second)["waits_for"]["detail"];
        detail.as_str().is_some_and(|why| why.contains("openai/gpt-4o refused a call"))
    });
    assert!(state.legwork(["view", &second]).expect_success().contains(
        "
Waits for openai/gpt-4o refused a call"
    ));
    for id in [&first, &second] {
        state.until_status(id, "completed");
    }
    assert_eq!(fake.asked().len(), 3);
}

#[test]
fn a_policy_places_agents_on_queues() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "quick", "task": "hello"})),
            {"text": "sent"},
            {"text": "{{last_user}}"},
        ],
        "quick": [{"text": "fine"}],
    });
    let team = Team::write(&mut state, &script);
    let policy = state.file("policy.yaml", "agents:\n  quick: {queue: tools, priority: high, timeout: 5m}\n");
    state.set(variables::POLICY, &policy);
    let _general = state.worker(&[]);
    let nested = state.dispatch(&[&team.file, "nested", "go"]);
    until("the child is queued", || {
        state.legwork(["list", "--queue", "tools", "--json"]).json_lines().len() == 1
    });
    let child = state.legwork(["list", "--queue", "tools", "--json"]).json_lines().remove(0);
    assert_eq!((&child["status"], &child["agent"]), (&json!("queued"), &json!("quick")));
    assert!(
        state
            .legwork(["view", child["id"].as_str().unwrap()])
            .expect_success()
            .contains("no worker serves queue tools")
    );
    let own = state.dispatch(&[&team.file, "--queue", "default", "quick", "here"]);
    assert_eq!(state.until_status(&own, "completed")["queue"], "default");
    let _tools = state.worker(&["--queues", "tools"]);
    state.until_status(&nested, "completed");

    let wrong = state.file("wrong.yaml", "agents:\n  quick: {quue: tools}\n");
    let output = state.legwork(["dispatch", "--policy", &wrong, &team.file, "quick", "go"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("wrong.yaml") && output.stderr.contains("quue"), "{}", output.stderr);
}

#[test]
fn a_stalled_job_is_reported() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": "while ! test -e go-on; do sleep 0.1; done", "timeout": 60})),
        {"text": "done"},
    ]});
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&["--stall-after", "1s", "--shared-work-dir", "--work-dir", "."]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let stalled = "no activity for more than 1s, since tool shell started";
    until("the job is shown as stalled", || state.view(&id)["waits_for"]["detail"] == stalled);
    assert!(state.worker_log().contains("the job has stalled"), "{}", state.worker_log());
    assert!(state.legwork(["view", &id]).expect_success().contains(&format!("\nWaits for {stalled}")));
    state.file("go-on", "");
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["waits_for"], &view["result"]), (&json!(null), &json!("done")));
}

#[test]
fn a_background_worker_reports_a_stalled_job() {
    let mut state = StateFolder::embedded();
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": "while ! test -e go-on; do sleep 0.1; done", "timeout": 60})),
        {"text": "done"},
    ]});
    let team = Team::write(&mut state, &script);
    let id = state.dispatch(&[&team.file, "shell", "go", "--stall-after", "1s"]);
    let stalled = "no activity for more than 1s, since tool shell started";
    until("the job is shown as stalled", || state.view(&id)["waits_for"]["detail"] == stalled);
    state.file("go-on", "");
    state.until_status(&id, "completed");
}
