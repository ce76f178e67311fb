//! Faults of connections and servers that the Redis client does not handle on its own, each caused on purpose.

use std::time::Duration;
use std::time::Instant;

use legwork_common::id::Dispatcher;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::Target;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::Enqueue;
use legwork_queue::port::Enqueued;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::OpenSession;
use legwork_queue::port::Opened;
use legwork_queue::port::Parked;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::Renewal;
use legwork_queue::port::Renewed;
use legwork_queue::port::SendOutcome;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::StopOutcome;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::proxy::Proxy;
use legwork_tests::proxy::Server;
use redis::aio::MultiplexedConnection;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::finish;

/// The longest that a call on a broken server may take.
const BOUND: Duration = Duration::from_secs(6);

fn lanes() -> [Lane; 1] {
    [Lane::Queue("default".into())]
}

fn append(lease: Lease) -> Append {
    Append {
        lease,
        offset: 0,
        bytes: b"hello".to_vec(),
        entries: Vec::new(),
        finished_turns: None,
        waits_for: None,
        usage: None,
    }
}

async fn clients(raw: &mut MultiplexedConnection) -> String {
    redis::cmd("CLIENT").arg("LIST").query_async(raw).await.unwrap()
}

async fn run(raw: &mut MultiplexedConnection, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec_async(raw).await.unwrap();
}

#[tokio::test]
async fn a_blocking_read_outlasts_the_response_timeout() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let began = Instant::now();
    assert!(it.queue.await_work(&lanes()).await.unwrap().is_none());
    assert!(began.elapsed() > Duration::from_millis(1500), "nothing woke it");
    it.one().await;
    let began = Instant::now();
    assert!(it.queue.await_work(&lanes()).await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_millis(1500), "the token woke it");
}

#[tokio::test]
async fn a_wake_token_that_is_returned_wakes_another_worker() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let other = redis.queue(&FleetSettings::default()).await;
    it.one().await;
    let token = it.queue.await_work(&lanes()).await.unwrap().unwrap();
    let lanes = lanes();
    let (woken, returned) = tokio::join!(other.await_work(&lanes), it.queue.return_wake(token));
    assert!(returned.is_ok() && woken.unwrap().is_some());
}

#[tokio::test]
async fn a_dropped_blocking_read_loses_no_job_and_its_connection_is_not_reused() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let mut raw = redis.raw().await;
    let lanes = lanes();
    {
        let mut waiting = Box::pin(it.queue.await_work(&lanes));
        while !clients(&mut raw).await.contains("cmd=blpop") {
            assert!(futures::poll!(waiting.as_mut()).is_pending());
        }
    }
    let id = it.one().await;
    let claimed = it.claim(1).await;
    assert_eq!(claimed[0].lease.id, id);
    let began = Instant::now();
    while clients(&mut raw).await.contains("cmd=blpop") {
        assert!(began.elapsed() < Duration::from_millis(1500), "the connection lives on");
    }
    it.queue.await_work(&lanes).await.unwrap();
}

#[tokio::test]
async fn a_flushed_script_cache_is_filled_again() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let mut raw = redis.raw().await;
    for _ in 0..3 {
        run(&mut raw, &["SCRIPT", "FLUSH"]).await;
        it.one().await;
    }
    run(&mut raw, &["SCRIPT", "FLUSH"]).await;
    let claimed = it.claim(3).await;
    let begun: Vec<_> = claimed.iter().map(|claimed| (claimed.lease, 1)).collect();
    assert!(it.queue.begin(&begun).await.unwrap().iter().all(Option::is_some));
    run(&mut raw, &["SCRIPT", "FLUSH"]).await;
    let appends: Vec<_> = claimed.iter().map(|claimed| append(claimed.lease)).collect();
    assert_eq!(it.queue.append(&appends).await.unwrap(), [Appended::Stored(5); 3]);
}

/// A session that is opened over a connection of this kind.
async fn session_over(redis: &PrivateRedis, kind: ConnectionKind) -> (Queue, TestSession) {
    let settings = FleetSettings::default();
    let queue = Queue::connect(&redis.target(), "test", &settings, kind).await.unwrap();
    let it = TestSession::open(&queue, 20).await;
    (queue, it)
}

/// The greatest id of a connection other than this one.
async fn newest_client(raw: &mut MultiplexedConnection) -> u64 {
    let own: u64 = redis::cmd("CLIENT").arg("ID").query_async(raw).await.unwrap();
    let list = clients(raw).await;
    let ids = list.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("id=")?.parse().ok());
    ids.filter(|id| *id != own).max().unwrap_or(0)
}

