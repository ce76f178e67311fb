//! A job that kills its workers ends, and its neighbours do not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use legwork_common::job::Job;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until_within;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Jobs beside the poisonous one.
const INNOCENT: usize = 10;
/// Three leases of two seconds, and twelve attempts one after the other on two busy cores.
const LIMIT: Duration = Duration::from_secs(120);
/// From a finished turn, after which others may run beside a job, to the end of the job.
const END_OF_A_JOB_MS: i128 = 700;

#[test]
fn a_job_that_kills_its_workers_fails_alone_and_its_neighbours_complete() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    // The program that a command begins as is a child of the worker. The third one, alone, waits until it was seen.
    let (begun, seen) = (state.file("begun", ""), state.file("seen", ""));
    std::fs::remove_file(&seen).unwrap();
    let command = format!(
        "echo >> {begun}; while [ $(wc -l < {begun}) -gt 2 ] && [ ! -e {seen} ]; do sleep 0.1; done; sleep 0.5; kill -9 $PPID; sleep 60"
    );
    let kill = calls("shell", &json!({"cmd": command, "timeout": 100}));
    let script = json!({
        "shell": [kill, kill, kill, kill, kill, kill],
        "quick": [{"text": "one two three four five six seven eight", "chunk_delay_ms": 250}],
    });
    let team = Team::write(&mut state, &script);
    let poison = state.dispatch(&[&team.file, "shell", "kill"]);
    let lines: Vec<String> =
        (0..INNOCENT).map(|n| json!({"agent": "quick", "task": format!("{n}")}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let printed = state.dispatch(&[&team.file, "--batch", &batch]);
    let innocent: Vec<&str> = printed.lines().collect();
    // All eleven run on the first worker when it dies, and then most of them on the second, which dies too.
    let mut workers = vec![state.worker(&[])];
    let mut lost = 0;
    let (mut explained, mut viewed) = (None, None);
    until_within(LIMIT, "all jobs have ended", || {
        keep_workers(&state, &mut workers, &mut lost);
        let jobs = state.legwork(["list", "--json", "--limit", "50"]).json_lines();
        let in_quarantine = |status: &str| {
            let found = |job: &&Value| job["status"] == status && job["quarantine"] == 2;
            jobs.iter().find(found).map(|job| job["id"].as_str().unwrap().to_owned())
        };
        if let (None, Some(id)) = (&explained, in_quarantine("queued")) {
            let text = state.legwork(["explain", &id]).stdout;
            explained = Some(text).filter(|text| text.contains("is queued"));
        }
        if let (None, Some(id)) = (&viewed, in_quarantine("running")) {
            let text = state.legwork(["view", &id]).stdout;
            viewed = Some(text).filter(|text| text.contains("Status    running"));
            if viewed.is_some() {
                state.file("seen", "");
            }
        }
        jobs.len() > INNOCENT && jobs.iter().all(|job| !job["finished_at"].is_null())
    });
    let view = state.view(&poison);
    assert_eq!((&view["status"], &view["cause"]), (&json!("failed"), &json!("worker_lost")), "{view}");
    assert_eq!(view["attempt"], 3, "{view}");
    assert!(view["error"].as_str().unwrap().contains("the last one while it ran alone"), "{view}");
    assert_completed_alone(&state, &innocent);
    let explained = explained.unwrap();
    assert!(explained.contains("in quarantine: 2 workers were lost in a row"), "{explained}");
    let viewed = viewed.unwrap();
    assert!(viewed.contains("Alone     in quarantine after 2 lost workers"), "{viewed}");
}

/// Each neighbour completed, at its third try alone on its worker.
fn assert_completed_alone(state: &StateFolder, innocent: &[&str]) {
    let mut by_worker: BTreeMap<String, Vec<Job>> = BTreeMap::new();
    for id in innocent {
        let view = state.view(id);
        assert_eq!(view["status"], "completed", "{view}");
        if view["attempt"] == 2 {
            // The other worker took it.
            continue;
        }
        assert_eq!(view["attempt"], 3, "{view}");
        let worker = view["worker"].as_str().unwrap().to_owned();
        by_worker.entry(worker).or_default().push(serde_json::from_value(view).unwrap());
    }
    for (worker, mut jobs) in by_worker {
        jobs.sort_by_key(|job| job.attempt_started_at);
        for pair in jobs.windows(2) {
            let (ended, begun) = (pair[0].finished_at.unwrap(), pair[1].attempt_started_at.unwrap());
            let overlap = ended.duration_since(begun).as_millis();
            assert!(overlap < END_OF_A_JOB_MS, "{worker} ran two at once for {overlap} ms");
        }
    }
}

/// Replaces workers that died: one serves at a time until two have died, and then two.
fn keep_workers(state: &StateFolder, workers: &mut Vec<Program>, lost: &mut usize) {
    let before = workers.len();
    workers.retain_mut(Program::is_running);
    *lost += before - workers.len();
    while workers.len() < if *lost < 2 { 1 } else { 2 } {
        workers.push(state.start_worker(&[]));
    }
}
