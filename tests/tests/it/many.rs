//! Many jobs at once: questions before what cannot be undone, and one result for each of many.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::json;

use crate::team::Team;

/// A namespace without a worker, with a team.
fn scene() -> (Redis, StateFolder, Team) {
    let (redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    (redis, state, team)
}

fn line(task: &str, key: Option<&str>) -> String {
    json!({"agent": "quick", "task": task, "key": key}).to_string()
}

#[test]
fn each_line_of_a_batch_has_its_result_in_its_place() {
    let (_redis, state, team) = scene();
    let first = state.dispatch(&[&team.file, "quick", "--key", "k", "other"]);
    let batch = state.file("b.jsonl", [line("a", None), line("b", Some("k")), line("c", None)].join("\n"));
    let output = state.legwork(["dispatch", &team.file, "--batch", &batch]);
    assert_eq!(output.status, 8, "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    let [one, two, three] = lines[..] else { panic!("{output:?}") };
    assert!(one.starts_with("agent_task_") && three.starts_with("agent_task_"), "{output:?}");
    assert!(two.starts_with("line 2: error: ") && two.contains(&first), "{output:?}");
    assert!(output.stderr.contains("error: 1 of 3 were not stored"), "{output:?}");

    let output = state.legwork(["dispatch", &team.file, "--batch", &batch, "--json"]);
    let objects = output.json_lines();
    let places: Vec<_> = objects.iter().map(|object| object["line"].as_u64().unwrap()).collect();
    assert_eq!((output.status, places), (8, vec![1, 2, 3]));
    assert!(objects[0]["id"].is_string() && objects[1]["id"].is_null(), "{objects:?}");
    assert_eq!(objects[1]["error"]["code"], "conflict", "{objects:?}");

    // One request alone: its error is the command's.
    let alone = state.file("alone.jsonl", line("b", Some("k")));
    assert_eq!(state.legwork(["dispatch", &team.file, "--batch", &alone]).status, 7);
}

#[test]
fn the_documented_batch_is_one() {
    let redis = Redis::start();
    let state = StateFolder::on(&redis.url());
    let page = fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let section = page.split("## Batches").nth(1).unwrap().split("\n## ").next().unwrap();
    let example = section.split("```jsonl\n").nth(1).unwrap().split("```").next().unwrap();
    let batch = state.file("batch.jsonl", example);
    let file = repository().join("examples/background_agents.yaml").display().to_string();
    let jobs = state.legwork(["dispatch", "--json", "--batch", &batch, &file]).json_lines();
    let waits: Vec<_> = jobs.iter().map(|job| (job["line"].as_u64(), job["status"].as_str())).collect();
    assert_eq!(
        waits,
        [(Some(1), Some("queued")), (Some(2), Some("queued")), (Some(3), Some("scheduled"))],
        "{jobs:?}"
    );
    assert_eq!((&jobs[0]["timeout_ms"], &jobs[1]["priority"]), (&json!(600_000), &json!("high")));
    // The help and the page name the same fields, and those that the example uses.
    let help = state.legwork(["dispatch", "--help"]).expect_success();
    let used = example.lines().flat_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    });
    let used: BTreeSet<String> = used.collect();
    assert_eq!(used.len(), 11, "every field is in the example: {used:?}");
    for field in used {
        assert!(section.contains(&format!("`{field}`")) && help.contains(&field), "{field}");
    }
}

#[test]
fn an_interrupted_batch_has_printed_every_id_that_is_stored() {
    let (_redis, state, team) = scene();
    let batch = state.file("b.jsonl", format!("{}\n", line("a", None)).repeat(60_000));
    let mut dispatch = state.start_legwork(["dispatch", &team.file, "--batch", &batch]);
    let (_stdin, stdout, mut stderr) = dispatch.take_streams();
    let mut lines = BufReader::new(stdout).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("agent_task_"));
    dispatch.signal(Signal::INT);
    let printed = 1 + lines.count();
    assert_eq!(dispatch.wait(), 130);
    let mut noted = String::new();
    stderr.read_to_string(&mut noted).unwrap();
    let (stored, _) = noted.split_once("interrupted: ").unwrap().1.split_once(" of 60,000 stored").unwrap();
    assert_eq!(stored.replace(',', "").parse::<usize>().unwrap(), printed, "{noted}");
    let listed = state.legwork(["list", "--json", "--limit", "100000"]).json_lines();
    assert_eq!(listed.len(), printed);
}

