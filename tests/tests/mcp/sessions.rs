//! Jobs belong to sessions and survive a crash of the host, the server or the worker.

use legwork_common::job::Cause;
use legwork_common::variables;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::StopRoot;
use legwork_queue::settings::FleetSettings;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::programs::until;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use serde_json::json;

use crate::host::Host;
use crate::host::id_of;
use crate::host::team;
use crate::host::text;

/// Process id of the background worker of a session.
fn worker_of(session: &str) -> Option<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let line = std::fs::read(folder.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let is_worker = line.contains("legwork-worker --session") && line.contains(session);
            is_worker.then(|| folder.file_name()?.to_str()?.parse().ok()).flatten()
        })
        .find_map(Pid::from_raw)
}

#[test]
fn a_job_survives_its_killed_server_and_is_listed_after_a_restart() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::start(&state, &[&team]);
    let instructions = host.initialize()["instructions"].as_str().unwrap().to_owned();
    assert!(instructions.contains("After a restart of this server in the same folder"), "{instructions}");
    let id = host.run("shell");
    state.until_output(&id, "marker");
    host.program.kill();
    assert_eq!(state.view(&id)["status"], "running");

    // Without any option: the session is that of the file and the folder, also by another spelling of the path.
    let mut again = Host::connect(&state, &[&format!("{}/./team.yaml", state.path("").display())]);
    assert!(text(&again.call("list_background_agents", json!({}))).contains(&id));
    state.file("go", "");
    let waited = again.call("wait_background_agents", json!({"task_ids": [id]}));
    assert_eq!(waited["structuredContent"]["tasks"][0]["status"], "completed", "{waited}");
    assert_eq!(state.view(&id)["attempt"], 1);

    // Closing standard input makes the server exit with 0.
    again.disconnect();
    assert_eq!(again.program.wait(), 0);
}

#[test]
fn a_session_does_not_see_jobs_of_another() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut one = Host::connect(&state, &[&team]);
    let id = one.run("quick");
    let mut other = Host::connect(&state, &[&team, "--new-session"]);
    let list = other.call("list_background_agents", json!({}));
    assert_eq!(text(&list), "Background Agent Tasks:\n\nNo background agent tasks found.\n");
    for tool in ["view_background_agent", "stop_background_agent"] {
        let view = other.call(tool, json!({"task_id": id}));
        assert_eq!((text(&view), &view["isError"]), (format!("task not found: {id}").as_str(), &json!(true)));
    }
}

#[test]
fn a_session_is_named_by_the_beginning_of_its_id() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team, "--new-session"]);
    let session = session_of(&mut host);
    let id = host.run("quick");
    state.until_status(&id, "completed");
    let mut again = Host::connect(&state, &[&team, "--session", &session[..8]]);
    assert!(text(&again.call("list_background_agents", json!({}))).contains(&id));
    let listed = state.legwork(["list", "--json", "--session", &session[..8]]).json_lines();
    assert_eq!(listed[0]["id"], json!(id));
}

/// The id of the session, which the server prints as it starts.
fn session_of(host: &mut Host) -> String {
    host.stderr_line("session ").split_once(';').unwrap().0.to_owned()
}

/// A job of a new session that has begun to run: its session and its id.
fn running_job(state: &StateFolder, host: &mut Host) -> (String, String) {
    let session = session_of(host);
    let id = host.run("shell");
    state.until_output(&id, "marker");
    (session, id)
}

/// Closes a session of the embedded server, as the end of its owner does.
fn close(state: &StateFolder, session: &str) {
    let target = Target::parse(&format!("unix://{}", state.path("state/server.sock").display())).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let settings = FleetSettings::default();
        let queue = Queue::connect(&target, "default", &settings, ConnectionKind::Pooled).await.unwrap();
        let root = StopRoot::Session { id: session.parse().unwrap(), close: true };
        queue.stop(root, Asker::Operator, Cause::SessionEnd).await.unwrap();
    });
}

#[test]
fn a_session_whose_programs_were_all_killed_continues_with_the_next_command() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    let (session, id) = running_job(&state, &mut host);
    host.program.kill();
    kill_process(worker_of(&session).unwrap(), Signal::KILL).unwrap();
    state.file("go", "");
    state.until_status(&id, "completed");
    let mut again = Host::connect(&state, &[&team]);
    assert!(text(&again.call("list_background_agents", json!({}))).contains(&id));
}

