//! `legwork-worker`: claims jobs from the queue and runs their agents.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser as _;
use legwork_common::error::Coded;
use legwork_common::error::chain;
use legwork_worker::guard;
use legwork_worker::options::WorkerOptions;
use legwork_worker::program;

fn main() -> ExitCode {
    if let Some(code) = guard::entry(std::env::args_os()) {
        return code;
    }
    // TLS needs its one provider before anything connects.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let options = WorkerOptions::parse();
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match start(options, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::from(error.exit().code())
        }
    }
}

/// Sets up logs and the runtime, and serves.
fn start(options: WorkerOptions, environment: BTreeMap<String, String>) -> Result<(), Box<dyn Coded>> {
    let level = options.common.log.clone().unwrap_or_else(|| "info".to_owned());
    legwork_process::telemetry::init(&level, options.common.log_format).map_err(program::boxed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| program::boxed(program::StartError::from(error)))?;
    let served = runtime.block_on(program::serve(options, environment));
    runtime.shutdown_background();
    served
}

/// One line, and a hint where it helps.
#[expect(clippy::print_stderr, reason = "the edge of the program, where errors are printed once")]
fn report(error: &dyn Coded) {
    eprintln!("error: {}", chain(error));
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
}
