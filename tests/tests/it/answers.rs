//! What an operator asks of the command line: why a job does not run, who runs it, what became of it. One command each.

use std::io::BufRead as _;
use std::io::BufReader;

use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Replies of an agent `shell` whose command runs until the file `go-on` is in the shared work dir.
fn blocking() -> Value {
    let command = json!({"cmd": "while ! test -e go-on; do sleep 0.1; done", "timeout": 60});
    json!({"shell": [calls("shell", &command), {"text": "done"}], "quick": [{"text": "quick"}]})
}

/// A folder whose workers share its folder, so that commands see the files of the test.
fn scene(redis: &Redis, script: &Value) -> (StateFolder, Team) {
    let mut state = StateFolder::on(&redis.url());
    let team = Team::write(&mut state, script);
    (state, team)
}

const SHARED: [&str; 3] = ["--shared-work-dir", "--work-dir", "."];

/// The text of a command that succeeds.
fn shown(state: &StateFolder, arguments: &[&str]) -> String {
    state.legwork(arguments).expect_success()
}

#[test]
fn the_reason_that_a_job_waits_is_a_field_a_header_line_and_a_sentence() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &blocking());
    let _worker = state.worker(&SHARED);
    let request = json!({"agent": "shell", "task": "go"}).to_string();
    let batch = state.file("batch.jsonl", format!("{request}\n{request}\n{request}\n"));
    let ids = state.dispatch(&[&team.file, "--batch", &batch, "--cap", "1"]);
    let ids: Vec<&str> = ids.lines().collect();
    state.until_status(ids[0], "running");

    let view = state.view(ids[2]);
    let expected = json!({"reason": "session_cap", "queue": "default", "cap": 1, "admitted": 1, "ahead": 2, "held_by": [ids[0]]});
    assert_eq!(view["waits_for"], expected);
    let listed = state.legwork(["list", "--status", "queued", "--json"]).json_lines();
    assert!(listed.iter().any(|job| job["id"] == ids[2] && job["waits_for"] == expected), "{listed:?}");
    let text = shown(&state, &["view", ids[2]]);
    assert!(text.contains("\nWaits for its session's cap of 1: 1 admitted, 2 before it"), "{text}");
    let text = shown(&state, &["explain", ids[2]]);
    assert!(text.contains("may have 1 job in queue default at once") && text.contains("--cap"), "{text}");

    let gpu = state.dispatch(&[&team.file, "--queue", "gpu", "quick", "go"]);
    assert_eq!(
        state.view(&gpu)["waits_for"],
        json!({"reason": "no_worker", "queue": "gpu", "draining": 0, "session_lane": false})
    );
    assert!(shown(&state, &["view", &gpu]).contains("\nWaits for no worker serves queue gpu\n"));
    assert!(shown(&state, &["explain", &gpu]).contains("No worker serves queue gpu."));

    let later = state.dispatch(&[&team.file, "--delay", "1h", "quick", "go"]);
    let waits_for = &state.view(&later)["waits_for"];
    assert_eq!((&waits_for["reason"], &waits_for["why"]), (&json!("schedule"), &json!("delay")));
    assert!(shown(&state, &["view", &later]).contains("\nNext try  "));
    let explained = state.legwork(["explain", &later, "--json"]).json_lines().remove(0);
    assert!(explained["explanation"].as_str().unwrap().contains("dispatched with a delay"), "{explained}");
    assert_eq!(explained["job"]["id"], json!(later));
    state.file("go-on", "");
}

#[test]
fn a_job_shows_its_attempts_and_what_it_used_while_it_runs() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &blocking());
    let mut first = state.worker(&SHARED);
    let task = "Count.\n\nThen sum\nthem up.";
    let id = state.dispatch(&[&team.file, "--timeout", "10m", "--retries", "2", "shell", task]);
    let view = || state.view(&id);
    until("a turn is counted while the job runs", || view()["usage"]["turns"] == 1);
    let running = view();
    assert_eq!((&running["status"], &running["model"]), (&json!("running"), &json!("scripted/any")));
    assert_eq!((&running["timeout_ms"], &running["retries"]), (&json!(600_000), &json!(2)));
    let lost = running["worker"].clone();
    first.kill();
    let _second = state.worker(&SHARED);
    let ended = state.until_status(&id, "completed");

    let past = ended["past_attempts"].as_array().unwrap();
    assert_eq!(past.len(), 1, "{past:?}");
    assert_eq!((&past[0]["attempt"], &past[0]["worker"]), (&json!(1), &lost));
    assert_eq!(past[0]["end"], "worker_lost");
    let ran = |value: &Value| value["runtime_ms"].as_u64().unwrap();
    assert!(ran(&past[0]) > 0 && ran(&ended) >= ran(&past[0]), "{ended}");
    let text = shown(&state, &["view", &id]);
    for line in
        ["\nTask      Count.\n\n          Then sum\n          them up.\n", "\nTimeout   10m\n", "worker lost"]
    {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    for line in text.lines().filter(|line| line.starts_with("1  ") || line.starts_with("2  ")) {
        assert!(line.split_whitespace().count() >= 4, "{line}");
    }
}