#[test]
fn a_closed_session_is_not_returned_to() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    let (session, id) = running_job(&state, &mut host);
    close(&state, &session);
    state.until_status(&id, "stopped");
    host.disconnect();

    let mut again = Host::connect(&state, &[&team]);
    assert_ne!(session_of(&mut again), session);
    let id = again.run("quick");
    state.until_status(&id, "completed");
}

#[test]
fn the_texts_and_the_json_of_a_stop_and_of_a_wait_agree() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team, "--answer-within", "1s"]);
    let id = host.run("shell");
    let waited = host.call("wait_background_agents", json!({"task_ids": [id], "timeout": 60}));
    let sentence = waited["content"][1]["text"].as_str().unwrap();
    assert_eq!(
        sentence,
        format!(
            "Not all of these tasks have ended after 1s (one call waits no longer, so that the host does not time out); \
             they keep running and nothing is lost: to keep waiting, call wait_background_agents again with task_ids \
             [\"{id}\"]."
        )
    );
    assert_eq!(waited["structuredContent"]["next"], sentence);
    let waited = host.call("wait_background_agents", json!({"task_ids": [id], "timeout": 0.1}));
    assert!(waited["content"][1]["text"].as_str().unwrap().contains("(your timeout)"), "{waited}");
    assert_eq!(waited["structuredContent"]["timed_out"], true, "{waited}");

    let stopped = host.call("stop_background_agent", json!({"task_id": id}));
    assert_eq!(text(&stopped), format!("Background agent task {id} stopped."));
    assert_eq!(stopped["structuredContent"], json!({"id": id, "status": "stopped"}));
}

#[test]
fn a_line_that_is_not_json_is_answered_and_a_person_is_told_what_is_waited_for() {
    let mut state = StateFolder::embedded();
    let team = team(&mut state);
    let mut host = Host::start(&state, &[&team]);
    host.write("hello");
    let answer = host.next_message();
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32700), &Value::Null), "{answer}");
    host.initialize();
    host.write("{\"jsonrpc\": ");
    assert_eq!(host.next_message()["error"]["code"], -32700);
    host.run("quick");

    // Ctrl-D, as typed.
    let shown = state.in_terminal(&["mcp", &team], "\u{4}");
    assert!(shown.contains("waiting for a host on standard input"), "{shown}");
}

#[test]
fn a_killed_background_worker_is_replaced() {
    let mut state = StateFolder::embedded();
    state.set(variables::LEASE, "2s");
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team]);
    let (session, id) = running_job(&state, &mut host);
    kill_process(worker_of(&session).unwrap(), Signal::KILL).unwrap();
    // The command of the dead worker counts as interrupted, and the agent continues.
    state.file("go", "");
    let waited = host.call("wait_background_agents", json!({"task_ids": [id], "timeout": 40}));
    assert_eq!(waited["structuredContent"]["tasks"][0]["status"], "completed", "{waited}");
    assert_eq!(state.view(&id)["attempt"], 2);
}

#[test]
fn with_a_redis_url_jobs_run_on_the_fleet() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team, "--agents", "quick"]);
    let id = host.run("quick");
    let view = host.call("view_background_agent", json!({"task_id": id}));
    assert!(text(&view).ends_with("<queued> no worker serves queue default"), "{view}");
    let _worker = state.worker(&[]);
    let waited = host.call("wait_background_agents", json!({"task_ids": [id]}));
    assert_eq!(waited["structuredContent"]["done"], true, "{waited}");
    let refused = host.call("run_background_agent", json!({"agent": "shell", "task": "x"}));
    assert_eq!(text(&refused), "agent \"shell\" is not in the sub-agents list. Available: quick");
    host.program.signal(Signal::TERM);
    until("the server exits", || !host.program.is_running());
}

#[test]
fn the_host_of_a_full_session_is_told_so() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = team(&mut state);
    let mut host = Host::connect(&state, &[&team, "--session-jobs", "1"]);
    let id = host.run("quick");
    let refused = host.call("run_background_agent", json!({"agent": "quick", "task": "x"}));
    assert_eq!(refused["isError"], true, "{refused}");
    assert!(text(&refused).contains("the session is full: 1 of its jobs have not ended"), "{refused}");
    host.call("stop_background_agent", json!({"task_id": id}));
    host.run("quick");
}

