//! The world of the protocol, and its steps.

use legwork_common::lifecycle::Event;
use legwork_common::lifecycle::State;
use legwork_common::lifecycle::next;

/// Crashes in a row after which a job fails.
const CRASHES: u8 = 2;
/// The job that dispatches, and the one that it dispatches.
const PARENT: usize = 0;
const CHILD: usize = 1;

/// How much may happen, and which safeguards there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Whether the job dispatches another.
    pub(crate) dispatches: bool,
    /// Attempts of each job at most.
    pub(crate) attempts: [u8; 2],
    /// Turns that each attempt records at most.
    pub(crate) turns: usize,
    /// Whether appends are fenced.
    pub(crate) fences: bool,
    /// Whether workers heed how long their leases are sure.
    pub(crate) clock: bool,
}

/// A job as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Job {
    state: State,
    attempt: u8,
    /// The attempt whose token counts.
    token: Option<u8>,
    leased: bool,
    /// The attempt that may append, and whether it was sealed.
    fence: (u8, bool),
    /// Which attempt recorded each turn.
    turns: Vec<u8>,
    crashes: u8,
    crash_turns: usize,
    was_stopping: bool,
    ends: u8,
    turns_at_end: Option<usize>,
    marked: bool,
    /// Attempts that a reaper took back, and those of them whose fence it sealed, a bit each.
    taken: u8,
    sealed: u8,
}

/// An attempt as its worker has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Held {
    attempt: u8,
    begun: bool,
    /// The turns that it found or had confirmed.
    knows: usize,
    /// It asked for its end, and heard nothing yet.
    ending: bool,
}

/// A worker. One that stands still is one that takes no step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Worker {
    held: [Option<Held>; 2],
    /// Whether its leases are sure, by its own clock.
    sure: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    jobs: [Option<Job>; 2],
    workers: [Worker; 2],
    mail: bool,
    told: u8,
    acted_when_stopped: bool,
    began_when_stopping: bool,
    forgot_a_turn: bool,
    fenced: bool,
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker claims a job; the flag: it hears of it.
    Claim(usize, usize, bool),
    /// A worker sets the fence and reads what is recorded.
    Begin(usize, usize),
    /// A worker calls a model or a tool.
    Act(usize, usize),
    /// A worker records a turn.
    Append(usize, usize),
    /// A worker ends a job well or badly; the last flag: it hears of it.
    Finish(usize, usize, bool, bool),
    /// A worker hands a job back.
    Release(usize, usize),
    /// The first job dispatches the second.
    Dispatch(usize),
    /// The first job is told of the second's end, and the mail is dropped.
    Tell(usize),
    DropMail(usize),
    /// A worker renews all that it holds.
    Renew(usize),
    /// A worker could not renew for so long that its leases are not sure.
    Doubt(usize),
    /// A worker dies; another takes its place.
    Crash(usize),
    /// A lease runs out.
    Expire(usize),
    /// A reaper takes a job back, seals the fence of an attempt, decides.
    Reap(usize),
    Seal(usize, u8),
    Decide(usize, u8),
    /// Somebody stops a tree; a sweep ends one record below; the mark goes.
    Stop(usize),
    Sweep(usize),
    Unmark(usize),
}

impl Action {
    /// Whether this is misfortune, which must not be needed to come to an end.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Doubt(_) | Self::Crash(_) | Self::Claim(_, _, false) | Self::Finish(_, _, _, false)
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
            was_stopping: false,
            ends: 0,
            turns_at_end: None,
            marked: false,
            taken: 0,
            sealed: 0,
        }
    }

    fn is_held_by(&self, held: Held) -> bool {
        self.token == Some(held.attempt)
            && matches!(self.state, State::Running | State::Waiting | State::Stopping)
    }

    /// Takes an event; one that may not happen is a mistake of a step.
    fn take(&mut self, event: Event) {
        self.state = next(self.state, event).unwrap();
        if self.state.is_terminal() {
            self.ends += 1;
            self.turns_at_end = Some(self.turns.len());
            self.leased = false;
        }
    }
}

