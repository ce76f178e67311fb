//! Ends of jobs are reported: signed, at least once under one id, never to private addresses unless allowed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::receiver::Received;
use legwork_tests::receiver::Receiver;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;

use crate::team::Team;

/// 32 bytes.
const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// A fleet whose workers have a secret and reach this machine.
fn fleet() -> (Redis, StateFolder, Team) {
    let (redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "canary output"}]}));
    state.set(variables::WEBHOOK_SECRET, &format!("whsec_{SECRET}"));
    state.set(variables::WEBHOOK_PRIVATE, "1");
    (redis, state, team)
}

/// Checks the signature of a request as a receiver does, and returns its id and its body.
fn verified(received: &Received) -> (String, Value) {
    let (id, timestamp) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(SECRET).unwrap()).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&received.body);
    let signature = received.header("webhook-signature").strip_prefix("v1,").unwrap();
    mac.verify_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    let sent: i64 = timestamp.parse().unwrap();
    let now = jiff::Timestamp::now().as_second();
    assert!((now - sent).abs() < 300, "receivers refuse old requests: {sent}, now {now}");
    assert_eq!(received.header("content-type"), "application/json");
    (id.to_owned(), received.json())
}

/// Makes the next attempt of a job's notification due.
fn let_pass(redis: &Redis, id: &str) {
    let id = id.strip_prefix("agent_task_").unwrap();
    redis.command(&format!("ZADD {{legwork:default:0}}:notifications XX 1 {id}"));
}

fn notification(state: &StateFolder, id: &str, status: &str) -> Value {
    let mut view = Value::Null;
    until(&format!("the notification of {id} is {status}"), || {
        view = state.view(id)["notification"].clone();
        view["state"] == status
    });
    view
}

#[test]
fn the_end_of_a_job_is_posted_signed() {
    let (_redis, state, team) = fleet();
    let receiver = Receiver::start(|_| 204);
    let mut worker = state.worker(&[]);
    let url = format!("{}/hooks?team=a", receiver.url());
    let id = state.dispatch(&[&team.file, "quick", "canary task", "--notify", &url]);
    let received = receiver.next();
    let (message, body) = verified(&received);
    assert_eq!(received.path, "/hooks?team=a");
    assert_eq!(message, id.replace("agent_task_", "msg_"));
    let view = state.view(&id);
    let times = ["created_at", "started_at", "finished_at"].map(|time| (time, view[time].clone()));
    let mut data = json!({
        "id": id, "session": view["session"], "parent": null, "agent": "quick", "queue": "default",
        "status": "completed", "cause": null, "attempt": 1,
    });
    for (name, time) in times {
        data[name] = time;
    }
    let expected = json!({"type": "job.completed", "timestamp": view["finished_at"], "data": data});
    assert_eq!(body, expected);
    assert!(!body.to_string().contains("canary"), "nothing of task and output: {body}");
    let stands = notification(&state, &id, "delivered");
    assert_eq!(
        (&stands["url"], &stands["attempts"]),
        (&json!(format!("{}/hooks", receiver.url())), &json!(1))
    );
    let shown = state.legwork(["view", &id]).expect_success();
    assert!(shown.contains(&format!("Notifies  {}/hooks (delivered, 1 attempt)", receiver.url())), "{shown}");
    // A worker that ends sends once more what is due.
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0);
    assert!(receiver.arrived().is_none(), "sent once");
}

#[test]
fn a_receiver_that_fails_gets_the_same_message_again() {
    let (redis, state, team) = fleet();
    let receiver = Receiver::start(|number| if number < 3 { 503 } else { 200 });
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    let first = verified(&receiver.next());
    until("the refusal is recorded", || state.view(&id)["notification"]["detail"] == "answered 503");
    let waits = state.view(&id)["notification"].clone();
    assert_eq!((&waits["state"], &waits["attempts"]), (&json!("pending"), &json!(1)), "{waits}");
    let next: jiff::Timestamp = waits["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let ended: jiff::Timestamp = state.view(&id)["finished_at"].as_str().unwrap().parse().unwrap();
    let delay = next.duration_since(ended).as_secs();
    assert!((4..60).contains(&delay), "the first retry is after five seconds: {delay} s");
    for attempts in 2..=3 {
        let_pass(&redis, &id);
        assert_eq!(verified(&receiver.next()), first, "the same id and body");
        until("the attempt is recorded", || {
            let stands = &state.view(&id)["notification"];
            stands["attempts"] == attempts && (attempts == 2 || stands["state"] == "delivered")
        });
    }
    assert!(receiver.arrived().is_none());
}

#[test]
fn a_sender_that_is_killed_after_its_request_leaves_it_to_the_next() {
    let (redis, state, team) = fleet();
    // The first request is not answered: its sender dies between the request and the record.
    let receiver = Receiver::start(|number| if number == 1 { 0 } else { 200 });
    let mut worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    let first = verified(&receiver.next());
    worker.kill();
    let_pass(&redis, &id);
    let _next = state.start_worker(&[]);
    assert_eq!(verified(&receiver.next()), first);
    assert_eq!(notification(&state, &id, "delivered")["attempts"], 2);
}

#[test]
fn private_addresses_redirects_and_a_receiver_that_is_gone_get_nothing_more() {
    let (redis, mut state, team) = fleet();
    let receiver = Receiver::start(|number| if number == 1 { 307 } else { 410 });
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    assert_eq!(receiver.next().path, "/");
    until("the redirect is recorded", || state.view(&id)["notification"]["detail"] == "answered 307");
    assert!(receiver.arrived().is_none(), "no redirect is followed");
    let_pass(&redis, &id);
    receiver.next();
    let stands = notification(&state, &id, "failed");
    assert_eq!((&stands["detail"], &stands["attempts"]), (&json!("answered 410"), &json!(2)));
    drop(worker);

    state.set(variables::WEBHOOK_PRIVATE, "0");
    let _worker = state.worker(&[]);
    let port = receiver.url().rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let url = format!("http://{host}:{port}/");
        let id = state.dispatch(&[&team.file, "quick", "go", "--notify", &url]);
        let detail = notification(&state, &id, "failed")["detail"].clone();
        let detail = detail.as_str().unwrap();
        assert!(
            detail.contains("is not a public address") && detail.contains(variables::WEBHOOK_PRIVATE),
            "{detail}"
        );
    }
    assert!(receiver.arrived().is_none());
}

