//! `legwork man [COMMAND]`: the manual page of the program, or of a command.

use legwork_common::error::ExitStatus;

use crate::cli::ManArgs;
use crate::cli::documented;
use crate::context::Context;
use crate::failure::Failure;

/// Prints a page in the format of `man`.
pub(super) fn man(context: &Context, args: &ManArgs) -> Result<ExitStatus, Failure> {
    context.output.text(&page(&args.command)?)?;
    Ok(ExitStatus::Success)
}

/// The page of the command that these words name.
fn page(words: &[String]) -> Result<String, Failure> {
    let mut command = documented();
    command.build();
    for word in words {
        let below = command.find_subcommand(word).cloned();
        command = below.ok_or_else(|| {
            Failure::not_found(format!("no command `{}`", words.join(" "))).with_hint("see `legwork --help`")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("legwork ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|error| Failure::usage(format!("cannot write the page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_that_of_the_command_that_is_named() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        insta::assert_snapshot!("man_local_reset", page(&words("local reset")).unwrap());
        assert!(page(&[]).unwrap().contains("legwork\\-dispatch(1)"));
        let unknown = page(&words("local rest")).unwrap_err();
        assert_eq!((unknown.message.as_str(), unknown.exit.code()), ("no command `local rest`", 3));
    }
}
