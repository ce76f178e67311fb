//! Hosts with a network between them: one is cut off and returns, packets vanish without a reset, links are slow and lossy.

use std::fs;

use legwork_tests::network::Host;
use legwork_tests::network::Network;
use legwork_tests::network::NetworkRedis;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::is_alive;
use legwork_tests::programs::until;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

/// Words of the long reply: some hundred packets.
const WORDS: usize = 2_000;

/// A Redis, an orchestrator and two workers, on hosts of their own.
struct Hosts {
    redis: NetworkRedis,
    orchestrator: Host,
    workers: [Host; 2],
    state: StateFolder,
    team: Team,
    _network: Network,
}

/// The reply of `quick`.
fn long_text() -> String {
    (0..WORDS).map(|n| format!("word{n} ")).collect()
}

impl Hosts {
    /// `None` if the test must be skipped.
    fn start() -> Option<Self> {
        let mut network = Network::start()?;
        let redis = NetworkRedis::start(&mut network);
        let [orchestrator, first, second] = [(); 3].map(|()| network.host());
        let mut state = StateFolder::on(&redis.url());
        let (go, shells) = (state.path("go"), state.path("shells"));
        let waits =
            format!("echo $$ >> {}; while ! test -e {}; do sleep 0.1; done", shells.display(), go.display());
        let script = json!({
            "quick": [{"text": long_text()}],
            "shell": [calls("shell", &json!({"cmd": waits, "timeout": 60})), {"text": "one two three"}],
        });
        let team = Team::write(&mut state, &script);
        Some(Self { redis, orchestrator, workers: [first, second], state, team, _network: network })
    }

    /// Starts a worker at one of the two hosts; what is run later is run by the orchestrator.
    fn worker(&mut self, number: usize) -> Program {
        self.state.move_to(&self.workers[number]);
        let worker = self.state.worker(&[]);
        self.state.move_to(&self.orchestrator);
        worker
    }

    /// Dispatches a job whose command waits for a file, and waits until it runs.
    fn waiting_job(&self) -> String {
        let id = self.state.dispatch(&[&self.team.file, "shell", "go"]);
        self.state.until_output(&id, "I call shell");
        until("the command runs", || !self.shells().is_empty());
        id
    }

