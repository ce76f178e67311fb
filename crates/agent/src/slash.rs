//! `commands`: prompts of an agent that the user calls by `/name arguments`.
//!
//! In such a prompt `$1` stands for the first argument, and `` !`command` `` for the output of a shell command,
//! which gets the arguments as its own `$1` and so on. Arguments are appended to a prompt that has no `$1`.

use std::time::Duration;

use legwork_common::team::Agent;
use tokio_util::sync::CancellationToken;

use crate::environment::Environment;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::describe_exit;
use crate::toolset::foreground;
use crate::toolset::foreground::CommandEnd;
use crate::toolset::limited;

/// How long a command in a prompt may take. It collects text for the prompt, and someone waits for the answer; five
/// minutes leave room for a build.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A piece of a prompt template.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    /// The number of an argument, counted from 1.
    Argument(usize),
    /// A shell command whose output takes its place.
    Command(&'t str),
}

/// The prompt that the agent is given for the user's `text`: an expanded command where it calls one, else the text
/// itself.
///
/// Shell commands run one after the other in the working directory, with the environment of the run. A failed one
/// leaves a line about the failure in its place. Cancelling ends them; so does dropping the future.
pub async fn expand(
    agent: &Agent,
    text: &str,
    environment: &Environment,
    cancel: &CancellationToken,
) -> String {
    let Some((template, arguments)) = called(agent, text) else { return text.to_owned() };
    let template = environment.expanded(template);
    let pieces = pieces(&template);
    let mut prompt = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(text) => prompt.push_str(text),
            Piece::Argument(number) => {
                prompt.push_str(arguments.get(number - 1).copied().unwrap_or_default());
            }
            Piece::Command(command) => {
                prompt.push_str(&output_of(command, &arguments, environment, cancel).await);
            }
        }
    }
    if !arguments.is_empty() && !template.contains("$1") {
        prompt.push_str("\n\n");
        prompt.push_str(&arguments.join(" "));
    }
    prompt
}

/// The template that the text calls, and the arguments; `None` where it calls none.
fn called<'a>(agent: &'a Agent, text: &'a str) -> Option<(&'a str, Vec<&'a str>)> {
    let mut words = text.trim().strip_prefix('/')?.split_whitespace();
    let command = agent.commands.get(words.next()?)?;
    Some((&command.instruction, words.collect()))
}

/// Splits a template into its pieces.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut rest, mut from) = (template, 0);
    while let Some(at) = rest[from..].find(['!', '$']).map(|at| from + at) {
        let (before, here) = rest.split_at(at);
        let (piece, after) = match special(here) {
            Some(found) => found,
            None => {
                from = at + 1;
                continue;
            }
        };
        pieces.push(Piece::Text(before));
        pieces.push(piece);
        (rest, from) = (after, 0);
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The argument or command that begins here, and the text after it; `None` where this is plain text.
fn special(here: &str) -> Option<(Piece<'_>, &str)> {
    if let Some(rest) = here.strip_prefix("!`") {
        let (command, after) = rest.split_once('`')?;
        return Some((Piece::Command(command), after));
    }
    let rest = here.strip_prefix('$')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = rest[..digits].parse().ok().filter(|number| *number > 0)?;
    Some((Piece::Argument(number), &rest[digits..]))
}

/// The output of a shell command without trailing whitespace, or a line about its failure.
async fn output_of(
    command: &str,
    arguments: &[&str],
    environment: &Environment,
    cancel: &CancellationToken,
) -> String {
    let nursery = Nursery::new(environment.guard.clone());
    let mut shell = foreground::command(&nursery, command, &environment.working_dir, &environment.variables);
    shell.arg("command").args(arguments);
    let failed = |why: &str, output: &str| format!("[`{command}` failed: {why}]\n{output}");
    let mut process = match Process::start(shell, &nursery) {
        Ok(process) => process,
        Err(error) => return failed(&error.to_string(), ""),
    };
    match foreground::finish(&mut process, COMMAND_TIMEOUT, cancel).await {
        CommandEnd::Ended(end) => {
            let output = limited(process.capture().text().trim_end().to_owned());
            if end.status.is_some_and(|status| status.success()) {
                return output;
            }
            failed(&describe_exit(end.status), &output)
        }
        CommandEnd::TimedOut => failed("it timed out", &limited(process.capture().text())),
        CommandEnd::Cancelled => failed("cancelled", ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn expands_prompts_that_are_called_by_name() {
        let prompt = |text: &str| json!({"description": "", "instruction": text});
        let commands = json!({
            "plain": prompt("Do it."),
            "fix": prompt("Fix $1 in $2, for $5!"),
            "look": prompt("Here: !`printf '%s|' \"$1\"; pwd` and !`exit 3`, $1."),
            "odd": prompt("a $ b ! c !`open $0"),
        });
        let team = testing::team(&[("a", &[], json!({"commands": commands}))]);
        let (agent, environment) = (team.agent("a").unwrap(), testing::environment("/usr"));
        let table = [
            ("hello /plain", "hello /plain"),
            ("/nothing here", "/nothing here"),
            ("/plain", "Do it."),
            ("/plain and  more", "Do it.\n\nand more"),
            ("/fix a b c", "Fix a in b, for !"),
            ("/look $(ls);", "Here: $(ls);|/usr and [`exit 3` failed: exit status 3]\n, $(ls);."),
            ("/odd", "a $ b ! c !`open $0"),
        ];
        for (text, expected) in table {
            let prompt = expand(agent, text, &environment, &CancellationToken::new()).await;
            assert_eq!(prompt, expected, "{text}");
        }
    }
}
