//! Redis as a Cluster, and as a master that Sentinels name: what is accepted ends, while masters fail and slots move.

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use legwork_tests::tools::installed_by;
use legwork_tests::topology::Cluster;
use legwork_tests::topology::Watched;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Jobs of a test: with a session each, they are in most of a Cluster's shards.
const JOBS: usize = 30;

/// An agent that answers at once, one that waits for a file, and one with a child.
fn script(state: &StateFolder) -> Value {
    let go = state.path("go").display().to_string();
    json!({
        "quick": [{"text": "fine"}],
        "shell": [
            calls("shell", &json!({"cmd": format!("while ! test -e {go}; do sleep 0.1; done"), "timeout": 60})),
            {"text": "one two three"},
        ],
        "nested": [
            calls("run_background_agent", &json!({"agent": "quick", "task": "hello"})),
            {"text": "sent"},
            {"text": "{{last_user}}"},
        ],
    })
}

fn dispatch_all(state: &StateFolder, team: &Team, agent: &str) -> Vec<String> {
    (0..JOBS).map(|_| state.dispatch(&[&team.file, agent, "go"])).collect()
}

/// Waits for jobs, and holds each to have completed.
fn all_complete(state: &StateFolder, ids: &[String]) {
    let output =
        state.legwork(["wait", "--timeout", "60s"].into_iter().chain(ids.iter().map(String::as_str)));
    assert_eq!(output.status, 0, "{output:?}");
    for id in ids {
        assert_eq!(state.view(id)["status"], "completed", "{id}");
    }
}

#[test]
fn a_cluster_serves_every_command() {
    let cluster = Cluster::start();
    let mut state = StateFolder::on(&cluster.url());
    let script = script(&state);
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let mut ids = dispatch_all(&state, &team, "quick");
    ids.push(state.dispatch(&[&team.file, "nested", "go"]));
    all_complete(&state, &ids);
    assert!(cluster.sizes().iter().all(|size| *size > 0), "{:?}", cluster.sizes());
    let listed = state.legwork(["list", "--json", "--limit", "100"]).json_lines();
    assert_eq!(listed.len(), JOBS + 2, "{listed:?}");

    let running = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_output(&running, "I call shell");
    state.legwork(["stop", &running]).expect_success();
    assert_eq!(state.until_status(&running, "stopped")["cause"], "operator");
    let deleted = state.legwork(["delete", &ids[1]]);
    assert_eq!(deleted.status, 0, "{deleted:?}");
    assert_eq!(state.legwork(["doctor"]).status, 0);
}

#[test]
fn a_cluster_that_loses_a_master_completes_what_it_accepted() {
    let mut cluster = Cluster::start();
    let mut state = StateFolder::on(&cluster.url());
    let script = script(&state);
    let team = Team::write(&mut state, &script);
    let _workers = [state.worker(&[]), state.worker(&[])];
    let ids = dispatch_all(&state, &team, "shell");
    for id in &ids {
        state.until_output(id, "I call shell");
    }
    cluster.fail_over(0);
    state.file("go", "");
    all_complete(&state, &ids);
    all_complete(&state, &dispatch_all(&state, &team, "quick"));
}

#[test]
fn slots_move_while_jobs_run_and_none_is_lost() {
    let cluster = Cluster::start();
    let mut state = StateFolder::on(&cluster.url());
    let script = script(&state);
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let running = dispatch_all(&state, &team, "shell");
    let mut ended = Vec::new();
    for shard in 0..16 {
        cluster.move_slot_of(&format!("{{legwork:default:{shard}}}"));
        ended.push(state.dispatch(&[&team.file, "nested", "go"]));
    }
    cluster.move_slot_of("legwork:default:meta");
    state.file("go", "");
    all_complete(&state, &running);
    all_complete(&state, &ended);
    let listed = state.legwork(["list", "--json", "--limit", "200"]).json_lines();
    assert_eq!(listed.len(), JOBS + 2 * 16);
}

