//! `--command-memory` and `--command-processes`: what the commands of one job may hold and be, together.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::program_path;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

const TEAM: &str = "
agents:
  bomb: {model: scripted/any, description: d, instruction: i, sub_agents: [good], toolsets: [{type: shell}, {type: background_agents}]}
  hog: {model: scripted/any, description: d, instruction: i, toolsets: [{type: shell}]}
  good: {model: scripted/any, description: d, instruction: i, toolsets: [{type: shell}]}
";

/// What both tests ask a worker for.
const LIMITS: [&str; 4] = ["--command-processes", "24", "--command-memory", "64MiB"];

/// Commands of a job that behaves: three processes at once.
const GOOD: &str = "for n in 1 2 3; do sleep 0.1 & done; wait; echo fine";

/// Puts a process that sleeps for these seconds into a control group below its own, where the user may and the system has version
/// 1. Processes of tests are found by how long they sleep, so each test has times of its own.
fn below(seconds: &str) -> String {
    format!(
        "group=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)/a/b; \
         mkdir -p $group 2> /dev/null; \
         (echo 0 > $group/cgroup.procs; exec setsid sleep {seconds}) > /dev/null 2>&1 &"
    )
}

/// Whether this user can make groups of version 1 with the controller below that of this process: then every worker can.
fn has_own_group(controller: &str) -> bool {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = membership.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then(|| group.trim_start_matches('/').to_owned())
    });
    let Some(own) = own else { return false };
    let probe =
        Path::new("/sys/fs/cgroup").join(controller).join(own).join(format!("probe-{}", std::process::id()));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).is_ok()
}

/// A fleet whose script has these replies, and the agent file; `None`, with the reason on the real standard error, where this
/// user has no control groups.
fn fleet(agents: &Value) -> Option<(Redis, StateFolder, String)> {
    let (redis, mut state) = StateFolder::with_redis();
    Team::write(&mut state, agents);
    let team = state.file("limits.yaml", TEAM);
    let mut probe = state.start_worker(&[&LIMITS[..], &["--until-idle"]].concat());
    if probe.wait() == 0 {
        return Some((redis, state, team));
    }
    let log = state.worker_log();
    assert!(log.contains("hint: run the worker as a service with `Delegate=yes`"), "{log}");
    assert!(!["memory", "pids"].iter().all(|controller| has_own_group(controller)), "{log}");
    writeln!(std::io::stderr(), "skipped: {}", log.lines().last()?).ok()?;
    None
}

/// The control groups of a worker's runs.
fn groups(below: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(below) else { return Vec::new() };
    let folders = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())));
    let mut found = Vec::new();
    for folder in folders {
        if folder.file_name().to_string_lossy().starts_with(prefix) {
            found.push(folder.path());
        } else {
            found.extend(groups(&folder.path(), prefix));
        }
    }
    found
}

fn groups_of(worker: u32) -> Vec<PathBuf> {
    groups(Path::new("/sys/fs/cgroup"), &format!("legwork-{worker}-"))
}

/// A job that starts processes until the system refuses one, then commands in the background that fill the places of those that
/// ended, and one more command once the file `full` is there: a command in the background may enter its group later than
/// the next one does.
fn bomb(full: &Path) -> Value {
    // It ends by its own count at 400 where nothing limits it, and all that it starts ends within two minutes.
    let bomb = "setsid sleep 71.45 > /dev/null 2>&1 & perl -e 'for my $n (1..400) { my $p = fork; \
                if (!defined $p) { print \"refused: $n\\n\"; exit } if (!$p) { exec \"sleep\", \"71.35\" } } print \"all\\n\"'";
    let more = json!({"name": "run_background_job", "arguments": {"cmd": "exec sleep 71.35"}});
    let gate = json!({"name": "run_background_agent", "arguments": {"agent": "good", "task": "go"}});
    let wait = json!({"name": "wait_background_agents", "arguments": {"task_ids": ["{{jobs}}"]}});
    let until_full = format!("until [ -e {} ]; do sleep 0.1; done", full.display());
    json!({
        "bomb": [
            calls("shell", &json!({"cmd": bomb})),
            // As many as the shell and the bomb itself were.
            {"text": "first: {{result:shell}}", "tool_calls": [more, more, gate]},
            {"text": "I wait.", "tool_calls": [wait]},
            calls("shell", &json!({"cmd": "echo more"})),
            {"text": "then: {{result:shell}}", "tool_calls": [{"name": "list_background_jobs", "arguments": {}}]},
            {"text": "never", "delay_ms": 100_000},
        ],
        "good": [calls("shell", &json!({"cmd": format!("{until_full}; {GOOD}")})), {"text": "{{result:shell}}"}],
    })
}