impl World {
    /// One queued job, two idle workers.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            jobs: [Some(Job::queued()), None],
            workers: [Worker::default(), Worker::default()],
            mail: false,
            told: 0,
            acted_when_stopped: false,
            began_when_stopping: false,
            forgot_a_turn: false,
            fenced: bounds.fences,
        }
    }

    /// Whether a stop mark covers a job.
    fn is_covered(&self, job: usize) -> bool {
        let marked = |job: usize| self.jobs[job].as_ref().is_some_and(|job| job.marked);
        marked(job) || (job == CHILD && marked(PARENT))
    }

    fn is_over(&self, job: usize) -> bool {
        self.jobs[job].as_ref().is_none_or(|job| job.state.is_terminal())
    }

    /// What may happen next.
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

    /// What befalls a job.
    fn actions_on(&self, number: usize, job: &Job, bounds: &Bounds, actions: &mut Vec<Action>) {
        if job.state == State::Queued && job.attempt < bounds.attempts[number] && !self.is_covered(number) {
            for worker in 0..self.workers.len() {
                if self.workers[worker].held[number].is_none() {
                    actions.extend([true, false].map(|heard| Action::Claim(worker, number, heard)));
                }
            }
        }
        if job.leased && !self.is_held_surely(number, job, bounds) {
            actions.push(Action::Expire(number));
        }
        if !job.leased && matches!(job.state, State::Running | State::Waiting | State::Stopping) {
            actions.push(Action::Reap(number));
        }
        // Reapers that stood still come late: they go on with what they took back once.
        for attempt in 1..=job.attempt {
            if job.taken & 1 << attempt != 0 {
                actions.push(Action::Seal(number, attempt));
            }
            if job.sealed & 1 << attempt != 0 {
                actions.push(Action::Decide(number, attempt));
            }
        }
        if !job.state.is_terminal() && !job.marked {
            actions.push(Action::Stop(number));
        }
        let sweeps = matches!(job.state, State::Queued | State::Running | State::Waiting);
        if self.is_covered(number) && sweeps {
            actions.push(Action::Sweep(number));
        }
        if job.marked && self.is_over(number) && (number == CHILD || self.is_over(CHILD)) {
            actions.push(Action::Unmark(number));
        }
    }

    /// Whether the holder may still act on the lease: then it has not run out.
    fn is_held_surely(&self, number: usize, job: &Job, bounds: &Bounds) -> bool {
        let holds = |worker: &Worker| worker.held[number].is_some_and(|held| job.token == Some(held.attempt));
        bounds.clock && self.workers.iter().any(|worker| worker.sure && holds(worker))
    }

    /// What a worker may do.
    fn actions_of(&self, number: usize, bounds: &Bounds, actions: &mut Vec<Action>) {
        let worker = &self.workers[number];
        if worker.held.iter().all(Option::is_none) {
            return;
        }
        actions.extend([Action::Renew(number), Action::Crash(number)]);
        if worker.sure {
            actions.push(Action::Doubt(number));
        }
        for (job, held) in worker.held.iter().enumerate() {
            let Some(held) = held else { continue };
            if !held.begun {
                actions.push(Action::Begin(number, job));
                continue;
            }
            let may_act = worker.sure && !held.ending;
            if may_act {
                actions.push(Action::Act(number, job));
            }
            // What was said before the lease was in doubt may arrive after it.
            if !held.ending && held.knows < bounds.turns {
                actions.push(Action::Append(number, job));
            }
            // A parent that goes on to its end has seen its child's.
            let rests = job == CHILD || (self.is_over(CHILD) && !self.mail);
            for well in [true, false] {
                if rests || !well {
                    actions.extend([true, false].map(|heard| Action::Finish(number, job, well, heard)));
                }
            }
            let again = self.jobs[job].as_ref().is_some_and(|record| record.attempt < bounds.attempts[job]);
            if !held.ending && again {
                actions.push(Action::Release(number, job));
            }
            if job == PARENT && may_act {
                if self.jobs[CHILD].is_none() && bounds.dispatches {
                    actions.push(Action::Dispatch(number));
                }
                if self.mail {
                    actions.push(if self.told == 0 {
                        Action::Tell(number)
                    } else {
                        Action::DropMail(number)
                    });
                }
            }
        }
    }

    /// The world after a step.
    pub(crate) fn after(&self, action: Action) -> Self {
        let mut world = self.clone();
        match action {
            Action::Claim(worker, job, heard) => world.claim(worker, job, heard),
            Action::Begin(worker, job) => world.begin(worker, job),
            Action::Act(_, job) => {
                world.acted_when_stopped |= world.job(job).state == State::Stopped;
            }
            Action::Append(worker, job) => world.append(worker, job),
            Action::Finish(worker, job, well, heard) => world.finish(worker, job, well, heard),
            Action::Release(worker, job) => world.release(worker, job),
            Action::Dispatch(worker) => world.dispatch(worker),
            Action::Tell(worker) => world.tell(worker),
            Action::DropMail(_) => world.mail = false,
            Action::Renew(worker) => world.renew(worker),
            Action::Doubt(worker) => world.workers[worker].sure = false,
            Action::Crash(worker) => world.workers[worker] = Worker::default(),
            Action::Expire(job) => world.job(job).leased = false,
            Action::Reap(job) => world.reap(job),
            Action::Seal(job, attempt) => world.seal(job, attempt),
            Action::Decide(job, attempt) => world.decide(job, attempt),
            Action::Stop(job) => world.job(job).marked = true,
            Action::Sweep(job) => {
                world.job(job).take(Event::StopRequested);
                world.ended(job, false);
            }
            Action::Unmark(job) => world.job(job).marked = false,
        }
        // Workers are alike: two worlds that differ in their order only are one.
        world.workers.sort_unstable();
        world
    }

    fn job(&mut self, number: usize) -> &mut Job {
        self.jobs[number].as_mut().unwrap()
    }

    fn held(&self, worker: usize, job: usize) -> Held {
        self.workers[worker].held[job].unwrap()
    }

    /// The worker knows that it has lost the job, or that it is done with it.
    fn drop_held(&mut self, worker: usize, job: usize) {
        self.workers[worker].held[job] = None;
        if self.workers[worker].held.iter().all(Option::is_none) {
            self.workers[worker].sure = false;
        }
    }

    fn claim(&mut self, worker: usize, number: usize, heard: bool) {
        let covered = self.is_covered(number);
        let job = self.job(number);
        job.take(Event::Claimed);
        job.attempt += 1;
        job.token = Some(job.attempt);
        job.leased = true;
        let attempt = job.attempt;
        self.began_when_stopping |= covered;
        if heard {
            let worker = &mut self.workers[worker];
            // Only a renewal makes doubted leases sure again; an idle worker has nothing to doubt.
            worker.sure |= worker.held.iter().all(Option::is_none);
            worker.held[number] = Some(Held { attempt, begun: false, knows: 0, ending: false });
        }
    }

    fn begin(&mut self, worker: usize, number: usize) {
        let held = self.held(worker, number);
        let job = self.job(number);
        let sealed = job.fence == (held.attempt, true);
        if job.fence.0 > held.attempt || sealed {
            return self.drop_held(worker, number);
        }
        job.fence = (held.attempt, false);
        let knows = job.turns.len();
        self.workers[worker].held[number] = Some(Held { begun: true, knows, ..held });
    }

    fn append(&mut self, worker: usize, number: usize) {
        let held = self.held(worker, number);
        let fenced = self.fenced;
        let job = self.job(number);
        if fenced && job.fence != (held.attempt, false) {
            return self.drop_held(worker, number);
        }
        let shorter = job.turns.len() < held.knows;
        job.turns.push(held.attempt);
        self.forgot_a_turn |= shorter;
        self.workers[worker].held[number] = Some(Held { knows: held.knows + 1, ..held });
    }

    fn finish(&mut self, worker: usize, number: usize, well: bool, heard: bool) {
        let held = self.held(worker, number);
        let covered = self.is_covered(number);
        let job = self.job(number);
        if job.is_held_by(held) {
            let failed = !well && !covered && job.state != State::Stopping;
            job.take(match (covered, well) {
                (true, _) => Event::StopConfirmed,
                (false, true) => Event::Completed,
                (false, false) => Event::Failed,
            });
            self.ended(number, failed);
        }
        if heard {
            self.drop_held(worker, number);
        } else {
            self.workers[worker].held[number] = Some(Held { ending: true, ..held });
        }
    }

    fn release(&mut self, worker: usize, number: usize) {
        let held = self.held(worker, number);
        let covered = self.is_covered(number);
        let job = self.job(number);
        if job.is_held_by(held) {
            // The token stays: nothing but running grants anything for it.
            job.take(if covered { Event::StopConfirmed } else { Event::Released });
            job.leased = false;
            self.ended(number, false);
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

    fn tell(&mut self, worker: usize) {
        let held = self.held(worker, PARENT);
        if self.job(PARENT).fence == (held.attempt, false) {
            self.told += 1;
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
                self.workers[worker].sure = true;
            } else {
                self.drop_held(worker, number);
            }
        }
    }

    fn reap(&mut self, number: usize) {
        let job = self.job(number);
        job.was_stopping = job.state == State::Stopping;
        job.take(Event::LeaseExpired);
        job.token = None;
        job.taken |= 1 << job.attempt;
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
            job.take(Event::StopConfirmed);
            return self.ended(number, false);
        }
        if job.turns.len() > job.crash_turns {
            job.crashes = 0;
        }
        job.crashes += 1;
        job.crash_turns = job.turns.len();
        let lost = job.crashes >= CRASHES;
        job.take(if lost { Event::WorkerLost } else { Event::Requeued });
        self.ended(number, lost);
    }

    /// What the end of a job means for others: mail to a parent that lives, a mark on a failed job's tree.
    fn ended(&mut self, number: usize, failed: bool) {
        if !self.is_over(number) {
            return;
        }
        if number == CHILD && !self.is_over(PARENT) {
            self.mail = true;
        }
        if number == PARENT {
            self.mail = false;
            let child_lives = !self.is_over(CHILD);
            self.job(PARENT).marked |= failed && child_lives;
        }
    }

    /// Whether both jobs have ended and no mark is left.
    pub(crate) fn is_settled(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.state.is_terminal() && !job.marked)
    }

    /// The promises, in the words of `docs/guarantees.md`.
    pub(crate) fn ended_at_most_once(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.ends <= 1)
    }

    pub(crate) fn nothing_acts_when_stopped(&self) -> bool {
        !self.acted_when_stopped
    }

    pub(crate) fn nothing_begins_when_stopping(&self) -> bool {
        !self.began_when_stopping
    }

    pub(crate) fn output_is_whole(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.turns_at_end.is_none_or(|turns| turns == job.turns.len()))
    }

    pub(crate) fn has_one_writer(&self) -> bool {
        self.jobs.iter().flatten().all(|job| job.turns.is_sorted())
    }

    pub(crate) fn recorded_turns_are_kept(&self) -> bool {
        !self.forgot_a_turn
    }

    pub(crate) fn told_at_most_once(&self) -> bool {
        self.told <= 1
    }
}
