//! Redis' clock steps back by an hour: what was to come within seconds still comes within seconds.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::RequestId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::JobOptions;
use legwork_common::policy::RateLimit;
use legwork_queue::Queue;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::OpenSession;
use legwork_queue::port::PermitRequest;
use legwork_queue::port::Permits as _;
use legwork_queue::port::Permitted;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::WaitReason;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::port::WorkerReport;
use legwork_tests::redis::STEP_BACK_AN_HOUR;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::quick;
use crate::support::with_scores;

/// Much shorter than the step, and long for a machine with other load.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Makes Redis' clock step back.
async fn step_back_an_hour(redis: &PrivateRedis) {
    redis::cmd("EVAL").arg(STEP_BACK_AN_HOUR).arg(0).exec_async(&mut redis.raw().await).await.unwrap();
}

/// Repeats a step until it answers true.
async fn until(what: &str, mut step: impl AsyncFnMut() -> bool) {
    let repeated = async {
        while !step().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, repeated).await.is_ok(), "timed out waiting until {what}");
}

/// A session with one of its jobs claimed, in a shard that was reaped just now.
async fn scene(redis: &PrivateRedis) -> (TestSession, JobId) {
    let it = TestSession::open(&redis.queue(&quick()).await, 0).await;
    it.one().await;
    let id = it.claim(1).await[0].lease.id;
    it.queue.reap(false).await.unwrap();
    (it, id)
}

#[tokio::test]
async fn the_leases_of_jobs_end_and_their_running_time_is_not_negative() {
    let redis = PrivateRedis::start();
    let (it, id) = scene(&redis).await;
    step_back_an_hour(&redis).await;
    assert_eq!(it.queue.jobs(&[id]).await.unwrap()[0].as_ref().unwrap().runtime_ms, 0);
    until("the lease ends", async || it.queue.reap(false).await.unwrap().requeued == 1).await;
    assert!(it.claim(1).await[0].ran < Duration::from_secs(60));
}

#[tokio::test]
async fn the_lease_of_an_owner_ends() {
    let redis = PrivateRedis::start();
    let (it, _) = scene(&redis).await;
    let open = OpenSession {
        owner: Some(RunToken::random()),
        owner_grace: Duration::from_secs(2),
        on_end: SessionEnd::Stop,
        ..OpenSession::unlimited(SessionId::random())
    };
    it.queue.open(&open).await.unwrap();
    step_back_an_hour(&redis).await;
    until("the session has no owner", async || it.queue.reap(false).await.unwrap().orphans == 1).await;
}

#[tokio::test]
async fn delayed_jobs_become_due_as_much_earlier() {
    let redis = PrivateRedis::start();
    let (it, _) = scene(&redis).await;
    for delay in [Duration::from_secs(1), Duration::from_secs(7200)] {
        let mut job = it.job();
        job.job_options = JobOptions { delay, ..job.job_options };
        it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    }
    step_back_an_hour(&redis).await;
    let mut due = 0;
    until("the job is due", async || {
        due += it.queue.reap(false).await.unwrap().due;
        due > 0
    })
    .await;
    assert_eq!(due, 1, "the other one still waits for its two hours");
}

/// More than one call of `reap` moves.
const MANY: usize = 1200;

#[tokio::test]
async fn many_delayed_jobs_are_moved_in_pages_and_each_once() {
    let redis = PrivateRedis::start();
    let (it, id) = scene(&redis).await;
    let delayed = || {
        let mut job = it.job();
        job.job_options = JobOptions { delay: Duration::from_secs(7200), ..job.job_options };
        job
    };
    for _ in 0..MANY / 100 {
        it.enqueue(DispatchedBy::Root, (0..100).map(|_| delayed()).collect()).await.unwrap();
    }
    let mut raw = redis.raw().await;
    let scheduled = it.queue.keys().scheduled(0);
    let before: Vec<(String, f64)> = with_scores(&mut raw, &scheduled).await;
    assert_eq!(before.len(), MANY);
    step_back_an_hour(&redis).await;
    let report = it.queue.reap(false).await.unwrap();
    assert_eq!((report.due, report.requeued), (0, 0));
    let after: Vec<(String, f64)> = with_scores(&mut raw, &scheduled).await;
    let moved = |(before, after): (&(String, f64), &(String, f64))| {
        // The step and the time that the test took.
        before.0 == after.0 && (after.1 - before.1).abs() < 30_000.0
    };
    assert!(before.iter().zip(&after).all(moved), "{:?} became {:?}", before[0], after[0]);
    until("the lease ends", async || it.queue.reap(false).await.unwrap().requeued == 1).await;
    assert_eq!(it.claim(1).await[0].lease.id, id);
    step_back_an_hour(&redis).await;
    it.queue.reap(false).await.unwrap();
    let after: Vec<(String, f64)> = with_scores(&mut raw, &scheduled).await;
    assert!(before.iter().zip(&after).all(moved), "{:?} became {:?}", before[0], after[0]);
}

