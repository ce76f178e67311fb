//! What a worker does next, decided from what happened. Pure: no clock, no Redis, no tasks.
//!
//! ```text
//! event                         actions
//! Started                       Claim
//! ClaimAnswered with jobs       Launch each, then Claim again once a slot is free
//! ClaimAnswered without jobs    AwaitWork while a slot is free, and then claim without being asked
//! Woken                         Claim; ReturnWake where no slot is free
//! ClaimAnswered, to be clear    ReturnWake where the claim followed a wake token; Rest while a slot is free, then Claim
//! AttemptEnded, Parked          GrantSlot to the attempt that has waited longest for one, else Claim
//! SlotRequested                 GrantSlot now, or once a slot is free
//! DrainRequested                StopClaiming; Exit once no attempt is active and every claim is answered
//! DrainTimedOut                 Release every active job
//! ReleaseTimedOut               Abandon, Exit
//! QueueIdle (--until-idle)      StopClaiming, Exit if no attempt is active
//! ```
//!
//! A job in quarantine is alone: while its attempt runs, no other gets a slot and nothing is claimed, until it ends, parks or
//! is cleared (docs/adr/0011-the-last-try-is-alone.md).
//!
//! Everything is kept by lease, which is one attempt, and not by job: a worker that stood still beyond its lease may
//! claim the same job again while its earlier attempt still ends.

use std::collections::HashMap;
use std::collections::VecDeque;

use legwork_queue::port::Lease;

/// Something that happened to the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The worker is ready to claim.
    Started,
    /// The claim was made. The claimer waits for the next order.
    ClaimAnswered {
        /// The claimed jobs, perhaps none.
        jobs: Vec<Lease>,
        /// Those of them that are in quarantine.
        alone: Vec<Lease>,
        /// Whether a job in quarantine waits for this worker to hold nothing.
        clears: bool,
        /// Whether the answer of a shard is missing: the claim may have taken jobs there.
        unanswered: bool,
    },
    /// The wait for work is over, and nothing was claimed. The claimer waits for the next order.
    Woken {
        /// Whether a wake token was taken, so that no other worker is woken by it.
        has_token: bool,
    },
    /// An attempt is over, whatever its end.
    AttemptEnded(Lease),
    /// An attempt gave its slot back and waits for its own jobs.
    Parked(Lease),
    /// The attempt in quarantine has finished a turn: others may run alongside it.
    Cleared(Lease),
    /// A parked attempt needs a slot to continue.
    SlotRequested(Lease),
    /// A signal, or the program that the worker is part of, asked it to drain.
    DrainRequested,
    /// The drain timeout expired.
    DrainTimedOut,
    /// The jobs that were released at the drain timeout took too long to end.
    ReleaseTimedOut,
    /// No job is queued, scheduled or leased where this worker claims.
    QueueIdle,
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Order a claim.
    Claim {
        /// How many jobs at most. With 0 it only asks for the answers of earlier claims that were lost.
        slots: u32,
        /// Whether the worker holds nothing, so that it may get a job in quarantine.
        idle: bool,
    },
    /// Order a wait for work, and a claim right after it.
    AwaitWork {
        /// How many jobs that claim may take at most; 0 for no claim, and [`WorkerEvent::Woken`] as the answer.
        slots: u32,
        /// Whether the worker holds nothing, as for a claim.
        idle: bool,
    },
    /// Order a pause in which no wake token is taken.
    Rest,
    /// Return the wake token of the last wait: another worker may have a slot for the job.
    ReturnWake,
    /// Start the attempt of a claimed job.
    Launch(Lease),
    /// Give a slot to a parked attempt.
    GrantSlot(Lease),
    /// End the wait for work, and let attempts end between two turns.
    StopClaiming,
    /// Cancel the attempt and release its job to the queue.
    Release(Lease),
    /// Drop everything that still runs. It is left as a crash would leave it.
    Abandon,
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

