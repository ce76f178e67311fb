//! Realistic agent files: an agent gets the same prompt, tools and environment in the root and on a worker that shares no
//! files with it; and conversations in a terminal.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::programs::until;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
use legwork_tests::redis::Redis;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Runtime;

const FILE: &str = r#"#!/usr/bin/env legwork
version: "7"
providers:
  local: {base_url: "${env.FAKE_URL}", token_key: LOCAL_KEY}
models:
  broken: {provider: local, model: broken}
  good: {provider: local, model: good, temperature: 0.5, max_tokens: 99}
permissions:
  deny: ["shell:cmd=rm*"]
  ask: [greet]
agents:
  root:
    model: broken
    description: Does everything.
    instruction: Do it.
    add_date: true
    add_environment_info: true
    add_prompt_files: [RULES.md]
    max_iterations: 9
    num_history_items: 40
    fallback: {models: [good], retries: -1, cooldown: 10m}
    handoffs: [closer]
    structured_output: {name: answer, schema: {type: object, properties: {a: {type: string}}}}
    toolsets:
      - {type: think, instruction: "Think hard. {ORIGINAL_INSTRUCTIONS}"}
      - {type: todo}
      - {type: shell, env: {WHO: "${LOCAL_KEY}"}}
      - {type: filesystem, tools: [read_file, write_file], post_edit: [{path: "*.txt", cmd: "echo seen >> $path"}]}
      - {type: memory, path: ./memory.db}
      - {type: fetch}
      - type: script
        shell:
          greet: {cmd: "echo hello $name", args: {name: {type: string}}, required: [name]}
          shout: {cmd: "echo HELLO", description: Shouts}
  closer:
    model: good
    description: Ends it.
    instruction: End it.
"#;