#[test]
fn the_policy_reports_all_jobs_and_a_dispatcher_decides_otherwise() {
    let (_redis, mut state, team) = fleet();
    let (of_policy, of_dispatcher) = (Receiver::start(|_| 200), Receiver::start(|_| 200));
    let policy = state.file("policy.yaml", format!("notify: {}/all\n", of_policy.url()));
    state.set(variables::POLICY, &policy);
    let script = json!({"agents": {
        "quick": [{"text": "done"}],
        "nested": [
            crate::team::calls("run_background_agent", &json!({"agent": "quick", "task": "below"})),
            {"text": "waiting"},
            {"text": "done"},
        ],
    }});
    let script = state.file("script.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let own = format!("{}/own", of_dispatcher.url());
    let batch = state.file("batch.jsonl", json!({"agent": "quick", "task": "t", "notify": own}).to_string());
    let id = state.dispatch(&[&team.file, "--batch", &batch]);
    assert_eq!(verified(&of_dispatcher.next()).1["data"]["id"], id);
    let parent = state.dispatch(&[&team.file, "nested", "go"]);
    let mut agents = [verified(&of_policy.next()).1, verified(&of_policy.next()).1]
        .map(|body| {
            assert_eq!(body["type"], "job.completed");
            body
        })
        .map(|body| (body["data"]["agent"].as_str().unwrap().to_owned(), body["data"]["parent"].clone()));
    agents.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(agents, [("nested".to_owned(), Value::Null), ("quick".to_owned(), json!(parent))]);
    assert!(of_policy.arrived().is_none() && of_dispatcher.arrived().is_none());
}

#[test]
fn a_detached_job_of_this_machine_is_reported_too() {
    let receiver = Receiver::start(|_| 200);
    let mut state = StateFolder::embedded();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    let secret = state.file("secret", format!("whsec_{SECRET}\n"));
    state.set(variables::WEBHOOK_SECRET_FILE, &secret);
    state.set(variables::WEBHOOK_PRIVATE, "1");
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    assert_eq!(verified(&receiver.next()).1["data"]["id"], id);
}

#[test]
fn a_stopped_job_and_its_retry_are_reported_each_under_its_own_id() {
    let (_redis, state, team) = fleet();
    let receiver = Receiver::start(|_| 200);
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    state.legwork(["stop", &id]).expect_success();
    let stands = notification(&state, &id, "pending");
    assert_eq!(stands["attempts"], 0);
    let shown = state.legwork(["view", &id]).expect_success();
    assert!(
        shown.contains("(not sent yet; it takes a worker or a server with LEGWORK_WEBHOOK_SECRET)"),
        "{shown}"
    );
    let _worker = state.worker(&[]);
    let (first, body) = verified(&receiver.next());
    assert_eq!((&body["type"], &body["data"]["cause"]), (&json!("job.stopped"), &json!("operator")));
    state.legwork(["retry", &id]).expect_success();
    let (second, body) = verified(&receiver.next());
    assert_eq!(body["type"], "job.completed");
    assert!(first != second && body["data"]["id"] != json!(id));
}

#[test]
fn a_secret_is_not_in_redis_and_one_that_cannot_be_used_ends_the_worker() {
    let (redis, mut state, team) = fleet();
    let receiver = Receiver::start(|_| 200);
    let worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    receiver.next();
    notification(&state, &id, "delivered");
    assert!(!redis.written().contains(SECRET) && redis.written().contains(receiver.url()));
    drop(worker);
    state.set(variables::WEBHOOK_SECRET, "whsec_short");
    let mut refused = state.start_worker(&[]);
    assert_eq!(refused.wait(), 2);
    let log = state.worker_log();
    assert!(log.contains("a webhook secret must be whsec_") && !log.contains("whsec_short"), "{log}");
    let wrong = state.legwork(["dispatch", &team.file, "quick", "go", "--notify", "https://a:b@example.org"]);
    assert!(wrong.status == 2 && wrong.stderr.contains("must not contain a user name"), "{wrong:?}");
}

#[test]
fn a_server_reports_what_no_worker_lives_to_report_and_waits_as_long_as_the_receiver_asks() {
    let (_redis, state, team) = fleet();
    let receiver = Receiver::start_asking(|_| 503, "120");
    let id = state.dispatch(&[&team.file, "quick", "go", "--notify", receiver.url()]);
    let mut server = state.start_legwork(["serve", "--listen", "127.0.0.1:0"]);
    server.until_noted("listening on http://");
    state.legwork(["stop", &id]).expect_success();
    let (_, body) = verified(&receiver.next());
    assert_eq!((&body["type"], &body["data"]["id"]), (&json!("job.stopped"), &json!(id)));
    until("the refusal is recorded", || state.view(&id)["notification"]["attempts"] == 1);
    let stands = state.view(&id)["notification"].clone();
    assert_eq!(stands["detail"], "answered 503, not before 2m0s from then", "{stands}");
    let next: jiff::Timestamp = stands["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let delay = next.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((60..=125).contains(&delay), "the receiver asked for two minutes: {delay} s");
}
