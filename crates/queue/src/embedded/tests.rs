//! Tests that need private items: servers that hang or fail, with a shorter timeout; paths and records.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::process::ExitStatus;

use legwork_common::error::Coded as _;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::*;

/// A timeout that a test can wait for.
const SHORT_TIMEOUT: Duration = Duration::from_millis(200);

/// Writes a shell script that can be run. Another process writes it: a file that this process has open for writing
/// cannot be run, and a child that another test forks inherits it.
pub(super) fn write_program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let written = Command::new("/bin/sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#, "sh"])
        .args([path.as_os_str(), OsStr::new(script)])
        .status()
        .unwrap();
    assert!(written.success());
}

/// A folder whose only server is a script: it prints a good version, and runs `otherwise` when it is started.
fn with_fake(otherwise: &str) -> (TempDir, EmbeddedConfig) {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("fake-server");
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) echo 'Redis server v=7.0.0 sha=0';; *) {otherwise};; esac\n"
    );
    write_program(&program, &script);
    let config = EmbeddedConfig {
        state_dir: folder.path().join("state"),
        runtime_dir: folder.path().join("run"),
        search_path: Vec::new(),
        extra_servers: vec![program],
    };
    (folder, config)
}

fn is_free(path: &Path) -> bool {
    home::try_lock(path, Mode::Exclusive).unwrap().is_some()
}

#[tokio::test]
async fn a_server_that_never_answers_is_an_error_that_names_the_log() {
    let (_folder, config) = with_fake("exit 1");
    let home = Home::open(&config).unwrap();
    let _holder = home::try_lock(&home.server_lock(), Mode::Exclusive).unwrap().unwrap();
    let error = join_within(&config, SHORT_TIMEOUT).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Silent { .. }), "{error}");
    assert!(error.to_string().ends_with("state/server.log"), "{error}");
    assert!(
        is_free(&home.join_lock()) && is_free(&home.users_lock()),
        "the failed caller still holds a lock"
    );
}

#[tokio::test]
async fn a_server_that_dies_before_it_answers_is_replaced() {
    let (_folder, config) = with_fake("echo gone; exit 3");
    let home = Home::open(&config).unwrap();
    let holder = home::try_lock(&home.server_lock(), Mode::Exclusive).unwrap().unwrap();
    let joining = join_within(&config, SERVER_TIMEOUT);
    tokio::pin!(joining);
    assert!(
        tokio::time::timeout(SHORT_TIMEOUT, &mut joining).await.is_err(),
        "it did not wait for the holder"
    );
    drop(holder);
    // The fake server ends at once, which shows that this call started it.
    assert!(matches!(joining.await.unwrap_err(), EmbeddedError::Ended { .. }));
}

#[tokio::test]
async fn a_server_that_hangs_is_ended_and_unlocks_the_folder() {
    let (_folder, config) = with_fake("exec sleep 100");
    let error = join_within(&config, SHORT_TIMEOUT).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Silent { .. }), "{error}");
    assert!(is_free(&Home::open(&config).unwrap().server_lock()), "the hanging server still lives");
}

#[tokio::test]
async fn the_error_of_a_server_that_ends_at_once_quotes_its_log() {
    let (_folder, config) = with_fake("echo first; echo 'Bad directive'; echo; exit 1");
    let error = join_within(&config, SERVER_TIMEOUT).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, EmbeddedError::Ended { .. }), "{text}");
    assert!(text.contains("(exit status: 1)") && text.ends_with("ends with: Bad directive"), "{text}");
}

#[tokio::test]
async fn the_server_inherits_no_environment_variable() {
    let (folder, config) = with_fake("env; exit 1");
    join_within(&config, SERVER_TIMEOUT).await.unwrap_err();
    let log = fs::read_to_string(folder.path().join("state/server.log")).unwrap();
    assert!(log.contains("PWD=") && !log.contains("HOME=") && !log.contains("CARGO"), "{log}");
}

