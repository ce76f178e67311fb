//! Ends that a worker sealed: what is stored with them, and what a caller is shown that trusts nothing else.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::contract;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::MailContent;
use legwork_common::service::Mailbox as _;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Service;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::Lease;
use legwork_queue::port::NewJob;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Work as _;
use legwork_signing::ResultTerms;
use legwork_signing::SigningKey;
use legwork_signing::Trust;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::dispatched_by;
use crate::support::finish;

struct Scene {
    redis: PrivateRedis,
    it: TestSession,
    /// The job that dispatches the others, and reads them.
    parent: Lease,
    worker: SigningKey,
    service: Service,
}

impl Scene {
    async fn new() -> Self {
        let (redis, it) = TestSession::alone(0).await;
        let worker = SigningKey::generate(Some("worker-1".parse().unwrap())).unwrap();
        let file =
            format!("signed: [results]\nkeys: {{worker-1: {{key: '{}', worker: true}}}}", worker.public());
        it.one().await;
        let parent = it.claim(1).await.remove(0).lease;
        let caller = it.caller(dispatched_by(parent));
        let observer = Observer::new(it.queue.clone(), Hints::new(&redis.target()).unwrap());
        let trust = Arc::new(Trust::parse(&file).unwrap());
        let service = Service::new(observer, caller).trusting(Some(trust), None);
        Self { redis, it, parent, worker, service }
    }

    /// A job that is held.
    async fn held(&self) -> Lease {
        self.held_as(self.it.job()).await
    }

    async fn held_as(&self, job: NewJob) -> Lease {
        self.it.enqueue(dispatched_by(self.parent), vec![job]).await.unwrap();
        self.it.claim(1).await.remove(0).lease
    }

    /// The sealed end of a job.
    fn sealed(&self, lease: Lease, ending: Ending) -> Finish {
        let (state, cause, text) = match &ending {
            Ending::Completed { result } => (State::Completed, None, result.as_str()),
            Ending::Failed { cause, message } => (State::Failed, Some(*cause), message.as_str()),
            Ending::Stopped { .. } => (State::Stopped, None, ""),
        };
        let terms = ResultTerms { job: lease.id, session: self.it.session, state, cause, text };
        Finish { seal: Some(self.worker.seal_result(&terms)), ..finish(lease, ending) }
    }

    async fn end(&self, finish: &Finish) -> Finished {
        self.it.queue.finish(std::slice::from_ref(finish)).await.unwrap()[0]
    }

    async fn stored_seal(&self, id: JobId) -> Option<String> {
        let record = self.it.queue.keys().job(id);
        redis::cmd("HGET").arg(record).arg("seal").query_async(&mut self.redis.raw().await).await.unwrap()
    }

    /// What a view, a wait and an announcement show of a job's text.
    async fn shown(&self, id: JobId) -> [String; 3] {
        let view = self.service.view(id, None).await.unwrap();
        let request = WaitRequest {
            ids: vec![id.to_string()],
            timeout: Some(Duration::ZERO),
            mode: WaitMode::All,
            call: None,
            detail: WaitDetail::Excerpt,
        };
        let waited = self.service.wait(request).await.unwrap().into_iter().find_map(|item| match item {
            WaitItem::Found(view) => Some(view),
            WaitItem::NotFound(_) => None,
        });
        let waited = waited.unwrap();
        let mail = self.service.mail().await.unwrap();
        let announced = mail.into_iter().find_map(|mail| match mail.content {
            MailContent::Ended(view) if view.job.id == id => Some(view),
            _ => None,
        });
        let text = |job: Job| job.result.or(job.error).unwrap_or_default();
        [text(view.job), text(waited.job), text(announced.unwrap().job)]
    }
}

fn failed(message: &str) -> Ending {
    Ending::Failed { cause: Cause::AgentError, message: message.to_owned() }
}

#[tokio::test]
async fn a_seal_is_stored_with_the_end_of_the_job_and_with_no_other() {
    let scene = Scene::new().await;
    let lease = scene.held().await;
    let end = scene.sealed(lease, Ending::Completed { result: "42".to_owned() });
    // The answer to the first call was lost.
    for _ in 0..2 {
        assert_eq!(scene.end(&end).await, Finished::Now(State::Completed));
        assert_eq!(scene.stored_seal(lease.id).await, end.seal);
    }
    assert_eq!(scene.shown(lease.id).await, ["42", "42", "42"]);

    let mut job = scene.it.job();
    job.job_options.retries = 1;
    let lease = scene.held_as(job).await;
    assert_eq!(scene.end(&scene.sealed(lease, failed("first"))).await, Finished::Now(State::Scheduled));
    assert_eq!(scene.stored_seal(lease.id).await, None, "the attempt is retried");

    let lease = scene.held().await;
    scene.it.queue.stop(StopRoot::Job(lease.id), Asker::Root, Cause::Operator).await.unwrap();
    let late = scene.sealed(lease, Ending::Completed { result: "42".to_owned() });
    assert_eq!(scene.end(&late).await, Finished::Now(State::Stopped));
    assert_eq!(scene.stored_seal(lease.id).await, None, "a stop outranks the end");
    let view = scene.service.view(lease.id, None).await.unwrap();
    assert_eq!((view.job.status, view.job.cause), (State::Stopped, Some(Cause::Operator)));
}

#[tokio::test]
async fn what_was_altered_is_withheld_also_in_the_middle_of_a_long_text() {
    let scene = Scene::new().await;
    let long = "0123456789".repeat(30_000);
    let (honest, altered) = (scene.held().await, scene.held().await);
    for lease in [honest, altered] {
        scene.end(&scene.sealed(lease, Ending::Completed { result: long.clone() })).await;
    }
    let key = scene.it.queue.keys().result(altered.id);
    let mut raw = scene.redis.raw().await;
    let _bytes: u64 =
        redis::cmd("SETRANGE").arg(key).arg(150_000).arg("forged").query_async(&mut raw).await.unwrap();
    let [view, waited, announced] = scene.shown(honest.id).await;
    assert_eq!(view, long);
    assert!(long.starts_with(&waited) && waited.len() >= contract::MAX_WAIT_BYTES, "{}", waited.len());
    assert!(long.starts_with(&announced), "{}", announced.len());
    assert_eq!(scene.shown(altered.id).await, [contract::RESULT_WITHHELD; 3]);

    let (honest, altered) = (scene.held().await, scene.held().await);
    for lease in [honest, altered] {
        scene.end(&scene.sealed(lease, failed("no answer"))).await;
    }
    let record = scene.it.queue.keys().job(altered.id);
    let _new: u64 =
        redis::cmd("HSET").arg(record).arg("cause").arg("deadline").query_async(&mut raw).await.unwrap();
    assert_eq!(scene.shown(honest.id).await, ["no answer"; 3]);
    let withheld = contract::error_withheld(Some(Cause::Deadline));
    assert_eq!(scene.shown(altered.id).await, [&withheld; 3].map(String::clone));

    // Of a worker that does not seal.
    let lease = scene.held().await;
    scene.it.finish(lease, Ending::Completed { result: "42".to_owned() }).await;
    assert_eq!(scene.shown(lease.id).await, [contract::RESULT_WITHHELD; 3]);
}