/// The order that the claimer is carrying out. There is never more than one that it reports on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClaimerOrder {
    None,
    /// A claim for so many slots, which no other attempt may get before it is answered.
    Claim {
        reserved: u32,
    },
    /// The same, once there is work.
    AwaitWork {
        reserved: u32,
    },
}

/// Whether an active attempt counts against the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotUse {
    HoldsSlot,
    Parked,
    /// It has no slot and gets none: its job is released.
    Releasing,
}

/// The state of a worker: its active attempts, which of them wait for a slot, and what its claimer does.
#[derive(Debug)]
pub struct Supervisor {
    slots: u32,
    active: HashMap<Lease, SlotUse>,
    /// Parked attempts that need a slot, in the order of asking. They come before new claims: otherwise the children of
    /// other jobs could keep them waiting forever.
    slot_requests: VecDeque<Lease>,
    /// The attempt in quarantine that runs alone.
    alone: Option<Lease>,
    order: ClaimerOrder,
    /// Whether the claimer has a wake token that no claim has answered yet.
    has_token: bool,
    /// Whether an earlier claim may have taken jobs that were not reported. No process runs them until it is asked
    /// again.
    unanswered: bool,
    phase: Phase,
    until_idle: bool,
}

impl Supervisor {
    /// A worker with this many slots (at least one). With `until_idle` it exits once its queues are idle.
    pub fn new(slots: u32, until_idle: bool) -> Self {
        Self {
            slots: slots.max(1),
            active: HashMap::new(),
            slot_requests: VecDeque::new(),
            alone: None,
            order: ClaimerOrder::None,
            has_token: false,
            unanswered: false,
            phase: Phase::Serving,
            until_idle,
        }
    }

    /// How many attempts hold a slot.
    pub fn used_slots(&self) -> u32 {
        let used = self.active.values().filter(|slot| **slot == SlotUse::HoldsSlot).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// How many slots are kept for the jobs of the claim that is being made.
    pub fn reserved_slots(&self) -> u32 {
        match self.order {
            ClaimerOrder::Claim { reserved } | ClaimerOrder::AwaitWork { reserved } => reserved,
            ClaimerOrder::None => 0,
        }
    }

    /// Whether a job in quarantine would be alone here. A parked attempt does not count: no crash is charged to it, and it
    /// gets no slot before the other is done.
    fn is_idle(&self) -> bool {
        self.alone.is_none() && self.active.values().all(|slot| *slot == SlotUse::Parked)
    }

    fn free_slots(&self) -> u32 {
        if self.alone.is_some() {
            return 0;
        }
        self.slots.saturating_sub(self.used_slots()).saturating_sub(self.reserved_slots())
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
        // Whether the queue had nothing a moment ago, so that the next claim waits for a sign of work.
        let mut found_nothing = false;
        let mut must_rest = false;
        match event {
            WorkerEvent::Started => {}
            WorkerEvent::ClaimAnswered { jobs, alone, clears, unanswered } => {
                self.order = ClaimerOrder::None;
                self.unanswered = unanswered;
                found_nothing = jobs.is_empty();
                must_rest = clears && found_nothing;
                let had_token = std::mem::take(&mut self.has_token);
                if must_rest && had_token {
                    // The job that it announces is one that another worker may take.
                    actions.push(Action::ReturnWake);
                }
                self.launch(jobs, &alone, &mut actions);
            }
            WorkerEvent::Woken { has_token } => {
                self.order = ClaimerOrder::None;
                let is_useless = self.is_draining() || self.free_slots() == 0;
                if has_token && is_useless {
                    actions.push(Action::ReturnWake);
                }
                self.has_token = has_token && !is_useless;
            }
            WorkerEvent::AttemptEnded(lease) => {
                self.active.remove(&lease);
                self.end_of_quarantine(lease);
                self.slot_requests.retain(|other| *other != lease);
            }
            WorkerEvent::Parked(lease) => {
                if let Some(slot) = self.active.get_mut(&lease).filter(|slot| **slot == SlotUse::HoldsSlot) {
                    *slot = SlotUse::Parked;
                }
                self.end_of_quarantine(lease);
            }
            WorkerEvent::Cleared(lease) => self.end_of_quarantine(lease),
            WorkerEvent::SlotRequested(lease) => self.request_slot(lease, &mut actions),
            WorkerEvent::DrainRequested => self.stop_claiming(&mut actions),
            WorkerEvent::DrainTimedOut => {
                actions.extend(self.active.keys().map(|lease| Action::Release(*lease)));
            }
            WorkerEvent::ReleaseTimedOut => {
                self.phase = Phase::Done;
                actions.extend([Action::Abandon, Action::Exit]);
            }
            WorkerEvent::QueueIdle => {
                if self.until_idle && self.active.is_empty() {
                    self.stop_claiming(&mut actions);
                }
            }
        }
        self.grant_slots(&mut actions);
        self.order_or_exit(found_nothing, must_rest, &mut actions);
        actions
    }

    /// Starts the attempts of claimed jobs. Jobs beyond the free slots, those of a worker that drains, and those that would
    /// break the quarantine of one of them are released at once: they are the answer of a claim that was lost at first,
    /// whose slots were granted to others since.
    fn launch(&mut self, jobs: Vec<Lease>, alone: &[Lease], actions: &mut Vec<Action>) {
        for lease in jobs {
            actions.push(Action::Launch(lease));
            let is_alone = alone.contains(&lease);
            let fits = if is_alone { self.is_idle() } else { self.free_slots() > 0 };
            if self.is_draining() || !fits {
                self.active.insert(lease, SlotUse::Releasing);
                actions.push(Action::Release(lease));
            } else {
                self.active.insert(lease, SlotUse::HoldsSlot);
                if is_alone {
                    self.alone = Some(lease);
                }
            }
        }
    }

    fn end_of_quarantine(&mut self, lease: Lease) {
        if self.alone == Some(lease) {
            self.alone = None;
        }
    }

    fn request_slot(&mut self, lease: Lease, actions: &mut Vec<Action>) {
        match self.active.get(&lease) {
            Some(SlotUse::Parked) if !self.slot_requests.contains(&lease) => {
                self.slot_requests.push_back(lease);
            }
            // The attempt was suspended after the grant and before it used the slot: its next run asks again.
            Some(SlotUse::HoldsSlot) => actions.push(Action::GrantSlot(lease)),
            Some(SlotUse::Parked | SlotUse::Releasing) | None => {}
        }
    }

    fn stop_claiming(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining;
            actions.push(Action::StopClaiming);
        }
    }

