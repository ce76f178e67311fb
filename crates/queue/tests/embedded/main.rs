//! The embedded server with real servers and real processes.

#![cfg(test)]

mod household;

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
use household::Household;
use household::MARK;
use legwork_queue::embedded;
use legwork_queue::embedded::EmbeddedConfig;
use legwork_queue::embedded::EmbeddedError;
use legwork_queue::embedded::Joined;
use legwork_queue::embedded::Left;
use legwork_queue::embedded::ServerState;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;

/// A connection to whatever serves the household.
async fn connect(house: &Household) -> MultiplexedConnection {
    let socket = embedded::status(&house.config).await.unwrap().server.unwrap().socket;
    let address = redis::ConnectionAddr::Unix(socket);
    redis::Client::open(address).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn join_shared(config: &EmbeddedConfig) -> Joined {
    let mut joined = embedded::join(config).await.unwrap();
    joined.share();
    joined
}

/// The first server of this machine.
fn real_server(config: &EmbeddedConfig) -> PathBuf {
    let named = |name: &'static str| config.search_path.iter().map(move |folder| folder.join(name));
    named("valkey-server").chain(named("redis-server")).find(|path| path.exists()).unwrap()
}

/// Not a test: other tests run it as a process of its own. It reads a configuration from its standard
/// input, joins, shares, and leaves at the end of the input.
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
async fn the_first_starts_a_safe_server_and_the_last_ends_it() {
    let house = Household::named("a b#c%d");
    let mut first = embedded::join(&house.config).await.unwrap();
    assert!(first.alone && first.started);
    assert!(first.notice.starts_with("started ") && first.notice.contains("a b#c%d"), "{}", first.notice);
    first.share();
    let second = embedded::join(&house.config).await.unwrap();
    assert!(!second.alone && !second.started);
    assert!(second.notice.starts_with("using the "), "{}", second.notice);

    let mut redis = connect(&house).await;
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
    let server = house.server().unwrap();
    let session = rustix::process::getsid(Some(server)).unwrap();
    assert_eq!(session, server, "the end of our terminal would reach it");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&house.config.state_dir), 0o700);
    assert_eq!(mode(&house.config.state_dir.join("server.sock")), 0o700);

    assert_eq!(first.leave(false).await.unwrap(), Left::InUse);
    let _: () = redis.set("key", "value").await.unwrap();
    assert_eq!(second.leave(true).await.unwrap(), Left::Kept);
    assert!(house.is_served());

    let third = embedded::join(&house.config).await.unwrap();
    assert!(third.alone && !third.started);
    assert_eq!(third.leave(false).await.unwrap(), Left::ShutDown);
    assert!(!house.is_served());

    let fourth = join_shared(&house.config).await;
    assert!(fourth.started);
    let value: String = connect(&house).await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn ten_processes_at_once_start_one_server() {
    let house = Household::new();
    let mut users: Vec<_> = (0..10).map(|_| house.user()).collect();
    let said: Vec<(bool, bool)> = users.iter_mut().map(household::UserProcess::joined).collect();
    assert_eq!(said.iter().filter(|(alone, _)| *alone).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|(_, started)| *started).count(), 1, "{said:?}");
    let left: Vec<String> = users.into_iter().map(household::UserProcess::leave).collect();
    assert_eq!(left.last().unwrap(), "ShutDown");
    assert!(left[..9].iter().all(|left| left == "InUse"), "{left:?}");
    assert!(!house.is_served());
}

#[tokio::test]
async fn many_who_come_and_go_at_once_never_meet_a_dead_server() {
    let house = Household::new();
    let visits = (0..10).map(async |_| {
        for _ in 0..3 {
            let joined = join_shared(&house.config).await;
            let pong: String = redis::cmd("PING").query_async(&mut connect(&house).await).await.unwrap();
            assert_eq!(pong, "PONG");
            joined.leave(false).await.unwrap();
        }
    });
    join_all(visits).await;
    assert!(!house.is_served());
}

#[tokio::test]
async fn a_server_outlives_the_kill_of_its_starter_who_is_no_user_any_more() {
    let house = Household::new();
    let mut starter = house.user();
    assert_eq!(starter.joined(), (true, true));
    starter.kill();
    let next = embedded::join(&house.config).await.unwrap();
    assert!(next.alone && !next.started);
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let house = Household::new();
    let first = join_shared(&house.config).await;
    let _: () = connect(&house).await.set("key", "value").await.unwrap();
    house.kill_server();
    assert!(house.config.state_dir.join("server.sock").exists(), "the stale socket is part of the test");
    assert_eq!(embedded::status(&house.config).await.unwrap().state, ServerState::Stopped);

    let second = embedded::join(&house.config).await.unwrap();
    assert!(second.started && !second.alone);
    let value: String = connect(&house).await.get("key").await.unwrap();
    assert_eq!(value, "value");
    drop(first);
}

