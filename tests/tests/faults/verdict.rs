//! What must be so after every life.

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
use legwork_tests::programs::processes;
use legwork_tests::redis::keys;
use legwork_tests::speech::is_exact;
use legwork_tests::wire::Harm;
use legwork_tests::wire::Wire;
use tokio::time::sleep;

use crate::life::PAUSE;
use crate::life::Remains;
use crate::scenario::Scenario;

/// All jobs of a life, the oldest first.
async fn jobs(remains: &Remains<'_>) -> Vec<Job> {
    let page = remains.queue.list(&JobFilter::default(), 100, None).await.unwrap();
    page.jobs.into_iter().rev().collect()
}

/// Right after a stop was confirmed: all have ended, and nothing of them lives.
pub(crate) async fn stopped(remains: &Remains<'_>) {
    let asked = remains.models.calls();
    let alive = processes(&format!("sleep {}", remains.scene.sleep()));
    assert_eq!(alive, Vec::<String>::new(), "a command outlives the stop of its job");
    // Where a call was refused for good, the job may have ended first, and says so.
    let others =
        if remains.scene.harm == Harm::Refuse { [State::Failed, State::Completed].as_slice() } else { &[] };
    for job in jobs(remains).await {
        assert!(job.status == State::Stopped || others.contains(&job.status), "{job:?}");
    }
    assert_eq!(remains.models.calls(), asked, "a model was asked after the stop");
}

/// At the very end: every job has one end, and did what it did once.
pub(crate) async fn whole(remains: &Remains<'_>) {
    let jobs = jobs(remains).await;
    let (scenario, harmless) = (remains.scene.scenario, remains.scene.harm != Harm::Refuse);
    assert_eq!(jobs.iter().filter(|job| job.parent.is_none()).count(), 1, "a key names one job: {jobs:?}");
    assert!(jobs.len() <= 2, "a child is dispatched once: {jobs:?}");
    let mut most_asked = 0;
    for job in &jobs {
        assert!(job.status.is_terminal(), "{job:?}");
        assert!(job.status == State::Completed || job.cause.is_some(), "no end without a cause: {job:?}");
        most_asked += recorded_once(remains, job).await;
        if harmless {
            let most = if remains.scene.is_deadly() { 2 } else { 1 };
            assert!((1..=most).contains(&job.attempt), "nothing else is a crash here: {job:?}");
        }
        if job.status == State::Completed {
            spoken(remains, job).await;
        }
    }
    let marks = remains.scene.marks();
    let once: BTreeSet<&String> = marks.iter().collect();
    assert_eq!(once.len(), marks.len(), "a command ran twice: {marks:?}");
    if !harmless {
        return;
    }
    let asked = remains.models.calls();
    assert!(asked.len() <= most_asked, "recorded turns are not paid again: {asked:?}, not {most_asked}");
    if scenario == Scenario::Stopped {
        return;
    }
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.status == State::Completed), "{jobs:?}");
    // What ended while nobody served is announced first, also to who was about to wait for it.
    let most = usize::from(scenario == Scenario::Told || remains.scene.is_deadly());
    assert!((usize::from(scenario == Scenario::Told)..=most).contains(&remains.models.announcements()));
    if most_asked == asked.len() && !remains.scene.is_deadly() {
        assert_eq!(marks, scenario.commands());
    }
}

/// Its turns stand in its log once each and without a gap; how often its models may have been asked.
async fn recorded_once(remains: &Remains<'_>, job: &Job) -> usize {
    let entries = remains.queue.turns(job.id, 0).await.unwrap();
    let mut replies = Vec::new();
    for (place, (sequence, text)) in (1..).zip(&entries) {
        assert_eq!(*sequence, place, "{entries:?}");
        if let TurnEntry::Reply { turn, .. } = serde_json::from_str(text).unwrap() {
            replies.push(turn);
        }
    }
    let expected: Vec<u32> = (1..).take(replies.len()).collect();
    assert_eq!(replies, expected, "{entries:?}");
    // Each run that was cut off may have asked for one turn that was not recorded.
    let output = output(remains, job.id).await;
    let cut_off = output.matches("\n[attempt ").count() + usize::from(job.status != State::Completed);
    replies.len() + cut_off
}

async fn output(remains: &Remains<'_>, id: JobId) -> String {
    let slice = remains.queue.output(id, 0, 1 << 20).await.unwrap();
    String::from_utf8(slice.bytes).unwrap()
}

/// A job that completed said each of its turns, whole and once.
async fn spoken(remains: &Remains<'_>, job: &Job) {
    let turns = remains.scene.scenario.turns_of(&job.agent);
    let output = output(remains, job.id).await;
    // An end that came early is told before the second turn; then there is no third.
    let shortest = if remains.scene.scenario == Scenario::Told { turns.len() - 1 } else { turns.len() };
    let spoken = (shortest..=turns.len()).find(|&count| is_exact(&output, &turns[..count]));
    let refused = remains.scene.harm == Harm::Refuse;
    assert!(spoken.is_some() || refused, "the output is not exact: {output}");
    assert_eq!(job.output_bytes, output.len() as u64, "{job:?}");
}

/// Forgotten, a life leaves nothing but the namespace itself.
pub(crate) async fn nothing_is_left(remains: &Remains<'_>, wire: &Wire) {
    let Remains { queue, scene, .. } = remains;
    while matches!(scene.harm, Harm::Late(_)) && wire.hit().is_some() && !wire.came_late() {
        sleep(PAUSE).await;
    }
    // A heartbeat that came after the goodbye ends by itself, three leases later.
    for worker in queue.workers().await.unwrap() {
        queue.goodbye(&worker.id).await.unwrap();
    }
    let ids: Vec<JobId> = jobs(remains).await.iter().map(|job| job.id).collect();
    let session = jobs(remains).await[0].session;
    let forgotten = queue.forget(&ids, true).await.unwrap();
    assert!(forgotten.iter().all(|verdict| *verdict == Forgotten::Forgotten), "{forgotten:?}");
    assert_eq!(queue.live_children(session, Dispatcher::Root(session)).await.unwrap(), 0);
    // What is known of a worker that died ends by itself.
    let stays =
        [":meta", ":ready:", ":wake:", ":reaped", if scene.is_deadly() { ":worker" } else { ":meta" }];
    let mut left = keys(remains.scene.redis, &format!("*legwork:{}:*", remains.scene.namespace()));
    left.retain(|key| !stays.iter().any(|stays| key.contains(stays)));
    assert!(left.is_empty(), "after {:?}: {left:?}", wire.hit());
}
