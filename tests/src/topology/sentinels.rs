//! A master with a replica, and three Sentinels that watch them.

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
use crate::redis::array;
use crate::redis::first_line;
use crate::redis::free_port;
use crate::redis::server_program;
use crate::redis::text;
use crate::topology::Loss;
use crate::topology::Pair;
use crate::topology::expect_ok;

/// After how long without an answer a server is down, in milliseconds; where it is behind a proxy longer, so that most faults of
/// that pass before.
const DOWN_AFTER: u32 = 1000;
const DOWN_AFTER_BEHIND_PROXY: u32 = 2500;
/// The name of the master that Sentinels watch.
const MASTER_NAME: &str = "mine";

/// A master with a replica, and three Sentinels that watch them. Dropping the value kills all of them.
#[derive(Debug)]
pub struct Watched {
    pair: Pair,
    sentinels: Vec<Sentinel>,
}

impl Watched {
    /// Starts all of them and waits until the Sentinels know the replica and each other.
    pub fn start() -> Self {
        Self::start_with(server_program(), false)
    }

    /// The same with this program as each server.
    pub fn of_program(program: &str) -> Self {
        Self::start_with(program, false)
    }

    /// The same with a proxy in front of each server, whose port it announces: clients, Sentinels and the replica find it
    /// there, so that a fault of the proxy that lasts longer than two and a half seconds replaces the master.
    pub fn behind_proxies(program: &str) -> Self {
        Self::start_with(program, true)
    }

    fn start_with(program: &str, is_proxied: bool) -> Self {
        let pair = Pair::start(program, is_proxied, |announced| {
            vec!["--replica-announce-port".to_owned(), announced.to_string()]
        });
        let port = pair.announced(0).port();
        // Not a setting: a server that starts again is the master until it is told.
        expect_ok(&pair.servers()[1], &format!("REPLICAOF 127.0.0.1 {port}"));
        until("the replica follows the master", || pair.is_whole());
        let down_after = if is_proxied { DOWN_AFTER_BEHIND_PROXY } else { DOWN_AFTER };
        let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(program, port, down_after)).collect();
        until("the Sentinels know everything", || {
            sentinels.iter().all(|sentinel| {
                let known = text(sentinel.address, "INFO sentinel");
                known.contains("status=ok") && known.contains("slaves=1,sentinels=3")
            })
        });
        Self { pair, sentinels }
    }

    /// The URL of the Sentinels.
    pub fn url(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("redis+sentinel://{}/{MASTER_NAME}", addresses.join(","))
    }

    /// The master and its replica.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// The same, to lose one of them.
    pub fn pair_mut(&mut self) -> &mut Pair {
        &mut self.pair
    }

    /// Whether one server is the master, the other follows it, and all Sentinels say so.
    pub fn is_whole(&self) -> bool {
        self.settled_master().is_some()
    }

    /// The master that the other server follows, where all Sentinels name it.
    pub fn settled_master(&self) -> Option<usize> {
        self.pair.followed_master().filter(|&master| self.is_named(master))
    }

    /// Has a server that takes itself for the master, and was replaced, follow the one that all Sentinels name; whether there was
    /// one. They do it themselves, after some ten seconds.
    pub fn demote_replaced(&self) -> bool {
        let named = self.sentinels[0].master_port();
        let masters = self.pair.masters();
        let Some(old) = masters.iter().find(|&&server| self.pair.announced(server).port() != named) else {
            return false;
        };
        let is_agreed = self.sentinels.iter().all(|sentinel| sentinel.master_port() == named);
        if is_agreed {
            expect_ok(&self.pair.servers()[*old], &format!("REPLICAOF 127.0.0.1 {named}"));
        }
        is_agreed
    }

    fn is_named(&self, server: usize) -> bool {
        let port = self.pair.announced(server).port();
        self.sentinels.iter().all(|sentinel| sentinel.master_port() == port)
    }

    /// Waits until the replica has what the master has, kills the master, and waits until the Sentinels have made the
    /// replica the master.
    pub fn fail_over(&mut self) {
        until("the replica has everything", || self.pair.lose_settled_master(Loss::Killed));
        until("every Sentinel names the replica as the master", || self.is_named(1));
    }

    /// Has the Sentinels replace the master; they do nothing where they are at it already.
    pub fn request_failover(&self) {
        first_line(self.sentinels[0].address, &format!("SENTINEL FAILOVER {MASTER_NAME}"));
    }

    /// How often the Sentinels have replaced the master.
    pub fn failovers(&self) -> u64 {
        let fields = array(self.sentinels[0].address, &format!("SENTINEL MASTER {MASTER_NAME}"));
        let at = fields.iter().position(|field| field == "config-epoch").unwrap();
        fields[at + 1].parse().unwrap()
    }

    /// Brings back what was lost. A server that starts again follows the master that the Sentinels name, as an operator's
    /// script makes it; one that continues is left to the Sentinels, which takes them about ten seconds.
    pub fn bring_back(&mut self, loss: Loss) {
        let Some(server) = self.pair.bring_back() else { return };
        let named = self.sentinels[0].master_port();
        if loss == Loss::Killed && named != self.pair.announced(server).port() {
            expect_ok(&self.pair.servers()[server], &format!("REPLICAOF 127.0.0.1 {named}"));
        }
    }

    /// Cuts the replica off: it stands still, and the master no longer sends it anything.
    pub fn cut_replica_off(&self) {
        self.pair.servers()[1].signal(Signal::STOP);
        assert_eq!(self.pair.servers()[0].command("CLIENT KILL TYPE replica"), ":1");
    }

    /// Kills the first master with all that its replica lacks, and waits until the Sentinels have made the replica, which may
    /// be cut off, the master.
    pub fn lose_master(&mut self) {
        self.pair.lose(0, Loss::Killed);
        self.pair.servers()[1].signal(Signal::CONT);
        until("every Sentinel names the replica as the master", || self.is_named(1));
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
    fn start(program: &str, master_port: u16, down_after: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let settings = [
            format!("port {}", address.port()),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} 2"),
            format!("sentinel down-after-milliseconds {MASTER_NAME} {down_after}"),
            format!("sentinel failover-timeout {MASTER_NAME} 3000"),
        ];
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, settings.join("\n")).unwrap();
        let mut command = Command::new(program);
        let child = command.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        until("the Sentinel listens", || TcpStream::connect(address).is_ok());
        Self { address, child, _folder: folder }
    }

    /// The port of the server that it names as the master.
    fn master_port(&self) -> u16 {
        let asked = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER_NAME}");
        array(self.address, &asked).last().unwrap().parse().unwrap()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
