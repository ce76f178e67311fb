//! Rate limits of model providers, for a whole fleet.

use std::time::Duration;
use std::time::Instant;

use legwork_common::id::RequestId;
use legwork_common::policy::RateLimit;
use legwork_queue::Queue;
use legwork_queue::port::PermitRequest;
use legwork_queue::port::Permits as _;
use legwork_queue::port::Permitted;
use legwork_queue::port::WaitReason;

use crate::support::PrivateRedis;
use crate::support::quick;

/// The time between two calls of [`SPACED`]: so long that a busy machine makes the calls of a test well within it.
const SPACING: Duration = Duration::from_secs(10);
const SPACED: RateLimit =
    RateLimit { requests_per_minute: Some(6), concurrent: None, tokens_per_minute: None };
/// What Redis' clock, in milliseconds, may differ from a test's.
const ROUNDING: Duration = Duration::from_millis(2);

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
    let began = Instant::now();
    assert_eq!(wait(&queue, SPACED, 0).await, None);
    for place in 1..20 {
        let (pause, why) = wait(&queue, SPACED, 0).await.unwrap();
        assert_eq!(why, WaitReason::Rate);
        let expected = SPACING * place;
        let since_then = began.elapsed() + ROUNDING;
        assert!(pause <= expected && pause + since_then >= expected, "{place}: {pause:?}, {since_then:?}");
    }
}

#[tokio::test]
async fn a_call_that_comes_back_at_its_time_is_granted() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(30), ..RateLimit::default() };
    assert_eq!(wait(&queue, limit, 0).await, None);
    let mut second = request(limit, 0);
    let Permitted::Wait { pause, due, .. } = queue.take(&second).await.unwrap() else { panic!("no wait") };
    assert!(pause <= Duration::from_secs(2), "{pause:?}");
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
    let began = Instant::now();
    assert_eq!(queue.take(&first).await.unwrap(), Permitted::Go);
    assert_eq!(wait(&queue, limit, 9000).await, None);
    let (pause, why) = wait(&queue, limit, 0).await.unwrap();
    assert!(why == WaitReason::Rate && pause <= Duration::from_secs(9), "{pause:?}");
    queue.give_back(&first, 20_000).await.unwrap();
    let (pause, _) = wait(&queue, limit, 0).await.unwrap();
    assert!(pause + began.elapsed() + ROUNDING >= Duration::from_secs(29), "{pause:?}");
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
    let began = Instant::now();
    let early = request(free, 0);
    assert_eq!(queue.take(&early).await.unwrap(), Permitted::Free);
    let longer = queue.pause(&early, Some(Duration::from_secs(7)), most).await.unwrap();
    assert_eq!(longer, Duration::from_secs(7));
    let (pause, why) = wait(&queue, free, 0).await.unwrap();
    assert!(why == WaitReason::Paused && pause <= longer && pause + began.elapsed() + ROUNDING >= longer);
    // The calls that wait do not all start when the pause ends.
    for place in 1..5u32 {
        let (later, why) = wait(&queue, free, 0).await.unwrap();
        assert_eq!(why, WaitReason::Paused);
        let (place, since_then) = (Duration::from_millis(100) * place, began.elapsed() + ROUNDING);
        assert!(later + since_then >= longer + place, "{later:?}, {since_then:?}");
        assert!(later <= pause + place, "one refusal hardly slows them: {later:?}");
    }
    // Refusals of calls that were in flight together count as one, and the longer pause counts.
    let longer = queue.pause(&request(free, 0), Some(Duration::from_secs(3600)), most).await.unwrap();
    assert!(longer > Duration::from_secs(50) && longer <= Duration::from_secs(54), "{longer:?}");
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
    assert_eq!(wait(&queue, SPACED, 0).await, None);
    let mut line: Vec<_> = (0..41).map(|_| request(SPACED, 0)).collect();
    let last = line.pop().unwrap();
    for waiting in &line {
        queue.take(waiting).await.unwrap();
    }
    let Permitted::Wait { pause: before, .. } = queue.take(&last).await.unwrap() else { panic!("no wait") };
    assert!(before > SPACING * 40, "{before:?}");
    // A repeat without the time that was given, as after a lost answer, has the same place.
    let Permitted::Wait { pause, .. } = queue.take(&last).await.unwrap() else { panic!("no wait") };
    assert!(pause <= before, "{pause:?}");
    for waiting in &line {
        queue.give_back(waiting, 0).await.unwrap();
    }
    // The one that still waits moves up to the first place, and a new one gets the second.
    let Permitted::Wait { pause, .. } = queue.take(&last).await.unwrap() else { panic!("no wait") };
    assert!(pause <= SPACING, "{pause:?}");
    let (pause, _) = wait(&queue, SPACED, 0).await.unwrap();
    assert!(pause > SPACING && pause <= SPACING * 2, "{pause:?}");
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

#[tokio::test]
async fn a_provider_that_names_no_time_is_paused_for_ten_times_the_spacing() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let first = request(RateLimit::default(), 0);
    queue.pause(&first, None, Duration::from_secs(60)).await.unwrap();
    let (pause, why) = wait(&queue, RateLimit::default(), 0).await.unwrap();
    assert_eq!(why, WaitReason::Paused);
    assert!(pause > Duration::from_millis(500) && pause <= Duration::from_secs(1), "{pause:?}");
}

#[tokio::test]
async fn a_request_that_gave_its_place_up_gets_another_one() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    assert_eq!(wait(&queue, SPACED, 0).await, None);
    let first = request(SPACED, 0);
    queue.take(&first).await.unwrap();
    queue.give_back(&first, 0).await.unwrap();
    // The place is another one's now.
    let (pause, _) = wait(&queue, SPACED, 0).await.unwrap();
    assert!(pause <= SPACING, "{pause:?}");
    let Permitted::Wait { pause, .. } = queue.take(&first).await.unwrap() else { panic!("no wait") };
    assert!(pause > SPACING, "{pause:?}");
}

