//! What a worker does next, decided from what happened. Pure: no clock, no Redis, no tasks.
//!
//! ```text
//! event                         actions
//! Started                       Claim
//! ClaimAnswered                 Launch each, then Claim again once a slot is free
//! AttemptEnded, Parked          GrantSlot to who waits longest for one, else Claim
//! SlotWanted                    GrantSlot, or remembered until one is free
//! DrainAsked                    StopClaiming; Exit once nothing is held
//! DrainTimeUp                   HandBack all that is held
//! IdleFound (--until-idle)      Exit once nothing is held
//! ```

use std::collections::BTreeMap;
use std::collections::VecDeque;

use legwork_common::id::JobId;

/// Something that happened to the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The worker is ready.
    Started,
    /// A claim came back with these jobs; the claimer waits to be asked again.
    ClaimAnswered(Vec<JobId>),
    /// An attempt is over, however it ended.
    AttemptEnded(JobId),
    /// An attempt gave its slot back and waits for its own jobs.
    Parked(JobId),
    /// A waiting attempt wants a slot again.
    SlotWanted(JobId),
    /// A signal, or an operator, asked the worker to drain.
    DrainAsked,
    /// The time for draining is over.
    DrainTimeUp,
    /// Nothing is queued, scheduled or held where this worker claims.
    IdleFound,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask for jobs, as many as slots are free when it is done.
    Claim,
    /// Start the attempt of a claimed job.
    Launch(JobId),
    /// Give a slot to a waiting attempt.
    GrantSlot(JobId),
    /// Ask no more.
    StopClaiming,
    /// Hand the job back to the queue.
    HandBack(JobId),
    /// The worker is done.
    Exit,
}

/// Whether a worker still takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Done,
}

/// Whether an attempt counts against the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Slot,
    Parked,
}

/// The worker's books: what it holds, who waits for a slot, whether it claims.
#[derive(Debug)]
pub struct Supervisor {
    slots: u32,
    held: BTreeMap<JobId, Hold>,
    // Who waits for a slot, the longest first; they go ahead of new claims.
    wanting: VecDeque<JobId>,
    claiming: bool,
    phase: Phase,
    until_idle: bool,
}

impl Supervisor {
    /// A worker with this many slots (at least one); `until_idle` ends it when there is nothing to do.
    pub fn new(slots: u32, until_idle: bool) -> Self {
        Self {
            slots: slots.max(1),
            held: BTreeMap::new(),
            wanting: VecDeque::new(),
            claiming: false,
            phase: Phase::Serving,
            until_idle,
        }
    }

    /// How many attempts hold a slot.
    pub fn used(&self) -> u32 {
        let used = self.held.values().filter(|hold| **hold == Hold::Slot).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// How many attempts are held, waiting ones included.
    pub fn jobs(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// Whether it takes no new jobs.
    pub fn is_draining(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// Takes an event and says what to do.
    pub fn handle(&mut self, event: WorkerEvent) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            WorkerEvent::Started => {}
            WorkerEvent::ClaimAnswered(jobs) => {
                self.claiming = false;
                for job in jobs {
                    self.held.insert(job, Hold::Slot);
                    actions.push(Action::Launch(job));
                    // Claimed while the drain began: it goes back at once.
                    if self.is_draining() {
                        actions.push(Action::HandBack(job));
                    }
                }
            }
            WorkerEvent::AttemptEnded(job) => {
                self.held.remove(&job);
                self.wanting.retain(|other| *other != job);
            }
            WorkerEvent::Parked(job) => {
                if let Some(hold) = self.held.get_mut(&job) {
                    *hold = Hold::Parked;
                }
            }
            WorkerEvent::SlotWanted(job) => match self.held.get(&job) {
                Some(Hold::Parked) if !self.wanting.contains(&job) => self.wanting.push_back(job),
                // It was suspended between the grant and its use, and asks again for what it has.
                Some(Hold::Slot) => actions.push(Action::GrantSlot(job)),
                Some(Hold::Parked) | None => {}
            },
            WorkerEvent::DrainAsked => {
                if self.phase == Phase::Serving {
                    self.phase = Phase::Draining;
                    actions.push(Action::StopClaiming);
                }
            }
            WorkerEvent::DrainTimeUp => {
                actions.extend(self.held.keys().map(|job| Action::HandBack(*job)));
            }
            WorkerEvent::IdleFound => {
                if self.until_idle && self.held.is_empty() && self.phase == Phase::Serving {
                    self.phase = Phase::Draining;
                    actions.push(Action::StopClaiming);
                }
            }
        }
        self.grant(&mut actions);
        self.claim_or_exit(&mut actions);
        actions
    }

    /// How many slots are free. A claimer that waits looks here again before it claims, because slots may
    /// have been granted since it was asked.
    pub fn free(&self) -> u32 {
        self.slots.saturating_sub(self.used())
    }

    /// Gives free slots to those who wait for one.
    fn grant(&mut self, actions: &mut Vec<Action>) {
        while self.free() > 0 {
            let Some(job) = self.wanting.pop_front() else { return };
            if let Some(hold) = self.held.get_mut(&job) {
                *hold = Hold::Slot;
                actions.push(Action::GrantSlot(job));
            }
        }
    }

    fn claim_or_exit(&mut self, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Serving if !self.claiming && self.free() > 0 => {
                self.claiming = true;
                actions.push(Action::Claim);
            }
            Phase::Draining if !self.claiming && self.held.is_empty() => {
                self.phase = Phase::Done;
                actions.push(Action::Exit);
            }
            Phase::Serving | Phase::Draining | Phase::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;
    use proptest::prelude::*;

    use super::*;

    fn ids(count: usize) -> Vec<JobId> {
        let session = SessionId::random();
        (0..count).map(|_| JobId::random_in(session)).collect()
    }

    #[test]
    fn a_worker_claims_what_it_has_slots_for() {
        let mut worker = Supervisor::new(3, false);
        let jobs = ids(3);
        assert_eq!(worker.handle(WorkerEvent::Started), [Action::Claim]);
        let actions = worker.handle(WorkerEvent::ClaimAnswered(jobs[..2].to_vec()));
        assert_eq!(actions, [Action::Launch(jobs[0]), Action::Launch(jobs[1]), Action::Claim]);
        assert_eq!(worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[2]])), [Action::Launch(jobs[2])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [Action::Claim]);
    }

