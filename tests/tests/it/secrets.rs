//! Secrets of a worker stay where they are: attacks of commands, of providers, and of agents on the guard.

use std::process::Command;
use std::process::Stdio;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::is_alive;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::FakeProvider;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Runs a shell command in a job and returns its view.
fn view_of(state: &mut StateFolder, cmd: &str) -> Value {
    let script =
        json!({"shell": [calls("shell", &json!({"cmd": cmd})), {"text": "it said: {{result:shell}}"}]});
    let team = Team::write(state, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_status(&id, "completed")
}

/// A command that prints the files of `/proc` in which a canary is found, and how often its own environment has it. The two
/// halves keep the canary out of the command's own command line.
fn find(canary: &str) -> String {
    let (one, other) = canary.split_at(3);
    format!("grep -las '{one}''{other}' /proc/[0-9]*/environ; env | grep -c '{one}''{other}'; true")
}

/// Variables that hold secrets, and one that does not say so.
const VARIABLES: [&str; 4] = ["OPENAI_API_KEY", variables::MCP_TOKEN, "AWS_SECRET_ACCESS_KEY", "HARMLESS"];

/// Sets all of them for programs that are started later. A program shows its environment for the first milliseconds of its
/// life, so the programs that only ask must not have the canary.
fn set_all(state: &mut StateFolder, value: &str) {
    for name in VARIABLES {
        state.set(name, value);
    }
}

#[test]
fn no_command_finds_a_secret_in_the_environment_of_its_worker() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({"shell": [
        calls("shell", &json!({"cmd": find("canary-of-the-worker")})), {"text": "it said: {{result:shell}}"},
    ]});
    let team = Team::write(&mut state, &script);
    set_all(&mut state, "canary-of-the-worker");
    let _worker = state.start_worker(&[]);
    set_all(&mut state, "none");
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let view = state.until_status(&id, "completed");
    assert_eq!(view["result"], "it said: 0\n", "{view}");
}

#[test]
fn no_command_of_a_session_finds_a_secret_in_the_environment_of_its_program() {
    let mut state = StateFolder::embedded();
    let finds = calls("shell", &json!({"cmd": find("canary-of-the-session")}));
    let script = json!({
        "root": [finds, calls("run_background_agent", &json!({"agent": "worker", "task": "t"})),
            {"text": "{{result:shell}}"}, {"text": "{{result:shell}}"}],
        "worker": [finds, {"text": "job: {{result:shell}}"}],
    });
    let script = state.file("script.json", json!({"agents": script}).to_string());
    let team = state.team_with_shells();
    state.set(variables::SCRIPT, &script);
    set_all(&mut state, "canary-of-the-session");
    let output = state.legwork(["run", &team, "go"]).expect_success();
    assert!(output.trim_end().ends_with('0') && !output.contains("/proc"), "{output}");
    // A worker of its own has the environment too.
    let id = state.dispatch(&[&team, "worker", "go"]);
    set_all(&mut state, "none");
    assert_eq!(state.until_status(&id, "completed")["result"], "job: 0\n");
}

#[test]
fn a_secret_of_a_file_is_replaced_as_that_of_a_variable_is() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    // Two, as while they are replaced.
    let [one, other] = ["QUFB", "QUFC"].map(|part| format!("whsec_{}", part.repeat(10)));
    let file = state.file("webhook.secret", format!("{one}\n{other}\n"));
    state.set(variables::WEBHOOK_SECRET_FILE, &file);
    let view = view_of(&mut state, &format!("sort -r {file}"));
    let hidden = "[hidden: LEGWORK_WEBHOOK_SECRET]";
    assert_eq!(view["result"], format!("it said: {hidden}\n{hidden}\n"), "{view}");
}

#[test]
fn commands_get_named_variables_or_all_on_request() {
    let redis = Redis::start();
    let print = "echo \"${SOME_NAME:-none} ${SOME_TOKEN:-none} ${LANG:-none} ${LEGWORK_REDIS_URL:-none}\"";
    for (inherits, expected) in
        [("", "none none C.UTF-8 none"), ("true", "seven [hidden: SOME_TOKEN] C.UTF-8 none")]
    {
        let mut state = StateFolder::on(&redis.url());
        state.set("SOME_NAME", "seven");
        state.set("SOME_TOKEN", "canary-of-the-worker");
        state.set("LANG", "C.UTF-8");
        state.set(variables::INHERIT_ENVIRONMENT, inherits);
        let view = view_of(&mut state, print);
        assert_eq!(view["result"], format!("it said: {expected}\n"), "{view}");
    }
}

#[test]
fn a_key_that_a_provider_or_a_command_repeats_is_stored_shown_and_logged_nowhere() {
    const KEY: &str = "sk-canary-that-is-repeated";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let echo = "{\"error\": {\"message\": \"the key sk-canary-that-is-repeated is not valid\"}}";
    for answer in [
        Answer::Status(401, Vec::new(), echo),
        Answer::text(&["I was given sk-canary", "-that-is-repeated", " as a key"]),
    ] {
        let fake = runtime.block_on(FakeProvider::choosing(move |_| answer.clone()));
        let (redis, mut state) = StateFolder::with_redis();
        state.set("OPENAI_API_KEY", KEY);
        state.set("OPENAI_BASE_URL", &fake.url);
        state.set(variables::LOG, "debug");
        let file = state.file("team.yaml", "agents: {root: {model: openai/test, instruction: i}}");
        let _worker = state.worker(&[]);
        let id = state.dispatch(&[&file, "root", "help", "--retries", "0"]);
        let mut view = Value::Null;
        until("the job ends", || {
            view = state.view(&id);
            ["completed", "failed"].iter().any(|end| view["status"] == *end)
        });
        assert!(view.to_string().contains("[hidden: OPENAI_API_KEY]"), "{view}");
        let run = state.legwork(["run", &file, "help"]);
        let texts = [view.to_string(), state.worker_log(), run.stdout, run.stderr];
        for text in texts.iter().chain([&redis.written()]) {
            assert!(!text.contains("canary"), "{text}");
        }
    }
}

#[test]
fn no_command_makes_the_guard_kill_a_process_group_of_others() {
    let (_redis, mut state) = StateFolder::with_redis();
    let mut bystander = Command::new("sleep");
    std::os::unix::process::CommandExt::process_group(&mut bystander, 0);
    let mut bystander = bystander.arg("300").stdin(Stdio::null()).spawn().unwrap();
    // Writes what a guard once understood into everything that the worker and its guard have open.
    let group = bystander.id();
    let cmd = format!(
        "for p in $PPID $(cat /proc/$PPID/task/*/children); do for f in /proc/$p/fd/*; do [ -f $f ] || \
         timeout 1 sh -c 'printf \"lease {group}\nprocess {group}\nended 7\n\" > '$f; done; done 2>/dev/null; echo done; sleep 300"
    );
    let script = json!({"shell": [calls("shell", &json!({"cmd": cmd, "timeout": 300})), {"text": "never"}]});
    let team = Team::write(&mut state, &script);
    let mut worker = state.worker(&[]);
    let before = worker.children();
    state.dispatch(&[&team.file, "shell", "go"]);
    until("the attack is over", || {
        worker.children().iter().filter(|pid| !before.contains(pid)).any(|pid| has_child(*pid, "sleep"))
    });
    let guarded = worker.children();
    worker.kill();
    until("the guard and its commands are gone", || !guarded.iter().any(|pid| is_alive(*pid)));
    assert!(is_alive(group), "the guard killed a process group that no command of the worker leads");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Whether a process has a child with this name.
fn has_child(parent: u32, name: &str) -> bool {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}
