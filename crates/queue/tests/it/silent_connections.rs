//! Connections that stop without a reset are replaced, and hints come back after any outage.

use std::time::Duration;
use std::time::Instant;

use futures::future::join_all;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Listener;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::Lane;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::proxy::Proxy;
use legwork_tests::proxy::Server;
use redis::aio::MultiplexedConnection;

use crate::support::PrivateRedis;
use crate::support::TestSession;

/// Two timeouts of a command, and a second for a busy machine.
const TWO_TIMEOUTS: Duration = Duration::from_secs(5);
/// What is not timed here ends within this.
const TIMEOUT: Duration = Duration::from_secs(20);

fn behind_proxy(redis: &PrivateRedis) -> (Proxy, Target) {
    let proxy = Proxy::start(Server::Unix(redis.socket()));
    let target = Target::parse(&proxy.url()).unwrap();
    (proxy, target)
}

async fn connect(target: &Target, kind: ConnectionKind) -> Queue {
    Queue::connect(target, "test", &FleetSettings::default(), kind).await.unwrap()
}

async fn publish(raw: &mut MultiplexedConnection, channel: &str, message: &str) {
    redis::cmd("PUBLISH").arg(channel).arg(message).exec_async(raw).await.unwrap();
}

async fn next(listener: &mut Listener) -> Option<Vec<u8>> {
    tokio::time::timeout(TIMEOUT, listener.next()).await.expect("a hint")
}

#[tokio::test]
async fn a_silent_connection_is_replaced_within_two_timeouts() {
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        let redis = PrivateRedis::start();
        let (proxy, target) = behind_proxy(&redis);
        let queue = connect(&target, kind).await;
        let it = TestSession::open(&queue, 20).await;
        // A pool has opened all of its connections by now.
        join_all((0..8).map(|_| queue.ping())).await;
        for _ in 0..2 {
            proxy.silence_open();
            let began = Instant::now();
            it.one().await;
            assert!(began.elapsed() < TWO_TIMEOUTS, "{kind:?} took {:?}", began.elapsed());
            let began = Instant::now();
            it.one().await;
            assert!(began.elapsed() < TWO_TIMEOUTS / 2, "{kind:?} took {:?} later", began.elapsed());
        }
    }
}

#[tokio::test]
async fn calls_are_answered_while_every_second_connection_is_silent() {
    for kind in [ConnectionKind::Dedicated, ConnectionKind::Pooled] {
        let redis = PrivateRedis::start();
        let (proxy, target) = behind_proxy(&redis);
        let queue = connect(&target, kind).await;
        proxy.silence_half();
        let answered = async {
            for _ in 0..5 {
                while queue.ping().await.is_err() {}
            }
        };
        tokio::time::timeout(TIMEOUT, answered).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_wait_for_work_is_replaced() {
    let redis = PrivateRedis::start();
    let (proxy, target) = behind_proxy(&redis);
    let queue = connect(&target, ConnectionKind::Dedicated).await;
    let direct = connect(&redis.target(), ConnectionKind::Dedicated).await;
    let it = TestSession::open(&direct, 20).await;
    let lanes = [Lane::Queue("default".into())];
    it.one().await;
    queue.await_work(&lanes).await.unwrap();
    proxy.silence_open();
    let began = Instant::now();
    let error = queue.await_work(&lanes).await.unwrap_err();
    assert!(error.is_transient() && began.elapsed() < TWO_TIMEOUTS, "{:?}: {error}", began.elapsed());
    // Only a wait that is woken ends before its own timeout.
    let wait = async {
        let began = Instant::now();
        queue.await_work(&lanes).await.unwrap();
        began.elapsed()
    };
    let enqueue = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        it.one().await
    };
    let (waited, _) = tokio::join!(wait, enqueue);
    assert!(waited < Duration::from_millis(1900), "{waited:?}");
}

#[tokio::test]
async fn listeners_are_subscribed_again_after_their_connection_went_silent() {
    let redis = PrivateRedis::start();
    let (proxy, target) = behind_proxy(&redis);
    let hints = Hints::new(&target).unwrap();
    let mut listener = hints.listen("one".into()).await;
    let mut raw = redis.raw().await;
    publish(&mut raw, "one", "before").await;
    assert_eq!(next(&mut listener).await.as_deref(), Some(b"before".as_slice()));
    proxy.silence_open();
    let began = Instant::now();
    assert_eq!(next(&mut listener).await, None, "hints may have been missed");
    assert!(began.elapsed() < TWO_TIMEOUTS, "{:?}", began.elapsed());
    publish(&mut raw, "one", "after").await;
    assert_eq!(next(&mut listener).await.as_deref(), Some(b"after".as_slice()));
}

#[tokio::test]
async fn listeners_are_subscribed_again_after_an_outage_of_five_seconds() {
    let redis = PrivateRedis::start();
    let (proxy, target) = behind_proxy(&redis);
    let hints = Hints::new(&target).unwrap();
    let mut listener = hints.listen("one".into()).await;
    proxy.cut();
    let outage = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        // A listener that comes while there is no connection is not held up.
        let began = Instant::now();
        let late = hints.listen("two".into()).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.restore();
        late
    };
    let (missed, mut late) = tokio::join!(next(&mut listener), outage);
    assert_eq!((missed, next(&mut late).await), (None, None));
    let mut raw = redis.raw().await;
    for (listener, channel) in [(&mut listener, "one"), (&mut late, "two")] {
        publish(&mut raw, channel, channel).await;
        assert_eq!(next(listener).await.as_deref(), Some(channel.as_bytes()));
    }
}

#[tokio::test]
async fn a_channel_that_is_dropped_and_listened_to_again_is_subscribed() {
    let redis = PrivateRedis::start();
    let hints = Hints::new(&redis.target()).unwrap();
    let mut raw = redis.raw().await;
    let mut old = hints.listen("again".into()).await;
    for turn in 0..100 {
        drop(old);
        // Another channel makes the unused one be unsubscribed while it is listened to again.
        let (other, mut again) =
            tokio::join!(hints.listen(format!("other {turn}")), hints.listen("again".into()));
        publish(&mut raw, "again", "hint").await;
        assert_eq!(next(&mut again).await.as_deref(), Some(b"hint".as_slice()), "turn {turn}");
        drop(other);
        old = again;
    }
}
