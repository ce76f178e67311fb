//! The environment of this process: read once, and then taken out of it.
//!
//! The system keeps the environment that a program was started with, and shows it to every process of the same user as
//! `/proc/PID/environ`: the commands of jobs could read the keys of their worker there. So [`conceal`] overwrites it, but
//! for the variables that libraries read later, and asks the system not to show the memory and the descriptors of this
//! process to others.
//!
//! Not concealed: a secret that is on the command line, a password in `HTTP_PROXY`, and what root reads in memory. Where
//! there is no `/proc`, as on macOS, nothing is overwritten.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use legwork_common::secrets::passes_to_commands;

/// Beginnings of the names of variables that libraries, the runtime and the search for programs read after the start.
const READ_LATER: [&str; 15] = [
    "RUST_",
    "SSL_CERT_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "CLICOLOR",
    "COLUMNS",
    "LINES",
    "LLVM_PROFILE_FILE",
    "XDG_",
];

/// Where `/proc/self/stat` has the first and the last address of the environment, counted from the field after the
/// program's name (proc_pid_stat(5), fields 50 and 51).
const ENVIRONMENT_FIELDS: [usize; 2] = [47, 48];

/// The environment, read once. Variables that are not Unicode are left out.
pub fn read() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Takes everything out of this process' environment that may be a secret, and closes its memory and descriptors to other
/// processes of the user. Call it before the first thread is started, when all that is needed was [`read`]. Programs
/// that it starts inherit what is left: give them what they need.
///
/// # Errors
///
/// The system's, where there is a `/proc` and it refuses. The environment is then as it was.
pub fn conceal() -> io::Result<()> {
    let overwritten = match File::open("/proc/self/stat") {
        Ok(stat) => overwrite(stat),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    // Only now: a process that is not dumpable cannot open its own memory either.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    overwritten
}

/// Overwrites each variable that no one reads later with zeros, which count as no variable at all.
fn overwrite(mut stat: File) -> io::Result<()> {
    let mut text = String::new();
    stat.read_to_string(&mut text)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat has no addresses");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let [start, end] = ENVIRONMENT_FIELDS.map(|field| fields.get(field).and_then(|field| field.parse().ok()));
    let (start, end): (u64, u64) = start.zip(end).ok_or_else(invalid)?;
    let length =
        end.checked_sub(start).and_then(|length| usize::try_from(length).ok()).ok_or_else(invalid)?;
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, start)?;
    let mut at = 0;
    for entry in bytes.split(|byte| *byte == 0) {
        if !is_kept(entry) {
            memory.write_all_at(&vec![0; entry.len()], start + at)?;
        }
        at += entry.len() as u64 + 1;
    }
    Ok(())
}

/// Whether a variable, as `NAME=value`, stays.
fn is_kept(entry: &[u8]) -> bool {
    let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
    let Ok(name) = str::from_utf8(name) else { return false };
    name.is_empty() || passes_to_commands(name) || READ_LATER.iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_are_read_later_are_kept() {
        for (entry, kept) in [
            ("PATH=/bin", true),
            ("SSL_CERT_FILE=/x", true),
            ("OPENAI_API_KEY=sk", false),
            ("LEGWORK_REDIS_URL=redis://x", false),
            ("odd", false),
        ] {
            assert_eq!(is_kept(entry.as_bytes()), kept, "{entry}");
        }
        assert!(!is_kept(b"\xff=1"));
    }
}
