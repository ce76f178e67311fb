//! The ledger: what became of every job.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use legwork_tests::speech::is_exact;
use serde_json::Value;

use crate::fleet_faults::Fleet;
use crate::jobs::AGENTS;
use crate::jobs::Clients;
use crate::jobs::turns_of;

/// How long the jobs may take to end after the last fault.
const REST: Duration = Duration::from_secs(120);
/// Longer than a lease of the fleet: who is to be reaped has been.
const AFTER_REST: Duration = Duration::from_secs(3);

/// How long a request that was sent before the stop may be on its way, in nanoseconds.
const ON_ITS_WAY: u128 = 250_000_000;

/// What became of every job.
#[derive(Debug)]
pub(crate) struct Ledger<'f> {
    fleet: &'f Fleet,
    clients: &'f Clients,
    jobs: BTreeMap<String, Value>,
}

/// All jobs, by id.
fn all(state: &StateFolder) -> BTreeMap<String, Value> {
    let mut jobs = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec!["list", "--json", "--limit", "200"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let said = state.legwork(arguments);
        assert_eq!(said.status, 0, "{said:?}");
        after = None;
        for line in said.objects() {
            match line["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => {
                    let id = line["id"].as_str().unwrap().to_owned();
                    assert!(jobs.insert(id, line).is_none(), "a job is listed once");
                }
            }
        }
        if after.is_none() {
            return jobs;
        }
    }
}

fn text<'v>(job: &'v Value, field: &str) -> &'v str {
    job[field].as_str().unwrap_or_default()
}

fn is_over(job: &Value) -> bool {
    ["completed", "failed", "stopped"].contains(&text(job, "status"))
}

impl<'f> Ledger<'f> {
    /// Waits until all have ended.
    pub(crate) fn at_rest(fleet: &'f Fleet, clients: &'f Clients) -> Self {
        let began = Instant::now();
        let mut jobs = all(&fleet.state);
        while !jobs.values().all(is_over) {
            let open: Vec<&Value> = jobs.values().filter(|job| !is_over(job)).collect();
            assert!(began.elapsed() < REST, "{} jobs do not end: {open:#?}", open.len());
            jobs = all(&fleet.state);
        }
        let ended = Instant::now();
        until("the late have had their chance", || ended.elapsed() > AFTER_REST);
        assert_eq!(all(&fleet.state), jobs, "an end is final");
        Self { fleet, clients, jobs }
    }

    fn count(&self, status: &str) -> usize {
        self.jobs.values().filter(|job| text(job, "status") == status).count()
    }

    /// The ledger in one line.
    pub(crate) fn summary(&self) -> String {
        let known = &self.clients.known;
        format!(
            "{} jobs of {} dispatches and their trees: {} completed, {} failed, {} stopped; {} stops confirmed; \
             {} model calls; most attempts {}",
            self.jobs.len(),
            self.clients.dispatches,
            self.count("completed"),
            self.count("failed"),
            self.count("stopped"),
            known.iter().filter(|job| job.stopped.is_some()).count(),
            self.fleet.provider.asked().len(),
            self.jobs.values().filter_map(|job| job["attempt"].as_u64()).max().unwrap_or_default(),
        )
    }

    /// Every line of it is as it must be.
    pub(crate) fn check(&self) {
        let roots: BTreeSet<&str> =
            self.jobs.iter().filter(|(_, job)| job["parent"].is_null()).map(|(id, _)| id.as_str()).collect();
        let known: BTreeSet<&str> = self.clients.known.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(known.len(), self.clients.known.len(), "one id for each key");
        assert_eq!(roots, known, "what was dispatched is there, and nothing else");
        for job in self.jobs.values() {
            self.check_children(job);
            match text(job, "status") {
                "completed" => self.check_completed(job),
                "failed" => assert_eq!(text(job, "cause"), "worker_lost", "{job}"),
                _ => self.check_stopped(job),
            }
        }
        self.check_marks();
        self.check_asked();
        let folder = self.fleet.state.path("marks").display().to_string();
        assert_eq!(processes(&folder), Vec::<String>::new(), "no command outlives its job");
    }

