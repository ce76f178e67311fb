//! Commands that messages suggest, spelled so that they work in the reader's shell and find the same jobs.

use std::borrow::Cow;

use legwork_common::variables;

use crate::context::Context;

/// What follows a command whose address holds a password: it is not repeated on a screen that others may read.
const WITH_ADDRESS: &str = ", with LEGWORK_REDIS_URL set to the same address";

/// A command, such as `legwork wait 4f1c`, with the address and the namespace that it needs: not those that a program
/// started in the same shell has from the environment, and no password.
pub fn command(context: &Context, program: &str, words: &str) -> String {
    let (options, note) = place(context);
    format!("{program} {words}{options}{note}")
}

/// As [`command`], in backticks, which a note about the address follows.
pub fn quoted_command(context: &Context, program: &str, words: &str) -> String {
    let (options, note) = place(context);
    format!("`{program} {words}{options}`{note}")
}

/// The command line of this program as it was called, without an address that holds a password.
pub fn same_command(context: &Context) -> String {
    let (mut words, mut note) = (vec![Cow::Borrowed("legwork")], "");
    let mut left = context.arguments.iter();
    while let Some(word) = left.next() {
        let (option, address) = match word.split_once('=') {
            Some(("--redis", address)) => (true, Some(address)),
            _ if word == "--redis" => (true, left.as_slice().first().map(String::as_str)),
            _ => (false, None),
        };
        if option && address.is_some_and(holds_password) {
            note = WITH_ADDRESS;
            if word == "--redis" {
                left.next();
            }
            continue;
        }
        words.push(quoted(word));
    }
    format!("{}{note}", words.join(" "))
}

/// The options that name the queue, each after a space, and what to add where they cannot be shown.
fn place(context: &Context) -> (String, &'static str) {
    let given = |name: &str, value: &str| context.variables.get(name).is_some_and(|set| set == value);
    let (mut options, mut note) = (String::new(), "");
    match &context.common.redis {
        Some(url) if given(variables::REDIS_URL, url) => {}
        Some(url) if holds_password(url) => note = WITH_ADDRESS,
        Some(url) => options.push_str(&format!(" --redis {}", quoted(url))),
        None => {}
    }
    let namespace = &context.common.namespace;
    if namespace != "default" && !given(variables::NAMESPACE, namespace) {
        options.push_str(&format!(" --namespace {}", quoted(namespace)));
    }
    (options, note)
}

fn holds_password(address: &str) -> bool {
    address.contains('@')
}

/// A word of a shell's command line: in single quotes unless it has only characters that no shell changes.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::*;
    use crate::cli;
    use crate::output::Output;

    fn context(line: &[&str], variables: &[(&str, &str)]) -> Context {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let arguments = std::iter::once(&"legwork").chain(line).map(OsString::from).collect();
        let cli = cli::read(arguments, &variables).unwrap();
        Context {
            common: cli.common,
            variables,
            output: Output::new(false, true),
            redis_timeout: cli.redis_timeout,
            arguments: line.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    #[test]
    fn a_command_has_the_place_that_the_shell_does_not_know() {
        let url = "redis://127.0.0.1:7000";
        for (line, expected) in [
            (&["list"][..], "legwork wait 4f1c"),
            (&["list", "--redis", url], "legwork wait 4f1c --redis redis://127.0.0.1:7000"),
            (&["list", "--redis", "redis://h?a=1&b=2"], "legwork wait 4f1c --redis 'redis://h?a=1&b=2'"),
            (&["list", "--namespace", "n"], "legwork wait 4f1c --namespace n"),
            (
                &["list", "--redis", "redis://:secret@h"],
                "legwork wait 4f1c, with LEGWORK_REDIS_URL set to the same address",
            ),
        ] {
            assert_eq!(command(&context(line, &[]), "legwork", "wait 4f1c"), expected);
        }
        let known = [(variables::REDIS_URL, url), (variables::NAMESPACE, "n")];
        assert_eq!(command(&context(&["list"], &known), "legwork", "list"), "legwork list");
        assert_eq!(
            quoted_command(
                &context(&["list", "--redis", "redis://:secret@h"], &[]),
                "legwork-worker",
                "--queues a"
            ),
            "`legwork-worker --queues a`, with LEGWORK_REDIS_URL set to the same address"
        );
    }

    #[test]
    fn the_same_command_is_quoted_and_has_no_password() {
        for (line, expected) in [
            (&["wait", "4f1c", "--any"][..], "legwork wait 4f1c --any"),
            (&["list", "--watch", "--agent", "it's"], "legwork list --watch --agent 'it'\\''s'"),
            (&["list", "--redis", "redis://h"], "legwork list --redis redis://h"),
            (
                &["list", "--redis", "redis://:secret@h", "--watch"],
                "legwork list --watch, with LEGWORK_REDIS_URL set to the same address",
            ),
            (
                &["--redis=redis://:s@h", "list"],
                "legwork list, with LEGWORK_REDIS_URL set to the same address",
            ),
        ] {
            assert_eq!(same_command(&context(line, &[])), expected);
        }
    }
}
