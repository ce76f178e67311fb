//! Servers that are programs: their tools, calls, restarts and ends.

mod lost_session;
mod quirks;
mod real;
mod remote;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use legwork_common::service::CallIndex;
use legwork_common::team::McpServer;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::environment::Inherited;
use crate::testing;
use crate::tool::Interrupted;
use crate::toolset::tests;
use crate::toolset::tests::RecordingGuard;
use crate::toolset::tests::names;
use crate::toolset::tests::tool;

const SERVER: &str = include_str!("tests/server.sh");

struct Fixture {
    folder: TempDir,
    groups: Arc<RecordingGuard>,
    environment: Environment,
    nursery: Nursery,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let groups = Arc::new(RecordingGuard::default());
    let mut environment = testing::environment(folder.path());
    environment.guard = groups.clone();
    // The fixtures find their folder in their environment.
    environment.inherited = Inherited::All;
    environment.variables.insert("FOLDER".into(), folder.path().display().to_string());
    environment.variables.insert("TMPDIR".into(), folder.path().display().to_string());
    Fixture { nursery: Nursery::new(groups.clone()), folder, groups, environment }
}

/// Without restarts.
fn timing() -> Timing {
    Timing {
        start_timeout: Duration::from_secs(20),
        restart_delays: Vec::new(),
        stable_after: Duration::from_secs(60),
        call_timeout: Duration::from_secs(60),
    }
}

fn program(program: &str, args: &[&str], env: Value) -> Mcp {
    let launch = json!({"command": program, "args": args, "env": env, "version": null});
    mcp(None, json!({"command": launch}))
}

fn mcp(name: Option<&str>, server: Value) -> Mcp {
    serde_json::from_value(json!({"name": name, "server": server})).unwrap()
}

fn server(env: Value) -> Mcp {
    program("sh", &["-c", SERVER], env)
}

impl Fixture {
    async fn kit(&self, mcp: &Mcp) -> Result<Kit, String> {
        open(mcp, &self.environment, &self.nursery, timing()).await
    }

    async fn start(&self, server: &McpServer, timing: Timing) -> Server {
        let endpoint = Endpoint::new(server, &self.environment).unwrap();
        Server::start(endpoint, self.nursery.clone(), timing).await.unwrap().0
    }

    /// The number of process groups that are alive.
    fn alive(&self) -> usize {
        self.groups.alive().len()
    }

    /// Puts a `docker` on the PATH that is a shell. Its first argument, `mcp`, is then the script that it runs.
    fn write_docker(&self, script: &str) {
        let docker = self.folder.path().join("docker");
        if !docker.exists() {
            symlink("/bin/sh", docker).unwrap();
        }
        fs::write(self.folder.path().join("mcp"), script).unwrap();
    }
}

async fn call(kit: &Kit, name: &str, arguments: Value) -> ToolOutcome {
    tests::call(&kit.tools, name, arguments).await
}

