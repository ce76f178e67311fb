//! What a notification says: how a job ended, and nothing of its task, output and result.

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use serde_json::json;

/// The id of the message, which is the same in each attempt: a job ends once.
pub(super) fn message_id(job: JobId) -> String {
    format!("msg_{}", job.uuid())
}

/// The body: type, time and data, as Standard Webhooks recommends.
pub(super) fn body(job: &Job) -> String {
    let time = |time: Option<Timestamp>| time.map(|time| format!("{time:.3}"));
    json!({
        "type": format!("job.{}", job.status),
        "timestamp": time(job.finished_at),
        "data": {
            "id": job.id,
            "session": job.session,
            "parent": job.parent,
            "agent": job.agent,
            "queue": job.queue,
            "status": job.status,
            "cause": job.cause,
            "attempt": job.attempt,
            "created_at": time(Some(job.created_at)),
            "started_at": time(job.started_at),
            "finished_at": time(job.finished_at),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;
    use legwork_common::job::Cause;
    use legwork_common::lifecycle::State;

    use super::*;

    #[test]
    fn a_body_says_how_a_job_ended_and_nothing_of_what_it_said() {
        let session: SessionId = "22222222-2222-4222-8222-22222222abcd".parse().unwrap();
        let id: JobId = "agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap();
        let second = |second| Some(Timestamp::from_second(second).unwrap());
        let job = Job {
            agent: "coder".to_owned(),
            task: "canary task".to_owned(),
            status: State::Failed,
            cause: Some(Cause::ProviderError),
            error: Some("canary error".to_owned()),
            attempt: 2,
            created_at: Timestamp::from_second(1_800_000_000).unwrap(),
            started_at: second(1_800_000_001),
            finished_at: second(1_800_000_007),
            ..Job::queued(id, session)
        };
        let body: serde_json::Value = serde_json::from_str(&body(&job)).unwrap();
        assert!(!body.to_string().contains("canary"), "{body}");
        insta::assert_json_snapshot!(body);
        assert_eq!(message_id(id), "msg_11111111-1111-4111-8111-11111111abcd");
    }
}
