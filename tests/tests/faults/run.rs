//! One run of a scenario: a worker, a client that dispatches, and a fault in one call of theirs.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::Environment;
use legwork_agent::environment::Inherited;
use legwork_agent::message::Message;
use legwork_agent::model::ModelCall;
use legwork_agent::model::ModelError;
use legwork_agent::model::ModelPort;
use legwork_agent::model::ModelReply;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::RunRequest;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitMode;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::Service;
use legwork_queue::Target;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Watch as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::command_proxy::CommandProxy;
use legwork_tests::command_proxy::Fault;
use legwork_worker::ShutdownTokens;
use legwork_worker::Worker;
use legwork_worker::WorkerHealth;
use legwork_worker::guard::Guard;
use legwork_worker::guard::Restrictions;
use legwork_worker::permits::Permits;
use legwork_worker::runner::AgentRunner;
use legwork_worker::runner::WorkDir;
use legwork_worker::upkeep::while_reaping;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::checks;
use crate::scenario;
use crate::scenario::Scenario;

/// Timeout of each step of a run: longer than a lease, a delayed call and their repeats together.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Delay before a failed call is repeated, and poll interval for conditions without a notification.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(20);
/// Longer than the delay of a call, and than a busy machine lets one of sixty runs stand still: a lease that expires costs
/// an attempt, as a crash does.
const LEASE: Duration = Duration::from_secs(10);

/// A scenario, the fault, and the number of the call that gets it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) fault: Fault,
    nth: usize,
    pub(crate) redis: SocketAddr,
    folder: TempDir,
}

/// Scripted models that record their calls.
#[derive(Debug)]
pub(crate) struct RecordingModels {
    inner: Arc<dyn ModelPort>,
    calls: Mutex<Vec<(String, u32)>>,
    announcements: Mutex<usize>,
}

/// The worker of a run and, after a crash, its replacement.
#[derive(Debug)]
struct RunWorkers {
    run: Arc<Run>,
    proxy: Arc<CommandProxy>,
    models: Arc<RecordingModels>,
    tasks: Tasks,
    drain: CancellationToken,
}

/// The state of a run, read over a connection without faults.
#[derive(Debug)]
pub(crate) struct Aftermath<'s> {
    pub(crate) run: &'s Run,
    pub(crate) queue: Queue,
    pub(crate) models: Arc<RecordingModels>,
    /// The job that was dispatched.
    pub(crate) root: JobId,
}

/// Prints which run it was if the test panics.
struct FailureReport<'s>(&'s Run, &'s CommandProxy);

impl Drop for FailureReport<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Run { scenario, fault, nth, .. } = self.0;
            println!("{scenario:?}, call {nth} of {}, {fault:?}: {:?}", self.1.counted(), self.1.hit());
        }
    }
}

impl Run {
    pub(crate) fn new(scenario: Scenario, fault: Fault, nth: usize, redis: SocketAddr) -> Self {
        Self { scenario, fault, nth, redis, folder: TempDir::new().unwrap() }
    }

    /// A namespace that only this run uses: runs share one Redis.
    pub(crate) fn namespace(&self) -> String {
        format!("{:?}-{}", self.scenario, self.nth)
    }

    fn marks_file(&self) -> PathBuf {
        self.folder.path().join("marks")
    }

    /// The marks of the commands that ran, sorted.
    pub(crate) fn marks(&self) -> Vec<String> {
        let text = fs::read_to_string(self.marks_file()).unwrap_or_default();
        let mut marks: Vec<String> = text.lines().map(str::to_owned).collect();
        marks.sort();
        marks
    }

    /// A sleep duration that no other run uses, so that its process can be found.
    pub(crate) fn sleep(&self) -> String {
        let folder = self.folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let unique: u32 = folder.bytes().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        format!("600.{unique}")
    }

    /// Whether the fault crashes the worker.
    pub(crate) fn is_crash(&self) -> bool {
        matches!(self.fault, Fault::Die { .. })
    }

    /// Redis without the proxy.
    fn direct_target(&self) -> Target {
        Target::parse(&format!("redis://{}", self.redis)).unwrap()
    }

