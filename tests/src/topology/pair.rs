//! A master and its replica. Which of the two is the master changes.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::programs::is_reached;
use crate::proxy::Proxy;
use crate::proxy::Server;
use crate::redis::Redis;
use crate::redis::free_port;
use crate::topology::expect_ok;

/// How long writes may wait for the replica. A connection between the two that went silent is noticed after three seconds.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);
/// How long the writes of a master wait that is about to be lost: longer than any test lets it stand still.
const HOLD: Duration = Duration::from_secs(120);

/// How a server is lost, by its process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// With SIGKILL; it starts again with its data.
    Killed,
    /// With SIGSTOP: its connections stay open, and it continues where it stood.
    Frozen,
}

/// Two servers, one the replica of the other. Dropping the value kills both.
#[derive(Debug)]
pub struct Pair {
    servers: [Redis; 2],
    /// One in front of each server, for clients and for its replica; none where a test needs none.
    proxies: Vec<Proxy>,
    /// The server that was lost, until it is brought back.
    lost: Option<(usize, Loss)>,
}

impl Pair {
    /// Starts both, not yet connected. `settings` are of the one that clients find at this port.
    pub(super) fn start(program: &str, is_proxied: bool, settings: impl Fn(u16) -> Vec<String>) -> Self {
        let mut proxies = Vec::new();
        let servers = [(); 2].map(|()| {
            let port = free_port();
            let mut announced = port;
            if is_proxied {
                let proxy = Proxy::start(Server::Tcp((Ipv4Addr::LOCALHOST, port).into()));
                announced = proxy.address().port();
                proxies.push(proxy);
            }
            let mut settings = settings(announced);
            let replication = ["--repl-timeout", "3", "--repl-ping-replica-period", "1"];
            settings.extend(replication.map(str::to_owned));
            Redis::on_port(port, program, settings)
        });
        Self { servers, proxies, lost: None }
    }

    /// Both servers; the first one was the first master.
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// The proxies in front of both.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Where clients and the other server find this one.
    pub fn announced(&self, server: usize) -> SocketAddr {
        self.proxies.get(server).map_or_else(|| self.servers[server].address(), Proxy::address)
    }

    /// The servers that run and take themselves for masters, in their order: none or two while a master is replaced.
    pub fn masters(&self) -> Vec<usize> {
        let lost = self.lost.map(|(server, _)| server);
        (0..2).filter(|&server| Some(server) != lost && self.is_master(server)).collect()
    }

    /// The server that is the master. Panics unless there is exactly one.
    pub fn master(&self) -> usize {
        let masters = self.masters();
        assert_eq!(masters.len(), 1, "one of a pair is the master");
        masters[0]
    }

    fn is_master(&self, server: usize) -> bool {
        self.servers[server].text("INFO replication").contains("role:master")
    }

    /// The master, where the other one follows it.
    pub fn followed_master(&self) -> Option<usize> {
        let follows =
            |replica: usize| self.servers[replica].text("INFO replication").contains("master_link_status:up");
        match self.masters()[..] {
            [master] if self.lost.is_none() && follows(1 - master) => Some(master),
            _ => None,
        }
    }

    /// Whether one is the master and the other follows it.
    pub fn is_whole(&self) -> bool {
        self.followed_master().is_some()
    }

    /// Whether the server that was not lost is the master.
    pub fn is_replaced(&self) -> bool {
        self.lost.is_some_and(|(server, _)| self.is_master(1 - server))
    }

    /// Loses one of the two, with all that the other lacks.
    pub fn lose(&mut self, server: usize, loss: Loss) {
        match loss {
            Loss::Killed => self.servers[server].kill(),
            Loss::Frozen => self.servers[server].signal(Signal::STOP),
        }
        self.lost = Some((server, loss));
    }

    /// Has the writes of the master wait until its replica has all that the master acknowledged, and loses the master then.
    /// `false`, and nothing is lost, where the replica does not get there in time.
    ///
    /// The writes still wait when a frozen master continues: otherwise it would acknowledge those that were sent to it while
    /// it stood still, before it learns that it was replaced.
    pub fn lose_settled_master(&mut self, loss: Loss) -> bool {
        let master = self.master();
        let (writing, copying) = (&self.servers[master], &self.servers[1 - master]);
        let offset = |server: &Redis| server.info("replication", "master_repl_offset");
        expect_ok(writing, &format!("CLIENT PAUSE {} WRITE", HOLD.as_millis()));
        let written = offset(writing);
        let is_settled = is_reached(CATCH_UP_LIMIT, || offset(copying) >= written);
        if is_settled {
            self.lose(master, loss);
        } else {
            expect_ok(writing, "CLIENT UNPAUSE");
        }
        is_settled
    }

    /// Starts or continues the server that was lost, and returns it; `None` if none was.
    pub fn bring_back(&mut self) -> Option<usize> {
        let (server, loss) = self.lost.take()?;
        match loss {
            Loss::Killed => self.servers[server].restart(),
            Loss::Frozen => self.servers[server].signal(Signal::CONT),
        }
        Some(server)
    }
}