#[tokio::test]
async fn all_that_is_kept_of_a_limit_ends_by_itself() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit =
        RateLimit { requests_per_minute: Some(60), concurrent: Some(2), tokens_per_minute: Some(60_000) };
    let first = request(limit, 10);
    assert_eq!(queue.take(&first).await.unwrap(), Permitted::Go);
    let (second, third) = (request(limit, 10), request(limit, 10));
    queue.take(&second).await.unwrap();
    queue.take(&third).await.unwrap();
    queue.give_back(&second, 0).await.unwrap();
    let mut raw = redis.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*limit*").query_async(&mut raw).await.unwrap();
    assert_eq!(keys.len(), 4, "{keys:?}");
    let by_renewal = queue.keys().limit_calls("openai");
    queue.keep(&[("openai".to_owned(), RequestId::random())]).await.unwrap();
    for key in keys.iter().chain([&by_renewal]) {
        let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
        assert!(left > 0, "{key} stays forever");
    }
}

#[tokio::test]
async fn the_spacing_after_refusals_halves_with_each_quiet_half_minute() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let mut raw = redis.raw().await;
    let now: (u64, u64) = redis::cmd("TIME").query_async(&mut raw).await.unwrap();
    for (name, quiet, spacing) in [("a", 20, 4000u64), ("b", 31, 2000), ("c", 61, 1000)] {
        let key = queue.keys().limit(name);
        let mut set = redis::cmd("HSET");
        set.arg(&key).arg("spacing").arg(4000).arg("refused").arg((now.0 - quiet) * 1000);
        set.exec_async(&mut raw).await.unwrap();
        let next = || PermitRequest { name: name.to_owned(), ..request(RateLimit::default(), 0) };
        let began = Instant::now();
        assert_eq!(queue.take(&next()).await.unwrap(), Permitted::Go);
        queue.take(&next()).await.unwrap();
        // The third comes two spacings after the first.
        let Permitted::Wait { pause, .. } = queue.take(&next()).await.unwrap() else { panic!("no wait") };
        let most = Duration::from_millis(2 * spacing);
        let since_then = began.elapsed() + ROUNDING;
        assert!(pause <= most && pause + since_then >= most, "{name}: {pause:?}, {since_then:?}");
        let stored: u64 = redis::cmd("HGET").arg(&key).arg("spacing").query_async(&mut raw).await.unwrap();
        assert_eq!(stored, spacing);
    }
}

#[tokio::test]
async fn places_that_were_given_up_before_a_pause_are_void_after_it() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    assert_eq!(wait(&queue, SPACED, 0).await, None);
    let given_up = request(SPACED, 0);
    queue.take(&given_up).await.unwrap();
    queue.give_back(&given_up, 0).await.unwrap();
    let pause = SPACING * 5;
    queue.pause(&request(SPACED, 0), Some(pause), Duration::from_secs(60)).await.unwrap();
    let (first, _) = wait(&queue, SPACED, 0).await.unwrap();
    let (second, _) = wait(&queue, SPACED, 0).await.unwrap();
    assert!(first <= pause && second > pause, "one call comes as the pause ends: {first:?}, {second:?}");
}

#[tokio::test]
async fn a_request_that_moves_up_leaves_its_place_to_the_next() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    assert_eq!(wait(&queue, SPACED, 0).await, None);
    let [first, second, third] = [(); 3].map(|()| request(SPACED, 0));
    for waiting in [&first, &second, &third] {
        queue.take(waiting).await.unwrap();
    }
    let pause_of = async |request: &PermitRequest| match queue.take(request).await.unwrap() {
        Permitted::Wait { pause, .. } => pause,
        permitted => panic!("{permitted:?}"),
    };
    queue.give_back(&first, 0).await.unwrap();
    let moved = pause_of(&third).await;
    assert!(moved <= SPACING, "{moved:?}");
    // The place is taken, and the second waits where it was.
    let stays = pause_of(&second).await;
    assert!(stays > SPACING && stays <= SPACING * 2, "{stays:?}");
    let next = pause_of(&request(SPACED, 0)).await;
    assert!(next > SPACING * 2 && next <= SPACING * 3, "{next:?}");
}

#[tokio::test]
async fn what_callers_that_died_held_of_a_limit_is_dropped() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let limit = RateLimit { requests_per_minute: Some(60), concurrent: Some(1), ..RateLimit::default() };
    let mut raw = redis.raw().await;
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut raw).await.unwrap();
    let ago = |by: u64| (seconds - by) * 1000;
    let mut comes = request(limit, 0);
    comes.due = Some(ago(1));
    let (line, calls) = (queue.keys().limit_line("anthropic"), queue.keys().limit_calls("anthropic"));
    let mut places = redis::cmd("ZADD");
    places
        .arg(&line)
        .arg(ago(60))
        .arg("dead")
        .arg(ago(10))
        .arg("late")
        .arg(ago(1))
        .arg(comes.permit.to_string());
    places.exec_async(&mut raw).await.unwrap();
    redis::cmd("ZADD").arg(&calls).arg(ago(1)).arg("dead").exec_async(&mut raw).await.unwrap();
    assert_eq!(queue.take(&comes).await.unwrap(), Permitted::Go);
    let mut members = async |key: &str| -> Vec<String> {
        redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query_async(&mut raw).await.unwrap()
    };
    assert_eq!(members(&line).await, ["late"]);
    assert_eq!(members(&calls).await, [comes.permit.to_string()]);
}