#[test]
fn processes_beyond_the_limit_of_a_job_do_not_start_and_none_outlives_it() {
    let Some((_redis, mut state, team)) = fleet(&json!({})) else { return };
    let full = state.path("full");
    Team::write(&mut state, &bomb(&full));
    let worker = state.worker(&LIMITS);
    let id = state.dispatch(&[&team, "bomb", "go"]);
    let met = "[a limit of processes was met, and the system started no more: this worker allows the commands of a job 24 \
               processes and threads together (--command-processes)]";
    state.until_output(&id, met);
    let output = state.view(&id)["output"].as_str().unwrap().to_owned();
    let refused =
        output.split("refused: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    assert_eq!(refused, Some(22), "with its shell, itself and the one that left its group: {output}");
    let started = || processes("sleep 71.35").len();
    until("those that were not refused run, and both commands after them", || started() == 21 + 2);
    state.file("full", "");
    state.until_output(
        &id,
        "the command was not started: the commands of this job may be 24 processes and threads together \
         (--command-processes of this worker)",
    );
    assert!(!groups_of(worker.id()).is_empty());

    let neighbour = state.dispatch(&[&team, "good", "go"]);
    assert_eq!(state.until_status(&neighbour, "completed")["result"], "fine\n");
    assert_eq!(started(), 21 + 2);
    state.legwork(["stop", &id]).expect_success();
    state.until_status(&id, "stopped");
    // One of them had left the process group of its command.
    until("nothing of the job is left", || {
        processes("sleep 71.35").is_empty() && processes("sleep 71.45").is_empty()
    });
    until("its control groups are gone", || groups_of(worker.id()).is_empty());
}

#[test]
fn a_command_that_needs_more_memory_than_its_job_may_hold_is_ended_alone() {
    // It grows to 400 MB where nothing limits it; its own limit protects this machine.
    let hog = "ulimit -v 600000; perl -e 'my @x; for (1..40) { push @x, \"x\" x 10_000_000 } print \"all\\n\"'; echo after";
    let agents = json!({
        "hog": [calls("shell", &json!({"cmd": hog})), {"text": "{{result:shell}}"}],
        "good": [calls("shell", &json!({"cmd": GOOD})), {"text": "{{result:shell}}"}],
    });
    let Some((_redis, state, team)) = fleet(&agents) else { return };
    let mut worker = state.worker(&LIMITS);
    let hog = state.dispatch(&[&team, "hog", "go"]);
    let neighbour = state.dispatch(&[&team, "good", "go"]);
    let view = state.until_status(&hog, "completed");
    let result = view["result"].as_str().unwrap();
    let limit = "[a limit of memory was met, and the system ended a process: this worker allows the commands of a job \
                 67108864 bytes together (--command-memory)]";
    assert!(result.contains(limit) && !result.contains("all\n"), "{result}");
    assert_eq!(state.until_status(&neighbour, "completed")["result"], "fine\n");
    assert!(worker.is_running());
    until("the control groups are gone", || groups_of(worker.id()).is_empty());
}

#[test]
fn where_only_memory_is_limited_no_chain_of_processes_and_no_group_below_outlives_its_job() {
    // Each generation starts the next one and ends; the last of them ends in a second and a half.
    let chain = "setsid perl -e 'for (1..300) { select undef, undef, undef, 0.005; exit if fork } exec \"sleep\", \"71.95\"' \
                 > /dev/null 2>&1 &";
    let cmd = format!(
        "{} until ! [ -d $group ] || grep -q . $group/cgroup.procs; do :; done; {chain} echo there",
        below("73.25")
    );
    let agents = json!({"good": [calls("shell", &json!({"cmd": cmd})), {"text": "done"}]});
    let Some((_redis, state, team)) = fleet(&agents) else { return };
    let worker = state.worker(&["--command-memory", "64MiB"]);
    let id = state.dispatch(&[&team, "good", "go"]);
    state.until_status(&id, "completed");
    until("its control groups are gone", || groups_of(worker.id()).is_empty());
    for time in ["73.25", "71.95"] {
        assert!(processes(&format!("sleep {time}")).is_empty(), "{time}");
    }
}

#[test]
fn the_control_groups_of_a_worker_that_died_are_removed_by_the_next_one() {
    let below = below("73.85");
    let escaped = format!("{below} setsid sleep 73.55 > /dev/null 2>&1 & echo there; sleep 73.65");
    let agents =
        json!({"bomb": [calls("shell", &json!({"cmd": escaped, "timeout": 100})), {"text": "never"}]});
    let Some((_redis, state, team)) = fleet(&agents) else { return };
    let mut worker = state.worker(&LIMITS);
    state.dispatch(&[&team, "bomb", "go", "--retries", "0"]);
    until("the commands run", || {
        ["73.55", "73.65", "73.85"].iter().all(|time| !processes(&format!("sleep {time}")).is_empty())
    });
    let dead = worker.id();
    worker.kill();
    assert!(!groups_of(dead).is_empty());
    let mut next = state.start_worker(&[&LIMITS[..], &["--until-idle", "--queues", "other"]].concat());
    assert_eq!(next.wait(), 0, "{}", state.worker_log());
    assert_eq!(groups_of(dead), Vec::<PathBuf>::new());
    until("its commands are gone", || {
        ["73.55", "73.65", "73.85"].iter().all(|time| processes(&format!("sleep {time}")).is_empty())
    });
}

#[test]
fn a_worker_without_control_groups_does_not_start_with_limits() {
    if !rustix::process::geteuid().is_root() {
        writeln!(std::io::stderr(), "skipped: only root can take the control groups out of sight").unwrap();
        return;
    }
    let (_redis, state) = StateFolder::with_redis();
    // In a mount namespace of its own.
    let hide = "umount -l -a -t cgroup,cgroup2; exec \"$0\" \"$@\"";
    let mut command = state.other_program("unshare");
    command.args(["--mount", "sh", "-c", hide]).arg(program_path("legwork-worker")).args(LIMITS);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    let reason = "error: --command-memory: this process is in no control group with the controller memory\n";
    assert!(error.contains(reason), "{error}");
    assert!(error.contains("hint: run the worker as a service with `Delegate=yes`"), "{error}");
}
