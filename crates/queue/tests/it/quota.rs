//! How many unfinished jobs a session may have.

use std::time::Duration;

use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::IdempotencyKey;
use legwork_queue::port::NewJob;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::dispatched_by;
use crate::support::quick;

fn full(unfinished: u64, quota: u64) -> Result<Vec<Enqueued>, EnqueueRefusal> {
    Err(EnqueueRefusal::Full { unfinished, quota })
}

fn stored(jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueRefusal> {
    Ok(jobs.iter().map(|job| Enqueued::Stored(job.id)).collect())
}

#[tokio::test]
async fn a_full_session_takes_no_job_of_its_root_or_of_its_jobs_until_some_have_ended() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession::open_within(&queue, 0, 4).await;
    it.one().await;
    let parent = it.claim(1).await.remove(0).lease;
    let children = vec![it.job(), it.job()];
    assert_eq!(it.enqueue(dispatched_by(parent), children.clone()).await, stored(&children));
    // Nothing of a call that does not fit is stored, and what is there already is answered in a full session too.
    let two = vec![it.job(), it.job()];
    assert_eq!(it.enqueue(dispatched_by(parent), two.clone()).await, full(3, 4));
    assert_eq!(it.enqueue(DispatchedBy::Root, two.clone()).await, full(3, 4));
    it.one().await;
    assert_eq!(it.enqueue(dispatched_by(parent), children.clone()).await, stored(&children));
    assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job()]).await, full(4, 4));
    // Each kind of end makes room: of a job of a job, and of one of the root.
    for claimed in it.claim(2).await {
        it.finish(claimed.lease, completed()).await;
    }
    assert_eq!(it.enqueue(dispatched_by(parent), two.clone()).await, stored(&two));
    assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job()]).await, full(4, 4));
    let root = StopRoot::Session { id: it.session, close: false };
    queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    it.finish(parent, completed()).await;
    assert_eq!(it.state(parent.id).await, State::Stopped);
    queue.sweep(root).await.unwrap();
    let four: Vec<NewJob> = (0..4).map(|_| it.job()).collect();
    assert_eq!(it.enqueue(DispatchedBy::Root, four.clone()).await, stored(&four));
}

#[tokio::test]
async fn two_requests_of_one_key_count_once_and_a_forgotten_parent_keeps_the_count() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession::open_within(&queue, 0, 2).await;
    it.one().await;
    let parent = it.claim(1).await.remove(0).lease;
    let keyed = || NewJob {
        idempotency_key: Some(IdempotencyKey { key: "k".into(), request: "r".into(), in_namespace: false }),
        ..it.job()
    };
    let twice = vec![keyed(), keyed()];
    let id = twice[0].id;
    let answer = Ok(vec![Enqueued::Stored(id), Enqueued::Stored(id)]);
    assert_eq!(it.enqueue(dispatched_by(parent), twice).await, answer);
    it.finish(parent, completed()).await;
    queue.forget(&[parent.id], true).await.unwrap();
    assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job(), it.job()]).await, full(1, 2));
    let child = it.claim(1).await.remove(0).lease;
    it.finish(child, completed()).await;
    assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job(), it.job()]).await.map(|ids| ids.len()), Ok(2));
}

#[tokio::test]
async fn jobs_that_are_reclaimed_for_good_make_room() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession::open_within(&queue, 0, 1).await;
    let id = it.one().await;
    for _ in 0..queue.settings().max_crashes {
        assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job()]).await, full(1, 1));
        assert_eq!(it.claim(1).await.len(), 1);
        queue.reap(true).await.unwrap();
    }
    assert_eq!(it.state(id).await, State::Failed);
    tokio::time::timeout(Duration::from_secs(5), it.one()).await.unwrap();
}
