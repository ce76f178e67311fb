//! Reads that a change overtakes, and calls that do not wait for one another.

use std::future::Future;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::command_proxy::CommandProxy;
use legwork_tests::command_proxy::Fault;
use legwork_tests::redis::Redis;
use tokio::time::Instant;

use crate::support::TestSession;
use crate::support::completed;
use crate::support::finish;

/// How long the proxy holds a read: enough for a job to end meanwhile, on a busy machine too.
const HELD: Duration = Duration::from_millis(500);

/// A queue, the same one behind a proxy, and a session of its own.
struct Scene {
    _redis: Redis,
    proxy: CommandProxy,
    behind: Queue,
    it: TestSession,
}

impl Scene {
    async fn new() -> Self {
        let redis = Redis::start();
        let proxy = CommandProxy::start(redis.address()).await;
        let settings = FleetSettings::default();
        let connect = async |url: &str| {
            let target = Target::parse(url).unwrap();
            Queue::connect(&target, "test", &settings, ConnectionKind::Dedicated).await.unwrap()
        };
        let behind = connect(&proxy.url()).await;
        let it = TestSession::open(&connect(&redis.url()).await, 0).await;
        Self { _redis: redis, proxy, behind, it }
    }

    /// What a read of a running job shows where the job completes after its record was read and before its result is.
    async fn overtaken<F: Future<Output = Job>>(&self, read: impl FnOnce(Queue, JobId) -> F) -> Job {
        let id = self.it.one().await;
        let lease = self.it.claim(1).await.remove(0).lease;
        self.proxy.arm_on(&self.it.queue.keys().result(id), Fault::Hold(HELD));
        let ends = async {
            while self.proxy.hit().is_none() {
                tokio::task::yield_now().await;
            }
            self.it.finish(lease, completed()).await;
        };
        let (job, ()) = tokio::join!(read(self.behind.clone(), id), ends);
        assert_eq!(self.it.state(id).await, State::Completed);
        job
    }
}

#[tokio::test]
async fn the_result_of_a_job_that_ends_while_it_is_read_does_not_count_as_an_error() {
    let scene = Scene::new().await;
    let whole =
        scene.overtaken(async |queue, id| queue.view(id, None, 100).await.unwrap().unwrap().job).await;
    assert_eq!((whole.status, whole.error, whole.result), (State::Running, None, None));
    let excerpt = scene.overtaken(async |queue: Queue, id| {
        let hints = Hints::new(&Target::parse(&scene.proxy.url()).unwrap()).unwrap();
        let ids = [(String::new(), Some(id))];
        let now = Some(Instant::now());
        let mut items =
            Observer::new(queue, hints).wait(&ids, WaitMode::All, WaitDetail::Excerpt, now).await.unwrap();
        let WaitItem::Found(view) = items.remove(0) else { panic!("not found") };
        view.job
    });
    let excerpt = excerpt.await;
    assert_eq!((excerpt.status, excerpt.error, excerpt.result), (State::Running, None, None));
}

#[tokio::test]
async fn ends_of_many_jobs_do_not_wait_for_one_another() {
    let scene = Scene::new().await;
    let jobs: Vec<_> = (0..300).map(|_| scene.it.job()).collect();
    scene.it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    let ends: Vec<_> =
        scene.it.claim(300).await.iter().map(|claimed| finish(claimed.lease, completed())).collect();
    // The server has the script after this.
    scene.behind.finish(&ends[..1]).await.unwrap();
    // No answer comes before all three calls were made.
    scene.proxy.arm(1, Fault::Delay(Duration::from_millis(1500)));
    let all_sent = async {
        while scene.proxy.counted() < 3 {
            tokio::task::yield_now().await;
        }
    };
    let ended = scene.behind.finish(&ends);
    let began = Instant::now();
    let (ended, in_time) = tokio::join!(ended, tokio::time::timeout(Duration::from_millis(1200), all_sent));
    assert!(in_time.is_ok(), "{} of 3 calls after {:?}", scene.proxy.counted(), began.elapsed());
    assert_eq!(ended.unwrap().len(), 300);
}
