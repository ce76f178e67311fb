//! What must hold after every run, whatever the fault was.

use std::collections::BTreeSet;

use legwork_agent::journal::TurnEntry;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::port::Forgotten;
use legwork_queue::port::JobFilter;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_tests::command_proxy::CommandProxy;
use legwork_tests::command_proxy::Fault;
use legwork_tests::exact_output::is_exact;
use legwork_tests::programs::processes;
use legwork_tests::redis::keys;
use tokio::time::sleep;

use crate::run::Aftermath;
use crate::run::RETRY_DELAY;
use crate::scenario::Scenario;

/// All jobs of a run, oldest first.
async fn jobs(aftermath: &Aftermath<'_>) -> Vec<Job> {
    let page = aftermath.queue.list(&JobFilter::default(), 100, None).await.unwrap();
    page.jobs.into_iter().rev().collect()
}

/// Right after a stop was confirmed: all jobs have ended and none of their processes is alive.
pub(crate) async fn all_stopped(aftermath: &Aftermath<'_>) {
    let calls = aftermath.models.calls();
    let alive = processes(&format!("sleep {}", aftermath.run.sleep()));
    assert_eq!(alive, Vec::<String>::new(), "a command outlives the stop of its job");
    // A rejected call can end the job before the stop.
    let others =
        if aftermath.run.fault == Fault::Refuse { [State::Failed, State::Completed].as_slice() } else { &[] };
    for job in jobs(aftermath).await {
        assert!(job.status == State::Stopped || others.contains(&job.status), "{job:?}");
    }
    assert_eq!(aftermath.models.calls(), calls, "a model was called after the stop");
}

/// At the end of a run: every job has ended, and each of its side effects happened once.
pub(crate) async fn all_ended_once(aftermath: &Aftermath<'_>) {
    let jobs = jobs(aftermath).await;
    let (scenario, is_transient) = (aftermath.run.scenario, aftermath.run.fault != Fault::Refuse);
    assert_eq!(jobs.iter().filter(|job| job.parent.is_none()).count(), 1, "a key names one job: {jobs:?}");
    assert!(jobs.len() <= 2, "a child is dispatched once: {jobs:?}");
    let mut max_calls = 0;
    for job in &jobs {
        assert!(job.status.is_terminal(), "{job:?}");
        assert!(job.status == State::Completed || job.cause.is_some(), "no end without a cause: {job:?}");
        max_calls += recorded_once(aftermath, job).await;
        if is_transient {
            let max_attempts = if aftermath.run.is_crash() { 2 } else { 1 };
            assert!((1..=max_attempts).contains(&job.attempt), "only a crash costs an attempt: {job:?}");
        }
        if job.status == State::Completed {
            output_is_exact(aftermath, job).await;
        }
    }
    let marks = aftermath.run.marks();
    let once: BTreeSet<&String> = marks.iter().collect();
    assert_eq!(once.len(), marks.len(), "a command ran twice: {marks:?}");
    if !is_transient {
        return;
    }
    let calls = aftermath.models.calls();
    assert!(calls.len() <= max_calls, "a recorded turn was paid for again: {calls:?}, at most {max_calls}");
    if scenario == Scenario::Stopped {
        return;
    }
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.status == State::Completed), "{jobs:?}");
    // After a crash, the end of the child can be announced to a parent that was about to wait for it.
    let max_announcements = usize::from(scenario == Scenario::Notified || aftermath.run.is_crash());
    assert!(
        (usize::from(scenario == Scenario::Notified)..=max_announcements)
            .contains(&aftermath.models.announcements())
    );
    if max_calls == calls.len() && !aftermath.run.is_crash() {
        assert_eq!(marks, scenario.commands());
    }
}

/// Checks that the log has each turn once and without a gap. Returns how many model calls the job may have made.
async fn recorded_once(aftermath: &Aftermath<'_>, job: &Job) -> usize {
    let entries = aftermath.queue.turns(job.id, 0).await.unwrap();
    let mut replies = Vec::new();
    for (expected, (sequence, text)) in (1..).zip(&entries) {
        assert_eq!(*sequence, expected, "{entries:?}");
        if let TurnEntry::Reply { turn, .. } = serde_json::from_str(text).unwrap() {
            replies.push(turn);
        }
    }
    let expected: Vec<u32> = (1..).take(replies.len()).collect();
    assert_eq!(replies, expected, "{entries:?}");
    // Each interrupted attempt may have made one call for a turn that was not recorded.
    let output = output(aftermath, job.id).await;
    let interrupted = output.matches("\n[attempt ").count() + usize::from(job.status != State::Completed);
    replies.len() + interrupted
}

async fn output(aftermath: &Aftermath<'_>, id: JobId) -> String {
    let slice = aftermath.queue.output(id, 0, 1 << 20).await.unwrap();
    String::from_utf8(slice.bytes).unwrap()
}

/// The output of a completed job has each of its turns, complete and once.
async fn output_is_exact(aftermath: &Aftermath<'_>, job: &Job) {
    let turns = aftermath.run.scenario.turns_of(&job.agent);
    let output = output(aftermath, job.id).await;
    // If the child ends early, its notification is delivered before the second turn, and there is no third.
    let shortest = if aftermath.run.scenario == Scenario::Notified { turns.len() - 1 } else { turns.len() };
    let count = (shortest..=turns.len()).find(|&count| is_exact(&output, &turns[..count]));
    let rejected = aftermath.run.fault == Fault::Refuse;
    assert!(count.is_some() || rejected, "the output is not exact: {output}");
    assert_eq!(job.output_bytes, output.len() as u64, "{job:?}");
}

/// Deletes all jobs; only the keys of the namespace itself may be left.
pub(crate) async fn nothing_is_left(aftermath: &Aftermath<'_>, proxy: &CommandProxy) {
    let Aftermath { queue, run, .. } = aftermath;
    while matches!(run.fault, Fault::Late(_)) && proxy.hit().is_some() && !proxy.came_late() {
        sleep(RETRY_DELAY).await;
    }
    // A heartbeat that arrives after the goodbye would keep the worker in the fleet for three leases.
    for worker in queue.workers().await.unwrap() {
        queue.goodbye(&worker.id).await.unwrap();
    }
    let ids: Vec<JobId> = jobs(aftermath).await.iter().map(|job| job.id).collect();
    let session = jobs(aftermath).await[0].session;
    let forgotten = queue.forget(&ids, true).await.unwrap();
    assert!(forgotten.iter().all(|verdict| *verdict == Forgotten::Forgotten), "{forgotten:?}");
    assert_eq!(queue.live_children(session, Dispatcher::Root(session)).await.unwrap(), 0);
    // The record of a worker, with its last claim, expires later.
    let mut expected = vec![":meta", ":ready:", ":wake:", ":reaped", ":worker:"];
    // A crashed worker is in the fleet until then.
    if run.is_crash() {
        expected.push(":workers");
    }
    let mut left = keys(aftermath.run.redis, &format!("*legwork:{}:*", aftermath.run.namespace()));
    left.retain(|key| !expected.iter().any(|part| key.contains(part)));
    assert!(left.is_empty(), "after {:?}: {left:?}", proxy.hit());
}
