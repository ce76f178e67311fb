//! Compares the texts character by character.

use jiff::Timestamp;

use super::*;
use crate::id::SessionId;
use crate::job::Cause;
use crate::job::Usage;
use crate::service::MailId;
use crate::service::OutputSlice;

fn job(status: State) -> Job {
    let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
    Job {
        id: "agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap(),
        session,
        parent: None,
        depth: 0,
        queue: "default".into(),
        agent: "code_analyst".into(),
        task: "count".into(),
        status,
        cause: (status == State::Failed).then_some(Cause::AgentError),
        error: (status == State::Failed).then(|| "it broke".into()),
        attempt: 1,
        worker: None,
        key: None,
        retry_of: None,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        runtime_ms: 65_400,
        output_bytes: 0,
        result: None,
        usage: Usage::default(),
    }
}

fn viewed(status: State, output: &str) -> JobView {
    JobView {
        job: job(status),
        output: OutputSlice { offset: 0, bytes: output.into(), total: output.len() as u64 },
        truncated: false,
        queued: None,
        starts_at: None,
        waits_for: None,
        since: None,
    }
}

#[test]
fn the_body_of_a_view_depends_on_the_state() {
    let mut completed = viewed(State::Completed, "thinking… done");
    assert_eq!(view_body(&completed), "<no output>");
    completed.job.result = Some("  42 files \n".into());
    assert_eq!(view_body(&completed), "42 files");

    let table = [
        (State::Failed, "", "<task failed>\nError: it broke"),
        (State::Failed, "half", "<task failed>\nError: it broke\n\nhalf"),
        (State::Stopped, "", "<task was stopped>"),
        (State::Stopped, "half", "<task was stopped>\n\nhalf"),
        (State::Running, "", "<no output yet — still running>"),
        (State::Running, "half", "half\n\n[still running...]"),
        (State::Reaping, "half", "half\n\n[still running...]"),
        (State::Stopping, "half", "half\n\n[stopping...]"),
        (State::Waiting, "half", "half\n\n[waiting for its own background agents...]"),
        (State::Queued, "", "<queued>"),
    ];
    for (status, output, expected) in table {
        assert_eq!(view_body(&viewed(status, output)), expected, "{status}");
    }

    let mut queued = viewed(State::Queued, "");
    queued.queued = Some(QueuedReason::Behind(12));
    assert_eq!(view_body(&queued), "<queued> behind 12 of this session");
    let mut scheduled = viewed(State::Scheduled, "");
    scheduled.starts_at = Some(Timestamp::UNIX_EPOCH);
    assert_eq!(view_body(&scheduled), "<starts at 1970-01-01T00:00:00Z>");
    let mut long = viewed(State::Running, "tail");
    long.truncated = true;
    assert_eq!(view_body(&long), "tail\n\n[output truncated at 10MB limit — still running...]");
    long.output = OutputSlice { offset: 100, bytes: b"tail".to_vec(), total: 104 };
    long.truncated = false;
    assert_eq!(view_body(&long), "[output from byte 100 of 104]\ntail\n\n[still running...]");
    long.since = Some(100);
    assert_eq!(view_body(&long), "tail\n\n[read on with since=104]");
}

#[test]
fn the_results_of_run_stop_list_and_view() {
    let id = job(State::Running).id;
    assert_eq!(
        started(id, "code_analyst", "count"),
        "Background agent task started with ID: agent_task_11111111-1111-4111-8111-11111111abcd\nAgent: code_analyst\nTask: count"
    );
    assert_eq!(stopped(id), "Background agent task agent_task_11111111-1111-4111-8111-11111111abcd stopped.");
    assert_eq!(list(&JobList::default()), "Background Agent Tasks:\n\nNo background agent tasks found.\n");
    let jobs = JobList { jobs: vec![job(State::Running)], more_queued: 0, more_ended: 7 };
    assert_eq!(
        list(&jobs),
        "Background Agent Tasks:\n\nID: agent_task_11111111-1111-4111-8111-11111111abcd\n  Agent:   code_analyst\n  Status:  running\n  Runtime: 1m5s\n\nNot shown: 0 queued, 7 ended.\n"
    );
    assert_eq!(
        view(&viewed(State::Running, "half")),
        "Task ID: agent_task_11111111-1111-4111-8111-11111111abcd\nAgent:   code_analyst\nStatus:  running\nRuntime: 1m5s\n\n--- Output ---\nhalf\n\n[still running...]"
    );
}

#[test]
fn an_announcement_includes_short_results_and_mentions_long_ones() {
    let mut short = viewed(State::Completed, "");
    short.job.result = Some("ok".into());
    let mut long = short.clone();
    long.job.result = Some("x".repeat(5000));
    let mail = [short, long]
        .into_iter()
        .map(|view| Mail { id: MailId("1-0".into()), content: MailContent::Ended(Box::new(view)) })
        .collect::<Vec<_>>();
    let block = "ID: agent_task_11111111-1111-4111-8111-11111111abcd\n  Agent:   code_analyst\n  Status:  completed\n  Runtime: 1m5s\n";
    assert_eq!(
        announcement(&mail).unwrap(),
        format!(
            "Background agent tasks finished since your last turn:\n\n{block}  Output:\nok\n\n{block}  Output: 5000 bytes, read them with view_background_agent\n\n"
        )
    );
    let message = Mail { id: MailId("1-1".into()), content: MailContent::Message("hi".into()) };
    assert_eq!(announcement(&[message]), None);
}

#[test]
fn an_assignment_contains_the_task_and_the_expected_output() {
    assert_eq!(
        assignment("count", Some("a number")),
        "You are a member of a team of agents. Your goal is to complete the following task:\n\n<task>\ncount\n</task>\n\n<expected_output>\na number\n</expected_output>"
    );
    assert!(assignment("count", None).ends_with("<task>\ncount\n</task>"));
}
