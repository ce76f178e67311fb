//! Lists beyond their window, and records that cannot be read.

use legwork_common::id::Dispatcher;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Finished;
use legwork_queue::port::MailEntryContent;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;

#[tokio::test]
async fn running_jobs_are_listed_however_many_came_after_them() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    it.enqueue(DispatchedBy::Root, vec![it.job(), it.job(), it.job()]).await.unwrap();
    assert_eq!(it.claim(3).await.len(), 3);
    for _ in 0..5 {
        it.enqueue(DispatchedBy::Root, (0..420).map(|_| it.job()).collect()).await.unwrap();
    }
    let list = it.queue.children(it.session, Dispatcher::Root(it.session)).await.unwrap();
    let running = list.jobs.iter().filter(|job| job.status == State::Running).count();
    assert_eq!((running, list.jobs.len()), (3, 53));
    assert_eq!(list.more_queued + list.more_ended, 2_050);
}

/// Spoils the field of one job's record.
async fn spoil(redis: &PrivateRedis, id: legwork_common::id::JobId, field: &str, value: &str) {
    let mut raw = redis.raw().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("*job:{}", id.uuid())).query_async(&mut raw).await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    redis::cmd("HSET").arg(&keys[0]).arg(field).arg(value).exec_async(&mut raw).await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_leaves_its_batch_untouched() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    // Given back once, so that it has a record.
    let below_zero = it.one().await;
    let lease = it.claim(1).await[0].lease;
    let release = Release { lease, worker: it.worker.clone(), mode: ReleaseMode::Drain, output_bytes: 0 };
    it.queue.release(&release).await.unwrap();
    spoil(&redis, below_zero, "ran", "-3600000").await;
    let (good, bad) = (it.one().await, it.one().await);
    let mut raw = redis.raw().await;
    let spec = it.queue.keys().spec(bad);
    let text: String = redis::cmd("GET").arg(&spec).query_async(&mut raw).await.unwrap();
    let spoiled = text.replacen(" 0 0 - ", " soon 0 - ", 1);
    redis::cmd("SET").arg(&spec).arg(spoiled).exec_async(&mut raw).await.unwrap();
    let mut claimed: Vec<_> = it.claim(3).await.iter().map(|claimed| claimed.lease.id).collect();
    claimed.sort_unstable();
    let mut expected = vec![good, below_zero];
    expected.sort_unstable();
    assert_eq!(claimed, expected);
    // No other worker can read it, so it ends with the reason.
    let view = it.queue.view(bad, None, 100).await.unwrap().unwrap();
    assert_eq!(view.job.status, State::Failed);
    assert!(view.job.error.unwrap().contains("`soon`"));
}

#[tokio::test]
async fn a_record_of_a_later_release_is_one_row_that_says_so() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let (good, bad) = (it.one().await, it.one().await);
    it.claim(2).await;
    spoil(&redis, bad, "cause", "sunspots").await;
    spoil(&redis, bad, "state", "hibernating").await;
    let jobs = it.queue.jobs(&[good, bad]).await.unwrap();
    assert_eq!(jobs[0].as_ref().unwrap().task, "do it");
    let unreadable = jobs[1].as_ref().unwrap();
    assert!(unreadable.task.contains("its state is `hibernating`"), "{}", unreadable.task);
    assert_eq!((unreadable.status, unreadable.cause.map(Cause::as_str)), (State::Running, Some("sunspots")));
    let list = it.queue.children(it.session, Dispatcher::Root(it.session)).await.unwrap();
    assert_eq!(list.jobs.len(), 2);
    let views = it.queue.states(&[good, bad]).await.unwrap();
    assert_eq!(views, [Some(State::Running), Some(State::Running)]);
}

#[tokio::test]
async fn mail_of_a_later_kind_is_text_and_hides_no_other_mail() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let id = it.one().await;
    let dispatcher = Dispatcher::Job(id);
    let mut raw = redis.raw().await;
    for (kind, text) in [("message", "first"), ("picture", "a cat"), ("message", "last")] {
        let mailbox = it.queue.keys().mailbox(it.session, dispatcher);
        redis::cmd("XADD").arg(mailbox).arg("*").arg(kind).arg(text).exec_async(&mut raw).await.unwrap();
    }
    let mail = it.queue.mail(it.session, dispatcher).await.unwrap();
    let texts: Vec<_> = mail.into_iter().map(|entry| entry.content).collect();
    assert_eq!(
        texts,
        ["first", "[picture] a cat", "last"].map(|text| MailEntryContent::Message(text.into()))
    );
}

#[tokio::test]
async fn an_end_in_a_state_of_a_later_release_leaves_the_other_ends_of_its_batch() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    it.enqueue(DispatchedBy::Root, vec![it.job(), it.job()]).await.unwrap();
    let claimed = it.claim(2).await;
    let (odd, good) = (claimed[0].lease, claimed[1].lease);
    spoil(&redis, odd.id, "state", "hibernating").await;
    assert_eq!(it.finish(odd, completed()).await, Finished::Lost);
    assert_eq!(it.finish(good, completed()).await, Finished::Now(State::Completed));
}
