//! Mail of a root about ended jobs.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::service::MailContent;
use legwork_common::service::Mailbox as _;
use legwork_queue::DispatchedBy;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::operator::OwnerTerms;
use legwork_queue::operator::SessionEnd;
use legwork_queue::operator::SessionLanes;
use legwork_queue::operator::SessionOptions;
use legwork_queue::port::Claimed;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::finish;
use crate::support::next_number;

#[tokio::test]
async fn mail_about_deleted_jobs_does_not_hide_what_comes_after_it() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings::default()).await;
    let observer = Observer::new(queue.clone(), Hints::new(&redis.target()).unwrap());
    let operator = Operator::new(observer, SessionLanes::Shared);
    let terms = OwnerTerms { grace: Duration::ZERO, on_end: SessionEnd::Keep };
    let options = SessionOptions { cap: Some(0), ..SessionOptions::default() };
    let owner = operator.own_session(options, terms).await.unwrap();
    let it = TestSession { session: owner.session(), ..TestSession::open(&queue, 0).await };
    queue.store_team(it.session, &it.team, "{}").await.unwrap();
    // One more than a mailbox is read at once.
    for _ in 0..7 {
        it.enqueue(DispatchedBy::Root, (0..143).map(|_| it.job()).collect()).await.unwrap();
    }
    let mut ended: Vec<JobId> = Vec::new();
    while ended.len() < 1001 {
        let claimed = it.claim(400).await;
        let finish = |one: &Claimed| finish(one.lease, completed());
        queue.finish(&claimed.iter().map(finish).collect::<Vec<_>>()).await.unwrap();
        ended.extend(claimed.iter().map(|one| one.lease.id));
    }
    let last = ended.pop().unwrap();
    queue.forget(&ended, true).await.unwrap();
    let service = operator.service(it.caller(DispatchedBy::Root));
    let mail = service.mail().await.unwrap();
    let announced: Vec<JobId> = mail
        .iter()
        .map(|piece| match &piece.content {
            MailContent::Ended(view) => view.job.id,
            MailContent::Message(text) => panic!("{text}"),
        })
        .collect();
    assert_eq!(announced, [last]);
    service.acknowledge(&mail.into_iter().map(|piece| piece.id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(service.mail().await.unwrap(), []);
}

#[tokio::test]
async fn a_claim_says_whether_a_message_waits_for_the_job() {
    let (_redis, it) = TestSession::alone(0).await;
    let (silent, messaged) = (it.one().await, it.one().await);
    it.queue.send(messaged, ("before it starts", None), "request", Duration::from_secs(9)).await.unwrap();
    let request = it.claim_request(next_number(), 2);
    for _repeat in 0..2 {
        let claimed = it.queue.claim(&request).await.unwrap().jobs;
        let waits: Vec<(JobId, bool)> = claimed.iter().map(|one| (one.lease.id, one.was_messaged)).collect();
        assert_eq!(waits, [(silent, false), (messaged, true)]);
    }
}
