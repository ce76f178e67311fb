//! One life: a worker, who dispatches, and one harm to one call of theirs.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::Environment;
use legwork_agent::message::AssistantMessage;
use legwork_agent::message::Message;
use legwork_agent::model::Delta;
use legwork_agent::model::ModelError;
use legwork_agent::model::ModelPort;
use legwork_agent::model::ModelRequest;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::RunRequest;
use legwork_common::service::WaitMode;
use legwork_common::team;
use legwork_common::team::ModelSettings;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Caller;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::Service;
use legwork_queue::Target;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Lane;
use legwork_queue::port::OpenSession;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Watch as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::wire::Harm;
use legwork_tests::wire::Wire;
use legwork_worker::ShutdownTokens;
use legwork_worker::Worker;
use legwork_worker::WorkerHealth;
use legwork_worker::WorkerSettings;
use legwork_worker::guard::Guard;
use legwork_worker::runner::AgentRunner;
use legwork_worker::runner::WorkDir;
use legwork_worker::upkeep::while_reaping;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::scenario::Scenario;
use crate::scenario::TEAM;
use crate::verdict;

/// How long anything of one life may take: longer than a lease, a delay and their repeats.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before somebody asks again.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// The lease, short: what nobody holds is soon taken back.
const LEASE: Duration = Duration::from_secs(2);
/// The lease where a call is delayed: what was delayed is heard of before it ends.
const LONG_LEASE: Duration = Duration::from_secs(6);

/// A life before it is lived.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) scenario: Scenario,
    pub(crate) harm: Harm,
    nth: usize,
    pub(crate) redis: SocketAddr,
    folder: TempDir,
}

/// Models that are watched.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn ModelPort>,
    calls: Mutex<Vec<(String, u32)>>,
    announcements: Mutex<usize>,
}

/// The workers of a life.
#[derive(Debug)]
struct Shift {
    scene: Arc<Scene>,
    wire: Arc<Wire>,
    models: Arc<Watched>,
    tasks: Tasks,
    drain: CancellationToken,
}

/// What is left of a life, seen on a way that nothing harmed.
#[derive(Debug)]
pub(crate) struct Remains<'s> {
    pub(crate) scene: &'s Scene,
    pub(crate) queue: Queue,
    pub(crate) models: Arc<Watched>,
    /// The job that was dispatched.
    pub(crate) root: JobId,
}

/// Says which life it was, should it end badly.
struct Epitaph<'s>(&'s Scene, &'s Wire);

impl Drop for Epitaph<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Scene { scenario, harm, nth, .. } = self.0;
            println!("{scenario:?}, call {nth} of {}, {harm:?}: {:?}", self.1.counted(), self.1.hit());
        }
    }
}

impl Scene {
    pub(crate) fn new(scenario: Scenario, harm: Harm, nth: usize, redis: SocketAddr) -> Self {
        Self { scenario, harm, nth, redis, folder: TempDir::new().unwrap() }
    }

    /// The namespace of this life alone.
    pub(crate) fn namespace(&self) -> String {
        format!("{:?}-{}", self.scenario, self.nth)
    }

    fn marks_file(&self) -> PathBuf {
        self.folder.path().join("marks")
    }

    /// The commands that ran, sorted.
    pub(crate) fn marks(&self) -> Vec<String> {
        let text = fs::read_to_string(self.marks_file()).unwrap_or_default();
        let mut marks: Vec<String> = text.lines().map(str::to_owned).collect();
        marks.sort();
        marks
    }

    /// The command of this life alone, as the process table shows it.
    pub(crate) fn sleep(&self) -> String {
        let folder = self.folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let unique: u32 = folder.bytes().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        format!("600.{unique}")
    }

    /// Whether the worker dies of it.
    pub(crate) fn is_deadly(&self) -> bool {
        matches!(self.harm, Harm::Die { .. })
    }

    /// The way to Redis that nothing harms.
    fn truth(&self) -> Target {
        Target::parse(&format!("redis://{}", self.redis)).unwrap()
    }