    fn grant_slots(&mut self, actions: &mut Vec<Action>) {
        while self.free_slots() > 0 {
            let Some(lease) = self.slot_requests.pop_front() else { return };
            if let Some(slot) = self.active.get_mut(&lease) {
                *slot = SlotUse::HoldsSlot;
                actions.push(Action::GrantSlot(lease));
            }
        }
    }

    /// Gives the claimer its next order, if it has none; orders the exit of a drained worker.
    fn order_or_exit(&mut self, found_nothing: bool, must_rest: bool, actions: &mut Vec<Action>) {
        if self.order != ClaimerOrder::None {
            return;
        }
        let free = self.free_slots();
        match self.phase {
            // Jobs of a claim whose answer was lost run nowhere, so that it is repeated before anything else, also
            // without a free slot and in a drain.
            Phase::Serving if self.unanswered => self.claim(free, actions),
            Phase::Draining if self.unanswered => self.claim(0, actions),
            // A full worker takes neither jobs nor wake tokens, which are for workers that can claim.
            Phase::Serving if free == 0 => {}
            Phase::Serving if must_rest => {
                // A wait for work would take wake tokens from workers that can claim.
                self.order = ClaimerOrder::AwaitWork { reserved: 0 };
                actions.push(Action::Rest);
            }
            Phase::Serving if found_nothing => self.await_work(free, actions),
            Phase::Serving => self.claim(free, actions),
            Phase::Draining if self.active.is_empty() => {
                self.phase = Phase::Done;
                actions.push(Action::Exit);
            }
            Phase::Draining | Phase::Done => {}
        }
    }