/// Waits until the file exists.
async fn created(path: &Path) {
    while !path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_carries_the_trace_context_of_the_run() {
    let mut fixture = fixture();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    fixture.environment.variables.insert(TRACEPARENT.into(), trace.into());
    let kit = fixture.kit(&server(json!({}))).await.unwrap();
    assert_eq!(call(&kit, "trace", json!({})).await, ToolOutcome::ok(trace));
    fixture.nursery.close().await;

    let fixture = self::fixture();
    let kit = fixture.kit(&server(json!({}))).await.unwrap();
    assert_eq!(call(&kit, "trace", json!({})).await, ToolOutcome::ok("no output"));
    fixture.nursery.close().await;
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let mut fixture = fixture();
    fixture.environment.variables.insert("TOKEN".into(), "sesame".into());
    let mut mcp = server(json!({"ADDED": "open ${TOKEN}"}));
    mcp.name = Some("t".into());
    let kit = fixture.kit(&mcp).await.unwrap();
    assert_eq!(kit.instruction.as_deref(), Some("Be kind."));
    let expected = ["t_echo", "t_env", "t_empty", "t_parts", "t_ask_me", "t_die", "t_hang", "t_trace"];
    assert_eq!(names(&kit.tools), expected);
    assert_eq!(kit.tools[4].own_name(), "ask.me");
    let kinds = ["t_echo", "t_env", "t_ask_me"].map(|name| {
        let spec = tool(&kit.tools, name).spec().clone();
        (spec.read_only, spec.interrupted)
    });
    assert_eq!(
        kinds,
        [(true, Interrupted::RunAgain), (false, Interrupted::Report), (false, Interrupted::RunAgain)]
    );
    assert_eq!(tool(&kit.tools, "t_echo").spec().parameters, json!({"type": "object", "properties": {}}));
    assert_eq!(call(&kit, "t_echo", json!({"a": "b \" c"})).await, ToolOutcome::ok(r#"{"a":"b \" c"}"#));
    assert_eq!(call(&kit, "t_env", json!({})).await, ToolOutcome::ok("open sesame no address"));
    assert_eq!(call(&kit, "t_empty", json!({})).await, ToolOutcome::ok("no output"));
    assert_eq!(
        call(&kit, "t_parts", json!({})).await,
        ToolOutcome::error("a[an image of an unknown format, 1 bytes, which cannot be shown]b")
    );
    assert_eq!(call(&kit, "t_ask_me", json!({})).await, ToolOutcome::ok("decline"));
    assert_eq!(fixture.alive(), 1);
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
    let after = call(&kit, "t_echo", json!({})).await;
    assert!(after.is_error && after.text.contains("the MCP server sh stopped during the call"), "{after:?}");
}

#[tokio::test]
async fn a_cancelled_call_ends_and_the_server_is_notified() {
    let fixture = fixture();
    let kit = fixture.kit(&server(json!({}))).await.unwrap();
    let (hang, cancel) = (tool(&kit.tools, "hang"), CancellationToken::new());
    let context = ToolContext {
        safety: None,
        call: CallIndex { turn: 1, index: 0 },
        person: None,
        cancel: cancel.clone(),
    };
    let cancelling = async {
        created(&fixture.folder.path().join("hangs")).await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(hang.call(json!({}), &context), cancelling);
    assert_eq!(outcome, ToolOutcome::error("Call cancelled"));
    created(&fixture.folder.path().join("cancelled")).await;
    assert_eq!(call(&kit, "echo", json!({})).await.text, "{}");
    fixture.nursery.close().await;
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_and_the_server_is_notified() {
    let fixture = fixture();
    let timing = Timing { call_timeout: Duration::from_secs(1), ..timing() };
    let kit = open(&server(json!({})), &fixture.environment, &fixture.nursery, timing).await.unwrap();
    let outcome = call(&kit, "hang", json!({})).await;
    let expected = "the MCP server sh did not answer within 1s; the outcome of the call is unknown";
    assert_eq!(outcome, ToolOutcome::error(expected));
    created(&fixture.folder.path().join("cancelled")).await;
    fixture.nursery.close().await;
}

#[tokio::test]
async fn a_failed_start_has_a_reason_and_leaves_no_process() {
    let fixture = fixture();
    let table = [
        (program("not-a-program", &[], json!({})), "not-a-program: not-a-program is not on the PATH"),
        (
            program("sh", &["-c", "echo broken >&2; exit 3"], json!({})),
            "sh: it exited before the handshake: broken",
        ),
        (program("sh", &["-c", "sleep 100 & exit 0"], json!({})), "sh: it exited before the handshake"),
        (program("sh", &["-c", ""], json!({"A": "$NOWHERE"})), "environment variable NOWHERE is not set"),
    ];
    for (mcp, expected) in table {
        assert_eq!(fixture.kit(&mcp).await.unwrap_err(), expected);
    }
    let short = Timing { start_timeout: Duration::from_millis(200), ..timing() };
    let unresponsive = program("sh", &["-c", "trap '' TERM; sleep 100 & sleep 100"], json!({}));
    let reason = open(&unresponsive, &fixture.environment, &fixture.nursery, short).await.unwrap_err();
    assert_eq!(reason, "sh: it did not respond within 0.2 s");
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
}

#[tokio::test]
async fn a_server_that_stops_is_restarted() {
    let fixture = fixture();
    let timing = Timing { restart_delays: vec![Duration::ZERO; 2], ..timing() };
    let dying = fixture.start(&server(json!({})).server, timing).await;
    let request = |name: &'static str| CallToolRequestParams::new(name);
    for _ in 0..2 {
        let died = dying.call(request("die")).await.unwrap_err();
        assert_eq!(died, "the MCP server sh stopped during the call, whose outcome is unknown");
        while dying.call(request("echo")).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    dying.call(request("die")).await.unwrap_err();
    dying.is_down("given up").await;
    let gone = dying.call(request("echo")).await.unwrap_err();
    assert_eq!(gone, "the MCP server sh stopped after 2 restarts and is given up");
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
}

#[tokio::test]
async fn calls_during_a_restart_are_errors_and_failed_starts_count() {
    let fixture = fixture();
    let once = fixture.folder.path().join("once");
    let server = server(json!({"ONCE": once.display().to_string()})).server;
    let timing = Timing { restart_delays: vec![Duration::ZERO, Duration::from_secs(3600)], ..timing() };
    let dying = fixture.start(&server, timing).await;
    dying.call(CallToolRequestParams::new("die")).await.unwrap_err();
    dying.is_down("(2 of 2)").await;
    let during_restart = dying.call(CallToolRequestParams::new("echo")).await.unwrap_err();
    assert_eq!(during_restart, "the MCP server sh stopped and is being restarted (2 of 2); try again later");
    // Closing does not wait for the restart delay.
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
}

#[tokio::test]
async fn servers_of_dockers_catalog_run_through_the_gateway() {
    let mut fixture = fixture();
    let docker =
        |config: Value| mcp(None, json!({"docker": {"server": "duck", "config": config, "env": {}}}));
    fixture.environment.variables.insert("PATH".into(), fixture.folder.path().display().to_string());
    let missing = fixture.kit(&docker(json!(null))).await.unwrap_err();
    assert!(
        missing.starts_with("docker:duck: docker is not on the PATH: servers of Docker's MCP"),
        "{missing}"
    );
    fixture.write_docker(&format!(
        "PATH=/usr/bin:/bin\necho \"$@\" > \"$FOLDER/args\"\n[ -z \"$5\" ] || cp \"$5\" \"$FOLDER/config\"\n{SERVER}"
    ));
    let kit = fixture.kit(&docker(json!(null))).await.unwrap();
    assert_eq!(call(&kit, "echo", json!({"q": 1})).await, ToolOutcome::ok(r#"{"q":1}"#));
    let read = |name: &str| fs::read_to_string(fixture.folder.path().join(name)).unwrap();
    assert_eq!(read("args"), "gateway run --servers=duck\n");
    let configured = fixture.kit(&docker(json!({"size": 3}))).await.unwrap();
    assert_eq!(read("config"), r#"{"duck":{"size":3}}"#);
    let file = read("args").trim().rsplit_once(' ').unwrap().1.to_owned();
    assert!(Path::new(&file).exists());
    fixture.nursery.close().await;
    drop((kit, configured));
    assert!(!Path::new(&file).exists());
    fixture.write_docker("echo \"docker: 'mcp' is not a docker command.\" >&2; exit 1");
    let old = Fixture { nursery: Nursery::new(fixture.groups.clone()), ..fixture };
    let reason = old.kit(&docker(json!(null))).await.unwrap_err();
    assert_eq!(reason, "docker:duck: it exited before the handshake: docker: 'mcp' is not a docker command.");
}

#[test]
fn tool_names_are_valid_for_every_provider() {
    assert_eq!(tool_name(None, "read_file"), "read_file");
    assert_eq!(tool_name(Some("d"), "a.b/c ä"), "d_a_b_c__");
    assert_eq!(tool_name(None, &"x".repeat(70)).len(), 64);
}
