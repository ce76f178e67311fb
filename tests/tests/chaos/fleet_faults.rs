//! The fleet, and the faults that it meets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use rustix::process::Signal;

use crate::fake_provider::RecordingProvider;
use crate::jobs::furnish;
use crate::random::Random;

/// Workers at a time.
const WORKERS: usize = 3;

/// Three workers and a Redis behind two lines; those who dispatch use the first.
#[derive(Debug)]
pub(crate) struct Fleet {
    workers: Vec<Program>,
    /// Who was told to drain and may still be at it.
    leaving: Vec<Program>,
    pub(crate) state: Arc<StateFolder>,
    pub(crate) provider: RecordingProvider,
    lines: [Proxy; 2],
    redis: Redis,
}

impl Fleet {
    /// Starts all of it.
    pub(crate) fn start() -> Self {
        let redis = Redis::start();
        let lines = [redis.behind_proxy(), redis.behind_proxy()];
        let mut state = StateFolder::on(&lines[0].url());
        let provider = furnish(&mut state);
        let mut fleet =
            Self { workers: Vec::new(), leaving: Vec::new(), state: Arc::new(state), provider, lines, redis };
        fleet.workers = (0..WORKERS).map(|place| fleet.worker(place)).collect();
        fleet
    }

    fn worker(&self, place: usize) -> Program {
        let line = &self.lines[place % self.lines.len()];
        self.state.start_worker(&["--redis", &line.url(), "--drain-timeout", "1s"])
    }
}

impl Fleet {
    /// After the retention nothing is left of any job, nor, soon after them, of the workers.
    pub(crate) fn forgets_everything(mut self) {
        self.workers_end();
        assert_eq!(self.redis.say("HSET legwork:default:meta retention_ms 1"), ":0");
        let last = self.worker(0);
        until("all jobs are forgotten", || self.state.legwork(["list", "--json"]).good().is_empty());
        self.workers.push(last);
        self.workers_end();
        assert_eq!(
            self.redis.keys_that_stay(),
            ["legwork:default:meta"],
            "only the namespace itself is left"
        );
    }

    fn workers_end(&mut self) {
        for worker in &self.workers {
            worker.signal(Signal::TERM);
        }
        for mut worker in self.workers.drain(..) {
            assert_eq!(worker.status(), 0, "a drained worker ends well");
        }
    }
}

/// What ends a fault.
#[derive(Debug, Clone, Copy)]
enum Undo {
    Continue(usize),
    Mend(usize),
    StartRedis,
}

/// Faults, one after the other, some at the same time.
#[derive(Debug)]
pub(crate) struct FleetFaults<'f> {
    fleet: &'f mut Fleet,
    random: Random,
    /// What is wrong now, until when.
    wrong: Vec<(Instant, Undo)>,
    told: BTreeMap<&'static str, u32>,
}

impl<'f> FleetFaults<'f> {
    /// Clear sky yet.
    pub(crate) fn over(fleet: &'f mut Fleet, random: Random) -> Self {
        Self { fleet, random, wrong: Vec::new(), told: BTreeMap::new() }
    }

    /// Which faults there were.
    pub(crate) fn told(&self) -> String {
        let told: Vec<String> = self.told.iter().map(|(fault, times)| format!("{times} × {fault}")).collect();
        told.join(", ")
    }

    /// Waits a while, and does harm.
    pub(crate) fn next_fault(&mut self) {
        let pause = Duration::from_millis(200 + self.random.below(1300));
        self.pass(pause);
        let place = self.random.place(WORKERS);
        let line = self.random.place(self.fleet.lines.len());
        let lasting = Duration::from_millis(50 + self.random.below(3500));
        let fault = match self.random.below(9) {
            0 => self.kill(place),
            1 => self.stand_still(place, lasting),
            2 => self.drain(place),
            3 => self.kill_redis(lasting / 2),
            4 => {
                self.fleet.lines[line].cut();
                self.wrong(lasting, Undo::Mend(line));
                "line cut"
            }
            5 => {
                self.fleet.lines[line].stall();
                self.wrong(lasting, Undo::Mend(line));
                "line stalled"
            }
            6 => {
                self.fleet.lines[line].delay(lasting / 50);
                self.wrong(lasting, Undo::Mend(line));
                "line slow"
            }
            7 => {
                // Long connections only: each has to come up again.
                self.fleet.lines[line].cut();
                self.fleet.lines[line].mend();
                "connections closed"
            }
            _ => {
                self.fleet.lines[line].lose_a_reply();
                "reply lost"
            }
        };
        *self.told.entry(fault).or_default() += 1;
    }

    /// Undoes everything and has all workers there.
    pub(crate) fn calm_down(&mut self) {
        for (_, undo) in std::mem::take(&mut self.wrong) {
            self.undo(undo);
        }
        for leaving in &mut self.fleet.leaving {
            assert_eq!(leaving.status(), 0, "a drained worker ends well");
        }
        for worker in &mut self.fleet.workers {
            assert!(worker.runs(), "no worker ends by itself");
        }
    }

    fn wrong(&mut self, lasting: Duration, undo: Undo) {
        self.wrong.push((Instant::now() + lasting, undo));
    }

    fn pass(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        until("the pause is over", || {
            let now = Instant::now();
            let (over, wrong) = self.wrong.iter().copied().partition(|(when, _)| *when <= now);
            self.wrong = wrong;
            let over: Vec<(Instant, Undo)> = over;
            over.into_iter().for_each(|(_, undo)| self.undo(undo));
            now >= end
        });
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Continue(place) => self.fleet.workers[place].signal(Signal::CONT),
            Undo::Mend(line) => {
                self.fleet.lines[line].delay(Duration::ZERO);
                self.fleet.lines[line].mend();
            }
            Undo::StartRedis => self.fleet.redis.start_again(),
        }
    }

    fn kill(&mut self, place: usize) -> &'static str {
        self.awake(place);
        self.fleet.workers[place].kill();
        self.fleet.workers[place] = self.fleet.worker(place);
        "worker killed"
    }

    fn stand_still(&mut self, place: usize, lasting: Duration) -> &'static str {
        self.fleet.workers[place].signal(Signal::STOP);
        self.wrong(lasting, Undo::Continue(place));
        "worker stands still"
    }

    fn drain(&mut self, place: usize) -> &'static str {
        self.awake(place);
        let next = self.fleet.worker(place);
        let before = std::mem::replace(&mut self.fleet.workers[place], next);
        before.signal(Signal::TERM);
        self.fleet.leaving.push(before);
        "worker drained"
    }

    fn kill_redis(&mut self, lasting: Duration) -> &'static str {
        if !self.wrong.iter().any(|(_, undo)| matches!(undo, Undo::StartRedis)) {
            self.fleet.redis.stop();
            self.wrong(lasting, Undo::StartRedis);
        }
        "Redis killed"
    }

    /// What is to wake a worker that goes must not meet the next one.
    fn awake(&mut self, place: usize) {
        self.wrong.retain(|(_, undo)| !matches!(undo, Undo::Continue(stopped) if *stopped == place));
        self.fleet.workers[place].signal(Signal::CONT);
    }
}