    /// The wait may take seconds, in which no other gets the slots of the claim after it. So there is none where a parked
    /// attempt may need one of them.
    fn await_work(&mut self, free: u32, actions: &mut Vec<Action>) {
        let has_parked = self.active.values().any(|slot| *slot == SlotUse::Parked);
        let slots = if has_parked { 0 } else { free };
        self.order = ClaimerOrder::AwaitWork { reserved: slots };
        actions.push(Action::AwaitWork { slots, idle: slots > 0 && self.is_idle() });
    }

    fn claim(&mut self, slots: u32, actions: &mut Vec<Action>) {
        self.order = ClaimerOrder::Claim { reserved: slots };
        actions.push(Action::Claim { slots, idle: slots > 0 && self.is_idle() });
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::JobId;
    use legwork_common::id::RunToken;
    use legwork_common::id::SessionId;
    use proptest::prelude::*;

    use super::*;

    fn attempt_of(id: JobId) -> Lease {
        Lease { id, token: RunToken::random() }
    }

    fn attempts(count: usize) -> Vec<Lease> {
        let session = SessionId::random();
        (0..count).map(|_| attempt_of(JobId::random_in(session))).collect()
    }

    fn answered(jobs: &[Lease]) -> WorkerEvent {
        WorkerEvent::ClaimAnswered {
            jobs: jobs.to_vec(),
            alone: Vec::new(),
            clears: false,
            unanswered: false,
        }
    }

    fn lost(jobs: &[Lease]) -> WorkerEvent {
        WorkerEvent::ClaimAnswered { jobs: jobs.to_vec(), alone: Vec::new(), clears: false, unanswered: true }
    }

    fn woken() -> WorkerEvent {
        WorkerEvent::Woken { has_token: true }
    }

    /// The answer of a claim that took a job in quarantine.
    fn quarantined(job: Lease) -> WorkerEvent {
        WorkerEvent::ClaimAnswered { jobs: vec![job], alone: vec![job], clears: false, unanswered: false }
    }

    fn claim(slots: u32) -> Action {
        Action::Claim { slots, idle: false }
    }

    fn idle_claim(slots: u32) -> Action {
        Action::Claim { slots, idle: true }
    }

    fn await_work(slots: u32) -> Action {
        Action::AwaitWork { slots, idle: false }
    }

    fn idle_await_work(slots: u32) -> Action {
        Action::AwaitWork { slots, idle: true }
    }

    #[test]
    fn claims_while_slots_are_free() {
        let mut worker = Supervisor::new(3, false);
        let jobs = attempts(3);
        assert_eq!(worker.handle(WorkerEvent::Started), [idle_claim(3)]);
        let actions = worker.handle(answered(&jobs[..2]));
        assert_eq!(actions, [Action::Launch(jobs[0]), Action::Launch(jobs[1]), claim(1)]);
        assert_eq!(worker.handle(answered(&jobs[2..])), [Action::Launch(jobs[2])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [claim(1)]);
    }

    #[test]
    fn waits_for_work_when_there_was_none() {
        let mut worker = Supervisor::new(1, false);
        worker.handle(WorkerEvent::Started);
        assert_eq!(worker.handle(answered(&[])), [idle_await_work(1)]);
        assert_eq!(worker.handle(woken()), [idle_claim(1)]);
        // The claim after the wait found nothing either.
        worker.handle(answered(&[]));
        assert_eq!(worker.handle(answered(&[])), [idle_await_work(1)]);
        assert_eq!(worker.handle(lost(&[])), [idle_claim(1)]);
    }

    #[test]
    fn the_claim_after_a_wait_is_for_slots_that_no_attempt_may_need() {
        let mut worker = Supervisor::new(3, false);
        let jobs = attempts(3);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        assert_eq!(worker.handle(answered(&[])), [await_work(2)]);
        assert_eq!((worker.used_slots(), worker.reserved_slots()), (1, 2));
        // An attempt that parks meanwhile gets its own slot back.
        assert_eq!(worker.handle(WorkerEvent::Parked(jobs[0])), []);
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), [Action::GrantSlot(jobs[0])]);
        let launched = [Action::Launch(jobs[1]), Action::Launch(jobs[2])];
        assert_eq!(worker.handle(answered(&jobs[1..])), launched);
        worker.handle(WorkerEvent::AttemptEnded(jobs[1]));
        worker.handle(WorkerEvent::Parked(jobs[0]));
        assert_eq!(worker.handle(answered(&[])), [await_work(0)]);
    }

