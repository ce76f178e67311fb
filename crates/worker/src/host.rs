//! This machine: its name, and where its programs are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use legwork_common::variables;

/// The name of the program that serves jobs.
const WORKER_PROGRAM: &str = "legwork-worker";

/// The machine's name: that of the environment, else that of the kernel, else a plain word. It is shown to users and
/// is part of worker ids; nothing connects to it.
pub fn host_name(variables: &BTreeMap<String, String>) -> String {
    let kernel = || rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
    variables
        .get(variables::HOSTNAME)
        .cloned()
        .or_else(kernel)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".to_owned())
}

/// The worker program: next to `program`, the running one, so that both are of one release; else on the search path.
pub fn worker_program(program: Option<PathBuf>) -> PathBuf {
    let sibling = program.and_then(|program| Some(program.parent()?.join(WORKER_PROGRAM)));
    sibling.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(WORKER_PROGRAM))
}
