//! Reads the command line: help with examples, `legwork help COMMAND`, and mistakes that name their command.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Arg;
use clap::Command;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use legwork_worker::options::command_line::prepared;

use super::Cli;
use super::examples::EXAMPLES;
use super::examples::FIRST;

/// What follows the help of a command with an option of its own that takes a time.
const TIMES: &str = "A TIME is a number and a unit: 500ms, 90s, 10m, 1h30m, 7d.";
/// What the long help of a command has that its short one only mentions.
const MORE: &str = "describes the lines of a batch.";
/// What follows the help of the program.
const SEE_HELP: &str = "`legwork help COMMAND` describes a command and shows examples of it.";

/// Reads the command line and the environment.
///
/// # Errors
///
/// What the parser returns instead of a command: help, the version, or a mistake.
pub fn read(arguments: Vec<OsString>, variables: &BTreeMap<String, String>) -> Result<Cli, clap::Error> {
    let arguments = with_help_last(arguments);
    let mut command = command(&arguments, variables);
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The command that a command line names, for what follows a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The words that call it: `legwork list`.
    pub words: String,
    /// Its usage line: `legwork list [OPTIONS]`. The parser's own line about a mistake would also name each option that
    /// has its value from the environment.
    pub usage: String,
}

impl Named {
    /// The command that these arguments name, or the program itself.
    pub fn of(arguments: &[OsString]) -> Self {
        let mut words = vec!["legwork"];
        let mut command = Cli::command();
        command.build();
        for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
            if let Some(below) = command.find_subcommand(argument).cloned() {
                words.push(argument);
                command = below;
            }
        }
        let usage = command.render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
        Self { words: words.join(" "), usage: usage.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

/// The parser of these arguments, with an example or more below the help of each command.
fn command(arguments: &[OsString], variables: &BTreeMap<String, String>) -> Command {
    let command = prepared(Cli::command(), arguments, variables).disable_help_subcommand(true);
    let command = command.after_help(format!("{}\n\n{SEE_HELP}", section(FIRST)));
    let shows_all = arguments.iter().any(|argument| argument == "--help");
    command.mut_subcommands(|below| with_examples(below, "", shows_all))
}

/// Adds the examples of a command and of those below it, which are spelled after `parent`.
fn with_examples(command: Command, parent: &str, shows_all: bool) -> Command {
    let path = format!("{parent}{}", command.get_name());
    let examples = EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, examples)| *examples);
    let below = format!("{path} ");
    let mut text = section(examples);
    let takes_time = |argument: &Arg| {
        !argument.is_global_set() && argument.get_value_names().is_some_and(|names| names == ["TIME"])
    };
    if command.get_arguments().any(takes_time) {
        text.push_str(&format!("\n\n{TIMES}"));
    }
    // What a command explains of its own, such as the lines of a batch: too long for the short help.
    if let Some(own) = command.get_after_help().map(ToString::to_string) {
        let own = if shows_all { own } else { format!("`legwork {path} --help` {MORE}") };
        text.push_str(&format!("\n\n{own}"));
    }
    command.after_help(text).mut_subcommands(|command| with_examples(command, &below, shows_all))
}

fn section(examples: &[&str]) -> String {
    let lines: String = examples.iter().map(|example| format!("\n  {example}")).collect();
    format!("Examples:{lines}")
}

/// `legwork help list` is `legwork list --help`.
fn with_help_last(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|first| first == "help") {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    arguments
}

#[cfg(test)]
mod tests;