#[tokio::test]
async fn no_user_can_join_until_one_that_is_alone_shares() {
    let (_folder, config) = with_fake("exit 1");
    let home = Home::open(&config).unwrap();
    let join_lock = home::try_lock(&home.join_lock(), Mode::Exclusive).unwrap();
    let users = home::try_lock(&home.users_lock(), Mode::Shared).unwrap().unwrap();
    let target = Target::parse("unix:///nowhere").unwrap();
    let notice = String::new();
    let server = OwnServer::on(home.folder(), UnixStream::pair().unwrap().0);
    let mut first =
        Joined { target, alone: true, started: true, notice, home: home.clone(), server, users, join_lock };
    assert!(!is_free(&home.join_lock()));
    first.share();
    assert!(is_free(&home.join_lock()) && !is_free(&home.users_lock()));
    assert_eq!(first.leave(true).await.unwrap(), Left::Kept);
    assert!(is_free(&home.users_lock()));
}

/// Waits until the server has no users. A child that another test forks just now has our files until it execs.
async fn until_free(config: &EmbeddedConfig) {
    let free = async {
        while status(config).await.unwrap().in_use {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), free).await.unwrap();
}

#[tokio::test]
async fn a_dead_user_counts_until_its_guard_closes_the_lock() {
    let (_folder, config) = with_fake("exit 1");
    let home = Home::open(&config).unwrap();
    let users = || home::try_lock(&home.users_lock(), Mode::Shared).unwrap().unwrap();
    // The system closes the files of a user that dies. Nothing unlocks them before.
    let dead = home::try_lock_file(&home.users_lock(), Mode::Shared).unwrap().unwrap();
    let held_by_guard = dead.try_clone().unwrap();
    drop(dead);
    assert!(status(&config).await.unwrap().in_use);
    assert!(matches!(reset(&config, false).await.unwrap_err(), EmbeddedError::InUse { .. }));
    drop(held_by_guard);
    until_free(&config).await;
    let leaving = users();
    // A user that leaves unlocks the file, whatever its guard holds.
    let _held_by_guard = leaving.copy().unwrap();
    drop(leaving);
    until_free(&config).await;
}

