//! Claims that are sent with a wait for work, against a fake queue: what is launched, asked again and returned.

use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;

use super::*;
use crate::fake_queue::FakeQueue;
use crate::fake_queue::Woken;
use crate::fake_queue::token;
use crate::renewal_requests::Wanted;

/// A job's first attempt.
fn claimed() -> Claimed {
    let session = SessionId::random();
    Claimed {
        lease: Lease { id: JobId::random_in(session), token: RunToken::random() },
        session,
        dispatcher: Dispatcher::Root(session),
        depth: 0,
        attempt: 1,
        queue: "default".to_owned(),
        created: Timestamp::UNIX_EPOCH,
        ran: Duration::ZERO,
        timeout: None,
        quarantine: None,
        retries: 0,
        failures: 0,
        retry_delay: Duration::ZERO,
        has_session_budget: false,
        was_messaged: false,
        spec: JobSpec::new("root", "task", TeamDigest::of("{}")),
        signed: None,
    }
}

/// A claimer with leases of this length, whose wait is answered so.
fn claimer(lease: Duration, woken: Woken, held: Vec<Claimed>) -> (Arc<FakeQueue>, Claimer) {
    let clock = LeaseClock::new(lease);
    let queue = Arc::new(FakeQueue::new(clock.clone()));
    queue.woken.lock().unwrap().push_back(woken);
    *queue.held.lock().unwrap() = held;
    let claimer = Claimer {
        work: Arc::clone(&queue) as _,
        shards: 1,
        worker: WorkerId::random_on("host"),
        lanes: vec![Lane::Queue("default".to_owned())],
        active: ActiveAttempts::default(),
        clock,
        renewals: RenewalRequests::default(),
        until_idle: None,
        stop: queue.drains.clone(),
    };
    (queue, claimer)
}

/// The jobs of a report, and whether an answer is missing.
fn reported(report: &ClaimReport) -> (Vec<JobId>, bool) {
    let ClaimReport::Claimed { batch, unanswered, .. } = report else { panic!("{report:?}") };
    (batch.iter().map(|job| job.claimed.lease.id).collect(), *unanswered)
}

/// No answer comes late, however busy the machine is.
const LONG: Duration = Duration::from_secs(3600);
/// An answer is late after three milliseconds.
const SHORT: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_wait_that_is_answered_in_time_brings_its_jobs() {
    let job = claimed();
    let (queue, claimer) = claimer(LONG, Woken::Jobs(vec![job.clone()]), Vec::new());
    let (token, report) = claimer.await_work(3, true, &mut Rotation::default()).await;
    assert_eq!(reported(&report), (vec![job.lease.id], false));
    assert!(token.is_none() && queue.returned.lock().unwrap().is_empty());
    assert_eq!(claimer.active.leases(), [job.lease]);
}

#[tokio::test]
async fn jobs_of_a_late_answer_are_launched_only_if_the_repeat_finds_them_held() {
    let [lost, kept] = [(); 2].map(|()| claimed());
    let (queue, claimer) = claimer(SHORT, Woken::Late(vec![lost, kept.clone()]), vec![kept.clone()]);
    let mut rotation = Rotation::default();
    let (held_token, report) = claimer.await_work(3, true, &mut rotation).await;
    assert_eq!(reported(&report), (Vec::new(), true));
    assert!(claimer.active.leases().is_empty(), "no lease of theirs is renewed");
    assert!(held_token.is_none());
    assert_eq!(*queue.returned.lock().unwrap(), [token()]);

    let patient = Claimer { clock: LeaseClock::new(LONG), ..claimer };
    let report = patient.claim(3, true, &mut rotation).await;
    assert_eq!(reported(&report), (vec![kept.lease.id], false));
    assert_eq!(patient.renewals.next().await, Wanted::All);
    let numbers = queue.numbers.lock().unwrap();
    assert_eq!(numbers[0], numbers[1]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_refused_or_lost_or_dropped_by_a_drain_is_asked_for_again() {
    for (woken, returned) in [(Woken::Refused, 1), (Woken::Lost, 0), (Woken::Never, 0)] {
        let what = format!("{woken:?}");
        let job = claimed();
        let (queue, claimer) = claimer(LONG, woken, vec![job.clone()]);
        let mut rotation = Rotation::default();
        let (held_token, report) = claimer.await_work(3, true, &mut rotation).await;
        assert_eq!(reported(&report), (Vec::new(), true), "{what}");
        assert!(held_token.is_none());
        assert_eq!(queue.returned.lock().unwrap().len(), returned, "{what}");
        let report = claimer.claim(0, false, &mut rotation).await;
        assert_eq!(reported(&report), (vec![job.lease.id], false), "{what}");
        let numbers = queue.numbers.lock().unwrap().clone();
        assert_eq!(numbers[0], numbers[1], "{what}");
        // It is answered now, so that the next claim has a number of its own.
        claimer.claim(1, false, &mut rotation).await;
        assert!(queue.numbers.lock().unwrap()[2] > numbers[1], "{what}");
    }
}
