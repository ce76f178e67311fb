//! How the end of a process is described. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What a shell adds to the number of the signal that ended its command, to make an exit status of it.
const SHELL_SIGNAL_OFFSET: i32 = 128;

/// The signals that end processes in practice: their numbers, which are the same on Linux and macOS, what people call
/// such an end, and their names.
const SIGNALS: &[(i32, &str, &str)] = &[
    (1, "hung up", "SIGHUP"),
    (2, "interrupted", "SIGINT"),
    (3, "quit", "SIGQUIT"),
    (4, "illegal instruction", "SIGILL"),
    (5, "trace trap", "SIGTRAP"),
    (6, "aborted", "SIGABRT"),
    (8, "arithmetic error", "SIGFPE"),
    (9, "killed", "SIGKILL"),
    (11, "segmentation fault", "SIGSEGV"),
    (13, "broken pipe", "SIGPIPE"),
    (14, "alarm clock", "SIGALRM"),
    (15, "terminated", "SIGTERM"),
];

/// `exit status 1`, `killed (SIGKILL)`. An exit status with which a shell reports the signal that ended its command
/// names the signal too: `exit status 137 (ended by SIGKILL)`.
pub(crate) fn describe_exit(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "unknown exit status".to_owned() };
    match (status.code(), status.signal()) {
        (Some(code), _) => match named(code - SHELL_SIGNAL_OFFSET) {
            Some((_, name)) => format!("exit status {code} (ended by {name})"),
            None => format!("exit status {code}"),
        },
        (None, Some(signal)) => match named(signal) {
            Some((end, name)) => format!("{end} ({name})"),
            None => format!("ended by signal {signal}"),
        },
        (None, None) => "unknown exit status".to_owned(),
    }
}

/// What people call the end by this signal, and its name.
fn named(signal: i32) -> Option<(&'static str, &'static str)> {
    SIGNALS.iter().find(|(number, ..)| *number == signal).map(|(_, end, name)| (*end, *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        for (raw, expected) in [
            (0, "exit status 0"),
            (3 << 8, "exit status 3"),
            (127 << 8, "exit status 127"),
            (137 << 8, "exit status 137 (ended by SIGKILL)"),
            (139 << 8, "exit status 139 (ended by SIGSEGV)"),
            (255 << 8, "exit status 255"),
            (9, "killed (SIGKILL)"),
            (15, "terminated (SIGTERM)"),
            // With a core dump.
            (11 | 0x80, "segmentation fault (SIGSEGV)"),
            (34, "ended by signal 34"),
        ] {
            assert_eq!(describe_exit(Some(ExitStatus::from_raw(raw))), expected);
        }
        assert_eq!(describe_exit(None), "unknown exit status");
    }
}
