//! `legwork`: runs agents that dispatch background agents, and operates the fleet.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser as _;
use legwork::cli::Cli;
use legwork::command;
use legwork::context::Context;
use legwork::failure::Failure;
use legwork::output::Output;
use legwork_common::error::ExitStatus;
use legwork_common::variables;
use legwork_worker::guard;

fn main() -> ExitCode {
    if let Some(code) = guard::entry(std::env::args_os()) {
        return code;
    }
    // TLS needs its one provider before anything connects.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let variables = environment();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &variables),
    };
    let output = Output::new(cli.json, variables.contains_key(variables::NO_COLOR));
    match run(cli, variables, output) {
        Ok(status) => ExitCode::from(status.code()),
        Err(failure) => {
            output.note(failure.text(output.json).trim_end());
            ExitCode::from(failure.exit.code())
        }
    }
}

/// What the command line's parser says: help and version as they are, an error as any other of ours.
fn usage(error: &clap::Error, variables: &BTreeMap<String, String>) -> ExitCode {
    if !error.use_stderr() {
        // A reader that went away is no error.
        let _unread = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _unread = error.print();
        return ExitCode::from(ExitStatus::Usage.code());
    }
    let json = std::env::args_os().any(|argument| argument == "--json");
    let failure = Failure::from_clap(error);
    Output::new(json, variables.contains_key(variables::NO_COLOR)).note(failure.text(json).trim_end());
    ExitCode::from(failure.exit.code())
}

/// Sets up logs and the runtime, and does what the command says.
fn run(cli: Cli, variables: BTreeMap<String, String>, output: Output) -> Result<ExitStatus, Failure> {
    let level = cli.common.log.clone().unwrap_or_else(|| "error".to_owned());
    legwork_process::telemetry::init(&level, cli.common.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start: {error}")))?;
    let context = Context { common: cli.common, variables, output };
    let result = runtime.block_on(command::execute(context, cli.command));
    // Whatever still reads standard input must not keep the program.
    runtime.shutdown_background();
    result
}

/// The environment, read once. Values that are no text are left out.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
