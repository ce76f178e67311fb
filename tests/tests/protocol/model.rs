//! The state of the protocol and its steps.

use legwork_common::lifecycle::Event;
use legwork_common::lifecycle::State;
use legwork_common::lifecycle::next;

/// Crashes in a row, without a recorded turn in between, after which a job fails.
const CRASHES: u8 = 2;
/// Indexes of the job that dispatches and of the job it dispatches.
const PARENT: usize = 0;
const CHILD: usize = 1;

/// Bounds of the exploration, and the safeguards that are enabled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Whether the parent dispatches the child.
    pub(crate) dispatches: bool,
    /// Maximum number of attempts of each job.
    pub(crate) attempts: [u8; 2],
    /// Maximum number of recorded turns of each job.
    pub(crate) turns: usize,
    /// Whether appends check the fence.
    pub(crate) fences: bool,
    /// Whether workers stop acting once their clock says that a lease may have expired.
    pub(crate) clock: bool,
    /// Whether a job in quarantine is alone on its worker.
    pub(crate) apart: bool,
}

/// A job as stored in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Job {
    state: State,
    attempt: u8,
    /// The attempt whose token is valid.
    token: Option<u8>,
    leased: bool,
    /// The attempt that may append, and whether it was sealed.
    fence: (u8, bool),
    /// Which attempt recorded each turn.
    turns: Vec<u8>,
    crashes: u8,
    crash_turns: usize,
    /// Whether its next attempt, or its current one, is alone on its worker.
    quarantine: bool,
    /// Whether the worker of an attempt in quarantine held another job when it crashed.
    had_company: bool,
    was_stopping: bool,
    end_count: u8,
    turns_at_end: Option<usize>,
    has_stop_mark: bool,
    /// Bit sets of the attempts that a reaper has taken from their worker, and of those whose fence it has sealed.
    reaped: u8,
    sealed: u8,
}

/// An attempt as its worker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct HeldAttempt {
    attempt: u8,
    started: bool,
    /// Number of turns that it read at its start or appended since.
    known_turns: usize,
    /// It has sent its end to Redis and got no reply yet.
    finish_sent: bool,
}

/// A worker. A frozen worker is one that takes no step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Worker {
    held: [Option<HeldAttempt>; 2],
    /// Whether, by its own clock, none of its leases can have expired.
    leases_are_sure: bool,
}

/// The whole state: jobs, workers, and what the properties check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    jobs: [Option<Job>; 2],
    workers: [Worker; 2],
    mail: bool,
    notified: u8,
    acted_when_stopped: bool,
    started_when_stopping: bool,
    lost_a_turn: bool,
    failed_for_another: bool,
    fenced: bool,
}

/// One step of a worker, a reaper, a client or the environment. Numbers are indexes of workers, then of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker claims a job; the flag says whether the reply arrives.
    Claim(usize, usize, bool),
    /// A worker sets the fence and reads the recorded turns.
    Start(usize, usize),
    /// A worker calls a model or a tool.
    Act(usize, usize),
    /// A worker appends a turn to the log.
    Append(usize, usize),
    /// A worker ends a job; the flags say whether the job succeeds and whether the reply arrives.
    Finish(usize, usize, bool, bool),
    /// A worker releases a job to the queue.
    Release(usize, usize),
    /// The parent dispatches the child.
    Dispatch(usize),
    /// The parent is notified of the child's end, and the mail is then acknowledged.
    Notify(usize),
    DropMail(usize),
    /// A worker renews all its leases.
    Renew(usize),
    /// A worker could not renew for so long that its leases may have expired.
    LoseLeaseCertainty(usize),
    /// A worker crashes and is replaced by a new one.
    Crash(usize),
    /// A lease expires.
    Expire(usize),
    /// The three steps of a reaper: it takes a job from its worker, seals the attempt's fence, and requeues or ends the job.
    Reap(usize),
    Seal(usize, u8),
    Decide(usize, u8),
    /// A client marks a tree as stopped; a sweep stops one of its jobs; the mark is removed.
    Stop(usize),
    Sweep(usize),
    Unmark(usize),
}

