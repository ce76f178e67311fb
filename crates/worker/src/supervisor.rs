//! What a worker does next, decided from what happened. Pure: no clock, no Redis, no tasks.
//!
//! ```text
//! event                         actions
//! Started                       Claim
//! ClaimAnswered                 Launch each job, then Claim again once a slot is free
//! AttemptEnded, Parked          GrantSlot to the attempt that has waited longest for one, else Claim
//! SlotRequested                 GrantSlot now, or once a slot is free
//! DrainRequested                StopClaiming; Exit once no attempt is active
//! DrainTimedOut                 Release every active job
//! QueueIdle (--until-idle)      StopClaiming, Exit if no attempt is active
//! ```

use std::collections::BTreeMap;
use std::collections::VecDeque;

use legwork_common::id::JobId;

/// Something that happened to the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The worker is ready to claim.
    Started,
    /// A claim was answered with these jobs, perhaps none; the claimer waits for the next request.
    ClaimAnswered(Vec<JobId>),
    /// An attempt is over, whatever its end.
    AttemptEnded(JobId),
    /// An attempt gave its slot back and waits for its own jobs.
    Parked(JobId),
    /// A parked attempt needs a slot to continue.
    SlotRequested(JobId),
    /// A signal, or the program that the worker is part of, asked it to drain.
    DrainRequested,
    /// The drain timeout expired.
    DrainTimedOut,
    /// No job is queued, scheduled or leased where this worker claims.
    QueueIdle,
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Request a claim, for as many slots as are free when it is made.
    Claim,
    /// Start the attempt of a claimed job.
    Launch(JobId),
    /// Give a slot to a parked attempt.
    GrantSlot(JobId),
    /// Request no more claims, and let the claimer end.
    StopClaiming,
    /// Cancel the attempt and release its job to the queue.
    Release(JobId),
    /// Leave the loop.
    Exit,
}

/// Whether a worker takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Done,
}

/// Whether an active attempt counts against the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotUse {
    HoldsSlot,
    Parked,
}

/// The state of a worker: its active attempts, which of them wait for a slot, and whether it claims.
#[derive(Debug)]
pub struct Supervisor {
    slots: u32,
    active: BTreeMap<JobId, SlotUse>,
    /// Parked attempts that need a slot, in the order of asking. They come before new claims: otherwise the children of
    /// other jobs could keep them waiting forever.
    slot_requests: VecDeque<JobId>,
    /// Whether a claim was requested and not answered. There is never more than one.
    claiming: bool,
    phase: Phase,
    until_idle: bool,
}

impl Supervisor {
    /// A worker with this many slots (at least one). With `until_idle` it exits once its queues are idle.
    pub fn new(slots: u32, until_idle: bool) -> Self {
        Self {
            slots: slots.max(1),
            active: BTreeMap::new(),
            slot_requests: VecDeque::new(),
            claiming: false,
            phase: Phase::Serving,
            until_idle,
        }
    }

    /// How many attempts hold a slot.
    pub fn used_slots(&self) -> u32 {
        let used = self.active.values().filter(|slot| **slot == SlotUse::HoldsSlot).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// How many slots are free. The claimer reads it when it claims, because slots may have been granted since the claim
    /// was requested.
    pub fn free_slots(&self) -> u32 {
        self.slots.saturating_sub(self.used_slots())
    }

    /// How many attempts are active, parked ones included.
    pub fn active_jobs(&self) -> u32 {
        u32::try_from(self.active.len()).unwrap_or(u32::MAX)
    }

    /// Whether it takes no new jobs.
    pub fn is_draining(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// Applies an event and returns what must be done, in this order.
    pub fn handle(&mut self, event: WorkerEvent) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            WorkerEvent::Started => {}
            WorkerEvent::ClaimAnswered(jobs) => {
                self.claiming = false;
                for job in jobs {
                    self.active.insert(job, SlotUse::HoldsSlot);
                    actions.push(Action::Launch(job));
                    // Claimed while the drain began: released at once.
                    if self.is_draining() {
                        actions.push(Action::Release(job));
                    }
                }
            }
            WorkerEvent::AttemptEnded(job) => {
                self.active.remove(&job);
                self.slot_requests.retain(|other| *other != job);
            }
            WorkerEvent::Parked(job) => {
                if let Some(slot) = self.active.get_mut(&job) {
                    *slot = SlotUse::Parked;
                }
            }
            WorkerEvent::SlotRequested(job) => match self.active.get(&job) {
                Some(SlotUse::Parked) if !self.slot_requests.contains(&job) => {
                    self.slot_requests.push_back(job);
                }
                // The attempt was suspended after the grant and before it used the slot: its next run asks again.
                Some(SlotUse::HoldsSlot) => actions.push(Action::GrantSlot(job)),
                Some(SlotUse::Parked) | None => {}
            },
            WorkerEvent::DrainRequested => self.stop_claiming(&mut actions),
            WorkerEvent::DrainTimedOut => {
                actions.extend(self.active.keys().map(|job| Action::Release(*job)));
            }
            WorkerEvent::QueueIdle => {
                if self.until_idle && self.active.is_empty() {
                    self.stop_claiming(&mut actions);
                }
            }
        }
        self.grant_slots(&mut actions);
        self.claim_or_exit(&mut actions);
        actions
    }