/// The events of `run --json` whose job is queued when `meanwhile` is called; it starts the worker.
fn events_of_run(
    state: &StateFolder,
    team: &Team,
    meanwhile: impl FnOnce() -> Program,
) -> (Vec<Value>, Program) {
    let mut run = state.start_legwork(["run", "--json", &team.file, "go"]);
    let (_stdin, stdout, _stderr) = run.take_streams();
    let mut events: Vec<Value> = Vec::new();
    let mut read = BufReader::new(stdout).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    for event in read.by_ref() {
        let event: Value = event;
        let is_job = event["event"] == "job";
        events.push(event);
        if is_job {
            break;
        }
    }
    let worker = meanwhile();
    events.extend(read);
    (events, worker)
}

/// A job from each command that prints one, in different states.
fn jobs_of_every_command(state: &StateFolder, team: &Team) -> Vec<Value> {
    let lines = |arguments: &[&str]| state.legwork(arguments).json_lines();
    let queued = lines(&["dispatch", "--json", &team.file, "quick", "go"]).remove(0);
    let id = queued["id"].as_str().unwrap().to_owned();
    let mut jobs = vec![queued, state.view(&id)];
    jobs.extend(lines(&["wait", "--json", "--timeout", "10ms", &id]));
    let (events, _worker) = events_of_run(state, team, || {
        let listed = lines(&["list", "--output", "page"]).remove(0);
        assert!(listed["next"].is_null(), "{listed}");
        jobs.extend(listed["jobs"].as_array().unwrap().clone());
        state.worker(&SHARED)
    });
    let of_run: Vec<Value> = events.iter().filter_map(|event| event.get("job").cloned()).collect();
    assert!(of_run.iter().any(|job| job["status"] == "queued"), "{events:?}");
    assert!(of_run.iter().any(|job| job["status"] == "completed" && job["result"] == "quick"), "{events:?}");
    jobs.extend(of_run);
    let tool = events.iter().find(|event| event["event"] == "tool").unwrap();
    assert_eq!(tool["arguments"], json!({"agent": "quick", "task": "go"}));

    jobs.extend(lines(&["wait", "--json", &id]));
    jobs.extend(lines(&["dispatch", "--json", "--wait", &team.file, "quick", "go"]));
    let dispatch = ["dispatch", "--json", "--follow", &team.file, "quick", "go"];
    for follow in [&["view", "--json", "--follow", &id][..], &dispatch] {
        jobs.push(lines(follow).pop().unwrap()["job"].clone());
    }
    jobs.extend(lines(&["list", "--json"]));
    jobs.extend(lines(&["explain", "--json", &id]).into_iter().map(|line| line["job"].clone()));
    let later = state.dispatch(&["--delay", "1h", &team.file, "quick", "go"]);
    jobs.push(state.view(&later));
    state.legwork(["stop", &later]).expect_success();
    jobs.extend(lines(&["retry", "--json", &later]));
    jobs.push(state.view(&state.dispatch(&[&team.file, "--queue", "gpu", "quick", "go"])));
    jobs
}

#[test]
fn a_job_has_one_shape_in_every_command_and_matches_its_schema() {
    let redis = Redis::start();
    let mut script = blocking();
    script["root"] = json!([
        calls("run_background_agent", &json!({"agent": "quick", "task": "go"})),
        {"text": "done"},
    ]);
    let (state, team) = scene(&redis, &script);
    let jobs = jobs_of_every_command(&state, &team);
    let schema = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/job.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let documented = schema["properties"].as_object().unwrap().clone();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let keys = |job: &Value| -> Vec<String> {
        let of_view = ["output", "output_offset", "next_offset"];
        job.as_object().unwrap().keys().filter(|key| !of_view.contains(&key.as_str())).cloned().collect()
    };
    for job in &jobs {
        assert_eq!(job["model"], "scripted/any", "{job}");
        let waits = ["queued", "scheduled"].contains(&job["status"].as_str().unwrap());
        assert_eq!(job["waits_for"].is_object(), waits, "{job}");
        assert_eq!(keys(job), keys(&jobs[0]), "{job}");
        assert!(keys(job).iter().all(|key| documented.contains_key(key)), "{job}");
        let mistakes: Vec<String> = schema.iter_errors(job).map(|error| error.to_string()).collect();
        assert!(mistakes.is_empty(), "{mistakes:?} in {job}");
        let created = job["created_at"].as_str().unwrap();
        assert_eq!(created.len(), "2026-01-01T00:00:00.000Z".len(), "{created}");
    }
    // The schema refuses what no command prints.
    let mut wrong = jobs[0].clone();
    wrong["status"] = json!("sleeping");
    assert!(!schema.is_valid(&wrong));
}

