//! Every help at two widths, every example, and mistakes.

use std::fmt::Write as _;

use legwork_common::variables;

use super::*;
use crate::failure::Failure;

/// The arguments of a line, split as a shell does, without comments, pipes and redirections.
fn words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            '#' | '<' if !quoted && word.is_none() => break,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words.into_iter().map(Into::into).collect()
}

/// The part of an example that this program is started with.
fn ours(example: &str) -> &str {
    let after = example.rsplit_once(" | ").map_or(example, |(_, after)| after);
    after.rsplit_once(" -- ").map_or(after, |(_, after)| after)
}

fn paths(command: &Command, parent: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for below in command.get_subcommands() {
        let path = format!("{parent}{}", below.get_name());
        let deeper = paths_below(below, &path);
        paths.push(path);
        paths.extend(deeper);
    }
    paths
}

fn paths_below(command: &Command, path: &str) -> Vec<String> {
    paths(command, &format!("{path} "))
}

#[test]
fn every_command_has_two_examples_that_parse() {
    let nothing = BTreeMap::new();
    for path in paths(&Cli::command(), "") {
        let found = EXAMPLES.iter().find(|(of, _)| *of == path);
        let examples = found.map_or(&[][..], |(_, examples)| *examples);
        assert!(examples.len() >= 2, "`legwork {path}` needs two examples in examples.rs");
        for example in examples {
            let parsed = read(words(ours(example)), &nothing);
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            assert!(
                Named::of(&words(ours(example))).words.starts_with(&format!("legwork {path}")),
                "{example}"
            );
        }
    }
    for (path, _) in EXAMPLES {
        assert!(paths(&Cli::command(), "").iter().any(|known| known == path), "no command {path}");
    }
}

/// The help of every command at this width.
fn all_help(width: usize, flag: &str) -> String {
    let mut text = String::new();
    for path in std::iter::once(String::new()).chain(paths(&Cli::command(), "")) {
        let line = format!("legwork {path} {flag}");
        let arguments = words(&line);
        let command = command(&arguments, &BTreeMap::new()).term_width(width);
        let help = command.try_get_matches_from(arguments).unwrap_err().to_string();
        writeln!(text, "$ {}\n{help}", line.replace("  ", " ")).unwrap();
    }
    text
}

#[test]
fn help_fits_its_width_and_explains_a_batch() {
    for (width, flag) in [(80, "--help"), (120, "--help"), (80, "-h")] {
        for line in all_help(width, flag).lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
    let help = read(words("legwork dispatch --help"), &BTreeMap::new()).unwrap_err().to_string();
    assert!(help.contains("Each line of a --batch file") && help.contains("Examples:\n"), "{help}");
}

#[test]
fn the_help_of_every_command() {
    insta::assert_snapshot!("help_80", all_help(80, "--help"));
    insta::assert_snapshot!("help_120", all_help(120, "--help"));
    insta::assert_snapshot!("help_short_80", all_help(80, "-h"));
}

#[test]
fn own_options_come_before_the_common_ones_and_examples_last() {
    for path in paths(&Cli::command(), "") {
        let arguments = words(&format!("legwork {path} -h"));
        let command = command(&arguments, &BTreeMap::new());
        let help = command.try_get_matches_from(arguments).unwrap_err().to_string();
        let (before, common) = help.split_once("Common options:").unwrap();
        assert!(!before.contains("--redis") && common.contains("--redis"), "{help}");
        assert!(common.contains("Examples:\n"), "{help}");
        assert!(help.lines().count() < 70, "{help}");
    }
}

fn mistake(line: &str) -> String {
    let arguments = words(line);
    let error = read(arguments.clone(), &BTreeMap::new()).unwrap_err();
    Failure::from_clap(&error, &Named::of(&arguments)).text(false)
}

#[test]
fn mistakes_show_the_usage_line_and_what_was_meant() {
    let mut text = String::new();
    for line in [
        "legwork dispatch team.yaml quick",
        "legwork list --statu running",
        "legwork list --status runing",
        "legwork list --status sleeping",
        "legwork dispatch --priority hihg team.yaml a b",
        "legwork dispatch --timeout 0 team.yaml a b",
        "legwork dispatch --timeout soon team.yaml a b",
        "legwork lst",
        "legwork local rest",
        "legwork view",
        "legwork view a b",
        "legwork mcp team.yaml --token-file token",
        "legwork stop",
        "legwork retry",
        "legwork delete",
        "legwork check",
        "legwork wait --json",
    ] {
        writeln!(text, "$ {line}\n{}", mistake(line)).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    // The variable is not set in this process; in the map it is empty.
    let empty = BTreeMap::from([(variables::REDIS_URL.to_owned(), " ".to_owned())]);
    let arguments = words("legwork list");
    let prepared = command(&arguments, &empty);
    let redis = prepared.get_arguments().find(|argument| argument.get_id() == "redis").unwrap();
    assert_eq!(redis.get_env(), None);
    let set = command(&arguments, &BTreeMap::new());
    let redis = set.get_arguments().find(|argument| argument.get_id() == "redis").unwrap();
    assert_eq!(redis.get_env(), Some(variables::REDIS_URL.as_ref()));
}

#[test]
fn help_of_a_command_is_found_both_ways() {
    let help = |line: &str| read(words(line), &BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(help("legwork help local stop"), help("legwork local stop --help"));
    assert!(help("legwork help").contains("Commands:"));
}
