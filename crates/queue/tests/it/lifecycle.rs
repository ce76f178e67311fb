//! The table of `common::lifecycle` against the Lua steps: every state with every event.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::Event;
use legwork_common::lifecycle::State;
use legwork_common::lifecycle::next;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::NewJob;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::port::WorkerReport;
use legwork_queue::settings::FleetSettings;
use redis::aio::MultiplexedConnection;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::dispatched_by;
use crate::support::finish;

/// A retry delay that does not pass during a test.
const LATER: Duration = Duration::from_secs(3600);

/// One job, brought into a state by steps, with the lease of its first attempt.
struct Subject {
    it: TestSession,
    raw: MultiplexedConnection,
    lease: Lease,
}

impl Subject {
    async fn bring(redis: &PrivateRedis, namespace: &str, state: State) -> Self {
        let queue = redis.queue_in(namespace, &FleetSettings::default()).await;
        let it = TestSession::open(&queue, 20).await;
        let mut job: NewJob = it.job();
        job.job_options.retries = u32::from(state == State::Scheduled);
        it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
        let claimed = it.claim(1).await.remove(0);
        queue.begin(&[(claimed.lease, 1)]).await.unwrap();
        let mut subject = Self { it, raw: redis.raw().await, lease: claimed.lease };
        match state {
            State::Running => {}
            State::Scheduled => subject.finish(failed(), LATER).await,
            State::Queued => subject.release(ReleaseMode::Drain).await,
            State::Waiting => drop(queue.park(subject.lease).await.unwrap()),
            State::Stopping => subject.stop().await,
            State::Reaping => subject.expire().await,
            State::Completed => subject.finish(completed(), LATER).await,
            State::Failed => subject.finish(failed(), LATER).await,
            State::Stopped => subject.finish(Ending::Stopped { cause: Cause::Tool }, LATER).await,
        }
        assert_eq!(subject.state().await, state, "the steps did not bring the job into the state");
        subject
    }

    fn id(&self) -> JobId {
        self.lease.id
    }

    async fn state(&self) -> State {
        self.it.queue.jobs(&[self.id()]).await.unwrap().remove(0).unwrap().status
    }

    async fn finish(&self, ending: Ending, retry_delay: Duration) {
        let finish = Finish { retry_delay, ..finish(self.lease, ending) };
        self.it.queue.finish(&[finish]).await.unwrap();
    }

    async fn release(&self, mode: ReleaseMode) {
        let release = Release { lease: self.lease, worker: self.it.worker.clone(), mode, output_bytes: 0 };
        self.it.queue.release(&release).await.unwrap();
    }

    async fn stop(&self) {
        let root = StopRoot::Job(self.id());
        self.it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
    }

    async fn raw(&mut self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec_async(&mut self.raw).await.unwrap();
    }

    /// Sets a field of the record that no step sets to this value.
    async fn write(&mut self, field: &str, value: &str) {
        let key = self.it.queue.keys().job(self.id());
        self.raw(&["HSET", &key, field, value]).await;
    }

    /// Lets the lease run out, and the reaper fail between its first and its second part, at a fence that cannot be
    /// sealed.
    async fn expire(&mut self) {
        let lease = self.it.queue.keys().lease(0);
        let fence = self.it.queue.keys().fence(self.id());
        let member = self.id().uuid().to_string();
        self.raw(&["ZADD", &lease, "1", &member]).await;
        self.raw(&["SET", &fence, "not a hash"]).await;
        // It fails only if it took the job back: else no fence is sealed.
        let _reaped = self.it.queue.reap(true).await;
        self.raw(&["DEL", &fence]).await;
    }

    /// Another worker that could take the job.
    async fn other_worker(&self) {
        let heartbeat = Heartbeat {
            worker: WorkerId::random_on("other"),
            host: "other".into(),
            process: 1,
            lanes: vec![Lane::Queue("default".into())],
            slots: 1,
            used: 0,
            jobs: 0,
            draining: false,
            report: WorkerReport::default(),
        };
        self.it.queue.heartbeat(&heartbeat).await.unwrap();
    }