#[test]
fn operations_that_a_jobs_state_does_not_allow_have_one_code() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &blocking());
    let _worker = state.worker(&SHARED);
    let ended = state.dispatch(&[&team.file, "quick", "go"]);
    let live = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_status(&ended, "completed");
    state.until_status(&live, "running");
    for arguments in
        [["retry", &ended, ""], ["retry", &live, ""], ["delete", &live, ""], ["send", &ended, "hello"]]
    {
        let arguments = arguments.iter().filter(|argument| !argument.is_empty());
        let output = state.legwork(std::iter::once(&"--json").chain(arguments));
        let error: Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
        assert_eq!((output.status, &error["error"]["code"]), (2, &json!("wrong_state")), "{output:?}");
    }
    state.file("go-on", "");
}

#[test]
fn a_retry_without_the_jobs_script_is_refused_before_anything_is_stored() {
    let state = StateFolder::embedded();
    let file = state.file("team.yaml", "agents:\n  root: {model: openai/gpt-4o, instruction: x}\n");
    let script = state.file("script.json", json!({"agents": {"root": []}}).to_string());
    let id = state.legwork(["dispatch", "--script", &script, &file, "root", "go"]).expect_success();
    let id = id.trim();
    state.until_status(id, "failed");
    let output = state.legwork(["retry", id]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(
        output.stderr.contains("OPENAI_API_KEY") && output.stderr.contains("--script"),
        "{}",
        output.stderr
    );
    assert_eq!(state.legwork(["list", "--json"]).json_lines().len(), 1);
    assert_eq!(state.legwork(["retry", "--script", &script, id]).status, 0);
}

#[test]
fn a_lost_worker_and_a_sick_one_are_marked() {
    let (_redis, mut state) = StateFolder::with_redis();
    let file = state.file("team.yaml", "agents:\n  root: {model: openai/gpt-4o, instruction: x}\n");
    // Its key is missing: it gives back every job. Another worker serves the queue, so that the jobs are not rejected.
    let _sick = state.worker(&["--queues", "a"]);
    state.set("OPENAI_API_KEY", "k");
    state.set("OPENAI_BASE_URL", "http://127.0.0.1:9");
    let able = state.worker(&["--queues", "a", "--concurrency", "1"]);
    let workers = || state.legwork(["workers", "--json"]).json_lines();
    able.signal(rustix::process::Signal::STOP);
    for _ in 0..3 {
        state.dispatch(&[&file, "--queue", "a", "root", "go"]);
    }
    until("the worker without a key is sick", || workers().iter().any(|worker| worker["state"] == "sick"));
    let fleet = workers();
    let sick = fleet.iter().find(|worker| worker["state"] == "sick").unwrap();
    assert!(sick["last_reason"].as_str().unwrap().contains("OPENAI_API_KEY"), "{sick}");
    assert!(sick["given_back"].as_u64() >= Some(3) && sick["pid"].as_u64() > Some(0), "{sick}");
    assert!(shown(&state, &["workers"]).contains("jobs in a row, the last one: "));
    assert!(state.worker_log().contains("gave the job back: "), "{}", state.worker_log());
    state.worker(&["--queues", "b"]).kill();
    until("the killed worker is lost", || workers().iter().any(|worker| worker["state"] == "lost"));
    assert!(shown(&state, &["workers"]).contains("  lost "));
}

#[test]
fn a_worker_whose_work_dir_cannot_be_made_refuses_to_start() {
    let (_redis, state) = StateFolder::with_redis();
    let file = state.file("not-a-folder", "");
    let mut worker = state.start_worker(&["--work-dir", &format!("{file}/work")]);
    assert_eq!(worker.wait(), 2);
    assert!(state.worker_log().contains("not-a-folder/work cannot be created"), "{}", state.worker_log());
}

#[test]
fn a_failed_attempt_is_one_line_of_the_log() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &json!({"quick": []}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    let failed = state.until_status(&id, "failed");
    until("the failure is logged", || state.worker_log().contains("attempt failed"));
    let log = state.worker_log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .filter(|line| !line.contains("maxmemory"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    let error = failed["error"].as_str().unwrap().lines().next().unwrap();
    for part in [id.as_str(), "agent=quick", "cause=", error] {
        assert!(lines[0].contains(part), "{part:?} is not in {}", lines[0]);
    }
}

#[test]
fn escape_sequences_of_an_agent_are_written_out_on_a_terminal_and_kept_in_a_pipe() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &json!({"quick": [{"text": "\u{1b}[31mred"}]}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&id, "completed");
    assert!(shown(&state, &["view", &id]).contains("\u{1b}[31mred"));
    for arguments in [
        &["view", &id][..],
        &["view", "--since", "0", &id],
        &["view", "--follow", &id],
        &["view", "--transcript", &id],
    ] {
        let text = state.in_terminal(arguments, "");
        assert!(text.contains("\\x1b[31mred") && !text.contains("\u{1b}[31m"), "{arguments:?}: {text:?}");
    }
}

#[test]
fn the_end_of_a_followed_job_has_a_line_of_its_own_on_standard_error() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &blocking());
    let _worker = state.worker(&SHARED);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    let followed = state.legwork(["view", "--follow", &id]);
    assert_eq!((followed.stdout.as_str(), followed.stderr), ("quick", format!("{id} completed\n")));
    // On a terminal both are shown, one below the other.
    let shown = state.in_terminal(&["view", "--follow", &id], "");
    assert_eq!(shown.lines().collect::<Vec<_>>(), ["quick", &format!("{id} completed")], "{shown:?}");
}

