//! An agent that is a program: it reads the task from standard input, its standard output is the output, and its
//! exit status decides the outcome.
//!
//! There are no turns to resume from: a new attempt starts the program again. Only the output and the end of its
//! standard error are recorded.

use std::process::Stdio;
use std::sync::Arc;

use legwork_common::job::Cause;
use legwork_common::team::Agent;
use legwork_common::team::StringMap;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use crate::assignment::Opening;
use crate::assignment::Ports;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::TRAILING_OUTPUT_TIMEOUT;
use crate::process::describe_exit;
use crate::toolset::boundary;

/// The most bytes of output that become the result, counted from the end: the last words of a program matter most.
/// All of the output is written; this bounds what is kept in memory and stored with the job.
const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// The most characters of standard error in the message of a failure, counted from the end. A screenful.
const MAX_ERROR_CHARS: usize = 2000;
/// The most bytes of standard error that are recorded, counted from the end. Enough for a log of the last steps;
/// the record is one entry, read whole.
const MAX_STDERR_BYTES: usize = 64 * 1024;
/// The most bytes that are read after the program has exited: as much as a pipe can hold, so that a background process
/// that keeps writing adds little.
const MAX_TRAILING_BYTES: u64 = 1024 * 1024;
/// The placeholder for the input in an argument of the program.
const TASK_PLACEHOLDER: &str = "{task}";

/// The program, as the team's file has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'team> {
    pub(super) name: &'team str,
    pub(super) args: &'team [String],
    /// Variables that are added to its environment; values may refer to others as `${X}`.
    pub(super) variables: &'team StringMap,
    pub(super) working_dir: Option<&'team str>,
}

/// The program's standard input: the agent's instruction, if any, and the task or the last prompt.
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

/// Runs the program to its end; the result is the end of its output.
///
/// Returns when no process of its group is left. Dropping the future begins to end the group without waiting for
/// it.
pub(super) async fn run(
    program: Program<'_>,
    input: String,
    ports: &Ports,
    cancel: &CancellationToken,
) -> Result<String, Halt> {
    let nursery = Nursery::new(Arc::clone(&ports.environment.guard));
    let close_on_drop = nursery.close_on_drop();
    let follow = follow(program, input, ports, &nursery);
    let end = cancel.run_until_cancelled(follow).await.unwrap_or(Err(Halt::Stopped));
    nursery.close().await;
    drop(close_on_drop);
    end
}

async fn follow(
    program: Program<'_>,
    input: String,
    ports: &Ports,
    nursery: &Nursery,
) -> Result<String, Halt> {
    ports.journal.confirm_lease().await?;
    let failed = |message: String| Halt::Failed { cause: Cause::AgentError, message };
    let command = command(program, input.trim_end(), ports, nursery).map_err(failed)?;
    let (mut process, output) = Process::start_with(command, input.into_bytes(), nursery)
        .map_err(|error| failed(format!("{} cannot be started: {error}", program.name)))?;
    let result = write_until_exit(output, &mut process, ports).await?;
    let status = process.ended().await.status;
    let error = process.text();
    record_stderr(&error, ports).await?;
    if status.is_some_and(|status| status.success()) {
        return Ok(result.trim().to_owned());
    }
    let skipped = error.trim().chars().count().saturating_sub(MAX_ERROR_CHARS);
    let error: String = error.trim().chars().skip(skipped).collect();
    let end = describe_exit(status);
    Err(failed(if error.is_empty() { end } else { format!("{end}: {error}") }))
}

fn command(program: Program<'_>, task: &str, ports: &Ports, nursery: &Nursery) -> Result<Command, String> {
    let environment = &ports.environment;
    let variables = environment
        .variables_with(program.variables)
        .map_err(|missing| format!("{}: {missing}", program.name))?;
    let mut command = nursery.command(program.name);
    command
        .args(program.args.iter().map(|argument| argument.replace(TASK_PLACEHOLDER, task)))
        .current_dir(environment.resolve(program.working_dir.unwrap_or_default()))
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null());
    Ok(command)
}

/// Records the end of the program's standard error, if there is any.
async fn record_stderr(error: &str, ports: &Ports) -> Result<(), Halt> {
    let surplus = error.len().saturating_sub(MAX_STDERR_BYTES);
    let text = error[boundary(error, surplus)..].trim().to_owned();
    if text.is_empty() {
        return Ok(());
    }
    Ok(ports.journal.record(&TurnEntry::Stderr { text }).await?)
}

/// Writes the program's output as it arrives; returns its end. The exit of the program is the end of its output: a
/// process that it left in the background may hold the pipe open for any time, and is ended with the run.
async fn write_until_exit(
    mut output: pipe::Receiver,
    process: &mut Process,
    ports: &Ports,
) -> Result<String, Halt> {
    let mut written = Written { ports, pending: Vec::new(), result: String::new() };
    let mut chunk = vec![0; 16 * 1024];
    loop {
        // Raced only while it reads: a write that is cut off would lose text.
        let length = tokio::select! {
            // The exit goes first, because a background process may fill the pipe as fast as it is emptied.
            biased;
            _ = process.ended() => break,
            read = output.read(&mut chunk) => read.unwrap_or(0),
        };
        if length == 0 {
            return written.finish().await;
        }
        written.add(&chunk[..length]).await?;
    }
    // What the program wrote before it exited is in the pipe already.
    let mut trailing = Vec::new();
    let mut rest = output.take(MAX_TRAILING_BYTES);
    timeout(TRAILING_OUTPUT_TIMEOUT, rest.read_to_end(&mut trailing)).await.ok();
    written.add(&trailing).await?;
    written.finish().await
}

