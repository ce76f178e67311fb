//! The Redis of a run, behind proxies, and the faults that it has of its own.
//!
//! What a run is held to follows from what its Redis keeps. One server keeps all that it confirmed, and so does a Cluster whose
//! masters are lost once their replicas have all that they confirmed: every promise is checked. A master that Sentinels replace
//! without waiting for its replica loses what it had not sent, and works on for some seconds where it was only cut off. There
//! the programs run with `--durable=1`, and what that keeps is checked: accepted jobs, the ends of jobs, and keys.
//!
//! All connections to the servers are behind proxies, those between masters and replicas too, because each server announces
//! the port of its proxy. Only what the nodes of a Cluster tell each other, and the Sentinels themselves, cannot be disturbed.
//! Not injected either: the loss of a node while one of its slots moves, which Redis does not survive by itself
//! (`redis-cli --cluster fix`).

mod cluster;
mod one;
mod watched;

use std::fmt;

use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use legwork_tests::tools::installed_by;

use crate::random::Random;
use crate::servers::cluster::ClusterServers;
use crate::servers::one::OneServer;
use crate::servers::watched::WatchedServers;

/// Which Redis a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server.
    One,
    /// A Cluster of three masters with a replica each.
    Cluster,
    /// A master with a replica, watched by three Sentinels.
    Sentinel,
}

/// What the audit holds a run to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// Every promise.
    Exact,
    /// What `--durable` keeps; all else is counted.
    Durable,
}

/// A fault that has begun, by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begun {
    /// It is over already.
    Momentary(&'static str),
    /// It lasts until [`Servers::end_fault`].
    Lasting(&'static str),
}

/// The servers of a run.
pub(crate) trait Servers: fmt::Debug {
    /// The URL for the programs at this place; the clients are at 0.
    fn url(&self, place: usize) -> String;

    /// All proxies.
    fn proxies(&self) -> Vec<&Proxy>;

    /// The masters, to be asked directly. Called while no fault lasts.
    fn masters(&self) -> Vec<&Redis>;

    /// How many draws of a fault are the servers' own, in addition to one.
    fn more_faults(&self) -> u64;

    /// Injects a fault; called while none lasts.
    fn begin_fault(&mut self, random: &mut Random) -> Begun;

    /// Ends the lasting one.
    fn end_fault(&mut self);

    /// Does what an operator's script does now and then; called before each fault, while none of the servers' own lasts.
    fn tend(&self, _random: &mut Random) {}

    /// Waits until nothing of a fault is left.
    fn until_whole(&self);

    /// What the servers say of the run, as the rest of a line.
    fn summary(&self) -> String {
        String::new()
    }
}

impl Kind {
    /// Its name in `CHAOS_REDIS`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
        }
    }

    pub(crate) fn ledger(self) -> Ledger {
        match self {
            Self::One | Self::Cluster => Ledger::Exact,
            Self::Sentinel => Ledger::Durable,
        }
    }

    /// Starts the servers; `None`, with a message, where the program is not installed.
    pub(crate) fn start(self) -> Option<Box<dyn Servers>> {
        match self {
            Self::One => Some(Box::new(OneServer::start())),
            Self::Cluster => Some(Box::new(ClusterServers::start())),
            Self::Sentinel => {
                // This system's server may be older than WAITAOF.
                let program = installed_by("server-valkey-9.1/redis-server", "install-servers")?;
                Some(Box::new(WatchedServers::start(&program)))
            }
        }
    }
}