    #[test]
    fn one_slot_runs_a_parent_and_its_child() {
        let mut worker = Supervisor::new(1, false);
        let jobs = attempts(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        assert_eq!(worker.handle(WorkerEvent::Parked(jobs[0])), [idle_claim(1)]);
        assert_eq!(worker.handle(answered(&jobs[1..])), [Action::Launch(jobs[1])]);
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), []);
        // A parked attempt that needs a slot comes before new claims.
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[1])), [Action::GrantSlot(jobs[0])]);
    }

    #[test]
    fn a_slot_that_was_granted_is_granted_again_on_request() {
        let mut worker = Supervisor::new(1, false);
        let jobs = attempts(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs));
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), [Action::GrantSlot(jobs[0])]);
        assert_eq!(worker.used_slots(), 1);
    }

    #[test]
    fn slots_that_a_claim_asks_for_are_granted_to_no_other() {
        let mut worker = Supervisor::new(1, false);
        let jobs = attempts(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        assert_eq!(worker.handle(WorkerEvent::Parked(jobs[0])), [idle_claim(1)]);
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), []);
        assert_eq!((worker.used_slots(), worker.reserved_slots()), (0, 1));
        // Full again, it neither claims nor waits for work, which would take wake tokens from workers that can.
        assert_eq!(worker.handle(answered(&[])), [Action::GrantSlot(jobs[0])]);
        assert_eq!((worker.used_slots(), worker.reserved_slots()), (1, 0));
    }

    #[test]
    fn a_worker_that_fills_up_while_it_waits_for_work_claims_nothing() {
        let mut worker = Supervisor::new(1, false);
        let jobs = attempts(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs));
        worker.handle(WorkerEvent::Parked(jobs[0]));
        assert_eq!(worker.handle(answered(&[])), [await_work(0)]);
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), [Action::GrantSlot(jobs[0])]);
        assert_eq!(worker.handle(woken()), [Action::ReturnWake]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [idle_claim(1)]);
    }

    #[test]
    fn a_job_in_quarantine_is_alone_until_it_ends_parks_or_has_finished_a_turn() {
        for over in [WorkerEvent::AttemptEnded, WorkerEvent::Parked, WorkerEvent::Cleared] {
            let mut worker = Supervisor::new(3, false);
            let jobs = attempts(3);
            worker.handle(WorkerEvent::Started);
            worker.handle(answered(&jobs[..1]));
            assert_eq!(worker.handle(WorkerEvent::Parked(jobs[0])), []);
            assert_eq!(worker.handle(answered(&[])), [await_work(0)]);
            assert_eq!(worker.handle(woken()), [idle_claim(3)]);
            assert_eq!(worker.handle(quarantined(jobs[1])), [Action::Launch(jobs[1])]);
            // Neither a parked attempt nor what a lost claim brings gets a slot alongside it.
            assert_eq!(worker.handle(WorkerEvent::SlotRequested(jobs[0])), []);
            let late = worker.handle(answered(&jobs[2..]));
            assert_eq!(late, [Action::Launch(jobs[2]), Action::Release(jobs[2])]);
            let after = worker.handle(over(jobs[1]));
            assert_eq!(after[0], Action::GrantSlot(jobs[0]), "{after:?}");
            assert!(matches!(after[1], Action::Claim { idle: false, .. }), "{after:?}");
        }
    }

    #[test]
    fn a_job_in_quarantine_that_comes_to_others_is_released() {
        let mut worker = Supervisor::new(3, false);
        let jobs = attempts(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        let late = worker.handle(quarantined(jobs[1]));
        assert_eq!(late, [Action::Launch(jobs[1]), Action::Release(jobs[1]), claim(2)]);
    }

    #[test]
    fn a_worker_that_is_to_be_clear_rests_and_asks_again() {
        let mut worker = Supervisor::new(2, false);
        let jobs = attempts(2);
        let clear = || WorkerEvent::ClaimAnswered {
            jobs: Vec::new(),
            alone: Vec::new(),
            clears: true,
            unanswered: false,
        };
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        assert_eq!(worker.handle(clear()), [Action::Rest]);
        assert_eq!(worker.handle(WorkerEvent::Woken { has_token: false }), [claim(1)]);
        assert_eq!(worker.handle(clear()), [Action::Rest]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), []);
        assert_eq!(worker.handle(WorkerEvent::Woken { has_token: false }), [idle_claim(2)]);
        assert_eq!(worker.handle(quarantined(jobs[1])), [Action::Launch(jobs[1])]);
        assert_eq!(worker.handle(WorkerEvent::DrainRequested), [Action::StopClaiming]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[1])), [Action::Exit]);
    }

    #[test]
    fn a_worker_that_is_to_be_clear_returns_the_wake_token_that_it_came_with() {
        let mut worker = Supervisor::new(2, false);
        let clear = |unanswered| WorkerEvent::ClaimAnswered {
            jobs: Vec::new(),
            alone: Vec::new(),
            clears: true,
            unanswered,
        };
        let jobs = attempts(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs));
        worker.handle(answered(&[]));
        assert_eq!(worker.handle(woken()), [claim(1)]);
        assert_eq!(worker.handle(clear(false)), [Action::ReturnWake, Action::Rest]);
        // Once: the next claim came with none, and one that brings jobs has used its own.
        assert_eq!(worker.handle(WorkerEvent::Woken { has_token: false }), [claim(1)]);
        assert_eq!(worker.handle(clear(false)), [Action::Rest]);
        worker.handle(WorkerEvent::AttemptEnded(jobs[0]));
        worker.handle(WorkerEvent::Woken { has_token: false });
        worker.handle(answered(&[]));
        assert_eq!(worker.handle(woken()), [idle_claim(2)]);
        worker.handle(answered(&jobs));
        assert_eq!(worker.handle(clear(false)), [Action::Rest]);
    }

    #[test]
    fn attempts_of_one_job_are_held_apart() {
        let mut worker = Supervisor::new(2, false);
        let first = attempts(1)[0];
        let second = attempt_of(first.id);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&[first]));
        assert_eq!(worker.handle(answered(&[second])), [Action::Launch(second)]);
        assert_eq!(worker.handle(WorkerEvent::Parked(second)), [claim(1)]);
        worker.handle(WorkerEvent::DrainRequested);
        // The end of the lost attempt neither ends the drain nor takes the slot of the other.
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(first)), []);
        assert_eq!(worker.active_jobs(), 1);
        worker.handle(answered(&[]));
        assert_eq!(worker.handle(WorkerEvent::SlotRequested(second)), [Action::GrantSlot(second)]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(second)), [Action::Exit]);
    }

    #[test]
    fn a_claim_whose_answer_was_lost_is_repeated_without_a_free_slot_too() {
        let mut worker = Supervisor::new(1, false);
        let jobs = attempts(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        worker.handle(WorkerEvent::Parked(jobs[0]));
        worker.handle(WorkerEvent::SlotRequested(jobs[0]));
        // The parked attempt does not wait for the outage; what the claim took after all is released.
        assert_eq!(worker.handle(lost(&[])), [Action::GrantSlot(jobs[0]), claim(0)]);
        assert_eq!(worker.handle(lost(&[])), [claim(0)]);
        let late = worker.handle(answered(&jobs[1..]));
        assert_eq!(late, [Action::Launch(jobs[1]), Action::Release(jobs[1])]);
        assert_eq!((worker.used_slots(), worker.active_jobs()), (1, 2));
    }

    #[test]
    fn a_drain_waits_for_active_jobs_and_releases_them_at_its_timeout() {
        let mut worker = Supervisor::new(2, false);
        let jobs = attempts(2);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs[..1]));
        assert_eq!(worker.handle(WorkerEvent::DrainRequested), [Action::StopClaiming]);
        let late = worker.handle(answered(&jobs[1..]));
        assert_eq!(late, [Action::Launch(jobs[1]), Action::Release(jobs[1])]);
        worker.handle(WorkerEvent::AttemptEnded(jobs[1]));
        assert_eq!(worker.handle(WorkerEvent::DrainTimedOut), [Action::Release(jobs[0])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [Action::Exit]);
    }

    #[test]
    fn a_drain_asks_for_the_answer_of_a_lost_claim() {
        let mut worker = Supervisor::new(2, false);
        let jobs = attempts(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(WorkerEvent::DrainRequested);
        assert_eq!(worker.handle(lost(&[])), [claim(0)]);
        assert_eq!(worker.handle(answered(&jobs)), [Action::Launch(jobs[0]), Action::Release(jobs[0])]);
        assert_eq!(worker.handle(WorkerEvent::AttemptEnded(jobs[0])), [Action::Exit]);
    }

    #[test]
    fn what_does_not_end_in_time_is_abandoned() {
        let mut worker = Supervisor::new(2, false);
        let jobs = attempts(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs));
        worker.handle(WorkerEvent::DrainRequested);
        worker.handle(WorkerEvent::DrainTimedOut);
        assert_eq!(worker.handle(WorkerEvent::ReleaseTimedOut), [Action::Abandon, Action::Exit]);
    }

    #[test]
    fn until_idle_ends_only_an_idle_worker() {
        let mut worker = Supervisor::new(1, true);
        let jobs = attempts(1);
        worker.handle(WorkerEvent::Started);
        worker.handle(answered(&jobs));
        assert_eq!(worker.handle(WorkerEvent::QueueIdle), []);
        worker.handle(WorkerEvent::AttemptEnded(jobs[0]));
        assert_eq!(worker.handle(answered(&[])), [idle_await_work(1)]);
        assert_eq!(worker.handle(WorkerEvent::QueueIdle), [Action::StopClaiming]);
        assert_eq!(worker.handle(woken()), [Action::ReturnWake, Action::Exit]);
    }

    /// A worker and its surroundings, as the supervisor's actions shape them.
    struct World {
        worker: Supervisor,
        slots: u32,
        running: Vec<Lease>,
        parked: Vec<Lease>,
        /// Parked attempts that have asked for a slot.
        asking: Vec<Lease>,
        released: Vec<Lease>,
        /// What the claimer is doing, with the slots of a claim.
        order: Option<Action>,
        /// Jobs that a claim whose answer was lost may have taken.
        unreported: usize,
        exited: bool,
    }

    impl World {
        fn new(slots: u32) -> Self {
            let worker = Supervisor::new(slots, false);
            let (running, parked, asking, released) = (vec![], vec![], vec![], vec![]);
            let mut world = Self {
                worker,
                slots,
                running,
                parked,
                asking,
                released,
                order: None,
                unreported: 0,
                exited: false,
            };
            world.apply(WorkerEvent::Started);
            world
        }

        fn apply(&mut self, event: WorkerEvent) {
            for action in self.worker.handle(event) {
                match action {
                    Action::Claim { .. } | Action::AwaitWork { .. } | Action::Rest => {
                        assert_eq!(self.order.replace(action), None, "one order at a time");
                    }
                    Action::Launch(lease) => self.running.push(lease),
                    Action::Release(lease) => {
                        for held in [&mut self.running, &mut self.parked, &mut self.asking] {
                            held.retain(|other| *other != lease);
                        }
                        self.released.push(lease);
                    }
                    Action::GrantSlot(lease) => {
                        self.asking.retain(|other| *other != lease);
                        self.running.push(lease);
                    }
                    Action::Exit => self.exited = true,
                    Action::StopClaiming | Action::ReturnWake | Action::Abandon => {}
                }
            }
        }

        /// The claimer reports on its order; the answer of a claim may be lost, and later brings what it took. A wait may end
        /// without a claim.
        fn report(&mut self, index: usize, is_lost: bool) {
            let order = match self.order.take() {
                Some(Action::AwaitWork { slots, idle }) if slots > 0 && !index.is_multiple_of(5) => {
                    Some(Action::Claim { slots, idle })
                }
                order => order,
            };
            match order {
                Some(Action::Claim { slots, .. }) if is_lost => {
                    // A repeat of a claim that was done takes nothing more.
                    self.unreported = self.unreported.max(index % (slots as usize + 1));
                    self.apply(lost(&[]));
                }
                Some(Action::Claim { idle: true, .. }) if self.unreported == 0 && index.is_multiple_of(3) => {
                    self.apply(quarantined(attempts(1)[0]));
                }
                Some(Action::Claim { slots, .. }) => {
                    let count = match std::mem::take(&mut self.unreported) {
                        0 => index % (slots as usize + 1),
                        unreported => unreported,
                    };
                    self.apply(answered(&attempts(count)));
                }
                Some(_) => self.apply(woken()),
                None => {}
            }
        }

        fn step(&mut self, choice: u8, index: usize) {
            match choice {
                0 | 1 => self.report(index, choice == 1),
                2 if !self.running.is_empty() => {
                    let lease = self.running.swap_remove(index % self.running.len());
                    self.apply(WorkerEvent::AttemptEnded(lease));
                }
                3 if !self.running.is_empty() => {
                    let lease = self.running.swap_remove(index % self.running.len());
                    self.parked.push(lease);
                    self.apply(WorkerEvent::Parked(lease));
                }
                4 if !self.parked.is_empty() => {
                    let lease = self.parked.swap_remove(index % self.parked.len());
                    self.asking.push(lease);
                    self.apply(WorkerEvent::SlotRequested(lease));
                }
                6 => {
                    if let Some(alone) = self.worker.alone {
                        self.apply(WorkerEvent::Cleared(alone));
                    }
                }
                5 if !self.released.is_empty() => {
                    let lease = self.released.swap_remove(index % self.released.len());
                    self.apply(WorkerEvent::AttemptEnded(lease));
                }
                _ => {}
            }
        }

        fn check(&self) {
            let (used, reserved) = (self.worker.used_slots(), self.worker.reserved_slots());
            assert!(used + reserved <= self.slots, "{used} used and {reserved} reserved of {}", self.slots);
            assert_eq!(used as usize, self.running.len());
            let held = [&self.running, &self.parked, &self.asking, &self.released].map(Vec::len);
            assert_eq!(self.worker.active_jobs() as usize, held.iter().sum::<usize>());
            let is_alone = self.worker.alone.is_some();
            assert!(!is_alone || used == 1, "a job in quarantine is alone");
            let is_full = used + reserved == self.slots || is_alone;
            assert!(is_full || self.asking.is_empty(), "a free slot is granted at once");
            let waits = matches!(self.order, Some(Action::AwaitWork { .. }));
            assert!(
                is_full || self.worker.is_draining() || self.order.is_some(),
                "a free slot is claimed for"
            );
            assert!(self.unreported == 0 || !waits, "a lost answer is asked for before anything else");
        }
    }

    proptest! {
        #[test]
        fn no_more_slots_are_used_and_reserved_than_there_are(
            slots in 1u32..4,
            steps in prop::collection::vec((0u8..7, any::<usize>()), 0..120),
        ) {
            let mut world = World::new(slots);
            world.check();
            for (choice, index) in steps {
                world.step(choice, index);
                world.check();
            }
            // However it got there, a drain ends once every claim is answered and every attempt has ended.
            world.apply(WorkerEvent::DrainRequested);
            world.apply(WorkerEvent::DrainTimedOut);
            for _ in 0..2 {
                world.report(0, false);
            }
            for lease in std::mem::take(&mut world.released) {
                world.apply(WorkerEvent::AttemptEnded(lease));
            }
            prop_assert!(world.exited && world.unreported == 0, "{:?}", world.worker);
        }
    }
}