    /// A job that completed has its children, each once; another has no more than them.
    fn check_children(&self, job: &Value) {
        let children = self.jobs.values().filter(|child| child["parent"] == job["id"]);
        let mut tasks: Vec<&str> = children.map(|child| text(child, "task")).collect();
        let (_, expected) = AGENTS.into_iter().find(|(agent, _)| *agent == text(job, "agent")).unwrap();
        let count = tasks.len();
        tasks.sort_unstable();
        tasks.dedup();
        assert_eq!(tasks.len(), count, "a child is dispatched once: {job}");
        if text(job, "status") == "completed" {
            assert_eq!(count, expected, "{job}");
        }
    }

    fn check_completed(&self, job: &Value) {
        let (agent, task) = (text(job, "agent"), text(job, "task"));
        let turns = turns_of(agent, task);
        let view = self.fleet.state.view(text(job, "id"));
        let output = text(&view, "output");
        // An end that came early is told before the second turn; then there is no third.
        let shortest = if agent == "told" { turns.len() - 1 } else { turns.len() };
        let spoken = (shortest..=turns.len()).find(|&turn| {
            text(&view, "result") == turns[turn - 1].trim() && is_exact(output, &turns[..turn])
        });
        let spoken = spoken.unwrap_or_else(|| panic!("the output is not exact: {view:#}"));
        assert_eq!(view["usage"]["turns"], spoken, "a turn that is recorded is not paid again: {view:#}");
        let asked = self.fleet.provider.asked().iter().filter(|asked| asked.task == task).count();
        assert!(asked >= spoken, "what was said was asked for: {asked} times, {view:#}");
        if agent == "runs" {
            let marks = self.marks(task);
            let ran: BTreeSet<&str> = marks.iter().map(|(turn, _)| turn.as_str()).collect();
            assert!(ran.iter().all(|turn| ["1", "2", "3"].contains(turn)), "{marks:?}");
        }
    }

    /// A job is stopped because somebody stopped it or one above it, or because one above it failed.
    fn check_stopped(&self, job: &Value) {
        let mut above = vec![job];
        while let Some(parent) = above.last().and_then(|job| self.jobs.get(text(job, "parent"))) {
            above.push(parent);
        }
        let asked = |job: &&Value| {
            self.clients.known.iter().any(|known| known.id == text(job, "id") && known.stopped.is_some())
        };
        let reason = match text(job, "cause") {
            "operator" => above.iter().any(asked),
            "parent" => above.iter().skip(1).any(|job| text(job, "status") == "failed"),
            _ => false,
        };
        assert!(reason, "it was stopped without a reason: {job:#}");
    }

    /// No model was asked after a stop was confirmed.
    fn check_asked(&self) {
        for known in &self.clients.known {
            let Some(stopped) = known.stopped else { continue };
            let below = |task: &str| task.split('.').next() == Some(known.task.as_str());
            let asked = self.fleet.provider.asked();
            let late = asked.iter().find(|asked| below(&asked.task) && asked.when > stopped + ON_ITS_WAY);
            assert!(late.is_none(), "a model was asked after the stop at {stopped}: {late:?}");
        }
    }

    /// The commands that ran for this task: their turn, and when.
    fn marks(&self, task: &str) -> Vec<(String, u128)> {
        let marks = std::fs::read_to_string(self.fleet.state.path("marks").join(task)).unwrap_or_default();
        let lines = marks.lines().map(|line| line.split_once(' ').unwrap());
        lines.map(|(turn, when)| (turn.to_owned(), when.parse().unwrap())).collect()
    }

    /// No command ran twice, and none after a stop was confirmed.
    fn check_marks(&self) {
        for job in self.jobs.values().filter(|job| text(job, "agent") == "runs") {
            let marks = self.marks(text(job, "task"));
            let turns: BTreeSet<&str> = marks.iter().map(|(turn, _)| turn.as_str()).collect();
            assert_eq!(turns.len(), marks.len(), "a command ran twice: {marks:?} {job:#}");
            let root = text(job, "task").split('.').next().unwrap();
            let stopped = self.clients.known.iter().find(|known| known.task == root).unwrap().stopped;
            let late = marks.iter().find(|(_, when)| stopped.is_some_and(|stopped| *when > stopped));
            assert!(late.is_none(), "a command after the stop at {stopped:?}: {marks:?} {job:#}");
        }
    }
}