impl Action {
    /// Whether this is a fault. Every state must be able to reach an end without further faults.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::LoseLeaseCertainty(_)
                | Self::Crash(_)
                | Self::Claim(_, _, false)
                | Self::Finish(_, _, _, false)
        )
    }
}

impl Job {
    fn queued() -> Self {
        Self {
            state: State::Queued,
            attempt: 0,
            token: None,
            leased: false,
            fence: (0, false),
            turns: Vec::new(),
            crashes: 0,
            crash_turns: 0,
            quarantine: false,
            had_company: false,
            was_stopping: false,
            end_count: 0,
            turns_at_end: None,
            has_stop_mark: false,
            reaped: 0,
            sealed: 0,
        }
    }

    fn is_held_by(&self, held: HeldAttempt) -> bool {
        self.token == Some(held.attempt)
            && matches!(self.state, State::Running | State::Waiting | State::Stopping)
    }

    /// Applies an event; an invalid transition is a bug in the model and panics.
    fn apply(&mut self, event: Event) {
        self.state = next(self.state, event).unwrap();
        if self.state.is_terminal() {
            self.end_count += 1;
            self.turns_at_end = Some(self.turns.len());
            self.leased = false;
        }
    }
}

impl World {
    /// The initial state: one queued job, two idle workers.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            jobs: [Some(Job::queued()), None],
            workers: [Worker::default(), Worker::default()],
            mail: false,
            notified: 0,
            acted_when_stopped: false,
            started_when_stopping: false,
            lost_a_turn: false,
            failed_for_another: false,
            fenced: bounds.fences,
        }
    }

    /// Whether a stop mark covers a job.
    fn is_covered(&self, job: usize) -> bool {
        let has_stop_mark = |job: usize| self.jobs[job].as_ref().is_some_and(|job| job.has_stop_mark);
        has_stop_mark(job) || (job == CHILD && has_stop_mark(PARENT))
    }

    fn has_ended(&self, job: usize) -> bool {
        self.jobs[job].as_ref().is_none_or(|job| job.state.is_terminal())
    }

    /// All steps that are possible in this state.
    pub(crate) fn actions(&self, bounds: &Bounds) -> Vec<Action> {
        let mut actions = Vec::new();
        for (number, job) in self.jobs.iter().enumerate() {
            if let Some(job) = job {
                self.actions_on(number, job, bounds, &mut actions);
            }
        }
        for number in 0..self.workers.len() {
            self.actions_of(number, bounds, &mut actions);
        }
        actions
    }

    /// Steps that are possible because of the state of a job.
    fn actions_on(&self, number: usize, job: &Job, bounds: &Bounds, actions: &mut Vec<Action>) {
        if job.state == State::Queued && job.attempt < bounds.attempts[number] && !self.is_covered(number) {
            for worker in 0..self.workers.len() {
                if self.workers[worker].held[number].is_none()
                    && (!bounds.apart || self.may_share(worker, number))
                {
                    actions.extend(
                        [true, false].map(|reply_arrives| Action::Claim(worker, number, reply_arrives)),
                    );
                }
            }
        }
        if job.leased && !self.has_sure_holder(number, job, bounds) {
            actions.push(Action::Expire(number));
        }
        if !job.leased && matches!(job.state, State::Running | State::Waiting | State::Stopping) {
            actions.push(Action::Reap(number));
        }
        // A reaper can freeze between its steps and continue at any later time.
        for attempt in 1..=job.attempt {
            if job.reaped & 1 << attempt != 0 {
                actions.push(Action::Seal(number, attempt));
            }
            if job.sealed & 1 << attempt != 0 {
                actions.push(Action::Decide(number, attempt));
            }
        }
        if !job.state.is_terminal() && !job.has_stop_mark {
            actions.push(Action::Stop(number));
        }
        let sweeps = matches!(job.state, State::Queued | State::Running | State::Waiting);
        if self.is_covered(number) && sweeps {
            actions.push(Action::Sweep(number));
        }
        if job.has_stop_mark && self.has_ended(number) && (number == CHILD || self.has_ended(CHILD)) {
            actions.push(Action::Unmark(number));
        }
    }

    /// Whether a worker may hold this job beside what it holds: it is alone where either is in quarantine.
    fn may_share(&self, worker: usize, number: usize) -> bool {
        let held = &self.workers[worker].held;
        let others = || (0..held.len()).filter(|&other| held[other].is_some());
        let in_quarantine = |number: usize| self.jobs[number].as_ref().is_some_and(|job| job.quarantine);
        others().next().is_none() || !(in_quarantine(number) || others().any(in_quarantine))
    }

    /// Whether the holder may still act on the lease. Then the lease cannot expire, because the holder's clock is cautious.
    fn has_sure_holder(&self, number: usize, job: &Job, bounds: &Bounds) -> bool {
        let holds = |worker: &Worker| worker.held[number].is_some_and(|held| job.token == Some(held.attempt));
        bounds.clock && self.workers.iter().any(|worker| worker.leases_are_sure && holds(worker))
    }

    /// Steps of a worker.
    fn actions_of(&self, number: usize, bounds: &Bounds, actions: &mut Vec<Action>) {
        let worker = &self.workers[number];
        if worker.held.iter().all(Option::is_none) {
            return;
        }
        actions.extend([Action::Renew(number), Action::Crash(number)]);
        if worker.leases_are_sure {
            actions.push(Action::LoseLeaseCertainty(number));
        }
        for (job, held) in worker.held.iter().enumerate() {
            let Some(held) = held else { continue };
            if !held.started {
                actions.push(Action::Start(number, job));
                continue;
            }
            let may_act = worker.leases_are_sure && !held.finish_sent;
            if may_act {
                actions.push(Action::Act(number, job));
            }
            // An append that was sent in time can arrive after the lease has expired.
            if !held.finish_sent && held.known_turns < bounds.turns {
                actions.push(Action::Append(number, job));
            }
            // A parent completes only after the end of its child was delivered.
            let may_complete = job == CHILD || (self.has_ended(CHILD) && !self.mail);
            for succeeds in [true, false] {
                if may_complete || !succeeds {
                    actions.extend(
                        [true, false]
                            .map(|reply_arrives| Action::Finish(number, job, succeeds, reply_arrives)),
                    );
                }
            }
            let again = self.jobs[job].as_ref().is_some_and(|record| record.attempt < bounds.attempts[job]);
            if !held.finish_sent && again {
                actions.push(Action::Release(number, job));
            }
            if job == PARENT && may_act {
                if self.jobs[CHILD].is_none() && bounds.dispatches {
                    actions.push(Action::Dispatch(number));
                }
                if self.mail {
                    actions.push(if self.notified == 0 {
                        Action::Notify(number)
                    } else {
                        Action::DropMail(number)
                    });
                }
            }
        }
    }

    /// The state after a step.
    pub(crate) fn after(&self, action: Action) -> Self {
        let mut world = self.clone();
        match action {
            Action::Claim(worker, job, reply_arrives) => world.claim(worker, job, reply_arrives),
            Action::Start(worker, job) => world.start(worker, job),
            Action::Act(_, job) => {
                world.acted_when_stopped |= world.job(job).state == State::Stopped;
            }
            Action::Append(worker, job) => world.append(worker, job),
            Action::Finish(worker, job, succeeds, reply_arrives) => {
                world.finish(worker, job, succeeds, reply_arrives)
            }
            Action::Release(worker, job) => world.release(worker, job),
            Action::Dispatch(worker) => world.dispatch(worker),
            Action::Notify(worker) => world.notify(worker),
            Action::DropMail(_) => world.mail = false,
            Action::Renew(worker) => world.renew(worker),
            Action::LoseLeaseCertainty(worker) => world.workers[worker].leases_are_sure = false,
            Action::Crash(worker) => world.crash(worker),
            Action::Expire(job) => world.job(job).leased = false,
            Action::Reap(job) => world.reap(job),
            Action::Seal(job, attempt) => world.seal(job, attempt),
            Action::Decide(job, attempt) => world.decide(job, attempt),
            Action::Stop(job) => world.job(job).has_stop_mark = true,
            Action::Sweep(job) => {
                world.job(job).apply(Event::StopRequested);
                world.after_end(job, false);
            }
            Action::Unmark(job) => world.job(job).has_stop_mark = false,
        }
        // Workers are interchangeable: sorting them merges states that differ only in their order.
        world.workers.sort_unstable();
        world
    }

    fn job(&mut self, number: usize) -> &mut Job {
        self.jobs[number].as_mut().unwrap()
    }

    fn held(&self, worker: usize, job: usize) -> HeldAttempt {
        self.workers[worker].held[job].unwrap()
    }

    /// The worker learns that it has lost the job, or has finished it.
    fn drop_held(&mut self, worker: usize, job: usize) {
        self.workers[worker].held[job] = None;
        if self.workers[worker].held.iter().all(Option::is_none) {
            self.workers[worker].leases_are_sure = false;
        }
    }

    fn claim(&mut self, worker: usize, number: usize, reply_arrives: bool) {
        let covered = self.is_covered(number);
        let job = self.job(number);
        job.apply(Event::Claimed);
        job.attempt += 1;
        job.token = Some(job.attempt);
        job.leased = true;
        let attempt = job.attempt;
        self.started_when_stopping |= covered;
        if reply_arrives {
            let worker = &mut self.workers[worker];
            // A worker with uncertain leases needs a renewal; for an idle worker, the new lease is the only one.
            worker.leases_are_sure |= worker.held.iter().all(Option::is_none);
            worker.held[number] =
                Some(HeldAttempt { attempt, started: false, known_turns: 0, finish_sent: false });
        }
    }

    fn crash(&mut self, worker: usize) {
        let held = std::mem::take(&mut self.workers[worker]).held;
        let has_company = held.iter().all(Option::is_some);
        for (job, held) in self.jobs.iter_mut().zip(held) {
            if let (Some(job), Some(held)) = (job, held) {
                job.had_company |= has_company && job.quarantine && job.token == Some(held.attempt);
            }
        }
    }

    fn start(&mut self, worker: usize, number: usize) {
        let held = self.held(worker, number);
        let job = self.job(number);
        let sealed = job.fence == (held.attempt, true);
        if job.fence.0 > held.attempt || sealed {
            return self.drop_held(worker, number);
        }
        job.fence = (held.attempt, false);
        let known_turns = job.turns.len();
        self.workers[worker].held[number] = Some(HeldAttempt { started: true, known_turns, ..held });
    }

    fn append(&mut self, worker: usize, number: usize) {
        let held = self.held(worker, number);
        let fenced = self.fenced;
        let job = self.job(number);
        if fenced && job.fence != (held.attempt, false) {
            return self.drop_held(worker, number);
        }
        let shorter = job.turns.len() < held.known_turns;
        job.turns.push(held.attempt);
        // What was finished is not what it will die of.
        job.quarantine = false;
        self.lost_a_turn |= shorter;
        self.workers[worker].held[number] = Some(HeldAttempt { known_turns: held.known_turns + 1, ..held });
    }

    fn finish(&mut self, worker: usize, number: usize, succeeds: bool, reply_arrives: bool) {
        let held = self.held(worker, number);
        let covered = self.is_covered(number);
        let job = self.job(number);
        if job.is_held_by(held) {
            let failed = !succeeds && !covered && job.state != State::Stopping;
            job.apply(match (covered, succeeds) {
                (true, _) => Event::StopConfirmed,
                (false, true) => Event::Completed,
                (false, false) => Event::Failed,
            });
            self.after_end(number, failed);
        }
        if reply_arrives {
            self.drop_held(worker, number);
        } else {
            self.workers[worker].held[number] = Some(HeldAttempt { finish_sent: true, ..held });
        }
    }

    fn release(&mut self, worker: usize, number: usize) {
        let held = self.held(worker, number);
        let covered = self.is_covered(number);
        let job = self.job(number);
        if job.is_held_by(held) {
            // The token stays valid, but it grants nothing for a job that is not running.
            job.apply(if covered { Event::StopConfirmed } else { Event::Released });
            job.leased = false;
            self.after_end(number, false);
        }
        self.drop_held(worker, number);
    }

    fn dispatch(&mut self, worker: usize) {
        let held = self.held(worker, PARENT);
        let stopping = self.is_covered(PARENT);
        let job = self.job(PARENT);
        if job.token == Some(held.attempt) && job.state == State::Running && !stopping {
            self.jobs[CHILD] = Some(Job::queued());
        }
    }

    fn notify(&mut self, worker: usize) {
        let held = self.held(worker, PARENT);
        if self.job(PARENT).fence == (held.attempt, false) {
            self.notified += 1;
        } else {
            self.drop_held(worker, PARENT);
        }
    }

    fn renew(&mut self, worker: usize) {
        for number in 0..2 {
            let Some(held) = self.workers[worker].held[number] else { continue };
            let job = self.job(number);
            if job.is_held_by(held) {
                job.leased = true;
                self.workers[worker].leases_are_sure = true;
            } else {
                self.drop_held(worker, number);
            }
        }
    }

    fn reap(&mut self, number: usize) {
        let job = self.job(number);
        job.was_stopping = job.state == State::Stopping;
        job.apply(Event::LeaseExpired);
        job.token = None;
        job.reaped |= 1 << job.attempt;
    }

    fn seal(&mut self, number: usize, attempt: u8) {
        let job = self.job(number);
        if job.fence.0 <= attempt {
            job.fence = (attempt, true);
        }
        job.sealed |= 1 << attempt;
    }

    fn decide(&mut self, number: usize, attempt: u8) {
        let covered = self.is_covered(number);
        let job = self.job(number);
        if job.state != State::Reaping || job.attempt != attempt {
            return;
        }
        if covered || job.was_stopping {
            job.apply(Event::StopConfirmed);
            return self.after_end(number, false);
        }
        if job.turns.len() > job.crash_turns {
            job.crashes = 0;
        }
        job.crashes += 1;
        job.crash_turns = job.turns.len();
        let lost = job.quarantine && job.crashes >= CRASHES;
        let had_company = std::mem::take(&mut job.had_company);
        job.quarantine = !lost && job.crashes >= CRASHES - 1;
        job.apply(if lost { Event::WorkerLost } else { Event::Requeued });
        self.failed_for_another |= lost && had_company;
        self.after_end(number, lost);
    }

    /// Effects of an end on other jobs: mail for a running parent, a stop mark on the tree of a failed job.
    fn after_end(&mut self, number: usize, failed: bool) {
        if !self.has_ended(number) {
            return;
        }
        if number == CHILD && !self.has_ended(PARENT) {
            self.mail = true;
        }
        if number == PARENT {
            self.mail = false;
            let child_lives = !self.has_ended(CHILD);
            self.job(PARENT).has_stop_mark |= failed && child_lives;
        }
    }

    /// Whether all jobs have ended and no stop mark is left.
    pub(crate) fn is_settled(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.state.is_terminal() && !job.has_stop_mark)
    }

    // The properties below are those of `docs/guarantees.md`.

    pub(crate) fn ended_at_most_once(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.end_count <= 1)
    }

    pub(crate) fn nothing_acts_when_stopped(&self) -> bool {
        !self.acted_when_stopped
    }

    pub(crate) fn nothing_starts_when_stopping(&self) -> bool {
        !self.started_when_stopping
    }

    pub(crate) fn output_is_whole(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.turns_at_end.is_none_or(|turns| turns == job.turns.len()))
    }

    pub(crate) fn has_one_writer(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.turns.is_sorted())
    }

    pub(crate) fn recorded_turns_are_kept(&self) -> bool {
        !self.lost_a_turn
    }

    pub(crate) fn fails_for_its_own_crashes(&self) -> bool {
        !self.failed_for_another
    }

    pub(crate) fn notified_at_most_once(&self) -> bool {
        self.notified <= 1
    }
}
