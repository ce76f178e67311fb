//! Questions of jobs to people: asked under a lease, answered once, by anyone, whatever becomes of the worker.

use std::time::Duration;

use legwork_common::lifecycle::State;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::waits_for::WaitsFor;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::operator::SessionLanes;
use legwork_queue::port::AnswerOutcome;
use legwork_queue::port::Asked;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
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
        assert_eq!(it.queue.answer(lease.id, number, &answer, None).await.unwrap(), outcome);
    }
    let asked = it.queue.ask(lease, CALL, &question("ls"), HOUR).await.unwrap();
    assert_eq!(asked, Asked::Answered(Answer::Approved, None));
    assert_eq!(it.queue.decided(lease.id, number).await.unwrap(), Some(Answer::Approved));
    assert_eq!(it.queue.answer(lease.id, 7, &Answer::Approved, None).await.unwrap(), AnswerOutcome::Unasked);
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
    it.queue.answer(lease.id, first, &denied("no"), None).await.unwrap();
    let WaitsFor::Answer { questions } = waits_for().await else { panic!("one question is open") };
    assert_eq!(questions.len(), 1);
    assert_eq!(it.queue.asking(10).await.unwrap().total, 1);
    it.queue.answer(lease.id, second, &Answer::Approved, None).await.unwrap();
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
    assert_eq!(
        it.queue.answer(lease.id, number, &denied("no"), None).await.unwrap(),
        AnswerOutcome::Recorded
    );
    assert_eq!(it.queue.ask(lease, CALL, &question("ls"), HOUR).await.unwrap(), Asked::Lost);
    let next = it.claim(1).await.remove(0).lease;
    let asked = it.queue.ask(next, CALL, &question("ls"), HOUR).await.unwrap();
    assert_eq!(asked, Asked::Answered(denied("no"), None));
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
            let late = it.queue.answer(lease.id, number, &Answer::Approved, None).await.unwrap();
            assert_eq!(late, AnswerOutcome::Already(Answer::Expired));
        }
        let asked = it.queue.ask(lease, call, &question("ls"), soon).await.unwrap();
        assert_eq!(asked, Asked::Answered(Answer::Expired, None));
        let late = it.queue.answer(lease.id, number, &Answer::Approved, None).await.unwrap();
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
    let answered = it.queue.answer(lease.id, number, &Answer::Approved, None).await.unwrap();
    assert_eq!(answered, AnswerOutcome::NotRunning(State::Stopping));
    assert_eq!(it.queue.ask(lease, LATER, &question("ls"), HOUR).await.unwrap(), Asked::Stopping);
    it.finish(lease, completed()).await;
    let answered = it.queue.answer(lease.id, number, &Answer::Approved, None).await.unwrap();
    assert_eq!(answered, AnswerOutcome::NotRunning(State::Stopped));
    assert_eq!(it.queue.asking(10).await.unwrap().total, 0);
    assert_eq!(it.queue.open_questions(&[lease.id]).await.unwrap(), [vec![]]);
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*questions*").query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// How often the server executed a command since its statistics were reset.
async fn executed(raw: &mut redis::aio::MultiplexedConnection, command: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = info.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("0,");
    line.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_a_job_asked_before_costs_nothing_later() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    it.queue.park(lease).await.unwrap();
    for turn in 10..210 {
        let number = open(&it, lease, CallIndex { turn, index: 0 }).await;
        it.queue.answer(lease.id, number, &Answer::Approved, None).await.unwrap();
    }
    let first = open(&it, lease, CALL).await;
    let second = open(&it, lease, LATER).await;
    let mut raw = redis.raw().await;
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut raw).await.unwrap();
    let numbers = |open: &[legwork_common::question::AskedQuestion]| -> Vec<u32> {
        open.iter().map(|asked| asked.number).collect()
    };
    let listed = it.queue.open_questions(&[lease.id]).await.unwrap();
    assert_eq!(numbers(&listed[0]), [first, second]);
    // The second is answered first, so that the first stays the oldest open one.
    it.queue.answer(lease.id, second, &denied("no"), None).await.unwrap();
    let waits = it.queue.jobs_with_waits(&[lease.id]).await.unwrap().remove(0).unwrap().waits_for.unwrap();
    let WaitsFor::Answer { questions } = waits else { panic!("{waits:?}") };
    assert_eq!(numbers(&questions), [first]);
    it.queue.answer(lease.id, first, &Answer::Approved, None).await.unwrap();
    assert_eq!(it.queue.asking(10).await.unwrap().total, 0);
    assert_eq!(executed(&mut raw, "hgetall").await, 0);
    let checks = executed(&mut raw, "hexists").await;
    assert!(checks < 20, "{checks} questions were looked at");
    let named = it.queue.question(lease.id, Some(second)).await.unwrap().unwrap();
    assert_eq!(named.answer, Some(denied("no")));
    let last = it.queue.question(lease.id, None).await.unwrap().unwrap();
    assert_eq!((last.number, it.queue.question(lease.id, Some(999)).await.unwrap()), (second, None));
}

#[tokio::test]
async fn questions_that_an_earlier_release_answered_hide_no_open_one() {
    let redis = PrivateRedis::start();
    let (it, lease) = running(&redis, &FleetSettings::default()).await;
    let mut raw = redis.raw().await;
    for turn in 10..310 {
        let number = open(&it, lease, CallIndex { turn, index: 0 }).await;
        let answer = format!("answer:{number}");
        let mut command = redis::cmd("HSET");
        command.arg(it.queue.keys().questions(lease.id)).arg(answer).arg("{\"verdict\":\"approved\"}");
        command.exec_async(&mut raw).await.unwrap();
    }
    let last = open(&it, lease, CALL).await;
    let listed = it.queue.open_questions(&[lease.id]).await.unwrap();
    assert_eq!(listed[0].iter().map(|asked| asked.number).collect::<Vec<_>>(), [last]);
    it.queue.answer(lease.id, last, &Answer::Approved, None).await.unwrap();
    assert_eq!(it.queue.asking(10).await.unwrap().total, 0);
}

#[tokio::test]
async fn questions_of_one_session_are_read_without_the_tasks_of_the_jobs_that_ask() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings::default()).await;
    let large = "x".repeat(1_000_000);
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let it = TestSession::open(&queue, 0).await;
        let mut job = it.job();
        job.spec.task.clone_from(&large);
        it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
        let lease = it.claim(1).await.remove(0).lease;
        open(&it, lease, CALL).await;
        sessions.push((it.session, lease.id));
    }
    let hints = Hints::new(&redis.target()).unwrap();
    let operator = Operator::new(Observer::new(queue, hints), SessionLanes::Shared);
    let mut raw = redis.raw().await;
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut raw).await.unwrap();
    assert_eq!(operator.open_questions(None).await.unwrap().len(), 2);
    let mine = operator.open_questions(Some(sessions[1].0)).await.unwrap();
    assert_eq!(mine.iter().map(|open| open.id).collect::<Vec<_>>(), [sessions[1].1]);
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut raw).await.unwrap();
    let sent = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap();
    assert!(sent.trim().parse::<u64>().unwrap() < 100_000, "{sent}");
}