    /// Runs the scenario and checks the result. Returns whether it had an n-th call.
    pub(crate) async fn execute(self: Arc<Self>) -> bool {
        let proxy = Arc::new(CommandProxy::start(self.redis).await);
        let _report = FailureReport(&self, &proxy);
        let proxied = Target::parse(&proxy.url()).unwrap();
        let models = self.models();
        let worker = match self.is_crash() {
            true => None,
            false => Some(self.worker(&proxied, &models).await),
        };
        // A crash closes all connections through the proxy, so the client then connects directly.
        let client_target = if self.is_crash() { self.direct_target() } else { proxied };
        let observer = Observer::new(
            self.queue(&client_target, ConnectionKind::Pooled).await,
            Hints::new(&client_target).unwrap(),
        );
        let tasks = Tasks::new();
        let drain = CancellationToken::new();

        if worker.is_some() {
            proxy.arm(self.nth, self.fault);
        }
        let workers = RunWorkers {
            run: Arc::clone(&self),
            proxy: Arc::clone(&proxy),
            models: Arc::clone(&models),
            tasks: tasks.clone(),
            drain: drain.clone(),
        };
        let serving = tasks.spawn(TaskKind::LocalWorker, workers.serve(worker));
        let root = within_timeout("the job is dispatched", self.dispatch(&observer)).await;
        let queue = self.queue(&self.direct_target(), ConnectionKind::Pooled).await;
        let aftermath = Aftermath { run: &self, queue, models, root };
        if self.scenario == Scenario::Stopped {
            within_timeout("the command runs", aftermath.until_command_runs()).await;
            within_timeout("the tree is stopped", stop(&observer, root)).await;
            checks::all_stopped(&aftermath).await;
        } else {
            within_timeout("the job ends", wait(&observer, root)).await;
        }
        drain.cancel();
        within_timeout("the worker ends", serving).await.unwrap();
        assert!(tasks.close_and_wait(TIMEOUT).await.is_empty());
        checks::all_ended_once(&aftermath).await;
        checks::nothing_is_left(&aftermath, &proxy).await;
        proxy.hit().is_some()
    }

    async fn queue(&self, target: &Target, kind: ConnectionKind) -> Queue {
        let settings = FleetSettings { lease: LEASE, ..FleetSettings::default() };
        Queue::connect(target, &self.namespace(), &settings, kind).await.unwrap()
    }

    fn models(&self) -> Arc<RecordingModels> {
        let script = self.scenario.script(&self.marks_file().display().to_string(), &self.sleep());
        let file = self.folder.path().join("script.json");
        fs::write(&file, script.to_string()).unwrap();
        let environment = Environment::new(BTreeMap::new(), self.folder.path().to_owned());
        let inner = legwork_worker::models::open(Some(&file), &environment).unwrap();
        Arc::new(RecordingModels { inner, calls: Mutex::default(), announcements: Mutex::default() })
    }

    async fn worker(&self, target: &Target, models: &Arc<RecordingModels>) -> Worker {
        let work_dir = self.folder.path().join("work");
        fs::create_dir_all(&work_dir).unwrap();
        let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
        let runner = AgentRunner {
            models: Arc::clone(models) as Arc<dyn ModelPort>,
            variables: BTreeMap::from([("PATH".to_owned(), path)]).into(),
            work_dir: WorkDir::Shared(work_dir),
            needs_keys: false,
            guard: Guard::default(),
            inherited: Inherited::default(),
            permits: Permits::default(),
            restrictions: Restrictions::default(),
            control_groups: None,
        };
        let settings = scenario::worker_settings();
        let queue = self.queue(target, ConnectionKind::Dedicated).await;
        Worker::new(settings, queue, Arc::new(runner), WorkerHealth::default()).unwrap()
    }

    /// Dispatches the job with an idempotency key and repeats the call until it succeeds.
    async fn dispatch(&self, observer: &Observer) -> JobId {
        let (caller, open) = scenario::session();
        retry_until_ok(|| observer.queue().open(&open)).await;
        let service = Service::new(observer.clone(), caller);
        let request = RunRequest { key: Some("key".to_owned()), ..scenario::request("parent") };
        retry_until_ok(|| service.run(request.clone())).await
    }
}

