//! `legwork`: runs agents that dispatch background agents, and operates the fleet.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use legwork::cli;
use legwork::cli::Cli;
use legwork::command;
use legwork::context::Context;
use legwork::failure::Failure;
use legwork::output::Output;
use legwork_common::error::ExitStatus;
use legwork_common::secrets::Secrets;
use legwork_common::variables;
use legwork_process::environ;
use legwork_process::spans::SpanSettings;
use legwork_process::tasks::Tasks;
use legwork_worker::guard;
use legwork_worker::webhooks::with_secret_of_file;

/// How long the last spans may take to be sent: the request itself may take 2 s.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    // This executable also runs as the guard process, and as the first stage of each guarded command.
    if let Some(code) = guard::entry(std::env::args_os()) {
        return code;
    }
    // rustls needs one crypto provider for the process before the first TLS connection.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let variables = with_secret_of_file(environ::read());
    let cli = match cli::read(std::env::args_os().collect(), &variables) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &variables),
    };
    let output = Output::new(cli.json, variables.contains_key(variables::NO_COLOR));
    let secrets = Secrets::of(&variables);
    match run(cli, variables, output) {
        Ok(status) => ExitCode::from(status.code()),
        Err(failure) => {
            output.note(secrets.redacted(failure.text(output.json).trim_end()).as_ref());
            ExitCode::from(failure.exit.code())
        }
    }
}

/// Prints what the command-line parser returned instead of a command: help and version as they are, an error in the
/// same form as any other failure.
fn usage(error: &clap::Error, variables: &BTreeMap<String, String>) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe is not an error.
        let _unread = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _unread = error.print();
        return ExitCode::from(ExitStatus::Usage.code());
    }
    let json = std::env::args_os().any(|argument| argument == "--json");
    let arguments: Vec<_> = std::env::args_os().collect();
    let failure = Failure::from_clap(error, &cli::Named::of(&arguments));
    Output::new(json, variables.contains_key(variables::NO_COLOR)).note(failure.text(json).trim_end());
    ExitCode::from(failure.exit.code())
}

/// Sets up logging and the runtime, and runs the command.
fn run(cli: Cli, variables: BTreeMap<String, String>, output: Output) -> Result<ExitStatus, Failure> {
    let level = cli.common.log.clone().unwrap_or_else(|| "error".to_owned());
    let (secrets, spans) = (Secrets::of(&variables), SpanSettings::find(&variables, "legwork"));
    let spans = legwork_process::telemetry::init(&level, cli.common.log_format, secrets, spans)?;
    environ::conceal().map_err(|error| {
        Failure::usage(format!("the environment of this process cannot be concealed: {error}"))
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start: {error}")))?;
    let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let (common, redis_timeout) = (cli.common, cli.redis_timeout);
    let context = Context { common, variables, output, redis_timeout, arguments };
    let result = runtime.block_on(async {
        let tasks = Tasks::new();
        if let Some(spans) = spans {
            spans.start(&tasks);
        }
        let result = command::execute(context, cli.command).await;
        tasks.end(LAST_SPANS_TIMEOUT).await;
        result
    });
    // Not waited for: a blocked read of standard input would keep the program running.
    runtime.shutdown_background();
    result
}
