//! The last try of a job that its workers die with is alone on a worker.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;
use legwork_queue::port::Asker;
use legwork_queue::port::Claim;
use legwork_queue::port::Claims;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use redis::aio::MultiplexedConnection;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::next_number;

/// A session whose first jobs were running together when two workers died.
struct Scene {
    redis: PrivateRedis,
    it: TestSession,
    ids: Vec<JobId>,
}

impl Scene {
    async fn with(jobs: u32) -> Self {
        let redis = PrivateRedis::start();
        let queue = redis.queue(&FleetSettings::default()).await;
        let it = TestSession::open(&queue, 0).await;
        let mut ids = Vec::new();
        for _ in 0..jobs {
            ids.push(it.one().await);
        }
        for _ in 0..2 {
            assert_eq!(it.claim(jobs).await.len(), jobs as usize);
            // What is left are the wake tokens of the last crash.
            let wake = it.queue.keys().wake(0, "default");
            redis::cmd("DEL").arg(wake).exec_async(&mut redis.raw().await).await.unwrap();
            it.queue.reap(true).await.unwrap();
        }
        Self { redis, it, ids }
    }

    async fn claim(&self, worker: &WorkerId, idle: bool) -> Claims {
        let lanes = vec![Lane::Queue("default".into())];
        let claim = Claim { shard: 0, worker: worker.clone(), number: next_number(), slots: 9, idle, lanes };
        self.it.queue.claim(&claim).await.unwrap()
    }

    async fn alone(&self) -> Lease {
        let mut claims = self.claim(&WorkerId::random_on("test"), true).await.jobs;
        let claimed = claims.remove(0);
        assert_eq!((claims.len(), claimed.quarantine), (0, Some(2)));
        claimed.lease
    }

    async fn job(&self, id: JobId) -> Job {
        self.it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap()
    }

    /// Makes a job wait in quarantine since longer ago.
    async fn age(&self, raw: &mut MultiplexedConnection, by: Duration) {
        let by = -i64::try_from(by.as_millis()).unwrap();
        for id in &self.ids {
            let mut command = redis::cmd("ZINCRBY");
            command.arg(self.it.queue.keys().quarantine(0)).arg(by).arg(id.uuid().to_string());
            command.exec_async(raw).await.unwrap();
        }
    }
}

#[tokio::test]
async fn jobs_that_were_together_in_crashes_are_tried_apart_before_any_fails() {
    let scene = Scene::with(3).await;
    let worker = WorkerId::random_on("test");
    // A worker that holds something gets none of them, and other jobs as ever.
    assert!(scene.claim(&worker, false).await.jobs.is_empty());
    let other = scene.it.one().await;
    let taken = scene.claim(&worker, false).await.jobs;
    assert_eq!((taken.len(), taken[0].lease.id, taken[0].quarantine), (1, other, None));
    // The first crashes alone: it fails. The next end well, each on a worker of its own.
    let [first, second, third] = [scene.alone().await, scene.alone().await, scene.alone().await];
    scene.it.finish(second, completed()).await;
    scene.it.finish(third, completed()).await;
    scene.it.finish(taken[0].lease, completed()).await;
    scene.it.queue.reap(true).await.unwrap();
    let job = scene.job(first.id).await;
    assert_eq!((job.status, job.cause, job.quarantine), (State::Failed, Some(Cause::WorkerLost), None));
    let error = "3 workers in a row were lost while running this job, the last one while it ran alone";
    assert_eq!(job.error.as_deref(), Some(error));
    for lease in [second, third] {
        assert_eq!(scene.it.state(lease.id).await, State::Completed);
    }
}

#[tokio::test]
async fn a_worker_is_woken_for_each_job_in_quarantine_and_one_more() {
    let scene = Scene::with(3).await;
    let wake = scene.it.queue.keys().wake(0, "default");
    let tokens: u32 = redis::cmd("LLEN").arg(wake).query_async(&mut scene.redis.raw().await).await.unwrap();
    assert_eq!(tokens, 4);
}

