//! A small pure model of the queue: what each step answers, and what state it leaves.

use std::collections::BTreeSet;

use legwork_common::lifecycle::Event;
use legwork_common::lifecycle::State;
use legwork_common::lifecycle::next;
use legwork_queue::port::Finished;
use legwork_queue::port::Parked;
use legwork_queue::port::Renewed;

/// The content of a mailbox entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Letter {
    Ended(usize),
    Message,
}

/// The fence below a job's own tag.
#[derive(Debug, Clone, Default, PartialEq)]
struct Fence {
    attempt: u32,
    lease: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct ModelJob {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) parent: Option<usize>,
    pub(crate) priority: u8,
    pub(crate) output: u64,
    pub(crate) excluded: BTreeSet<usize>,
    pub(crate) mail: Vec<Letter>,
    pub(crate) key: Option<u8>,
    pub(crate) gone: bool,
    pub(crate) dispatched: bool,
    /// Whether the next round of reaping finds it due, while it is scheduled.
    due: bool,
    retries: u32,
    crashes: u32,
    /// Whether its next attempt, or its current one, is alone on its worker.
    pub(crate) quarantine: bool,
    token: Option<usize>,
    fence: Fence,
}

/// One claim that was granted. Its holder may be a zombie.
#[derive(Debug, Clone)]
pub(crate) struct ModelLease {
    pub(crate) job: usize,
    pub(crate) worker: usize,
    pub(crate) attempt: u32,
}

/// One session and its jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) jobs: Vec<ModelJob>,
    pub(crate) leases: Vec<ModelLease>,
    pub(crate) mail: Vec<Letter>,
    pub(crate) owned: bool,
    pub(crate) stops_with_owner: bool,
    pub(crate) closed: bool,
    pub(crate) marked: bool,
    pub(crate) session_gone: bool,
    /// Whether a step was taken that may exceed the cap.
    pub(crate) over_cap: bool,
}

/// Workers of the fleet.
pub(crate) const WORKERS: usize = 3;
const MAX_CRASHES: u32 = 3;

impl Model {
    pub(crate) fn store(&mut self, parent: Option<usize>, priority: u8, retries: u32, key: Option<u8>) {
        self.jobs.push(ModelJob {
            state: State::Queued,
            attempt: 0,
            parent,
            priority,
            output: 0,
            excluded: BTreeSet::new(),
            mail: Vec::new(),
            key,
            gone: false,
            dispatched: false,
            due: false,
            retries,
            crashes: 0,
            quarantine: false,
            token: None,
            fence: Fence::default(),
        });
        if let Some(parent) = parent {
            self.jobs[parent].dispatched = true;
        }
    }

    pub(crate) fn live_children(&self, of: Option<usize>) -> u64 {
        let lives = |job: &&ModelJob| job.parent == of && !job.gone && !job.state.is_terminal();
        self.jobs.iter().filter(lives).count() as u64
    }

    pub(crate) fn unfinished(&self) -> u64 {
        self.jobs.iter().filter(|job| !job.gone && !job.state.is_terminal()).count() as u64
    }

    /// The state of a lease's job, if the lease has the job's current token.
    pub(crate) fn under(&self, lease: usize) -> Option<State> {
        let job = &self.jobs[self.leases[lease].job];
        (!job.gone && job.token == Some(lease)).then_some(job.state)
    }

    pub(crate) fn depth(&self, job: usize) -> usize {
        self.jobs[job].parent.map_or(0, |parent| self.depth(parent) + 1)
    }

    fn is_below(&self, job: usize, root: usize) -> bool {
        self.jobs[job].parent.is_some_and(|parent| parent == root || self.is_below(parent, root))
    }

    fn take(&mut self, job: usize, event: Event) {
        let state = self.jobs[job].state;
        self.jobs[job].state = next(state, event).unwrap_or_else(|error| unreachable!("{error}"));
        if self.jobs[job].state.is_terminal() {
            self.ended(job);
        }
    }

    fn ended(&mut self, job: usize) {
        match self.jobs[job].parent {
            Some(parent) if !self.jobs[parent].gone && !self.jobs[parent].state.is_terminal() => {
                self.jobs[parent].mail.push(Letter::Ended(job));
            }
            None if self.owned => self.mail.push(Letter::Ended(job)),
            Some(_) | None => {}
        }
        self.jobs[job].mail.clear();
        if self.jobs[job].state == State::Failed {
            self.sweep_below(Some(job));
        }
    }

    /// What a sweep does to all jobs below a root, from the top down.
    fn sweep_below(&mut self, root: Option<usize>) {
        let mut below: Vec<usize> =
            (0..self.jobs.len()).filter(|&job| root.is_none_or(|root| self.is_below(job, root))).collect();
        below.sort_by_key(|&job| self.depth(job));
        for job in below {
            if !self.jobs[job].gone && !self.jobs[job].state.is_terminal() {
                self.take(job, Event::StopRequested);
            }
        }
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.jobs.iter().all(|job| job.gone || job.state.is_terminal())
    }

    pub(crate) fn stop(&mut self, job: usize) {
        self.take(job, Event::StopRequested);
        self.sweep_below(Some(job));
    }

    pub(crate) fn stop_session(&mut self) {
        self.sweep_below(None);
        self.marked = !self.all_ended();
    }

    pub(crate) fn claimed(&mut self, job: usize, worker: usize) {
        self.take(job, Event::Claimed);
        self.jobs[job].attempt += 1;
        self.jobs[job].token = Some(self.leases.len());
        self.leases.push(ModelLease { job, worker, attempt: self.jobs[job].attempt });
    }