/// Calls one tool after the other, hands off, and ends.
fn answer(body: &Value) -> Answer {
    let calls = [
        ("write_file", r#"{"path": "made.txt", "content": "made\n"}"#),
        ("shell", r#"{"cmd": "cat made.txt; echo $WHO"}"#),
        ("shell", r#"{"cmd": "rm made.txt"}"#),
        ("greet", r#"{"name": "Ada"}"#),
        ("shout", "{}"),
        ("handoff", r#"{"agent": "closer"}"#),
    ];
    if body["model"] == "broken" {
        return Answer::Status(404, Vec::new(), "no such model");
    }
    let messages = body["messages"].as_array().unwrap();
    let replies = messages.iter().filter(|message| message["role"] == "assistant").count();
    match calls.get(replies) {
        Some((name, arguments)) => Answer::Reply {
            reasoning: None,
            text: Vec::new(),
            calls: vec![Call { id: "c", name, arguments: vec![arguments] }],
        },
        None => Answer::text(&["closed"]),
    }
}

/// What the provider was sent, without what differs from run to run or between the root of a session and a job.
fn comparable(requests: &[Value], folders: &[String]) -> String {
    let first = &requests[1];
    let mut tools: Vec<&str> = first["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    tools.sort_unstable();
    let mut text = format!("tools: {}\n", tools.join(", "));
    for key in ["temperature", "max_tokens", "response_format"] {
        text.push_str(&format!("{key}: {}\n", first[key]));
    }
    let last = requests.last().unwrap()["messages"].as_array().unwrap();
    let before = first["messages"].as_array().unwrap();
    for message in
        before.iter().chain(last).filter(|message| message["role"] == "system" || message["role"] == "tool")
    {
        let mut content = message["content"].as_str().unwrap().to_owned();
        // A job gets its task as a system message, the root as a user message.
        if content.contains("<task>") {
            continue;
        }
        for folder in folders {
            content = content.replace(folder, "FOLDER");
        }
        text.push_str(&format!("{}: {content}\n", message["role"].as_str().unwrap()));
    }
    let dated = text.lines().map(|line| if line.contains("Today's date") { "DATE" } else { line });
    dated.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_agent_is_given_the_same_in_the_root_and_in_the_background() {
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(FakeProvider::choosing(answer));
    let redis = Redis::start();
    // The orchestrator and the worker have separate folders.
    let mut folders = [StateFolder::on(&redis.url()), StateFolder::on(&redis.url())];
    for state in &mut folders {
        state.set("FAKE_URL", &fake.url);
        state.set("LOCAL_KEY", "sesame");
        state.file("RULES.md", "Be kind.");
    }
    let [root_side, worker_side] = &folders;
    let file = root_side.file("team.yaml", FILE);
    let folder = worker_side.path("").display().to_string().trim_end_matches('/').to_owned();
    let worker = ["--work-dir", folder.as_str(), "--shared-work-dir"];
    let _worker = worker_side.worker(&worker);

    let output = root_side.legwork(["run", &file, "Do everything"]);
    assert_eq!((output.status, output.stdout.trim()), (0, "closed"), "{output:?}");
    let of_root: Vec<Value> = fake.asked().into_iter().map(|asked| asked.body).collect();
    assert!(root_side.path("made.txt").exists());

    let id = root_side.dispatch(&[&file, "root", "Do everything"]);
    let view = root_side.until_status(&id, "completed");
    assert_eq!(view["result"], "closed");
    assert_eq!(std::fs::read_to_string(worker_side.path("made.txt")).unwrap(), "made\nseen\n");
    let of_job: Vec<Value> = fake.asked().into_iter().skip(of_root.len()).map(|asked| asked.body).collect();

    let folders =
        folders.each_ref().map(|state| state.path("").display().to_string().trim_end_matches('/').to_owned());
    let (root, job) = (comparable(&of_root, &folders), comparable(&of_job, &folders));
    assert_eq!(root, job);
    insta::assert_snapshot!(root);
    // The broken model is called once and is then in its cooldown. The agent that takes over has its own model.
    for requests in [&of_root, &of_job] {
        let models: Vec<&str> = requests.iter().map(|body| body["model"].as_str().unwrap()).collect();
        assert_eq!(models, ["broken", "good", "good", "good", "good", "good", "good", "good"]);
    }
}

/// External tools of every kind: MCP servers from Docker's catalog (defined under `mcps` and inline), a program, an HTTP
/// API.
const OUTSIDE: &str = r#"
mcps:
  docs: {ref: "docker:context7", config: {size: 3}, env: {ADDED: from the file}}
agents:
  root:
    model: scripted/any
    toolsets:
      - {type: mcp, ref: docs, name: docs}
      - {type: mcp, ref: "docker:duckduckgo", name: web, env: {ADDED: "${LOCAL_KEY}"}, tools: [env]}
      - {type: mcp, command: ./server.sh, args: [x], name: own, env: {ADDED: here}}
      - {type: fetch, timeout: 1}
      - type: api
        api_config:
          name: weather
          endpoint: "${env.SITE}/of/${city}"
          method: GET
          instruction: The weather of a city
          headers: {Authorization: "Bearer ${env.LOCAL_KEY}"}
          args: {city: {type: string}}
          required: [city]
"#;

/// A web site that echoes the request line and whether the key was sent; `/slow` never responds.
fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut unanswered = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            if request.contains("/slow") {
                unanswered.push(stream);
                continue;
            }
            let key = if request.contains("authorization: bearer sesame") {
                "with the key"
            } else {
                "without a key"
            };
            let body = format!("{} {key}", request.lines().next().unwrap_or_default());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    format!("http://{address}")
}

#[test]
fn tools_from_outside_work_on_a_worker_of_a_fleet() {
    let (_redis, mut state) = StateFolder::with_redis();
    let server = repository().join("crates/agent/src/toolset/mcp/tests/server.sh");
    let server = std::fs::read_to_string(server).unwrap();
    // A stand-in for Docker's gateway: it records its arguments and then acts as the test server.
    let gateway = server.replacen("#!/bin/sh", "#!/bin/sh\necho \"$@\" >> gateway.log", 1);
    state.program("docker", &gateway);
    state.program("server.sh", &server);
    let site = site();
    state.set("SITE", &site);
    state.set("LOCAL_KEY", "sesame");
    state.set(variables::FETCH_PRIVATE, "1");
    state.set(variables::API_PRIVATE, "1");
    let slow = format!("{site}/slow");
    let script = json!({"agents": {"root": [
        {"tool_calls": [
            {"name": "docs_env"}, {"name": "web_env"}, {"name": "web_echo"}, {"name": "own_echo", "arguments": {"a": 1}},
            {"name": "weather", "arguments": {"city": "Oslo"}},
            {"name": "fetch", "arguments": {"urls": [slow], "format": "text"}},
        ]},
        {"text": "{{results}}"},
    ]}});
    let script = state.file("script.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let folder = state.path("").display().to_string();
    let file = state.file("team.yaml", OUTSIDE.replace("./server.sh", "server.sh"));
    let _worker = state.worker(&["--work-dir", &folder, "--shared-work-dir"]);
    let id = state.dispatch(&[&file, "root", "go"]);
    let view = state.until_status(&id, "completed");
    let result = view["result"].as_str().unwrap();
    let results: Vec<&str> = result.split("\n\n").collect();
    assert_eq!(results[0], "from the file no address");
    // The server was given the key, and what it repeats of it is hidden.
    assert_eq!(results[1], "[hidden: LOCAL_KEY] no address");
    assert!(results[2].starts_with("unknown tool `web_echo`"), "{}", results[2]);
    assert_eq!(results[3], r#"{"a":1}"#);
    assert!(results[4].contains("get /of/oslo http/1.1 with the key"), "{}", results[4]);
    assert_eq!(results[5], format!("Error fetching {slow}: no response within 1 s"));
    let started = std::fs::read_to_string(state.path("gateway.log")).unwrap();
    let mut started: Vec<&str> = started.lines().collect();
    started.sort_unstable();
    assert!(started[0].starts_with("mcp gateway run --servers=context7 --config "), "{started:?}");
    assert_eq!(started[1], "mcp gateway run --servers=duckduckgo");
}

#[test]
fn a_terminal_is_a_conversation() {
    let mut state = StateFolder::embedded();
    let team = "
agents:
  root:
    model: scripted/any
    instruction: Talk.
    welcome_message: Welcome, ${env.NAME}!
    max_iterations: 2
    toolsets: [{type: todo}]
    commands: {plan: 'Plan ${args[0]}'}
";
    let todo =
        |text: &str| json!({"tool_calls": [{"name": "create_todo", "arguments": {"description": text}}]});
    let script = json!({"agents": {"root": [
        todo("one"), {"text": "first: {{last_user}}"}, todo("two"), {"text": "second: {{last_user}} {{result:0}}"},
    ]}});
    let team = state.file("team.yaml", team);
    let script = state.file("script.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    state.set("NAME", "Ada");
    let screen = state.in_terminal(&["run", &team], "hello\n/plan tomorrow\n\n");
    for expected in ["Welcome, Ada!", "first: hello", "second: Plan tomorrow", "todo_2"] {
        assert!(screen.contains(expected), "{expected}: {screen}");
    }
}

#[test]
fn a_conversation_outlives_an_error_of_the_provider() {
    let runtime = Runtime::new().unwrap();
    let answers = vec![
        Answer::text(&["the first answer"]),
        Answer::Status(400, Vec::new(), "the provider is out of order"),
        Answer::text(&["the third answer"]),
    ];
    let fake = runtime.block_on(FakeProvider::start(answers));
    let mut state = StateFolder::embedded();
    state.set("OPENAI_API_KEY", "k");
    let url = &fake.url;
    let team = state.file(
        "team.yaml",
        format!(
            "models: {{m: {{provider: openai, model: gpt-4o, base_url: '{url}'}}}}\nagents: {{root: {{model: m}}}}\n"
        ),
    );
    let screen = state.in_terminal(&["run", &team], "prompt one\nprompt two\nprompt three\n\n");
    let (before, after) = screen.split_once("error: the agent failed (provider_error)").unwrap();
    assert!(before.contains("the first answer"), "{screen}");
    assert!(after.contains("out of order") && after.contains("the third answer"), "{screen}");
    // The conversation is the same one.
    let last = fake.asked()[2].body["messages"].to_string();
    for said in ["prompt one", "the first answer", "prompt two", "prompt three"] {
        assert!(last.contains(said), "{said}: {last}");
    }
}

#[test]
fn a_terminal_is_asked_what_the_team_wants_a_person_to_decide() {
    let mut state = StateFolder::embedded();
    let team = "
permissions: {ask: [shell]}
agents:
  root: {model: scripted/any, instruction: Work., toolsets: [{type: shell}]}
";
    let shell = |cmd: &str| json!({"tool_calls": [{"name": "shell", "arguments": {"cmd": cmd}}]});
    let script = json!({"agents": {"root": [
        shell("echo it ran"), shell("echo again > made.txt"), {"text": "{{result:0}}"},
    ]}});
    let team = state.file("team.yaml", team);
    let script = state.file("script.json", script.to_string());
    state.set(variables::SCRIPT, &script);
    let screen = state.in_terminal(&["run", &team], "go\ny\nno\n\n");
    assert!(screen.contains("the agent wants to call shell {\"cmd\":\"echo it ran\"}"), "{screen}");
    assert!(
        screen.contains("The user rejected the tool call.") && !state.path("made.txt").exists(),
        "{screen}"
    );
}

#[test]
fn check_reports_warnings_and_errors_as_json() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let good = state.file(
        "good.yaml",
        "agents:\n  root:\n    model: auto\n    hooks: {session_start: [{type: command, command: x}]}\n    toolsets: [{type: lsp, command: gopls}]\n",
    );
    let bad = state.file("bad.yaml", "agents:\n  root: {modle: auto}\n");
    let output = state.legwork(["check", "--json", &good, &bad]);
    assert_eq!(output.status, 4);
    let objects = output.json_lines();
    let warnings = objects[0]["warnings"].as_array().unwrap();
    let reported = |position: (u64, u64), words: &str| {
        warnings.iter().any(|warning| {
            (&warning["line"], &warning["column"]) == (&json!(position.0), &json!(position.1))
                && warning["message"].as_str().unwrap().contains(words)
        })
    };
    assert!(reported((5, 23), "no language server runs"), "{warnings:?}");
    assert_eq!((&objects[0]["good"], &objects[1]["good"]), (&json!(true), &json!(false)));
    let hints: Vec<&Value> =
        objects[1]["errors"].as_array().unwrap().iter().map(|error| &error["hint"]).collect();
    assert!(hints.contains(&&json!("did you mean `model`?")), "{hints:?}");
    until("the warning is printed as text", || {
        state.legwork(["check", &good]).expect_success().contains(": warning: ")
    });
}

#[test]
fn check_tells_which_settings_no_request_can_carry() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let file = |small: &str| {
        format!(
            "models:
  plain: {{provider: openai, model: gpt-4o, thinking_budget: high}}
  temp: {{provider: anthropic, model: claude-sonnet-4-5, thinking_budget: 1024, temperature: 0.3}}
  fine: {{provider: anthropic, model: claude-sonnet-4-5, temperature: 0.3}}
{small}
agents:
  root: {{model: temp, description: r, instruction: hi}}
"
        )
    };
    let good = state.file("good.yaml", file(""));
    let text = state.legwork(["check", &good]).expect_success();
    let notes: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(": note: ")).map(|(_, note)| note).collect();
    assert!(notes[0].starts_with("model `plain`: `thinking_budget` "), "{text}");
    assert!(notes[1].starts_with("model `temp`: `temperature` is left out: "), "{text}");
    assert_eq!(notes.len(), 2, "{text}");
    let objects = state.legwork(["check", "--json", &good]).json_lines();
    assert_eq!(objects[0]["notes"].as_array().unwrap().len(), 2, "{objects:?}");
    let small =
        "  small: {provider: anthropic, model: claude-sonnet-4-5, thinking_budget: 16000, max_tokens: 4000}";
    let bad = state.file("bad.yaml", file(small));
    let output = state.legwork(["check", &bad]);
    assert_eq!(output.status, 4);
    let expected = ": error: model `small`: `thinking_budget` of 16000 tokens must be less than `max_tokens`";
    assert!(output.stdout.contains(expected), "{output:?}");
}
