//! Random faults on a whole fleet for a while, and then the ledger: every job that was taken on has ended as it must.
//!
//! `CHAOS_SECONDS` says how long (20 where it is not set) and `CHAOS_SEED` which faults; the seed of each run is
//! printed. The same seed gives the same faults, not the same moments.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall fail there")]

mod fake_provider;
mod fleet_faults;
mod jobs;
mod ledger;
mod random;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::fleet_faults::Fleet;
use crate::fleet_faults::FleetFaults;
use crate::jobs::Clients;
use crate::ledger::Ledger;
use crate::random::Random;

/// How long the faults go on where nobody says.
const SHORT: u64 = 20;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Says at its end that nothing more is dispatched.
struct Calm<'c>(&'c AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_ledger_is_whole_after_random_faults() {
    let lasting = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(SHORT));
    let seed = number("CHAOS_SEED").unwrap_or_else(random::seed);
    println!("chaos: {lasting:?} with CHAOS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut fleet = Fleet::start();
    let mut clients = Clients::of(Arc::clone(&fleet.state), random.fork());
    let calm = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // However this ends: who goes on dispatching keeps everybody here.
        let _calm = Calm(&calm);
        let dispatching = scope.spawn(|| clients.dispatch_until(&calm));
        let mut storm = FleetFaults::over(&mut fleet, random);
        let began = Instant::now();
        while began.elapsed() < lasting && !dispatching.is_finished() {
            storm.next_fault();
        }
        storm.calm_down();
        println!("chaos: {}", storm.told());
    });
    let ledger = Ledger::at_rest(&fleet, &clients);
    println!("chaos: {}", ledger.summary());
    ledger.check();
    drop(ledger);
    fleet.forgets_everything();
}