#[test]
fn what_cannot_be_undone_asks_first_and_without_a_terminal_does_nothing() {
    let (_redis, state, team) = scene();
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    let hint = "hint: add --yes to do it without a question, or --dry-run to see what it would do\n";
    let refused = |arguments: &[&str], nothing: &str| {
        let output = state.legwork_with_input("y\n", arguments);
        let expected = format!("error: {nothing}: there is no terminal to ask on\n{hint}");
        assert_eq!((output.status, output.stderr), (2, expected), "{arguments:?}");
    };
    refused(&["stop", "--all"], "nothing was stopped");
    assert_eq!(state.legwork(["stop", "--all", "--dry-run"]).expect_success(), format!("would stop {id}\n"));
    assert_eq!(state.view(&id)["status"], "queued");
    assert_eq!(state.legwork(["stop", "--all", "--yes"]).expect_success(), format!("{id} stopped\n"));

    refused(&["delete", "--ended-before", "0s"], "nothing was deleted");
    let shown = state.legwork(["delete", "--ended-before", "0s", "--dry-run"]).expect_success();
    assert_eq!(shown, "would delete 1 job that ended at least 0s ago\n");
    assert_eq!(state.view(&id)["status"], "stopped");
    state.legwork(["delete", "--ended-before", "0s", "--yes"]).expect_success();
    assert_eq!(state.legwork(["view", &id]).status, 3);

    refused(&["local", "reset"], "nothing was deleted");
    let shown = state.legwork(["local", "reset", "--dry-run"]).expect_success();
    assert!(shown.starts_with("would delete all data in "), "{shown}");
}

#[test]
fn a_question_is_answered_on_the_terminal() {
    let (_redis, state, team) = scene();
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    let shown = state.in_terminal(&["stop", "--all"], "y\n");
    assert!(shown.contains("stop 1 live job of this namespace? [y/N]"), "{shown}");
    assert_eq!(state.view(&id)["status"], "stopped");
}

#[test]
fn work_on_many_jobs_shows_its_progress_on_a_terminal() {
    let (_redis, state, team) = scene();
    let batch = state.file("b.jsonl", format!("{}\n", line("a", None)).repeat(5000));
    state.dispatch(&[&team.file, "--batch", &batch, "--cap", "0"]);
    let shown = state.in_terminal(&["stop", "--all", "--yes"], "");
    assert!(shown.contains(" of 5,000 asked to stop") && shown.contains("5,000 jobs stopped"), "{shown}");
    let shown = state.in_terminal(&["delete", "--ended-before", "0s", "--yes"], "");
    assert!(shown.contains(" of 5,000 deleted") && shown.contains("5,000 jobs deleted"), "{shown}");
}