    /// Applies the step that stands for the event; `false` where none does in this state.
    async fn apply(&mut self, state: State, event: Event) -> bool {
        match event {
            Event::Due => {
                let scheduled = self.it.queue.keys().scheduled(0);
                let member = self.id().uuid().to_string();
                self.raw(&["ZADD", &scheduled, "1", &member]).await;
                self.it.queue.reap(false).await.unwrap();
            }
            Event::Claimed => drop(self.it.claim(5).await),
            Event::Parked => drop(self.it.queue.park(self.lease).await.unwrap()),
            Event::Resumed => drop(self.it.queue.resume(self.lease).await.unwrap()),
            Event::Released => self.release(ReleaseMode::Drain).await,
            Event::Declined => {
                self.other_worker().await;
                self.release(ReleaseMode::Lack("no key".into())).await;
            }
            // For a stopping job the same step is `Declined`. No step rejects a job that no worker holds: the last
            // worker that held it does.
            Event::Rejected if matches!(state, State::Stopping | State::Scheduled | State::Queued) => {
                return false;
            }
            Event::Rejected => self.release(ReleaseMode::Lack("no key".into())).await,
            Event::StopRequested => self.stop().await,
            Event::Completed => self.finish(completed(), LATER).await,
            Event::Failed => {
                self.write("retries", "0").await;
                self.finish(failed(), LATER).await;
            }
            Event::RetryScheduled => {
                self.write("retries", "2").await;
                self.finish(failed(), LATER).await;
            }
            Event::StopConfirmed if state == State::Reaping => {
                self.stop().await;
                self.it.queue.reap(true).await.unwrap();
            }
            Event::StopConfirmed => self.finish(Ending::Stopped { cause: Cause::Operator }, LATER).await,
            Event::LeaseExpired => self.expire().await,
            // The third part of reaping, which only follows the first.
            Event::Requeued | Event::WorkerLost if state != State::Reaping => return false,
            Event::Requeued => drop(self.it.queue.reap(true).await.unwrap()),
            Event::WorkerLost => {
                self.write("crashes", "9").await;
                self.write("quarantine", "2").await;
                self.it.queue.reap(true).await.unwrap();
            }
        }
        true
    }
}

fn failed() -> Ending {
    Ending::Failed { cause: Cause::AgentError, message: "no".into() }
}

#[tokio::test]
async fn every_step_follows_the_table_in_every_state() {
    let redis = PrivateRedis::start();
    let mut wrong = Vec::new();
    let mut walked = 0;
    for state in State::ALL {
        for event in Event::ALL {
            let mut subject = Subject::bring(&redis, &format!("{state}-{event:?}"), state).await;
            if !subject.apply(state, event).await {
                continue;
            }
            walked += 1;
            // An illegal event changes nothing.
            let wanted = next(state, event).unwrap_or(state);
            let found = subject.state().await;
            if found != wanted {
                wrong.push(format!("{state} + {event:?}: {found}, not {wanted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(walked, 9 * 15 - 3 - 2 * 8);
}

/// Both lose their worker for the last time in one round: the parent fails and its tree is stopped, in whichever order
/// the round takes the two back.
#[tokio::test]
async fn a_job_whose_parent_loses_its_worker_too_ends_stopped() {
    let redis = PrivateRedis::start();
    let settings = FleetSettings { max_crashes: 1, ..FleetSettings::default() };
    let it = TestSession::open(&redis.queue(&settings).await, 20).await;
    let parent = it.one().await;
    let held = it.claim(1).await[0].lease;
    let by = dispatched_by(held);
    let child = it.enqueue(by, vec![it.job()]).await;
    let below = it.claim(1).await[0].lease;
    let key = it.queue.keys().lease(0);
    let mut raw = redis.raw().await;
    for (score, id) in [(1, held.id), (2, below.id)] {
        redis::cmd("ZADD")
            .arg(&key)
            .arg(score)
            .arg(id.uuid().to_string())
            .exec_async(&mut raw)
            .await
            .unwrap();
        let record = it.queue.keys().job(id);
        redis::cmd("HSET").arg(record).arg("quarantine").arg(1).exec_async(&mut raw).await.unwrap();
    }
    it.queue.reap(true).await.unwrap();
    let jobs = it.queue.jobs(&[parent, below.id]).await.unwrap();
    let ends: Vec<_> = jobs.iter().flatten().map(|job| (job.status, job.cause)).collect();
    assert_eq!(
        ends,
        [(State::Failed, Some(Cause::WorkerLost)), (State::Stopped, Some(Cause::Parent))],
        "{child:?}"
    );
}
