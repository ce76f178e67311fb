//! The rule for questions: a command asks before it changes what its command line does not name.
//!
//! `--yes` is the answer, `--dry-run` shows what would be done, and without a terminal on standard input the answer is
//! no.

use std::io::BufRead as _;
use std::io::IsTerminal as _;

use clap::Args;

use crate::failure::Failure;
use crate::output::Output;

/// The options of every command that asks.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ConfirmArgs {
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    /// Show what would be done, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

/// What a command does about its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Proceed,
    Ask,
    Refuse,
}

fn decide(args: ConfirmArgs, has_terminal: bool) -> Decision {
    match (args.yes, has_terminal) {
        (true, _) => Decision::Proceed,
        (false, true) => Decision::Ask,
        (false, false) => Decision::Refuse,
    }
}

/// Asks on the terminal, such as "stop all 3 live jobs?". `nothing` is what the answer no means, such as "nothing was
/// stopped".
///
/// # Errors
///
/// [`Failure`] unless the answer is yes.
pub fn confirm(output: &Output, args: ConfirmArgs, question: &str, nothing: &str) -> Result<(), Failure> {
    match decide(args, std::io::stdin().is_terminal()) {
        Decision::Proceed => Ok(()),
        Decision::Refuse => Err(Failure::usage(format!("{nothing}: there is no terminal to ask on"))
            .with_hint("add --yes to do it without a question, or --dry-run to see what it would do")),
        Decision::Ask => {
            output.note(&format!("{question} [y/N]"));
            let mut answer = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut answer)
                .map_err(|error| Failure::usage(format!("{nothing}: cannot read the answer: {error}")))?;
            let is_yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
            if is_yes { Ok(()) } else { Err(Failure::usage(nothing)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_means_no() {
        let yes = ConfirmArgs { yes: true, dry_run: false };
        for (args, has_terminal, decision) in [
            (yes, true, Decision::Proceed),
            (yes, false, Decision::Proceed),
            (ConfirmArgs::default(), true, Decision::Ask),
            (ConfirmArgs::default(), false, Decision::Refuse),
        ] {
            assert_eq!(decide(args, has_terminal), decision, "{args:?} {has_terminal}");
        }
    }
}
