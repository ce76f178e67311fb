//! Limits of model providers, for a whole fleet.

use std::time::Duration;

use legwork_common::id::RequestId;
use legwork_common::policy::RateLimit;
use legwork_queue::Queue;
use legwork_queue::port::PermitRequest;
use legwork_queue::port::Permits as _;
use legwork_queue::port::Permitted;
use legwork_queue::port::WaitReason;

use crate::support::PrivateRedis;
use crate::support::quick;

fn wish(limit: RateLimit, tokens: u64) -> PermitRequest {
    PermitRequest { name: "anthropic".to_owned(), limit, permit: RequestId::random(), tokens, due: None }
}

/// How long a fresh wish has to wait, and why.
async fn wait(queue: &Queue, limit: RateLimit, tokens: u64) -> Option<(Duration, WaitReason)> {
    match queue.take(&wish(limit, tokens)).await.unwrap() {
        Permitted::Go => None,
        Permitted::Wait { pause, why, .. } => Some((pause, why)),
    }
}

#[tokio::test]
async fn calls_get_places_in_line_evenly_spaced() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(60), ..RateLimit::default() };
    assert_eq!(wait(&queue, limit, 0).await, None);
    for place in 1..20u64 {
        let (pause, why) = wait(&queue, limit, 0).await.unwrap();
        assert_eq!(why, WaitReason::Rate);
        let told = Duration::from_secs(place);
        assert!(pause <= told && pause + Duration::from_millis(900) > told, "{place}: {pause:?}");
    }
}

#[tokio::test]
async fn who_comes_at_its_time_goes() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(1200), ..RateLimit::default() };
    assert_eq!(wait(&queue, limit, 0).await, None);
    let mut second = wish(limit, 0);
    let Permitted::Wait { pause, due, .. } = queue.take(&second).await.unwrap() else { panic!("no wait") };
    assert!(pause <= Duration::from_millis(50), "{pause:?}");
    second.due = Some(due);
    tokio::time::timeout(Duration::from_secs(5), async {
        while queue.take(&second).await.unwrap() != Permitted::Go {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tokens_count_as_expected_and_then_as_spent() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    // A thousand a second; ten seconds' worth may come at once.
    let limit = RateLimit { tokens_per_minute: Some(60_000), ..RateLimit::default() };
    let first = wish(limit, 10_000);
    assert_eq!(queue.take(&first).await.unwrap(), Permitted::Go);
    assert_eq!(wait(&queue, limit, 1000).await, None);
    let (pause, why) = wait(&queue, limit, 0).await.unwrap();
    assert!(why == WaitReason::Rate && pause <= Duration::from_secs(1), "{pause:?}");
    queue.give_back(&first, 20_000).await.unwrap();
    let (pause, _) = wait(&queue, limit, 0).await.unwrap();
    assert!(pause > Duration::from_secs(19), "{pause:?}");
    queue.give_back(&first, -30_000).await.unwrap();
    assert_eq!(wait(&queue, limit, 0).await, None);
}

#[tokio::test]
async fn calls_at_once_are_counted_until_they_are_given_back() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { concurrent: Some(2), ..RateLimit::default() };
    let (first, second) = (wish(limit, 0), wish(limit, 0));
    assert_eq!(queue.take(&first).await.unwrap(), Permitted::Go);
    assert_eq!(queue.take(&second).await.unwrap(), Permitted::Go);
    // A repeat after a lost answer is answered as the first time.
    assert_eq!(queue.take(&second).await.unwrap(), Permitted::Go);
    assert_eq!(wait(&queue, limit, 0).await, Some((Duration::ZERO, WaitReason::Busy)));
    queue.keep(&[(first.name.clone(), first.permit)]).await.unwrap();
    queue.give_back(&first, 0).await.unwrap();
    assert_eq!(wait(&queue, limit, 0).await, None);
}

#[tokio::test]
async fn a_refusal_pauses_the_provider_for_all_and_spaces_what_follows() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let free = RateLimit::default();
    let most = Duration::from_secs(60);
    let early = wish(free, 0);
    assert_eq!(queue.take(&early).await.unwrap(), Permitted::Go);
    queue.pause(&early, Some(Duration::from_secs(7)), most).await.unwrap();
    let (pause, why) = wait(&queue, free, 0).await.unwrap();
    assert!(why == WaitReason::Paused && pause > Duration::from_secs(6) && pause <= Duration::from_secs(7));
    // The next ones do not come all at once when it ends.
    for place in 1..5u32 {
        let (later, why) = wait(&queue, free, 0).await.unwrap();
        assert_eq!(why, WaitReason::Paused);
        assert!(later >= pause + Duration::from_millis(100) * (place - 1), "{later:?}");
    }
    // Refusals of calls that were in flight together count as one, and a longer wish counts.
    queue.pause(&wish(free, 0), Some(Duration::from_secs(3600)), most).await.unwrap();
    let mut told = wish(free, 0);
    told.due = Some(1);
    let Permitted::Wait { pause, why, .. } = queue.take(&told).await.unwrap() else { panic!("no wait") };
    // A place in line from before the pause is void.
    assert!(why == WaitReason::Paused && pause > Duration::from_secs(58) && pause < Duration::from_secs(70));
}