#[test]
fn a_folder_is_private_and_a_long_path_moves_only_the_socket() {
    let (folder, mut config) = with_fake("exit 1");
    fs::create_dir(&config.state_dir).unwrap();
    fs::set_permissions(&config.state_dir, fs::Permissions::from_mode(0o755)).unwrap();
    let home = Home::open(&config).unwrap();
    assert_eq!(fs::metadata(home.folder()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(home.socket().unwrap(), home.folder().join("server.sock"));

    config.state_dir = folder.path().join("x".repeat(100));
    let home = Home::open(&config).unwrap();
    let socket = home.socket().unwrap();
    assert!(socket.starts_with(&config.runtime_dir), "{}", socket.display());
    assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);

    config.runtime_dir = folder.path().join("y".repeat(90));
    let error = Home::open(&config).unwrap().socket().unwrap_err();
    assert!(matches!(error, EmbeddedError::SocketPath { .. }), "{error}");
}

#[test]
fn a_moved_folder_does_not_own_the_socket_in_its_former_place() {
    let (folder, config) = with_fake("exit 1");
    let home = Home::open(&config).unwrap();
    let socket = home.socket().unwrap();
    assert!(!home.owns(&socket), "there is none");
    fs::write(&socket, "").unwrap();
    assert!(home.owns(&socket) && home.owns(Path::new("/run/legwork-0123/s")));
    let moved = folder.path().join("moved");
    fs::rename(&config.state_dir, &moved).unwrap();
    let there = Home::open(&EmbeddedConfig { state_dir: moved, ..config.clone() }).unwrap();
    assert!(!there.owns(&socket));
    let replaced = Home::open(&config).unwrap();
    fs::write(&socket, "").unwrap();
    assert!(!there.owns(&socket) && replaced.owns(&socket));
    // A folder has any number of names.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&config.state_dir, &link).unwrap();
    let linked = Home::open(&EmbeddedConfig { state_dir: link, ..config }).unwrap();
    assert!(linked.owns(&socket));
}

#[test]
fn a_folder_that_others_can_write_and_links_out_of_it_are_refused() {
    let (folder, config) = with_fake("exit 1");
    fs::create_dir(&config.state_dir).unwrap();
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(&config.state_dir, fs::Permissions::from_mode(mode)).unwrap();
        let refused = Home::open(&config).unwrap_err();
        assert!(matches!(refused, EmbeddedError::Writable { .. }), "{refused}");
    }
    fs::set_permissions(&config.state_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let home = Home::open(&config).unwrap();
    let outside = folder.path().join("outside");
    fs::write(&outside, "{}").unwrap();
    for file in [home.join_lock(), home.record_file()] {
        std::os::unix::fs::symlink(&outside, file).unwrap();
    }
    assert!(home::try_lock(&home.join_lock(), Mode::Exclusive).is_err());
    assert!(matches!(home.record().unwrap_err(), EmbeddedError::Folder { action: "read", .. }));
    fs::remove_dir(home.data()).unwrap();
    std::os::unix::fs::symlink(folder.path(), home.data()).unwrap();
    assert!(Home::open(&config).is_err());
    assert_eq!(fs::read_to_string(&outside).unwrap(), "{}");
}

#[test]
fn a_record_of_another_format_is_refused_with_its_number() {
    let (_folder, config) = with_fake("exit 1");
    let home = Home::open(&config).unwrap();
    assert_eq!(home.record().unwrap(), None);
    fs::write(home.record_file(), r#"{"format":2,"path":7}"#).unwrap();
    let error = home.record().unwrap_err().to_string();
    assert!(error.ends_with("it has format 2, this release knows format 1"), "{error}");
    fs::write(home.record_file(), "{").unwrap();
    assert!(matches!(home.record().unwrap_err(), EmbeddedError::Format { .. }));
}

#[test]
fn the_url_of_a_socket_escapes_any_byte() {
    let socket = Path::new(OsStr::from_bytes(b"/a b/#?%\xff/s.sock"));
    assert_eq!(socket_url(socket), "unix:///a%20b/%23%3F%25%FF/s.sock");
}

#[test]
fn every_error_has_a_message_and_a_hint() {
    let (folder, log) = (PathBuf::from("/home/me/state"), PathBuf::from("/home/me/state/server.log"));
    let waited = SERVER_TIMEOUT;
    let status = ExitStatus::from_raw(256);
    let refused = Target::parse("nonsense").unwrap_err();
    let errors = [
        EmbeddedError::NoServer { rejected: Vec::new(), install: "brew install valkey".into() },
        EmbeddedError::folder("open", &log)(io::ErrorKind::PermissionDenied.into()),
        EmbeddedError::NotOurs { path: folder.clone() },
        EmbeddedError::Writable { path: folder.clone() },
        EmbeddedError::Format { path: folder.join("server.json"), detail: "it has format 2".into() },
        EmbeddedError::SocketPath { path: folder.join("server.sock"), limit: 107 },
        EmbeddedError::Ended {
            server: "/bin/redis-server".into(),
            status,
            log: log.clone(),
            last: "Bad file format".into(),
        },
        EmbeddedError::Silent { folder: folder.clone(), waited, log: log.clone() },
        EmbeddedError::Stuck { folder: folder.clone(), waited, log },
        EmbeddedError::Busy { path: folder.join("join.lock") },
        EmbeddedError::InUse { folder },
        EmbeddedError::Address(refused),
    ];
    let shown = errors.iter().map(|error| {
        let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        format!("{}: {error}{hint}\n", error.code())
    });
    insta::assert_snapshot!("errors", shown.collect::<String>());
}
