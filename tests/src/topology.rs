//! Redis as more than one process: a Cluster, and a master with a replica that Sentinels watch.
//!
//! Replication is asynchronous: a master that is lost takes with it what it acknowledged and had not sent to its replica. The
//! tests that count exactly have its writes wait first, until its replica has all of them ([`Pair::lose_settled_master`]);
//! the others lose it at once, and count what `--durable` keeps.

mod cluster;
mod pair;
mod sentinels;

pub use cluster::Cluster;
pub use pair::Loss;
pub use pair::Pair;
pub use sentinels::Watched;

use crate::redis::Redis;

/// Sends a command that is answered with `OK`.
fn expect_ok(node: &Redis, command: &str) {
    assert_eq!(node.command(command), "+OK", "{command}");
}
