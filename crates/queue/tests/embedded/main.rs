//! The embedded server, with real servers and real processes.

#![cfg(test)]

mod state_folder;

use std::fs;
use std::io;
use std::io::BufRead as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use legwork_queue::embedded;
use legwork_queue::embedded::EmbeddedConfig;
use legwork_queue::embedded::EmbeddedError;
use legwork_queue::embedded::Joined;
use legwork_queue::embedded::Left;
use legwork_queue::embedded::ServerState;
use redis::AsyncCommands as _;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use state_folder::MARK;
use state_folder::StateFolder;

/// A connection to the server of the state folder. It waits for answers for longer than the half second of the client's
/// default, which a busy machine may take.
async fn connect(state: &StateFolder) -> MultiplexedConnection {
    let socket = embedded::status(&state.config).await.unwrap().server.unwrap().socket;
    let client = redis::Client::open(redis::ConnectionAddr::Unix(socket)).unwrap();
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn join_shared(config: &EmbeddedConfig) -> Joined {
    let mut joined = embedded::join(config).await.unwrap();
    joined.share();
    joined
}

/// The first server on the search path.
fn real_server(config: &EmbeddedConfig) -> PathBuf {
    let named = |name: &'static str| config.search_path.iter().map(move |folder| folder.join(name));
    named("valkey-server").chain(named("redis-server")).find(|path| path.exists()).unwrap()
}

/// Not a test: other tests run it as a process of its own. It reads a configuration from its standard input, joins,
/// shares, and leaves at the end of the input.
#[tokio::test]
#[ignore = "other tests run it as a process of its own"]
async fn user_process() {
    let mut lines = io::stdin().lock().lines().map(Result::unwrap);
    let (Some(state), Some(runtime), Some(path)) = (lines.next(), lines.next(), lines.next()) else { return };
    let config = EmbeddedConfig {
        state_dir: state.into(),
        runtime_dir: runtime.into(),
        search_path: std::env::split_paths(&path).collect(),
        extra_servers: Vec::new(),
    };
    let joined = join_shared(&config).await;
    let mut stdout = io::stdout();
    writeln!(stdout, "{MARK}{} {}", joined.alone, joined.started).unwrap();
    assert_eq!(lines.next(), None);
    writeln!(stdout, "{MARK}{:?}", joined.leave(false).await.unwrap()).unwrap();
}

#[tokio::test]
async fn the_first_user_starts_a_safe_server_and_the_last_ends_it() {
    let state = StateFolder::named("a b#c%d");
    let mut first = embedded::join(&state.config).await.unwrap();
    assert!(first.alone && first.started);
    assert!(first.notice.starts_with("started ") && first.notice.contains("a b#c%d"), "{}", first.notice);
    first.share();
    let second = embedded::join(&state.config).await.unwrap();
    assert!(!second.alone && !second.started);
    assert!(second.notice.starts_with("using the running "), "{}", second.notice);

    let mut redis = connect(&state).await;
    let settings = [
        ("port", "0"),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("aof-use-rdb-preamble", "no"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("unixsocketperm", "700"),
    ];
    for (name, expected) in settings {
        let (_, value): (String, String) =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut redis).await.unwrap();
        assert_eq!(value, expected, "{name}");
    }
    let server = state.server().unwrap();
    let session = rustix::process::getsid(Some(server)).unwrap();
    assert_eq!(session, server, "a hangup of our terminal would reach it");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.config.state_dir), 0o700);
    assert_eq!(mode(&state.config.state_dir.join("server.sock")), 0o700);

    assert_eq!(first.leave(false).await.unwrap(), Left::InUse);
    let _: () = redis.set("key", "value").await.unwrap();
    assert_eq!(second.leave(true).await.unwrap(), Left::Kept);
    assert!(state.is_served());

    let third = embedded::join(&state.config).await.unwrap();
    assert!(third.alone && !third.started);
    assert_eq!(third.leave(false).await.unwrap(), Left::ShutDown);
    assert!(!state.is_served());

    let fourth = join_shared(&state.config).await;
    assert!(fourth.started);
    let value: String = connect(&state).await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn a_user_ends_its_server_when_the_folder_is_gone_and_no_other() {
    let state = StateFolder::new();
    let first = join_shared(&state.config).await;
    let second = join_shared(&state.config).await;
    let moved = state.config.state_dir.with_extension("moved");
    fs::rename(&state.config.state_dir, &moved).unwrap();
    // Another program starts a server in the folder's place.
    let other = join_shared(&state.config).await;
    assert!(other.started);
    assert!(first.server().end().await);
    assert_eq!(first.leave(true).await.unwrap(), Left::FolderGone);
    assert_eq!(second.leave(true).await.unwrap(), Left::FolderGone);
    assert!(state.is_served());
    // What was moved can be used where it is: no server holds it.
    let config = EmbeddedConfig { state_dir: moved, ..state.config.clone() };
    let again = join_shared(&config).await;
    assert!(again.started);
    assert_eq!(again.leave(false).await.unwrap(), Left::ShutDown);
    assert_eq!(other.leave(false).await.unwrap(), Left::ShutDown);
}

