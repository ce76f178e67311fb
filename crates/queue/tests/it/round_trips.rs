//! What is done for many jobs takes few round trips. They are counted by the server, as reads from its clients: a pipeline
//! of 200 short commands is read in a few pieces of 16 KB.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::job::JobOptions;
use legwork_common::service::WaitMode;
use legwork_queue::DispatchedBy;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::operator::SessionLanes;
use legwork_queue::operator::StopReport;
use legwork_queue::operator::StopRoot;
use legwork_queue::port::Ending;
use legwork_queue::port::Lease;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use tokio::time::Instant;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::finish;

/// Running and queued jobs of one session, half of each.
struct Scene {
    redis: PrivateRedis,
    it: TestSession,
    operator: Operator,
    jobs: Vec<JobId>,
    leases: Vec<Lease>,
}

impl Scene {
    async fn of(count: usize) -> Self {
        let redis = PrivateRedis::start();
        let queue = redis.queue(&FleetSettings::default()).await;
        let it = TestSession::open(&queue, 0).await;
        let hints = Hints::new(&redis.target()).unwrap();
        let operator = Operator::new(Observer::new(queue, hints), SessionLanes::Shared);
        let new: Vec<_> = (0..count).map(|_| it.job()).collect();
        let jobs = new.iter().map(|job| job.id).collect();
        it.enqueue(DispatchedBy::Root, new).await.unwrap();
        let half = u32::try_from(count / 2).unwrap();
        let leases = it.claim(half).await.iter().map(|claimed| claimed.lease).collect();
        Self { redis, it, operator, jobs, leases }
    }

    /// Reads by the server from its clients so far.
    async fn reads(&self) -> u64 {
        let info: String =
            redis::cmd("INFO").arg("stats").query_async(&mut self.redis.raw().await).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap();
        line.trim().parse().unwrap()
    }
}

#[tokio::test]
async fn hundreds_of_stops() {
    let scene = Scene::of(600).await;
    let roots = scene.jobs.iter().copied().map(StopRoot::Job).collect();
    let before = scene.reads().await;
    let reports: Vec<StopReport> = scene.operator.stop_many(roots).try_collect().await.unwrap();
    let marked = scene.reads().await;
    assert!(marked - before < 150, "{} reads for {} stops", marked - before, reports.len());
    let stopped = |lease: &Lease| finish(*lease, Ending::Stopped { cause: Cause::Operator });
    scene.it.queue.finish(&scene.leases.iter().map(stopped).collect::<Vec<_>>()).await.unwrap();
    let before = scene.reads().await;
    let mut ended = pin!(scene.operator.until_all_stopped(reports));
    let mut count = 0;
    while ended.next().await.transpose().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 600);
    let awaited = scene.reads().await - before;
    assert!(awaited < 150, "{awaited} reads for the ends of {count} trees");
}

#[tokio::test]
async fn a_wait_for_a_hundred_jobs_in_all_states() {
    let scene = Scene::of(100).await;
    let mut delayed = scene.it.job();
    delayed.job_options = JobOptions { delay: Duration::from_secs(600), ..delayed.job_options };
    let mut ids = scene.jobs.clone();
    ids.push(delayed.id);
    scene.it.enqueue(DispatchedBy::Root, vec![delayed]).await.unwrap();
    let before = scene.reads().await;
    let found = scene.operator.wait(&ids, WaitMode::All, Some(Instant::now())).await.unwrap();
    let reads = scene.reads().await - before;
    assert!(reads < 40, "{reads} reads for a view of {} jobs", found.len());
}

#[tokio::test]
async fn a_list_of_hundreds_of_children() {
    let scene = Scene::of(400).await;
    let before = scene.reads().await;
    let root = Dispatcher::Root(scene.it.session);
    let list = scene.it.queue.children(scene.it.session, root).await.unwrap();
    let reads = scene.reads().await - before;
    assert!(reads < 60, "{reads} reads for a list of {} jobs", list.jobs.len());
}
