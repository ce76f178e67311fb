//! What the steps keep in addition to the records: counts, mailboxes, marks and keys; and what is left of them when a
//! job, a session or a worker ends.

use std::collections::BTreeSet;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Asker;
use legwork_queue::port::Cleared;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::Forgotten;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::IdempotencyKey;
use legwork_queue::port::JobFilter;
use legwork_queue::port::Lane;
use legwork_queue::port::NewJob;
use legwork_queue::port::OpenSession;
use legwork_queue::port::Opened;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::port::WorkerReport;
use legwork_queue::settings::FleetSettings;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::finish;
use crate::support::quick;
use crate::support::with_scores;

/// The keys of the server that match a pattern, sorted.
async fn keys(redis: &PrivateRedis, pattern: &str) -> Vec<String> {
    let mut raw = redis.raw().await;
    let mut keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut raw).await.unwrap();
    keys.sort();
    keys
}

fn owned(session: SessionId, owner: RunToken, own_lane: bool) -> OpenSession {
    OpenSession {
        owner: Some(owner),
        on_end: SessionEnd::Stop,
        cap: 1,
        own_lane,
        ..OpenSession::unlimited(session)
    }
}

#[tokio::test]
async fn an_empty_result_replaces_the_error_of_an_earlier_attempt() {
    let (_redis, it) = TestSession::alone(20).await;
    let mut job = it.job();
    job.job_options.retries = 1;
    let id = job.id;
    it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    let finish = Finish {
        is_first_attempt: true,
        ..finish(
            it.claim(1).await[0].lease,
            Ending::Failed { cause: Cause::AgentError, message: "broken".into() },
        )
    };
    assert_eq!(it.queue.finish(&[finish]).await.unwrap(), [Finished::Now(State::Scheduled)]);
    it.queue.reap(false).await.unwrap();
    let lease = it.claim(1).await[0].lease;
    it.finish(lease, Ending::Completed { result: String::new() }).await;
    let job = it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((job.status, job.result.unwrap_or_default().as_str()), (State::Completed, ""));
}

#[tokio::test]
async fn only_retryable_failures_are_retried() {
    let (_redis, it) = TestSession::alone(20).await;
    let causes = Cause::ALL
        .into_iter()
        .filter(|cause| !matches!(cause, Cause::Tool | Cause::Operator | Cause::Parent | Cause::SessionEnd));
    for cause in causes {
        let mut job = it.job();
        job.job_options.retries = 1;
        it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
        let lease = it.claim(1).await[0].lease;
        let expected = match cause {
            Cause::AgentError | Cause::ProviderError => State::Scheduled,
            _ => State::Failed,
        };
        let ending = Ending::Failed { cause, message: "no".into() };
        assert_eq!(it.finish(lease, ending).await, Finished::Now(expected), "{cause}");
        it.queue.stop(StopRoot::Job(lease.id), Asker::Operator, Cause::Operator).await.unwrap();
    }
}