#[tokio::test]
async fn ten_processes_that_join_at_once_start_one_server() {
    let state = StateFolder::new();
    let mut users: Vec<_> = (0..10).map(|_| state.user()).collect();
    let reports: Vec<(bool, bool)> = users.iter_mut().map(state_folder::UserProcess::joined).collect();
    assert_eq!(reports.iter().filter(|(alone, _)| *alone).count(), 1, "{reports:?}");
    assert_eq!(reports.iter().filter(|(_, started)| *started).count(), 1, "{reports:?}");
    let left: Vec<String> = users.into_iter().map(state_folder::UserProcess::leave).collect();
    assert_eq!(left.last().unwrap(), "ShutDown");
    assert!(left[..9].iter().all(|left| left == "InUse"), "{left:?}");
    assert!(!state.is_served());
}

#[tokio::test]
async fn users_that_join_and_leave_at_once_always_find_a_server() {
    let state = StateFolder::new();
    let visits = (0..10).map(async |_| {
        for _ in 0..3 {
            let joined = join_shared(&state.config).await;
            let pong: String = redis::cmd("PING").query_async(&mut connect(&state).await).await.unwrap();
            assert_eq!(pong, "PONG");
            joined.leave(false).await.unwrap();
        }
    });
    join_all(visits).await;
    assert!(!state.is_served());
}

#[tokio::test]
async fn a_server_outlives_a_killed_starter_which_no_longer_counts_as_a_user() {
    let state = StateFolder::new();
    let mut starter = state.user();
    assert_eq!(starter.joined(), (true, true));
    starter.kill();
    let next = embedded::join(&state.config).await.unwrap();
    assert!(next.alone && !next.started);
}

#[tokio::test]
async fn a_killed_server_is_restarted_with_its_data() {
    let state = StateFolder::new();
    let first = join_shared(&state.config).await;
    let _: () = connect(&state).await.set("key", "value").await.unwrap();
    state.kill_server();
    assert!(state.config.state_dir.join("server.sock").exists(), "the stale socket is part of the test");
    assert_eq!(embedded::status(&state.config).await.unwrap().state, ServerState::Stopped);

    let second = embedded::join(&state.config).await.unwrap();
    assert!(second.started && !second.alone);
    let value: String = connect(&state).await.get("key").await.unwrap();
    assert_eq!(value, "value");
    drop(first);
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let state = StateFolder::new();
    fs::create_dir_all(&state.config.state_dir).unwrap();
    drop(UnixListener::bind(state.config.state_dir.join("server.sock")).unwrap());
    assert!(embedded::join(&state.config).await.unwrap().started);
}