#[test]
fn a_job_belongs_to_the_trace_of_the_call_that_dispatched_it() {
    let (_redis, mut state) = StateFolder::with_redis();
    state.set(variables::LOG, "info");
    let team = team(&mut state);
    let _worker = state.worker(&[]);
    let mut host = Host::connect(&state, &[&team]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let params = json!({
        "name": "run_background_agent",
        "arguments": {"agent": "shell", "task": "x"},
        "_meta": {"traceparent": trace},
    });
    let id = id_of(&host.ask("tools/call", params)["result"]);
    state.file("go", "");
    let transcript = |id: &str| state.legwork(["view", id, "--transcript"]).expect_success();
    state.until_status(&id, "completed");
    assert!(transcript(&id).contains(&format!("marker {trace}")), "{}", transcript(&id));
    assert!(
        state.worker_log().contains("trace_id=\"0af7651916cd43dd8448eb211c80319c\""),
        "{}",
        state.worker_log()
    );
}

#[test]
fn the_snippets_in_the_documentation_are_valid() {
    let text = std::fs::read_to_string(repository().join("docs/mcp.md")).unwrap();
    let fenced = |language: &str| -> Vec<String> {
        let opening = format!("```{language}\n");
        text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let servers: Vec<Value> = fenced("json").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(servers.len(), 4);
    for server in servers {
        let (key, hosts) = server.as_object().unwrap().iter().next().unwrap();
        assert!(["mcpServers", "servers"].contains(&key.as_str()), "{key}");
        let server = &hosts["legwork"];
        assert!(server["command"] == "legwork" || server["url"].is_string(), "{server}");
    }
    let toolsets: String = fenced("yaml")[0].lines().map(|line| format!("    {line}\n")).collect();
    let state = StateFolder::embedded();
    let file = state.file("team.yaml", format!("agents:\n  root:\n    model: openai/gpt-4o\n{toolsets}"));
    state.legwork(["check", &file]).expect_success();
}

#[test]
fn invalid_options_are_reported_before_anything_is_served() {
    let state = StateFolder::embedded();
    let team = state.file("team.yaml", crate::host::TEAM);
    let table: [(&[&str], i32, &str); 6] = [
        (
            &["mcp", &team, "--policy", "absent.yaml"],
            2,
            "error: absent.yaml: No such file or directory (os error 2)\nhint: see docs/operations.md for the format of a \
             policy file\n",
        ),
        (
            &["mcp", &team, "--agents", "stranger"],
            3,
            "error: no such agent: stranger\nhint: this file has root, quick, shell\n",
        ),
        (
            &["mcp", &team, "--http", "0.0.0.0:0"],
            2,
            "error: 0.0.0.0:0 is reachable from other machines and needs a token\nhint: set LEGWORK_MCP_TOKEN or \
             --token-file, or listen on 127.0.0.1\n",
        ),
        (
            &["mcp", &team, "--http", "127.0.0.1:0"],
            2,
            "error: 127.0.0.1:0 is reachable by every user of this machine and needs a token\nhint: set LEGWORK_MCP_TOKEN \
             or --token-file; --no-token lets them all run agents with your rights\n",
        ),
        (
            &["mcp", &team, "--token-file", "x"],
            2,
            "error: the following required arguments were not provided: --http <ADDR>\nusage: legwork mcp [OPTIONS] \
             <FILE>\nhint: see `legwork mcp --help`\n",
        ),
        (
            &["mcp", "absent.yaml"],
            2,
            "error: cannot read absent.yaml: No such file or directory (os error 2)\n",
        ),
    ];
    for (arguments, status, expected) in table {
        let output = state.legwork(arguments);
        assert_eq!((output.status, output.stderr.as_str()), (status, expected), "{arguments:?}");
        assert_eq!(output.stdout, "");
    }
    // And before an embedded server is started, which would then stay behind.
    let local = state.legwork(["local", "status"]).expect_success();
    assert!(local.contains("State    stopped\n"), "{local}");
}

#[test]
fn a_budget_in_money_is_refused_where_a_price_is_not_known() {
    let mut state = StateFolder::embedded();
    let file = team(&mut state);
    let mut host = Host::connect(&state, &[&file, "--session-budget", "$1"]);
    let refused = host.call("run_background_agent", json!({"agent": "quick", "task": "go"}));
    let words = "the price of scripted/any is not known, so a budget in money cannot be kept";
    assert_eq!((text(&refused), &refused["isError"]), (words, &json!(true)));
    assert!(
        text(&host.call("list_background_agents", json!({}))).contains("No background agent tasks found")
    );
}
