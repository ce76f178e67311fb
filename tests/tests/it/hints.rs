//! Hints are commands that work: every command that a message of the programs names is run.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

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
        let code = code.split("#[cfg(test)]").next().unwrap();
        for part in
            code.split('`').filter(|part| part.starts_with("legwork ") || part.starts_with("legwork-worker "))
        {
            if !part.contains('\n') {
                commands.push(part.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    commands.sort();
    commands.dedup();
    commands
}

/// Jobs in the states that hints are about.
struct World {
    state: StateFolder,
    team: Team,
    session: String,
}

impl World {
    /// A job that has completed.
    fn completed(&self) -> String {
        let id = self.state.dispatch(&["--session", &self.session, &self.team.file, "quick", "work"]);
        self.state.until_status(&id, "completed");
        id
    }

    /// A job that has failed, because the script has no reply for its agent.
    fn failed(&self) -> String {
        let id = self.state.dispatch(&[&self.team.file, "nested", "work"]);
        self.state.until_status(&id, "failed");
        id
    }

    /// A job that waits.
    fn queued(&self) -> String {
        self.state.dispatch(&["--delay", "1h", &self.team.file, "quick", "work"])
    }

    /// A job that waits for a person's approval.
    fn asking(&self) -> String {
        let file = self.state.file(
            "asking.yaml",
            "permissions: {ask: ['shell:cmd=*']}
agents: {root: {model: scripted/any, instruction: i}, ops: {model: scripted/any, instruction: i, toolsets: [{type: shell}]}}
",
        );
        let id = self.state.dispatch(&["--approvals", "park", &file, "ops", "work"]);
        until("the job asks a person", || self.state.view(&id)["waits_for"]["reason"] == "answer");
        id
    }

    /// The name of a new schedule, which is paused.
    fn schedule(&self) -> String {
        let name = format!("daily-{}", legwork_tests::redis::free_port());
        let command = ["schedule", "add", &name, "0 7 * * *", &self.team.file, "quick", "work"];
        self.state.legwork(command).expect_success();
        self.state.legwork(["schedule", "pause", &name]).expect_success();
        name
    }

    /// The command as its reader would type it, about a job in the state that its message is about.
    fn typed(&self, command: &str) -> String {
        let id = match command {
            "legwork stop {id}" | "legwork stop {}" => self.queued(),
            "legwork retry {id}" => self.failed(),
            _ if command.starts_with("legwork approve ") || command.starts_with("legwork deny ") => {
                self.asking()
            }
            _ if command.starts_with("legwork view ID") => self.completed(),
            _ if command.contains("{name}") => self.schedule(),
            "legwork retry --again {of}" => {
                let id = self.failed();
                self.state.legwork(["retry", &id]).expect_success();
                id
            }
            _ if command.contains("{id}") => self.completed(),
            _ => String::new(),
        };
        // It writes no file that exists.
        let command =
            &command.replace("keys new FILE", &format!("keys new {}", self.state.path("new.key").display()));
        let typed = command.replace("--session {}", &format!("--session {}", self.session));
        let words = typed.split(' ').map(|word| match word {
            "{id}" | "{of}" | "{name}" | "{}" | "ID" => id.as_str(),
            "N" => "1",
            "WHY" => "no",
            "FILE" | "{file}" => &self.team.file,
            "AGENT" | "TASK" => "quick",
            "COMMAND" => "list",
            "{path}" => "dispatch",
            "{queue}" => "default",
            word => word,
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn every_command_in_a_message_succeeds() {
    let (_redis, mut state) = StateFolder::with_redis();
    let ops = [calls("shell", &json!({"cmd": "echo"})), json!({"text": "x"})];
    let team = Team::write(&mut state, &json!({"quick": [{"text": "x"}], "ops": ops}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "work"]);
    let session = state.until_status(&id, "completed")["session"].as_str().unwrap().to_owned();
    let world = World { state, team, session };
    let found = commands();
    assert!(found.iter().any(|command| command == "legwork list"), "{found:?}");
    for command in found {
        match command.as_str() {
            // The name of a command in the description of a key: no hint.
            "legwork run" => continue,
            // Asks on the terminal of the person who follows the hint.
            "legwork local reset" => {
                let embedded = StateFolder::embedded();
                embedded.legwork(["list"]).expect_success();
                embedded.in_terminal(&["local", "reset"], "y\n");
            }
            // Ends at this key.
            "legwork top" => {
                world.state.in_terminal(&["top"], "q");
            }
            // Ends at Ctrl-C only.
            "legwork list --watch" => {
                let mut watching = world.state.start_shell(&format!("exec {command}"));
                watching.until_printed("completed");
                watching.kill();
            }
            "legwork-worker --queues {queue}" => {
                let mut worker = world.state.start_shell(&format!("exec {}", world.typed(&command)));
                until("the worker serves", || {
                    world.state.legwork(["workers", "--json"]).json_lines().len() == 2
                });
                worker.kill();
            }
            _ => {
                let typed = world.typed(&command);
                assert!(!typed.contains(['{', '}']), "this test does not know what `{command}` is about");
                let output = world.state.start_shell(&typed).wait_with_output();
                assert_eq!(output.status, 0, "`{command}`, typed as `{typed}`: {output:?}");
            }
        }
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
    assert_eq!(command, format!("legwork-worker --queues gpu --redis {url} --namespace n"));
    let mut worker = state.start_shell(&format!("exec {command}"));
    let id = output.stdout.trim();
    let waited = state.legwork(["wait", id, "--timeout", "30s"].iter().chain(&on_fleet));
    assert_eq!(waited.status, 0, "{waited:?}");
    worker.kill();
}
