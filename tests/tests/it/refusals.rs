//! Invalid input: each mistake has a clear message and the right exit code, and loses nothing.

use std::fmt::Write as _;

use legwork_common::team::parse;
use legwork_common::team::yaml_to_json;
use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use legwork_tests::redis::free_port;
use serde_json::json;

use crate::team::TEAM;
use crate::team::Team;

/// Exit status and error of a command, without the folder, which differs from run to run.
fn refusal(state: &StateFolder, arguments: &[&str]) -> String {
    let output = state.legwork(arguments);
    let folder = state.path("").display().to_string();
    format!("exit {}\n{}", output.status, output.stderr.replace(&folder, "/folder/"))
}

#[test]
fn each_invalid_command_has_a_message_and_exit_code() {
    let (_redis, state) = StateFolder::with_redis();
    let team = state.file("team.yaml", TEAM);
    let broken = state.file("broken.yaml", "agents:\n  root:\n    modle: openai/gpt-4o\n");
    let keys = state.file("keys.yaml", "agents:\n  root: {model: openai/gpt-4o, instruction: i}\n");
    let state = state;
    let table: &[&[&str]] = &[
        &["run", &broken, "hi"],
        &["check", "/nowhere.yaml"],
        &["run", &team, ""],
        &["run", &keys, "hi"],
        &["run", &team, "--agent", "stranger", "hi"],
        &["dispatch", &team, "stranger", "work"],
        &["dispatch", &team, "quick", "  "],
        &["dispatch", &team, "", "work"],
        &["dispatch", &team, "quick"],
        &["view", "deadbeef"],
        &["view", "x"],
        &["view", "192"],
        &["list", "--session", "f55"],
        &["list", "--session", "f558aaaa"],
        &["dispatch", &team, "quick", "work", "--timeout", "0"],
        &["dispatch", &team, "--agent", "quick", "work"],
        &["list", "--redis", "127.0.0.1:7912"],
        &["list", "--redis", "http://127.0.0.1:7912"],
        &["list", "--redis", "user:secret@127.0.0.1:7912"],
        &["stop", "agent_task_00000000-0000-4000-8000-000000000000"],
        &["wait", "deadbeef"],
        &["list", "--after", "nonsense"],
        &["list", "--status", "sleeping"],
    ];
    let mut text = String::new();
    for arguments in table {
        let shown: Vec<String> =
            arguments.iter().map(|word| word.replace(&state.path("").display().to_string(), "")).collect();
        writeln!(text, "$ legwork {}\n{}", shown.join(" "), refusal(&state, arguments)).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn an_unreachable_redis_and_a_wrong_password_are_named() {
    let port = free_port();
    let no_server = StateFolder::on(&format!("redis://127.0.0.1:{port}"));
    let printed = refusal(&no_server, &["list"]);
    let expected =
        format!("exit 5\nerror: Redis at 127.0.0.1:{port} could not be reached: Connection refused");
    assert!(printed.starts_with(&expected), "{printed}");
    assert!(printed.contains("hint: check --redis"), "{printed}");

    let redis = Redis::with_password("sesame");
    let locked = StateFolder::on(&redis.url().replace(":sesame@", ":wrong@"));
    let printed = refusal(&locked, &["list"]);
    assert!(printed.starts_with("exit 5\nerror: Redis refused the credentials"), "{printed}");
    assert!(!printed.contains("wrong@"), "{printed}");
    StateFolder::on(&redis.url()).legwork(["list"]).expect_success();
}

#[test]
fn an_empty_address_is_unset_and_an_empty_list_names_its_place() {
    let mut state = StateFolder::embedded();
    state.set(variables::REDIS_URL, "");
    state.set(variables::NAMESPACE, "");
    for (command, what) in [("list", "no jobs"), ("workers", "no workers")] {
        let output = state.legwork([command]);
        assert_eq!(
            (output.status, output.stderr.as_str()),
            (0, format!("{what} (embedded server)\n").as_str())
        );
    }
    let output = state.legwork(["list", "--agent", "nosuch", "--json"]);
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    state.legwork(["local", "stop"]);

    let (redis, state) = StateFolder::with_redis();
    let output = state.legwork(["list"]);
    assert_eq!(output.stderr, format!("no jobs ({})\n", redis.address()));
}

#[test]
fn an_ambiguous_id_lists_the_candidates_and_a_reused_key_is_a_conflict() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "x"}]}));
    // A prefix needs four digits. Among 2000 random ids, two with the same first four digits are all but certain.
    let lines: Vec<String> =
        (0..2000).map(|n| json!({"agent": "quick", "task": format!("{n}")}).to_string()).collect();
    let batch = state.file("batch.jsonl", lines.join("\n"));
    let ids = state.dispatch(&[&team.file, "--batch", &batch]);
    let mut starts: Vec<&str> = ids.lines().map(|id| &id[11..15]).collect();
    starts.sort_unstable();
    let twice = starts.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].to_owned();
    let output = state.legwork(["view", &twice]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(output.stderr.contains("may be any of agent_task_"), "{output:?}");

    let once = state.dispatch(&[&team.file, "quick", "a", "--key", "k"]);
    assert_eq!(state.dispatch(&[&team.file, "quick", "a", "--key", "k"]), once);
    let other = state.legwork(["dispatch", &team.file, "quick", "b", "--key", "k"]);
    assert_eq!(other.status, 7, "{other:?}");
    assert!(other.stderr.contains(&once), "{other:?}");
}

