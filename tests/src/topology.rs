//! Redis as more than one process: a Cluster, and a master with a replica that Sentinels watch.

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::programs::until;
use crate::redis::Redis;
use crate::redis::array;
use crate::redis::free_port;
use crate::redis::server_program;
use crate::redis::text;

/// The masters of a test's Cluster: the fewest that can agree on a new one.
const MASTERS: usize = 3;
/// The hash slots of a Cluster.
const SLOTS: usize = 16384;
/// The name of the master that Sentinels watch.
const MASTER_NAME: &str = "mine";

/// A Cluster of three masters with a replica each. Dropping the value kills all of them.
#[derive(Debug)]
pub struct Cluster {
    /// The masters first, then the replica of each.
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts the nodes and waits until each of them says that the Cluster is whole.
    pub fn start() -> Self {
        let cluster = Self { nodes: (0..2 * MASTERS).map(|_| start_node()).collect() };
        for (n, master) in cluster.nodes[..MASTERS].iter().enumerate() {
            let (first, last) = (n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS - 1);
            expect_ok(master, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        }
        for (n, node) in cluster.nodes.iter().enumerate() {
            expect_ok(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
            let bus = node.text("CLUSTER NODES");
            let bus = bus.split(['@', ' ', ',']).nth(2).unwrap().to_owned();
            expect_ok(&cluster.nodes[0], &format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.address().port()));
        }
        let known = format!("cluster_known_nodes:{}", 2 * MASTERS);
        until("all nodes know each other", || {
            cluster.nodes.iter().all(|node| node.text("CLUSTER INFO").contains(&known))
        });
        for n in 0..MASTERS {
            let id = cluster.nodes[n].text("CLUSTER MYID");
            let replica = &cluster.nodes[n + MASTERS];
            until("the replica knows its master", || {
                replica.command(&format!("CLUSTER REPLICATE {id}")) == "+OK"
            });
        }
        cluster.until_whole();
        cluster
    }

    /// Waits until every node that runs says that the Cluster is whole, and each replica follows its master.
    fn until_whole(&self) {
        until("the Cluster is whole", || {
            self.nodes.iter().all(|node| node.text("CLUSTER INFO").contains("cluster_state:ok"))
                && self.nodes[MASTERS..].iter().all(follows)
        });
    }

    /// The URL of the masters.
    pub fn url(&self) -> String {
        let addresses: Vec<String> =
            self.nodes[..MASTERS].iter().map(|node| node.address().to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The numbers of keys that the masters hold.
    pub fn sizes(&self) -> Vec<u64> {
        let size = |node: &Redis| node.command("DBSIZE").trim_start_matches(':').parse().unwrap();
        self.nodes[..MASTERS].iter().map(size).collect()
    }

    /// Waits until the replica of a master has what the master has, kills the master, and waits until the replica is
    /// the master.
    pub fn fail_over(&mut self, master: usize) {
        let replica = MASTERS + master;
        let offset = |node: &Redis| node.info("replication", "master_repl_offset");
        until("the replica has everything", || offset(&self.nodes[replica]) >= offset(&self.nodes[master]));
        self.nodes[master].kill();
        until("the replica is the master", || {
            self.nodes[replica].text("INFO replication").contains("role:master")
                && self.nodes[replica].text("CLUSTER INFO").contains("cluster_state:ok")
        });
    }

    /// Moves the slot of this key with all its keys from the master that has it to the next one, as `redis-cli
    /// --cluster reshard` does: in steps, between which clients are served.
    pub fn move_slot_of(&self, key: &str) {
        let slot = self.nodes[0].command(&format!("CLUSTER KEYSLOT {key}"));
        let slot = slot.trim_start_matches(':').to_owned();
        let ids: Vec<String> = self.nodes[..MASTERS].iter().map(|node| node.text("CLUSTER MYID")).collect();
        let owner = |node: &Redis| node.command(&format!("CLUSTER COUNTKEYSINSLOT {slot}")) != ":0";
        let from = self.nodes[..MASTERS].iter().position(owner).unwrap_or(0);
        let to = (from + 1) % MASTERS;
        expect_ok(&self.nodes[to], &format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[from]));
        expect_ok(&self.nodes[from], &format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[to]));
        let target = self.nodes[to].address();
        while let Some(key) = first_key(&self.nodes[from], &slot) {
            let moved = format!("MIGRATE {} {} {key} 0 5000", target.ip(), target.port());
            let answer = self.nodes[from].command(&moved);
            assert!(answer == "+OK" || answer == "+NOKEY", "{key}: {answer}");
        }
        for node in [to, from].into_iter().chain((0..MASTERS).filter(|n| *n != to && *n != from)) {
            expect_ok(&self.nodes[node], &format!("CLUSTER SETSLOT {slot} NODE {}", ids[to]));
        }
    }
}

/// A key of a slot; `None` once it is empty.
fn first_key(node: &Redis, slot: &str) -> Option<String> {
    let keys = node.array(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
    keys.into_iter().next()
}

fn start_node() -> Redis {
    let bus = free_port().to_string();
    Redis::with_settings(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "1000",
        "--appendfsync",
        "everysec",
    ])
}

fn expect_ok(node: &Redis, command: &str) {
    assert_eq!(node.command(command), "+OK", "{command}");
}

fn follows(replica: &Redis) -> bool {
    replica.text("INFO replication").contains("master_link_status:up")
}

/// A master with a replica, and three Sentinels that watch them. Dropping the value kills all of them.
#[derive(Debug)]
pub struct Watched {
    master: Redis,
    replica: Redis,
    sentinels: Vec<Sentinel>,
}

impl Watched {
    /// Starts all of them and waits until the Sentinels know the replica and each other.
    pub fn start() -> Self {
        Self::start_with(server_program())
    }

