//! Exhaustive check of the protocol of leases, fences and stops for two workers and two jobs (the second dispatched by the
//! first), with crashes, frozen workers, stops and stale reapers at any point.
//!
//! `model.rs` models the steps as Redis executes them, on top of the real `lifecycle::next`. This file visits every
//! reachable state and checks the guarantees of `docs/guarantees.md` in each.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod model;

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::model::Action;
use crate::model::Bounds;
use crate::model::World;

/// Upper bound for the number of states. More would be a bug in the model, or take too much time and memory.
const MAX_STATES: usize = 1_500_000;

/// Every reachable state, the shortest way to it, and its predecessors.
struct Explored {
    worlds: Vec<World>,
    /// Predecessor and step through which a state was reached first.
    first: Vec<Option<(usize, Action)>>,
    /// Predecessors of each state by steps that are not faults.
    before: Vec<Vec<usize>>,
}

fn explore(bounds: &Bounds) -> Explored {
    let start = World::new(bounds);
    let mut numbers = HashMap::from([(start.clone(), 0)]);
    let mut explored = Explored { worlds: vec![start], first: vec![None], before: vec![Vec::new()] };
    let mut queue = VecDeque::from([0]);
    while let Some(number) = queue.pop_front() {
        let world = explored.worlds[number].clone();
        for action in world.actions(bounds) {
            let after = world.after(action);
            assert!(explored.worlds.len() < MAX_STATES, "more states than expected");
            let next = *numbers.entry(after).or_insert_with_key(|after| {
                explored.worlds.push(after.clone());
                explored.first.push(Some((number, action)));
                explored.before.push(Vec::new());
                queue.push_back(explored.worlds.len() - 1);
                explored.worlds.len() - 1
            });
            if !action.is_fault() {
                explored.before[next].push(number);
            }
        }
    }
    explored
}

impl Explored {
    /// The steps that lead to a state, for failure messages.
    fn trace(&self, mut number: usize) -> String {
        let mut steps = Vec::new();
        while let Some((before, action)) = self.first[number] {
            steps.push(format!("{action:?}"));
            number = before;
        }
        steps.reverse();
        steps.join(" → ")
    }

    /// For each state, whether it can reach an end with nothing left to do, without further faults.
    fn can_end(&self) -> Vec<bool> {
        let mut can: Vec<bool> = self.worlds.iter().map(World::is_settled).collect();
        let mut queue: VecDeque<usize> = (0..can.len()).filter(|&number| can[number]).collect();
        while let Some(number) = queue.pop_front() {
            for &before in &self.before[number] {
                if !can[before] {
                    can[before] = true;
                    queue.push_back(before);
                }
            }
        }
        can
    }
}

/// Name of a guarantee, and the check of a state.
type Guarantee = (&'static str, fn(&World) -> bool);

/// The guarantees that can be checked in a single state.
const GUARANTEES: [Guarantee; 8] = [
    ("accepted means terminal, once", World::ended_at_most_once),
    ("stopped means stopped: nothing acts for a stopped job", World::nothing_acts_when_stopped),
    ("stopped means stopped: nothing starts below a stopping job", World::nothing_starts_when_stopping),
    ("no output is lost, none comes after the end", World::output_is_whole),
    ("one writer", World::has_one_writer),
    ("a crash costs at most one turn", World::recorded_turns_are_kept),
    ("the parent is notified once", World::notified_at_most_once),
    ("a job fails for a crash that it was alone with", World::fails_for_its_own_crashes),
];

/// One job with up to three attempts.
const ALONE: Bounds =
    Bounds { dispatches: false, attempts: [3, 0], turns: 2, fences: true, clock: true, apart: true };
/// A job that dispatches another.
const TREE: Bounds =
    Bounds { dispatches: true, attempts: [2, 1], turns: 1, fences: true, clock: true, apart: true };

fn check(bounds: &Bounds) {
    let explored = explore(bounds);
    for (number, world) in explored.worlds.iter().enumerate() {
        for (guarantee, holds) in GUARANTEES {
            assert!(holds(world), "{guarantee}: {world:?} after {}", explored.trace(number));
        }
    }
    let stuck = explored.can_end().iter().position(|can| !can);
    let stuck = stuck.map(|number| format!("{:?} after {}", explored.worlds[number], explored.trace(number)));
    assert_eq!(stuck, None, "accepted means terminal: from every state all can end without a further fault");
    // All final statuses occur, so the guarantees do not hold merely because nothing happens.
    for state in ["Completed", "Failed", "Stopped"] {
        assert!(explored.worlds.iter().any(|world| format!("{world:?}").contains(state)), "{state}");
    }
}

#[test]
fn every_reachable_state_of_one_job_keeps_the_guarantees() {
    check(&ALONE);
}

#[test]
fn every_reachable_state_of_a_tree_keeps_the_guarantees() {
    check(&TREE);
}

#[test]
fn without_the_fence_a_guarantee_breaks() {
    let explored = explore(&Bounds { fences: false, ..ALONE });
    let broken = |world: &World| !world.has_one_writer() || !world.output_is_whole();
    assert!(explored.worlds.iter().any(broken));
}

#[test]
fn without_the_lease_clock_a_guarantee_breaks() {
    let explored = explore(&Bounds { clock: false, ..ALONE });
    assert!(explored.worlds.iter().any(|world| !world.nothing_acts_when_stopped()));
}

#[test]
fn without_quarantine_a_job_fails_for_the_crashes_of_another() {
    let explored = explore(&Bounds { apart: false, turns: 0, ..TREE });
    assert!(explored.worlds.iter().any(|world| !world.fails_for_its_own_crashes()));
}