#[test]
fn a_task_of_a_megabyte_and_output_that_is_not_utf8_are_accepted() {
    let (_redis, mut state) = StateFolder::with_redis();
    let script = json!({
        "quick": [{"text": "read"}],
        "shell": [crate::team::calls("shell", &json!({"cmd": "printf '\\377\\376 bytes'"})), {"text": "{{result:shell}}"}],
    });
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let line = json!({"agent": "quick", "task": "m".repeat(1_000_000)}).to_string();
    let batch = state.file("batch.jsonl", line);
    let id = state.dispatch(&[&team.file, "--batch", &batch]);
    assert_eq!(state.until_status(&id, "completed")["task"].as_str().unwrap().len(), 1_000_000);

    let id = state.dispatch(&[&team.file, "shell", "print"]);
    let view = state.until_status(&id, "completed");
    assert!(view["result"].as_str().unwrap().contains(" bytes"), "{view}");
}

#[test]
fn hostile_files_get_a_message_and_unusual_valid_ones_pass() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain("agents: {}".bytes().flat_map(|byte| [byte, 0])).collect();
    let laughs: String = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let below = n - 1;
        format!("{text}a{n}: &a{n} [*a{below}, *a{below}, *a{below}, *a{below}]\n")
    });
    let nested = "agents: ".to_owned() + &"[".repeat(100_000);
    let twice = "agents:\n  a: {model: auto}\n  a: {model: auto}\n";
    let files: [(&str, Vec<u8>); 6] = [
        ("utf16.yaml", utf16),
        ("laughs.yaml", laughs.into_bytes()),
        ("nested.yaml", nested.into_bytes()),
        ("twice.yaml", twice.into()),
        ("empty.yaml", Vec::new()),
        ("50mb.yaml", vec![b'a'; 50_000_000]),
    ];
    let mut text = String::new();
    for (name, bytes) in files {
        let file = state.file(name, bytes);
        let output = state.legwork(["check", &file]);
        let folder = state.path("").display().to_string();
        let shown = (output.stdout + &output.stderr).replace(&folder, "/folder/");
        let shown: String = shown.chars().take(600).collect();
        writeln!(text, "$ legwork check {name}\nexit {}\n{shown}", output.status).unwrap();
    }
    let folder = state.path("").display().to_string();
    for path in [folder.as_str(), "/dev/zero"] {
        let output = state.legwork(["check", path]);
        let shown = (output.stdout + &output.stderr).replace(&folder, "FOLDER");
        writeln!(
            text,
            "$ legwork check {}\nexit {}\n{shown}",
            path.replace(&folder, "FOLDER"),
            output.status
        )
        .unwrap();
    }
    insta::assert_snapshot!(text);

    let many: String =
        (0..4000).map(|n| format!("  a{n}:\n    model: auto\n    description: |\n      One\n")).collect();
    let merged = "base: &base {model: auto}\n".replace(
        "base: &base",
        "models: {m: &m {provider: ollama, model: x}, n: {<<: *m, model: y}}\nagents: {root:",
    );
    let merged = merged.trim_end().to_owned() + "}\n";
    for (name, text) in [
        ("long.yaml", format!("agents:\n{many}")),
        ("crlf.yaml", "#!/usr/bin/env legwork\r\nagents:\r\n  root:\r\n    model: auto\r\n    instruction: |\r\n      One\r\n      two\r\n".to_owned()),
        ("merged.yaml", merged.to_owned()),
    ] {
        let file = state.file(name, text);
        let output = state.legwork(["check", &file]);
        assert_eq!(output.status, 0, "{name}: {output:?}");
    }
}

/// A worker's threads have 2 MiB of stack, and an overflow aborts the program: 1 MiB must be enough.
#[test]
fn the_deepest_documents_fit_half_of_the_stack() {
    let blocks = |levels: usize| (0..levels).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    let read = move || {
        for levels in [40, 47, 48, 49, 1000] {
            let flow = format!("{}1{}", "{a: [".repeat(levels / 2), "]}".repeat(levels / 2));
            for text in [blocks(levels), flow, "- ".repeat(levels)] {
                let _either = (parse("agents.yaml", text.as_bytes()).is_ok(), yaml_to_json(&text).is_ok());
            }
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(read).unwrap().join().unwrap();
}

#[test]
fn a_message_to_a_program_is_an_error() {
    let (_redis, state) = StateFolder::with_redis();
    let team = "
agents:
  root: {model: openai/any, instruction: i, sub_agents: [program]}
  program: {command: [sleep, '600'], description: Runs a program.}
";
    let team = state.file("team.yaml", team);
    let id = state.dispatch(&[&team, "program", "go"]);
    let output = state.legwork(["send", &id, "hello"]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(
        output.stderr.contains(&format!("error: task {id} runs a program, which hears no messages")),
        "{output:?}"
    );
}
