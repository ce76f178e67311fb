//! The folders of jobs below `--work-dir`: this fleet's workers create them, and remove them after their jobs.

use std::convert::Infallible;
use std::fs;
use std::fs::DirBuilder;
use std::fs::Permissions;
use std::io;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use legwork_agent::environment::CommandUser;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_queue::Queue;
use legwork_queue::port::Watch as _;
use tokio::task::spawn_blocking;

/// Time between two sweeps. A folder is kept for this much longer at most, plus a minute for each [`BATCH_SIZE`] folders.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Folders of one sweep, so that neither Redis nor the disk is busy with them for long: 20,000 folders take 40 minutes.
const BATCH_SIZE: usize = 500;
/// The folder below the work dir with one file for each job folder, named by the job. It contains the owner.
const OWNERS: &str = ".legwork-jobs";

/// The folders of jobs below one work dir. Workers of several fleets may share a work dir: each folder has an owner, and
/// only workers of the same owner remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFolders {
    root: PathBuf,
    owner: String,
    /// The user that the folders belong to; `None` for this program's own.
    user: Option<CommandUser>,
}

impl JobFolders {
    /// The folders below `root` of the fleet at this Redis URL (its credentials are left out) and namespace.
    pub fn new(root: PathBuf, redis_url: &str, namespace: &str) -> Self {
        let address = redis_url.rsplit_once('@').map_or(redis_url, |(_credentials, address)| address);
        Self { root, owner: format!("{address} {namespace}"), user: None }
    }

    /// The same folders, each of which belongs to the user that commands run as.
    #[must_use]
    pub fn of_user(self, user: CommandUser) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The folder above those of the jobs.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of `job`; created where it does not exist.
    ///
    /// # Errors
    ///
    /// The system's, when it cannot be created.
    pub fn create(&self, job: JobId) -> io::Result<PathBuf> {
        let folder = self.folder(job);
        if !folder.is_dir() {
            fs::create_dir_all(self.root.join(OWNERS))?;
            // First, so that a folder that was created always has an owner who removes it.
            fs::write(self.owner_file(job), &self.owner)?;
            create_private(&folder)?;
        }
        if let Some(CommandUser { uid, gid, .. }) = &self.user
            && fs::symlink_metadata(&folder)?.uid() != *uid
        {
            // Each time: a crash in between leaves a folder that its commands could not enter.
            lchown(&folder, Some(*uid), Some(*gid))?;
        }
        Ok(folder)
    }

    fn folder(&self, job: JobId) -> PathBuf {
        self.root.join(job.to_string())
    }

    fn owner_file(&self, job: JobId) -> PathBuf {
        self.root.join(OWNERS).join(job.to_string())
    }

    /// At most [`BATCH_SIZE`] jobs whose folders are this fleet's, in the order of their names, after `after`.
    fn owned(&self, after: Option<&str>) -> io::Result<Vec<JobId>> {
        let entries = match fs::read_dir(self.root.join(OWNERS)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| after.is_none_or(|after| name.as_str() > after))
            .collect();
        names.sort_unstable();
        // A name that is not exactly a job's must not become part of a path.
        let jobs = names
            .into_iter()
            .filter_map(|name| name.parse::<JobId>().ok().filter(|id| id.to_string() == name));
        let is_owned =
            |job: &JobId| fs::read_to_string(self.owner_file(*job)).is_ok_and(|owner| owner == self.owner);
        Ok(jobs.filter(is_owned).take(BATCH_SIZE).collect())
    }

    /// Removes the folder of `job` with all that is in it. Links in it are removed and never followed.
    fn remove(&self, job: JobId) -> io::Result<()> {
        let folder = self.folder(job);
        let removed = remove_tree(&folder).or_else(|error| match error.kind() {
            // Such as the module cache of Go, whose folders are read-only.
            ErrorKind::PermissionDenied => make_writable(&folder).and_then(|()| remove_tree(&folder)),
            _ => Err(error),
        });
        // Last, so that a folder that could not be removed completely is tried again.
        removed.and_then(|()| ignore_missing(fs::remove_file(self.owner_file(job))))
    }
}

/// Removes a folder or a link to one.
fn remove_tree(folder: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_dir_all(folder))
}

/// What does not exist is removed already: by another worker with the same work dir, or by its user.
fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets the owner write to `folder` and to every folder below it. Links are not followed.
fn make_writable(folder: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The entry's own type: a link is not a folder.
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Creates a folder that only this user can enter, with the folders above it.
pub(crate) fn create_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes the folders of jobs that are forgotten, or ended longer ago than `keep`: at most [`BATCH_SIZE`] now, and then
/// each minute.
/// Errors are logged and a later sweep is the retry. May be dropped at any await.
pub(crate) async fn sweep_forever(queue: Queue, folders: JobFolders, keep: Duration) -> Infallible {
    let mut after = None;
    loop {
        after = match sweep(&queue, &folders, keep, after).await {
            Ok(last) => last,
            Err(error) => {
                tracing::warn!(error, "could not sweep the folders of jobs");
                None
            }
        };
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// One sweep, after the name where the last one ended. The name where this one ended; `None` where it was the last.
async fn sweep(
    queue: &Queue,
    folders: &JobFolders,
    keep: Duration,
    after: Option<String>,
) -> Result<Option<String>, String> {
    let listed = folders.clone();
    let ids = blocking(move || listed.owned(after.as_deref()).map_err(|error| error.to_string())).await??;
    let jobs = queue.jobs(&ids).await.map_err(|error| error.to_string())?;
    let now = Timestamp::now();
    let next = (ids.len() == BATCH_SIZE).then(|| ids.last().map(JobId::to_string)).flatten();
    let unneeded: Vec<JobId> = ids
        .into_iter()
        .zip(jobs)
        .filter(|(_, job)| is_unneeded(job.as_ref(), keep, now))
        .map(|(id, _)| id)
        .collect();
    let folders = folders.clone();
    blocking(move || remove_all(&folders, &unneeded)).await?;
    Ok(next)
}

/// Whether no attempt needs the folder of this job anymore, and its time is over. `None` for a forgotten job.
fn is_unneeded(job: Option<&Job>, keep: Duration, now: Timestamp) -> bool {
    let Some(job) = job else { return true };
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    job.status.is_terminal() && job.finished_at.is_some_and(|finished| now.duration_since(finished) >= keep)
}

fn remove_all(folders: &JobFolders, jobs: &[JobId]) {
    let mut removed = 0_usize;
    for job in jobs {
        match folders.remove(*job) {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(%job, %error, "could not remove the folder of an ended job"),
        }
    }
    if removed > 0 {
        tracing::debug!(removed, "removed folders of ended jobs");
    }
}

/// Runs `work` on a thread where it may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