    /// Lives it; whether there was such a call.
    pub(crate) async fn live(self: Arc<Self>) -> bool {
        let wire = Arc::new(Wire::before(self.redis).await);
        let _epitaph = Epitaph(&self, &wire);
        let behind = Target::parse(&wire.url()).unwrap();
        let models = self.models();
        let worker = match self.is_deadly() {
            true => None,
            false => Some(self.worker(&behind, &models).await),
        };
        // Only one of them dies.
        let faces = if self.is_deadly() { self.truth() } else { behind };
        let observer =
            Observer::new(self.queue(&faces, ConnectionKind::Pooled).await, Hints::new(&faces).unwrap());
        let tasks = Tasks::new();
        let drain = CancellationToken::new();

        if worker.is_some() {
            wire.arm(self.nth, self.harm);
        }
        let shift = Shift {
            scene: Arc::clone(&self),
            wire: Arc::clone(&wire),
            models: Arc::clone(&models),
            tasks: tasks.clone(),
            drain: drain.clone(),
        };
        let serving = tasks.spawn(TaskKind::LocalWorker, shift.serve(worker));
        let root = bounded("the job is dispatched", self.dispatch(&observer)).await;
        let queue = self.queue(&self.truth(), ConnectionKind::Pooled).await;
        let remains = Remains { scene: &self, queue, models, root };
        if self.scenario == Scenario::Stopped {
            bounded("the command runs", remains.under_way()).await;
            bounded("the tree is stopped", stop(&observer, root)).await;
            verdict::stopped(&remains).await;
        } else {
            bounded("the job ends", wait(&observer, root)).await;
        }
        drain.cancel();
        bounded("the worker ends", serving).await.unwrap();
        assert!(tasks.close_and_wait(PATIENCE).await.is_empty());
        verdict::whole(&remains).await;
        verdict::nothing_is_left(&remains, &wire).await;
        wire.hit().is_some()
    }

    async fn queue(&self, target: &Target, kind: ConnectionKind) -> Queue {
        let lease = if matches!(self.harm, Harm::Delay(_)) { LONG_LEASE } else { LEASE };
        let settings = FleetSettings { lease, ..FleetSettings::default() };
        Queue::connect(target, &self.namespace(), &settings, kind).await.unwrap()
    }

    fn models(&self) -> Arc<Watched> {
        let script = self.scenario.script(&self.marks_file().display().to_string(), &self.sleep());
        let file = self.folder.path().join("script.json");
        fs::write(&file, script.to_string()).unwrap();
        let environment = Environment::new(BTreeMap::new(), self.folder.path().to_owned());
        let inner = legwork_worker::models::open(Some(&file), &environment).unwrap();
        Arc::new(Watched { inner, calls: Mutex::default(), announcements: Mutex::default() })
    }

    async fn worker(&self, target: &Target, models: &Arc<Watched>) -> Worker {
        let work_dir = self.folder.path().join("work");
        fs::create_dir_all(&work_dir).unwrap();
        let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
        let runner = AgentRunner {
            models: Arc::clone(models) as Arc<dyn ModelPort>,
            variables: BTreeMap::from([("PATH".to_owned(), path)]),
            work_dir: WorkDir::Shared(work_dir),
            needs_keys: false,
            guard: Guard::default(),
        };
        let settings = WorkerSettings {
            id: WorkerId::random_on("test"),
            host: "test".to_owned(),
            lanes: vec![Lane::Queue("default".to_owned())],
            slots: 10,
            drain_timeout: PATIENCE,
            until_idle: false,
            policy: Arc::default(),
            guard: Guard::default(),
            stall_after: Duration::MAX,
        };
        let queue = self.queue(target, ConnectionKind::Dedicated).await;
        Worker::new(settings, queue, Arc::new(runner), WorkerHealth::default()).unwrap()
    }