impl RunWorkers {
    /// Serves until drained. A worker that crashes is replaced by one without the proxy.
    async fn serve(self, worker: Option<Worker>) {
        if let Some(worker) = worker {
            return Box::pin(worker.serve(&self.tasks, self.shutdown_tokens())).await;
        }
        // Shutting down its own runtime ends all tasks of the worker at once, as a crash does.
        let crashing = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ending, proxy) = (self.shutdown_tokens(), Arc::clone(&self.proxy));
        let (run, models) = (Arc::clone(&self.run), Arc::clone(&self.models));
        let mut serving = crashing.spawn(async move {
            let worker = run.worker(&Target::parse(&proxy.url()).unwrap(), &models).await;
            proxy.arm(run.nth, run.fault);
            Box::pin(worker.serve(&Tasks::new(), ending)).await;
        });
        let died = tokio::select! {
            served = &mut serving => {
                served.unwrap();
                false
            }
            () = self.proxy.died() => true,
        };
        crashing.shutdown_background();
        if died {
            let next = self.run.worker(&self.run.direct_target(), &self.models).await;
            Box::pin(next.serve(&self.tasks, self.shutdown_tokens())).await;
        }
    }

    fn shutdown_tokens(&self) -> ShutdownTokens {
        let [now, hand_over] = [CancellationToken::new(), CancellationToken::new()];
        ShutdownTokens { drain: self.drain.clone(), now, hand_over }
    }
}

impl Aftermath<'_> {
    /// Waits until the child's command runs, or the parent has ended early because of the fault.
    async fn until_command_runs(&self) {
        loop {
            let job = self.queue.jobs(&[self.root]).await.unwrap().remove(0).unwrap();
            if !self.run.marks().is_empty() || job.status.is_terminal() {
                return;
            }
            sleep(RETRY_DELAY).await;
        }
    }
}

/// Stops a tree and waits until all its jobs have ended, as `legwork stop` does.
async fn stop(observer: &Observer, root: JobId) {
    let root = StopRoot::Job(root);
    retry_until_ok(|| observer.stop(root, Asker::Operator, Cause::Operator)).await;
    while_reaping(observer.queue(), async {
        while retry_until_ok(|| observer.queue().sweep(root)).await > 0 {
            sleep(RETRY_DELAY).await;
        }
    })
    .await;
}

/// Waits until the job has ended.
async fn wait(observer: &Observer, id: JobId) {
    let ids = [(id.to_string(), Some(id))];
    while_reaping(
        observer.queue(),
        retry_until_ok(|| observer.wait(&ids, WaitMode::All, WaitDetail::Status, None)),
    )
    .await;
}

/// Repeats a call until it succeeds; the step that calls it has the timeout.
async fn retry_until_ok<T, E, F: Future<Output = Result<T, E>>>(call: impl Fn() -> F) -> T {
    loop {
        if let Ok(answer) = call().await {
            return answer;
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Panics if a step takes longer than [`TIMEOUT`].
async fn within_timeout<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("timed out waiting until {what}"))
}

impl RecordingModels {
    /// Agent and turn of each call so far.
    pub(crate) fn calls(&self) -> Vec<(String, u32)> {
        self.calls.lock().unwrap().clone()
    }

    /// Number of notifications of finished tasks in the conversation of the parent's last call.
    pub(crate) fn announcements(&self) -> usize {
        *self.announcements.lock().unwrap()
    }
}

#[async_trait]
impl ModelPort for RecordingModels {
    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, request, deltas } = call;
        self.calls.lock().unwrap().push((request.agent.clone(), request.turn));
        if request.agent == "parent" {
            let is_announcement =
                |message: &&Arc<Message>| format!("{message:?}").contains("tasks finished since your last");
            *self.announcements.lock().unwrap() = request.messages.iter().filter(is_announcement).count();
        }
        self.inner.stream(ModelCall { settings, request, deltas }).await
    }
}