#[tokio::test]
async fn the_connection_to_a_server_that_became_read_only_is_replaced() {
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        let redis = PrivateRedis::start();
        let (queue, it) = session_over(&redis, kind).await;
        it.one().await;
        let mut raw = redis.raw().await;
        let before = newest_client(&mut raw).await;
        run(&mut raw, &["REPLICAOF", "127.0.0.1", "1"]).await;
        let request = Enqueue {
            session: it.session,
            by: DispatchedBy::Root,
            team: it.team.clone(),
            jobs: vec![it.job()],
            signer: None,
        };
        let refused = queue.enqueue(&request).await.unwrap_err();
        assert!(matches!(refused, QueueError::Refused { .. }) && refused.is_transient(), "{refused:?}");
        let list = clients(&mut raw).await;
        assert!(!list.contains(&format!("id={before} ")), "{kind:?} keeps its connection: {list}");
        run(&mut raw, &["REPLICAOF", "NO", "ONE"]).await;
        let id = request.jobs[0].id;
        assert_eq!(queue.enqueue(&request).await.unwrap(), Ok(vec![Enqueued::Stored(id)]));
    }
}

#[tokio::test]
async fn a_killed_connection_is_replaced() {
    let redis = PrivateRedis::start();
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        let (queue, it) = session_over(&redis, kind).await;
        let mut raw = redis.raw().await;
        for _ in 0..3 {
            run(&mut raw, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            it.one().await;
        }
        run(&mut raw, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(queue.unfinished().await.unwrap() % 3, 0, "a read succeeds too");
    }
}

/// Makes every step once. `lose` is called before each, and may make the proxy lose its reply.
async fn round(it: &TestSession, lose: impl Fn()) {
    lose();
    let owner = Some(RunToken::random());
    let session = SessionId::random();
    let open = OpenSession { owner, on_end: SessionEnd::Stop, cap: 1, ..OpenSession::unlimited(session) };
    assert_eq!(it.queue.open(&open).await.unwrap(), Opened::Open);
    lose();
    let id = it.one().await;
    lose();
    let claimed = it.claim(5).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.lease.id).collect::<Vec<_>>(), [id]);
    let lease = claimed[0].lease;
    lose();
    assert!(it.queue.begin(&[(lease, 1)]).await.unwrap()[0].is_some());
    lose();
    assert_eq!(it.queue.append(&[append(lease)]).await.unwrap(), [Appended::Stored(5)]);
    assert_eq!(it.queue.output(id, 0, 100).await.unwrap().bytes, b"hello");
    lose();
    assert_eq!(it.queue.park(lease).await.unwrap(), Parked::Done);
    lose();
    assert_eq!(it.queue.resume(lease).await.unwrap(), Parked::Done);
    lose();
    let sent = it.queue.send(id, ("hi", None), &id.to_string(), Duration::from_secs(9)).await.unwrap();
    assert_eq!(sent, SendOutcome::Sent);
    let mail = it.queue.mail(it.session, Dispatcher::Job(id)).await.unwrap();
    assert_eq!(mail.len(), 1);
    lose();
    assert_eq!(it.finish(lease, completed()).await, Finished::Now(State::Completed));
    round_of_second_tries(it, &lose).await;
}

/// Steps of a job with several attempts: released, failed with a retry left, stopped.
async fn round_of_second_tries(it: &TestSession, lose: &impl Fn()) {
    let mut job = it.job();
    job.job_options.retries = 1;
    let id = job.id;
    it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    let lease = it.claim(1).await[0].lease;
    let release = Release { lease, worker: it.worker.clone(), mode: ReleaseMode::Drain, output_bytes: 0 };
    lose();
    assert_eq!(it.queue.release(&release).await.unwrap(), Finished::Now(State::Queued));
    let lease = it.claim(1).await[0].lease;
    lose();
    let ending = Ending::Failed { cause: Cause::AgentError, message: "no".into() };
    let finish = Finish { retry_delay: Duration::from_secs(99), ..finish(lease, ending) };
    assert_eq!(it.queue.finish(&[finish]).await.unwrap(), [Finished::Now(State::Scheduled)]);
    let job = it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!(job.status, State::Scheduled);
    lose();
    let stopped = it.queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(stopped, StopOutcome::Marked(Cause::Operator));
    lose();
    it.queue.reap(false).await.unwrap();
}

#[tokio::test]
async fn a_step_whose_reply_was_lost_is_answered_as_the_first_time() {
    let redis = PrivateRedis::start();
    let proxy = Proxy::start(Server::Unix(redis.socket()));
    let target = Target::parse(&proxy.url()).unwrap();
    let settings = FleetSettings::default();
    let queue = Queue::connect(&target, "test", &settings, ConnectionKind::Dedicated).await.unwrap();
    // The first round fills the script cache, so that each step of the second is one call.
    round(&TestSession::open(&queue, 20).await, || {}).await;
    round(&TestSession::open(&queue, 20).await, || {
        assert!(!proxy.is_armed(), "the reply before was not lost");
        proxy.lose_a_reply();
    })
    .await;
}

