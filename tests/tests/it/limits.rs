//! What a fleet decides: limits of model providers, and where agents run.

use std::sync::Mutex;
use std::time::Instant;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use legwork_tests::redis::Redis;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::teams::Team;
use crate::teams::calls;

const ASKS: &str = "
agents:
  root: {model: openai/gpt-4o, instruction: Answer., description: Answers.}
";

/// A provider that takes so many calls a second, as a bucket that is filled evenly.
fn strict(a_second: f64) -> impl Fn(&serde_json::Value) -> Answer {
    let bucket = Mutex::new((a_second, Instant::now()));
    move |_| {
        let mut bucket = bucket.lock().unwrap();
        let filled = bucket.0 + bucket.1.elapsed().as_secs_f64() * a_second;
        *bucket = (filled.min(a_second), Instant::now());
        if bucket.0 < 1.0 {
            return Answer::Status(429, vec![("retry-after", "1")], "slow down");
        }
        bucket.0 -= 1.0;
        Answer::text(&["fine"])
    }
}

#[test]
fn two_hundred_agents_meet_a_provider_of_five_a_second_without_a_storm() {
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(strict(5.0)));
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("OPENAI_API_KEY", "k");
    state.set(variables::RATE_LIMITS, "openai=requests:290");
    let team = state.file("team.yaml", ASKS);
    let _workers = [state.worker(&[]), state.worker(&[])];
    let lines: Vec<String> =
        (0..200).map(|n| json!({"agent": "root", "task": format!("{n}")}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let said = state.dispatch(&[&team, "--batch", &batch, "--cap", "0"]);
    let ids: Vec<&str> = said.lines().collect();
    // Who waits for a permit says so.
    until("a job says what it waits for", || {
        state.view(ids[150])["waits_for"].as_str().is_some_and(|why| why.contains("the rate limit of openai"))
    });
    let said = state.legwork(["wait", "--timeout", "120s"].iter().chain(&ids));
    assert_eq!(said.status, 0, "{}", said.err);
    let asked = fake.asked().len();
    // All were answered; at most one in a hundred answers was a refusal.
    assert!((200..=202).contains(&asked), "{asked} requests for 200 replies");
    assert_eq!(state.view(ids[150])["waits_for"], json!(null));
}

#[test]
fn a_refusal_is_heeded_by_every_worker() {
    let runtime = Runtime::new().unwrap();
    let refused = Mutex::new(None);
    let choose = move |_: &serde_json::Value| {
        let mut refused = refused.lock().unwrap();
        match *refused {
            None => {
                *refused = Some(Instant::now());
                Answer::Status(429, vec![("retry-after", "3")], "slow down")
            }
            Some(at) if at.elapsed().as_secs_f64() < 2.9 => {
                Answer::Status(400, Vec::new(), "I said slow down")
            }
            Some(_) => Answer::text(&["fine"]),
        }
    };
    let fake = runtime.block_on(FakeProvider::choosing(choose));
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    state.set("OPENAI_BASE_URL", &fake.url);
    state.set("OPENAI_API_KEY", "k");
    let team = state.file("team.yaml", ASKS);
    let _workers = [state.worker(&["--queues", "a"]), state.worker(&["--queues", "b"])];
    let first = state.dispatch(&[&team, "--queue", "a", "root", "one"]);
    until("the provider refused", || !fake.asked().is_empty());
    let second = state.dispatch(&[&team, "--queue", "b", "root", "two"]);
    until("the other worker's job waits", || {
        state.view(&second)["waits_for"].as_str().is_some_and(|why| why.contains("openai refused a call"))
    });
    assert!(state.legwork(["view", &second]).good().contains("\nWaits     openai refused a call"));
    for id in [&first, &second] {
        state.until_status(id, "completed");
    }
    assert_eq!(fake.asked().len(), 3);
}

#[test]
fn a_policy_sends_agents_to_their_queues() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({
        "nested": [
            calls("run_background_agent", &json!({"agent": "quick", "task": "hello"})),
            {"text": "sent"},
            {"text": "{{last_user}}"},
        ],
        "quick": [{"text": "fine"}],
    });
    let team = Team::in_house(&mut state, &script);
    let policy = state.file("policy.yaml", "agents:\n  quick: {queue: tools, priority: high, timeout: 5m}\n");
    state.set(variables::POLICY, &policy);
    let _general = state.worker(&[]);
    let nested = state.dispatch(&[&team.file, "nested", "go"]);
    until("the child is queued", || {
        state.legwork(["list", "--queue", "tools", "--json"]).objects().len() == 1
    });
    let child = state.legwork(["list", "--queue", "tools", "--json"]).objects().remove(0);
    assert_eq!((&child["status"], &child["agent"]), (&json!("queued"), &json!("quick")));
    assert!(
        state
            .legwork(["view", child["id"].as_str().unwrap()])
            .good()
            .contains("no worker serves queue tools")
    );
    let own = state.dispatch(&[&team.file, "--queue", "default", "quick", "here"]);
    assert_eq!(state.until_status(&own, "completed")["queue"], "default");
    let _tools = state.worker(&["--queues", "tools"]);
    state.until_status(&nested, "completed");

    let wrong = state.file("wrong.yaml", "agents:\n  quick: {quue: tools}\n");
    let said = state.legwork(["dispatch", "--policy", &wrong, &team.file, "quick", "go"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("wrong.yaml") && said.err.contains("quue"), "{}", said.err);
}

#[test]
fn a_job_of_which_nothing_is_heard_is_told_of() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": "while ! test -e go-on; do sleep 0.1; done", "timeout": 60})),
        {"text": "done"},
    ]});
    let team = Team::in_house(&mut state, &script);
    let _worker = state.worker(&["--stall-after", "1s", "--shared-work-dir", "--work-dir", "."]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let stalled = "no activity for more than 1s, since tool shell started";
    until("the job is told to stall", || state.view(&id)["waits_for"] == stalled);
    assert!(state.worker_log().contains("the job has stalled"), "{}", state.worker_log());
    assert!(state.legwork(["view", &id]).good().contains(&format!("\nWaits     {stalled}")));
    state.file("go-on", "");
    let view = state.until_status(&id, "completed");
    assert_eq!((&view["waits_for"], &view["result"]), (&json!(null), &json!("done")));
}

#[test]
fn a_worker_in_the_background_says_so_too() {
    let mut state = StateFolder::embedded();
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": "while ! test -e go-on; do sleep 0.1; done", "timeout": 60})),
        {"text": "done"},
    ]});
    let team = Team::in_house(&mut state, &script);
    let id = state.dispatch(&[&team.file, "shell", "go", "--stall-after", "1s"]);
    let stalled = "no activity for more than 1s, since tool shell started";
    until("the job is told to stall", || state.view(&id)["waits_for"] == stalled);
    state.file("go-on", "");
    state.until_status(&id, "completed");
}
