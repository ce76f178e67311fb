//! Ending the heaviest job before the system ends everybody: a container that exceeds its memory loses its worker with all
//! its jobs.
//!
//! Counted is what this program and the commands of its jobs hold in memory. What agents hold within this program is
//! bounded elsewhere, so the heaviest job is the one with the heaviest commands.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::active_attempts::ActiveAttempts;
use crate::cancel::CancelReason;
use crate::guard::Guard;

/// Polling interval. A command that fills memory as fast as it can takes some hundred MB in it.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The share of the limit at which a job is ended, in percent: what is left is for what grows until the next poll.
const THRESHOLD_PERCENT: u64 = 90;
/// A limit above this is none: a version-1 group without one has a number near 2^63.
const MAX_LIMIT: u64 = 1 << 60;
/// The units of sizes, by their names in lower case.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
];

/// Reads a size such as `512MiB`, `2G` or `1000000`, in bytes.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("bytes").unwrap_or(&lower).trim();
    let unit = UNITS.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((lower.strip_suffix('b').unwrap_or(lower), 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("`{text}` is not a size such as 512MiB or 2GiB"))
}

/// The limit that holds: that of the option, where 0 stands for none, or else that of the control group.
pub(crate) fn limit(option: Option<u64>) -> Option<u64> {
    match option {
        Some(bytes) => Some(bytes).filter(|&bytes| bytes > 0),
        None => of_control_group(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")),
    }
}

/// The lowest limit of the process' control group and of those above it.
fn of_control_group(membership: &Path, root: &Path) -> Option<u64> {
    let text = fs::read_to_string(membership).ok()?;
    let limits = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (folder, file) = match controllers {
            "" => (root.join(path), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                (root.join("memory").join(path), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let groups = folder.ancestors().take_while(|folder| folder.starts_with(root)).map(PathBuf::from);
        groups.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()).min()
    });
    limits.min().filter(|&limit: &u64| limit < MAX_LIMIT)
}

/// Ends the heaviest job whenever the memory is nearly used up, forever. May be dropped at any await.
pub(crate) async fn watch(limit: u64, guard: Guard, active: ActiveAttempts) {
    let threshold = limit / 100 * THRESHOLD_PERCENT;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let usage = guard.usage_of_jobs();
        let used = own_usage() + usage.values().sum::<u64>();
        if used <= threshold {
            continue;
        }
        let Some((&job, &bytes)) =
            usage.iter().max_by_key(|(_, bytes)| **bytes).filter(|(_, bytes)| **bytes > 0)
        else {
            tracing::warn!(
                used,
                limit,
                "the memory is nearly used up, and no command of a job holds any of it"
            );
            continue;
        };
        tracing::error!(%job, bytes, used, limit, "the memory is nearly used up: the heaviest job is ended");
        active.cancel_job(job, CancelReason::Memory);
        // Without a grace period, in which it could fill the rest.
        guard.kill_job(job);
    }
}

/// What this process holds in memory, in bytes; zero where the system does not tell.
fn own_usage() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|pages| pages.split_whitespace().nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("512MiB", 512 << 20), ("2G", 2 << 30), ("1 kb", 1000), ("0", 0), ("77 bytes", 77), ("5b", 5)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5G", "9999999999999G", "many"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_lowest_limit_of_the_control_groups_holds() {
        let top = TempDir::new().unwrap();
        let (root, membership) = (top.path().join("cgroup"), top.path().join("membership"));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::write(&membership, "0::/a/b\n").unwrap();
        assert_eq!(of_control_group(&membership, &root), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(of_control_group(&membership, &root), None);
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "3000\n");
        assert_eq!(of_control_group(&membership, &root), Some(1000));
        fs::write(&membership, "5:cpu:/\n4:memory,x:/c\n").unwrap();
        write("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of_control_group(&membership, &root), None);
        write("memory/memory.limit_in_bytes", "2000\n");
        assert_eq!(of_control_group(&membership, &root), Some(2000));
        assert!(own_usage() > 1 << 20);
    }
}
