//! An operator's list finds every match, however many other jobs there are, and reads little for it.

use std::time::Duration;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_common::waits_for::WaitsFor;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::operator::RetryError;
use legwork_queue::operator::RetryMode;
use legwork_queue::operator::SessionLanes;
use legwork_queue::operator::StopRoot;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::JobFilter;
use legwork_queue::port::NewJob;
use legwork_queue::port::Watch as _;
use legwork_queue::ride_out;
use legwork_queue::settings::FleetSettings;
use legwork_tests::proxy::Proxy;
use legwork_tests::proxy::Server;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;

/// Newer jobs than the one that is looked for.
const NEWER: usize = 20_000;

fn failed() -> Ending {
    Ending::Failed { cause: Cause::AgentError, message: "no".to_owned() }
}

fn operator(redis: &PrivateRedis, it: &TestSession) -> Operator {
    let hints = Hints::new(&redis.target()).unwrap();
    Operator::new(Observer::new(it.queue.clone(), hints), SessionLanes::Shared)
}

/// Commands that the server has processed, those of scripts too.
async fn commands(redis: &PrivateRedis) -> u64 {
    let mut raw = redis.raw().await;
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
    let calls = stats.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next());
    calls.map(|calls| calls.parse::<u64>().unwrap()).sum()
}

/// One job that runs, one that failed, one of another agent, in sessions of their own; then many that wait.
struct Haystack {
    redis: PrivateRedis,
    it: TestSession,
    running: JobId,
    failed: JobId,
    other: JobId,
    other_session: TestSession,
}

impl Haystack {
    async fn build() -> Self {
        let redis = PrivateRedis::start();
        let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
        let failed_id = it.one().await;
        let lease = it.claim(1).await.remove(0).lease;
        it.finish(lease, failed()).await;
        let running = it.one().await;
        assert_eq!(it.claim(1).await.remove(0).lease.id, running);
        let other_session = TestSession::open(&it.queue, 0).await;
        let mut job = other_session.job();
        job.spec.agent = "rare".into();
        job.job_options.queue = "slow".into();
        let other = job.id;
        other_session.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
        for _ in 0..NEWER / 1000 {
            it.enqueue(DispatchedBy::Root, (0..1000).map(|_| it.job()).collect()).await.unwrap();
        }
        Self { redis, it, running, failed: failed_id, other, other_session }
    }

    /// The jobs that a filter selects, how many commands that took, and how many jobs were read without an index.
    async fn list(&self, filter: &JobFilter) -> (Vec<JobId>, u64, u64) {
        let before = commands(&self.redis).await;
        let page = self.it.queue.list(filter, 50, None).await.unwrap();
        // The two counts are commands too.
        let spent = commands(&self.redis).await - before;
        assert_eq!(page.next, None, "{filter:?}");
        (page.jobs.iter().map(|job| job.id).collect(), spent, page.searched)
    }
}

#[tokio::test]
async fn one_match_behind_thousands_of_newer_jobs_is_found_by_an_index() {
    let haystack = Haystack::build().await;
    let any = JobFilter::default;
    let states = |state| JobFilter { states: vec![state], ..any() };
    let session = JobFilter { session: Some(haystack.other_session.session), ..any() };
    let worker = JobFilter { worker: Some(haystack.it.worker.clone()), ..any() };
    let cause = JobFilter { cause: Some(Cause::AgentError), ..any() };
    let unretried = JobFilter { without_retried: true, ..states(State::Failed) };
    for (filter, expected) in [
        (states(State::Running), haystack.running),
        (states(State::Failed), haystack.failed),
        (session, haystack.other),
        (worker, haystack.running),
        (cause, haystack.failed),
        (unretried, haystack.failed),
    ] {
        let (found, spent, searched) = haystack.list(&filter).await;
        assert_eq!(found, [expected], "{filter:?}");
        assert!(spent < 40 && searched < 10, "{filter:?}: {spent} commands, {searched} jobs read");
    }
    for state in [State::Completed, State::Stopped, State::Scheduled, State::Waiting] {
        let (found, spent, _) = haystack.list(&states(state)).await;
        assert!(found.is_empty() && spent < 40, "{state}: {spent} commands");
    }
}

