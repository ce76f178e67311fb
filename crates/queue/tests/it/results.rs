//! Results and turns that the output of a job holds: stored once, found as if they were stored each in its place.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::InOutput;
use legwork_queue::port::Lease;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::finish;

/// A turn entry as an agent records it.
const REPLY: &str = r#"{"entry":"reply","turn":1,"message":{"text":"Grüße","origin":{"wire":"chat","provider":"p","model":"m"},"usage":{"input_tokens":7,"cached_tokens":0,"output_tokens":2,"turns":1}}}"#;
const RESULT: &str = "Grüße";

fn usage() -> Usage {
    Usage { input_tokens: 7, cached_tokens: 0, output_tokens: 2, turns: 1 }
}

/// A running job that has written this output and one entry.
async fn written(it: &TestSession, output: &str) -> Lease {
    it.one().await;
    let lease = it.claim(1).await.remove(0).lease;
    let append = Append {
        lease,
        offset: 0,
        bytes: output.as_bytes().to_vec(),
        entries: vec![(1, REPLY.to_owned())],
        finished_turns: Some(1),
        waits_for: None,
        usage: Some(usage()),
    };
    assert_eq!(it.queue.append(&[append]).await.unwrap(), [Appended::Stored(output.len() as u64)]);
    lease
}

/// Its end, with what the output holds.
fn end(lease: Lease, output: &str, in_output: InOutput) -> Finish {
    let ending = Ending::Completed { result: RESULT.to_owned() };
    Finish {
        output_bytes: output.len() as u64,
        usage: usage(),
        is_first_attempt: true,
        in_output,
        ..finish(lease, ending)
    }
}

async fn keys(redis: &PrivateRedis, pattern: &str) -> usize {
    let mut raw = redis.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut raw).await.unwrap();
    keys.len()
}

/// The result of a job as a wait shows it; `None` also for a job that is not found.
async fn excerpt(redis: &PrivateRedis, it: &TestSession, id: JobId) -> Option<String> {
    let hints = Hints::new(&redis.target()).unwrap();
    let ids = [(String::new(), Some(id))];
    let observer = Observer::new(it.queue.clone(), hints);
    let mut items = observer.wait(&ids, WaitMode::All, WaitDetail::Excerpt, None).await.unwrap();
    match items.remove(0) {
        WaitItem::Found(view) => view.job.result,
        WaitItem::NotFound(_) => None,
    }
}

#[tokio::test]
async fn a_result_that_the_output_holds_is_found_there() {
    let (redis, it) = TestSession::alone(0).await;
    for (output, in_output, turns) in [
        ("first\n\nGrüße", InOutput::Result, 1),
        (RESULT, InOutput::ResultAndTurns("chat p m".to_owned()), 0),
    ] {
        let lease = written(&it, output).await;
        let ends = end(lease, output, in_output);
        // The second call is a repeat.
        for _ in 0..2 {
            let ended = it.queue.finish(std::slice::from_ref(&ends)).await.unwrap();
            assert_eq!(ended, [Finished::Now(State::Completed)]);
        }
        assert_eq!(keys(&redis, "*:result:*").await, 0);
        assert_eq!(keys(&redis, &format!("*{}*:turns", lease.id.uuid())).await, turns);
        let view = it.queue.view(lease.id, None, 100).await.unwrap().unwrap();
        assert_eq!(view.output.bytes, output.as_bytes());
        assert_eq!((view.job.result.as_deref(), view.job.usage), (Some(RESULT), usage()));
        assert_eq!(excerpt(&redis, &it, lease.id).await.as_deref(), Some(RESULT));
        assert_eq!(it.queue.turns(lease.id, 0).await.unwrap(), [(1, REPLY.to_owned())], "{output}");
        assert_eq!(it.queue.turns(lease.id, 1).await.unwrap(), []);
        // Another attempt is refused all the same.
        let stale = Lease { token: RunToken::random(), ..lease };
        let lost = it.queue.finish(&[end(stale, output, InOutput::Result)]).await.unwrap();
        assert_eq!(lost, [Finished::Lost]);
    }
}

#[tokio::test]
async fn a_result_is_stored_where_its_output_was_lost() {
    let (redis, it) = TestSession::alone(0).await;
    let lease = written(&it, RESULT).await;
    let mut raw = redis.raw().await;
    // As a server that restarts from an append-only file without its last second.
    redis::cmd("SET").arg(it.queue.keys().output(lease.id)).arg("Gr").exec_async(&mut raw).await.unwrap();
    let ends = end(lease, RESULT, InOutput::ResultAndTurns("chat p m".to_owned()));
    assert_eq!(it.queue.finish(&[ends]).await.unwrap(), [Finished::Now(State::Completed)]);
    let job = it.queue.jobs(&[lease.id]).await.unwrap().remove(0).unwrap();
    assert_eq!(job.result.as_deref(), Some(RESULT));
    assert_eq!(excerpt(&redis, &it, lease.id).await.as_deref(), Some(RESULT));
}

#[tokio::test]
async fn a_job_that_is_stopped_as_it_completes_keeps_its_turns() {
    let (redis, it) = TestSession::alone(0).await;
    let lease = written(&it, RESULT).await;
    it.queue.stop(StopRoot::Job(lease.id), Asker::Operator, Cause::Operator).await.unwrap();
    let ends = end(lease, RESULT, InOutput::ResultAndTurns("chat p m".to_owned()));
    assert_eq!(it.queue.finish(&[ends]).await.unwrap(), [Finished::Now(State::Stopped)]);
    assert_eq!(keys(&redis, "*:turns").await, 1);
    let view = it.queue.view(lease.id, None, 100).await.unwrap().unwrap();
    assert_eq!((view.job.result, view.output.bytes), (None, RESULT.as_bytes().to_vec()));
}

#[tokio::test]
async fn a_result_replaces_the_error_of_an_earlier_attempt_wherever_it_is() {
    let (redis, it) = TestSession::alone(0).await;
    let mut job = it.job();
    job.job_options.retries = 1;
    let id = job.id;
    it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    let lease = it.claim(1).await.remove(0).lease;
    let broken = Ending::Failed { cause: Cause::AgentError, message: "broken".into() };
    it.queue.finish(&[Finish { retry_delay: Duration::ZERO, ..finish(lease, broken) }]).await.unwrap();
    it.queue.reap(false).await.unwrap();
    let lease = it.claim(1).await.remove(0).lease;
    it.queue.begin(&[(lease, 2)]).await.unwrap();
    let append = Append {
        lease,
        offset: 0,
        bytes: RESULT.as_bytes().to_vec(),
        entries: Vec::new(),
        finished_turns: None,
        waits_for: None,
        usage: None,
    };
    it.queue.append(&[append]).await.unwrap();
    let ends = Finish { is_first_attempt: false, ..end(lease, RESULT, InOutput::Result) };
    assert_eq!(it.queue.finish(&[ends]).await.unwrap(), [Finished::Now(State::Completed)]);
    assert_eq!(keys(&redis, "*:result:*").await, 0);
    let job = it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((job.result.as_deref(), job.error), (Some(RESULT), None));
}
