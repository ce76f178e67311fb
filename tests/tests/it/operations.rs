//! Operators pause queues, drain workers, change what the namespace agrees on, and count.

use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;

fn json_of(state: &StateFolder, arguments: &[&str]) -> Value {
    let output = state.legwork(arguments.iter().copied().chain(["--json"]));
    assert_eq!(output.status, 0, "{output:?}");
    output.json_lines().remove(0)
}

#[test]
fn nothing_starts_from_a_paused_queue_and_every_command_says_why() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    let _worker = state.worker(&[]);
    let paused = state.legwork(["pause", "default"]).expect_success();
    assert_eq!(
        paused,
        "paused default: nothing new starts from it; `legwork unpause default` ends the pause\n"
    );
    assert_eq!(state.legwork(["pause", "default"]).expect_success(), "default was paused already\n");
    let dispatched = state.legwork(["dispatch", &team.file, "quick", "go"]);
    let hint = "hint: queue default is paused; to end the pause: legwork unpause default\n";
    assert!(dispatched.stderr.ends_with(hint), "{dispatched:?}");
    let id = dispatched.expect_success().trim().to_owned();

    // One that ended after it, on another queue, shows that the worker claimed in the meantime.
    let _other = state.worker(&["--queues", "other,default"]);
    let other = state.dispatch(&["--queue", "other", &team.file, "quick", "go"]);
    state.until_status(&other, "completed");
    let view = state.view(&id);
    assert_eq!((&view["status"], &view["waits_for"]["reason"]), (&json!("queued"), &json!("paused")));
    assert!(view["waits_for"]["since"].is_string(), "{view}");
    let explained = state.legwork(["explain", &id]).expect_success();
    assert!(explained.contains("Queue default is paused since "), "{explained}");
    assert!(explained.contains("`legwork unpause default`"), "{explained}");
    let shown = state.legwork(["view", &id]).expect_success();
    assert!(shown.contains("queue default, which is paused since"), "{shown}");
    let stats = json_of(&state, &["stats"]);
    let queue = stats["queues"].as_array().unwrap().iter().find(|queue| queue["queue"] == "default").unwrap();
    assert_eq!((&queue["queued"], queue["paused_since"].is_string()), (&json!(1), true), "{stats}");

    assert!(state.legwork(["unpause", "default"]).expect_success().starts_with("unpaused default"));
    state.until_status(&id, "completed");
    assert_eq!(state.legwork(["unpause", "default"]).expect_success(), "default was not paused\n");
    // A name that may be a mistake: it can be paused before it has workers.
    let unknown = state.legwork(["pause", "nosuchqueue"]);
    assert_eq!(
        (unknown.status, unknown.stderr.as_str()),
        (
            0,
            "no worker serves queue nosuchqueue, and no job is in queue nosuchqueue; the pause holds for later ones\n"
        )
    );
}

#[test]
fn a_job_of_a_session_on_this_machine_waits_for_the_end_of_a_pause_too() {
    let mut state = StateFolder::embedded();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    state.legwork(["pause", "default"]).expect_success();
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    assert_eq!(state.view(&id)["waits_for"]["reason"], "paused");
    state.legwork(["unpause", "default"]).expect_success();
    state.until_status(&id, "completed");
}

#[test]
fn a_worker_that_is_drained_exits_and_an_unknown_one_is_an_error() {
    let redis = Redis::start();
    let state = StateFolder::on(&redis.url());
    let mut worker = state.worker(&[]);
    let id = json_of(&state, &["workers"])["id"].as_str().unwrap().to_owned();
    let unknown = state.legwork(["workers", "drain", "nowhere-1"]);
    assert_eq!(
        (unknown.status, unknown.stderr.as_str()),
        (3, "error: worker not found: nowhere-1\nhint: `legwork workers` lists the live ones\n")
    );
    let beginning = &id[..id.len() - 2];
    let drained = state.legwork(["workers", "drain", beginning]).expect_success();
    assert_eq!(drained, format!("{id} takes no new jobs within seconds, and exits\n"));
    assert_eq!(worker.wait(), 0);
    assert!(state.worker_log().contains("an operator asked this worker to drain"));
    assert_eq!(state.legwork(["workers", "--json"]).stdout, "");
}

#[test]
fn settings_change_by_the_command_line_and_not_by_variables_for_new_namespaces() {
    let redis = Redis::start();
    // Its variable for the lease of a new namespace is 2 s.
    let mut state = StateFolder::on(&redis.url());
    let before = json_of(&state, &["configure"]);
    assert_eq!((&before["lease_ms"], &before["session_cap"]), (&json!(2000), &json!(20)), "{before}");
    state.set(legwork_common::variables::LEASE, "9s");
    let changed = json_of(&state, &["configure", "--session-cap", "5", "--retention", "7d"]);
    assert_eq!(changed["lease_ms"], 2000, "{changed}");
    assert_eq!((&changed["session_cap"], &changed["retention_ms"]), (&json!(5), &json!(604_800_000)));
    let changed = json_of(&state, &["configure", "--lease", "3s"]);
    assert_eq!((&changed["lease_ms"], &changed["session_cap"]), (&json!(3000), &json!(5)), "{changed}");
    let refused = state.legwork(["configure", "--shards", "4"]);
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(refused.stderr.contains("has 1 shards, not 4"), "{refused:?}");
}

#[test]
fn jobs_sessions_and_the_fleet_have_a_cost_where_the_price_is_known() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({"quick": [
        {"text": "done", "input_tokens": 1_200_000, "cached_tokens": 200_000, "output_tokens": 100_000},
    ]});
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&id, "completed");
    // No price of it is known.
    assert_eq!(state.view(&id)["cost_usd"], Value::Null);
    assert!(!state.legwork(["view", &id]).expect_success().contains("Cost"));

    // Prices hold for what has ended too.
    let policy =
        state.file("policy.yaml", "prices: {scripted/any: {input: 2.5, output: 10, cache_read: 0.25}}");
    state.set(legwork_common::variables::POLICY, &policy);
    let view = state.view(&id);
    // A million at 2.50, 200,000 at 0.25, 100,000 at 10.
    assert_eq!(view["cost_usd"], 3.55, "{view}");
    assert!(state.legwork(["view", &id]).expect_success().contains("\nCost      $3.55\n"));
    let session = view["session"].as_str().unwrap();
    let listed = state.legwork(["list", "--output", "wide", "--session", session]);
    assert!(listed.stdout.contains("$3.55"), "{listed:?}");
    assert!(listed.stderr.contains("cost of 1 job: $3.55"), "{listed:?}");
    let day = &json_of(&state, &["stats"])["ended"][1];
    assert_eq!((&day["cost_usd"], &day["unpriced"]), (&json!(3.55), &json!(0)), "{day}");
    assert_eq!(
        (&day["models"][0]["name"], &day["agents"][0]["name"]),
        (&json!("scripted/any"), &json!("quick"))
    );
    assert_eq!(day["models"][0]["cost_usd"], 3.55, "{day}");
}

#[test]
fn completions_and_pages_are_printed() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef legwork"), ("fish", "complete -c legwork")]
    {
        assert!(state.legwork(["completions", shell]).expect_success().contains(word), "{shell}");
    }
    let page = state.legwork(["man", "dispatch"]).expect_success();
    assert!(page.contains(".TH") && page.contains("expected\\-output"), "{page}");
}