#[tokio::test]
async fn a_filter_without_an_index_searches_to_the_end_and_reports_it() {
    let haystack = Haystack::build().await;
    let agent = JobFilter { agent: Some("rare".into()), ..JobFilter::default() };
    let queue = JobFilter { queue: Some("slow".into()), ..JobFilter::default() };
    for filter in [agent, queue] {
        let (found, _, searched) = haystack.list(&filter).await;
        assert_eq!((found, searched), (vec![haystack.other], NEWER as u64 + 3), "{filter:?}");
    }
    // A full list takes as many pages as it needs: a hundred reads, of which one may find a busy machine too slow to answer
    // within its timeout.
    let any = JobFilter::default();
    let list = || haystack.it.queue.list(&any, NEWER * 2, None);
    let all = ride_out(|| Duration::from_secs(60), || {}, list).await.unwrap();
    assert_eq!((all.jobs.len(), all.next), (NEWER + 3, None));
}

#[tokio::test]
async fn thousands_of_jobs_say_what_they_wait_for_over_a_slow_network() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 1).await;
    let jobs: Vec<NewJob> = (0..4000).map(|_| it.job()).collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    it.enqueue(DispatchedBy::Root, jobs).await.unwrap();

    let proxy = Proxy::start(Server::Unix(redis.socket()));
    let target = Target::parse(&proxy.url()).unwrap();
    let slow = Queue::connect(&target, "test", it.queue.settings(), ConnectionKind::Dedicated).await.unwrap();
    // For each 64 KB: what all of them wait for would take longer than a round trip may.
    proxy.delay(Duration::from_millis(60));
    let shown = slow.jobs_with_waits(&ids).await.unwrap();

    // The first was admitted.
    for (place, job) in shown.into_iter().enumerate().skip(1) {
        let waits_for = job.unwrap().waits_for;
        assert!(
            matches!(waits_for, Some(WaitsFor::SessionCap { ahead, .. }) if ahead == place as u64),
            "{place}: {waits_for:?}"
        );
    }
}

#[tokio::test]
async fn a_job_is_in_the_index_of_its_state_until_it_is_deleted() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let operator = operator(&redis, &it);
    let ids = [it.one().await, it.one().await, it.one().await, it.one().await];
    let claimed = it.claim(2).await;
    it.finish(claimed[0].lease, completed()).await;
    it.finish(claimed[1].lease, failed()).await;
    operator.stop(StopRoot::Job(ids[2])).await.unwrap();
    let in_state = async |state| {
        let filter = JobFilter { states: vec![state], ..JobFilter::default() };
        let page = it.queue.list(&filter, 10, None).await.unwrap();
        page.jobs.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    for (id, state) in ids.iter().zip([State::Completed, State::Failed, State::Stopped, State::Queued]) {
        assert_eq!(in_state(state).await, [*id], "{state}");
    }
    let deleted: Vec<_> = operator.delete_many(ids[..3].to_vec()).try_collect().await.unwrap();
    assert_eq!(deleted, ids[..3]);
    for state in [State::Completed, State::Failed, State::Stopped] {
        assert!(in_state(state).await.is_empty(), "{state}");
    }
    assert_eq!(it.queue.list(&JobFilter::default(), 10, None).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn a_second_retry_names_the_first_unless_it_insists() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let operator = operator(&redis, &it);
    let of = it.one().await;
    let lease = it.claim(1).await.remove(0).lease;
    it.finish(lease, failed()).await;
    let unretried = JobFilter { states: vec![State::Failed], without_retried: true, ..JobFilter::default() };
    assert_eq!(it.queue.list(&unretried, 10, None).await.unwrap().jobs.len(), 1);
    let retry = async |again| {
        let plan = operator.plan_retry(of, RetryMode::Resume, again).await.unwrap();
        operator.retry_many(vec![plan]).boxed().next().await.unwrap()
    };
    let first = retry(false).await.unwrap().id;
    let refused = retry(false).await.unwrap_err();
    assert!(
        matches!(refused, RetryError::AlreadyRetried { of: job, id } if (job, id) == (of, first)),
        "{refused}"
    );
    let insisted = retry(true).await.unwrap().id;
    assert_ne!(insisted, first);
    assert!(it.queue.list(&unretried, 10, None).await.unwrap().jobs.is_empty());
    // A retry that was deleted is not a reason to refuse another.
    operator.stop(StopRoot::Job(insisted)).await.unwrap();
    let _all: Vec<_> = operator.delete_many(vec![insisted]).try_collect().await.unwrap();
    assert_ne!(retry(false).await.unwrap().id, insisted);
}

#[tokio::test]
async fn two_retries_at_once_store_one_job() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let of = it.one().await;
    let lease = it.claim(1).await.remove(0).lease;
    it.finish(lease, failed()).await;
    let retry = || {
        let mut job: NewJob = it.job();
        job.spec.retry_of = Some(of);
        job
    };
    let (first, second) = tokio::join!(
        it.enqueue(DispatchedBy::Root, vec![retry()]),
        it.enqueue(DispatchedBy::Root, vec![retry()])
    );
    let answers = [first.unwrap(), second.unwrap()].concat();
    assert_ne!(answers[0], answers[1], "{answers:?}");
    assert_eq!(it.queue.list(&JobFilter::default(), 10, None).await.unwrap().jobs.len(), 2);
}

