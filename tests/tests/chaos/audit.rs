//! The audit after the faults: every accepted job has ended correctly, with its exact output and no leftovers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use legwork_tests::exact_output::is_exact;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::processes;
use legwork_tests::programs::until;
use serde_json::Value;

use crate::fleet_faults::Fleet;
use crate::jobs::AGENTS;
use crate::jobs::AcceptedJob;
use crate::jobs::Clients;
use crate::jobs::turns_of;
use crate::servers::Ledger;
use crate::wires::Wire;

/// How long the jobs may take to end after the last fault. Waiting jobs and retries after a crash take the longest.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// How long final states are observed: longer than the lease of 2 s, so that a late reaper would have changed them.
const OBSERVATION: Duration = Duration::from_secs(3);

/// Stands in the output where a reply was cut off.
const CUT_OFF_NOTICE: &str = "\n[the model's answer was cut off; asking again]\n";
/// How late a model call that was sent before a stop may arrive at the provider, in nanoseconds.
const MAX_REQUEST_DELAY: u128 = 250_000_000;

/// The final state of every job, and what the clients expect.
#[derive(Debug)]
pub(crate) struct Audit<'f> {
    fleet: &'f Fleet,
    clients: &'f Clients,
    /// Tasks of orchestrators that gave up.
    gave_up: Vec<String>,
    jobs: BTreeMap<String, Value>,
}

/// All jobs by id, listed page by page.
fn all(state: &StateFolder) -> BTreeMap<String, Value> {
    let mut jobs = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec!["list", "--json", "--limit", "200"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let output = state.legwork(arguments);
        assert_eq!(output.status, 0, "{output:?}");
        // The cursor is on standard error: standard output has jobs only.
        let notes = output.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        after = notes.filter_map(|note| note["next"].as_str().map(str::to_owned)).next_back();
        for line in output.json_lines() {
            let id = line["id"].as_str().unwrap().to_owned();
            assert!(jobs.insert(id, line).is_none(), "a job is listed once");
        }
        if after.is_none() {
            return jobs;
        }
    }
}

fn text<'v>(job: &'v Value, field: &str) -> &'v str {
    job[field].as_str().unwrap_or_default()
}

fn has_ended(job: &Value) -> bool {
    ["completed", "failed", "stopped"].contains(&text(job, "status"))
}

impl<'f> Audit<'f> {
    /// Waits until all jobs have ended.
    pub(crate) fn after_all_ended(fleet: &'f Fleet, clients: &'f Clients, gave_up: Vec<String>) -> Self {
        let started = Instant::now();
        let mut jobs = all(&fleet.state);
        while !jobs.values().all(has_ended) {
            let open: Vec<&Value> = jobs.values().filter(|job| !has_ended(job)).collect();
            assert!(started.elapsed() < MAX_WAIT, "{} jobs do not end: {open:#?}", open.len());
            jobs = all(&fleet.state);
        }
        let ended = Instant::now();
        until("the observation time is over", || ended.elapsed() > OBSERVATION);
        assert_eq!(all(&fleet.state), jobs, "an end is final");
        Self { fleet, clients, gave_up, jobs }
    }

    fn count(&self, status: &str) -> usize {
        self.jobs.values().filter(|job| text(job, "status") == status).count()
    }

    /// Counts in one line.
    pub(crate) fn summary(&self) -> String {
        let accepted = &self.clients.accepted;
        format!(
            "{} jobs of {} dispatches and their trees: {} completed, {} failed, {} stopped; {} stops confirmed; \
             {} hostile jobs; {} model calls over {} APIs, {} replies broken; most attempts {}",
            self.jobs.len(),
            self.clients.dispatches,
            self.count("completed"),
            self.count("failed"),
            self.count("stopped"),
            accepted.iter().filter(|job| job.stopped.is_some()).count(),
            self.clients.hostile.len(),
            self.fleet.provider.calls().len(),
            self.wires().len(),
            self.fleet.provider.broken(),
            self.jobs.values().filter_map(|job| job["attempt"].as_u64()).max().unwrap_or_default(),
        )
    }

    /// The APIs that were spoken.
    fn wires(&self) -> BTreeSet<Wire> {
        self.fleet.provider.calls().iter().map(|call| call.wire).collect()
    }

