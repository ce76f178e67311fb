//! The users of `deploy/redis/users.acl` can do what their roles need, and no more.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpStream;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use legwork_tests::topology::Cluster;
use legwork_tests::topology::Watched;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

const USERS: &str = include_str!("../../../deploy/redis/users.acl");

/// A Redis with the users, whose default user stays for the test.
fn redis() -> Redis {
    let redis = Redis::start();
    add_users(&redis);
    redis
}

fn add_users(redis: &Redis) {
    for line in USERS.lines().filter(|line| !line.contains("default")) {
        let rules = line.strip_prefix("user ").unwrap();
        assert_eq!(redis.command(&format!("ACL SETUSER {rules}")), "+OK", "{rules}");
    }
}

/// A URL with the login of a role.
fn as_role(url: &str, role: &str) -> String {
    url.replacen("://", &format!("://legwork-{role}:CHANGE-ME-{role}@"), 1)
}

/// The first line of the reply to a command of a user.
fn ask(redis: &Redis, role: &str, command: &str) -> String {
    let mut stream = TcpStream::connect(redis.address()).unwrap();
    write!(stream, "AUTH legwork-{role} CHANGE-ME-{role}\r\n{command}\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    assert_eq!(lines.next().unwrap(), "+OK");
    lines.next().unwrap()
}

#[test]
fn each_role_can_do_its_work_and_no_more() {
    let redis = redis();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({
        "root": [calls("run_background_agent", &json!({"agent": "quick", "task": "t"})), {"text": "a"}, {"text": "b"}],
        "quick": [{"text": "done"}],
    });
    let team = Team::write(&mut state, &script);
    let log_in = |state: &mut StateFolder, role: &str| {
        state.set(variables::REDIS_URL, &as_role(&redis.url(), role));
    };

    log_in(&mut state, "dispatcher");
    let waiting = state.dispatch(&[&team.file, "quick", "go", "--queue", "unserved"]);
    let id = state.dispatch(&[&team.file, "root", "go"]);
    log_in(&mut state, "worker");
    let _worker = state.worker(&[]);
    state.until_status(&id, "completed");

    log_in(&mut state, "viewer");
    assert_eq!(state.view(&id)["status"], "completed");
    assert!(state.legwork(["list", "--json"]).json_lines().len() >= 3);
    assert_eq!(state.legwork(["workers", "--json"]).json_lines().len(), 1);
    state.legwork(["wait", &id]).expect_success();
    for refused in [
        vec!["stop", &waiting, "--yes"],
        vec!["dispatch", &team.file, "quick", "x"],
        vec!["delete", &id, "--yes"],
    ] {
        assert_ne!(state.legwork(&refused).status, 0, "{refused:?}");
    }
    log_in(&mut state, "dispatcher");
    assert_eq!(state.view(&waiting)["status"], "queued");
    assert_eq!(state.view(&id)["status"], "completed");
    state.legwork(["stop", &waiting, "--yes"]).expect_success();
    state.legwork(["delete", &id, "--yes"]).expect_success();

    let job = redis.keys("*:job:*").remove(0);
    let lane = redis.keys("*:ready:*").into_iter().next();
    for role in ["worker", "dispatcher", "viewer", "scaler"] {
        for command in
            ["FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "ACL LIST", "SET other 1", "GET other"]
        {
            let answer = ask(&redis, role, command);
            assert!(answer.starts_with("-NOPERM"), "{role} {command}: {answer}");
        }
    }
    assert!(ask(&redis, "viewer", &format!("HSET {job} state stopped")).starts_with("-NOPERM"));
    assert!(ask(&redis, "scaler", &format!("HGET {job} state")).starts_with("-NOPERM"));
    if let Some(lane) = lane {
        assert!(ask(&redis, "scaler", &format!("XLEN {lane}")).starts_with(':'));
    }
}

/// Dispatches a job, has a worker complete it, and views it, each as the user of its role.
fn serves_each_role(url: &str) {
    let mut state = StateFolder::on(&as_role(url, "dispatcher"));
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    state.set(variables::REDIS_URL, &as_role(url, "worker"));
    let _worker = state.worker(&[]);
    state.set(variables::REDIS_URL, &as_role(url, "viewer"));
    state.until_status(&id, "completed");
}

#[test]
fn each_role_finds_the_master_of_a_cluster_and_that_of_sentinels() {
    let cluster = Cluster::start();
    cluster.nodes().for_each(add_users);
    serves_each_role(&cluster.url());
    let watched = Watched::start();
    watched.pair().servers().iter().for_each(add_users);
    serves_each_role(&watched.url());
}
