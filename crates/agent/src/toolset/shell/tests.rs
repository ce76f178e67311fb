//! Real commands: their result texts, how they end, and that no process is left behind.

use std::fs;
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing;
use crate::toolset::tests::RecordingGuard;
use crate::toolset::tests::call;

struct Fixture {
    folder: TempDir,
    groups: Arc<RecordingGuard>,
    nursery: Nursery,
    tools: Vec<Arc<dyn Tool>>,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let groups = Arc::new(RecordingGuard::default());
    let mut environment = testing::environment(folder.path());
    environment.guard = groups.clone();
    let nursery = Nursery::new(groups.clone());
    let variables = StringMap::from([("ADDED".to_owned(), "${PATH}!".to_owned())]);
    let tools = open(Arc::new(environment), &variables, nursery.clone()).unwrap().tools;
    Fixture { folder, groups, nursery, tools }
}

impl Fixture {
    async fn call(&self, name: &str, arguments: Value) -> ToolOutcome {
        call(&self.tools, name, arguments).await
    }

    async fn shell(&self, cmd: &str) -> String {
        self.call("shell", json!({"cmd": cmd})).await.text
    }

    /// The `/proc` lines of live processes in the groups that were started. Zombies do not count.
    fn alive(&self) -> Vec<String> {
        let groups = self.groups.all();
        let stat =
            |entry: std::io::Result<fs::DirEntry>| fs::read_to_string(entry.ok()?.path().join("stat")).ok();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(stat)
            .filter(|stat| {
                let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
                let fields: Vec<&str> = after.split_whitespace().collect();
                let group = fields.get(2).and_then(|group| group.parse().ok());
                fields.first() != Some(&"Z") && group.is_some_and(|group| groups.contains(&group))
            })
            .collect()
    }
}

#[tokio::test]
async fn foreground_commands_have_the_contracts_texts() {
    let fixture = fixture();
    let table = [
        ("echo out; echo err >&2", "out\nerr\n"),
        ("true", "<no output>"),
        ("echo bad; exit 3", "Error executing command: exit status 3\nOutput: bad\n"),
        ("kill -9 $$", "Error executing command: killed (SIGKILL)\nOutput: "),
        ("echo $ADDED", "/usr/bin:/bin!\n"),
        ("cat", "<no output>"),
    ];
    for (cmd, expected) in table {
        assert_eq!(fixture.shell(cmd).await, expected, "{cmd}");
    }
    assert_eq!(fixture.call("shell", json!({"cmd": " "})).await, ToolOutcome::error("Error: empty command"));
    fs::create_dir(fixture.folder.path().join("below")).unwrap();
    let here = fixture.call("shell", json!({"cmd": "basename $PWD", "cwd": "below"})).await;
    assert_eq!(here.text, "below\n");
    let nowhere = fixture.call("shell", json!({"cmd": "true", "cwd": "nowhere"})).await;
    assert!(nowhere.is_error && nowhere.text.starts_with("Error starting command: "), "{nowhere:?}");
    let long = fixture.shell("head -c 40000 /dev/zero | tr '\\0' x").await;
    assert_eq!(long.len(), 40_000, "the run shows the model an excerpt");
    fixture.nursery.close().await;
    assert_eq!(fixture.groups.alive(), [0; 0]);
}