    /// Checks every job; panics at the first that is wrong. What a durable ledger does not hold is counted and printed.
    pub(crate) fn check(&self, ledger: Ledger) {
        self.check_accepted();
        if ledger == Ledger::Exact {
            // Where masters are replaced there may be few calls.
            assert_eq!(self.wires().len(), 5, "all APIs are spoken");
            assert!(self.fleet.provider.broken() > 0, "some replies are broken");
        }
        let refused = self.fleet.provider.calls().into_iter().find(|call| call.refusal.is_some());
        assert!(refused.is_none(), "a provider would refuse this: {refused:?}");
        let folder = self.fleet.state.path("marks").display().to_string();
        assert_eq!(processes(&folder), Vec::<String>::new(), "no command outlives its job");
        let complaints = self.complaints();
        match ledger {
            Ledger::Exact => assert!(complaints.is_empty(), "{}", complaints.join("\n")),
            Ledger::Durable => {
                println!("chaos: {} times more than one server would have lost", complaints.len());
                complaints.iter().for_each(|complaint| println!("chaos: {complaint:.300}"));
            }
        }
    }

    fn is_hostile(&self, job: &Value) -> bool {
        self.clients.hostile.iter().any(|id| id == text(job, "id"))
    }

    /// The jobs that the clients dispatched are those that were accepted: one for each key, none missing, none else.
    fn check_accepted(&self) {
        let roots: BTreeSet<&str> =
            self.roots().filter(|job| !self.is_hostile(job)).map(|job| text(job, "id")).collect();
        let accepted: BTreeSet<&str> = self.clients.accepted.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(accepted.len(), self.clients.accepted.len(), "one id for each key");
        assert_eq!(roots, accepted, "the accepted jobs exist, and no others");
        for id in &self.clients.hostile {
            Self::check_hostile(&self.jobs[id]);
        }
    }

    /// The jobs that clients dispatched: those of an orchestrator have a suffix, as those that a job dispatches.
    fn roots(&self) -> impl Iterator<Item = &Value> {
        self.jobs.values().filter(|job| job["parent"].is_null() && !text(job, "task").contains('.'))
    }