    fn stop_claiming(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining;
            actions.push(Action::StopClaiming);
        }
    }

    fn grant_slots(&mut self, actions: &mut Vec<Action>) {
        while self.free_slots() > 0 {
            let Some(job) = self.slot_requests.pop_front() else { return };
            if let Some(slot) = self.active.get_mut(&job) {
                *slot = SlotUse::HoldsSlot;
                actions.push(Action::GrantSlot(job));
            }
        }
    }

    fn claim_or_exit(&mut self, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Serving if !self.claiming && self.free_slots() > 0 => {
                self.claiming = true;
                actions.push(Action::Claim);
            }
            // Not before the last claim is answered: it may bring jobs, which must be released.
            Phase::Draining if !self.claiming && self.active.is_empty() => {
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
    fn claims_while_slots_are_free() {
        let mut worker = Supervisor::new(3, false);
        let jobs = ids(3);
        assert_eq!(worker.handle(WorkerEvent::Started), [Action::Claim]);
        let actions = worker.handle(WorkerEvent::ClaimAnswered(jobs[..2].to_vec()));
        assert_eq!(actions, [Action::Launch(jobs[0]), Action::Launch(jobs[1]), Action::Claim]);
        assert_eq!(worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[2]])), [Action::Launch(jobs[2])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [Action::Claim]);
    }

    #[test]
    fn one_slot_runs_a_parent_and_its_child() {
        let mut worker = Supervisor::new(1, false);
        let jobs = ids(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[0]]));
        assert_eq!(worker.handle(WorkerEvent::Parked(jobs[0])), [Action::Claim]);
        assert_eq!(worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[1]])), [Action::Launch(jobs[1])]);
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), []);
        // A parked attempt that needs a slot comes before new claims.
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[1])), [Action::GrantSlot(jobs[0])]);
    }

    #[test]
    fn a_slot_that_was_granted_is_granted_again_on_request() {
        let mut worker = Supervisor::new(1, false);
        let jobs = ids(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[0]]));
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), [Action::GrantSlot(jobs[0])]);
        assert_eq!(worker.used_slots(), 1);
    }

    #[test]
    fn a_drain_waits_for_active_jobs_and_releases_them_at_its_timeout() {
        let mut worker = Supervisor::new(2, false);
        let jobs = ids(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[0]]));
        assert_eq!(worker.handle(WorkerEvent::DrainRequested), [Action::StopClaiming]);
        let late = worker.handle(WorkerEvent::ClaimAnswered(vec![jobs[1]]));
        assert_eq!(late, [Action::Launch(jobs[1]), Action::Release(jobs[1])]);
        worker.handle(WorkerEvent::AttemptEnded(jobs[1]));
        assert_eq!(worker.handle(WorkerEvent::DrainTimedOut), [Action::Release(jobs[0])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [Action::Exit]);
    }

    #[test]
    fn until_idle_ends_only_an_idle_worker() {
        let mut worker = Supervisor::new(1, true);
        let jobs = ids(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::ClaimAnswered(jobs.clone()));
        assert_eq!(worker.handle(WorkerEvent::QueueIdle), []);
        worker.handle(WorkerEvent::AttemptEnded(jobs[0]));
        assert_eq!(worker.handle(WorkerEvent::QueueIdle), [Action::StopClaiming]);
        assert_eq!(worker.handle(WorkerEvent::ClaimAnswered(Vec::new())), [Action::Exit]);
    }

    proptest! {
        #[test]
        fn no_more_slots_are_used_than_there_are(slots in 1u32..4, choices in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 0..80)) {
            let mut worker = Supervisor::new(slots, false);
            let mut requested = false;
            let mut active: Vec<JobId> = Vec::new();
            let mut parked: Vec<JobId> = Vec::new();
            let apply = |worker: &mut Supervisor, event, requested: &mut bool, active: &mut Vec<JobId>, parked: &mut Vec<JobId>| {
                for action in worker.handle(event) {
                    match action {
                        Action::Claim => *requested = true,
                        Action::GrantSlot(job) => { parked.retain(|other| *other != job); active.push(job); }
                        Action::Launch(job) => active.push(job),
                        Action::StopClaiming | Action::Release(_) | Action::Exit => {}
                    }
                }
            };
            apply(&mut worker, WorkerEvent::Started, &mut requested, &mut active, &mut parked);
            for (choice, index) in choices {
                let event = match choice {
                    // The claimer reads the free slots when it claims, not when the claim was requested.
                    0 if requested => { let n = index.index(worker.free_slots() as usize + 1); requested = false; WorkerEvent::ClaimAnswered(ids(n)) }
                    1 if !active.is_empty() => WorkerEvent::AttemptEnded(active.swap_remove(index.index(active.len()))),
                    2 if !active.is_empty() => { let job = active.swap_remove(index.index(active.len())); parked.push(job); WorkerEvent::Parked(job) }
                    3 if !parked.is_empty() => WorkerEvent::SlotRequested(parked[index.index(parked.len())]),
                    _ => continue,
                };
                apply(&mut worker, event, &mut requested, &mut active, &mut parked);
                prop_assert!(worker.used_slots() <= slots);
                prop_assert_eq!(worker.used_slots() as usize, active.len());
                prop_assert_eq!(worker.active_jobs() as usize, active.len() + parked.len());
            }
        }
    }
}