#[tokio::test]
async fn a_timeout_ends_the_whole_process_group() {
    let fixture = fixture();
    let cmd = "echo begun; sleep 100 & sleep 100";
    let outcome = fixture.call("shell", json!({"cmd": cmd, "timeout": 0.3})).await;
    assert_eq!(outcome, ToolOutcome::ok("Command timed out after 0.3s\nOutput: begun\n"));
    assert_eq!(fixture.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_process_group_that_ignores_sigterm_is_killed() {
    let fixture = fixture();
    let start = Instant::now();
    let cmd = "trap '' TERM; echo deaf; sleep 100 & sleep 100; sleep 100";
    let outcome = fixture.call("shell", json!({"cmd": cmd, "timeout": 0.2})).await;
    assert_eq!(outcome.text, "Command timed out after 0.2s\nOutput: deaf\n");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(fixture.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_call_leaves_no_process() {
    let fixture = fixture();
    let cancel = CancellationToken::new();
    let ready = fixture.folder.path().join("ready");
    let cmd = "sleep 100 & sleep 100 & touch ready; wait";
    let call = cancel.run_until_cancelled(fixture.call("shell", json!({"cmd": cmd})));
    let dropping = async {
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        assert!(fixture.alive().len() >= 3, "{:?}", fixture.alive());
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(call, dropping);
    assert_eq!(outcome, None);
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn processes_that_a_command_leaves_behind_end_with_the_run() {
    let fixture = fixture();
    assert_eq!(fixture.shell("sleep 100 > /dev/null 2>&1 & echo left").await, "left\n");
    assert_eq!(fixture.shell("sleep 100 & echo holds the output").await, "holds the output\n");
    assert_eq!(fixture.alive().len(), 2, "{:?}", fixture.alive());
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn background_jobs_are_started_viewed_and_stopped() {
    let fixture = fixture();
    assert_eq!(
        fixture.call("list_background_jobs", json!({})).await.text,
        "Background Jobs:\n\nNo background jobs found.\n"
    );
    let started = fixture.call("run_background_job", json!({"cmd": "echo up; sleep 100"})).await.text;
    let id =
        started.strip_prefix("Background job started with ID: ").unwrap().lines().next().unwrap().to_owned();
    let folder = fixture.folder.path().display();
    assert_eq!(
        started,
        format!(
            "Background job started with ID: {id}\nCommand: echo up; sleep 100\nWorking directory: {folder}/"
        )
    );
    let viewed = loop {
        let viewed = fixture.call("view_background_job", json!({"job_id": id})).await.text;
        if viewed.ends_with("up\n") {
            break viewed;
        }
        tokio::task::yield_now().await;
    };
    assert!(
        viewed.starts_with(&format!("Job ID: {id}\nCommand: echo up; sleep 100\nStatus: running\nRuntime: ")),
        "{viewed}"
    );
    let stopped = fixture.call("stop_background_job", json!({"job_id": id})).await;
    assert_eq!(stopped, ToolOutcome::ok(format!("Job {id} stopped successfully")));
    assert_eq!(fixture.alive(), Vec::<String>::new());
    let again = fixture.call("stop_background_job", json!({"job_id": id})).await;
    assert_eq!(again, ToolOutcome::error(format!("Job {id} is not running (current status: stopped)")));
    let listed = fixture.call("list_background_jobs", json!({})).await.text;
    assert!(listed.contains("  Status: stopped\n"), "{listed}");
    for name in ["view_background_job", "stop_background_job"] {
        let unknown = fixture.call(name, json!({"job_id": "job_0_0"})).await;
        assert_eq!(unknown, ToolOutcome::error("Job not found: job_0_0"));
    }
}

#[tokio::test]
async fn a_background_job_is_waited_for_and_runs_on_after_the_timeout() {
    let fixture = fixture();
    let start = async |cmd: &str| {
        let started = fixture.call("run_background_job", json!({"cmd": cmd})).await.text;
        started.strip_prefix("Background job started with ID: ").unwrap().lines().next().unwrap().to_owned()
    };
    let id = start("echo done; exit 3").await;
    let ended = fixture.call("wait_background_job", json!({"job_id": id})).await.text;
    assert!(ended.contains("Status: failed") && ended.contains("Exit Code: 3"), "{ended}");
    assert!(ended.ends_with("done\n"), "{ended}");
    let id = start("sleep 100").await;
    let waiting = fixture.call("wait_background_job", json!({"job_id": id, "timeout": 0.1})).await.text;
    assert!(waiting.ends_with("[still running after 0.1s; the job was not stopped]"), "{waiting}");
    assert!(waiting.contains("Status: running"), "{waiting}");
    let unknown = fixture.call("wait_background_job", json!({"job_id": "job_0_0"})).await;
    assert_eq!(unknown, ToolOutcome::error("Job not found: job_0_0"));
}

#[tokio::test]
async fn background_jobs_end_with_the_run() {
    let fixture = fixture();
    fixture.call("run_background_job", json!({"cmd": "sleep 100 & sleep 100; true"})).await;
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), Vec::<String>::new());
    assert_eq!(fixture.groups.alive(), [0; 0]);
}