#[tokio::test]
async fn the_end_of_a_child_does_not_recreate_its_forgotten_parent() {
    let (redis, it) = TestSession::alone(20).await;
    let parent_id = it.one().await;
    let parent = it.claim(1).await.remove(0);
    let child_id = it.child(parent.lease).await;
    it.finish(parent.lease, completed()).await;
    assert_eq!(it.queue.forget(&[parent_id], true).await.unwrap(), [Forgotten::Forgotten]);
    // The child is still in the session's list, and a stop of the session still reaches it.
    let listed =
        it.queue.children(it.session, legwork_common::id::Dispatcher::Root(it.session)).await.unwrap();
    assert_eq!(listed.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [child_id]);
    let root = StopRoot::Session { id: it.session, close: false };
    it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(it.state(child_id).await, State::Stopped);
    assert_eq!(it.queue.jobs(&[parent_id]).await.unwrap(), [None]);
    assert_eq!(it.queue.forget(&[child_id], true).await.unwrap(), [Forgotten::Forgotten]);
    let left = keys(&redis, "*").await;
    assert!(
        left.iter().all(|key| key.contains(":meta")
            || key.contains(":ready:")
            || key.contains(":wake:")
            || key.contains(":worker:")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_stop_reaches_jobs_below_a_forgotten_one() {
    let (_redis, it) = TestSession::alone(20).await;
    let top_id = it.one().await;
    let top = it.claim(1).await.remove(0);
    let middle_id = it.child(top.lease).await;
    let middle = it.claim(1).await.remove(0);
    let low_id = it.child(middle.lease).await;
    it.finish(middle.lease, completed()).await;
    it.queue.forget(&[middle_id], true).await.unwrap();
    it.queue.stop(StopRoot::Job(top_id), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(it.state(low_id).await, State::Stopped);
}

#[tokio::test]
async fn a_session_without_jobs_expires_when_its_owner_is_gone() {
    let (redis, it) = TestSession::alone(20).await;
    let queue = it.queue.clone();
    let (session, owner) = (SessionId::random(), RunToken::random());
    // One whose job was forgotten before, one that never had any, one whose owner was lost.
    queue.open(&owned(session, owner, true)).await.unwrap();
    let it = TestSession { session, ..it };
    let id = it.one().await;
    queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    queue.forget(&[id], true).await.unwrap();
    queue.close(session, owner).await.unwrap();
    queue.open(&owned(SessionId::random(), owner, false)).await.unwrap();
    queue.reap(true).await.unwrap();
    let mut raw = redis.raw().await;
    for key in keys(&redis, "*:session:*").await {
        let ttl: i64 = redis::cmd("TTL").arg(&key).query_async(&mut raw).await.unwrap();
        assert!(ttl > 0, "{key} never expires");
    }
    assert_eq!(keys(&redis, "*@*").await, [""; 0]);
    // A repeated close and a late open are answered as before.
    queue.close(session, owner).await.unwrap();
    assert_eq!(queue.open(&owned(session, owner, true)).await.unwrap(), Opened::Closed);
}

#[tokio::test]
async fn a_session_that_gets_an_owner_does_not_expire() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession::open(&queue, 20).await;
    let owner = RunToken::random();
    assert_eq!(queue.open(&owned(it.session, owner, false)).await.unwrap(), Opened::Open);
    let mut raw = redis.raw().await;
    let key = queue.keys().session(it.session);
    let ttl: i64 = redis::cmd("TTL").arg(key).query_async(&mut raw).await.unwrap();
    assert_eq!(ttl, -1, "a session with an owner does not expire");
    // A root that lost the session to this owner closes nothing.
    queue.close(it.session, RunToken::random()).await.unwrap();
    assert!(it.enqueue(DispatchedBy::Root, vec![it.job()]).await.is_ok());
    queue.close(it.session, owner).await.unwrap();
    assert_eq!(it.enqueue(DispatchedBy::Root, vec![it.job()]).await, Err(EnqueueRefusal::Closed));
}

#[tokio::test]
async fn clearing_passes_over_jobs_that_must_be_kept() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let owner = RunToken::random();
    let kept = TestSession::open(&queue, 0).await;
    queue.open(&owned(kept.session, owner, false)).await.unwrap();
    // More than a page of jobs whose root lives, and then one of a session without an owner.
    let jobs: Vec<_> = (0..201).map(|_| kept.job()).collect();
    kept.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    queue
        .stop(StopRoot::Session { id: kept.session, close: false }, Asker::Operator, Cause::Operator)
        .await
        .unwrap();
    let free = TestSession::open(&queue, 0).await;
    let id = free.one().await;
    queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    let cleared = queue.clear(Duration::from_secs(60)).await.unwrap();
    assert_eq!(cleared, Cleared::default());
    let cleared = queue.clear(Duration::ZERO).await.unwrap();
    assert_eq!(cleared, Cleared { forgotten: 1, kept: 201 });
    queue.close(kept.session, owner).await.unwrap();
    let cleared = queue.clear(Duration::ZERO).await.unwrap();
    assert_eq!(cleared, Cleared { forgotten: 201, kept: 0 });
}

fn keyed(it: &TestSession, in_namespace: bool) -> NewJob {
    let once = Some(IdempotencyKey { key: "key".into(), request: "request".into(), in_namespace });
    NewJob { idempotency_key: once, ..it.job() }
}

/// Two sessions whose shards differ.
async fn in_two_shards(redis: &PrivateRedis) -> [TestSession; 2] {
    let queue = redis.queue(&FleetSettings { shards: 16, ..quick() }).await;
    let one = TestSession::open(&queue, 20).await;
    let mut other = TestSession::open(&queue, 20).await;
    while other.session.shard(16) == one.session.shard(16) {
        other = TestSession::open(&queue, 20).await;
    }
    [one, other]
}

#[tokio::test]
async fn a_forgotten_job_frees_its_key() {
    let (redis, it) = TestSession::alone(20).await;
    let first = keyed(&it, true);
    let id = first.id;
    it.enqueue(DispatchedBy::Root, vec![first]).await.unwrap();
    it.queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    it.queue.forget(&[id], true).await.unwrap();
    assert_eq!(keys(&redis, "*:key:*").await, [""; 0]);
}

#[tokio::test]
async fn a_key_of_the_namespace_finds_its_job_from_every_shard() {
    let redis = PrivateRedis::start();
    let [one, other] = in_two_shards(&redis).await;
    let first = keyed(&one, true);
    let id = first.id;
    one.enqueue(DispatchedBy::Root, vec![first]).await.unwrap();
    let repeat = other.enqueue(DispatchedBy::Root, vec![keyed(&other, true)]).await;
    assert_eq!(repeat, Ok(vec![Enqueued::Stored(id)]));
    assert_eq!(keys(&redis, "*:spec:*").await, [one.queue.keys().spec(id)]);
}

#[tokio::test]
async fn a_key_that_a_dead_caller_of_another_shard_reserved_is_taken_over() {
    let redis = PrivateRedis::start();
    let [one, other] = in_two_shards(&redis).await;
    let mut raw = redis.raw().await;
    let reservation = format!("{} request", JobId::random_in(one.session).uuid());
    let key = one.queue.keys().namespace_idempotency_key("key");
    redis::cmd("SET").arg(key).arg(reservation).exec_async(&mut raw).await.unwrap();
    let job = keyed(&other, true);
    let id = job.id;
    for _ in 0..2 {
        let stored = other.enqueue(DispatchedBy::Root, vec![job.clone()]).await;
        assert_eq!(stored, Ok(vec![Enqueued::Stored(id)]));
    }
    assert_eq!(one.queue.unfinished().await.unwrap(), 1);
}

#[tokio::test]
async fn ended_jobs_that_must_be_kept_do_not_delay_the_others() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings { retention: Duration::ZERO, ..quick() }).await;
    let it = TestSession::open(&queue, 0).await;
    let owned_session = SessionId::random();
    queue.open(&owned(owned_session, RunToken::random(), false)).await.unwrap();
    let kept = TestSession { session: owned_session, ..it.clone() };
    let jobs: Vec<_> = (0..250).map(|_| kept.job()).collect();
    kept.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let root = StopRoot::Session { id: owned_session, close: false };
    queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    let id = it.one().await;
    queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    // All of them ended long ago, in this order.
    let mut raw = redis.raw().await;
    let index = queue.keys().index_ended(0);
    let ended: Vec<(Vec<u8>, f64)> = with_scores(&mut raw, &index).await;
    for (at, (member, _)) in ended.iter().enumerate() {
        redis::cmd("ZADD").arg(&index).arg(at).arg(member).exec_async(&mut raw).await.unwrap();
    }
    let mut forgotten = 0;
    for _ in 0..2 {
        forgotten += queue.reap(false).await.unwrap().forgotten;
    }
    assert_eq!(forgotten, 1);
    assert_eq!(queue.jobs(&[id]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_gap_in_one_jobs_output_ends_its_attempt_and_no_other() {
    let (_redis, it) = TestSession::alone(20).await;
    it.one().await;
    it.one().await;
    let claimed = it.claim(2).await;
    let begun: Vec<_> = claimed.iter().map(|claimed| (claimed.lease, 1)).collect();
    it.queue.begin(&begun).await.unwrap();
    let append = |at: usize, offset| Append {
        lease: claimed[at].lease,
        offset,
        bytes: b"hello".to_vec(),
        entries: Vec::new(),
        finished_turns: None,
        waits_for: None,
        usage: None,
    };
    // The first one's output has less than was confirmed, as after a crash of the server.
    let answers = it.queue.append(&[append(0, 3), append(1, 0)]).await.unwrap();
    assert_eq!(answers, [Appended::Fenced, Appended::Stored(5)]);
}

#[tokio::test]
async fn the_mailbox_of_a_job_ends_with_it() {
    let (redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    let claimed = it.claim(1).await.remove(0);
    it.queue.send(id, ("hi", None), "request", Duration::from_secs(9)).await.unwrap();
    it.finish(claimed.lease, completed()).await;
    assert_eq!(keys(&redis, "*:mailbox:*").await, [""; 0]);
}

#[tokio::test]
async fn a_reaper_that_is_alone_reclaims_all_pages_at_once() {
    let (_redis, it) = TestSession::alone(0).await;
    it.enqueue(DispatchedBy::Root, (0..450).map(|_| it.job()).collect()).await.unwrap();
    assert_eq!(it.claim(450).await.len(), 450);
    assert_eq!(it.queue.reap(true).await.unwrap().requeued, 450);
}

#[tokio::test]
async fn many_trees_that_stop_slowly_do_not_hold_up_the_others() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    it.enqueue(DispatchedBy::Root, (0..25).map(|_| it.job()).collect()).await.unwrap();
    let claimed = it.claim(25).await;
    for claimed in &claimed {
        let root = StopRoot::Job(claimed.lease.id);
        it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    }
    it.finish(claimed[24].lease, completed()).await;
    let mut raw = redis.raw().await;
    let mark = it.queue.keys().stop(0, claimed[24].lease.id.uuid());
    for _ in 0..3 {
        it.queue.reap(false).await.unwrap();
    }
    let left: bool = redis::cmd("EXISTS").arg(mark).query_async(&mut raw).await.unwrap();
    assert!(!left, "the mark was not dropped");
}

#[tokio::test]
async fn a_sweep_skips_no_job_when_earlier_ones_are_forgotten_between_its_pages() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let jobs: Vec<_> = (0..450).map(|_| it.job()).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let root = StopRoot::Session { id: it.session, close: false };
    let mut stop = it.queue.stop(root, Asker::Operator, Cause::Operator);
    // The sweep is not polled after its first page, while the jobs of that page are forgotten.
    while it.state(ids[0]).await != State::Stopped {
        assert!(futures::poll!(stop.as_mut()).is_pending());
    }
    it.queue.forget(&ids[..200], true).await.unwrap();
    stop.await.unwrap();
    for state in it.queue.jobs(&ids).await.unwrap().into_iter().flatten().map(|job| job.status) {
        assert_eq!(state, State::Stopped);
    }
}

#[tokio::test]
async fn the_record_of_a_worker_that_claims_without_a_heartbeat_expires() {
    let (redis, it) = TestSession::alone(0).await;
    it.one().await;
    it.claim(1).await;
    let mut raw = redis.raw().await;
    let key = it.queue.keys().worker(0, it.worker.as_str());
    let ttl: i64 = redis::cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
    assert!(ttl > 0);
}

#[tokio::test]
async fn a_sweep_after_its_mark_was_dropped_ends_no_job() {
    let (_redis, it) = TestSession::alone(20).await;
    let root = StopRoot::Session { id: it.session, close: false };
    it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    let id = it.one().await;
    assert_eq!(it.queue.sweep(root).await.unwrap(), 0);
    assert_eq!(it.state(id).await, State::Queued);
}

#[tokio::test]
async fn a_page_reads_past_jobs_that_were_all_forgotten() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let session = TestSession::open(&queue, 0).await;
    let oldest = session.one().await;
    let jobs: Vec<_> = (0..2300).map(|_| session.job()).collect();
    let gone: Vec<String> = jobs.iter().map(|job| queue.keys().spec(job.id)).collect();
    session.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let mut raw = redis.raw().await;
    let _: u64 = redis::cmd("DEL").arg(&gone).query_async(&mut raw).await.unwrap();
    let page = queue.list(&JobFilter::default(), 50, None).await.unwrap();
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [oldest]);
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn a_job_that_every_worker_of_a_large_fleet_lacks_something_for_is_rejected() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let id = it.one().await;
    let fleet: Vec<_> = (0..20)
        .map(|_| TestSession { worker: legwork_common::id::WorkerId::random_on("test"), ..it.clone() })
        .collect();
    for worker in &fleet {
        it.queue.heartbeat(&alive(worker)).await.unwrap();
    }
    let mut raw = redis.raw().await;
    for (number, worker) in (1..).zip(&fleet) {
        let lease = worker.claim(1).await[0].lease;
        let mode = ReleaseMode::Lack(format!("lack {number}"));
        let release = Release { lease, worker: worker.worker.clone(), mode, output_bytes: 0 };
        let last = number == fleet.len();
        let expected = if last { State::Failed } else { State::Scheduled };
        assert_eq!(it.queue.release(&release).await.unwrap(), Finished::Now(expected), "{number}");
        // The job is due again.
        let scheduled = it.queue.keys().scheduled(0);
        let _: () = redis::cmd("ZADD")
            .arg(scheduled)
            .arg("XX")
            .arg(1)
            .arg(id.uuid().to_string())
            .query_async(&mut raw)
            .await
            .unwrap();
        assert_eq!(it.queue.reap(false).await.unwrap().workers, 20);
        assert!(worker.claim(1).await.is_empty(), "the worker got the job again");
    }
    let job = it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((job.cause, job.error.as_deref()), (Some(Cause::Rejected), Some("lack 20")));
    assert_eq!(keys(&redis, "*:lacks:*").await, [""; 0]);
}