    /// The process ids of the commands that were run.
    fn shells(&self) -> Vec<u32> {
        let noted = fs::read_to_string(self.state.path("shells")).unwrap_or_default();
        noted.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Dispatches a job and waits until its whole output is there.
    fn completes_a_long_job(&self) {
        let id = self.state.dispatch(&[&self.team.file, "quick", "go"]);
        self.has_long_output(&id);
    }

    fn has_long_output(&self, id: &str) {
        until(&format!("{id} has completed"), || {
            self.asked(&["view", id, "--json"])["status"] == "completed"
        });
        let read = self.asked(&["view", id, "--json", "--since", "0"]);
        let output = read["output"].as_str().unwrap();
        // A suspended attempt says so before the turn that it repeats.
        assert!(output.contains(long_text().trim_end()), "{} bytes: {output:.200}", output.len());
    }

    /// What a command prints, asked until it reaches Redis: on a lossy link some do not.
    fn asked(&self, arguments: &[&str]) -> Value {
        let mut printed = None;
        until("the command reaches Redis", || {
            let output = self.state.legwork(arguments);
            assert!([0, 5].contains(&output.status), "{output:?}");
            printed = output.json_lines().pop();
            output.status == 0
        });
        printed.unwrap()
    }
}

#[test]
fn a_worker_that_is_cut_off_ends_its_commands_and_works_again_once_it_is_back() {
    let Some(mut hosts) = Hosts::start() else { return };
    let _first = hosts.worker(0);
    let id = hosts.waiting_job();
    let mut second = hosts.worker(1);

    hosts.workers[0].cut_off();
    // The command may have had effects, so the other worker tells the model of it and does not run it again.
    let view = hosts.state.until_status(&id, "completed");
    assert_eq!(view["attempt"], 2, "{view}");
    assert_eq!(view["past_attempts"][0]["end"], "worker_lost", "{view}");
    // The worker that was cut off cannot be told: its lease ends the command.
    let [shell] = hosts.shells()[..] else { panic!("{:?}", hosts.shells()) };
    until("the command of the worker that was cut off has ended", || !is_alive(shell));

    hosts.workers[0].receive_all();
    second.signal(Signal::TERM);
    assert_eq!(second.wait(), 0);
    hosts.completes_a_long_job();
    assert_eq!(hosts.state.view(&id), view, "a late attempt changes nothing");
}

#[test]
fn a_redis_that_is_cut_off_from_all_loses_no_job() {
    let Some(mut hosts) = Hosts::start() else { return };
    let _workers = [hosts.worker(0), hosts.worker(1)];
    let id = hosts.waiting_job();
    let [shell] = hosts.shells()[..] else { panic!("{:?}", hosts.shells()) };

    hosts.redis.host.cut_off();
    until("the command ends with its lease", || !is_alive(shell));
    let refused = hosts.state.legwork(["list"]);
    assert_eq!(refused.status, 5, "{refused:?}");
    hosts.redis.host.receive_all();

    hosts.state.file("go", "");
    hosts.state.until_status(&id, "completed");
    hosts.completes_a_long_job();
}

#[test]
fn connections_that_fall_silent_are_replaced() {
    let Some(mut hosts) = Hosts::start() else { return };
    let _worker = hosts.worker(0);
    let id = hosts.waiting_job();
    hosts.redis.silence_open_connections();
    // New connections are served: what the orchestrator says arrives, and the worker hears it.
    hosts.state.legwork(["stop", &id]).expect_success();
    assert_eq!(hosts.state.until_status(&id, "stopped")["cause"], "operator");
    let [shell, ..] = hosts.shells()[..] else { panic!("no command ran") };
    until("the command has ended", || !is_alive(shell));
    hosts.completes_a_long_job();
}

#[test]
fn a_slow_and_lossy_link_loses_no_output() {
    let Some(mut hosts) = Hosts::start() else { return };
    let _workers = [hosts.worker(0), hosts.worker(1)];
    for host in [&hosts.redis.host, &hosts.orchestrator, &hosts.workers[0], &hosts.workers[1]] {
        host.limit_rate(2_000);
        host.drop_received("-m statistic --mode random --probability 0.03");
    }
    let keys: Vec<String> = (0..10).map(|n| format!("job-{n}")).collect();
    let dispatched = keys
        .iter()
        .map(|key| hosts.asked(&["dispatch", "--json", "--key", key, &hosts.team.file, "quick", "go"]));
    let ids: Vec<Value> = dispatched.map(|job| job["id"].clone()).collect();
    for id in &ids {
        hosts.has_long_output(id.as_str().unwrap());
    }
    assert!(hosts.redis.host.dropped() > 0);
    hosts.redis.host.receive_all();
    hosts.orchestrator.receive_all();
    assert_eq!(
        hosts.state.legwork(["list", "--json"]).json_lines().len(),
        ids.len(),
        "none was stored twice"
    );
}

/// As behind a tunnel whose routers are silent about their packet size: what is small passes, what is large vanishes.
#[test]
fn a_link_that_drops_large_packets_is_an_error_and_loses_nothing() {
    const LARGE: &str = "-m length --length 600:65535";
    let Some(mut hosts) = Hosts::start() else { return };
    let _worker = hosts.worker(0);
    hosts.redis.host.drop_received(LARGE);
    let task = "a long task ".repeat(500);
    let dispatch = ["dispatch", "--key", "once", &hosts.team.file, "quick", &task];
    let refused = hosts.state.legwork(dispatch);
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(refused.stderr.contains("timed out"), "{refused:?}");
    hosts.redis.host.receive_all();
    let id = hosts.state.legwork(dispatch).expect_success();
    let id = id.split_whitespace().next().unwrap();
    hosts.has_long_output(id);
    assert_eq!(hosts.state.legwork(["list", "--json"]).json_lines().len(), 1);

    // A worker whose output vanishes keeps it, and writes it later.
    let go = hosts.waiting_job();
    hosts.redis.host.drop_received(LARGE);
    hosts.state.file("go", "");
    until("something of the worker's has vanished", || hosts.redis.host.dropped() > 0);
    hosts.redis.host.receive_all();
    let view = hosts.state.until_status(&go, "completed");
    assert!(view["output"].as_str().unwrap().ends_with("one two three"), "{view}");
}
