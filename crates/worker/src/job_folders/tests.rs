//! Which folders are listed and removed, and what their removal leaves alone.

use std::os::unix::fs::symlink;

use legwork_common::id::SessionId;
use legwork_common::lifecycle::State;
use tempfile::TempDir;

use super::*;

fn folders(root: &TempDir) -> JobFolders {
    JobFolders::new(root.path().join("work"), "redis://:secret@redis:6379/0", "default")
}

fn random_job() -> JobId {
    JobId::random_in(SessionId::random())
}

fn job(id: JobId, status: State, finished_at: Option<Timestamp>) -> Job {
    Job { agent: "a".to_owned(), status, attempt: 1, finished_at, ..Job::queued(id, SessionId::random()) }
}

#[test]
fn only_folders_of_the_same_fleet_are_listed_and_the_owner_has_no_password() {
    let root = TempDir::new().unwrap();
    let (ours, id) = (folders(&root), random_job());
    ours.create(id).unwrap();
    let other = JobFolders::new(root.path().join("work"), "redis://redis:6379/0", "other");
    other.create(random_job()).unwrap();
    let owners = root.path().join("work").join(OWNERS);
    fs::write(owners.join("..not-a-job"), &ours.owner).unwrap();

    assert_eq!(ours.owned(None).unwrap(), [id]);
    assert_eq!(ours.owned(Some(&id.to_string())).unwrap(), []);
    let owner = fs::read_to_string(owners.join(id.to_string())).unwrap();
    assert!(!owner.contains("secret"), "{owner}");
    // Without a password it is the same fleet.
    let plain = JobFolders::new(root.path().join("work"), "redis:6379/0", "default");
    assert_eq!(plain.owned(None).unwrap(), [id]);
}

#[test]
fn a_removed_folder_takes_links_with_it_and_not_what_they_point_to() {
    let root = TempDir::new().unwrap();
    let kept = root.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "kept").unwrap();
    let (folders, id, linked) = (folders(&root), random_job(), random_job());
    let folder = folders.create(id).unwrap();
    symlink(&kept, folder.join("link")).unwrap();
    let cache = folder.join("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("module"), "read-only").unwrap();
    symlink(&kept, cache.join("link")).unwrap();
    fs::set_permissions(&cache, Permissions::from_mode(0o500)).unwrap();
    // A job that replaced its folder by a link.
    let replaced = folders.create(linked).unwrap();
    fs::remove_dir(&replaced).unwrap();
    symlink(&kept, &replaced).unwrap();

    folders.remove(id).unwrap();
    folders.remove(linked).unwrap();
    assert!(!folder.exists() && fs::symlink_metadata(&replaced).is_err());
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "kept");
    assert_eq!(folders.owned(None).unwrap(), []);
}

#[test]
fn folders_are_kept_while_the_job_runs_and_for_the_time_after() {
    let (keep, now) = (Duration::from_secs(60), Timestamp::now());
    let ended = |seconds: i64| now.checked_sub(SignedDuration::from_secs(seconds)).unwrap();
    let id = random_job();
    assert!(is_unneeded(None, keep, now), "a forgotten job");
    assert!(!is_unneeded(Some(&job(id, State::Running, None)), keep, now));
    assert!(!is_unneeded(Some(&job(id, State::Failed, Some(ended(59)))), keep, now));
    assert!(is_unneeded(Some(&job(id, State::Failed, Some(ended(60)))), keep, now));
    assert!(!is_unneeded(Some(&job(id, State::Failed, Some(ended(60)))), Duration::MAX, now));
}
