//! A fault in every call: for every n, a scenario runs with a fault in its n-th call to Redis. The call fails, loses its
//! reply, is executed after its repeat, is delayed for longer than a client waits, or is rejected, or the worker that
//! makes it crashes. The first run with fewer than n calls is the last.
//!
//! After every fault the jobs must end correctly. Only rejected calls and crashes may cost an attempt, and nothing may be
//! done or paid for twice, even after a crash.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]
#![expect(clippy::print_stdout, reason = "a failed test prints which run it was")]

mod attempts;
mod checks;
mod drains;
mod harness;
mod run;
mod scenario;
mod slots;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legwork_tests::command_proxy::Fault;
use legwork_tests::redis::Redis;
use tokio::task::JoinSet;

use crate::run::Run;
use crate::scenario::Scenario;

/// Delay of a late call: long enough for its repeat on another connection to be executed first.
const LATE: Duration = Duration::from_millis(150);
/// Delay of a slow call: longer than the time limit of a call, shorter than the lease of a run (10 s).
const DELAY: Duration = Duration::from_millis(3500);

/// Runs each scenario once per call, with a fault in that call. `at_once` runs share one Redis; runs that mostly wait
/// for delays and leases can be many.
fn every_call(fault: Fault, scenarios: &[Scenario], at_once: usize) {
    let redis = Redis::start();
    assert_eq!(redis.command("CONFIG SET appendonly no"), "+OK");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for &scenario in scenarios {
        let calls = runtime.block_on(every_call_of(scenario, fault, at_once, &redis));
        println!("{scenario:?}: {fault:?} in {calls} calls");
        // Fewer calls mean that the scenario did not run as intended.
        assert!(calls > 15, "{calls}");
    }
}

/// Returns the number of calls that got the fault.
async fn every_call_of(scenario: Scenario, fault: Fault, at_once: usize, redis: &Redis) -> usize {
    let mut runs = JoinSet::new();
    let (mut next, mut hit, mut over) = (1, BTreeSet::new(), false);
    while !over || !runs.is_empty() {
        while !over && runs.len() < at_once {
            let run = Arc::new(Run::new(scenario, fault, next, redis.address()));
            runs.spawn(async move { (next, Box::pin(run.execute()).await) });
            next += 1;
        }
        let (nth, was_hit) = runs.join_next().await.unwrap().unwrap();
        if was_hit {
            hit.insert(nth);
        } else {
            over = true;
        }
    }
    hit.len()
}

#[test]
fn a_failed_call_is_repeated() {
    every_call(Fault::Fail, &[Scenario::Waits], 8);
}

#[test]
fn a_call_with_a_lost_reply_gets_the_same_reply_again() {
    every_call(Fault::LoseReply, &[Scenario::Waits, Scenario::Stopped], 8);
}

#[test]
fn a_call_that_arrives_after_its_repeat_changes_nothing() {
    every_call(Fault::Late(LATE), &Scenario::ALL, 8);
}

#[test]
fn a_delayed_call_costs_no_attempt() {
    every_call(Fault::Delay(DELAY), &[Scenario::Waits], 50);
}

#[test]
fn a_worker_crash_before_a_call_costs_at_most_one_turn() {
    every_call(Fault::Die { executed: false }, &[Scenario::Waits], 60);
}

#[test]
fn a_worker_crash_after_a_call_costs_at_most_one_turn() {
    every_call(Fault::Die { executed: true }, &[Scenario::Waits], 60);
}

#[test]
fn after_a_rejected_call_every_job_still_ends() {
    every_call(Fault::Refuse, &[Scenario::Waits], 8);
}
