//! A private Redis for one test, and what every test needs to use it.

use std::io::BufRead as _;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_queue::Caller;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::Claim;
use legwork_queue::port::Claimed;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::Enqueue;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::InOutput;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::NewJob;
use legwork_queue::port::OpenSession;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use redis::FromRedisValue;
use tempfile::TempDir;

/// How long a plain connection waits for an answer.
const RAW_TIMEOUT: Duration = Duration::from_secs(20);

/// A Redis server of one test, which ends with the value.
#[derive(Debug)]
pub(crate) struct PrivateRedis {
    child: Child,
    folder: TempDir,
}

impl PrivateRedis {
    /// Starts a server. Returns once it accepts connections.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let program = ["redis-server", "valkey-server"]
            .into_iter()
            .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok())
            .expect("redis-server or valkey-server on the PATH");
        let mut child = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .arg("--unixsocket")
            .arg(folder.path().join("r.sock"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.lines();
        assert!(
            lines.any(|line| line.unwrap().to_lowercase().contains("ready to accept connections")),
            "the server ended before it was ready"
        );
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, folder }
    }

    /// Its address.
    pub(crate) fn target(&self) -> Target {
        Target::parse(&format!("unix://{}", self.folder.path().join("r.sock").display())).unwrap()
    }

    /// A queue on it.
    pub(crate) async fn queue(&self, settings: &FleetSettings) -> Queue {
        self.queue_in("test", settings).await
    }

    /// A queue on it in a namespace of its own.
    pub(crate) async fn queue_in(&self, namespace: &str, settings: &FleetSettings) -> Queue {
        Queue::connect(&self.target(), namespace, settings, ConnectionKind::Dedicated).await.unwrap()
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("r.sock")
    }

    /// A plain connection, to read and change what the queue stores. It waits for answers for longer than the half second of
    /// the client's default, which a script over thousands of keys takes on a busy machine.
    pub(crate) async fn raw(&self) -> redis::aio::MultiplexedConnection {
        let url = format!("unix://{}", self.folder.path().join("r.sock").display());
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(RAW_TIMEOUT));
        let client = redis::Client::open(url).unwrap();
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Settings with a lease that is short enough to wait for.
pub(crate) fn quick() -> FleetSettings {
    FleetSettings { lease: Duration::from_millis(100), ..FleetSettings::default() }
}

/// One session of a test with its team stored.
#[derive(Debug, Clone)]
pub(crate) struct TestSession {
    pub(crate) queue: Queue,
    pub(crate) session: SessionId,
    pub(crate) team: TeamDigest,
    pub(crate) worker: WorkerId,
}

impl TestSession {
    /// A caller of the service in this session, without any option.
    pub(crate) fn caller(&self, by: DispatchedBy) -> Caller {
        Caller {
            session: self.session,
            by,
            team: self.team.clone(),
            team_json: "{}".into(),
            working_dir: None,
            keys_in_namespace: false,
            policy: Arc::default(),
            trace: None,
            root_agent: None,
            approvals: None,
        }
    }

    /// Opens a session without an owner on a server of its own, with a short lease.
    pub(crate) async fn alone(cap: u32) -> (PrivateRedis, Self) {
        let redis = PrivateRedis::start();
        let session = Self::open(&redis.queue(&quick()).await, cap).await;
        (redis, session)
    }

    /// Opens a session without an owner and without a quota.
    pub(crate) async fn open(queue: &Queue, cap: u32) -> Self {
        Self::open_within(queue, cap, 0).await
    }

    /// Opens a session without an owner, which may have so many unfinished jobs.
    pub(crate) async fn open_within(queue: &Queue, cap: u32, quota: u32) -> Self {
        let session = SessionId::random();
        let team = TeamDigest("0".repeat(64));
        let open = OpenSession { cap, quota, ..OpenSession::unlimited(session) };
        queue.open(&open).await.unwrap();
        queue.store_team(session, &team, "{}").await.unwrap();
        Self { queue: queue.clone(), session, team, worker: WorkerId::random_on("test") }
    }

    /// A new job of this session.
    pub(crate) fn job(&self) -> NewJob {
        NewJob {
            id: JobId::random_in(self.session),
            spec: JobSpec::new("worker", "do it", self.team.clone()),
            job_options: JobOptions::default(),
            idempotency_key: None,
            again: false,
        }
    }

    /// Stores jobs.
    pub(crate) async fn enqueue(
        &self,
        by: DispatchedBy,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Enqueued>, EnqueueRefusal> {
        let request = Enqueue { session: self.session, by, team: self.team.clone(), jobs, signer: None };
        self.queue.enqueue(&request).await.unwrap()
    }

    /// Stores one job of the root.
    pub(crate) async fn one(&self) -> JobId {
        let job = self.job();
        let id = job.id;
        assert_eq!(self.enqueue(DispatchedBy::Root, vec![job]).await, Ok(vec![Enqueued::Stored(id)]));
        id
    }

    /// Claims up to `slots` jobs as this session's worker.
    pub(crate) async fn claim(&self, slots: u32) -> Vec<Claimed> {
        self.queue.claim(&self.claim_request(next_number(), slots)).await.unwrap().jobs
    }

    /// The claim of this number of this session's worker.
    pub(crate) fn claim_request(&self, number: u64, slots: u32) -> Claim {
        let lanes = vec![Lane::Queue("default".into())];
        Claim { shard: 0, worker: self.worker.clone(), number, slots, idle: true, lanes }
    }

    /// Stores one child of a running job.
    pub(crate) async fn child(&self, parent: Lease) -> JobId {
        let job = self.job();
        let id = job.id;
        self.enqueue(dispatched_by(parent), vec![job]).await.unwrap();
        id
    }

    /// A running job and the id of its queued child.
    pub(crate) async fn parent_and_child(&self) -> (Claimed, JobId) {
        self.one().await;
        let parent = self.claim(1).await.remove(0);
        let child = self.child(parent.lease).await;
        (parent, child)
    }

    /// The state that is stored for a job.
    pub(crate) async fn state(&self, id: JobId) -> State {
        self.queue.jobs(&[id]).await.unwrap().remove(0).unwrap().status
    }

    /// Ends an attempt.
    pub(crate) async fn finish(&self, lease: Lease, ending: Ending) -> Finished {
        let finish = finish(lease, ending);
        self.queue.finish(&[finish]).await.unwrap()[0]
    }
}

/// The end of a later attempt without output, tokens, mail or a delay.
pub(crate) fn finish(lease: Lease, ending: Ending) -> Finish {
    Finish {
        lease,
        ending,
        output_bytes: 0,
        usage: Usage::default(),
        retry_delay: Duration::ZERO,
        hears_mail: false,
        belongs_to: None,
        is_first_attempt: false,
        in_output: InOutput::Nothing,
        seal: None,
    }
}

/// The dispatcher that the holder of a lease is.
pub(crate) fn dispatched_by(lease: Lease) -> DispatchedBy {
    DispatchedBy::Job { id: lease.id, token: lease.token }
}

/// The number of a claim, above all numbers before it.
pub(crate) fn next_number() -> u64 {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    LATEST.fetch_add(1, Ordering::SeqCst) + 1
}

/// The ending of an attempt that completed.
pub(crate) fn completed() -> Ending {
    Ending::Completed { result: "done".into() }
}

/// The members of a sorted set with their scores, the lowest first.
pub(crate) async fn with_scores<T: FromRedisValue>(
    raw: &mut redis::aio::MultiplexedConnection,
    key: &str,
) -> Vec<(T, f64)> {
    redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES").query_async(raw).await.unwrap()
}
