//! The files in `examples/` run unchanged, with stand-ins for the programs that cost money.

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use serde_json::json;

fn example(name: &str) -> String {
    repository().join("examples").join(name).display().to_string()
}

/// An agent program that prints its arguments and the task from standard input.
const STAND_IN: &str = r#"echo "asked: $*"; cat; echo thinking >&2"#;

#[test]
fn claude_code_and_codex_work_in_the_background() {
    let mut state = StateFolder::embedded();
    state.program("claude", &format!("#!/bin/sh\n{STAND_IN}\n"));
    state.program("codex", &format!("#!/bin/sh\n{STAND_IN}\n"));
    let files = [
        ("claude_code.yaml", "asked: -p --output-format text --permission-mode acceptEdits\n"),
        ("codex.yaml", "asked: exec --sandbox workspace-write --skip-git-repo-check -\n"),
    ];
    for (name, first) in files {
        let file = example(name);
        assert_eq!(state.legwork(["check", &file]).status, 0, "{name}");
        let id = state.dispatch(&[&file, "coder", "Explain it"]);
        let view = state.until_status(&id, "completed");
        let output = view["output"].as_str().unwrap();
        assert!(output.starts_with(first), "{output}");
        assert!(
            output.contains("No one can answer questions.") && output.ends_with("\n\nExplain it\n"),
            "{output}"
        );
        let transcript = state.legwork(["view", &id, "--transcript"]).expect_success();
        assert_eq!(transcript, "── standard error\nthinking\n");
    }
}

#[test]
fn a_failed_agent_program_is_reported_with_its_last_lines() {
    let mut state = StateFolder::embedded();
    state.program("claude", "#!/bin/sh\ncat > /dev/null; echo half; echo 'no key' >&2; exit 7\n");
    let id = state.dispatch(&[&example("claude_code.yaml"), "coder", "Explain it"]);
    let view = state.until_status(&id, "failed");
    assert_eq!((&view["cause"], &view["output"]), (&json!("agent_error"), &json!("half\n")));
    assert_eq!(view["error"], "exit status 7: no key");
}

#[test]
fn a_plain_program_is_an_agent() {
    let state = StateFolder::embedded();
    state.file("notes.txt", "one\nfind me\n");
    let file = example("script.yaml");
    let id = state.dispatch(&[&file, "words", "How many words are these?"]);
    assert_eq!(state.until_status(&id, "completed")["result"], "5");
    let id = state.dispatch(&[&file, "lines", "find m"]);
    let view = state.until_status(&id, "completed");
    // The result has other lines too: the embedded server's files are in this folder.
    assert!(view["result"].as_str().unwrap().contains("./notes.txt:2:find me"), "{view}");
}

#[test]
fn the_first_example_runs_with_its_script() {
    let state = StateFolder::embedded();
    let script = example("background_agents.script.json");
    let output =
        state.legwork(["run", &example("background_agents.yaml"), "--script", &script, "What is this?"]);
    assert_eq!(output.status, 0, "{output:?}");
}