/// What was written of a program's output.
struct Written<'p> {
    ports: &'p Ports,
    /// The first bytes of a character whose rest has not arrived.
    pending: Vec<u8>,
    /// The end of the text.
    result: String,
}

impl Written<'_> {
    async fn add(&mut self, bytes: &[u8]) -> Result<(), Halt> {
        self.pending.extend_from_slice(bytes);
        let text = take_whole_chars(&mut self.pending, false);
        self.write(&text).await
    }

    /// Writes what is left; returns the end of the text.
    async fn finish(mut self) -> Result<String, Halt> {
        let text = take_whole_chars(&mut self.pending, true);
        self.write(&text).await?;
        Ok(self.result)
    }

    async fn write(&mut self, text: &str) -> Result<(), Halt> {
        if text.is_empty() {
            return Ok(());
        }
        self.ports.journal.output(text).await?;
        self.result.push_str(text);
        let surplus = self.result.len().saturating_sub(MAX_RESULT_BYTES);
        self.result.drain(..boundary(&self.result, surplus));
        Ok(())
    }
}

/// Takes the text up to the last complete character: one that is split between two reads stays for the next call.
/// With `is_end` it takes everything.
fn take_whole_chars(pending: &mut Vec<u8>, is_end: bool) -> String {
    let length = match std::str::from_utf8(pending) {
        Err(error) if error.error_len().is_none() && !is_end => error.valid_up_to(),
        Ok(_) | Err(_) => pending.len(),
    };
    let rest = pending.split_off(length);
    let text = String::from_utf8_lossy(pending).into_owned();
    *pending = rest;
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::assignment::Outcome;
    use crate::environment::ProcessGuard;
    use crate::testing;
    use crate::testing::World;
    use crate::testing::team;
    use crate::testing::world;

    /// Tracks the groups that are alive.
    #[derive(Debug, Default)]
    struct AliveGroups(Mutex<Vec<u32>>);

    impl ProcessGuard for AliveGroups {
        fn started(&self, group: u32) {
            self.0.lock().unwrap().push(group);
        }

        fn ended(&self, group: u32) {
            self.0.lock().unwrap().retain(|&alive| alive != group);
        }
    }

    async fn go(world: &World, script: &str, cancel: CancellationToken) -> Outcome {
        let runner = json!({"command": {
            "program": "sh", "args": ["-c", script, "{task}"], "env": {"GREETING": "hi ${PATH}"}, "working_dir": "usr",
        }});
        let team = team(&[("a", &[], json!({"kind": runner, "instruction": "be good"}))]);
        let opening = Opening::Delegated { task: "count".into(), expected_output: Some("a number".into()) };
        let assignment = testing::assignment(team, "a", opening);
        crate::run::run(assignment, world.ports.clone(), cancel).await
    }

    #[tokio::test]
    async fn gives_input_and_environment_and_takes_output() {
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
    async fn fails_by_the_exit_status() {
        for (script, expected) in [
            ("echo half; echo why >&2; exit 3", "exit status 3: why"),
            ("kill -9 $$", "killed (SIGKILL)"),
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
        let alive = Arc::new(AliveGroups::default());
        let mut world = world(&json!({}));
        let mut environment = (*world.ports.environment).clone();
        environment.guard = alive.clone();
        world.ports.environment = Arc::new(environment);
        let cancel = CancellationToken::new();
        let running = go(&world, "echo up; sleep 100 & sleep 100", cancel.clone());
        let stopping = async {
            world.journal.saw_output("up").await;
            assert_eq!(alive.0.lock().unwrap().len(), 1);
            cancel.cancel();
        };
        let (outcome, ()) = tokio::join!(running, stopping);
        assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
        assert!(alive.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn ends_with_the_program_although_a_child_of_it_holds_the_output_open() {
        let world = world(&json!({}));
        let script = "echo first; sleep 600.21 & echo last";
        let running = go(&world, script, CancellationToken::new());
        let outcome = timeout(Duration::from_secs(20), running).await.unwrap();
        match outcome {
            Outcome::Completed { result, .. } => assert_eq!(result, "first\nlast"),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.journal.output(), "first\nlast\n");
    }

    #[tokio::test]
    async fn a_child_that_keeps_writing_does_not_keep_the_run_alive() {
        let world = world(&json!({}));
        let running = go(&world, "yes & echo last", CancellationToken::new());
        let outcome = timeout(Duration::from_secs(20), running).await.unwrap();
        assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    }

    #[test]
    fn characters_split_between_reads_stay_whole() {
        let mut pending = "aä".as_bytes()[..2].to_vec();
        assert_eq!(take_whole_chars(&mut pending, false), "a");
        pending.push("ä".as_bytes()[1]);
        assert_eq!(take_whole_chars(&mut pending, false), "ä");
        let mut broken = vec![b'a', 0xff, b'b', 0xc3];
        assert_eq!(take_whole_chars(&mut broken, false), "a\u{fffd}b\u{fffd}");
        let mut cut = vec![0xc3];
        assert_eq!(
            (take_whole_chars(&mut cut, false).as_str(), take_whole_chars(&mut cut, true).as_str()),
            ("", "\u{fffd}")
        );
    }
}
