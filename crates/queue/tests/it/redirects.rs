//! Nodes of a Cluster that do not agree on which of them has a slot.

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::Watch as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::topology::Cluster;

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_an_outage_and_no_refusal() {
    let cluster = Cluster::start();
    let target = Target::parse(&cluster.url()).unwrap();
    let settings = FleetSettings { shards: 16, ..FleetSettings::default() };
    let queue = Queue::connect(&target, "test", &settings, ConnectionKind::Dedicated).await.unwrap();
    let session = SessionId::random();
    let jobs = [JobId::random_in(session)];
    assert_eq!(queue.states(&jobs).await.unwrap(), [None]);

    let tag = queue.keys().session_tag(session);
    let settle = cluster.contest_slot_of(&tag);
    let error = queue.states(&jobs).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("Moved") && message.contains("do not agree"), "{message}");

    settle();
    assert_eq!(queue.states(&jobs).await.unwrap(), [None]);
}
