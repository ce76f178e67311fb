//! A Cluster. Its masters are killed, frozen and replaced, and slots move between them.
//!
//! A master is lost once its replica has all that it acknowledged; see [`Pair::lose_settled_master`]. A Cluster has no
//! `--durable`, so what a master acknowledges and does not send is lost, and no ledger could tell that from a fault of ours.
//!
//! [`Pair::lose_settled_master`]: legwork_tests::topology::Pair::lose_settled_master

use std::time::Duration;

use legwork_tests::programs::until;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use legwork_tests::topology::Cluster;
use legwork_tests::topology::Loss;

use crate::random::Random;
use crate::servers::Begun;
use crate::servers::Servers;

/// The shards of a namespace in a Cluster, one slot each.
const SHARDS: u64 = 16;
/// How long a master stands still and is not replaced, in milliseconds: half of the time after which the others miss it.
const LONGEST_STALL: u64 = 500;

/// The Cluster, and the part whose master is lost.
#[derive(Debug)]
pub(super) struct ClusterServers {
    cluster: Cluster,
    lost: Option<usize>,
}

impl ClusterServers {
    pub(super) fn start() -> Self {
        Self { cluster: Cluster::start_behind_proxies(), lost: None }
    }

    /// Moves the slot of a shard, or of the settings, once or all the way round.
    fn move_a_slot(&self, random: &mut Random) -> Begun {
        let key = match random.below(SHARDS + 1) {
            SHARDS => "legwork:default:meta".to_owned(),
            shard => format!("{{legwork:default:{shard}}}"),
        };
        let is_round = random.once_in(3);
        for _ in 0..if is_round { self.cluster.parts() } else { 1 } {
            self.cluster.move_slot_of(&key);
        }
        Begun::Momentary(if is_round { "slot moved round and back" } else { "slot moved" })
    }

    fn lose(&mut self, part: usize, loss: Loss) -> Begun {
        self.cluster.reconnect(part);
        if !self.cluster.lose_master(part, loss) {
            return Begun::Momentary("master kept, because its replica lags");
        }
        self.lost = Some(part);
        Begun::Lasting(match loss {
            Loss::Killed => "master killed",
            Loss::Frozen => "master frozen until it is replaced",
        })
    }
}

impl Servers for ClusterServers {
    fn url(&self, _place: usize) -> String {
        self.cluster.url()
    }

    fn proxies(&self) -> Vec<&Proxy> {
        self.cluster.proxies()
    }

    fn masters(&self) -> Vec<&Redis> {
        self.cluster.masters()
    }

    fn more_faults(&self) -> u64 {
        4
    }

    fn begin_fault(&mut self, random: &mut Random) -> Begun {
        if !self.cluster.is_whole() {
            return Begun::Momentary("Cluster left alone, because a replica is not back");
        }
        let part = random.index(self.cluster.parts());
        match random.below(7) {
            0..=2 => self.move_a_slot(random),
            3 => {
                self.cluster.stall_master(part, Duration::from_millis(50 + random.below(LONGEST_STALL)));
                Begun::Momentary("master stalled")
            }
            4 => {
                self.cluster.reconnect(part);
                match self.cluster.request_failover(part) {
                    true => Begun::Momentary("master replaced on request"),
                    false => Begun::Momentary("master kept, because its replica lags"),
                }
            }
            5 => self.lose(part, Loss::Killed),
            _ => self.lose(part, Loss::Frozen),
        }
    }

    fn end_fault(&mut self) {
        if let Some(part) = self.lost.take() {
            self.cluster.bring_back(part);
        }
    }

    fn until_whole(&self) {
        until("the Cluster is whole", || self.cluster.is_whole());
    }
}
