//! Commands that wait outlive outages of Redis, and say how to continue where they do not.

use legwork_common::variables;
use legwork_tests::programs::Program;
use legwork_tests::programs::ProgramOutput;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// What the job prints at its end.
const WORDS: &str = "one two three four five six seven eight";
/// What it prints before: its command lasts until [`let_go`].
const BEGINNING: &str = "I call shell.";

/// A team whose job runs until it is let go, and then prints words.
fn gated(state: &mut StateFolder) -> Team {
    let replies = gated_job(state);
    Team::write(state, &json!({"shell": replies}))
}

fn gated_job(state: &StateFolder) -> Value {
    let command = format!("while ! test -e {}; do sleep 0.1; done", state.path("go").display());
    json!([calls("shell", &json!({"cmd": command, "timeout": 300})), {"text": WORDS, "chunk_delay_ms": 50}])
}

/// Lets all jobs of [`gated`] end.
fn let_go(state: &StateFolder) {
    state.file("go", "");
}

/// A job that runs, and the commands that wait for it, and `dispatch --wait` for another.
fn waiting(state: &StateFolder, team: &Team) -> (String, [Program; 4]) {
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let mut programs = [
        state.start_legwork(["wait", &id]),
        state.start_legwork(["view", "--follow", &id]),
        state.start_legwork(["list", "--watch"]),
        state.start_legwork(["dispatch", "--wait", &team.file, "shell", "go"]),
    ];
    programs[3].until_noted("agent_task_");
    state.until_output(&id, BEGINNING);
    (id, programs)
}

/// All of them end as if nothing had happened.
fn all_end_well(state: &StateFolder, id: &str, [wait, follow, mut watch, dispatch]: [Program; 4]) {
    let_go(state);
    assert_eq!(wait.wait_with_output().expect_success(), format!("{id} completed\n"));
    // The worker suspends its attempts in an outage that is longer than its leases, which their output tells.
    let followed = follow.wait_with_output().expect_success();
    assert_eq!(followed, state.view(id)["output"].as_str().unwrap());
    assert!(followed.ends_with(WORDS), "{followed}");
    let result = dispatch.wait_with_output().expect_success();
    assert!(result.ends_with(&format!("{WORDS}\n")), "{result}");
    assert!(watch.is_running());
    watch.until_printed("completed");
    watch.signal(Signal::INT);
    assert_eq!(watch.wait(), 0);
    assert_eq!(state.view(id)["status"], "completed");
}

#[test]
fn commands_that_wait_outlive_a_restart_of_redis() {
    let mut redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    // However long the restart takes on a slow machine, the attempt is not suspended, so its words come once.
    state.set(variables::LEASE, "2m");
    let team = gated(&mut state);
    let _worker = state.worker(&[]);
    let (id, mut programs) = waiting(&state, &team);
    redis.kill();
    for program in &mut programs {
        let noted = program.until_noted("waiting for Redis at 127.0.0.1:");
        assert_eq!(noted.matches("waiting for Redis").count(), 1, "{noted}");
    }
    redis.restart();
    all_end_well(&state, &id, programs);
}

#[test]
fn commands_that_wait_outlive_a_frozen_redis() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    let team = gated(&mut state);
    let _worker = state.worker(&[]);
    let (id, mut programs) = waiting(&state, &team);
    proxy.freeze();
    for program in &mut programs {
        program.until_noted("waiting for Redis at 127.0.0.1:");
    }
    proxy.restore();
    all_end_well(&state, &id, programs);
}

#[test]
fn a_follow_that_gives_up_names_the_command_that_continues_with_the_next_byte() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&redis.url());
    let team = gated(&mut state);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    let arguments = ["view", "--follow", "--redis", &proxy.url(), "--redis-timeout", "1s", &id];
    let mut follow = state.start_legwork(arguments);
    follow.until_printed(BEGINNING);
    proxy.cut();
    let failed = follow.wait_with_output();
    assert_eq!(failed.status, 5, "{failed:?}");
    let command = continuation(&failed).to_owned();
    assert!(command.starts_with("legwork view --follow --since "), "{command}");
    let since: usize = command.split(' ').nth(4).unwrap().parse().unwrap();
    proxy.restore();
    let_go(&state);
    // It names the address that was an option: the shell has another one.
    let rest = state.start_shell(&command).wait_with_output().expect_success();
    let output = state.view(&id)["output"].as_str().unwrap().to_owned();
    assert!(since >= BEGINNING.len() && output.ends_with(WORDS), "{command}: {output}");
    assert_eq!(rest, output[since..], "{command}");
}

/// The command of the hint at the end of a failure.
fn continuation(failed: &ProgramOutput) -> &str {
    let hint = failed.stderr.lines().last().unwrap_or_default();
    let command = hint.strip_prefix("hint: to continue: ");
    assert!(command.is_some(), "{failed:?}");
    command.unwrap_or_default()
}