#[tokio::test]
async fn a_job_says_that_it_is_in_quarantine_while_it_waits_and_runs() {
    let scene = Scene::with(1).await;
    assert_eq!(scene.job(scene.ids[0]).await.quarantine, Some(2));
    let worker = WorkerId::random_on("test");
    let claimed = scene.claim(&worker, true).await.jobs.remove(0);
    assert_eq!(scene.job(claimed.lease.id).await.quarantine, Some(2));
    assert!(scene.it.queue.leave_quarantine(claimed.lease).await.unwrap());
    assert_eq!(scene.job(claimed.lease.id).await.quarantine, None);
    // From here on a crash is one like any other, and charged with others: the job is tried alone once more.
    scene.it.queue.reap(true).await.unwrap();
    assert_eq!(scene.job(claimed.lease.id).await.quarantine, Some(3));
}

#[tokio::test]
async fn a_job_keeps_its_quarantine_when_it_is_given_back_and_leaves_it_when_it_waits_or_is_stopped() {
    let scene = Scene::with(3).await;
    let [drained, parked, stopped] = [scene.alone().await, scene.alone().await, scene.alone().await];
    let worker = WorkerId::random_on("test");
    for lease in [drained, stopped] {
        let release = Release { lease, worker: worker.clone(), mode: ReleaseMode::Drain, output_bytes: 0 };
        scene.it.queue.release(&release).await.unwrap();
        assert_eq!(scene.job(lease.id).await.quarantine, Some(2));
    }
    scene.it.queue.park(parked).await.unwrap();
    assert_eq!(scene.job(parked.id).await.quarantine, None);
    scene.it.queue.stop(StopRoot::Job(stopped.id), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(scene.it.state(stopped.id).await, State::Stopped);
    assert_eq!(scene.alone().await.id, drained.id);
    let key = scene.it.queue.keys().quarantine(0);
    let mut raw = scene.redis.raw().await;
    let left: u64 = redis::cmd("EXISTS").arg(key).query_async(&mut raw).await.unwrap();
    assert_eq!(left, 0, "nothing is left in quarantine");
}

#[tokio::test]
async fn a_job_that_parks_before_each_crash_fails_in_the_end() {
    let scene = Scene::with(1).await;
    for crashes in 3..=6 {
        let lease = scene.it.queue.jobs(&scene.ids).await.unwrap();
        assert_eq!(lease[0].as_ref().unwrap().status, State::Queued, "after {} crashes", crashes - 1);
        let lease = scene.claim(&WorkerId::random_on("test"), true).await.jobs.remove(0).lease;
        scene.it.queue.park(lease).await.unwrap();
        scene.it.queue.resume(lease).await.unwrap();
        scene.it.queue.reap(true).await.unwrap();
    }
    let job = scene.job(scene.ids[0]).await;
    assert_eq!((job.status, job.cause), (State::Failed, Some(Cause::WorkerLost)));
    assert_eq!(job.error.as_deref(), Some("6 workers in a row were lost while running this job"));
}

#[tokio::test]
async fn a_late_copy_of_a_claim_that_was_told_to_clear_takes_nothing() {
    let scene = Scene::with(1).await;
    let mut raw = scene.redis.raw().await;
    scene.age(&mut raw, FleetSettings::default().lease).await;
    let lanes = vec![Lane::Queue("default".into())];
    let worker = WorkerId::random_on("test");
    let earlier =
        Claim { shard: 0, worker: worker.clone(), number: next_number(), slots: 9, idle: false, lanes };
    assert!(scene.claim(&worker, false).await.clears);
    // The job in quarantine is gone, and another waits.
    scene.it.finish(scene.alone().await, completed()).await;
    scene.it.one().await;
    assert!(scene.it.queue.claim(&earlier).await.unwrap().jobs.is_empty());
}

#[tokio::test]
async fn where_no_worker_is_idle_one_after_the_other_takes_nothing_until_it_is() {
    let scene = Scene::with(1).await;
    let mut raw = scene.redis.raw().await;
    let lease = FleetSettings::default().lease;
    let (first, second) = (WorkerId::random_on("one"), WorkerId::random_on("two"));
    // For a lease a worker that holds nothing may come.
    assert!(!scene.claim(&first, false).await.clears);
    scene.age(&mut raw, lease).await;
    scene.it.one().await;
    let refused = scene.claim(&first, false).await;
    assert!(refused.clears && refused.jobs.is_empty());
    // The other works on meanwhile.
    assert_eq!(scene.claim(&second, false).await.jobs.len(), 1);
    assert!(scene.claim(&first, false).await.clears);
    let mut until = redis::cmd("HSET");
    until.arg(scene.it.queue.keys().job(scene.ids[0])).arg("keepers_until").arg(1);
    until.exec_async(&mut raw).await.unwrap();
    assert!(scene.claim(&second, false).await.clears && scene.claim(&first, false).await.clears);
    // A worker that is free takes it, and both work on.
    let job = scene.claim(&second, true).await.jobs.remove(0);
    assert_eq!(job.lease.id, scene.ids[0]);
    scene.it.one().await;
    let taken = scene.claim(&first, false).await;
    assert!(!taken.clears && taken.jobs.len() == 1);
}

#[tokio::test]
async fn a_job_that_an_earlier_release_put_back_on_its_lane_was_not_alone() {
    let scene = Scene::with(1).await;
    let id = scene.ids[0];
    let keys = scene.it.queue.keys();
    let mut raw = scene.redis.raw().await;
    // As a process without quarantine does when it reclaims the job: an entry in the stream, and the mark stays.
    let ready = keys.ready(0, "default", Priority::Normal);
    let entry: String = redis::cmd("XADD")
        .arg(ready)
        .arg("*")
        .arg("job")
        .arg(id.uuid().to_string())
        .query_async(&mut raw)
        .await
        .unwrap();
    redis::cmd("HSET").arg(keys.job(id)).arg("entry").arg(entry).exec_async(&mut raw).await.unwrap();
    let mut waiting = redis::cmd("ZREM");
    waiting.arg(keys.quarantine(0)).arg(id.uuid().to_string()).exec_async(&mut raw).await.unwrap();
    let lease = scene.claim(&WorkerId::random_on("test"), false).await.jobs.remove(0).lease;
    // And as it claims it: beside others, with the mark still there.
    redis::cmd("HSET").arg(keys.job(lease.id)).arg("quarantine").arg(2).exec_async(&mut raw).await.unwrap();
    scene.it.queue.reap(true).await.unwrap();
    let job = scene.job(id).await;
    assert_eq!((job.status, job.quarantine), (State::Queued, Some(3)));
    // Alone at last, it fails.
    scene.claim(&WorkerId::random_on("test"), true).await.jobs.remove(0);
    scene.it.queue.reap(true).await.unwrap();
    assert_eq!(scene.it.state(id).await, State::Failed);
}

#[tokio::test]
async fn jobs_in_quarantine_that_a_worker_may_not_run_do_not_hide_the_others() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let of_lane = |queue: &str| {
        let mut job = it.job();
        queue.clone_into(&mut job.job_options.queue);
        job
    };
    let claim = |lane: &str, slots| Claim {
        shard: 0,
        worker: WorkerId::random_on("test"),
        number: next_number(),
        slots,
        idle: true,
        lanes: vec![Lane::Queue(lane.into())],
    };
    for (lane, count) in [("other", 250), ("default", 1)] {
        it.enqueue(DispatchedBy::Root, (0..count).map(|_| of_lane(lane)).collect()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(it.queue.claim(&claim(lane, count)).await.unwrap().jobs.len(), count as usize);
            it.queue.reap(true).await.unwrap();
        }
    }
    let mut mine = claim("default", 1);
    for attempt in 1..=4 {
        // After the last it looks at the first again.
        mine.number = next_number();
        let taken = it.queue.claim(&mine).await.unwrap().jobs;
        assert_eq!(taken.len(), usize::from(attempt == 3), "claim {attempt}");
    }
    let theirs = it.queue.claim(&claim("other", 1)).await.unwrap().jobs;
    assert_eq!((theirs.len(), theirs[0].quarantine), (1, Some(2)));
}
