//! Harm to every call: for every n, the n-th call of the queue's port in a job's life fails, is repeated because its
//! reply was lost, comes late, is delayed beyond anybody's patience, or is refused; or whoever makes it dies. A life that
//! needs fewer than n calls is the last.
//!
//! Whatever the harm was, the job ends as it must. But for calls that are refused for good, and for deaths, nothing is
//! counted as a crash; and nothing is done twice or paid for twice, whoever dies.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall fail there")]
#![expect(clippy::print_stdout, reason = "a test that fails says which life it was")]

mod life;
mod scenario;
mod verdict;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legwork_tests::redis::Redis;
use legwork_tests::wire::Harm;
use tokio::task::JoinSet;

use crate::life::Scene;
use crate::scenario::Scenario;

/// Long enough for the repeat to come first.
const LATE: Duration = Duration::from_millis(150);
/// Longer than a round trip may take, and shorter than the leases of these lives.
const BEYOND_PATIENCE: Duration = Duration::from_millis(3500);

/// Lives each scenario once for each of its calls, so many at once.
fn every_call(harm: Harm, plots: &[Scenario], at_once: usize) {
    let redis = Redis::start();
    assert_eq!(redis.say("CONFIG SET appendonly no"), "+OK");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for &scenario in plots {
        let calls = runtime.block_on(every_call_of(scenario, harm, at_once, &redis));
        println!("{scenario:?}: {calls} calls met with {harm:?}");
        // A scenario that hardly asks anything is none.
        assert!(calls > 15, "{calls}");
    }
}

/// How many calls there were.
async fn every_call_of(scenario: Scenario, harm: Harm, at_once: usize, redis: &Redis) -> usize {
    let mut lives = JoinSet::new();
    let (mut next, mut hit, mut over) = (1, BTreeSet::new(), false);
    while !over || !lives.is_empty() {
        while !over && lives.len() < at_once {
            let scene = Arc::new(Scene::new(scenario, harm, next, redis.address()));
            lives.spawn(async move { (next, scene.live().await) });
            next += 1;
        }
        let (nth, was_hit) = lives.join_next().await.unwrap().unwrap();
        if was_hit {
            hit.insert(nth);
        } else {
            over = true;
        }
    }
    hit.len()
}

#[test]
fn a_call_that_fails_is_made_again() {
    every_call(Harm::Fail, &[Scenario::Waits], 8);
}

#[test]
fn a_call_whose_reply_is_lost_is_answered_as_the_first_time() {
    every_call(Harm::LoseReply, &[Scenario::Waits, Scenario::Stopped], 8);
}

#[test]
fn a_call_that_comes_after_its_repeat_changes_nothing() {
    every_call(Harm::Late(LATE), &Scenario::ALL, 8);
}

#[test]
fn a_call_that_is_delayed_beyond_patience_costs_no_attempt() {
    every_call(Harm::Delay(BEYOND_PATIENCE), &[Scenario::Waits], 50);
}

#[test]
fn a_worker_that_dies_before_a_call_costs_a_turn_at_most() {
    every_call(Harm::Die { done: false }, &[Scenario::Waits], 60);
}

#[test]
fn a_worker_that_dies_after_a_call_costs_a_turn_at_most() {
    every_call(Harm::Die { done: true }, &[Scenario::Waits], 60);
}

#[test]
fn a_call_that_is_refused_leaves_no_job_without_an_end() {
    every_call(Harm::Refuse, &[Scenario::Waits], 8);
}
