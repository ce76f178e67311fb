//! The questions of someone on call, each answered by the command that docs/operations.md names.

use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::team::Team;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// Questions and commands: the rows of the table below `## On call`.
fn rows() -> Vec<(&'static str, &'static str)> {
    let (_, section) = OPERATIONS.split_once("\n## On call\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `"));
    cells.filter_map(|(question, rest)| Some((question, rest.split_once('`')?.0))).collect()
}

/// A fleet with a job that runs, one that waits for a queue without a worker, one that ended and one that failed.
struct Fleet {
    state: StateFolder,
    team: Team,
    running: String,
    queued: String,
    ended: String,
    failed: String,
}

fn fleet(redis: &Redis) -> Fleet {
    let mut state = StateFolder::on(&redis.url());
    let script = json!({
        "quick": [{"text": "the answer is 42", "input_tokens": 1200, "output_tokens": 90}],
        "nested": [{"text": "one two three", "chunk_delay_ms": 600_000}],
    });
    let team = Team::write(&mut state, &script);
    let ended = state.dispatch(&[&team.file, "quick", "go"]);
    // Its model has no replies, which is a provider that refuses.
    let failed = state.dispatch(&[&team.file, "shell", "go"]);
    let running = state.dispatch(&[&team.file, "nested", "go"]);
    let queued = state.dispatch(&["--queue", "gpu", &team.file, "quick", "go"]);
    Fleet { state, team, running, queued, ended, failed }
}

#[test]
fn every_question_is_answered_by_one_command() {
    let redis = Redis::start();
    let fleet = fleet(&redis);
    let mut worker = fleet.state.worker(&[]);
    fleet.state.until_status(&fleet.ended, "completed");
    fleet.state.until_status(&fleet.failed, "failed");
    fleet.state.until_output(&fleet.running, "one");
    let session = fleet.state.view(&fleet.running)["session"].as_str().unwrap().to_owned();
    let name =
        fleet.state.legwork(["workers", "--json"]).json_lines().remove(0)["id"].as_str().unwrap().to_owned();
    let short = |id: &str| id.trim_start_matches("agent_task_")[..8].to_owned();
    let answers: [(&str, &str, String); 11] = [
        ("What runs where?", &fleet.running, name.clone()),
        ("Why is this job not running?", &fleet.queued, "No worker serves queue gpu".to_owned()),
        ("What failed in the last hour, and why?", &fleet.failed, "failed (provider_error)".to_owned()),
        ("Which worker is sick?", &fleet.running, "serving".to_owned()),
        ("What did this job do, and what did it use?", &fleet.ended, "1200 tokens in, 90 out".to_owned()),
        ("What waits for a person?", &fleet.running, "nothing waits for a person".to_owned()),
        ("What does it write now?", &fleet.running, "one".to_owned()),
        ("How do I stop a session?", &fleet.running, short(&fleet.running)),
        ("How old is the queue?", &fleet.queued, "no worker".to_owned()),
        ("How do I retry all that failed?", &fleet.failed, "agent_task_".to_owned()),
        ("How do I drain a worker?", &fleet.running, "takes no new jobs".to_owned()),
    ];
    let rows = rows();
    assert_eq!(rows.len(), answers.len(), "{rows:?}");
    for ((question, command), (asked, id, expected)) in rows.into_iter().zip(&answers) {
        assert_eq!(question, *asked);
        let words: Vec<String> = command
            .split_whitespace()
            .skip(1)
            .map(|word| match word {
                "ID" => (*id).to_owned(),
                "SESSION" => session.clone(),
                "WORKER" => name.clone(),
                other => other.to_owned(),
            })
            .collect();
        let found = if words.iter().any(|word| word == "--follow") {
            let mut follow = fleet.state.start_legwork(&words);
            follow.until_printed(expected);
            expected.clone()
        } else {
            fleet.state.legwork(&words).expect_success()
        };
        assert!(found.contains(expected), "{question} `{command}`: {expected} is not in\n{found}");
    }
    assert_eq!(worker.wait(), 0, "it was drained");
    assert!(!fleet.team.file.is_empty());
}