#[tokio::test]
async fn stopping_and_deleting_many_jobs_takes_few_round_trips() {
    const JOBS: usize = 5000;
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 20).await;
    let operator = operator(&redis, &it);
    for _ in 0..JOBS / 1000 {
        it.enqueue(DispatchedBy::Root, (0..1000).map(|_| it.job()).collect()).await.unwrap();
    }
    let held = it.claim(5).await;
    let calls = async || {
        let mut raw = redis.raw().await;
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:calls=")).unwrap().to_owned();
        line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = calls().await;
    let roots = operator.live_trees(JobFilter::default()).await.unwrap();
    assert_eq!(roots.len(), JOBS);
    let reports: Vec<_> = operator.stop_many(roots).try_collect().await.unwrap();
    assert_eq!(reports.iter().filter(|report| report.is_over).count(), JOBS - held.len());
    assert_eq!(reports.iter().map(|report| report.count()).sum::<u64>(), JOBS as u64);
    let spent = calls().await - before;
    // A page for each hundred jobs, and some for what runs.
    assert!(spent < 100, "{spent} steps stopped {JOBS} jobs");
    for claimed in held {
        it.finish(claimed.lease, Ending::Stopped { cause: Cause::Operator }).await;
    }
    let _all: Vec<_> = operator.until_all_stopped(reports).try_collect().await.unwrap();

    let before = calls().await;
    assert_eq!(operator.count_ended_before(Duration::ZERO).await.unwrap(), JOBS as u64);
    let progress: Vec<_> = operator.clear(Duration::ZERO).try_collect().await.unwrap();
    assert_eq!(progress.last().unwrap().forgotten, JOBS as u64);
    assert!(progress.len() > 10, "progress is reported after each page");
    let spent = calls().await - before;
    assert!(spent < 300, "{spent} steps deleted {JOBS} jobs");
}

#[tokio::test]
async fn a_stopped_session_reports_all_its_jobs() {
    const JOBS: usize = 3000;
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    it.enqueue(DispatchedBy::Root, (0..JOBS).map(|_| it.job()).collect()).await.unwrap();
    let held = it.claim(3).await;
    let root = StopRoot::Session { id: it.session, close: false };
    let report = operator(&redis, &it).stop(root).await.unwrap();
    assert_eq!((report.count(), report.below.len()), (JOBS as u64, 53));
    assert!(held.iter().all(|claimed| report.below.contains(&claimed.lease.id)));
}