#[test]
fn commands_that_wait_begin_while_redis_is_down_and_continue_when_it_is_back() {
    let mut redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    // However long the restart takes on a slow machine, no attempt is suspended.
    state.set(variables::LEASE, "2m");
    let script = json!({
        "root": [{"text": "the answer"}],
        "quick": [{"text": WORDS, "chunk_delay_ms": 50}],
    });
    let team = Team::write(&mut state, &script);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    let other = state.dispatch(&[&team.file, "quick", "go", "--delay", "1h"]);
    redis.kill();
    let mut waiting = [
        state.start_legwork(["wait", &id]),
        state.start_legwork(["view", "--follow", &id]),
        state.start_legwork(["list", "--watch"]),
        state.start_legwork(["dispatch", "--wait", &team.file, "quick", "go"]),
    ];
    let mut others = [
        state.start_legwork(["stop", &other[..20]]),
        state.start_legwork(["dispatch", "--follow", &team.file, "quick", "go"]),
        state.start_legwork(["run", &team.file, "go"]),
        state.start_legwork(["mcp", &team.file]),
    ];
    for program in waiting.iter_mut().chain(&mut others) {
        let noted = program.until_noted("waiting for Redis at 127.0.0.1:");
        assert_eq!(noted.matches("waiting for Redis").count(), 1, "{noted}");
    }
    // What does not wait answers at once.
    for command in
        [&["list"][..], &["view", &id], &["explain", &id], &["stop", "--no-wait", &id], &["workers"]]
    {
        let failed = state.legwork(command);
        assert_eq!(failed.status, 5, "{failed:?}");
        assert!(!failed.stderr.contains("waiting for Redis"), "{failed:?}");
    }
    redis.restart();
    let _worker = state.worker(&[]);
    all_end_well(&state, &id, waiting);
    let [stop, follow, run, mut mcp] = others;
    assert_eq!(stop.wait_with_output().expect_success(), format!("{other} stopped\n"));
    assert_eq!(follow.wait_with_output().expect_success(), WORDS);
    assert_eq!(run.wait_with_output().expect_success().trim_end(), "the answer");
    let (stdin, _stdout, _stderr) = mcp.take_streams();
    drop(stdin);
    assert_eq!(mcp.wait(), 0);
}

#[test]
fn commands_that_never_reach_redis_name_a_command_that_continues() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&id, "completed");
    let waits = [
        &["wait", "--any", &id[..20], &id][..],
        &["view", "--follow", "--tail", "100", &id],
        &["stop", &id],
        &["list", "--watch", "--agent", "the quick"],
    ];
    proxy.cut();
    let continues = waits.map(|command| {
        let failed = state.legwork(command.iter().chain(&["--redis-timeout", "1s"]));
        assert_eq!(failed.status, 5, "{failed:?}");
        assert_eq!(failed.stderr.matches("waiting for Redis").count(), 1, "{failed:?}");
        let typed = command.join(" ").replace("the quick", "'the quick'");
        assert_eq!(continuation(&failed), format!("legwork {typed} --redis-timeout 1s"));
        continuation(&failed).to_owned()
    });
    // A wait's own time bounds it too.
    let failed = state.legwork(["wait", "--timeout", "100ms", &id]);
    assert_eq!(failed.status, 5, "{failed:?}");
    let failed = state.legwork(["dispatch", "--wait", &team.file, "quick", "go", "--redis-timeout", "1s"]);
    assert!(failed.status == 5 && failed.stderr.contains("; nothing was stored\n"), "{failed:?}");
    proxy.restore();
    let [wait, follow, stop, watch] = continues.map(|command| state.start_shell(&format!("exec {command}")));
    assert_eq!(wait.wait_with_output().expect_success(), format!("{id} completed\n").repeat(2));
    assert_eq!(follow.wait_with_output().expect_success(), "done");
    assert_eq!(stop.wait_with_output().expect_success(), format!("{id} had ended before: completed\n"));
    let mut watch = watch;
    watch.until_noted("no job of agent the quick");
    watch.signal(Signal::INT);
    assert_eq!(watch.wait(), 0);
}

#[test]
fn ctrl_c_in_a_follow_leaves_the_job_and_names_the_command_that_continues() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = gated(&mut state);
    let _worker = state.worker(&[]);
    let mut follow = state.start_legwork(["dispatch", "--follow", &team.file, "shell", "go"]);
    follow.until_printed(BEGINNING);
    follow.signal(Signal::INT);
    let output = follow.wait_with_output();
    assert_eq!(output.status, 130, "{output:?}");
    let id = output.stderr.lines().find(|line| line.starts_with("agent_task_")).unwrap().to_owned();
    assert!(
        output.stderr.contains("the job continues; to see the rest: legwork view --follow --since "),
        "{output:?}"
    );
    assert!(output.stderr.trim_end().ends_with(&id), "{output:?}");
    let_go(&state);
    state.until_status(&id, "completed");
}

#[test]
fn a_wait_that_times_out_says_how_many_jobs_are_left() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = gated(&mut state);
    let ids = [state.dispatch(&[&team.file, "shell", "a"]), state.dispatch(&[&team.file, "shell", "b"])];
    let output = state.legwork(["wait", "--timeout", "100ms", &ids[0], &ids[1]]);
    assert_eq!((output.status, output.stderr.as_str()), (6, "timed out: 2 of 2 have not ended\n"));
}

#[test]
fn run_says_that_redis_does_not_answer_and_goes_through() {
    let redis = Redis::start();
    let proxy = redis.behind_proxy();
    let mut state = StateFolder::on(&proxy.url());
    let script = json!({
        "root": [
            calls("run_background_agent", &json!({"agent": "shell", "task": "t"})),
            calls("wait_background_agents", &json!({"task_ids": ["{{jobs}}"]})),
            {"text": "all done"},
        ],
        "shell": gated_job(&state),
    });
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let mut run = state.start_legwork(["run", &team.file, "go"]);
    until("the job runs", || {
        state.legwork(["list", "--status", "running", "--redis", &redis.url()]).stdout.contains("shell")
    });
    proxy.freeze();
    run.until_noted("Redis does not answer");
    proxy.restore();
    let_go(&state);
    let output = run.wait_with_output();
    assert!(output.status == 0 && output.stdout.trim_end().ends_with("all done"), "{output:?}");
}
