//! Hints are commands that work: every command that a message of the programs names is run.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::team::Team;

/// The source files below a folder that are not tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "tests" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The commands in backticks within the strings of the code: comments are left out.
fn commands() -> Vec<String> {
    let mut files = Vec::new();
    for room in ["common", "queue", "agent", "process", "worker", "orchestrator"] {
        sources(&repository().join("crates").join(room).join("src"), &mut files);
    }
    let mut commands = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // A string that is broken over lines continues at the first character that is not a space.
        let code = code.join("\n").replace("\\\n", " ");
        for part in code.split('`').filter(|part| part.starts_with("legwork ")) {
            if !part.contains('\n') {
                commands.push(part.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    commands.sort();
    commands.dedup();
    commands
}

#[test]
fn every_command_in_a_message_works() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "x"}]}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "work"]);
    let session = state.until_status(&id, "completed")["session"].as_str().unwrap().to_owned();
    let found = commands();
    assert!(found.iter().any(|command| command == "legwork list"), "{found:?}");
    for command in found {
        let words: Vec<String> = command
            .split(' ')
            .skip(1)
            .map(|word| match word {
                "FILE" | "FILE…" => team.file.clone(),
                "COMMAND" | "{command}" => "list".to_owned(),
                "AGENT" | "TASK" => "quick".to_owned(),
                "{file}" => team.file.clone(),
                "{own}" => session.clone(),
                word if word.starts_with('{') || word == "ID" => id.clone(),
                word => word.to_owned(),
            })
            .collect();
        let output = state.legwork(&words);
        let is_understood = !output.stderr.contains("usage: ") && !output.stderr.contains("--help`");
        let is_help = words.iter().any(|word| word == "--help" || word == "help");
        assert!(
            is_help && output.status == 0 || is_understood || is_a_name(&state, &words),
            "`{command}` is hinted at: {output:?}"
        );
    }
}

#[test]
fn the_hint_about_an_unserved_queue_starts_a_worker_that_serves_it() {
    let redis = Redis::start();
    let mut state = StateFolder::embedded();
    let home = state.path("home").display().to_string();
    state.set(variables::HOME, &home);
    let team = Team::write(&mut state, &json!({"quick": [{"text": "x"}]}));
    let url = redis.url();
    let on_fleet = ["--redis", &url, "--namespace", "n"];
    let arguments = ["dispatch", &team.file, "quick", "work", "--queue", "gpu"];
    let output = state.legwork(arguments.iter().chain(&on_fleet));
    assert_eq!(output.status, 0, "{output:?}");
    let hint = output.stderr.lines().find(|line| line.contains("no worker serves queue gpu")).unwrap();
    let command = hint.split('`').nth(1).unwrap();
    assert_eq!(command, format!("legwork-worker --redis '{url}' --namespace n --queues gpu"));
    let mut worker = state.start_shell(&format!("exec {command}"));
    let id = output.stdout.trim();
    let waited = state.legwork(["wait", id, "--timeout", "30s"].iter().chain(&on_fleet));
    assert_eq!(waited.status, 0, "{waited:?}");
    worker.kill();
}

/// Whether these words are the name of a command alone, or end in an option that the help of their command lists: a
/// message names it, and the rest is the reader's.
fn is_a_name(state: &StateFolder, words: &[String]) -> bool {
    let help = state.legwork([words[0].as_str(), "--help"]);
    let last = &words[words.len() - 1];
    help.status == 0
        && (words.len() == 1
            || help.stdout.split_whitespace().any(|word| word == last && word.starts_with("--")))
}