    #[test]
    fn one_slot_serves_a_parent_and_its_child() {
        let mut worker = Supervisor::new(1, false);
        let jobs = ids(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[0]]));
        assert_eq!(worker.handle(WorkerEvent::Parked(jobs[0])), [Action::Claim]);
        assert_eq!(worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[1]])), [Action::Launch(jobs[1])]);
        assert_eq!(worker.handle(WorkerEvent::SlotWanted(jobs[0])), []);
        // Who waits for a slot goes ahead of new claims.
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[1])), [Action::GrantSlot(jobs[0])]);
    }

    #[test]
    fn who_has_a_slot_is_granted_it_again() {
        let mut worker = Supervisor::new(1, false);
        let jobs = ids(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[0]]));
        assert_eq!(worker.handle(WorkerEvent::SlotWanted(jobs[0])), [Action::GrantSlot(jobs[0])]);
        assert_eq!(worker.used(), 1);
    }

    #[test]
    fn a_drain_waits_for_the_held_and_hands_back_in_the_end() {
        let mut worker = Supervisor::new(2, false);
        let jobs = ids(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[0]]));
        assert_eq!(worker.handle(WorkerEvent::DrainAsked), [Action::StopClaiming]);
        let late = worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[1]]));
        assert_eq!(late, [Action::Launch(jobs[1]), Action::HandBack(jobs[1])]);
        worker.handle(WorkerEvent::AttemptEnded(jobs[1]));
        assert_eq!(worker.handle(WorkerEvent::DrainTimeUp), [Action::HandBack(jobs[0])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [Action::Exit]);
    }

    #[test]
    fn until_idle_ends_an_idle_worker_only() {
        let mut worker = Supervisor::new(1, true);
        let jobs = ids(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(jobs.clone()));
        assert_eq!(worker.handle(WorkerEvent::IdleFound), []);
        worker.handle(WorkerEvent::AttemptEnded(jobs[0]));
        assert_eq!(worker.handle(WorkerEvent::IdleFound), [Action::StopClaiming]);
        assert_eq!(worker.handle(WorkerEvent::ClaimAnswered(Vec::new())), [Action::Exit]);
    }

    proptest! {
        #[test]
        fn the_slots_are_never_overdrawn(slots in 1u32..4, choices in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 0..80)) {
            let mut worker = Supervisor::new(slots, false);
            let mut asked = false;
            let mut held: Vec<JobId> = Vec::new();
            let mut parked: Vec<JobId> = Vec::new();
            let apply = |worker: &mut Supervisor, event, asked: &mut bool, held: &mut Vec<JobId>, parked: &mut Vec<JobId>| {
                for action in worker.handle(event) {
                    match action {
                        Action::Claim => *asked = true,
                        Action::GrantSlot(job) => { parked.retain(|other| *other != job); held.push(job); }
                        Action::Launch(job) => held.push(job),
                        Action::StopClaiming | Action::HandBack(_) | Action::Exit => {}
                    }
                }
            };
            apply(&mut worker, WorkerEvent::Started, &mut asked, &mut held, &mut parked);
            for (choice, index) in choices {
                let event = match choice {
                    // The claimer looks at the free slots when it claims, not when it was asked.
                    0 if asked => { let n = index.index(worker.free() as usize + 1); asked = false; WorkerEvent::ClaimAnswered(ids(n)) }
                    1 if !held.is_empty() => WorkerEvent::AttemptEnded(held.swap_remove(index.index(held.len()))),
                    2 if !held.is_empty() => { let job = held.swap_remove(index.index(held.len())); parked.push(job); WorkerEvent::Parked(job) }
                    3 if !parked.is_empty() => WorkerEvent::SlotWanted(parked[index.index(parked.len())]),
                    _ => continue,
                };
                apply(&mut worker, event, &mut asked, &mut held, &mut parked);
                prop_assert!(worker.used() <= slots);
                prop_assert_eq!(worker.used() as usize, held.len());
                prop_assert_eq!(worker.jobs() as usize, held.len() + parked.len());
            }
        }
    }
}
