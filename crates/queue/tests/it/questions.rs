//! Questions of jobs to people: asked under a lease, answered once, by anyone, whatever becomes of the worker.

use std::time::Duration;

use legwork_common::lifecycle::State;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::waits_for::WaitsFor;
use legwork_queue::port::AnswerOutcome;
use legwork_queue::port::Asked;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::Lease;
use legwork_queue::port::Questions as _;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;

const CALL: CallIndex = CallIndex { turn: 2, index: 0 };
const LATER: CallIndex = CallIndex { turn: 2, index: 1 };
const HOUR: Duration = Duration::from_secs(3600);

fn question(command: &str) -> Question {
    Question::approval("shell", command, "the team's permissions ask for it")
}

async fn open(it: &TestSession, lease: Lease, call: CallIndex) -> u32 {
    match it.queue.ask(lease, call, &question("ls"), HOUR).await.unwrap() {
        Asked::Open { number, expires_in } => {
            assert!(expires_in <= HOUR, "{expires_in:?}");
            number
        }
        other => unreachable!("{other:?}"),
    }
}

/// A session with one running job.
async fn running(redis: &PrivateRedis, settings: &FleetSettings) -> (TestSession, Lease) {
    let it = TestSession::open(&redis.queue(settings).await, 0).await;
    it.one().await;
    let lease = it.claim(1).await.remove(0).lease;
    (it, lease)
}

fn denied(why: &str) -> Answer {
    Answer::Denied { why: Some(why.to_owned()) }
}

#[tokio::test]
async fn the_first_answer_counts_and_the_second_learns_of_it() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    let number = open(&it, lease, CALL).await;
    assert_eq!(open(&it, lease, CALL).await, number, "asking again finds the question");
    assert_eq!(it.queue.decided(lease.id, number).await.unwrap(), None);
    for (answer, outcome) in [
        (Answer::Approved, AnswerOutcome::Recorded),
        (Answer::Approved, AnswerOutcome::Already(Answer::Approved)),
        (denied("no"), AnswerOutcome::Already(Answer::Approved)),
    ] {
        assert_eq!(it.queue.answer(lease.id, number, &answer).await.unwrap(), outcome);
    }
    let asked = it.queue.ask(lease, CALL, &question("ls"), HOUR).await.unwrap();
    assert_eq!(asked, Asked::Answered(Answer::Approved));
    assert_eq!(it.queue.decided(lease.id, number).await.unwrap(), Some(Answer::Approved));
    assert_eq!(it.queue.answer(lease.id, 7, &Answer::Approved).await.unwrap(), AnswerOutcome::Unasked);
}

#[tokio::test]
async fn a_parked_job_says_what_it_asks_and_is_listed_until_all_is_answered() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    let first = open(&it, lease, CALL).await;
    let second = open(&it, lease, LATER).await;
    it.queue.park(lease).await.unwrap();
    let waits_for = || async {
        let jobs = it.queue.jobs_with_waits(&[lease.id]).await.unwrap();
        jobs.into_iter().flatten().next().unwrap().waits_for.unwrap()
    };
    let WaitsFor::Answer { questions } = waits_for().await else { panic!("it waits for something else") };
    assert_eq!(questions.iter().map(|asked| asked.number).collect::<Vec<_>>(), [first, second]);
    assert_eq!(questions[0].question, question("ls"));
    let asking = it.queue.asking(10).await.unwrap();
    assert_eq!((asking.ids.as_slice(), asking.total), (&[lease.id][..], 1));
    it.queue.answer(lease.id, first, &denied("no")).await.unwrap();
    let WaitsFor::Answer { questions } = waits_for().await else { panic!("one question is open") };
    assert_eq!(questions.len(), 1);
    assert_eq!(it.queue.asking(10).await.unwrap().total, 1);
    it.queue.answer(lease.id, second, &Answer::Approved).await.unwrap();
    assert_eq!(waits_for().await, WaitsFor::Children { live: 0 });
    assert_eq!(it.queue.asking(10).await.unwrap().total, 0);
}

#[tokio::test]
async fn a_question_outlives_its_worker_and_the_next_attempt_finds_the_answer() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    let number = open(&it, lease, CALL).await;
    it.queue.park(lease).await.unwrap();
    // As a reaper that is alone: the worker is known to be gone.
    assert_eq!(it.queue.reap(true).await.unwrap().requeued, 1);
    assert_eq!(it.state(lease.id).await, State::Queued);
    // No worker holds it, and a person answers all the same.
    assert_eq!(it.queue.asking(10).await.unwrap().ids, [lease.id]);
    assert_eq!(it.queue.answer(lease.id, number, &denied("no")).await.unwrap(), AnswerOutcome::Recorded);
    assert_eq!(it.queue.ask(lease, CALL, &question("ls"), HOUR).await.unwrap(), Asked::Lost);
    let next = it.claim(1).await.remove(0).lease;
    let asked = it.queue.ask(next, CALL, &question("ls"), HOUR).await.unwrap();
    assert_eq!(asked, Asked::Answered(denied("no")));
}

#[tokio::test]
async fn a_question_expires_once_and_a_late_answer_does_not_count() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    // Its time is over as soon as it is asked.
    let soon = Duration::ZERO;
    for (call, by_answer) in [(CALL, true), (LATER, false)] {
        let asked = it.queue.ask(lease, call, &question("ls"), soon).await.unwrap();
        let Asked::Open { number, .. } = asked else { panic!("{asked:?}") };
        if by_answer {
            let late = it.queue.answer(lease.id, number, &Answer::Approved).await.unwrap();
            assert_eq!(late, AnswerOutcome::Already(Answer::Expired));
        }
        let asked = it.queue.ask(lease, call, &question("ls"), soon).await.unwrap();
        assert_eq!(asked, Asked::Answered(Answer::Expired));
        let late = it.queue.answer(lease.id, number, &Answer::Approved).await.unwrap();
        assert_eq!(late, AnswerOutcome::Already(Answer::Expired));
    }
    assert_eq!(it.queue.asking(10).await.unwrap().total, 0);
}

#[tokio::test]
async fn a_job_that_ends_or_is_stopped_asks_no_more() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    let number = open(&it, lease, CALL).await;
    it.queue.park(lease).await.unwrap();
    it.queue
        .stop(StopRoot::Job(lease.id), Asker::Operator, legwork_common::job::Cause::Operator)
        .await
        .unwrap();
    let answered = it.queue.answer(lease.id, number, &Answer::Approved).await.unwrap();
    assert_eq!(answered, AnswerOutcome::NotRunning(State::Stopping));
    assert_eq!(it.queue.ask(lease, LATER, &question("ls"), HOUR).await.unwrap(), Asked::Stopping);
    it.finish(lease, completed()).await;
    let answered = it.queue.answer(lease.id, number, &Answer::Approved).await.unwrap();
    assert_eq!(answered, AnswerOutcome::NotRunning(State::Stopped));
    assert_eq!(it.queue.asking(10).await.unwrap().total, 0);
    assert_eq!(it.queue.questions(&[lease.id]).await.unwrap(), [vec![]]);
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*questions*").query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}
