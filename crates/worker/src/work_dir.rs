//! The work dir of a worker: the one that was named, or a default, checked before the worker serves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use legwork_common::variables;

use crate::backend::embedded_config;
use crate::job_folders::JobFolders;
use crate::job_folders::create_private;
use crate::options::WorkerOptions;
use crate::runner::WorkDir;
use crate::startup::StartError;

/// The files by which Docker and Podman mark a container.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Selects the folders that jobs run in, and creates the work dir: on the embedded server the folder of a job's
/// dispatcher, which is on this machine; on a fleet a folder below `--work-dir` or below the default.
///
/// # Errors
///
/// [`StartError::WorkDir`] for a folder that cannot be created or is another user's, and for a shared one that does not
/// exist.
pub(crate) fn select(
    options: &WorkerOptions,
    variables: &BTreeMap<String, String>,
) -> Result<WorkDir, StartError> {
    let folders = |root| {
        let redis = options.common.redis.as_deref().unwrap_or_default();
        WorkDir::Own(JobFolders::new(root, redis, &options.common.namespace))
    };
    match (&options.work_dir, options.shared_work_dir) {
        (Some(folder), true) if folder.is_dir() => Ok(WorkDir::Shared(folder.clone())),
        (Some(folder), true) => {
            Err(unusable(folder, "does not exist, and --shared-work-dir does not create it"))
        }
        (Some(folder), false) => {
            fs::create_dir_all(folder)
                .map_err(|error| unusable(folder, format!("cannot be created: {error}")))?;
            check_writable(folder)?;
            Ok(folders(folder.clone()))
        }
        (None, _) if options.common.redis.is_none() => Ok(WorkDir::Dispatchers),
        (None, _) => {
            let folder = default_folder(options, variables, is_container(variables));
            create_own(&folder)?;
            check_writable(&folder)?;
            tracing::info!(
                folder = %folder.display(),
                "jobs get their folders below the default work dir; --work-dir selects another"
            );
            Ok(folders(folder))
        }
    }
}

/// `jobs` in the state folder; `legwork-jobs` in the temporary folder in a container, whose other folders are often
/// read-only, and for a user without a home.
fn default_folder(
    options: &WorkerOptions,
    variables: &BTreeMap<String, String>,
    is_container: bool,
) -> PathBuf {
    let is_set = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty());
    let has_home = is_set(variables::HOME) || is_set(variables::XDG_STATE_HOME);
    if options.common.state_dir.is_some() || (has_home && !is_container) {
        embedded_config(&options.common, variables).state_dir.join("jobs")
    } else {
        std::env::temp_dir().join("legwork-jobs")
    }
}

fn is_container(variables: &BTreeMap<String, String>) -> bool {
    variables.contains_key(variables::KUBERNETES_SERVICE_HOST)
        || CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists())
}

/// Creates a folder for this user alone. One of another user, or a link, is refused: any user can create a folder of this
/// name in a temporary folder first.
fn create_own(folder: &Path) -> Result<(), StartError> {
    let failed = |error| unusable(folder, format!("cannot be created: {error}"));
    create_private(folder).map_err(failed)?;
    let metadata = fs::symlink_metadata(folder).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(unusable(folder, "is a link or belongs to another user"));
    }
    Ok(())
}

/// Creates a folder below the work dir, as each job will, and removes it: a worker that can create none would give back
/// every job.
fn check_writable(folder: &Path) -> Result<(), StartError> {
    let probe = folder.join(format!(".legwork-probe-{}", std::process::id()));
    // One of an earlier worker that died in between has the same name in a container.
    create_private(&probe)
        .and_then(|()| fs::remove_dir(&probe))
        .map_err(|error| unusable(folder, format!("cannot be written to: {error}")))
}

fn unusable(folder: &Path, detail: impl Into<String>) -> StartError {
    StartError::WorkDir { folder: folder.display().to_string(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use clap::Parser as _;
    use tempfile::TempDir;

    use super::*;

    fn options(arguments: &[&str]) -> WorkerOptions {
        WorkerOptions::parse_from(["legwork-worker", "--redis", "redis://h"].iter().chain(arguments))
    }

    #[test]
    fn the_default_is_the_state_folder_and_in_a_container_the_temporary_one() {
        let home = BTreeMap::from([(variables::HOME.to_owned(), "/home/me".to_owned())]);
        let folder = |arguments: &[&str], variables: &BTreeMap<String, String>, is_container| {
            default_folder(&options(arguments), variables, is_container).display().to_string()
        };
        let temporary = std::env::temp_dir().join("legwork-jobs").display().to_string();
        assert_eq!(folder(&[], &home, false), "/home/me/.local/state/legwork/jobs");
        assert_eq!(folder(&[], &home, true), temporary);
        assert_eq!(folder(&[], &BTreeMap::new(), false), temporary);
        assert_eq!(folder(&["--state-dir", "/state"], &home, true), "/state/jobs");
    }

    #[test]
    fn a_shared_work_dir_must_exist() {
        let root = TempDir::new().unwrap();
        let missing = root.path().join("missing").display().to_string();
        let error = select(&options(&["--shared-work-dir", "--work-dir", &missing]), &BTreeMap::new());
        assert!(error.unwrap_err().to_string().contains("does not exist"));
        assert!(matches!(select(&options(&["--work-dir", &missing]), &BTreeMap::new()), Ok(WorkDir::Own(_))));
        let shared = select(&options(&["--shared-work-dir", "--work-dir", &missing]), &BTreeMap::new());
        assert_eq!(shared.unwrap(), WorkDir::Shared(missing.into()));
    }

    #[test]
    fn a_work_dir_that_no_job_can_use_is_refused() {
        // Nothing can be created there, by any user.
        let error = select(&options(&["--work-dir", "/proc"]), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("cannot be written to"), "{error}");
    }

    #[test]
    fn a_link_in_the_place_of_the_default_is_refused() {
        let root = TempDir::new().unwrap();
        let link = root.path().join("jobs");
        symlink(root.path(), &link).unwrap();
        assert!(create_own(&link).is_err());
        assert!(create_own(&root.path().join("new/jobs")).is_ok());
    }
}
