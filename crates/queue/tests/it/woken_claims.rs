//! Claims that are sent with a wait for work.

use legwork_common::id::JobId;
use legwork_common::job::JobOptions;
use legwork_queue::port::Claim;
use legwork_queue::port::Claims;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Lane;
use legwork_queue::port::NewJob;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use redis::aio::MultiplexedConnection;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::next_number;

/// A session without jobs, on a server that knows the script of claims.
async fn idle() -> (PrivateRedis, TestSession, MultiplexedConnection) {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    assert!(it.claim(1).await.is_empty());
    let raw = redis.raw().await;
    (redis, it, raw)
}

/// Whether a client waits for work.
async fn is_blocked(raw: &mut MultiplexedConnection) -> bool {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(raw).await.unwrap();
    clients.contains("cmd=blpop")
}

fn ids(claims: &Claims) -> Vec<JobId> {
    claims.jobs.iter().map(|job| job.lease.id).collect()
}

#[tokio::test]
async fn the_job_that_ends_a_wait_is_claimed_with_it() {
    let (_redis, it, mut raw) = idle().await;
    let claim = it.claim_request(next_number(), 3);
    let dispatched = async {
        while !is_blocked(&mut raw).await {}
        it.one().await
    };
    let (woken, id) = tokio::join!(it.queue.claim_when_woken(&claim), dispatched);
    let (token, claims) = woken.unwrap();
    let claims = claims.unwrap();
    assert!(token.is_some() && ids(&claims) == [id], "{claims:?}");
    // Its repeat gets the same attempt.
    let again = it.queue.claim(&claim).await.unwrap();
    assert_eq!((ids(&again), again.jobs[0].lease), (vec![id], claims.jobs[0].lease));
    assert!(it.claim(1).await.is_empty());
}

#[tokio::test]
async fn a_claim_with_a_wait_is_made_though_no_token_came() {
    let (_redis, it, mut raw) = idle().await;
    let id = it.one().await;
    let wake = it.queue.keys().wake(0, "default");
    redis::cmd("DEL").arg(wake).exec_async(&mut raw).await.unwrap();
    let (token, claims) = it.queue.claim_when_woken(&it.claim_request(next_number(), 1)).await.unwrap();
    assert!(token.is_none());
    assert_eq!(ids(&claims.unwrap()), [id]);
}

#[tokio::test]
async fn a_claim_whose_script_was_forgotten_is_refused_and_may_be_repeated() {
    let (_redis, it, mut raw) = idle().await;
    let id = it.one().await;
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.unwrap();
    let claim = it.claim_request(next_number(), 1);
    let (token, claims) = it.queue.claim_when_woken(&claim).await.unwrap();
    assert!(token.is_some() && claims.is_none());
    assert_eq!(ids(&it.queue.claim(&claim).await.unwrap()), [id]);
}

#[tokio::test]
async fn a_dropped_wait_leaves_its_claim_to_a_repeat() {
    let (_redis, it, mut raw) = idle().await;
    let claim = it.claim_request(next_number(), 1);
    {
        let mut waiting = Box::pin(it.queue.claim_when_woken(&claim));
        while !is_blocked(&mut raw).await {
            assert!(futures::poll!(waiting.as_mut()).is_pending());
        }
    }
    // Without a slot, as a worker that drains repeats it. A late copy of the claim takes nothing more.
    let nothing = Claim { slots: 0, ..claim.clone() };
    assert!(it.queue.claim(&nothing).await.unwrap().jobs.is_empty());
    let id = it.one().await;
    assert!(it.queue.claim(&claim).await.unwrap().jobs.is_empty());
    assert_eq!(it.claim(1).await[0].lease.id, id);
}

/// How many wake tokens are left.
async fn tokens(it: &TestSession, raw: &mut MultiplexedConnection) -> u32 {
    redis::cmd("LLEN").arg(it.queue.keys().wake(0, "default")).query_async(raw).await.unwrap()
}

#[tokio::test]
async fn a_dispatch_wakes_a_worker_for_ten_jobs_and_one_more_and_a_claim_that_leaves_some_wakes_others() {
    let (redis, _, mut raw) = idle().await;
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 100).await;
    for (count, woken) in [(1, 1), (2, 2), (10, 2), (11, 3), (20, 3)] {
        let jobs = (0..count).map(|_| it.job()).collect();
        it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
        assert_eq!(tokens(&it, &mut raw).await, woken, "{count} jobs");
        redis::cmd("DEL").arg(it.queue.keys().wake(0, "default")).exec_async(&mut raw).await.unwrap();
        let left = count - 1;
        it.claim(1).await;
        assert_eq!(tokens(&it, &mut raw).await, left.min(2), "{count} jobs");
        // While no worker takes them there are no more.
        it.claim(1).await;
        assert_eq!(tokens(&it, &mut raw).await, left.min(2), "{count} jobs");
        it.claim(left).await;
        redis::cmd("DEL").arg(it.queue.keys().wake(0, "default")).exec_async(&mut raw).await.unwrap();
    }
}

#[tokio::test]
async fn a_claim_that_is_filled_from_one_lane_wakes_others_for_the_next() {
    let (_redis, it, mut raw) = idle().await;
    let lanes = ["urgent", "default"].map(|name| Lane::Queue(name.to_owned()));
    let options = JobOptions { queue: "urgent".to_owned(), ..JobOptions::default() };
    let other = NewJob { job_options: options, ..it.job() };
    it.enqueue(DispatchedBy::Root, vec![it.job(), other]).await.unwrap();
    // Both tokens are taken, and only one job.
    for name in ["urgent", "default"] {
        redis::cmd("DEL").arg(it.queue.keys().wake(0, name)).exec_async(&mut raw).await.unwrap();
    }
    let claim = Claim { lanes: lanes.to_vec(), ..it.claim_request(next_number(), 1) };
    assert_eq!(it.queue.claim(&claim).await.unwrap().jobs.len(), 1);
    assert_eq!(tokens(&it, &mut raw).await, 1);
}
