//! `legwork completions SHELL`: commands and options for a shell to complete.

use legwork_common::error::ExitStatus;

use crate::cli::CompletionsArgs;
use crate::cli::documented;
use crate::context::Context;
use crate::failure::Failure;

/// Prints the shell's script.
pub(super) fn completions(context: &Context, args: &CompletionsArgs) -> Result<ExitStatus, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut documented(), "legwork", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Success)
}