#[test]
fn a_server_that_wants_certificates_of_its_clients_gets_them_from_the_files_that_the_url_names() {
    let redis = Redis::with_client_certificates();
    let mut state = StateFolder::on(&redis.url_with_certificates());
    let script = script(&state);
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    all_complete(&state, &[state.dispatch(&[&team.file, "quick", "go"])]);

    let url = redis.url_with_certificates();
    let (without_key, _) = url.split_once("&cert").unwrap();
    let refused = state.legwork(["list", "--redis", without_key]);
    assert_eq!(refused.status, 5, "{refused:?}");
    let (none, _) = url.split_once('?').unwrap();
    let missing = state.legwork(["list", "--redis", &format!("{none}?ca=/no/such/file")]);
    assert_eq!(missing.status, 2, "{missing:?}");
    assert!(missing.stderr.contains("`/no/such/file` cannot be read"), "{missing:?}");
}

#[test]
fn a_master_that_sentinels_replace_loses_nothing_that_its_replica_had() {
    let mut redis = Watched::start();
    let mut state = StateFolder::on(&redis.url());
    let script = script(&state);
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&[]);
    let running = dispatch_all(&state, &team, "shell");
    for id in &running {
        state.until_output(id, "I call shell");
    }
    let listed = state.legwork(["list", "--json", "--limit", "100"]).json_lines().len();
    assert_eq!(listed, JOBS);
    redis.fail_over();
    state.file("go", "");
    all_complete(&state, &running);
    all_complete(&state, &dispatch_all(&state, &team, "quick"));
}

/// What a failover must not lose with `--durable`, and what it loses without.
#[test]
fn what_is_acknowledged_with_durable_is_counted_exactly_across_a_failover() {
    // This system's server may be older than WAITAOF.
    let Some(server) = installed_by("server-valkey-9.1/redis-server", "install-servers") else { return };
    let mut redis = Watched::of_program(&server);
    let mut state = StateFolder::on(&redis.url());
    // Longer than the failover takes on a busy machine: for so long the worker repeats the ends.
    state.set("LEGWORK_LEASE", "120s");
    let script = script(&state);
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&["--durable=1"]);
    let durable =
        |key: &str| state.legwork(["dispatch", "--durable=1", "--key", key, &team.file, "shell", "go"]);
    let id_of = |printed: &str| printed.split_whitespace().next().unwrap().to_owned();
    let mut acknowledged: Vec<String> =
        (0..5).map(|number| id_of(&durable(&format!("early-{number}")).expect_success())).collect();
    for id in &acknowledged {
        state.until_output(id, "I call shell");
    }

    // The master writes on, and its replica gets nothing of it.
    redis.cut_replica_off();
    let without = state.dispatch(&[&team.file, "shell", "go"]);
    let refused = durable("late");
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(refused.stderr.contains("0 of 1 replicas"), "{refused:?}");
    // The jobs end on the master alone.
    state.file("go", "");
    until("the jobs have ended", || acknowledged.iter().all(|id| state.view(id)["status"] == "completed"));
    redis.lose_master();

    // Their ends are recorded again, and none is attempted again.
    all_complete(&state, &acknowledged);
    for id in &acknowledged {
        assert_eq!(state.view(id)["attempt"], 1, "{id}");
    }
    assert_eq!(state.legwork(["view", &without]).status, 3, "without --durable it was lost");
    // The new master has no replica, so that its own file is all that can confirm.
    let late =
        state.legwork(["dispatch", "--durable", "--key", "late", &team.file, "shell", "go"]).expect_success();
    acknowledged.push(id_of(&late));
    let again =
        state.legwork(["dispatch", "--durable", "--key", "late", &team.file, "shell", "go"]).expect_success();
    assert_eq!(id_of(&again), id_of(&late));
    all_complete(&state, &acknowledged);
    let listed = state.legwork(["list", "--json", "--limit", "100"]).json_lines();
    assert_eq!(listed.len(), acknowledged.len(), "{listed:?}");
}

#[test]
fn durable_is_refused_where_the_server_cannot_confirm() {
    let redis = Redis::start();
    // One before 7.2 does not know WAITAOF; a later one wants its file for it.
    redis.command("CONFIG SET appendonly no");
    let state = StateFolder::on(&redis.url());
    let refused = state.legwork(["list", "--durable"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("`--durable` cannot be kept: "), "{refused:?}");
    assert!(refused.stderr.contains("it needs Redis or Valkey 7.2"), "{refused:?}");
    assert_eq!(state.legwork(["list"]).status, 0);
}
