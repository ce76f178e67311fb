//! Groups that dead workers have left, which are known by their names: `legwork-<process>-<start>-<namespace>-…`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use futures::future::join_all;

use super::RefusedFolder;
use super::ending::end;
use crate::guard::watch::started_at;

/// Begins the names of all groups.
const PREFIX: &str = "legwork-";
/// The namespace in which the ids of processes are those that this one sees.
const NAMESPACE: &str = "/proc/self/ns/pid";

/// The process that makes groups, as their names have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    process: u32,
    /// Another process may get the same id.
    start: u64,
    /// Workers of several containers may share the control groups: the ids of one say nothing in the others.
    namespace: u64,
}

impl Owner {
    /// This process.
    ///
    /// # Errors
    ///
    /// The system's: without its start or its namespace others would take the groups for left ones, or nothing would.
    pub(super) fn this_process() -> Result<Self, RefusedFolder> {
        let process = std::process::id();
        let refused = |folder: &str, source| RefusedFolder { folder: folder.into(), source };
        let namespace = fs::metadata(NAMESPACE).map_err(|error| refused(NAMESPACE, error))?.ino();
        let start = started_at(process)
            .ok_or_else(|| refused("/proc/self/stat", io::Error::other("it does not tell the start")))?;
        Ok(Self { process, start, namespace })
    }

    /// The name of its group with this number.
    pub(super) fn name(&self, number: u64, of: &str) -> String {
        let Self { process, start, namespace } = self;
        format!("{PREFIX}{process}-{start}-{namespace}-{number}-{of}")
    }

    fn of(name: &str) -> Option<Self> {
        let mut fields = name.strip_prefix(PREFIX)?.splitn(4, '-');
        let process = fields.next()?.parse().ok()?;
        let start = fields.next()?.parse().ok()?;
        let namespace = fields.next()?.parse().ok()?;
        fields.next().map(|_| Self { process, start, namespace })
    }

    /// Whether it is known to have ended: its id is not there, or another process has it.
    fn has_ended(&self) -> bool {
        match fs::metadata(format!("/proc/{}", self.process)) {
            Ok(_) => started_at(self.process).is_some_and(|start| start != self.start),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Removes the groups below `folder` whose worker is gone, with what is left in them.
pub(super) async fn remove(folder: &Path, this: &Owner) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left = names.filter(|name| is_left(name, this, Owner::has_ended)).map(|name| folder.join(name));
    join_all(left.map(|group| async move { end(&[group]).await })).await;
}

/// Whether a name is that of a group whose worker is known to be gone.
fn is_left(name: &str, this: &Owner, has_ended: impl Fn(&Owner) -> bool) -> bool {
    Owner::of(name).is_some_and(|owner| owner.namespace == this.namespace && has_ended(&owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_workers_that_are_gone_are_known_by_their_names() {
        let this = Owner { process: 9, start: 60, namespace: 4_026_531_836 };
        let has_ended = |owner: &Owner| (owner.process, owner.start) != (7, 50);
        for (name, expected) in [
            ("legwork-7-50-4026531836-0-job_1-2", false),
            ("legwork-7-49-4026531836-0-job_1-2", true),
            ("legwork-8-50-4026531836-3-probe", true),
            // Of another container.
            ("legwork-8-50-4026532999-3-probe", false),
            ("legwork-8-50-4026531836", false),
            ("legwork-worker", false),
            ("legwork-7", false),
            ("other-8-50-4026531836-0-x", false),
        ] {
            assert_eq!(is_left(name, &this, has_ended), expected, "{name}");
        }
        let name = this.name(3, "job_1-2");
        assert_eq!((name.as_str(), Owner::of(&name)), ("legwork-9-60-4026531836-3-job_1-2", Some(this)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_ended_once_its_id_is_gone_or_of_another_one() {
        let this = Owner::this_process().unwrap();
        assert!(!this.has_ended());
        assert!(Owner { start: this.start + 1, ..this.clone() }.has_ended());
        assert!(Owner { process: u32::MAX, ..this }.has_ended());
    }
}
