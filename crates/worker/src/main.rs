//! `legwork-worker`: claims jobs from the queue and runs their agents.

use std::collections::BTreeMap;
use std::process::ExitCode;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use legwork_common::secrets::Secrets;
use legwork_process::environ;
use legwork_process::spans::SpanSettings;
use legwork_worker::guard;
use legwork_worker::options::WorkerOptions;
use legwork_worker::program;
use legwork_worker::startup::StartError;
use legwork_worker::startup::boxed;
use legwork_worker::webhooks::with_secret_of_file;

fn main() -> ExitCode {
    // First: a guard, or the start of a guarded command, is this program under another argument.
    if let Some(code) = guard::entry(std::env::args_os()) {
        return code;
    }
    // TLS needs its one provider before anything connects. Only a second call in one process fails.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let environment = with_secret_of_file(environ::read());
    let secrets = Secrets::of(&environment);
    let options = match WorkerOptions::read(std::env::args_os().collect(), &environment) {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    match start(options, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref(), &secrets);
            ExitCode::from(error.exit().code())
        }
    }
}

/// Prints what the parser returned instead of options: help and version as they are, a mistake in the form of other
/// errors.
#[expect(clippy::print_stderr, reason = "the edge of the program, where errors are printed once")]
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        eprint!("{}", WorkerOptions::mistake(error));
        return ExitCode::from(ExitStatus::Usage.code());
    }
    // A closed pipe is not an error.
    let _unread = error.print();
    ExitCode::SUCCESS
}

/// Sets up logs and the runtime, and serves until the worker ends.
fn start(options: WorkerOptions, environment: BTreeMap<String, String>) -> Result<(), Box<dyn Coded>> {
    let level = options.common.log.clone().unwrap_or_else(|| "info".to_owned());
    let secrets = Secrets::of(&environment);
    let spans = SpanSettings::find(&environment, "legwork-worker");
    let spans =
        legwork_process::telemetry::init(&level, options.common.log_format, secrets, spans).map_err(boxed)?;
    // Before the first thread, and before the first command of a job.
    environ::conceal().map_err(|error| boxed(StartError::Environment(error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| boxed(StartError::from(error)))?;
    let served = runtime.block_on(program::serve(options, environment, spans));
    // Tasks that did not end within their grace period are not waited for again.
    runtime.shutdown_background();
    served
}

/// Prints one line for the error, and one with a hint if it has any.
#[expect(clippy::print_stderr, reason = "the edge of the program, where errors are printed once")]
fn report(error: &dyn Coded, secrets: &Secrets) {
    eprintln!("error: {}", secrets.redacted(&chain(error)));
    if let Some(hint) = error.hint() {
        eprintln!("hint: {}", secrets.redacted(&hint));
    }
}
