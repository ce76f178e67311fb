//! Schedules fire once for each instant, whichever process fires, and continue after what was missed.

use std::time::Duration;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::programs::until_within;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;

fn lines(state: &StateFolder, arguments: &[&str]) -> Vec<Value> {
    let output = state.legwork(arguments.iter().copied().chain(["--json"]));
    assert_eq!(output.status, 0, "{output:?}");
    output.json_lines()
}

/// A schedule `tick` that is due every minute.
fn add(state: &StateFolder, team: &Team, options: &[&str]) {
    let command = ["schedule", "add", "tick", "* * * * *"];
    let task = [team.file.as_str(), "quick", "go"];
    state.legwork(command.iter().chain(options).chain(&task)).expect_success();
}

/// Moves the next instant of `tick` back by so many minutes, as if no process had reaped since.
fn let_pass(redis: &Redis, minutes: i64) {
    redis.command(&format!("ZINCRBY {{legwork:default:schedules}}:due -{} tick", minutes * 60_000));
}

#[test]
fn an_instant_fires_once_although_many_processes_reap() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    add(&state, &team, &["--missed", "all", "--overlap", "allow"]);
    // Before a worker can fire the next instant: those that are earlier than the last one never fire.
    let_pass(&redis, 4);
    let _workers: Vec<_> = (0..3).map(|_| state.worker(&[])).collect();
    // The last of the missed instants, and then the next one is ahead.
    until("four instants have fired", || lines(&state, &["list"]).len() >= 4);
    until("all have ended", || lines(&state, &["list", "--status", "completed"]).len() >= 4);
    // Read first: a minute that begins in between adds a job.
    let shown = &lines(&state, &["schedule", "list"])[0];
    let jobs = lines(&state, &["list"]);
    let mut keys: Vec<&str> = jobs.iter().map(|job| job["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), jobs.len(), "an instant fired twice");
    assert_eq!((&shown["name"], &shown["paused"]), (&json!("tick"), &json!(false)));
    assert!(jobs.iter().any(|job| job["id"] == shown["last"]["id"]), "{shown}");
}

#[test]
fn missed_instants_and_overlaps_follow_the_schedules_policies() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done", "delay_ms": 3_600_000}]}));
    add(&state, &team, &["--missed", "one", "--overlap", "stop"]);
    let_pass(&redis, 10);
    let _worker = state.worker(&[]);
    until("one job for all of them", || !lines(&state, &["list"]).is_empty());
    let first = lines(&state, &["list"])[0]["id"].as_str().unwrap().to_owned();
    state.until_status(&first, "running");
    // The next minute stops the job of the one before.
    until_within(Duration::from_secs(100), "the job of the minute before is stopped", || {
        state.view(&first)["status"] == "stopped"
    });
    assert_eq!(state.view(&first)["cause"], "operator");
    until("its own job runs", || lines(&state, &["list", "--status", "running"]).len() == 1);
    assert_eq!(lines(&state, &["list"]).len(), 2);
}

#[test]
fn schedules_are_listed_paused_resumed_run_and_removed() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    let arguments =
        ["schedule", "add", "digest", "0 7 * * 1-5", "--zone", "Europe/Berlin", &team.file, "quick", "go"];
    let added = state.legwork(arguments).expect_success();
    assert!(added.starts_with("digest runs next on 20") && added.ends_with(" 07:00\n"), "{added}");
    let again = state.legwork(arguments);
    let expected =
        "error: there is a schedule digest already\nhint: `legwork schedule remove digest` removes it\n";
    assert!(again.status == 7 && again.stderr.ends_with(expected), "{again:?}");
    state.legwork(["schedule", "pause", "digest"]).expect_success();
    assert_eq!(lines(&state, &["schedule", "list"])[0]["paused"], true);
    // A paused one runs by hand.
    let id = state.legwork(["schedule", "run-now", "digest"]).expect_success();
    let _worker = state.worker(&[]);
    state.until_status(id.trim(), "completed");
    state.legwork(["schedule", "resume", "digest"]).expect_success();
    assert_eq!(lines(&state, &["schedule", "list"])[0]["paused"], false);
    state.legwork(["schedule", "remove", "digest"]).expect_success();
    assert_eq!(state.legwork(["schedule", "remove", "digest"]).status, 3);
    assert!(lines(&state, &["schedule", "list"]).is_empty());
}

#[test]
fn wrong_schedules_are_refused_before_anything_is_stored() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let team = Team::write(&mut state, &json!({}));
    for (cron, zone, agent, status, message) in [
        ("0 7 * *", "UTC", "quick", 2, "it has 4 fields instead of five"),
        ("0 7 * * *", "Mars/Olympus", "quick", 2, "there is no time zone Mars/Olympus"),
        ("0 7 30 2 *", "UTC", "quick", 2, "no time matches `0 7 30 2 *`"),
        ("0 7 * * *", "UTC", "ghost", 3, "no such agent: ghost"),
    ] {
        let arguments = ["schedule", "add", "x", cron, "--zone", zone, &team.file, agent, "go"];
        let refused = state.legwork(arguments);
        assert!(refused.status == status && refused.stderr.contains(message), "{cron} {zone}: {refused:?}");
    }
    assert!(lines(&state, &["schedule", "list"]).is_empty());
    let mut local = StateFolder::embedded();
    let team = Team::write(&mut local, &json!({}));
    let refused = local.legwork(["schedule", "add", "x", "0 7 * * *", &team.file, "quick", "go"]);
    assert!(refused.status == 2 && refused.stderr.contains("schedules need a fleet"), "{refused:?}");
}
