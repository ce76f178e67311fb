//! The fleet under test, and the faults that are injected into it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_common::variables;
use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::is_reached;
use legwork_tests::programs::until;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use rustix::process::Signal;

use crate::fake_provider::RecordingProvider;
use crate::jobs::prepare;
use crate::orchestrators::OWNER_GRACE;
use crate::orchestrators::OWNER_GRACE_OF_A_FAILOVER;
use crate::orchestrators::Orchestrators;
use crate::random::Random;
use crate::servers::Begun;
use crate::servers::Kind;
use crate::servers::Ledger;
use crate::servers::Servers;

/// Number of workers that serve at a time; drained ones may still be exiting.
const WORKERS: usize = 3;
/// The same with workers of another release: every second one, so that there are two of each on the two proxies.
const MIXED_WORKERS: usize = 4;
/// The kinds of faults of [`FleetFaults::next_fault`], those that only some servers have not included.
const KINDS: u64 = 13;
/// How long it may take until the last job is deleted: an orchestrator that could not close its session owns it for a grace of
/// up to 60 s, and a job that is spared for that is asked for again a minute later.
const MAX_DELETION: Duration = Duration::from_secs(60 + 60 + 40);
/// The worker program of another release, which `scripts/other-worker` builds.
const OTHER_WORKER: &str = "CHAOS_OTHER_WORKER";

/// Workers and a Redis behind proxies.
#[derive(Debug)]
pub(crate) struct Fleet {
    workers: Vec<Program>,
    /// Workers that got SIGTERM and may still be draining.
    draining: Vec<Program>,
    pub(crate) state: Arc<StateFolder>,
    pub(crate) provider: RecordingProvider,
    servers: Box<dyn Servers>,
    other_release: Option<PathBuf>,
}

impl Fleet {
    /// Starts Redis, proxies, provider and workers; `None`, with a message, where this Redis is not installed.
    pub(crate) fn start(kind: Kind, random: Random) -> Option<Self> {
        let servers = kind.start()?;
        let mut state = StateFolder::on(&servers.url(0));
        let provider = prepare(&mut state, random);
        match kind.ledger() {
            Ledger::Exact => state.set(variables::OWNER_GRACE, OWNER_GRACE),
            Ledger::Durable => {
                state.set(variables::OWNER_GRACE, OWNER_GRACE_OF_A_FAILOVER);
                state.set(variables::DURABLE, "1");
            }
        }
        let mut fleet = Self {
            workers: Vec::new(),
            draining: Vec::new(),
            state: Arc::new(state),
            provider,
            servers,
            other_release: std::env::var_os(OTHER_WORKER).map(PathBuf::from),
        };
        let workers = if fleet.other_release.is_some() { MIXED_WORKERS } else { WORKERS };
        fleet.workers = (0..workers).map(|index| fleet.worker(index)).collect();
        Some(fleet)
    }

    /// Which releases the workers are of, in one line.
    pub(crate) fn releases(&self) -> String {
        match &self.other_release {
            Some(program) => format!("every second worker is {}", program.display()),
            None => format!("all workers are of this release, because {OTHER_WORKER} is not set"),
        }
    }

    /// A worker of its place's release, with its place's URL.
    fn worker(&self, index: usize) -> Program {
        let other_release = self.other_release.as_ref().filter(|_| index % 2 == 1);
        // Both releases are behind both proxies.
        let url = self.servers.url(if self.other_release.is_some() { index / 2 } else { index });
        let arguments = ["--redis", &url, "--drain-timeout", "1s"];
        match other_release {
            Some(program) => self.state.start_worker_program(program, &arguments),
            None => self.state.start_worker(&arguments),
        }
    }
}