#[tokio::test]
async fn a_stale_socket_of_nobody_is_no_hindrance() {
    let house = Household::new();
    fs::create_dir_all(&house.config.state_dir).unwrap();
    drop(UnixListener::bind(house.config.state_dir.join("server.sock")).unwrap());
    assert!(embedded::join(&house.config).await.unwrap().started);
}

#[tokio::test]
async fn a_folder_with_a_long_path_is_served_and_found_from_another_runtime_folder() {
    let house = Household::named(&"long".repeat(30));
    let first = join_shared(&house.config).await;
    assert!(first.started);
    let elsewhere =
        EmbeddedConfig { runtime_dir: house.folder.path().join("elsewhere"), ..house.config.clone() };
    let second = embedded::join(&elsewhere).await.unwrap();
    assert!(!second.started);
    drop((first, second));
}

#[tokio::test]
async fn when_the_recorded_server_is_gone_another_one_reads_its_data() {
    let mut house = Household::new();
    let real = real_server(&house.config);
    let usual = std::mem::take(&mut house.config.search_path);
    let recorded = house.folder.path().join("redis-server");
    symlink(&real, &recorded).unwrap();
    house.config.search_path = vec![house.folder.path().to_owned()];
    let first = join_shared(&house.config).await;
    let _: () = connect(&house).await.set("key", "value").await.unwrap();
    assert_eq!(first.leave(false).await.unwrap(), Left::ShutDown);

    house.config.search_path = usual;
    let second = join_shared(&house.config).await;
    assert!(second.notice.contains(&*recorded.to_string_lossy()), "it did not keep to the recorded one");
    assert_eq!(second.leave(false).await.unwrap(), Left::ShutDown);

    fs::remove_file(&recorded).unwrap();
    let third = join_shared(&house.config).await;
    assert!(third.notice.contains("; before it was "), "{}", third.notice);
    let value: String = connect(&house).await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn a_machine_without_a_server_is_told_so_and_nothing_is_left_locked() {
    let mut house = Household::new();
    let usual = std::mem::take(&mut house.config.search_path);
    let error = embedded::join(&house.config).await.unwrap_err();
    assert_eq!(error.to_string(), "no Redis or Valkey server, version 7.0 or newer, was found");
    house.config.search_path = usual;
    assert!(embedded::join(&house.config).await.unwrap().alone);
}

#[tokio::test]
async fn status_stop_and_reset() {
    let house = Household::new();
    let before = embedded::status(&house.config).await.unwrap();
    assert_eq!((before.state, before.in_use, before.server), (ServerState::Stopped, false, None));
    assert!(!house.config.state_dir.exists(), "looking made the folder");
    assert!(!embedded::stop(&house.config).await.unwrap());
    embedded::reset(&house.config, false).await.unwrap();

    let user = join_shared(&house.config).await;
    let _: () = connect(&house).await.set("key", "value").await.unwrap();
    let during = embedded::status(&house.config).await.unwrap();
    let ServerState::Running { process_id, clients } = during.state else { panic!("{during:?}") };
    assert_eq!(process_id.map(|id| id as i32), house.server().map(rustix::process::Pid::as_raw_pid));
    assert!(during.in_use && clients >= Some(1), "{during:?}");

    let server = house.server().unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::STOP).unwrap();
    let stuck = embedded::status(&house.config).await.unwrap().state;
    rustix::process::kill_process(server, rustix::process::Signal::CONT).unwrap();
    assert_eq!(stuck, ServerState::NotAnswering { process_id });

    let refused = embedded::reset(&house.config, false).await.unwrap_err();
    assert!(matches!(refused, EmbeddedError::InUse { .. }), "{refused}");
    assert!(house.is_served());
    assert!(embedded::stop(&house.config).await.unwrap());
    assert!(!house.is_served());
    drop(user);

    let user = join_shared(&house.config).await;
    assert!(user.started);
    embedded::reset(&house.config, true).await.unwrap();
    assert!(!house.is_served() && !house.config.state_dir.join("data").exists());
    drop(user);
    let _user = join_shared(&house.config).await;
    let value: Option<String> = connect(&house).await.get("key").await.unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn nobody_comes_in_while_one_who_is_alone_sweeps_up() {
    let house = Household::new();
    let mut first = embedded::join(&house.config).await.unwrap();
    let second = embedded::join(&house.config);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
    first.share();
    assert!(!second.await.unwrap().alone);
}
