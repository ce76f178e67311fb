//! What is done for many jobs takes few round trips. They are counted by the server, as reads from its clients: a pipeline
//! of 200 short commands is read in a few pieces of 16 KB.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_common::contract::WaitAnswer;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::job::JobOptions;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_queue::DispatchedBy;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::Service;
use legwork_queue::operator::SessionLanes;
use legwork_queue::operator::StopReport;
use legwork_queue::operator::StopRoot;
use legwork_queue::port::Append;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
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
        self.cost().await.reads
    }

    /// What the server has done for its clients so far.
    async fn cost(&self) -> Cost {
        let info: String =
            redis::cmd("INFO").arg("stats").query_async(&mut self.redis.raw().await).await.unwrap();
        let number = |name: &str| -> u64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            line.trim().parse().unwrap()
        };
        Cost {
            reads: number("total_reads_processed"),
            commands: number("total_commands_processed"),
            bytes: number("total_net_output_bytes"),
        }
    }

    /// The service of the session's root.
    fn service(&self) -> Service {
        let hints = Hints::new(&self.redis.target()).unwrap();
        let caller = self.it.caller(DispatchedBy::Root);
        Service::new(Observer::new(self.it.queue.clone(), hints), caller)
    }
}

/// What the server does for its clients.
#[derive(Debug, Clone, Copy)]
struct Cost {
    reads: u64,
    commands: u64,
    /// Bytes of its answers.
    bytes: u64,
}

impl Cost {
    fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            commands: self.commands - before.commands,
            bytes: self.bytes - before.bytes,
        }
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
    let wait = scene.operator.wait(&ids, WaitMode::All, WaitDetail::Whole, Some(Instant::now()));
    let found = wait.await.unwrap();
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

#[tokio::test]
async fn a_wait_reads_no_more_of_a_hundred_jobs_than_it_shows() {
    const JOBS: u32 = 100;
    let scene = Scene::of(0).await;
    let mut jobs: Vec<_> = (0..JOBS).map(|_| scene.it.job()).collect();
    jobs.iter_mut().for_each(|job| job.spec.task = "long ".repeat(20_000));
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    scene.it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let result = "x".repeat(300_000);
    let claimed = scene.it.claim(JOBS).await;
    let leases: Vec<Lease> = claimed.iter().map(|claimed| claimed.lease).collect();
    let begun: Vec<_> = leases.iter().map(|lease| (*lease, 1)).collect();
    scene.it.queue.begin(&begun).await.unwrap();
    for lease in &leases {
        let append = Append {
            lease: *lease,
            offset: 0,
            bytes: result.clone().into_bytes(),
            entries: Vec::new(),
            finished_turns: None,
            waits_for: None,
            usage: None,
        };
        scene.it.queue.append(&[append]).await.unwrap();
        let ending = Ending::Completed { result: result.clone() };
        scene.it.queue.finish(&[Finish { output_bytes: 300_000, ..finish(*lease, ending) }]).await.unwrap();
    }
    let service = scene.service();
    for (detail, most) in [(WaitDetail::Excerpt, 24_000), (WaitDetail::Status, 9_000)] {
        let before = scene.cost().await;
        let timeout = Some(Duration::ZERO);
        let request = WaitRequest { ids: ids.clone(), timeout, mode: WaitMode::All, call: None, detail };
        let items = service.wait(request).await.unwrap();
        let cost = scene.cost().await.since(before);
        assert!(cost.bytes < most * u64::from(JOBS), "{cost:?} for {detail:?}");
        assert!(cost.commands <= 12 * u64::from(JOBS) + 20, "{cost:?} for {detail:?}");
        assert!(cost.reads < 60, "{cost:?} for {detail:?}");
        let answer = WaitAnswer::new(&items, false);
        assert!(answer.all_done && answer.tasks.len() == ids.len());
        let shown = answer.tasks.iter().map(|task| task.output.len()).max();
        assert_eq!(shown, Some(if detail == WaitDetail::Excerpt { 4096 } else { 0 }));
    }
}

#[tokio::test]
async fn a_list_of_hundreds_of_parents_reads_their_children_together_and_no_whole_task() {
    const PARENTS: u32 = 200;
    let scene = Scene::of(0).await;
    let mut jobs: Vec<_> = (0..PARENTS).map(|_| scene.it.job()).collect();
    jobs.iter_mut().for_each(|job| job.spec.task = "é".repeat(50_000));
    scene.it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    for claimed in scene.it.claim(PARENTS).await {
        scene.it.child(claimed.lease).await;
    }
    let before = scene.cost().await;
    let root = Dispatcher::Root(scene.it.session);
    let list = scene.it.queue.children(scene.it.session, root).await.unwrap();
    let cost = scene.cost().await.since(before);
    // All that run, and 50 of the others.
    assert_eq!((list.jobs.len(), list.more_queued), (250, 150));
    assert!(cost.reads < 60 && cost.bytes < 3_000_000, "{cost:?}");
    let task = &list.jobs[0].task;
    assert!(task.len() > 2_500 && task.trim_end_matches('…').chars().all(|c| c == 'é'), "{task}");
}
