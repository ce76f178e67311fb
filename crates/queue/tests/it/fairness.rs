//! Fairness: no session waits behind the hundred thousand jobs of another.

use legwork_common::job::Priority;
use legwork_queue::port::DispatchedBy;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::quick;

/// Jobs that one session dispatches at once.
const CROWD: usize = 100_000;
/// The cap of a session, and the slots of the fleet.
const CAP: u32 = 20;

#[tokio::test]
async fn another_sessions_first_job_starts_within_the_time_of_one_job() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let crowd = TestSession::open(&queue, CAP).await;
    for _ in 0..10 {
        let jobs = (0..CROWD / 10).map(|_| crowd.job()).collect();
        crowd.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    }
    // They fill half the fleet's slots, up to their session's cap.
    let running = crowd.claim(2 * CAP).await;
    assert_eq!(running.len(), CAP as usize);
    assert!(running.iter().all(|job| job.session == crowd.session));

    let other = TestSession::open(&queue, CAP).await;
    let first = other.one().await;
    crowd.finish(running[0].lease, completed()).await;
    let next = crowd.claim(1).await;
    assert_eq!(next.iter().map(|job| job.lease.id).collect::<Vec<_>>(), [first]);
    // The crowd's next job starts too.
    assert_eq!(crowd.claim(1).await[0].session, crowd.session);
}

#[tokio::test]
async fn an_urgent_job_starts_before_earlier_ones() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let session = TestSession::open(&queue, 0).await;
    let mut ids = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::High] {
        let mut job = session.job();
        job.job_options.priority = priority;
        ids.push(job.id);
        session.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    }
    let mut claimed = Vec::new();
    for _ in 0..ids.len() {
        claimed.push(session.claim(1).await[0].lease.id);
    }
    assert_eq!(claimed, [ids[2], ids[3], ids[1], ids[0]]);
}
