//! A fleet of workers on one Redis.

use std::collections::BTreeMap;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::http_get;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Bytes of a line of the log up to its second: `2026-11-29T10:57:15`.
const SECOND_BYTES: usize = 19;
/// Lines of one kind that two workers may write in a second of the clock: ten each in a second of their own, two of which
/// may begin in it.
const MOST_LINES: usize = 2 * 2 * 10;

#[test]
fn two_workers_complete_five_hundred_jobs_once() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done: {{task}}"}]}));
    let mut workers = [state.worker(&[]), state.worker(&[])];
    let lines: Vec<String> = (0..500)
        .map(|n| json!({"agent": "quick", "task": format!("job {n}"), "key": format!("k{n}")}).to_string())
        .collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let dispatch = ["dispatch", &team.file, "--batch", &batch, "--wait", "--json", "--cap", "50"];
    let jobs = state.legwork(dispatch).json_lines();

    assert_eq!(jobs.len(), 500);
    let mut by_worker: BTreeMap<String, u32> = BTreeMap::new();
    for (number, job) in jobs.iter().enumerate() {
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["attempt"], 1, "{job}");
        assert_eq!(job["task"], format!("job {number}"));
        assert!(job["result"].as_str().unwrap().contains(&format!("job {number}")), "{job}");
        *by_worker.entry(job["worker"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(by_worker.len(), 2, "both workers ran jobs: {by_worker:?}");

    // Dispatching the same batch again returns the same jobs.
    let again = state.legwork(["dispatch", &team.file, "--batch", &batch, "--json"]).json_lines();
    let ids = |jobs: &[Value]| jobs.iter().map(|job| job["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&jobs));

    // Each attempt is logged once: in a line of its own, or in a summary of those that came too fast.
    for worker in &mut workers {
        worker.signal(Signal::TERM);
        assert_eq!(worker.wait(), 0);
    }
    let log = state.worker_log();
    for (line, count) in [("attempt started", "started="), ("attempt ended", "ended=")] {
        // By the second that it begins with.
        let mut seconds: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in log.lines().filter(|entry| entry.contains(line)) {
            *seconds.entry(&entry[..SECOND_BYTES]).or_default() += 1;
        }
        let own: usize = seconds.values().sum();
        assert!(seconds.values().all(|lines| *lines <= MOST_LINES), "{line}: {seconds:?}");
        let summed: usize = log
            .lines()
            .filter(|entry| entry.contains("more attempts: "))
            .map(|entry| {
                let (_, rest) = entry.split_once(&format!(" {count}")).unwrap();
                rest.split(' ').next().unwrap().parse::<usize>().unwrap()
            })
            .sum();
        assert_eq!(own + summed, 500, "{line}: {log}");
    }
}

#[test]
fn a_tree_of_depth_five_completes_with_one_slot_and_a_cap_of_one() {
    let (_redis, mut state) = StateFolder::with_redis();
    // Each level dispatches the one below and waits for it.
    let down = json!({"nested": [
        calls("run_background_agent", &json!({"agent": "nested", "task": "{{task}}x"})),
        calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
        {"text": "below me: {{result:wait_background_agents}}"},
    ]});
    let team = Team::write(&mut state, &down);
    let deep = state.file("deep.yaml", deep_team(5));
    let script = state.file("deep.json", json!({"agents": deep_script(5)}).to_string());
    let _worker = state.worker(&["--concurrency", "1", "--script", &script]);
    let id = state.dispatch(&[&deep, "level1", "go down", "--cap", "1"]);
    let view = state.until_status(&id, "completed");
    assert!(view["result"].as_str().unwrap().contains("the bottom"), "{view}");
    assert_eq!(state.legwork(["list", "--json"]).json_lines().len(), 5);
    drop(team);
}

/// Agents `level1` to `levelN`, each with the next below it.
fn deep_team(levels: u32) -> String {
    let mut text = "agents:\n".to_owned();
    for level in 1..=levels {
        let below = if level < levels { format!("[level{}]", level + 1) } else { "[]".to_owned() };
        text.push_str(&format!(
            "  level{level}: {{model: scripted/any, description: d, instruction: i, sub_agents: {below}, toolsets: [{{type: background_agents}}]}}\n"
        ));
    }
    text
}

fn deep_script(levels: u32) -> Value {
    let mut agents = serde_json::Map::new();
    for level in 1..levels {
        let next = format!("level{}", level + 1);
        // Even levels wait with the tool; odd levels finish their turn and get a notification.
        let mut replies = vec![calls("run_background_agent", &json!({"agent": next, "task": "further"}))];
        if level % 2 == 0 {
            replies.push(calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})));
            replies.push(json!({"text": "waited: {{results}}"}));
        } else {
            replies.push(json!({"text": "Turn finished."}));
            replies.push(json!({"text": "notified: {{last_user}}"}));
        }
        agents.insert(format!("level{level}"), Value::Array(replies));
    }
    agents.insert(format!("level{levels}"), json!([{"text": "the bottom"}]));
    Value::Object(agents)
}

