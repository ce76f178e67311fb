//! Random faults on a whole fleet, then an audit of every accepted job.
//!
//! `CHAOS_SECONDS` sets the duration (default 20) and `CHAOS_SEED` the sequence of faults; each run prints its seed. The
//! same seed gives the same faults in the same order, but not the same timing. `CHAOS_OTHER_WORKER` names a worker program
//! of another release, as `scripts/other-worker` builds it: every second worker is then one of these. `CHAOS_REDIS` selects
//! the Redis: `one`, `cluster` or `sentinel`; by default there is a run with each of them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step fails the test, which prints its seed and its counts"
)]

mod audit;
mod fake_provider;
mod fleet_faults;
mod jobs;
mod oddities;
mod orchestrators;
mod random;
mod servers;
mod wires;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::audit::Audit;
use crate::fleet_faults::Fleet;
use crate::fleet_faults::FleetFaults;
use crate::jobs::Clients;
use crate::random::Random;
use crate::servers::Kind;

/// Seconds of faults in `make test`: enough for each kind of fault to occur, and short next to the whole suite.
const DEFAULT_SECONDS: u64 = 20;

/// A number from an environment variable; `None` if it is not set or not a number.
fn number(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Tells the clients to stop dispatching when it is dropped.
struct StopClients<'c>(&'c AtomicBool);

impl Drop for StopClients<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The runs of this program are one after the other: each keeps both processors of a small machine busy.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether a run is wanted: of one Redis, where `CHAOS_REDIS` names it.
fn is_wanted(kind: Kind) -> bool {
    std::env::var_os("CHAOS_REDIS").is_none_or(|name| name.is_empty() || name == kind.name())
}

fn run(kind: Kind) {
    if !is_wanted(kind) {
        return;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let duration = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(DEFAULT_SECONDS));
    let seed = number("CHAOS_SEED").unwrap_or_else(random::seed);
    println!("chaos: {duration:?} with CHAOS_SEED={seed} CHAOS_REDIS={}", kind.name());
    let mut random = Random::new(seed);
    let Some(mut fleet) = Fleet::start(kind, random.fork()) else { return };
    println!("chaos: {}", fleet.releases());
    let mut clients = Clients::new(Arc::clone(&fleet.state), random.fork());
    let stopped = AtomicBool::new(false);
    let gave_up = std::thread::scope(|scope| {
        // Also on a panic, because the scope waits for the clients' thread.
        let _stop = StopClients(&stopped);
        let dispatching = scope.spawn(|| clients.dispatch_until(&stopped));
        let mut faults = FleetFaults::new(&mut fleet, random);
        let started = Instant::now();
        while started.elapsed() < duration && !dispatching.is_finished() {
            faults.next_fault();
        }
        let gave_up = faults.recover();
        println!("chaos: {}", faults.summary());
        gave_up
    });
    let audit = Audit::after_all_ended(&fleet, &clients, gave_up);
    println!("chaos: {}", audit.summary());
    audit.check(kind.ledger());
    drop(audit);
    fleet.check_everything_expires(kind.ledger());
}

#[test]
fn every_job_is_accounted_for_after_random_faults() {
    run(Kind::One);
}

#[test]
fn every_job_of_a_cluster_is_accounted_for_after_random_faults() {
    run(Kind::Cluster);
}

#[test]
fn every_job_behind_sentinels_is_accounted_for_after_random_faults() {
    run(Kind::Sentinel);
}
