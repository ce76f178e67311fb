//! `--command-user`: commands and file tools of jobs act as another user than their worker.

use std::fs;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// A user that need not exist.
const USER: &str = "64321:64322";

const TEAM: &str = "
agents:
  shell:
    model: scripted/any
    description: d
    instruction: i
    toolsets: [{type: shell}, {type: filesystem}, {type: memory, path: memory.db}]
  program: {command: [sh, -c, 'id -u; echo $HOME; pwd'], description: d}
";

/// A fleet whose folder other users can enter; `None`, with the reason on the real standard error, where the tests do not run
/// as root.
fn fleet() -> Option<(Redis, StateFolder)> {
    if !rustix::process::geteuid().is_root() {
        writeln!(std::io::stderr(), "skipped: only root can start a worker with --command-user").ok()?;
        return None;
    }
    let (redis, state) = StateFolder::with_redis();
    fs::set_permissions(state.path(""), Permissions::from_mode(0o711)).unwrap();
    Some((redis, state))
}

#[test]
fn commands_and_file_tools_act_as_another_user() {
    let Some((_redis, mut state)) = fleet() else { return };
    let key = state.path("worker.key").display().to_string();
    let line = state.legwork(["keys", "new", &key, "--id", "worker-1", "--worker"]).expect_success();
    let ci = state.path("ci.key").display().to_string();
    let other = state.legwork(["keys", "new", &ci, "--id", "ci"]).expect_success();
    let trusted = state.file("trust.yaml", format!("keys:\n{line}{other}"));
    let ledger = state.path("state/trust/ledger.sqlite3").display().to_string();
    // It would be found if it could be read: `cat` prints what it reads.
    let secrets = format!("{key} {ci} {ledger} /proc/$PPID/environ /proc/$PPID/maps /etc/shadow");
    let first = format!(
        "id -u; id -g; id -G; echo mine > own; echo aloud > /dev/stderr; [ \"$HOME\" = \"$PWD\" ] && echo home; \
         for file in {secrets}; do cat $file > /dev/null 2>&1 && echo \"read $file\"; done; \
         kill -0 $PPID && echo signalled; ln -s {key} link; \
         grep -q '^NoNewPrivs:.1' /proc/self/status && echo bounded"
    );
    let then = "stat -c '%u %g %a' . own made memory.db; echo more >> made && cat made";
    let script = json!({
        "shell": [
            calls("shell", &json!({"cmd": first})),
            {"text": "first: {{result:shell}}", "tool_calls": [
                {"name": "read_file", "arguments": {"path": "own"}},
                {"name": "write_file", "arguments": {"path": "made", "content": "some\n"}},
                {"name": "add_memory", "arguments": {"memory": "kept"}},
            ]},
            {"text": "own: {{result:read_file}}", "tool_calls": [
                {"name": "read_file", "arguments": {"path": "link"}},
                {"name": "shell", "arguments": {"cmd": then}},
            ]},
            {"text": "link: {{result:read_file}}\nthen: {{result:shell}}"},
        ],
    });
    Team::write(&mut state, &script);
    let team = state.file("users.yaml", TEAM);
    let _worker = state.worker(&["--command-user", USER, "--trust", &trusted, "--signing-key", &key]);
    let id = state.dispatch(&["--signing-key", &ci, &team, "shell", "go"]);
    let view = state.until_status(&id, "completed");
    let output = view["output"].as_str().unwrap();
    assert!(output.contains("first: 64321\n64322\n64322\naloud\nhome\n"), "{output}");
    assert!(output.contains("bounded") && output.contains("own: mine"), "{output}");
    for reached in ["read /", "signalled", "private:"] {
        assert!(!output.contains(reached), "{reached}: {output}");
    }
    let stats = "then: 64321 64322 700\n64321 64322 644\n64321 64322 644\n64321 64322 644\nsome\nmore\n";
    assert!(output.contains(stats), "{output}");
    let folder = state.path("work").join(&id);
    assert_eq!(folder.metadata().unwrap().uid(), 64321);

    let id = state.dispatch(&["--signing-key", &ci, &team, "program", "go"]);
    let view = state.until_status(&id, "completed");
    let folder = state.path("work").join(&id);
    assert_eq!(view["result"], format!("64321\n{0}\n{0}", folder.display()), "{view}");
}

#[test]
fn commands_of_another_user_end_with_their_job_and_with_their_worker() {
    let Some((_redis, mut state)) = fleet() else { return };
    let commands = ["sleep 71.25", "sleep 71.5", "sleep 71.75"];
    let cmd = format!("{} & trap '' TERM; {}; {}", commands[0], commands[1], commands[2]);
    let script = json!({"shell": [calls("shell", &json!({"cmd": cmd, "timeout": 100})), {"text": "never"}]});
    let team = Team::write(&mut state, &script);
    let run = || commands[..2].iter().filter(|command| !processes(command).is_empty()).count();
    let ended = || commands.iter().all(|command| processes(command).is_empty());
    let mut worker = state.worker(&["--command-user", USER]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    until("the commands run", || run() == 2);
    state.legwork(["stop", &id]).expect_success();
    state.until_status(&id, "stopped");
    until("all commands of the job are gone", ended);

    state.dispatch(&[&team.file, "shell", "go"]);
    until("the commands run", || run() == 2);
    worker.kill();
    until("the guard has ended the commands", ended);
}

#[test]
fn a_worker_that_cannot_run_commands_as_the_user_does_not_start() {
    let Some((_redis, mut state)) = fleet() else { return };
    let cannot = |state: &StateFolder, user: &str, reason: &str| {
        let mut worker = state.start_worker(&["--command-user", user]);
        assert_eq!(worker.wait(), 2, "{user}");
        assert!(state.worker_log().contains(reason), "{reason}: {}", state.worker_log());
    };
    cannot(&state, "no-such-user-here", "there is no such user in /etc/passwd");
    cannot(&state, "root", "commands must run as another user than root and the worker");
    fs::set_permissions(state.path(""), Permissions::from_mode(0o700)).unwrap();
    cannot(&state, USER, "the user cannot enter");
    state.set(variables::REDIS_URL, "");
    state.set(variables::WORK_DIR, "");
    cannot(&state, USER, "workers of the embedded server run jobs in the folders of their dispatchers");
}