    /// Whether the fence takes the attempt.
    pub(crate) fn begin(&mut self, lease: usize) -> bool {
        let ModelLease { job, attempt, .. } = self.leases[lease];
        let fence = &mut self.jobs[job].fence;
        if fence.attempt > attempt || (fence.attempt == attempt && fence.lease != Some(lease)) {
            return false;
        }
        *fence = Fence { attempt, lease: Some(lease) };
        true
    }

    pub(crate) fn append(&mut self, lease: usize, to: u64) -> Option<u64> {
        let job = &mut self.jobs[self.leases[lease].job];
        // Without a fence, the first append sets it.
        if job.fence == Fence::default() {
            job.fence = Fence { attempt: 1, lease: Some(lease) };
        }
        if job.fence.lease != Some(lease) {
            return None;
        }
        job.output = job.output.max(to);
        Some(job.output)
    }

    pub(crate) fn renew(&self, lease: usize) -> Renewed {
        let job = &self.jobs[self.leases[lease].job];
        match self.under(lease) {
            Some(State::Stopping) => Renewed::StopRequested,
            Some(State::Running | State::Waiting) if job.mail.is_empty() => Renewed::Kept,
            Some(State::Running | State::Waiting) => Renewed::Mail,
            _ => Renewed::Lost,
        }
    }

    pub(crate) fn park(&mut self, lease: usize, resume: bool) -> Parked {
        let job = self.leases[lease].job;
        match (self.under(lease), resume) {
            (Some(State::Stopping), _) => Parked::Stopping,
            (Some(State::Running), true) | (Some(State::Waiting), false) => Parked::Done,
            (Some(State::Running), false) => {
                self.take(job, Event::Parked);
                self.jobs[job].quarantine = false;
                Parked::Done
            }
            (Some(State::Waiting), true) => {
                self.over_cap = true;
                self.take(job, Event::Resumed);
                Parked::Done
            }
            _ => Parked::Lost,
        }
    }

    pub(crate) fn finish(&mut self, lease: usize, event: Event) -> Finished {
        let job = self.leases[lease].job;
        match self.under(lease) {
            None | Some(State::Reaping | State::Queued) => return Finished::Lost,
            Some(state) if state.is_terminal() || state == State::Scheduled => return Finished::Now(state),
            Some(State::Running | State::Waiting) if event == Event::Failed && self.jobs[job].retries > 0 => {
                self.jobs[job].retries -= 1;
                self.jobs[job].due = true;
                self.take(job, Event::RetryScheduled);
            }
            Some(_) => self.take(job, event),
        }
        Finished::Now(self.jobs[job].state)
    }

    pub(crate) fn release(&mut self, lease: usize, lack: bool) -> Finished {
        let ModelLease { job, worker, .. } = self.leases[lease];
        match self.under(lease) {
            None => return Finished::Lost,
            Some(State::Stopping) => self.take(job, Event::Released),
            Some(State::Running | State::Waiting) if !lack => {
                self.over_cap = true;
                self.take(job, Event::Released);
            }
            Some(State::Running) => {
                self.jobs[job].excluded.insert(worker);
                self.jobs[job].due = false;
                let rejected = self.jobs[job].excluded.len() == WORKERS;
                self.take(job, if rejected { Event::Rejected } else { Event::Declined });
            }
            Some(_) => {}
        }
        Finished::Now(self.jobs[job].state)
    }

    /// One round of reaping by a process that is alone, which takes the held jobs back in this order: it decides which
    /// of a parent and its child fails first, where both have crashed for the last time.
    pub(crate) fn reap(&mut self, held: &[usize]) {
        let was: Vec<State> = held.iter().map(|&job| self.jobs[job].state).collect();
        for &job in held {
            self.take(job, Event::LeaseExpired);
            let record = &mut self.jobs[job];
            record.token = None;
            if record.fence.attempt <= record.attempt {
                record.fence = Fence { attempt: record.attempt, lease: None };
            }
        }
        if self.owned {
            self.owned = false;
            self.mail.clear();
            self.closed |= self.stops_with_owner;
            self.marked |= self.stops_with_owner;
        }
        for job in 0..self.jobs.len() {
            if self.jobs[job].state == State::Scheduled && self.jobs[job].due {
                self.take(job, Event::Due);
            }
        }
        for (&job, was) in held.iter().zip(was) {
            self.take_back(job, was);
        }
        if self.marked {
            self.sweep_below(None);
            self.marked = false;
        }
    }

    fn take_back(&mut self, job: usize, was: State) {
        if self.jobs[job].state != State::Reaping {
            return;
        }
        if was == State::Stopping || self.marked || self.failed_above(job) {
            return self.take(job, Event::StopConfirmed);
        }
        let is_charged = was != State::Waiting;
        self.jobs[job].crashes += u32::from(is_charged);
        let crashes = self.jobs[job].crashes;
        if (self.jobs[job].quarantine && crashes >= MAX_CRASHES) || crashes >= 2 * MAX_CRASHES {
            return self.take(job, Event::WorkerLost);
        }
        self.jobs[job].quarantine = is_charged && self.jobs[job].crashes >= MAX_CRASHES - 1;
        self.over_cap = true;
        self.take(job, Event::Requeued);
    }

    /// A job that ends failed stops the tree below it, in any order of a round.
    fn failed_above(&self, job: usize) -> bool {
        self.jobs[job]
            .parent
            .is_some_and(|parent| self.jobs[parent].state == State::Failed || self.failed_above(parent))
    }

    pub(crate) fn forget(&mut self, job: usize) {
        self.jobs[job].gone = true;
        self.jobs[job].mail.clear();
        if self.jobs.iter().all(|job| job.gone) && !self.owned {
            self.session_gone = true;
            self.closed = false;
        }
    }

    /// Makes all scheduled jobs due.
    pub(crate) fn make_due(&mut self) {
        for job in &mut self.jobs {
            job.due = true;
        }
    }
}