/// The error of connecting, which must come within the bound.
async fn refused(target: &Target, kind: ConnectionKind) -> QueueError {
    let began = Instant::now();
    let error = Queue::connect(target, "test", &FleetSettings::default(), kind).await.unwrap_err();
    assert!(began.elapsed() < BOUND, "{kind:?} took {:?}: {error}", began.elapsed());
    error
}

#[tokio::test]
async fn wrong_credentials_have_an_error_of_their_own() {
    let redis = PrivateRedis::start_with(&["--requirepass", "right"]);
    let socket = redis.socket();
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        for login in ["", "?pass=wrong", "?user=unknown&pass=right"] {
            let target = Target::parse(&format!("unix://{}{login}", socket.display())).unwrap();
            let error = refused(&target, kind).await;
            assert!(matches!(error, QueueError::Credentials(_)), "{kind:?} {login}: {error:?}");
        }
        let target = Target::parse(&format!("unix://{}?pass=right", socket.display())).unwrap();
        Queue::connect(&target, "test", &FleetSettings::default(), kind).await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_server_is_unreachable_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap(), closed.local_addr().unwrap()];
    drop(closed);
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        for address in addresses {
            let target = Target::parse(&format!("redis://{address}")).unwrap();
            let error = refused(&target, kind).await;
            assert!(matches!(error, QueueError::Unreachable { .. }), "{kind:?}: {error:?}");
            assert!(error.is_transient());
        }
    }
}

#[tokio::test]
async fn a_step_on_a_server_that_went_away_ends_in_time() {
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        let redis = PrivateRedis::start();
        let (queue, it) = session_over(&redis, kind).await;
        drop(redis);
        let began = Instant::now();
        let error = queue.store_team(it.session, &it.team, "{}").await.unwrap_err();
        assert!(matches!(error, QueueError::Unreachable { .. }), "{error:?}");
        assert!(began.elapsed() < BOUND, "{kind:?} took {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn hints_resume_after_their_connection_was_killed() {
    let redis = PrivateRedis::start();
    let hints = Hints::new(&redis.target()).unwrap();
    let mut listener = hints.listen("channel".into()).await;
    let mut raw = redis.raw().await;
    run(&mut raw, &["PUBLISH", "channel", "one"]).await;
    assert_eq!(listener.next().await.as_deref(), Some(b"one".as_slice()));
    run(&mut raw, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let resumed = async {
        loop {
            run(&mut raw, &["PUBLISH", "channel", "two"]).await;
            let hint = tokio::time::timeout(Duration::from_millis(50), listener.next()).await;
            if let Ok(Some(payload)) = hint {
                return payload;
            }
        }
    };
    assert_eq!(tokio::time::timeout(BOUND, resumed).await.unwrap(), b"two");
}

#[tokio::test]
async fn full_memory_refuses_new_jobs_and_nothing_else() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    for _ in 0..4 {
        it.one().await;
    }
    let mut raw = redis.raw().await;
    run(&mut raw, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let request = Enqueue {
        session: it.session,
        by: DispatchedBy::Root,
        team: it.team.clone(),
        jobs: vec![it.job()],
        signer: None,
    };
    let error = it.queue.enqueue(&request).await.unwrap_err();
    assert!(matches!(error, QueueError::Full { .. }), "{error:?}");
    // A process that connects now can still finish the jobs that are there.
    let queue = redis.queue(&FleetSettings::default()).await;
    let it = TestSession { queue, ..it };
    let claimed = it.claim(4).await;
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at| claimed[at].lease);
    let begun = claimed.iter().map(|claimed| (claimed.lease, 1)).collect::<Vec<_>>();
    assert!(it.queue.begin(&begun).await.unwrap().iter().all(Option::is_some));
    let renewal = Renewal { jobs: vec![first, second], sessions: Vec::new() };
    assert_eq!(it.queue.renew(&renewal).await.unwrap().0, [Renewed::Kept; 2]);
    assert_eq!(it.queue.append(&[append(first)]).await.unwrap(), [Appended::Stored(5)]);
    assert_eq!(it.queue.park(first).await.unwrap(), Parked::Done);
    assert_eq!(it.queue.resume(first).await.unwrap(), Parked::Done);
    assert_eq!(it.finish(first, completed()).await, Finished::Now(State::Completed));
    let stopped = it.queue.stop(StopRoot::Job(second.id), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(stopped, StopOutcome::Marked(Cause::Operator));
    let sent = it.queue.send(third.id, ("hi", None), "request", Duration::from_secs(9)).await.unwrap();
    assert_eq!(sent, SendOutcome::Sent);
    let mode = ReleaseMode::Drain;
    let release = Release { lease: fourth, worker: it.worker.clone(), mode, output_bytes: 0 };
    assert_eq!(it.queue.release(&release).await.unwrap(), Finished::Now(State::Queued));
    let report = it.queue.reap(true).await.unwrap();
    assert_eq!((report.ended, report.requeued), (1, 1), "{report:?}");
}
