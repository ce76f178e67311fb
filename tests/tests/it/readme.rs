//! The README's commands, each of them, in its order, in one shell and a clean copy of what the repository tracks.

use std::fs;
use std::path::Path;
use std::process::Command;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::redis::Redis;
use legwork_tests::redis::free_port;

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Copies every tracked file, as it is in the working tree.
fn clone_into(folder: &Path) {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(repository()).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    for name in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (repository().join(name), folder.join(name));
        if from.is_file() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
    }
}

/// Stands in for the programs that build, install or cost money. Each checks what it is asked for as far as that is
/// possible without doing it: the targets of `make`, the packages of `cargo install`, and the server that `claude` would
/// start.
fn stand_ins(state: &mut StateFolder) {
    state.program("make", "#!/bin/sh\nexec grep -q \"^$1:\" Makefile\n");
    state.program(
        "cargo",
        "#!/bin/sh\ncase $1 in build) ;; install) test \"$2 $3\" = '--locked --path' && test -f \"$4/Cargo.toml\" ;; \
         *) exit 9 ;; esac\n",
    );
    state.program(
        "claude",
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\" < /dev/null\n",
    );
}

#[test]
fn every_command_of_the_readme_works_in_its_order() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let redis = Redis::start();
    let mut state = StateFolder::embedded();
    // Nothing of the person who runs the test is read or written.
    let home = state.path("home").display().to_string();
    state.set(variables::HOME, &home);
    stand_ins(&mut state);
    let clone = state.path("clone");
    clone_into(&clone);
    let commands = blocks(&text, "sh").concat();
    assert!(commands.contains("redis://127.0.0.1:6379") && commands.contains("127.0.0.1:8080"), "{commands}");
    let commands = commands
        .replace("redis://127.0.0.1:6379", &redis.url())
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", free_port()));
    let script = format!("cd '{}'\nset -x\n{commands}\nwait\n", clone.display());
    let output = state.start_shell(&script).wait_with_output();
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    // What the text promises of these commands.
    let lines: Vec<&str> = output.stdout.lines().collect();
    let has = |text: &str| assert!(output.stdout.contains(text), "{text} is not in {}", output.stdout);
    has("# What the team found");
    has("Counted on the disk: ");
    has("I have stopped watching.");
    assert!(
        lines.iter().any(|line| line.contains("running") && line.contains("Watch this folder")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.contains("stopped")), "{lines:?}");
    assert!(lines.contains(&"5"), "{lines:?}");

    let file = state.file("smallest.yaml", &blocks(&text, "yaml")[0]);
    let checked = state.legwork(["check", &file]).expect_success();
    assert!(
        checked.contains("lacks OPENAI_API_KEY") && checked.ends_with("good, 1 agent, with 1 warning\n"),
        "{checked}"
    );
}