#[tokio::test]
async fn the_server_of_a_long_path_is_found_from_another_runtime_folder() {
    let state = StateFolder::named(&"long".repeat(30));
    let first = join_shared(&state.config).await;
    assert!(first.started);
    let elsewhere =
        EmbeddedConfig { runtime_dir: state.folder.path().join("elsewhere"), ..state.config.clone() };
    let second = embedded::join(&elsewhere).await.unwrap();
    assert!(!second.started);
    drop((first, second));
}

#[tokio::test]
async fn another_server_program_reads_the_data_of_a_recorded_one_that_is_gone() {
    let mut state = StateFolder::new();
    let real = real_server(&state.config);
    let usual = std::mem::take(&mut state.config.search_path);
    let recorded = state.folder.path().join("redis-server");
    symlink(&real, &recorded).unwrap();
    state.config.search_path = vec![state.folder.path().to_owned()];
    let first = join_shared(&state.config).await;
    let _: () = connect(&state).await.set("key", "value").await.unwrap();
    assert_eq!(first.leave(false).await.unwrap(), Left::ShutDown);

    state.config.search_path = usual;
    let second = join_shared(&state.config).await;
    assert!(second.notice.contains(&*recorded.to_string_lossy()), "it did not use the recorded server");
    assert_eq!(second.leave(false).await.unwrap(), Left::ShutDown);

    fs::remove_file(&recorded).unwrap();
    let third = join_shared(&state.config).await;
    assert!(third.notice.contains("; previously "), "{}", third.notice);
    let value: String = connect(&state).await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn without_a_server_program_joining_fails_and_leaves_nothing_locked() {
    let mut state = StateFolder::new();
    let usual = std::mem::take(&mut state.config.search_path);
    let error = embedded::join(&state.config).await.unwrap_err();
    assert_eq!(error.to_string(), "no Redis or Valkey server, version 7.0 or newer, was found");
    state.config.search_path = usual;
    assert!(embedded::join(&state.config).await.unwrap().alone);
}

#[tokio::test]
async fn status_stop_and_reset_with_and_without_users() {
    let state = StateFolder::new();
    let before = embedded::status(&state.config).await.unwrap();
    assert_eq!((before.state, before.in_use, before.server), (ServerState::Stopped, false, None));
    assert!(!state.config.state_dir.exists(), "the status created the folder");
    assert!(!embedded::stop(&state.config).await.unwrap());
    embedded::reset(&state.config, false).await.unwrap();

    let user = join_shared(&state.config).await;
    let _: () = connect(&state).await.set("key", "value").await.unwrap();
    let during = embedded::status(&state.config).await.unwrap();
    let ServerState::Running { process_id, clients } = during.state else { panic!("{during:?}") };
    assert_eq!(process_id.map(|id| id as i32), state.server().map(rustix::process::Pid::as_raw_pid));
    assert!(during.in_use && clients >= Some(1), "{during:?}");

    let server = state.server().unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::STOP).unwrap();
    let stuck = embedded::status(&state.config).await.unwrap().state;
    rustix::process::kill_process(server, rustix::process::Signal::CONT).unwrap();
    assert_eq!(stuck, ServerState::NotAnswering { process_id });

    let refused = embedded::reset(&state.config, false).await.unwrap_err();
    assert!(matches!(refused, EmbeddedError::InUse { .. }), "{refused}");
    assert!(state.is_served());
    assert!(embedded::stop(&state.config).await.unwrap());
    assert!(!state.is_served());
    drop(user);

    let user = join_shared(&state.config).await;
    assert!(user.started);
    embedded::reset(&state.config, true).await.unwrap();
    assert!(!state.is_served() && !state.config.state_dir.join("data").exists());
    drop(user);
    let _user = join_shared(&state.config).await;
    let value: Option<String> = connect(&state).await.get("key").await.unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn no_user_joins_while_one_that_is_alone_reaps() {
    let state = StateFolder::new();
    let mut first = embedded::join(&state.config).await.unwrap();
    let second = embedded::join(&state.config);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
    first.share();
    assert!(!second.await.unwrap().alone);
}
