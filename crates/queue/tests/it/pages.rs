//! Work in pages: reaping, forgetting and listing beyond one page.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt as _;
use legwork_common::job::Cause;
use legwork_queue::Hints;
use legwork_queue::JobIndex;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::operator::SessionLanes;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
use legwork_queue::port::Forgotten;
use legwork_queue::port::IdempotencyKey;
use legwork_queue::port::JobFilter;
use legwork_queue::port::Lease;
use legwork_queue::port::NewJob;
use legwork_queue::port::Renewal;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::redis::STEP_BACK_AN_HOUR;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::dispatched_by;
use crate::support::finish;
use crate::support::quick;

#[tokio::test]
async fn a_full_page_of_due_or_retired_jobs_is_followed_by_the_next_at_once() {
    const JOBS: u32 = 1500;
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings { retention: Duration::ZERO, ..quick() }).await;
    let it = TestSession::open(&queue, 0).await;
    let delayed = || {
        let mut job = it.job();
        job.job_options.delay = Duration::from_millis(1);
        job
    };
    it.enqueue(DispatchedBy::Root, (0..JOBS).map(|_| delayed()).collect()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(queue.reap(false).await.unwrap().due, JOBS);
    let root = StopRoot::Session { id: it.session, close: false };
    queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(queue.reap(false).await.unwrap().forgotten, JOBS);
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*:spec:*").query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn all_children_of_a_forgotten_parent_move_up_in_pages() {
    let (redis, it) = TestSession::alone(0).await;
    it.one().await;
    let parent = it.claim(1).await.remove(0);
    let by = dispatched_by(parent.lease);
    for _ in 0..7 {
        it.enqueue(by, (0..200).map(|_| it.job()).collect()).await.unwrap();
    }
    it.finish(parent.lease, completed()).await;
    assert_eq!(it.queue.forget(&[parent.lease.id], true).await.unwrap(), [Forgotten::Forgotten]);
    let root = StopRoot::Session { id: it.session, close: false };
    it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    let mut raw = redis.raw().await;
    let key = it.queue.keys().index(0, JobIndex::Stopped);
    let stopped: u32 = redis::cmd("ZCARD").arg(key).query_async(&mut raw).await.unwrap();
    assert_eq!(stopped, 1400);
}

#[tokio::test]
async fn pages_over_several_shards_skip_no_job() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings { shards: 4, ..quick() }).await;
    let mut expected = BTreeSet::new();
    let mut raw = redis.raw().await;
    for shard in 0..4 {
        let it = loop {
            let it = TestSession::open(&queue, 0).await;
            if it.session.shard(4) == shard {
                break it;
            }
        };
        let jobs: Vec<_> = (0..450).map(|_| it.job()).collect();
        expected.extend(jobs.iter().map(|job| job.id));
        for (at, job) in jobs.iter().enumerate() {
            it.enqueue(DispatchedBy::Root, vec![job.clone()]).await.unwrap();
            // Those of the first shard were created in one millisecond, those of the others before it.
            let created = if shard == 0 { 10_000 } else { 9_999 - at };
            let index = queue.keys().index(shard, JobIndex::Live);
            redis::cmd("ZADD")
                .arg(index)
                .arg(created)
                .arg(job.id.as_bytes())
                .exec_async(&mut raw)
                .await
                .unwrap();
        }
    }
    let mut seen = BTreeSet::new();
    let mut after = None;
    loop {
        let page = queue.list(&JobFilter::default(), 50, after).await.unwrap();
        for job in page.jobs {
            assert!(seen.insert(job.id), "{} is on two pages", job.id);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn many_trees_are_stopped_and_awaited_together() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 1000).await;
    let hints = Hints::new(&redis.target()).unwrap();
    let operator = Operator::new(Observer::new(it.queue.clone(), hints), SessionLanes::Shared);
    let mut roots = Vec::new();
    for _ in 0..300 {
        roots.push(StopRoot::Job(it.one().await));
    }
    let held = it.claim(20).await;
    let reports: Vec<_> = operator.stop_many(roots.clone()).try_collect().await.unwrap();
    assert_eq!(reports.iter().map(|report| report.root).collect::<Vec<_>>(), roots);
    // Whichever tree is the last to end, the others do not wait behind it to be swept.
    for claimed in held {
        it.finish(claimed.lease, Ending::Stopped { cause: Cause::Operator }).await;
    }
    let ended: Vec<_> = operator.until_all_stopped(reports).try_collect().await.unwrap();
    assert_eq!(ended.len(), roots.len());
}

#[tokio::test]
async fn a_tree_that_stops_slowly_is_swept_by_one_reaper_and_announced_once() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    for _ in 0..3 {
        it.enqueue(DispatchedBy::Root, (0..200).map(|_| it.job()).collect()).await.unwrap();
    }
    // The last 100 run and are slow to confirm.
    let held = it.claim(600).await;
    for claimed in &held[..500] {
        it.finish(claimed.lease, completed()).await;
    }
    let root = StopRoot::Session { id: it.session, close: false };
    it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    let published = published(&redis).await;
    let (first, second) = tokio::join!(it.queue.reap(false), it.queue.reap(false));
    first.and(second).unwrap();
    let before = sweeps(&redis).await;
    it.queue.reap(false).await.unwrap();
    assert!(sweeps(&redis).await <= before + 2, "a sweep reads on where jobs live");
    assert_eq!(self::published(&redis).await, published, "workers are notified once");
    for claimed in &held[500..] {
        it.finish(claimed.lease, completed()).await;
    }
    it.queue.reap(false).await.unwrap();
    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("KEYS").arg("*}:stop*").query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// How often a command was called on the server, also by scripts.
