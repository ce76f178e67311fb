//! Each step on a real Redis: what it does, and that a repeat is answered as the first time.

use redis::aio::MultiplexedConnection;
use std::time::Duration;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::dispatched_by;
use crate::support::finish;
use crate::support::quick;
use legwork_common::id::Dispatcher;
use legwork_common::id::RunToken;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Asker;
use legwork_queue::port::Claim;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::IdempotencyKey;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::MailEntryContent;
use legwork_queue::port::NewJob;
use legwork_queue::port::Parked;
use legwork_queue::port::Renewal;
use legwork_queue::port::Renewed;
use legwork_queue::port::SendOutcome;
use legwork_queue::port::StopOutcome;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;

#[tokio::test]
async fn a_job_goes_from_queued_to_completed() {
    let (_redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    assert_eq!(it.state(id).await, State::Queued);

    let claimed = it.claim(10).await;
    assert_eq!(claimed.len(), 1);
    let lease = claimed[0].lease;
    assert_eq!((lease.id, claimed[0].attempt, claimed[0].depth), (id, 1, 0));
    let begun = it.queue.begin(&[(lease, 1)]).await.unwrap()[0].unwrap();
    assert_eq!((begun.output_bytes, begun.last_entry), (0, 0));

    let append = Append {
        lease,
        offset: 0,
        bytes: b"hello".to_vec(),
        entries: vec![(1, "reply".into()), (2, "result".into())],
        finished_turns: Some(1),
        waits_for: None,
        usage: None,
    };
    for _ in 0..2 {
        assert_eq!(it.queue.append(std::slice::from_ref(&append)).await.unwrap(), [Appended::Stored(5)]);
    }
    assert_eq!(it.queue.turns(id, 0).await.unwrap(), [(1, "reply".into()), (2, "result".into())]);
    assert_eq!(it.queue.turns(id, 1).await.unwrap(), [(2, "result".into())]);
    assert!(it.queue.turn_age(id, 1).await.unwrap().unwrap() < Duration::from_secs(60));
    assert_eq!(it.queue.turn_age(id, 3).await.unwrap(), None);
    for _ in 0..2 {
        assert_eq!(it.finish(lease, completed()).await, Finished::Now(State::Completed));
    }
    let view = it.queue.view(id, None, 100).await.unwrap().unwrap();
    assert_eq!(view.job.result.as_deref(), Some("done"));
    assert_eq!(it.claim(10).await.len(), 0);
}

#[tokio::test]
async fn a_claim_that_arrives_after_a_later_one_takes_nothing() {
    let (_redis, it) = TestSession::alone(20).await;
    let claim = |number| Claim {
        shard: 0,
        worker: it.worker.clone(),
        number,
        slots: 9,
        idle: true,
        lanes: vec![Lane::Queue("default".into())],
    };
    for number in [1, 2] {
        assert!(it.queue.claim(&claim(number)).await.unwrap().jobs.is_empty());
    }
    let id = it.one().await;
    // The first arrives late; a repeat of the second is answered as the first time.
    for number in [1, 2] {
        assert!(it.queue.claim(&claim(number)).await.unwrap().jobs.is_empty());
    }
    for _ in 0..2 {
        assert_eq!(it.queue.claim(&claim(3)).await.unwrap().jobs[0].lease.id, id);
    }
}

#[tokio::test]
async fn the_cap_keeps_the_rest_in_the_backlog_in_order() {
    let (_redis, it) = TestSession::alone(2).await;
    let jobs: Vec<_> = (0..5).map(|_| it.job()).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let mut order = Vec::new();
    let mut held = it.claim(10).await;
    assert_eq!(held.len(), 2);
    while let Some(claimed) = held.pop() {
        order.push(claimed.lease.id);
        it.finish(claimed.lease, completed()).await;
        held.extend(it.claim(10).await);
    }
    assert_eq!(order.len(), 5);
    order.sort_by_key(|id| ids.iter().position(|other| other == id));
    assert_eq!(order, ids);
}

#[tokio::test]
async fn a_stop_reaches_the_whole_tree_and_is_final() {
    let (redis, it) = TestSession::alone(20).await;
    let (parent, child_id) = it.parent_and_child().await;
    let root = parent.lease.id;

    let outcome = it.queue.stop(StopRoot::Job(root), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(outcome, StopOutcome::Marked(Cause::Operator));
    assert_eq!(it.state(child_id).await, State::Stopped);
    assert_eq!(it.state(root).await, State::Stopping);
    assert_eq!(it.enqueue(dispatched_by(parent.lease), vec![it.job()]).await, Err(EnqueueRefusal::Stopping));
    let renewal = Renewal { jobs: vec![parent.lease], sessions: Vec::new() };
    assert_eq!(it.queue.renew(&renewal).await.unwrap().0, [Renewed::StopRequested]);
    // Whatever its attempt reports now, it ends stopped.
    assert_eq!(it.finish(parent.lease, completed()).await, Finished::Now(State::Stopped));
    let again = it.queue.stop(StopRoot::Job(root), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(again, StopOutcome::AlreadyEnded(State::Stopped));
    it.queue.reap(false).await.unwrap();
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*}:stop*").query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_lost_worker_is_fenced_and_its_job_continues() {
    let (_redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    let zombie = it.claim(1).await.remove(0);
    it.queue.begin(&[(zombie.lease, 1)]).await.unwrap();
    let append = |lease: Lease, offset, text: &str| Append {
        lease,
        offset,
        bytes: text.as_bytes().to_vec(),
        entries: Vec::new(),
        finished_turns: None,
        waits_for: None,
        usage: None,
    };
    it.queue.append(&[append(zombie.lease, 0, "one")]).await.unwrap();

    // The reaper is alone, so it does not wait for the lease.
    let report = it.queue.reap(true).await.unwrap();
    assert_eq!(report.requeued, 1);
    assert_eq!(it.queue.append(&[append(zombie.lease, 3, "two")]).await.unwrap(), [Appended::Fenced]);
    assert_eq!(it.finish(zombie.lease, completed()).await, Finished::Lost);
    assert_eq!(it.queue.park(zombie.lease).await.unwrap(), Parked::Lost);

    let next = it.claim(1).await.remove(0);
    assert_eq!((next.lease.id, next.attempt), (id, 2));
    let begun = it.queue.begin(&[(next.lease, 2)]).await.unwrap()[0].unwrap();
    assert_eq!(begun.output_bytes, 3);
    assert_eq!(it.queue.begin(&[(zombie.lease, 1)]).await.unwrap(), [None]);
    it.queue.append(&[append(next.lease, 3, " two")]).await.unwrap();
    assert_eq!(it.queue.output(id, 0, 100).await.unwrap().bytes, b"one two");
}

#[tokio::test]
async fn three_crashes_in_a_row_fail_the_job() {
    let (_redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    for _ in 0..3 {
        assert_eq!(it.claim(1).await.len(), 1);
        it.queue.reap(true).await.unwrap();
    }
    let job = it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((job.status, job.cause), (State::Failed, Some(Cause::WorkerLost)));
}

#[tokio::test]
async fn a_key_finds_its_job_and_refuses_another_request() {
    let (_redis, it) = TestSession::alone(20).await;
    for in_namespace in [false, true] {
        let once = |request: &str| {
            Some(IdempotencyKey { key: format!("k{in_namespace}"), request: request.into(), in_namespace })
        };
        let first = NewJob { idempotency_key: once("a"), ..it.job() };
        let id = first.id;
        assert_eq!(it.enqueue(DispatchedBy::Root, vec![first]).await, Ok(vec![Enqueued::Stored(id)]));
        let repeat = NewJob { idempotency_key: once("a"), ..it.job() };
        assert_eq!(it.enqueue(DispatchedBy::Root, vec![repeat]).await, Ok(vec![Enqueued::Stored(id)]));
        let other = NewJob { idempotency_key: once("b"), ..it.job() };
        assert_eq!(it.enqueue(DispatchedBy::Root, vec![other]).await, Ok(vec![Enqueued::Conflict(id)]));
    }
}

#[tokio::test]
async fn a_waiting_job_uses_no_slot_and_gets_mail_of_its_child_once() {
    let (_redis, it) = TestSession::alone(1).await;
    let (parent, child_id) = it.parent_and_child().await;
    assert!(it.claim(5).await.is_empty(), "the cap is one");
    let of = Dispatcher::Job(parent.lease.id);
    assert_eq!(it.queue.live_children(it.session, of).await.unwrap(), 1);

    assert_eq!(it.queue.park(parent.lease).await.unwrap(), Parked::Done);
    let running = it.claim(5).await.remove(0);
    assert_eq!(running.lease.id, child_id);
    assert_eq!(running.dispatcher, of);
    it.finish(running.lease, completed()).await;
    assert_eq!(it.queue.live_children(it.session, of).await.unwrap(), 0);
    assert_eq!(it.queue.resume(parent.lease).await.unwrap(), Parked::Done);

    let mail = it.queue.mail(it.session, of).await.unwrap();
    assert_eq!(mail.len(), 1);
    assert_eq!(mail[0].content, MailEntryContent::Ended(child_id));
    it.queue.acknowledge(it.session, of, &[mail[0].id.clone()]).await.unwrap();
    assert!(it.queue.mail(it.session, of).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_job_that_fails_stops_the_tree_below_it() {
    let (_redis, it) = TestSession::alone(20).await;
    let (parent, child_id) = it.parent_and_child().await;
    let ending = Ending::Failed { cause: Cause::AgentError, message: "no".into() };
    assert_eq!(it.finish(parent.lease, ending).await, Finished::Now(State::Failed));
    let child = it.queue.jobs(&[child_id]).await.unwrap().remove(0).unwrap();
    assert_eq!((child.status, child.cause), (State::Stopped, Some(Cause::Parent)));
}

#[tokio::test]
async fn a_wrong_token_changes_nothing() {
    let (_redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    it.claim(1).await;
    let stranger = Lease { id, token: RunToken::random() };
    assert_eq!(it.finish(stranger, completed()).await, Finished::Lost);
    let by = DispatchedBy::Job { id, token: stranger.token };
    assert_eq!(it.enqueue(by, vec![it.job()]).await, Err(EnqueueRefusal::Stale));
    assert_eq!(it.state(id).await, State::Running);
}

#[tokio::test]
async fn a_delayed_job_is_scheduled_until_it_is_due() {
    let (_redis, it) = TestSession::alone(20).await;
    let mut job = it.job();
    job.job_options.delay = Duration::from_millis(1);
    let id = job.id;
    it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    assert_eq!(it.state(id).await, State::Scheduled);
    // Redis' clock advances with every step; the job is due within a few.
    while it.state(id).await == State::Scheduled {
        it.queue.reap(false).await.unwrap();
    }
    assert_eq!(it.claim(1).await.len(), 1);
}

#[tokio::test]
async fn a_forgotten_job_leaves_no_key() {
    let (redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    let claimed = it.claim(1).await.remove(0);
    it.queue.begin(&[(claimed.lease, 1)]).await.unwrap();
    it.finish(claimed.lease, completed()).await;
    it.queue.forget(&[id], true).await.unwrap();
    it.queue.goodbye(&it.worker).await.unwrap();
    let mut raw = redis.raw().await;
    let keys = async |raw: &mut MultiplexedConnection| {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(raw).await.unwrap();
        keys.sort();
        keys
    };
    // The worker's record expires soon.
    while keys(&mut raw).await.iter().any(|key| key.contains(":worker:")) {}
    let left = ["legwork:test:meta", "{legwork:test:0}:ready:default:1", "{legwork:test:0}:wake:default"];
    assert_eq!(keys(&mut raw).await, left);
}

#[tokio::test]
async fn a_key_of_the_namespace_finds_its_job_in_every_shard_until_it_is_forgotten() {
    let redis = PrivateRedis::start();
    let settings = legwork_queue::settings::FleetSettings { shards: 16, ..quick() };
    let queue = redis.queue(&settings).await;
    let once = IdempotencyKey { key: "k".into(), request: "r".into(), in_namespace: true };
    let first = TestSession::open(&queue, 20).await;
    let job = NewJob { idempotency_key: Some(once.clone()), ..first.job() };
    let id = job.id;
    assert_eq!(first.enqueue(DispatchedBy::Root, vec![job]).await, Ok(vec![Enqueued::Stored(id)]));
    for _ in 0..8 {
        let other = TestSession::open(&queue, 20).await;
        let repeat = NewJob { idempotency_key: Some(once.clone()), ..other.job() };
        assert_eq!(other.enqueue(DispatchedBy::Root, vec![repeat]).await, Ok(vec![Enqueued::Stored(id)]));
    }
    assert_eq!(queue.unfinished().await.unwrap(), 1);
    queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    queue.forget(&[id], true).await.unwrap();
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*:key:*").query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let redis = PrivateRedis::start();
    redis.queue(&quick()).await;
    let wanted = legwork_queue::settings::FleetSettings { shards: 4, ..quick() };
    let kind = legwork_queue::ConnectionKind::Dedicated;
    let refused = legwork_queue::Queue::connect(&redis.target(), "test", &wanted, kind).await.unwrap_err();
    assert_eq!(refused.to_string(), "namespace `test` has 1 shards, not 4");
}

#[tokio::test]
async fn a_job_with_unheard_messages_does_not_complete() {
    let (_redis, it) = TestSession::alone(20).await;
    let id = it.one().await;
    let lease = it.claim(1).await.remove(0).lease;
    let finish = |hears_mail| Finish { hears_mail, ..finish(lease, completed()) };
    let keep = Duration::from_secs(9);
    assert_eq!(it.queue.send(id, ("wait", None), "request", keep).await.unwrap(), SendOutcome::Sent);
    for _ in 0..2 {
        assert_eq!(it.queue.finish(&[finish(true)]).await.unwrap(), [Finished::Mail]);
        assert_eq!(it.state(id).await, State::Running);
    }
    let mail = it.queue.mail(it.session, Dispatcher::Job(id)).await.unwrap();
    it.queue.acknowledge(it.session, Dispatcher::Job(id), &[mail[0].id.clone()]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(it.queue.finish(&[finish(true)]).await.unwrap(), [Finished::Now(State::Completed)]);
    }
    // What can no longer be heard is refused.
    let late = it.queue.send(id, ("late", None), "another", keep).await.unwrap();
    assert_eq!(late, SendOutcome::NotRunning(State::Completed));
}

#[tokio::test]
async fn the_fence_goes_with_the_end_of_a_first_attempt_and_late_appends_are_refused() {
    let (redis, it) = TestSession::alone(0).await;
    let id = it.one().await;
    let lease = it.claim(1).await.remove(0).lease;
    let append = |offset, sequence| Append {
        lease,
        offset,
        bytes: b"hello".to_vec(),
        entries: vec![(sequence, "reply".into())],
        finished_turns: Some(1),
        waits_for: None,
        usage: None,
    };
    assert_eq!(it.queue.append(&[append(0, 1)]).await.unwrap(), [Appended::Stored(5)]);
    // An entry that does not follow the last one means that the server lost one.
    assert_eq!(it.queue.append(&[append(5, 3)]).await.unwrap(), [Appended::Fenced]);
    let finish = Finish {
        output_bytes: 5,
        belongs_to: Some((it.session, Dispatcher::Root(it.session))),
        is_first_attempt: true,
        ..finish(lease, completed())
    };
    assert_eq!(it.queue.finish(&[finish]).await.unwrap(), [Finished::Now(State::Completed)]);
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*:fence").query_async(&mut raw).await.unwrap();
    assert_eq!(left, Vec::<String>::new());
    // The first append on its way a second time, and one that never arrived.
    for late in [append(0, 1), append(5, 2)] {
        assert_eq!(it.queue.append(&[late]).await.unwrap(), [Appended::Fenced]);
    }
    let view = it.queue.view(id, None, 100).await.unwrap().unwrap();
    assert_eq!(
        (view.output.bytes.as_slice(), it.queue.turns(id, 0).await.unwrap().len()),
        (&b"hello"[..], 1)
    );
}

#[tokio::test]
async fn a_stop_outranks_mail_and_refuses_more_of_it() {
    let (redis, it) = TestSession::alone(20).await;
    let (parent, child_id) = it.parent_and_child().await;
    let root = parent.lease.id;
    let lease = it.claim(1).await.remove(0).lease;
    let keep = Duration::from_secs(9);
    assert_eq!(it.queue.send(child_id, ("hi", None), "request", keep).await.unwrap(), SendOutcome::Sent);
    // Only the mark is written, as by a stopper that died before its sweep.
    let mut raw = redis.raw().await;
    let stop = format!("{{legwork:test:0}}:stop:{}", root.uuid());
    let _: () =
        redis::cmd("HSET").arg(&stop).arg("cause").arg("operator").query_async(&mut raw).await.unwrap();
    let stops = "{legwork:test:0}:stops";
    let _: () = redis::cmd("ZADD")
        .arg(stops)
        .arg(1)
        .arg(root.uuid().to_string())
        .query_async(&mut raw)
        .await
        .unwrap();
    let late = it.queue.send(child_id, ("late", None), "another", keep).await.unwrap();
    assert_eq!(late, SendOutcome::NotRunning(State::Stopping));
    let finish = Finish { hears_mail: true, ..finish(lease, completed()) };
    assert_eq!(it.queue.finish(&[finish]).await.unwrap(), [Finished::Now(State::Stopped)]);
}