#[test]
fn view_follow_prints_the_exact_output() {
    let (_redis, mut state) = StateFolder::with_redis();
    let words: String = (0..200).map(|n| format!("wörd{n} ")).collect();
    let team = Team::write(&mut state, &json!({"quick": [{"text": words, "chunk_delay_ms": 2}]}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "say it"]);
    let followed = state.legwork(["view", &id, "--follow"]).expect_success();
    assert_eq!(followed, words);
    let tail = state.legwork(["view", &id, "--since", "1000", "--json"]).json_lines().remove(0);
    assert_eq!(tail["output"].as_str().unwrap().as_bytes(), &words.as_bytes()[1000..]);
    assert_eq!(tail["next_offset"], words.len());
}

#[test]
fn readiness_follows_redis() {
    let mut redis = Redis::start();
    let state = StateFolder::on(&redis.url());
    let address = format!("127.0.0.1:{}", legwork_tests::redis::free_port());
    let mut worker = state.worker(&["--health", &address]);
    let get = |path: &str| http_get(&address, path);
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    until("the worker is ready", || get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains("legwork_worker_used_slots 0"));
    redis.kill();
    until("the worker is not ready", || get("/readyz").starts_with("HTTP/1.1 503"));
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    redis.restart();
    until("the worker is ready again", || get("/readyz").starts_with("HTTP/1.1 200"));
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0);
}

/// A team in a circle. Every agent dispatches the next one.
const CIRCLE: &str = "
agents:
  root: {model: scripted/any, instruction: i, sub_agents: [first], toolsets: [{type: background_agents}]}
  first: {model: scripted/any, instruction: i, sub_agents: [second], toolsets: [{type: background_agents}]}
  second: {model: scripted/any, instruction: i, sub_agents: [first, root], toolsets: [{type: background_agents}]}
";

/// The transcript of the job of `second`, which tries to dispatch `agent`.
fn transcript_in_a_circle(state: &mut StateFolder, agent: &str) -> String {
    let file = state.file("circle.yaml", CIRCLE);
    let run = |agent: &str| calls("run_background_agent", &json!({"agent": agent, "task": "t"}));
    let agents = json!({
        "root": [run("first"), {"text": "done"}, {"text": "told"}],
        "first": [run("second"), {"text": "done"}, {"text": "told"}],
        "second": [run(agent), {"text": "done"}, {"text": "told"}],
    });
    let script = state.file("circle.json", json!({"agents": agents}).to_string());
    state.set(variables::SCRIPT, &script);
    state.legwork(["run", &file, "go"]).expect_success();
    let jobs = state.legwork(["list", "--json"]).json_lines();
    let of_second = jobs.iter().filter(|job| job["agent"] == "second");
    let highest = of_second.min_by_key(|job| job["depth"].as_u64()).unwrap();
    let second = highest["id"].as_str().unwrap().to_owned();
    state.legwork(["view", &second, "--transcript"]).expect_success()
}

#[test]
fn an_agent_is_not_dispatched_below_itself() {
    for (agent, way) in
        [("first", "root -> first -> second -> first"), ("root", "root -> first -> second -> root")]
    {
        let mut state = StateFolder::embedded();
        let turns = transcript_in_a_circle(&mut state, agent);
        assert!(turns.contains(&format!("delegation cycle detected: {way}")), "{turns}");
    }
}

#[test]
fn a_policy_may_allow_recursion() {
    let mut state = StateFolder::embedded();
    let policy = state.file("policy.yaml", "recursion: true\n");
    state.set(variables::POLICY, &policy);
    let turns = transcript_in_a_circle(&mut state, "first");
    assert!(
        turns.contains("Background agent task started") && !turns.contains("delegation cycle"),
        "{turns}"
    );
}

#[test]
fn jobs_nest_at_most_ten_levels_deep() {
    let (_redis, mut state) = StateFolder::with_redis();
    let deep = state.file("deep.yaml", deep_team(12));
    let script = state.file("deep.json", json!({"agents": deep_script(12)}).to_string());
    state.set(variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&deep, "level1", "go down"]);
    state.until_status(&id, "completed");
    let jobs = state.legwork(["list", "--json"]).json_lines();
    assert_eq!(jobs.len(), 10);
    assert_eq!(jobs.iter().map(|job| job["depth"].as_u64().unwrap()).max(), Some(9));
    let deepest = jobs.iter().find(|job| job["depth"] == 9).unwrap()["id"].as_str().unwrap().to_owned();
    let turns = state.legwork(["view", &deepest, "--transcript"]).expect_success();
    let refusal = "delegation depth limit exceeded: background agents can be nested at most 10 levels deep";
    assert!(turns.contains(refusal), "{turns}");
}

#[test]
fn a_worker_that_starts_before_its_redis_waits_for_it() {
    let mut redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    state.set(variables::LOG, "warn");
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    redis.kill();
    let mut worker = state.start_worker(&[]);
    until("it logs that it waits", || state.worker_log().contains("cannot reach the queue yet"));
    assert!(worker.is_running());
    redis.restart();
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&id, "completed");

    // SIGTERM while it waits for Redis: it exits with 0, because it holds no jobs.
    redis.kill();
    let mut waiting = state.start_worker(&[]);
    let warning = "cannot reach the queue yet";
    until("the second worker waits too", || state.worker_log().matches(warning).count() >= 2);
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.wait(), 0);
}
