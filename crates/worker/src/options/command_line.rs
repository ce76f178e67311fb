//! How both programs read their command line: help that fits a screen, and empty variables that count as unset.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;

use clap::Arg;
use clap::ArgAction;
use clap::Command;
use clap::builder::Resettable;

/// The heading of the options that all commands have.
pub const COMMON_OPTIONS: &str = "Common options";

/// Prepares a command line, with all its subcommands, before `arguments` are parsed by it.
///
/// - An environment variable that is set to nothing is read as if it were not set.
/// - `-h` prints the usual options and `--help` all of them, both with one line for each option where it fits.
/// - Help names the variables, and never shows their values.
pub fn prepared(command: Command, arguments: &[OsString], variables: &BTreeMap<String, String>) -> Command {
    let shows_all = arguments.iter().any(|argument| argument == "--help");
    let is_empty = |name: &OsStr| {
        name.to_str().and_then(|name| variables.get(name)).is_some_and(|value| value.trim().is_empty())
    };
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .global(true)
        .help("Print help; -h leaves out the rarer common options")
        .help_heading(COMMON_OPTIONS);
    let command = with_arguments(command, &|argument| {
        let unset = argument.get_env().is_some_and(is_empty);
        let argument = if unset { argument.env(Resettable::<clap::builder::OsStr>::Reset) } else { argument };
        let argument = argument.hide_env_values(true);
        if shows_all { argument.hide_short_help(false) } else { argument }
    });
    command.disable_help_flag(true).arg(help)
}

/// Changes every argument of a command and of its subcommands.
fn with_arguments(command: Command, change: &impl Fn(Arg) -> Arg) -> Command {
    command.mut_args(change).mut_subcommands(|below| with_arguments(below, change))
}

/// A mistake on the command line, as both programs print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, in one line.
    pub message: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

impl Mistake {
    /// The parser's error without its usage line, which would also name each option that has its value from the
    /// environment.
    pub fn of(error: &clap::Error) -> Self {
        let text = error.to_string();
        let (mut message, mut tips) = (Vec::new(), Vec::new());
        for paragraph in text.split("\n\n") {
            let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            if line.starts_with("tip: ") {
                let each = paragraph.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
                tips.extend(each.map(str::to_owned));
            } else if !line.starts_with("Usage: ") && !line.starts_with("For more information") {
                message.push(line);
            }
        }
        let message = message.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
        Self { message, meant: Some(tips.join("; ")).filter(|meant| !meant.is_empty()) }
    }
}

/// The usage line of a command: `legwork list [OPTIONS]`.
pub fn usage_line(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    usage.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::options::WorkerOptions;

    fn help(flag: &str) -> String {
        let arguments: Vec<OsString> = ["legwork-worker", flag].map(Into::into).into();
        let command = prepared(WorkerOptions::command(), &arguments, &BTreeMap::new());
        command.term_width(80).try_get_matches_from(arguments).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_one_line_and_what_was_meant() {
        let mistake = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let command = prepared(WorkerOptions::command(), &arguments, &BTreeMap::new());
            WorkerOptions::mistake(&command.try_get_matches_from(arguments).unwrap_err())
        };
        assert_eq!(
            mistake("legwork-worker --queue code"),
            "error: unexpected argument '--queue' found\nusage: legwork-worker [OPTIONS]\n\
             hint: a similar argument exists: '--queues'\n"
        );
        assert_eq!(
            mistake("legwork-worker --concurrency many"),
            "error: invalid value 'many' for '--concurrency <N>': invalid digit found in string\n\
             usage: legwork-worker [OPTIONS]\nhint: see `legwork-worker --help`\n"
        );
    }

    #[test]
    fn help_fits_a_screen_and_is_complete_on_request() {
        insta::assert_snapshot!("help_short", help("-h"));
        insta::assert_snapshot!("help", help("--help"));
    }
}
