//! An agent that is a program: the task on its standard input, its standard output is the live output, its exit
//! status the outcome.
//!
//! Nothing of it is recorded but the output and the end of its standard error, so a new attempt starts the program again.

use std::process::Stdio;
use std::sync::Arc;

use legwork_common::job::Cause;
use legwork_common::team::Agent;
use legwork_common::team::TextMap;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::Halt;
use crate::assignment::Opening;
use crate::assignment::Ports;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::described;

/// The most bytes of output that are the result: its end.
const RESULT_BYTES: usize = 1024 * 1024;
/// The most characters of standard error in a failure's message: its end.
const ERROR_CHARACTERS: usize = 2000;
/// The most bytes of standard error that are recorded: its end.
const RECORDED_BYTES: usize = 64 * 1024;
/// What stands for the task in an argument.
const TASK: &str = "{task}";

/// What the team says about the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'team> {
    pub(super) name: &'team str,
    pub(super) args: &'team [String],
    /// Variables added to its environment, unexpanded.
    pub(super) variables: &'team TextMap,
    pub(super) working_dir: Option<&'team str>,
}

/// What the program reads: the agent's instruction, if any, and what it is asked.
pub(super) fn input(agent: &Agent, opening: &Opening) -> String {
    let mut parts = vec![agent.instruction.clone()];
    match opening {
        Opening::Delegated { task, expected_output } => {
            parts.push(task.clone());
            parts.extend(expected_output.as_ref().map(|expected| format!("Expected output:\n{expected}")));
        }
        Opening::Conversation { messages } => {
            parts.extend(messages.iter().rev().find_map(|message| match message {
                Message::User { text } => Some(text.clone()),
                Message::System { .. } | Message::Assistant(_) | Message::ToolResult(_) => None,
            }));
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n") + "\n"
}

/// Runs it to its end; what it wrote.
pub(super) async fn run(
    program: Program<'_>,
    input: String,
    ports: &Ports,
    cancel: &CancellationToken,
) -> Result<String, Halt> {
    let nursery = Nursery::new(Arc::clone(&ports.environment.guard));
    // Whoever drops this run tells the program to end, without waiting for it.
    let leaving = nursery.abandoning();
    let follow = follow(program, input, ports, &nursery);
    let end = cancel.run_until_cancelled(follow).await.unwrap_or(Err(Halt::Stopped));
    nursery.close().await;
    drop(leaving);
    end
}

async fn follow(
    program: Program<'_>,
    input: String,
    ports: &Ports,
    nursery: &Nursery,
) -> Result<String, Halt> {
    ports.journal.gate().await?;
    let failed = |message: String| Halt::Failed { cause: Cause::AgentError, message };
    let command = command(program, input.trim_end(), ports, nursery).map_err(failed)?;
    let (mut process, output) = Process::start_with(command, input.into_bytes(), nursery)
        .map_err(|error| failed(format!("{} cannot be started: {error}", program.name)))?;
    let written = write(output, ports).await?;
    let status = process.ended().await.status;
    let error = process.capture().text();
    record(&error, ports).await?;
    if status.is_some_and(|status| status.success()) {
        return Ok(written.trim().to_owned());
    }
    let skipped = error.trim().chars().count().saturating_sub(ERROR_CHARACTERS);
    let error: String = error.trim().chars().skip(skipped).collect();
    let end = described(status);
    Err(failed(if error.is_empty() { end } else { format!("{end}: {error}") }))
}

fn command(program: Program<'_>, task: &str, ports: &Ports, nursery: &Nursery) -> Result<Command, String> {
    let environment = &ports.environment;
    let variables = environment
        .variables_with(program.variables)
        .map_err(|missing| format!("{}: {missing}", program.name))?;
    let mut command = nursery.command(program.name);
    command
        .args(program.args.iter().map(|argument| argument.replace(TASK, task)))
        .current_dir(environment.resolve(program.working_dir.unwrap_or_default()))
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null());
    Ok(command)
}

/// Records the end of what the program wrote to standard error, if it wrote anything.
async fn record(error: &str, ports: &Ports) -> Result<(), Halt> {
    let surplus = error.len().saturating_sub(RECORDED_BYTES);
    let text = error[crate::toolset::boundary(error, surplus)..].trim().to_owned();
    if text.is_empty() {
        return Ok(());
    }
    Ok(ports.journal.record(&TurnEntry::Stderr { text }).await?)
}

/// Writes the program's output as it comes; the end of it.
async fn write(mut output: pipe::Receiver, ports: &Ports) -> Result<String, Halt> {
    let mut piece = vec![0; 16 * 1024];
    let (mut waiting, mut written) = (Vec::new(), String::new());
    loop {
        let length = output.read(&mut piece).await.unwrap_or(0);
        waiting.extend_from_slice(&piece[..length]);
        let text = whole(&mut waiting, length == 0);
        if !text.is_empty() {
            ports.journal.output(&text).await?;
            written.push_str(&text);
            let surplus = written.len().saturating_sub(RESULT_BYTES);
            written.drain(..crate::toolset::boundary(&written, surplus));
        }
        if length == 0 {
            return Ok(written);
        }
    }
}

/// Takes the text whose last character is whole; all of it where no more will come.
fn whole(waiting: &mut Vec<u8>, last: bool) -> String {
    let length = match std::str::from_utf8(waiting) {
        Err(error) if error.error_len().is_none() && !last => error.valid_up_to(),
        Ok(_) | Err(_) => waiting.len(),
    };
    let rest = waiting.split_off(length);
    let text = String::from_utf8_lossy(waiting).into_owned();
    *waiting = rest;
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::assignment::Assignment;
    use crate::assignment::Outcome;
    use crate::environment::ProcessGuard;
    use crate::testing::World;
    use crate::testing::team;
    use crate::testing::world;

    /// Counts the groups that live.
    #[derive(Debug, Default)]
    struct Living(Mutex<Vec<u32>>);

    impl ProcessGuard for Living {
        fn started(&self, group: u32) {
            self.0.lock().unwrap().push(group);
        }

        fn ended(&self, group: u32) {
            self.0.lock().unwrap().retain(|&living| living != group);
        }
    }

    async fn go(world: &World, script: &str, cancel: CancellationToken) -> Outcome {
        let runner = json!({"command": {
            "program": "sh", "args": ["-c", script, "{task}"], "env": {"GREETING": "hi ${PATH}"}, "working_dir": "usr",
        }});
        let team = team(&[("a", &[], json!({"runner": runner, "instruction": "be good"}))]);
        let opening = Opening::Delegated { task: "count".into(), expected_output: Some("a number".into()) };
        let assignment = Assignment { team, agent: "a".into(), opening, recorded: Vec::new(), budget: None };
        crate::run::run(assignment, world.ports.clone(), cancel).await
    }

    #[tokio::test]
    async fn input_output_environment_and_folder() {
        let world = world(&json!({}));
        let script = "cat; echo $GREETING; pwd; echo \"<$0>\"; echo noise >&2";
        let task = "be good\n\ncount\n\nExpected output:\na number";
        let expected = format!("{task}\nhi /usr/bin:/bin\n/usr\n<{task}>");
        match go(&world, script, CancellationToken::new()).await {
            Outcome::Completed { result, .. } => assert_eq!(result, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.journal.output(), format!("{expected}\n"));
        assert_eq!(world.journal.entries(), [TurnEntry::Stderr { text: "noise".into() }]);
    }

    #[tokio::test]
    async fn the_exit_status_is_the_outcome() {
        for (script, expected) in [
            ("echo half; echo why >&2; exit 3", "exit status 3: why"),
            ("kill -9 $$", "signal 9"),
            ("exec not-a-program-at-all 2> /dev/null", "exit status 127"),
        ] {
            match go(&world(&json!({})), script, CancellationToken::new()).await {
                Outcome::Failed { cause: Cause::AgentError, message, .. } => assert_eq!(message, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_stop_ends_the_whole_group() {
        let living = Arc::new(Living::default());
        let mut world = world(&json!({}));
        let mut environment = (*world.ports.environment).clone();
        environment.guard = living.clone();
        world.ports.environment = Arc::new(environment);
        let cancel = CancellationToken::new();
        let running = go(&world, "echo up; sleep 100 & sleep 100", cancel.clone());
        let stopping = async {
            world.journal.saw_output("up").await;
            assert_eq!(living.0.lock().unwrap().len(), 1);
            cancel.cancel();
        };
        let (outcome, ()) = tokio::join!(running, stopping);
        assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
        assert!(living.0.lock().unwrap().is_empty());
    }

    #[test]
    fn characters_are_kept_whole() {
        let mut waiting = "aä".as_bytes()[..2].to_vec();
        assert_eq!(whole(&mut waiting, false), "a");
        waiting.push("ä".as_bytes()[1]);
        assert_eq!(whole(&mut waiting, false), "ä");
        let mut broken = vec![b'a', 0xff, b'b', 0xc3];
        assert_eq!(whole(&mut broken, false), "a\u{fffd}b\u{fffd}");
        let mut cut = vec![0xc3];
        assert_eq!((whole(&mut cut, false).as_str(), whole(&mut cut, true).as_str()), ("", "\u{fffd}"));
    }
}