#[tokio::test]
async fn a_claim_that_passes_over_a_job_wakes_another_worker() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let other = TestSession { worker: legwork_common::id::WorkerId::random_on("other"), ..it.clone() };
    for worker in [&it, &other] {
        worker.queue.heartbeat(&alive(worker)).await.unwrap();
    }
    let id = it.one().await;
    let lanes = [Lane::Queue("default".to_owned())];
    it.queue.await_work(&lanes).await.unwrap().unwrap();
    let lease = it.claim(1).await[0].lease;
    let mode = ReleaseMode::Lack("no key".to_owned());
    let release = Release { lease, worker: it.worker.clone(), mode, output_bytes: 0 };
    assert_eq!(it.queue.release(&release).await.unwrap(), Finished::Now(State::Scheduled));
    let scheduled = it.queue.keys().scheduled(0);
    let mut due = redis::cmd("ZADD");
    due.arg(scheduled).arg("XX").arg(1).arg(id.uuid().to_string());
    due.exec_async(&mut redis.raw().await).await.unwrap();
    it.queue.reap(false).await.unwrap();
    // The worker that lacks something takes the token, and nothing with it.
    it.queue.await_work(&lanes).await.unwrap().unwrap();
    assert!(it.claim(1).await.is_empty());
    // Another one finds a token without waiting.
    let woken = tokio::time::timeout(Duration::from_secs(1), other.queue.await_work(&lanes)).await;
    assert!(woken.unwrap().unwrap().is_some());
    assert_eq!(other.claim(1).await[0].lease.id, id);
    // Right after that it would only wake itself again and again.
    assert!(it.claim(1).await.is_empty());
    assert_eq!(keys(&redis, "*:wake:*").await, [""; 0]);
}

fn alive(of: &TestSession) -> Heartbeat {
    Heartbeat {
        worker: of.worker.clone(),
        host: "test".to_owned(),
        process: 1,
        lanes: vec![Lane::Queue("default".to_owned())],
        slots: 1,
        used: 0,
        jobs: 0,
        draining: false,
        report: WorkerReport::default(),
    }
}

#[tokio::test]
async fn pages_of_any_length_list_every_job_once() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let session = TestSession::open(&queue, 0).await;
    let jobs: Vec<_> = (0..1000).map(|_| session.job()).collect();
    let stored: BTreeSet<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    session.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let queued = JobFilter { states: vec![State::Queued], ..JobFilter::default() };
    for filter in [JobFilter::default(), queued] {
        for limit in [1000, 500, 200, 199, 70] {
            let mut listed = BTreeSet::new();
            let mut after = None;
            loop {
                let page = queue.list(&filter, limit, after).await.unwrap();
                for job in page.jobs {
                    assert!(listed.insert(job.id.to_string()), "{} twice", job.id);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(listed.len(), stored.len(), "pages of {limit}");
        }
    }
}