    /// Dispatches the job, and insists on it, as a program does that has a key.
    async fn dispatch(&self, observer: &Observer) -> JobId {
        let parsed = team::parse("team.yaml", TEAM.as_bytes()).map_err(|errors| errors.to_string()).unwrap();
        let session = SessionId::random();
        let caller = Caller {
            session,
            by: DispatchedBy::Root,
            team: TeamDigest(parsed.team.sha256().unwrap()),
            team_json: Arc::from(parsed.team.to_json().unwrap()),
            working_dir: None,
            keys_in_namespace: true,
            policy: Arc::<Policy>::default(),
            trace: None,
        };
        let open = OpenSession {
            session,
            owner: None,
            on_end: SessionEnd::Keep,
            cap: 20,
            budget: None,
            own_lane: false,
        };
        insist(|| observer.queue().open(&open)).await;
        let service = Service::new(observer.clone(), caller);
        let request = RunRequest {
            agent: "parent".to_owned(),
            task: "work".to_owned(),
            expected_output: None,
            call: None,
            key: Some("key".to_owned()),
            job_options: None,
        };
        insist(|| service.run(request.clone())).await
    }
}

impl Shift {
    /// Serves until it is told to drain; a worker that dies is followed by another, which nothing harms.
    async fn serve(self, worker: Option<Worker>) {
        if let Some(worker) = worker {
            return Box::pin(worker.serve(&self.tasks, self.ending())).await;
        }
        // With its runtime goes all that it does, at once.
        let mortal = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ending, wire) = (self.ending(), Arc::clone(&self.wire));
        let (scene, models) = (Arc::clone(&self.scene), Arc::clone(&self.models));
        let mut serving = mortal.spawn(async move {
            let worker = scene.worker(&Target::parse(&wire.url()).unwrap(), &models).await;
            wire.arm(scene.nth, scene.harm);
            Box::pin(worker.serve(&Tasks::new(), ending)).await;
        });
        let died = tokio::select! {
            served = &mut serving => {
                served.unwrap();
                false
            }
            () = self.wire.died() => true,
        };
        mortal.shutdown_background();
        if died {
            let next = self.scene.worker(&self.scene.truth(), &self.models).await;
            Box::pin(next.serve(&self.tasks, self.ending())).await;
        }
    }

    fn ending(&self) -> ShutdownTokens {
        let [now, hand_over] = [CancellationToken::new(), CancellationToken::new()];
        ShutdownTokens { drain: self.drain.clone(), now, hand_over }
    }
}

impl Remains<'_> {
    /// Waits until the child's command runs, or until the parent has nothing to wait for.
    async fn under_way(&self) {
        loop {
            let job = self.queue.jobs(&[self.root]).await.unwrap().remove(0).unwrap();
            if !self.scene.marks().is_empty() || job.status.is_terminal() {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Stops a tree, and returns when it is terminal, as the command line does.
async fn stop(observer: &Observer, root: JobId) {
    let root = StopRoot::Job(root);
    insist(|| observer.stop(root, Asker::Operator, Cause::Operator)).await;
    while_reaping(observer.queue(), async {
        while insist(|| observer.queue().sweep(root)).await > 0 {
            sleep(PAUSE).await;
        }
    })
    .await;
}

/// Waits for the end of the job.
async fn wait(observer: &Observer, id: JobId) {
    let ids = [(id.to_string(), Some(id))];
    while_reaping(observer.queue(), insist(|| observer.wait(&ids, WaitMode::All, None))).await;
}

/// Asks until there is an answer.
async fn insist<T, E, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> T {
    loop {
        if let Ok(answer) = ask().await {
            return answer;
        }
        sleep(PAUSE).await;
    }
}

/// Nothing may hang.
async fn bounded<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("gave up waiting until {what}"))
}

impl Watched {
    /// Who was asked for which turn, so far.
    pub(crate) fn calls(&self) -> Vec<(String, u32)> {
        self.calls.lock().unwrap().clone()
    }

    /// Announcements that the conversations of all calls of the last turn held.
    pub(crate) fn announcements(&self) -> usize {
        *self.announcements.lock().unwrap()
    }
}

#[async_trait]
impl ModelPort for Watched {
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<AssistantMessage, ModelError> {
        self.calls.lock().unwrap().push((request.agent.clone(), request.turn));
        if request.agent == "parent" {
            let told = |message: &&Message| format!("{message:?}").contains("tasks finished since your last");
            *self.announcements.lock().unwrap() = request.messages.iter().filter(told).count();
        }
        self.inner.stream(settings, request, deltas).await
    }
}
