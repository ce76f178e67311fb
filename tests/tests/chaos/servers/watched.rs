//! A master and its replica, which Sentinels watch. Both are killed and frozen, and the master is replaced, whatever its replica
//! lacks.

use legwork_tests::programs::until;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use legwork_tests::topology::Loss;
use legwork_tests::topology::Watched;

use crate::random::Random;
use crate::servers::Begun;
use crate::servers::Servers;

/// The servers, and how one of them is lost.
#[derive(Debug)]
pub(super) struct WatchedServers {
    watched: Watched,
    lost: Option<Loss>,
}

impl WatchedServers {
    pub(super) fn start(program: &str) -> Self {
        Self { watched: Watched::behind_proxies(program), lost: None }
    }
}

impl Servers for WatchedServers {
    fn url(&self, _place: usize) -> String {
        self.watched.url()
    }

    fn proxies(&self) -> Vec<&Proxy> {
        self.watched.pair().proxies().iter().collect()
    }

    fn masters(&self) -> Vec<&Redis> {
        let pair = self.watched.pair();
        pair.masters().into_iter().map(|server| &pair.servers()[server]).collect()
    }

    fn more_faults(&self) -> u64 {
        2
    }

    fn begin_fault(&mut self, random: &mut Random) -> Begun {
        let Some(master) = self.watched.settled_master() else {
            return Begun::Momentary("pair left alone, because one is not back");
        };
        let loss = if random.once_in(2) { Loss::Killed } else { Loss::Frozen };
        let fault = match (random.below(5), loss) {
            (0 | 1, _) => {
                self.watched.request_failover();
                return Begun::Momentary("master replaced on request");
            }
            (2 | 3, Loss::Killed) => "master killed",
            (2 | 3, Loss::Frozen) => "master frozen",
            (_, Loss::Killed) => "replica killed",
            (_, Loss::Frozen) => "replica frozen",
        };
        let server = if fault.starts_with("master") { master } else { 1 - master };
        self.watched.pair_mut().lose(server, loss);
        self.lost = Some(loss);
        Begun::Lasting(fault)
    }

    fn end_fault(&mut self) {
        if let Some(loss) = self.lost.take() {
            self.watched.bring_back(loss);
        }
    }

    /// The Sentinels take ten seconds to demote a master that they replaced, and in these nothing is acknowledged that a
    /// replica must confirm.
    fn tend(&self, random: &mut Random) {
        if random.once_in(3) {
            self.watched.demote_replaced();
        }
    }

    fn summary(&self) -> String {
        format!("; the Sentinels replaced the master {} times", self.watched.failovers())
    }

    fn until_whole(&self) {
        until("one server is the master, and the other follows it", || self.watched.is_whole());
    }
}
