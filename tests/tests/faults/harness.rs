//! A worker in this process whose attempts run closures of the test, behind a proxy to Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use legwork_agent::Outcome;
use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_common::service::BackgroundAgents as _;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::Service;
use legwork_queue::Target;
use legwork_queue::port::Claim;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::Lane;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;
use legwork_worker::ShutdownTokens;
use legwork_worker::Worker;
use legwork_worker::WorkerHealth;
use legwork_worker::WorkerSettings;
use legwork_worker::renewal::Load;
use legwork_worker::runner::Run;
use legwork_worker::runner::RunEnd;
use legwork_worker::runner::Runner;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::scenario;

/// The bound of every wait: far longer than a lease, and than the timeouts of a worker.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);
/// The time between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What an attempt does.
type AttemptFn = Arc<dyn Fn(Run) -> BoxFuture<'static, RunEnd> + Send + Sync>;

/// Runs a closure as each attempt.
struct ClosureRunner(AttemptFn);

impl fmt::Debug for ClosureRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClosureRunner")
    }
}

#[async_trait]
impl Runner for ClosureRunner {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, run: Box<Run>) -> RunEnd {
        (self.0)(*run).await
    }
}

/// The end of an attempt that has done its work.
pub(crate) fn completed(result: &str) -> RunEnd {
    RunEnd::Ended(Outcome::Completed { result: result.to_owned(), usage: Usage::default() })
}

/// The end of an attempt that was cancelled.
pub(crate) fn stopped() -> RunEnd {
    RunEnd::Ended(Outcome::Stopped { usage: Usage::default() })
}

/// A Redis, the proxy through which a worker reaches it, and a direct connection.
#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) redis: Redis,
    pub(crate) proxy: Proxy,
    pub(crate) queue: Queue,
    observer: Observer,
    lease: Duration,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) slots: u32,
    pub(crate) queue: &'static str,
    pub(crate) drain_timeout: Duration,
    /// The URL of its Redis; the proxy's by default.
    pub(crate) url: Option<String>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { slots: 2, queue: "default", drain_timeout: TIMEOUT, url: None }
    }
}

/// A worker that serves.
#[derive(Debug)]
pub(crate) struct TestWorker {
    pub(crate) id: WorkerId,
    pub(crate) load: Load,
    pub(crate) drain: CancellationToken,
    pub(crate) now: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) tasks: Tasks,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        Self::with_lease(Duration::from_secs(2)).await
    }

    pub(crate) async fn with_lease(lease: Duration) -> Self {
        let redis = Redis::start();
        let proxy = redis.behind_proxy();
        let target = Target::parse(&redis.url()).unwrap();
        let queue = connect(&target, ConnectionKind::Pooled, lease).await;
        let observer = Observer::new(queue.clone(), Hints::new(&target).unwrap());
        Self { redis, proxy, queue, observer, lease }
    }

    /// Starts a worker that runs `attempt` as each attempt.
    pub(crate) async fn serve(
        &self,
        config: WorkerConfig,
        attempt: impl Fn(Run) -> BoxFuture<'static, RunEnd> + Send + Sync + 'static,
    ) -> TestWorker {
        let target = Target::parse(&config.url.unwrap_or_else(|| self.proxy.url())).unwrap();
        let queue = connect(&target, ConnectionKind::Dedicated, self.lease).await;
        let id = WorkerId::random_on("test");
        let settings = WorkerSettings {
            id: id.clone(),
            lanes: vec![Lane::Queue(config.queue.to_owned())],
            slots: config.slots,
            drain_timeout: config.drain_timeout,
            ..scenario::worker_settings()
        };
        let health = WorkerHealth::default();
        let load = health.load.clone();
        let worker =
            Worker::new(settings, queue, Arc::new(ClosureRunner(Arc::new(attempt))), health).unwrap();
        let [drain, now, hand_over] = std::array::from_fn(|_| CancellationToken::new());
        let shutdown = ShutdownTokens { drain: drain.clone(), now: now.clone(), hand_over };
        let tasks = Tasks::new();
        let list = tasks.clone();
        let serving = tasks.spawn(TaskKind::LocalWorker, async move {
            Box::pin(worker.serve(&list, shutdown)).await;
        });
        TestWorker { id, load, drain, now, serving, tasks }
    }

    /// Dispatches a job in a session of its own.
    pub(crate) async fn dispatch(&self) -> JobId {
        let (caller, open) = scenario::session();
        self.queue.open(&open).await.unwrap();
        let request = scenario::request("parent");
        Service::new(self.observer.clone(), caller).run(request).await.unwrap()
    }

    /// Claims while there is nothing, so that the server knows the script and the first call of a worker is done.
    pub(crate) async fn claim_nothing(&self) {
        let claim = Claim {
            shard: 0,
            worker: WorkerId::random_on("test"),
            number: 1,
            slots: 1,
            idle: true,
            lanes: vec![Lane::Queue("default".to_owned())],
        };
        assert!(self.queue.claim(&claim).await.unwrap().jobs.is_empty());
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.queue.jobs(&[id]).await.unwrap().remove(0).unwrap()
    }

    /// How many workers wait for work.
    pub(crate) fn waiting_workers(&self) -> u64 {
        self.redis.info("clients", "blocked_clients")
    }

    /// The stored output of a job.
    pub(crate) async fn output(&self, id: JobId) -> Vec<u8> {
        self.queue.output(id, 0, 100).await.unwrap().bytes
    }

    /// Reaps on the direct connection until the job is in this state.
    pub(crate) async fn reap_until(&self, id: JobId, state: State) {
        until("the job is reaped", async || {
            self.queue.reap(false).await.unwrap();
            self.job(id).await.status == state
        })
        .await;
    }

    pub(crate) async fn until_status(&self, id: JobId, state: State) -> Job {
        until(&format!("the job is {state}"), async || self.job(id).await.status == state).await;
        self.job(id).await
    }

    /// Whether the worker has announced that it drains.
    pub(crate) async fn is_draining(&self, worker: &WorkerId) -> bool {
        let workers = self.queue.workers().await.unwrap();
        workers.iter().any(|record| record.id == *worker && record.draining)
    }
}

impl TestWorker {
    /// Drains the worker; it and all its tasks end.
    pub(crate) async fn end(self) {
        self.drain.cancel();
        within_timeout("the worker ends", self.serving).await.unwrap();
        let unfinished = self.tasks.close_and_wait(Duration::from_secs(5)).await;
        assert!(unfinished.is_empty(), "tasks do not end: {unfinished:?}");
    }
}

async fn connect(target: &Target, kind: ConnectionKind, lease: Duration) -> Queue {
    let settings = FleetSettings { lease, ..FleetSettings::default() };
    Queue::connect(target, "default", &settings, kind).await.unwrap()
}

/// Fails where the wait takes longer than anything may.
pub(crate) async fn within_timeout<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("gave up waiting until {what}"))
}

/// Waits until the condition is met.
pub(crate) async fn until(what: &str, mut is_met: impl AsyncFnMut() -> bool) {
    within_timeout(what, async {
        while !is_met().await {
            sleep(POLL_INTERVAL).await;
        }
    })
    .await;
}