    /// The same with this program as each server.
    pub fn start_with(program: &str) -> Self {
        let master = Redis::of_program(program, &[]);
        let port = master.address().port().to_string();
        let replica = Redis::of_program(program, &["--replicaof", &format!("127.0.0.1 {port}")]);
        until("the replica follows the master", || follows(&replica));
        let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(program, &port)).collect();
        until("the Sentinels know everything", || {
            sentinels.iter().all(|sentinel| {
                let known = text(sentinel.address, "INFO sentinel");
                known.contains("status=ok") && known.contains("slaves=1,sentinels=3")
            })
        });
        Self { master, replica, sentinels }
    }

    /// The URL of the Sentinels.
    pub fn url(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("redis+sentinel://{}/{MASTER_NAME}", addresses.join(","))
    }

    /// Waits until the replica has what the master has, kills the master, and waits until the Sentinels have made the
    /// replica the master.
    pub fn fail_over(&mut self) {
        let offset = |node: &Redis| node.info("replication", "master_repl_offset");
        until("the replica has everything", || offset(&self.replica) >= offset(&self.master));
        self.lose_master();
    }

    /// Cuts the replica off: it stands still, and the master no longer sends it anything.
    pub fn cut_replica_off(&self) {
        self.replica.signal(Signal::STOP);
        assert_eq!(self.master.command("CLIENT KILL TYPE replica"), ":1");
    }

    /// Kills the master with all that its replica lacks, and waits until the Sentinels have made the replica, which may be
    /// cut off, the master.
    pub fn lose_master(&mut self) {
        self.master.kill();
        self.replica.signal(Signal::CONT);
        let port = self.replica.address().port().to_string();
        let asked = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER_NAME}");
        until("every Sentinel names the replica as the master", || {
            self.sentinels.iter().all(|sentinel| array(sentinel.address, &asked).last() == Some(&port))
        });
    }
}

/// One Sentinel.
#[derive(Debug)]
struct Sentinel {
    address: SocketAddr,
    child: Child,
    // It keeps its state in its configuration file.
    _folder: TempDir,
}

impl Sentinel {
    fn start(program: &str, master_port: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let settings = [
            format!("port {}", address.port()),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} 2"),
            format!("sentinel down-after-milliseconds {MASTER_NAME} 1000"),
            format!("sentinel failover-timeout {MASTER_NAME} 3000"),
        ];
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, settings.join("\n")).unwrap();
        let mut command = Command::new(program);
        let child = command.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        until("the Sentinel listens", || TcpStream::connect(address).is_ok());
        Self { address, child, _folder: folder }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
