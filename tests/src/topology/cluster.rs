//! A Cluster of three masters with a replica each.

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::programs::is_reached;
use crate::programs::until;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::redis::free_port;
use crate::redis::server_program;
use crate::topology::Loss;
use crate::topology::Pair;
use crate::topology::expect_ok;

/// The masters of a test's Cluster: the fewest that can agree on a new one.
const MASTERS: usize = 3;
/// The hash slots of a Cluster.
const SLOTS: usize = 16384;
/// How long a failover on request may take before the master gives it up.
const FAILOVER_LIMIT: Duration = Duration::from_secs(6);

/// Three masters with a replica each. Dropping the value kills all of them.
#[derive(Debug)]
pub struct Cluster {
    /// A master and its replica each.
    parts: Vec<Pair>,
}

impl Cluster {
    /// Starts the nodes and waits until each of them says that the Cluster is whole.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// The same with a proxy in front of each node, whose port the node announces: clients and replicas find it there. Only
    /// the bus on which the nodes talk about each other is not behind proxies, so that a fault of these replaces no master.
    pub fn start_behind_proxies() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_proxied: bool) -> Self {
        let part = |_| Pair::start(server_program(), is_proxied, node_settings);
        let cluster = Self { parts: (0..MASTERS).map(part).collect() };
        cluster.assign_slots();
        cluster.introduce_nodes();
        for part in &cluster.parts {
            let id = part.servers()[0].text("CLUSTER MYID");
            until("the replica knows its master", || {
                part.servers()[1].command(&format!("CLUSTER REPLICATE {id}")) == "+OK"
            });
        }
        until("the Cluster is whole", || cluster.is_whole());
        cluster
    }

    fn assign_slots(&self) {
        for (n, part) in self.parts.iter().enumerate() {
            let (first, last) = (n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS - 1);
            expect_ok(&part.servers()[0], &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            for (server, node) in part.servers().iter().enumerate() {
                expect_ok(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", server * MASTERS + n + 1));
            }
        }
    }

    /// Has the first node meet all others, which learn of each other from it.
    fn introduce_nodes(&self) {
        let first = &self.parts[0].servers()[0];
        for part in &self.parts {
            for (server, node) in part.servers().iter().enumerate() {
                let bus = node.text("CLUSTER NODES");
                let bus = bus.split(['@', ' ', ',']).nth(2).unwrap().to_owned();
                if node.address() != first.address() {
                    let port = part.announced(server).port();
                    expect_ok(first, &format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
                }
            }
        }
        let known = format!("cluster_known_nodes:{}", 2 * MASTERS);
        let knows_all = |node: &Redis| node.text("CLUSTER INFO").contains(&known);
        until("all nodes know each other", || self.nodes().all(knows_all));
    }

    /// Whether every node says that the Cluster is whole, and each master has its replica.
    pub fn is_whole(&self) -> bool {
        let is_ok = |node: &Redis| node.text("CLUSTER INFO").contains("cluster_state:ok");
        self.parts.iter().all(|part| part.is_whole() && part.servers().iter().all(is_ok))
    }

    /// The URL of the masters.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.parts.iter().map(|part| part.announced(0).to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The number of masters with their replicas.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Redis> {
        self.parts.iter().flat_map(Pair::servers)
    }

    /// The masters, while the Cluster is whole.
    pub fn masters(&self) -> Vec<&Redis> {
        self.parts.iter().map(|part| &part.servers()[part.master()]).collect()
    }

    /// The proxies in front of all nodes.
    pub fn proxies(&self) -> Vec<&Proxy> {
        self.parts.iter().flat_map(Pair::proxies).collect()
    }

    /// The numbers of keys that the masters hold.
    pub fn sizes(&self) -> Vec<u64> {
        let size = |node: &Redis| node.command("DBSIZE").trim_start_matches(':').parse().unwrap();
        self.masters().into_iter().map(size).collect()
    }

    /// Waits until the replica of a master has what the master has, kills the master, and waits until the replica is
    /// the master.
    pub fn fail_over(&mut self, part: usize) {
        until("the replica has everything", || self.lose_master(part, Loss::Killed));
        self.until_replaced(part);
    }

    /// Loses a master once its replica has what it acknowledged; `false` where that does not happen in time.
    pub fn lose_master(&mut self, part: usize, loss: Loss) -> bool {
        self.parts[part].lose_settled_master(loss)
    }

    fn until_replaced(&self, part: usize) {
        let part = &self.parts[part];
        until("the replica is the master", || {
            part.is_replaced()
                && part.servers()[part.master()].text("CLUSTER INFO").contains("cluster_state:ok")
        });
    }

    /// Waits until the replica of a lost master is the master, brings that one back, and waits until it is the replica.
    pub fn bring_back(&mut self, part: usize) {
        self.until_replaced(part);
        let Some(server) = self.parts[part].bring_back() else { return };
        let part = &self.parts[part];
        until("the old master is a replica", || !part.masters().contains(&server));
        // Those that waited learn where the master is.
        expect_ok(&part.servers()[server], "CLIENT UNPAUSE");
    }

    /// Has a master change places with its replica, as an operator does; `false` where they do not agree in time.
    pub fn request_failover(&self, part: usize) -> bool {
        let part = &self.parts[part];
        let replica = 1 - part.master();
        part.servers()[replica].command("CLUSTER FAILOVER");
        is_reached(FAILOVER_LIMIT, || part.masters() == [replica])
    }

    /// Lets a master stand still for this long: for less than the node timeout of a second, it is not replaced.
    pub fn stall_master(&self, part: usize, duration: Duration) {
        let part = &self.parts[part];
        let master = &part.servers()[part.master()];
        let end = Instant::now() + duration;
        master.signal(Signal::STOP);
        until("the time is over", || Instant::now() >= end);
        master.signal(Signal::CONT);
    }

    /// Ends the faults of the proxies in front of a master and its replica, without which the two cannot agree.
    pub fn reconnect(&self, part: usize) {
        for proxy in self.parts[part].proxies() {
            proxy.delay(Duration::ZERO);
            proxy.restore();
        }
    }

    /// Moves the slot of this key with all its keys from the master that has it to the next one, as `redis-cli
    /// --cluster reshard` does: in steps, between which clients are served.
    pub fn move_slot_of(&self, key: &str) {
        let masters = self.masters();
        let slot = slot_of(masters[0], key);
        let ids: Vec<String> = masters.iter().map(|node| node.text("CLUSTER MYID")).collect();
        let from = masters.iter().position(|master| has_slot(master, slot)).unwrap();
        let to = (from + 1) % MASTERS;
        expect_ok(masters[to], &format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[from]));
        expect_ok(masters[from], &format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[to]));
        let target = masters[to].address();
        while let Some(key) = first_key(masters[from], slot) {
            let moved = format!("MIGRATE {} {} {key} 0 5000", target.ip(), target.port());
            let answer = masters[from].command(&moved);
            assert!(answer == "+OK" || answer == "+NOKEY", "{key}: {answer}");
        }
        for node in [to, from].into_iter().chain((0..MASTERS).filter(|n| *n != to && *n != from)) {
            expect_ok(masters[node], &format!("CLUSTER SETSLOT {slot} NODE {}", ids[to]));
        }
    }

    /// Has the master of this key's slot, which must be empty, name another master, which names it in turn. What is returned
    /// ends that.
    pub fn contest_slot_of(&self, key: &str) -> impl FnOnce() {
        let masters = self.masters();
        let slot = slot_of(masters[0], key);
        let at = masters.iter().position(|master| has_slot(master, slot)).unwrap();
        let owner = masters[at];
        let [own, other] = [owner, masters[(at + 1) % MASTERS]].map(|node| node.text("CLUSTER MYID"));
        expect_ok(owner, &format!("CLUSTER SETSLOT {slot} NODE {other}"));
        move || expect_ok(owner, &format!("CLUSTER SETSLOT {slot} NODE {own}"))
    }
}

fn slot_of(node: &Redis, key: &str) -> usize {
    let slot = node.command(&format!("CLUSTER KEYSLOT {key}"));
    slot.trim_start_matches(':').parse().unwrap()
}

/// A key of a slot; `None` once it is empty.
fn first_key(node: &Redis, slot: usize) -> Option<String> {
    let keys = node.array(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
    keys.into_iter().next()
}

/// Whether a node has a slot, as it knows itself.
fn has_slot(node: &Redis, slot: usize) -> bool {
    let nodes = node.text("CLUSTER NODES");
    let own = nodes.lines().find(|line| line.contains("myself")).unwrap();
    let ranges = own.split_whitespace().skip(8).filter(|range| !range.starts_with('['));
    let has = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&slot)
    };
    ranges.into_iter().any(has)
}

fn node_settings(announced: u16) -> Vec<String> {
    let (bus, announced) = (free_port().to_string(), announced.to_string());
    let settings = [
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &bus],
        ["--cluster-announce-port", &announced],
        ["--cluster-node-timeout", "1000"],
        ["--appendfsync", "everysec"],
    ];
    settings.concat().into_iter().map(str::to_owned).collect()
}
