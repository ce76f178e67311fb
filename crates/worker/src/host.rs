//! This machine: its name, where its programs are, and which processes of it live.

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

/// Whether a process of this machine lives. A zombie has died.
pub fn is_running(process: u32) -> bool {
    let Some(id) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // A process of another user lives too: it only may not be signalled.
    let exists = !matches!(rustix::process::test_kill_process(id), Err(rustix::io::Errno::SRCH));
    exists && !is_zombie(process)
}

/// Whether a process has died and was not collected by its parent. A system without `/proc` cannot tell.
fn is_zombie(process: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // The program's name before the last parenthesis may have any characters.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// The worker program: next to `program`, the running one, so that both are of one release; else on the search path.
pub fn worker_program(program: Option<PathBuf>) -> PathBuf {
    let sibling = program.and_then(|program| Some(program.parent()?.join(WORKER_PROGRAM)));
    sibling.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(WORKER_PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_exits_even_before_it_is_collected() {
        assert!(is_running(std::process::id()));
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(is_running(child.id()));
        let input = child.stdin.take();
        drop(input);
        while is_running(child.id()) {
            std::hint::spin_loop();
        }
        child.wait().unwrap();
        assert!(!is_running(child.id()));
        assert!(!is_running(0));
    }
}
