//! Rate limits of model providers, for a whole fleet.

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

fn request(limit: RateLimit, tokens: u64) -> PermitRequest {
    PermitRequest { name: "anthropic".to_owned(), limit, permit: RequestId::random(), tokens, due: None }
}

/// How long a new request has to wait, and why.
async fn wait(queue: &Queue, limit: RateLimit, tokens: u64) -> Option<(Duration, WaitReason)> {
    match queue.take(&request(limit, tokens)).await.unwrap() {
        Permitted::Go | Permitted::Free => None,
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
        let expected = Duration::from_secs(place);
        assert!(pause <= expected && pause + Duration::from_millis(900) > expected, "{place}: {pause:?}");
    }
}

#[tokio::test]
async fn a_call_that_comes_back_at_its_time_is_granted() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(1200), ..RateLimit::default() };
    assert_eq!(wait(&queue, limit, 0).await, None);
    let mut second = request(limit, 0);
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
async fn tokens_count_as_expected_at_first_and_then_as_spent() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    // A thousand a second, of which ten seconds' worth may be taken at once.
    let limit = RateLimit { tokens_per_minute: Some(60_000), ..RateLimit::default() };
    let first = request(limit, 10_000);
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
async fn calls_in_flight_are_counted_until_their_permits_are_given_back() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { concurrent: Some(2), ..RateLimit::default() };
    let (first, second) = (request(limit, 0), request(limit, 0));
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
async fn a_refusal_pauses_the_provider_for_all_and_spaces_the_calls_after_it() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let free = RateLimit::default();
    let most = Duration::from_secs(60);
    let early = request(free, 0);
    assert_eq!(queue.take(&early).await.unwrap(), Permitted::Free);
    queue.pause(&early, Some(Duration::from_secs(7)), most).await.unwrap();
    let (pause, why) = wait(&queue, free, 0).await.unwrap();
    assert!(why == WaitReason::Paused && pause > Duration::from_secs(6) && pause <= Duration::from_secs(7));
    // The calls that wait do not all start when the pause ends.
    for place in 1..5u32 {
        let (later, why) = wait(&queue, free, 0).await.unwrap();
        assert_eq!(why, WaitReason::Paused);
        assert!(later >= pause + Duration::from_millis(100) * (place - 1), "{later:?}");
    }
    // Refusals of calls that were in flight together count as one, and the longer pause counts.
    queue.pause(&request(free, 0), Some(Duration::from_secs(3600)), most).await.unwrap();
    let mut earlier = request(free, 0);
    earlier.due = Some(1);
    let Permitted::Wait { pause, why, .. } = queue.take(&earlier).await.unwrap() else { panic!("no wait") };
    // A place in line from before the pause is void.
    assert!(why == WaitReason::Paused && pause > Duration::from_secs(58) && pause < Duration::from_secs(70));
}

#[tokio::test]
async fn places_that_are_given_up_go_to_the_next_calls() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(60), ..RateLimit::default() };
    assert_eq!(wait(&queue, limit, 0).await, None);
    let mut line: Vec<_> = (0..41).map(|_| request(limit, 0)).collect();
    let last = line.pop().unwrap();
    for waiting in &line {
        queue.take(waiting).await.unwrap();
    }
    let Permitted::Wait { pause: before, .. } = queue.take(&last).await.unwrap() else { panic!("no wait") };
    assert!(before > Duration::from_secs(40), "{before:?}");
    // A repeat without the time that was given, as after a lost answer, has the same place.
    let Permitted::Wait { pause, .. } = queue.take(&last).await.unwrap() else { panic!("no wait") };
    assert!(pause <= before, "{pause:?}");
    for waiting in &line {
        queue.give_back(waiting, 0).await.unwrap();
    }
    // The one that still waits moves up to the first place, and a new one gets the second.
    let Permitted::Wait { pause, .. } = queue.take(&last).await.unwrap() else { panic!("no wait") };
    assert!(pause <= Duration::from_secs(1), "{pause:?}");
    let (pause, _) = wait(&queue, limit, 0).await.unwrap();
    assert!(pause > Duration::from_millis(900) && pause <= Duration::from_secs(2), "{pause:?}");
}

#[tokio::test]
async fn tokens_of_calls_that_are_given_up_are_free_again() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { tokens_per_minute: Some(60_000), ..RateLimit::default() };
    let waiting: Vec<_> = (0..5).map(|_| request(limit, 20_000)).collect();
    for request in &waiting {
        queue.take(request).await.unwrap();
    }
    for request in &waiting {
        queue.give_back(request, -20_000).await.unwrap();
    }
    assert_eq!(wait(&queue, limit, 1000).await, None);
}

#[tokio::test]
async fn a_call_in_flight_counts_even_where_its_permit_expired() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { concurrent: Some(1), ..RateLimit::default() };
    let first = request(limit, 0);
    assert_eq!(queue.take(&first).await.unwrap(), Permitted::Go);
    let mut raw = redis.raw().await;
    let calls = "{legwork:test:limit:anthropic}:calls";
    let _: () = redis::cmd("DEL").arg(calls).query_async(&mut raw).await.unwrap();
    queue.keep(&[(first.name.clone(), first.permit)]).await.unwrap();
    assert_eq!(wait(&queue, limit, 0).await, Some((Duration::ZERO, WaitReason::Busy)));
}

#[tokio::test]
async fn a_limit_is_free_until_a_call_is_refused() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let first = request(RateLimit::default(), 5);
    assert_eq!(queue.take(&first).await.unwrap(), Permitted::Free);
    let configured = RateLimit { requests_per_minute: Some(60_000), ..RateLimit::default() };
    assert_eq!(queue.take(&request(configured, 5)).await.unwrap(), Permitted::Go);
    queue.pause(&first, Some(Duration::from_millis(1)), Duration::from_secs(1)).await.unwrap();
    // The pause ends, and calls stay spaced.
    let mut next = request(RateLimit::default(), 5);
    tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            match queue.take(&next).await.unwrap() {
                Permitted::Wait { due, .. } => next.due = Some(due),
                permitted => return assert_eq!(permitted, Permitted::Go),
            }
        }
    })
    .await
    .unwrap();
}