impl Fleet {
    /// After the retention no job has a key left, and soon after that no worker.
    ///
    /// With a durable ledger something may stay, which is printed: the record of a session that a run was about to open, for its
    /// owner's grace and the clock's steps; and the first output of a job whose record was lost before it was confirmed,
    /// because a worker of that job wrote it to the new master.
    pub(crate) fn check_everything_expires(mut self, ledger: Ledger) {
        self.end_workers();
        let set = |master: &&Redis| master.command("HSET legwork:default:meta retention_ms 1") == ":0";
        assert_eq!(self.servers.masters().iter().filter(|master| set(master)).count(), 1);
        let last = self.worker(0);
        let mut listed = String::new();
        let is_empty = is_reached(MAX_DELETION, || {
            listed = self.state.legwork(["list", "--json"]).expect_success();
            listed.is_empty()
        });
        assert!(is_empty, "not deleted after {MAX_DELETION:?}: {listed}");
        self.workers.push(last);
        self.end_workers();
        let mut left: Vec<String> =
            self.servers.masters().iter().flat_map(|master| master.persistent_keys()).collect();
        if ledger == Ledger::Durable {
            let of_lost = |key: &String| {
                [":lease", ":fence", ":output", ":turns"].iter().any(|end| key.ends_with(end))
                    || key.contains(":session:")
            };
            let (lost, others) = left.into_iter().partition(of_lost);
            let lost: Vec<String> = lost;
            println!("chaos: {} keys left of what was lost: {lost:?}", lost.len());
            left = others;
        }
        assert_eq!(left, ["legwork:default:meta"], "only the namespace itself is left");
    }

    fn end_workers(&mut self) {
        for worker in &self.workers {
            worker.signal(Signal::TERM);
        }
        for mut worker in self.workers.drain(..) {
            assert_eq!(worker.wait(), 0, "a drained worker exits with 0");
        }
    }
}

/// How a lasting fault is ended.
#[derive(Debug, Clone, Copy)]
enum Undo {
    ContinueWorker(usize),
    RestoreProxy(usize),
    EndServerFault,
    WakeOrchestrator,
}

/// Injects random faults. Lasting ones overlap.
#[derive(Debug)]
pub(crate) struct FleetFaults<'f> {
    fleet: &'f mut Fleet,
    random: Random,
    orchestrators: Orchestrators,
    /// Active faults: when each ends, and how.
    active: Vec<(Instant, Undo)>,
    counts: BTreeMap<&'static str, u32>,
}

impl<'f> FleetFaults<'f> {
    /// Starts without any fault.
    pub(crate) fn new(fleet: &'f mut Fleet, random: Random) -> Self {
        let orchestrators = Orchestrators::new(Arc::clone(&fleet.state));
        Self { fleet, random, orchestrators, active: Vec::new(), counts: BTreeMap::new() }
    }

    /// Number of faults of each kind, in one line.
    pub(crate) fn summary(&self) -> String {
        let counts: Vec<String> =
            self.counts.iter().map(|(fault, times)| format!("{times} × {fault}")).collect();
        let (servers, orchestrators) = (self.fleet.servers.summary(), self.orchestrators.summary());
        format!("{}{servers}; {orchestrators}", counts.join(", "))
    }

    /// Waits 0.2 to 1.5 s and injects a fault. Lasting faults take up to 3.55 s, longer than the lease of 2 s.
    pub(crate) fn next_fault(&mut self) {
        let delay = Duration::from_millis(200 + self.random.below(1300));
        self.wait(delay);
        if !self.active.iter().any(|(_, undo)| matches!(undo, Undo::WakeOrchestrator)) {
            self.orchestrators.keep_one();
        }
        if !self.has_server_fault() {
            self.fleet.servers.tend(&mut self.random);
        }
        let worker = self.random.index(self.fleet.workers.len());
        let proxy = self.random.index(self.fleet.servers.proxies().len());
        let duration = Duration::from_millis(50 + self.random.below(3500));
        let more = self.fleet.servers.more_faults();
        let fault = match self.random.below(KINDS + more) {
            0 => self.kill(worker),
            1 => self.freeze(worker, duration),
            2 => self.drain(worker),
            3 | KINDS.. => self.server_fault(duration),
            10 => self.step_clock_back(),
            11 => {
                self.orchestrators.sleep();
                self.undo_after(duration, Undo::WakeOrchestrator);
                "orchestrator asleep"
            }
            kind => self.disturb(kind, proxy, duration),
        };
        *self.counts.entry(fault).or_default() += 1;
    }