#[test]
fn each_of_ten_questions_is_answered_by_one_command() {
    let redis = Redis::start();
    let (state, team) = scene(&redis, &blocking());
    let worker = state.worker(&SHARED);
    let running = state.dispatch(&[&team.file, "shell", "go"]);
    let stuck = state.dispatch(&[&team.file, "--queue", "gpu", "quick", "go"]);
    let failed = state.dispatch(&[&team.file, "nested", "go"]);
    state.until_status(&failed, "failed");
    let job = state.until_status(&running, "running");
    let (worker_id, session) = (job["worker"].as_str().unwrap(), job["session"].as_str().unwrap());

    // What runs where?
    let text = shown(&state, &["list", "-o", "wide", "--status", "running"]);
    assert!(text.contains("WORKER") && text.contains(worker_id), "{text}");
    // Why is this job not running?
    assert!(shown(&state, &["explain", &stuck]).contains("No worker serves queue gpu."));
    // What failed in the last hour, and why?
    let failures = shown(&state, &["list", "--failed", "--since", "1h"]);
    let error = state.view(&failed)["error"].as_str().unwrap().to_owned();
    let why = error.lines().next().unwrap();
    let header = failures.lines().next().unwrap();
    assert!(
        header.ends_with("ERROR") && failures.contains(why) && failures.lines().count() == 2,
        "{failures}"
    );
    // Which worker is sick? Its state says so, with the reason; this one is not.
    let fleet = shown(&state, &["workers"]);
    assert!(fleet.contains("STATE") && fleet.contains("serving"), "{fleet}");
    // What did it do, and what did it use?
    assert!(shown(&state, &["view", "--transcript", &running]).contains("→ shell"));
    assert!(shown(&state, &["view", &running]).contains("\nUsage     1 turn, "));
    // How old is the queue?
    let stats = state.legwork(["stats", "--json"]).json_lines().remove(0);
    let gpu = stats["queues"].as_array().unwrap().iter().find(|queue| queue["queue"] == "gpu").unwrap();
    assert_eq!(gpu["queued"], 1, "{stats}");
    assert!(shown(&state, &["stats"]).contains("OLDEST"));
    // Retry all that failed. Each is retried once, however often that is asked for.
    let retried = shown(&state, &["retry", "--failed", "--yes"]);
    assert!(retried.lines().count() == 1 && retried.starts_with("agent_task_"), "{retried}");
    assert_eq!(state.legwork(["retry", &failed]).status, 7);
    // Stop a session.
    shown(&state, &["stop", "--session", session, "--yes"]);
    state.until_status(&running, "stopped");
    // Tail it.
    assert_eq!(state.legwork(["view", "--follow", &running]).status, 1);
    // Drain a worker, from anywhere.
    let mut worker = worker;
    shown(&state, &["workers", "drain", worker_id]);
    assert_eq!(worker.wait(), 0);
}