    /// What only servers that keep everything can be held to.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = self.twice_delegated();
        for job in self.jobs.values().filter(|job| !self.is_hostile(job)) {
            complaints.extend(self.wrong_children(job));
            match text(job, "status") {
                "completed" => complaints.extend(self.wrong_output(job)),
                "stopped" => complaints.extend(self.wrong_stop(job)),
                // A notice whose acknowledgement was lost comes again, and takes a turn that the script does not have.
                _ if text(job, "cause") != "worker_lost" => {
                    complaints.push(format!("failed: {job}\n{}", self.transcript(job)));
                }
                _ => {}
            }
            if text(job, "agent") == "runs" {
                complaints.extend(self.wrong_commands(job));
            }
        }
        complaints.extend(self.clients.accepted.iter().filter_map(|root| self.late_model_call(root)));
        complaints
    }

    /// A hostile job ends by itself, by its timeout, or with the workers that it had. No client stopped it.
    fn check_hostile(job: &Value) {
        let causes = ["agent_error", "deadline", "provider_error", "worker_lost"];
        let has_failed = text(job, "status") == "failed" && causes.contains(&text(job, "cause"));
        assert!(has_failed || text(job, "status") == "completed", "{job:#}");
    }

    /// An orchestrator dispatches a job once.
    fn twice_delegated(&self) -> Vec<String> {
        let delegated =
            self.jobs.values().filter(|job| job["parent"].is_null() && text(job, "task").contains('.'));
        let mut seen = BTreeSet::new();
        let twice = delegated.filter(|job| !seen.insert(text(job, "task")));
        twice.map(|job| format!("an orchestrator dispatches a job twice: {job}")).collect()
    }

    /// A completed job has all its children, each once; other jobs have at most these.
    fn wrong_children(&self, job: &Value) -> Option<String> {
        let children = self.jobs.values().filter(|child| child["parent"] == job["id"]);
        let mut tasks: Vec<&str> = children.map(|child| text(child, "task")).collect();
        let (_, expected) = AGENTS.into_iter().find(|(agent, _)| *agent == text(job, "agent")).unwrap();
        let count = tasks.len();
        tasks.sort_unstable();
        tasks.dedup();
        if tasks.len() < count {
            return Some(format!("a child is dispatched twice: {job}"));
        }
        let misses = text(job, "status") == "completed" && count != expected;
        misses.then(|| format!("{count} children of {expected}: {job}"))
    }

    /// The turns of a job and what its tools answered, for a complaint.
    fn transcript(&self, job: &Value) -> String {
        self.fleet.state.legwork(["view", "--transcript", text(job, "id")]).stdout
    }

    fn wrong_output(&self, job: &Value) -> Option<String> {
        let (agent, task) = (text(job, "agent"), text(job, "task"));
        let turns = turns_of(agent, task);
        let view = self.fleet.state.view(text(job, "id"));
        // A text that is repeated after a break stands there once, so that without the notices the output is exact.
        let output = text(&view, "output").replace(CUT_OFF_NOTICE, "");
        // If the child ends early, its notification is delivered before the second turn, and there is no third.
        let shortest = if agent == "notified" { turns.len() - 1 } else { turns.len() };
        let count = (shortest..=turns.len()).find(|&turn| {
            text(&view, "result") == turns[turn - 1].trim() && is_exact(&output, &turns[..turn])
        });
        let Some(count) = count else { return Some(format!("the output is not exact: {view:#}")) };
        if view["usage"]["turns"] != count {
            return Some(format!("a recorded turn is paid for again, of {count}: {view:#}"));
        }
        let calls = self.fleet.provider.calls().iter().filter(|call| call.task == task).count();
        (calls < count).then(|| format!("a turn without a model call: {calls} calls, {view:#}"))
    }

    /// A job was stopped because a client stopped it or an ancestor, or because an ancestor failed.
    fn wrong_stop(&self, job: &Value) -> Option<String> {
        let mut ancestry = vec![job];
        while let Some(parent) = ancestry.last().and_then(|job| self.jobs.get(text(job, "parent"))) {
            ancestry.push(parent);
        }
        let client_stopped = |job: &&Value| {
            self.clients.accepted.iter().any(|known| known.id == text(job, "id") && known.stopped.is_some())
        };
        let reason = match text(job, "cause") {
            "operator" => ancestry.iter().any(client_stopped),
            "session_end" => {
                self.gave_up.iter().any(|task| text(job, "task").starts_with(&format!("{task}.")))
            }
            "parent" => ancestry.iter().skip(1).any(|job| text(job, "status") == "failed"),
            _ => false,
        };
        (!reason).then(|| format!("stopped without a reason: {job:#}"))
    }

    /// No model was called for a tree after its stop was confirmed.
    fn late_model_call(&self, root: &AcceptedJob) -> Option<String> {
        let stopped = root.stopped?;
        let in_tree = |task: &str| task.split('.').next() == Some(root.task.as_str());
        let calls = self.fleet.provider.calls();
        let late =
            calls.iter().find(|call| in_tree(&call.task) && call.when > stopped + MAX_REQUEST_DELAY)?;
        Some(format!("a model was called after the stop at {stopped}: {late:?}"))
    }

    /// The commands that ran for this task: turn, and time in nanoseconds since 1970.
    fn marks(&self, task: &str) -> Vec<(String, u128)> {
        let marks = std::fs::read_to_string(self.fleet.state.path("marks").join(task)).unwrap_or_default();
        let lines = marks.lines().map(|line| line.split_once(' ').unwrap());
        lines.map(|(turn, when)| (turn.to_owned(), when.parse().unwrap())).collect()
    }

    /// No command ran twice, or after its stop was confirmed, and none is of another turn.
    fn wrong_commands(&self, job: &Value) -> Option<String> {
        let marks = self.marks(text(job, "task"));
        let turns: BTreeSet<&str> = marks.iter().map(|(turn, _)| turn.as_str()).collect();
        if turns.len() < marks.len() || !turns.iter().all(|turn| ["1", "2", "3"].contains(turn)) {
            return Some(format!("a command ran twice: {marks:?} {job:#}"));
        }
        let root = text(job, "task").split('.').next().unwrap();
        let stopped = self.clients.accepted.iter().find(|known| known.task == root);
        let stopped = stopped.and_then(|known| known.stopped)?;
        let (_, late) = marks.iter().find(|(_, when)| *when > stopped)?;
        Some(format!("a command at {late}, after the stop at {stopped}: {job:#}"))
    }
}