    /// A fault of the connections through one proxy.
    fn disturb(&mut self, kind: u64, proxy: usize, duration: Duration) -> &'static str {
        let through = self.proxy(proxy);
        let (fault, lasts) = match kind {
            4 => {
                through.cut();
                ("connections cut", true)
            }
            5 => {
                through.freeze();
                ("connections frozen", true)
            }
            6 => {
                through.delay(duration / 50);
                ("connections slow", true)
            }
            7 => {
                // A momentary cut: every connection must be reopened.
                through.cut();
                through.restore();
                ("connections closed", false)
            }
            8 => {
                // Never undone: only new connections are served.
                through.silence_open();
                ("connections silenced", false)
            }
            9 => {
                through.silence_half();
                ("half of the connections silenced", true)
            }
            _ => {
                through.lose_a_reply();
                ("reply lost", false)
            }
        };
        if lasts {
            self.undo_after(duration, Undo::RestoreProxy(proxy));
        }
        fault
    }

    fn proxy(&self, index: usize) -> &Proxy {
        self.fleet.servers.proxies()[index]
    }

    /// Ends all faults and checks that all workers are there. Returns the tasks whose orchestrators gave up.
    pub(crate) fn recover(&mut self) -> Vec<String> {
        for (_, undo) in std::mem::take(&mut self.active) {
            self.undo(undo);
        }
        self.fleet.servers.until_whole();
        for draining in &mut self.fleet.draining {
            assert_eq!(draining.wait(), 0, "a drained worker exits with 0");
        }
        for worker in &mut self.fleet.workers {
            assert!(worker.is_running(), "no worker exits on its own");
        }
        self.orchestrators.finish();
        self.orchestrators.gave_up.clone()
    }

    fn undo_after(&mut self, duration: Duration, undo: Undo) {
        self.active.push((Instant::now() + duration, undo));
    }

    /// Waits, ending the faults that are due in between.
    fn wait(&mut self, delay: Duration) {
        let end = Instant::now() + delay;
        until("the delay is over", || {
            let now = Instant::now();
            let (due, active) = self.active.iter().copied().partition(|(when, _)| *when <= now);
            self.active = active;
            let due: Vec<(Instant, Undo)> = due;
            due.into_iter().for_each(|(_, undo)| self.undo(undo));
            now >= end
        });
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::ContinueWorker(worker) => self.fleet.workers[worker].signal(Signal::CONT),
            Undo::RestoreProxy(proxy) => {
                self.proxy(proxy).delay(Duration::ZERO);
                self.proxy(proxy).restore();
            }
            Undo::EndServerFault => self.fleet.servers.end_fault(),
            Undo::WakeOrchestrator => self.orchestrators.wake(),
        }
    }

    fn kill(&mut self, worker: usize) -> &'static str {
        self.unfreeze(worker);
        self.fleet.workers[worker].kill();
        self.fleet.workers[worker] = self.fleet.worker(worker);
        "worker killed"
    }

    fn freeze(&mut self, worker: usize, duration: Duration) -> &'static str {
        self.fleet.workers[worker].signal(Signal::STOP);
        self.undo_after(duration, Undo::ContinueWorker(worker));
        "worker frozen"
    }

    fn drain(&mut self, worker: usize) -> &'static str {
        self.unfreeze(worker);
        let next = self.fleet.worker(worker);
        let old = std::mem::replace(&mut self.fleet.workers[worker], next);
        old.signal(Signal::TERM);
        self.fleet.draining.push(old);
        "worker drained"
    }

    /// A fault of the servers' own; one lasts at a time.
    fn server_fault(&mut self, duration: Duration) -> &'static str {
        if self.has_server_fault() {
            return "servers left alone, because one is away";
        }
        match self.fleet.servers.begin_fault(&mut self.random) {
            Begun::Momentary(fault) => fault,
            Begun::Lasting(fault) => {
                self.undo_after(duration / 2, Undo::EndServerFault);
                fault
            }
        }
    }

    fn has_server_fault(&self) -> bool {
        self.active.iter().any(|(_, undo)| matches!(undo, Undo::EndServerFault))
    }

    fn step_clock_back(&self) -> &'static str {
        if self.has_server_fault() {
            return "clock step without a Redis";
        }
        self.fleet.servers.masters().into_iter().for_each(Redis::step_clock_back);
        "clock stepped back by an hour"
    }

    /// Continues a frozen worker before it is replaced, and drops its pending undo, which would hit its successor.
    fn unfreeze(&mut self, worker: usize) {
        self.active.retain(|(_, undo)| !matches!(undo, Undo::ContinueWorker(stopped) if *stopped == worker));
        self.fleet.workers[worker].signal(Signal::CONT);
    }
}