async fn calls(redis: &PrivateRedis, command: &str) -> u64 {
    let mut raw = redis.raw().await;
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&prefix));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// Hints that were published. The end of a job has one too.
async fn published(redis: &PrivateRedis) -> u64 {
    calls(redis, "publish").await
}

/// Pages of children that were read.
async fn sweeps(redis: &PrivateRedis) -> u64 {
    // Two more reads of each reap are by score too.
    calls(redis, "zrangebyscore").await.saturating_sub(2)
}

/// The most commands of a page, those that its script calls: each takes the server one to two microseconds, so that a page stays
/// far below the 5 ms for which a script may hold the server up. Time itself would be that of the machine and its load.
const MAX_PAGE_COMMANDS: u64 = 1_000;

/// What the server has done so far.
#[derive(Debug, Clone, Copy)]
struct Done {
    commands: u64,
    scripts: u64,
}

impl Done {
    async fn so_far(redis: &PrivateRedis) -> Self {
        let mut raw = redis.raw().await;
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
        let calls = stats.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next());
        let commands = calls.map(|calls| calls.parse::<u64>().unwrap()).sum();
        Self { commands, scripts: self::calls(redis, "evalsha").await }
    }

    /// Holds the pages since then to their bound, on average: all that the server did is counted as theirs.
    async fn check(&mut self, what: &str, redis: &PrivateRedis) {
        let now = Self::so_far(redis).await;
        let commands = (now.commands - self.commands) / (now.scripts - self.scripts);
        assert!(commands < MAX_PAGE_COMMANDS, "a page of {what} takes {commands} commands");
        *self = Self::so_far(redis).await;
    }
}

/// Jobs of each kind in these tests: many full pages.
const JOBS: usize = 4000;

/// Jobs with a task of a few lines.
fn jobs(it: &TestSession, delay: Duration, with_keys: bool) -> Vec<NewJob> {
    let new = || {
        let mut job = it.job();
        job.job_options.delay = delay;
        job.spec.task = "a task of some words ".repeat(10);
        job.idempotency_key = with_keys.then(|| IdempotencyKey {
            key: job.id.uuid().simple().to_string().repeat(2),
            request: "0".repeat(64),
            in_namespace: false,
        });
        job
    };
    (0..JOBS).map(|_| new()).collect()
}

fn ended(lease: &Lease) -> Finish {
    Finish { is_first_attempt: true, ..finish(*lease, completed()) }
}

#[tokio::test]
async fn no_page_of_the_life_of_jobs_holds_the_server_up() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings::default()).await;
    let it = TestSession::open(&queue, 0).await;
    let mut done = Done::so_far(&redis).await;
    it.enqueue(DispatchedBy::Root, jobs(&it, Duration::ZERO, false)).await.unwrap();
    done.check("dispatch", &redis).await;
    it.enqueue(DispatchedBy::Root, jobs(&it, Duration::ZERO, true)).await.unwrap();
    done.check("dispatch with keys", &redis).await;
    it.enqueue(DispatchedBy::Root, jobs(&it, Duration::from_secs(3600), false)).await.unwrap();
    done.check("dispatch of delayed jobs", &redis).await;
    let mut leases: Vec<Lease> = Vec::new();
    loop {
        // As many as a worker claims at once.
        let claimed = it.claim(200).await;
        if claimed.is_empty() {
            break;
        }
        leases.extend(claimed.iter().map(|claimed| claimed.lease));
    }
    assert_eq!(leases.len(), 2 * JOBS);
    done.check("claims", &redis).await;
    queue.renew(&Renewal { jobs: leases.clone(), sessions: Vec::new() }).await.unwrap();
    done.check("renewals", &redis).await;
    queue.finish(&leases.iter().map(ended).collect::<Vec<_>>()).await.unwrap();
    done.check("ends", &redis).await;
}

#[tokio::test]
async fn no_page_of_a_reaper_holds_the_server_up() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings { retention: Duration::ZERO, ..FleetSettings::default() }).await;
    let it = TestSession::open(&queue, 0).await;
    it.enqueue(DispatchedBy::Root, jobs(&it, Duration::ZERO, false)).await.unwrap();
    it.enqueue(DispatchedBy::Root, jobs(&it, Duration::from_secs(3600), false)).await.unwrap();
    it.claim(500).await;
    queue.reap(false).await.unwrap();
    let mut raw = redis.raw().await;
    redis::cmd("EVAL").arg(STEP_BACK_AN_HOUR).arg(0).exec_async(&mut raw).await.unwrap();
    let mut done = Done::so_far(&redis).await;
    queue.reap(false).await.unwrap();
    done.check("a step of the clock", &redis).await;
    // What was delayed by an hour is due.
    let scheduled = queue.keys().scheduled(0);
    let ids: Vec<String> =
        redis::cmd("ZRANGE").arg(&scheduled).arg(0).arg(-1).query_async(&mut raw).await.unwrap();
    let mut due = redis::pipe();
    for id in &ids {
        due.cmd("ZADD").arg(&scheduled).arg(1).arg(id).ignore();
    }
    due.exec_async(&mut raw).await.unwrap();
    done = Done::so_far(&redis).await;
    assert_eq!(queue.reap(false).await.unwrap().due as usize, JOBS);
    done.check("due jobs", &redis).await;
    let root = StopRoot::Session { id: it.session, close: false };
    queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    done.check("a stop", &redis).await;
    assert!(queue.reap(false).await.unwrap().forgotten > 0);
    done.check("the retention", &redis).await;
}