#[tokio::test]
async fn a_dead_worker_leaves_the_fleet() {
    let redis = PrivateRedis::start();
    let (it, _) = scene(&redis).await;
    let beat = async |worker: &WorkerId| {
        let heartbeat = Heartbeat {
            worker: worker.clone(),
            host: "test".to_owned(),
            process: 1,
            lanes: Vec::new(),
            slots: 1,
            used: 0,
            jobs: 0,
            draining: false,
            report: WorkerReport::default(),
        };
        it.queue.heartbeat(&heartbeat).await.unwrap();
    };
    let (dead, live) = (WorkerId::random_on("dead"), WorkerId::random_on("live"));
    beat(&dead).await;
    step_back_an_hour(&redis).await;
    let members = async || -> Vec<String> {
        let key = it.queue.keys().workers(0);
        redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query_async(&mut redis.raw().await).await.unwrap()
    };
    until("only the live worker is left", async || {
        beat(&live).await;
        members().await == [live.to_string()]
    })
    .await;
}

fn request(permit: RequestId, limit: RateLimit, due: Option<u64>) -> PermitRequest {
    PermitRequest { name: "anthropic".to_owned(), limit, permit, tokens: 0, due }
}

async fn take(queue: &Queue, request: &PermitRequest) -> Permitted {
    queue.take(request).await.unwrap()
}

#[tokio::test]
async fn the_pause_of_a_provider_ends_and_places_in_line_come() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(60), concurrent: Some(1), ..RateLimit::default() };
    let first = request(RequestId::random(), limit, None);
    assert_eq!(take(&queue, &first).await, Permitted::Go);
    let mut second = request(RequestId::random(), limit, None);
    let Permitted::Wait { due, .. } = take(&queue, &second).await else { panic!("no wait") };
    second.due = Some(due);
    queue.pause(&first, Some(Duration::from_secs(2)), Duration::from_secs(60)).await.unwrap();
    step_back_an_hour(&redis).await;
    let Permitted::Wait { pause, why, due } = take(&queue, &second).await else { panic!("no wait") };
    assert_eq!(why, WaitReason::Paused);
    assert!(pause < Duration::from_secs(10), "{pause:?}");
    second.due = Some(due);
    // The same for a caller that was told its time before the step.
    until("the call may start", async || take(&queue, &second).await == Permitted::Go).await;
}

#[tokio::test]
async fn the_permit_of_a_dead_caller_expires() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { concurrent: Some(1), ..RateLimit::default() };
    assert_eq!(take(&queue, &request(RequestId::random(), limit, None)).await, Permitted::Go);
    let mut second = request(RequestId::random(), limit, None);
    let Permitted::Wait { due, why, .. } = take(&queue, &second).await else { panic!("no wait") };
    assert_eq!(why, WaitReason::Busy);
    second.due = Some(due);
    step_back_an_hour(&redis).await;
    assert!(matches!(take(&queue, &second).await, Permitted::Wait { why: WaitReason::Busy, .. }));
    let calls = queue.keys().limit_calls("anthropic");
    let mut raw = redis.raw().await;
    let found: Vec<(String, f64)> = with_scores(&mut raw, &calls).await;
    let clock: (f64, f64) = redis::cmd("TIME").query_async(&mut raw).await.unwrap();
    assert!(found[0].1 < (clock.0 + 300.0) * 1000.0, "{found:?} at {clock:?}");
}

#[tokio::test]
async fn tokens_of_a_limit_and_the_time_of_its_last_refusal_move_with_the_clock() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { tokens_per_minute: Some(60_000), ..RateLimit::default() };
    let first = PermitRequest { tokens: 20_000, ..request(RequestId::random(), limit, None) };
    assert_eq!(take(&queue, &first).await, Permitted::Go);
    let refused = PermitRequest { name: "openai".to_owned(), ..first.clone() };
    queue.pause(&refused, Some(Duration::from_millis(1)), Duration::from_secs(1)).await.unwrap();
    let mut raw = redis.raw().await;
    let mut earlier = redis::cmd("HINCRBY");
    // Longer ago than calls stay spaced after one refusal.
    earlier.arg(queue.keys().limit("openai")).arg("refused").arg(-40_000);
    earlier.exec_async(&mut raw).await.unwrap();
    step_back_an_hour(&redis).await;
    let next = PermitRequest { tokens: 1000, permit: RequestId::random(), ..first };
    let Permitted::Wait { pause, .. } = take(&queue, &next).await else { panic!("no wait") };
    assert!(pause > Duration::from_secs(5) && pause <= Duration::from_secs(10), "{pause:?}");
    let unlimited =
        PermitRequest { limit: RateLimit::default(), tokens: 0, permit: RequestId::random(), ..refused };
    until("calls are not spaced any more", async || take(&queue, &unlimited).await == Permitted::Free).await;
}
