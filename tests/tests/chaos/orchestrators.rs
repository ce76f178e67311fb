//! Orchestrators that sleep like a closed laptop: each a `legwork run` whose root delegates and waits.

use std::sync::Arc;

use legwork_tests::programs::Program;
use legwork_tests::programs::StateFolder;
use rustix::process::Signal;

/// What the tasks of their jobs begin with: the agent of the script, and a number that no client's task has.
const TASK: &str = "waits9000";

/// How long an orchestrator may be away: longer than it sleeps, with an outage of Redis on top.
pub(crate) const OWNER_GRACE: &str = "20s";

/// The same where masters are replaced that work on for some seconds, in which an orchestrator may be at either of two.
pub(crate) const OWNER_GRACE_OF_A_FAILOVER: &str = "60s";

/// The orchestrators, one at a time.
#[derive(Debug)]
pub(crate) struct Orchestrators {
    state: Arc<StateFolder>,
    running: Option<(String, Program)>,
    started: usize,
    /// Tasks of those that failed, or whose session was ended while they were away: their jobs may be stopped.
    pub(crate) gave_up: Vec<String>,
}

impl Orchestrators {
    /// None runs yet.
    pub(crate) fn new(state: Arc<StateFolder>) -> Self {
        Self { state, running: None, started: 0, gave_up: Vec::new() }
    }

    /// Starts one unless one runs.
    pub(crate) fn keep_one(&mut self) {
        if self.running.as_mut().is_some_and(|(_, program)| program.is_running()) {
            return;
        }
        self.take_exited();
        let task = format!("{TASK}{}", self.started);
        self.started += 1;
        let file = self.state.path("team.yaml").display().to_string();
        let prompt = format!("<task>\n{task}\n</task>");
        let program = self.state.start_legwork(["run", &file, "--agent", "waits", &prompt]);
        self.running = Some((task, program));
    }

    /// Stops the one that runs, as a closed laptop does.
    pub(crate) fn sleep(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues it.
    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some((_, program)) = &self.running {
            // A program that has exited stays until it is collected, so the signal reaches no other.
            program.signal(signal);
        }
    }

    /// Waits for the last one.
    pub(crate) fn finish(&mut self) {
        self.wake();
        self.take_exited();
    }

    fn take_exited(&mut self) {
        let Some((task, program)) = self.running.take() else { return };
        let output = program.wait_with_output();
        if output.status != 0 || output.stderr.contains("longer than its --owner-grace") {
            self.gave_up.push(task);
        }
    }

    /// How many were started and gave up, in one line.
    pub(crate) fn summary(&self) -> String {
        format!("{} orchestrators, {} of them gave up", self.started, self.gave_up.len())
    }
}
