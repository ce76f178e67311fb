//! The process groups of jobs, as the program itself knows them: whose they are, and what they hold in memory.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use legwork_common::id::JobId;
use rustix::process::Signal;

use super::process_groups::Lifetime;
use super::process_groups::TrackedGroup;
use super::watch;

/// The groups that live. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct JobGroups {
    // A std mutex: never held over an await.
    groups: Arc<Mutex<BTreeMap<u32, (JobId, TrackedGroup)>>>,
}

impl JobGroups {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<u32, (JobId, TrackedGroup)>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, job: JobId, group: u32) {
        let tracked = TrackedGroup::new(Lifetime::Lease, group, watch::started_at(group));
        self.groups().insert(group, (job, tracked));
    }

    pub(super) fn remove(&self, group: u32) {
        self.groups().remove(&group);
    }

    /// What the processes of each job hold in memory, in bytes. Jobs without a process are missing.
    pub(super) fn usage(&self) -> BTreeMap<JobId, u64> {
        let groups = self.groups();
        let mut usage = BTreeMap::new();
        if groups.is_empty() {
            return usage;
        }
        let page = rustix::param::page_size() as u64;
        for (group, pages) in resident_pages() {
            if let Some((job, _)) = groups.get(&group) {
                *usage.entry(*job).or_default() += pages * page;
            }
        }
        usage
    }

    /// Sends SIGKILL to all groups of a job.
    pub(super) fn kill(&self, job: JobId) {
        for (_, tracked) in self.groups().values().filter(|(owner, _)| *owner == job) {
            watch::signal(tracked, Signal::KILL);
        }
    }
}

/// The process group of each process, and the pages that it has in memory (proc_pid_stat(5), fields 5 and 24).
fn resident_pages() -> Vec<(u32, u64)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| is_process(name))
        .filter_map(|name| {
            let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some((fields.get(2)?.parse().ok()?, fields.get(21)?.parse().ok()?))
        })
        .collect()
}
