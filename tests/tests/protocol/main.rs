//! The protocol of leases, fences and stops, checked exhaustively for small numbers: two workers, two jobs (the
//! second dispatched by the first), and crashes, zombies, stops and stale reapers at any point.
//!
//! `model.rs` has the steps as Redis does them, on top of the real `lifecycle::next`; this file visits every state that can
//! be reached and checks the promises in each. `docs/guarantees.md` says what they mean.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail there")]

mod model;

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::model::Action;
use crate::model::Bounds;
use crate::model::World;

/// More states than this are a mistake in the model, or too many for a test.
const MOST_STATES: usize = 1_500_000;

/// Every reachable state, how it was reached first, and what leads to it.
struct Explored {
    worlds: Vec<World>,
    first: Vec<Option<(usize, Action)>>,
    /// For each state, those from which one step leads to it that is no fault.
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
            assert!(explored.worlds.len() < MOST_STATES, "more states than expected");
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
    /// The steps that lead to a state, for the message of a failure.
    fn story(&self, mut number: usize) -> String {
        let mut steps = Vec::new();
        while let Some((before, action)) = self.first[number] {
            steps.push(format!("{action:?}"));
            number = before;
        }
        steps.reverse();
        steps.join(" → ")
    }

    /// Whether each state can come to an end from which nothing is left, without a further fault.
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

/// A promise, and whether a state keeps it.
type Promise = (&'static str, fn(&World) -> bool);

/// The promises that can be seen in a single state.
const PROMISES: [Promise; 7] = [
    ("accepted means terminal, once", World::ended_at_most_once),
    ("stopped means stopped: nothing acts for a stopped job", World::nothing_acts_when_stopped),
    ("stopped means stopped: nothing begins below a stopping job", World::nothing_begins_when_stopping),
    ("no output is lost, none comes after the end", World::output_is_whole),
    ("one writer", World::has_one_writer),
    ("a crash costs at most one turn", World::recorded_turns_are_kept),
    ("the parent is told once", World::told_at_most_once),
];

/// One job, which crashes again and again.
const ALONE: Bounds = Bounds { dispatches: false, attempts: [3, 0], turns: 2, fences: true, clock: true };
/// A job that dispatches another.
const TREE: Bounds = Bounds { dispatches: true, attempts: [2, 1], turns: 1, fences: true, clock: true };

fn check(bounds: &Bounds) {
    let explored = explore(bounds);
    for (number, world) in explored.worlds.iter().enumerate() {
        for (promise, holds) in PROMISES {
            assert!(holds(world), "{promise}: {world:?} after {}", explored.story(number));
        }
    }
    let stuck = explored.can_end().iter().position(|can| !can);
    let story = stuck.map(|number| format!("{:?} after {}", explored.worlds[number], explored.story(number)));
    assert_eq!(story, None, "accepted means terminal: from every state all can end without a further fault");
    // Every way to end is among them, so the promises are not kept by an empty world.
    for state in ["Completed", "Failed", "Stopped"] {
        assert!(explored.worlds.iter().any(|world| format!("{world:?}").contains(state)), "{state}");
    }
}

#[test]
fn every_reachable_state_of_one_job_keeps_the_promises() {
    check(&ALONE);
}

#[test]
fn every_reachable_state_of_a_tree_keeps_the_promises() {
    check(&TREE);
}

#[test]
fn a_protocol_without_its_fence_breaks_a_promise() {
    let explored = explore(&Bounds { fences: false, ..ALONE });
    let broken = |world: &World| !world.has_one_writer() || !world.output_is_whole();
    assert!(explored.worlds.iter().any(broken));
}

#[test]
fn a_protocol_without_its_lease_clock_breaks_a_promise() {
    let explored = explore(&Bounds { clock: false, ..ALONE });
    assert!(explored.worlds.iter().any(|world| !world.nothing_acts_when_stopped()));
}
