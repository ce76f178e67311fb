//! Reads the command line: help with examples, `legwork help COMMAND`, and mistakes that name their command.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Arg;
use clap::Command;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::parser::ValueSource;
use legwork_worker::options::command_line::prepared;
use legwork_worker::options::command_line::usage_line;

use super::Cli;
use super::examples::EXAMPLES;
use super::examples::FIRST;

/// What follows the help of a command with an option of its own that takes a time.
const TIMES: &str = "\n\nA TIME is a number and a unit, seconds without one: 500ms, 90s, 10m, 1h30m, 7d.";
/// What may be given instead of the arguments that a command needs.
const INSTEAD: [(&str, &str); 5] = [
    ("legwork stop", "name jobs, or give --session ID, --agent NAME or --all"),
    ("legwork retry", "name jobs, or give --failed"),
    ("legwork delete", "name jobs, or give --ended-before TIME"),
    ("legwork check", "name files, or give --explain KEY"),
    ("legwork dispatch", "give an agent and a task, or --batch FILE"),
];
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
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let super::Command::Configure(args) = &mut cli.command {
        // A variable that holds for new namespaces must not change one that exists.
        let is_given = matches.value_source("lease") == Some(ValueSource::CommandLine);
        args.lease = cli.common.lease.filter(|_| is_given);
    }
    Ok(cli)
}

/// The whole command line with its help, for what is generated from it: completions and manual pages.
pub fn documented() -> Command {
    command(&["legwork".into(), "--help".into()], &BTreeMap::new())
}

/// The command that a command line names, for what follows a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The words that call it: `legwork list`.
    pub words: String,
    /// Its usage line: `legwork list [OPTIONS]`. The parser's own line about a mistake would also name each option that
    /// has its value from the environment.
    pub usage: String,
    /// What may be given instead of its required arguments.
    pub instead: Option<&'static str>,
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
        let words = words.join(" ");
        let instead = INSTEAD.iter().find(|(of, _)| *of == words).map(|(_, instead)| *instead);
        Self { words, usage: usage_line(&mut command), instead }
    }
}

/// The parser of these arguments, with an example or more below the help of each command.
fn command(arguments: &[OsString], variables: &BTreeMap<String, String>) -> Command {
    let command = prepared(Cli::command(), arguments, variables).disable_help_subcommand(true);
    let command = command.after_help(format!("{}\n\n{SEE_HELP}", section(FIRST)));
    let is_long = arguments.iter().any(|argument| argument == "--help");
    command.mut_subcommands(|below| with_examples(below, "", is_long))
}

/// Adds the examples of a command and of those below it, which are spelled after `parent`. What a command has below its
/// help itself, such as the form of a batch, stays above them where the help is long.
fn with_examples(command: Command, parent: &str, is_long: bool) -> Command {
    let path = format!("{parent}{}", command.get_name());
    let examples = EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, examples)| *examples);
    let below = format!("{path} ");
    let own = command.get_after_help().filter(|_| is_long);
    let own = own.map(|own| format!("{own}\n\n")).unwrap_or_default();
    let takes_time = |argument: &Arg| {
        !argument.is_global_set() && argument.get_value_names().is_some_and(|names| names == ["TIME"])
    };
    let times = if command.get_arguments().any(takes_time) { TIMES } else { "" };
    command
        .after_help(format!("{own}{}{times}", section(examples)))
        .mut_subcommands(|command| with_examples(command, &below, is_long))
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
