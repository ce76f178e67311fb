//! The page: its files and their headers, and what a browser makes of them.

use std::fs;
use std::path::Path;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::redis::Redis;
use legwork_tests::tools::installed_by;
use legwork_tests::tools::on_path;
use serde_json::Value;
use serde_json::json;

use crate::client::Server;
use crate::jobs::fleet_with;

const TOKEN: &str = "open-sesame-open-sesame";
const TEAM: &str = "
permissions: {ask: ['shell']}
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [lead], toolsets: [{type: background_agents}]}
  lead: {model: scripted/any, description: Leads., instruction: Lead., sub_agents: [quick, slow, hostile, broken, ops], toolsets: [{type: background_agents}]}
  quick: {model: scripted/any, description: Answers., instruction: Answer.}
  slow: {model: scripted/any, description: Answers late., instruction: Answer.}
  hostile: {model: scripted/any, description: Prints markup., instruction: Answer.}
  broken: {model: scripted/any, description: Fails., instruction: Answer.}
  ops: {model: scripted/any, description: Deploys., instruction: Deploy., toolsets: [{type: shell}, {type: user_prompt}]}
";

/// A server with one token for everything.
fn guarded(state: &StateFolder) -> Server {
    let tokens = state.file("tokens", format!("boss dispatcher,operator {TOKEN}\n"));
    Server::start(state, &["--tokens", &tokens])
}

/// The files below a folder, by their paths from it.
fn files(folder: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(folder, &format!("{name}/")));
        } else {
            found.push(name);
        }
    }
    found
}

#[test]
fn its_files_are_served_without_a_token_and_with_a_strict_policy() {
    let redis = Redis::start();
    let state = StateFolder::on(&redis.url());
    let server = guarded(&state);
    let folder = repository().join("crates/http/page");
    // What bundling them needs is not served.
    let others = ["vendor/package.json", "vendor/package-lock.json", "vendor/.npmrc", "vendor/checksums.txt"];
    for name in files(&folder, "") {
        let response = server.ask("GET", &format!("/page/{name}"), &[], b"");
        if others.contains(&name.as_str()) {
            assert_eq!(response.status, 404, "{name}");
            continue;
        }
        assert_eq!(response.status, 200, "{name}");
        assert!(response.body == fs::read(folder.join(&name)).unwrap(), "{name}");
        let policy = response.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("trusted-types 'none'"), "{policy}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        let tag = response.header("etag").unwrap();
        let again = server.ask("GET", &format!("/page/{name}"), &[("If-None-Match", tag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
    }
    let page = server.ask("GET", "/", &[], b"");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body == fs::read(folder.join("index.html")).unwrap());
    for unknown in ["/page/", "/page/../Cargo.toml", "/page/none.js"] {
        assert_eq!(server.ask("GET", unknown, &[], b"").status, 404, "{unknown}");
    }
}

#[test]
fn a_browser_follows_and_steers_the_fleet() {
    drive(10_000);
}

#[test]
#[ignore = "a measurement"]
fn a_browser_with_a_hundred_thousand_jobs() {
    drive(100_000);
}

/// Drives the page in a browser, with so many jobs in the queue towards the end.
#[expect(clippy::print_stdout, reason = "what took how long")]
fn drive(jobs: u32) {
    let Some(tools) = installed_by("page", "install-page-tools") else { return };
    let Some(browser) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else { return };
    let run =
        |task: &str| json!({"name": "run_background_agent", "arguments": {"agent": "quick", "task": task}});
    let wait = json!({"name": "wait_background_agents", "arguments": {"task_ids": ["{{jobs}}"]}});
    let hostile = "<img src=x onerror=\"window.owned=1\"><script>window.owned=1</script>\n\u{1b}[31mred\u{1b}[0m \
                   \u{202e}reversed\u{202c} &lt;b&gt; done";
    let slow: String = (0..2000).map(|number| format!("word{number} ")).collect();
    let call = |name: &str, arguments: Value| json!({"tool_calls": [{"name": name, "arguments": arguments}]});
    let colors = json!({"type": "object", "required": ["color"],
        "properties": {"color": {"type": "string", "enum": ["red", "blue"]}}});
    let script = json!({
        "ops": [
            call("shell", json!({"cmd": "echo it ran"})),
            call("user_prompt", json!({"message": "Which colour?", "title": "Paint", "schema": colors})),
            {"text": "{{result:0}}"},
        ],
        "lead": [
            {"text": "I ask two.", "reasoning": "Two are enough.", "tool_calls": [run("Read the log"), run("Run the tests")],
             "input_tokens": 1200, "output_tokens": 60},
            {"tool_calls": [wait], "input_tokens": 1400, "output_tokens": 30},
            {"text": "Both are done: the build is fixed.", "input_tokens": 1600, "output_tokens": 40},
        ],
        "quick": [{"text": "the answer", "input_tokens": 300, "output_tokens": 20}],
        "slow": [{"text": slow, "chunk_delay_ms": 100}],
        "hostile": [{"text": hostile}],
        "broken": [],
    });
    let redis = Redis::start();
    let state = fleet_with(&redis, &script);
    let server = guarded(&state);
    let _worker = state.worker(&[]);
    let mut command = state.other_program("node");
    command.arg(repository().join("tests/clients/drive_page.mjs"));
    // Screenshots are left where `make page` has made a folder for them.
    let pictures = Path::new(&tools).join("pictures");
    command.args([&format!("http://{}", server.address), TOKEN, TEAM]);
    command.args(Some(pictures).filter(|folder| folder.exists()));
    command.env("PAGE_JOBS", jobs.to_string());
    let output = command.env("PAGE_TOOLS", tools).env("CHROMIUM", browser).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    assert!(output.status.success() && printed.ends_with("all good\n"), "{output:#?}");
}
