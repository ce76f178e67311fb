//! What a worker does not run, and where its commands are confined to.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// A state folder on a private Redis with a script for the agent `shell`, which runs one command.
fn shell_team(redis: &Redis, cmd: &str) -> (StateFolder, Team) {
    let mut state = StateFolder::on(&redis.url());
    let script = json!({"shell": [calls("shell", &json!({"cmd": cmd})), {"text": "{{result:shell}}"}], "quick": [{"text": "done"}]});
    let team = Team::write(&mut state, &script);
    (state, team)
}

#[test]
fn a_team_that_was_altered_in_redis_is_rejected() {
    let redis = Redis::start();
    let (state, team) = shell_team(&redis, "touch attacked");
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let key = redis.keys("*:team:*").remove(0);
    let alter = "return redis.call('HSET', KEYS[1], 'json', (string.gsub(redis.call('HGET', KEYS[1], 'json'), 'Run it.', 'Rob it.')))";
    assert_eq!(redis.command(&format!("EVAL \"{alter}\" 1 {key}")), ":0");
    let _worker = state.worker(&[]);
    let view = state.until_status(&id, "failed");
    assert_eq!(view["cause"], "rejected", "{view}");
    assert!(view["error"].as_str().unwrap().contains("its digest differs"), "{view}");
}

#[test]
fn a_worker_leaves_jobs_whose_toolsets_it_does_not_permit_to_others() {
    let redis = Redis::start();
    let (state, team) = shell_team(&redis, "echo ran");
    let _closed = state.worker(&["--deny-toolset", "shell,script"]);
    let shell = state.dispatch(&[&team.file, "shell", "go"]);
    let quick = state.dispatch(&[&team.file, "quick", "go"]);
    assert_eq!(state.until_status(&quick, "completed")["result"], "done");
    let view = state.until_status(&shell, "failed");
    assert_eq!(view["cause"], "rejected", "{view}");
    assert!(view["error"].as_str().unwrap().contains("a permit for the toolset shell"), "{view}");
    let _open = state.worker(&[]);
    let shell = state.dispatch(&[&team.file, "shell", "go"]);
    assert_eq!(state.until_status(&shell, "completed")["result"], "ran\n");
}

#[test]
fn a_confined_command_reaches_its_own_folder_only() {
    let redis = Redis::start();
    let mut outside = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut outside, b"of another job").unwrap();
    let outside = outside.path().display().to_string();
    let cmd = format!(
        "echo mine > own && cat own; cat {outside} && echo leaked; echo x > {outside} && echo wrote; \
         ls ~/.. && echo listed; kill -0 $PPID && echo signalled; [ \"$HOME\" = \"$PWD\" ] && echo home"
    );
    let (state, team) = shell_team(&redis, &cmd);
    let _worker = state.worker(&["--sandbox"]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let view = state.until_status(&id, "completed");
    let result = view["result"].as_str().unwrap();
    assert!(result.contains("mine\n") && result.contains("home"), "{result}");
    for reached in ["leaked", "wrote", "listed", "signalled", "of another job"] {
        assert!(!result.contains(reached), "{reached}: {result}");
    }
    let folder = state.path("work").join(&id);
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_confined_command_connects_to_named_ports_only() {
    let redis = Redis::start();
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (allowed, other) = (listen(), listen());
    let [open, closed] = [&allowed, &other].map(|listener| listener.local_addr().unwrap().port());
    let cmd = format!(
        "perl -MIO::Socket::INET -e 'for (@ARGV) {{ print IO::Socket::INET->new(PeerAddr => \"127.0.0.1:$_\") ? \
         \"reached $_\\n\" : \"not $_: $!\\n\" }}' {open} {closed}"
    );
    let (state, team) = shell_team(&redis, &cmd);
    let _worker = state.worker(&["--sandbox", "--sandbox-ports", &open.to_string()]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let view = state.until_status(&id, "completed");
    let expected = format!("reached {open}\nnot {closed}: Permission denied\n");
    assert_eq!(view["result"].as_str().unwrap(), expected, "{view}");
}

#[test]
fn the_heaviest_job_is_ended_before_the_memory_is_used_up() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    // Grows to 600 MB in steps and stays there; the limit leaves room for half of it. Its own limit protects this machine.
    let grow = "ulimit -v 2000000; exec perl -e 'my @x; for (1..60) { push @x, \"x\" x 10_000_000; \
                select(undef, undef, undef, 0.02) } sleep 300'";
    let script = json!({
        "shell": [calls("shell", &json!({"cmd": grow, "timeout": 300})), {"text": "never"}],
        "quick": [{"text": "done"}],
    });
    let team = Team::write(&mut state, &script);
    let mut worker = state.worker(&["--memory-limit", "300MiB"]);
    let heavy = state.dispatch(&[&team.file, "shell", "go"]);
    let view = state.until_status(&heavy, "failed");
    assert!(view["error"].as_str().unwrap().contains("--memory-limit"), "{view}");
    let quick = state.dispatch(&[&team.file, "quick", "go"]);
    assert_eq!(state.until_status(&quick, "completed")["result"], "done");
    assert!(worker.is_running());
}
