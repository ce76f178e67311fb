//! Calls that arrive late: after their repeat, or after the call of another process.

use std::time::Duration;

use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::IdempotencyKey;
use legwork_queue::port::JobFilter;
use legwork_queue::port::NewJob;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::command_proxy::CommandProxy;
use legwork_tests::command_proxy::Fault;
use legwork_tests::redis::Redis;

use crate::support::TestSession;

/// How long a call is held: far longer than other callers wait for it.
const LATE: Duration = Duration::from_millis(400);
/// Late enough for all calls that must come before, on a busy machine.
const MUCH_LATER: Duration = Duration::from_secs(2);

async fn queue(url: &str, shards: u16) -> Queue {
    let settings = FleetSettings { shards, ..FleetSettings::default() };
    Queue::connect(&Target::parse(url).unwrap(), "test", &settings, ConnectionKind::Pooled).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_key_names_one_job_however_slow_its_first_caller_is() {
    let redis = Redis::start();
    let proxy = CommandProxy::start(redis.address()).await;
    let slow = queue(&proxy.url(), 16).await;
    let quick = queue(&redis.url(), 16).await;
    let once = IdempotencyKey { key: "k".into(), request: "r".into(), in_namespace: true };
    let keyed = |it: &TestSession| NewJob { idempotency_key: Some(once.clone()), ..it.job() };
    let first = TestSession::open(&slow, 20).await;
    // Other sessions, of the same shard and of other shards. One of each is enough; twenty make both all but certain.
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(TestSession::open(&quick, 20).await);
    }
    // The first caller has reserved the key, and its call to store the job is held.
    proxy.arm(2, Fault::Hold(LATE));
    let storing = first.enqueue(DispatchedBy::Root, vec![keyed(&first)]);
    let others_storing = async {
        until(|| proxy.hit().is_some()).await;
        let mut answers = Vec::new();
        for other in &others {
            answers.push(other.enqueue(DispatchedBy::Root, vec![keyed(other)]).await.unwrap()[0]);
        }
        answers
    };
    let (stored, mut answers) = tokio::join!(storing, others_storing);
    answers.push(stored.unwrap()[0]);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let page = quick.list(&JobFilter::default(), 100, None).await.unwrap();
    let listed: Vec<Enqueued> = page.jobs.iter().map(|job| Enqueued::Stored(job.id)).collect();
    assert_eq!(listed, answers);
}

#[tokio::test]
async fn the_end_of_one_stop_does_not_end_the_next() {
    let redis = Redis::start();
    let proxy = CommandProxy::start(redis.address()).await;
    let (slow, quick) = (queue(&proxy.url(), 1).await, queue(&redis.url(), 1).await);
    let it = TestSession::open(&quick, 20).await;
    let all = StopRoot::Session { id: it.session, close: false };
    // The server has the scripts in its cache after this, so each is called once.
    quick.stop(all, Asker::Operator, Cause::Operator).await.unwrap();
    it.one().await;
    // Its mark, one page, and `unmark`, which arrives a second time when another stop is under way.
    proxy.arm(3, Fault::Late(MUCH_LATER));
    slow.stop(all, Asker::Operator, Cause::Operator).await.unwrap();
    let running = it.one().await;
    it.claim(1).await;
    quick.stop(all, Asker::Operator, Cause::Operator).await.unwrap();
    assert!(!proxy.came_late());
    until(|| proxy.came_late()).await;
    // Calls on this connection are answered in order, so the late one is done by now.
    quick.ping().await.unwrap();
    quick.ping().await.unwrap();
    assert_eq!(quick.states(&[running]).await.unwrap(), [Some(State::Stopping)]);
    assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job()]).await, Err(EnqueueRefusal::Stopping));
}

#[tokio::test]
async fn a_claim_that_was_asked_for_without_slots_takes_nothing_when_it_arrives() {
    let redis = Redis::start();
    let it = TestSession::open(&queue(&redis.url(), 1).await, 20).await;
    let id = it.one().await;
    let claim = |slots| it.claim_request(7, slots);
    assert!(it.queue.claim(&claim(0)).await.unwrap().jobs.is_empty());
    // The claim itself, late, and again after the worker has left.
    assert!(it.queue.claim(&claim(1)).await.unwrap().jobs.is_empty());
    it.queue.goodbye(&it.worker).await.unwrap();
    assert!(it.queue.claim(&claim(1)).await.unwrap().jobs.is_empty());
    assert_eq!(it.queue.states(&[id]).await.unwrap(), [Some(State::Queued)]);
    // What was taken is answered.
    let taken = it.queue.claim(&it.claim_request(8, 1)).await.unwrap().jobs;
    let repeated = it.queue.claim(&it.claim_request(8, 0)).await.unwrap().jobs;
    assert_eq!((repeated.len(), repeated[0].lease), (1, taken[0].lease));
}