#[test]
fn each_of_many_ids_has_its_result_in_its_place() {
    let (_redis, state, team) = scene();
    let ids = state.dispatch(&[
        &team.file,
        "--batch",
        &state.file("b.jsonl", [line("a", None), line("b", None)].join("\n")),
    ]);
    let [one, two] = ids.lines().collect::<Vec<_>>()[..] else { panic!("{ids}") };
    let unknown = "agent_task_00000000-0000-4000-8000-000000000000";
    let short = &two[..20];

    // One of them cannot be deleted or retried yet; nothing is asked for more often than it is there.
    for (command, verb) in [("delete", "deleted"), ("retry", "retried")] {
        let output = state.legwork([command, one, "zzzz"]);
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(lines[0].starts_with(&format!("{one}: error: task {one} has not ended")), "{output:?}");
        assert_eq!(lines[1..], ["zzzz: error: task not found: zzzz"], "{output:?}");
        assert_eq!(output.status, 8, "{output:?}");
        assert!(output.stderr.starts_with(&format!("error: 2 of 2 were not {verb}\n")), "{output:?}");
    }
    // One alone is the error of the command, which did nothing.
    for (command, verb) in [("stop", "stopped"), ("delete", "deleted"), ("retry", "retried")] {
        let output = state.legwork([command, "zzzz"]);
        let expected = format!("error: task not found: zzzz; nothing was {verb}\n");
        assert!(output.status == 3 && output.stderr.starts_with(&expected), "{output:?}");
    }

    let planned = state.legwork(["stop", "--dry-run", one, "zzzz", short]);
    let expected = format!("would stop {one}\nzzzz: error: task not found: zzzz\nwould stop {two}\n");
    assert_eq!((planned.status, planned.stdout), (8, expected));
    let stopped = state.legwork(["stop", one, "zzzz", unknown, short]);
    let expected = format!(
        "{one} stopped\nzzzz: error: task not found: zzzz\n{unknown}: error: task not found: {unknown}\n{two} stopped\n"
    );
    assert_eq!((stopped.status, stopped.stdout), (8, expected));
    assert!(stopped.stderr.contains("error: 2 of 4 were not stopped"), "{}", stopped.stderr);

    let retried = state.legwork(["retry", "--json", "zzzz", one]);
    let [missing, again] = &retried.json_lines()[..] else { panic!("{retried:?}") };
    assert_eq!((retried.status, &missing["error"]["code"]), (8, &json!("not_found")), "{retried:?}");
    assert_eq!((&missing["retry_of"], &again["retry_of"]), (&json!("zzzz"), &json!(one)), "{retried:?}");
    // Those that can be are deleted: here all but the new job, which is queued.
    let again = again["id"].as_str().unwrap();
    let deleted = state.legwork(["delete", "--json", one, again, unknown, short]);
    let lines = deleted.json_lines();
    let results: Vec<_> = lines.iter().map(|line| (line["id"].as_str().unwrap(), &line["deleted"])).collect();
    let (yes, no) = (&json!(true), &json!(false));
    assert_eq!(results, [(one, yes), (again, no), (unknown, no), (two, yes)]);
    assert_eq!(lines[1]["error"]["code"], "wrong_state");
    assert_eq!((deleted.status, state.legwork(["list", "-o", "ids"]).stdout), (8, format!("{again}\n")));

    // What is not stored any more does not hide the others.
    let _worker = state.worker(&[]);
    let waited = state.legwork(["wait", unknown, again]);
    let expected = format!("{unknown}: error: task not found: {unknown}\n{again} completed\n");
    assert_eq!((waited.status, waited.stdout), (8, expected));
}

#[test]
fn an_empty_selection_says_what_is_not_there() {
    let (_redis, state, _team) = scene();
    let listed = state.legwork(["list", "--agent", "nosuch"]);
    assert!(listed.status == 0 && listed.stderr.contains("no job of agent nosuch ("), "{listed:?}");
    let stopped = state.legwork(["stop", "--agent", "nosuch"]);
    assert_eq!(stopped.stderr, "no live job of agent nosuch; nothing was stopped\n");
    assert_eq!((stopped.status, stopped.stdout.as_str()), (0, ""));
}

#[test]
fn a_list_prints_jobs_only_and_fetches_as_many_pages_as_its_limit_needs() {
    let (_redis, state, team) = scene();
    let batch = state.file("b.jsonl", format!("{}\n", line("a", None)).repeat(2500));
    let count = state.dispatch(&[&team.file, "--batch", &batch]).lines().count();
    let all = state.legwork(["list", "--json", "--limit", "20000"]);
    assert_eq!((all.json_lines().len(), all.stderr.as_str()), (count, ""));
    let page = state.legwork(["list", "--json", "--limit", "1"]);
    let jobs = page.json_lines();
    assert!(jobs.len() == 1 && jobs[0]["id"].is_string(), "{jobs:?}");
    let next: serde_json::Value = serde_json::from_str(page.stderr.trim()).unwrap();
    let after = next["next"].as_str().unwrap();
    let second = state.legwork(["list", "--json", "--limit", "1", "--after", after]).json_lines();
    assert_ne!(second[0]["id"], jobs[0]["id"]);

    // All of a session are counted, whatever is listed.
    let session = jobs[0]["session"].as_str().unwrap();
    let stopped = state.legwork(["stop", "--session", session]);
    assert_eq!(stopped.stderr, "2,500 jobs stopped\n");
    assert!(stopped.stdout.ends_with("  and 2,450 more\n"), "{}", stopped.stdout);
}

#[test]
fn dispatch_and_wait_prints_the_result_alone() {
    let (_redis, state, team) = scene();
    let _worker = state.worker(&[]);
    let output = state.legwork(["dispatch", "--wait", &team.file, "quick", "go"]);
    assert_eq!(output.stdout, "done\n", "{output:?}");
    let lines: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("agent_task_"), "{output:?}");
}
