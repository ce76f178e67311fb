//! Compares the texts character by character.

use jiff::Timestamp;

use super::*;
use crate::id::SessionId;
use crate::job::Cause;
use crate::service::CutText;
use crate::service::Mail;
use crate::service::MailContent;
use crate::service::MailId;
use crate::service::OutputSlice;
use crate::service::WaitItem;
use crate::service::WaitMode;
use crate::waits_for::Postponed;

fn job(status: State) -> Job {
    let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
    Job {
        agent: "code_analyst".into(),
        task: "count".into(),
        status,
        cause: (status == State::Failed).then_some(Cause::AgentError),
        error: (status == State::Failed).then(|| "it broke".into()),
        attempt: 1,
        runtime_ms: 65_400,
        ..Job::queued("agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap(), session)
    }
}

fn viewed(status: State, output: &str) -> JobView {
    JobView {
        job: job(status),
        output: OutputSlice { offset: 0, bytes: output.into(), total: output.len() as u64 },
        truncated: false,
        since: None,
        cut: None,
        seal: None,
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
    let queue = || "default".to_owned();
    queued.job.waits_for =
        Some(WaitsFor::SessionCap { queue: queue(), cap: 10, admitted: 10, ahead: 12, held_by: Vec::new() });
    assert_eq!(view_body(&queued), "<queued> behind 12 of this session");
    queued.job.waits_for = Some(WaitsFor::NoWorker { queue: queue(), draining: 0, session_lane: false });
    assert_eq!(view_body(&queued), "<queued> no worker serves queue default");
    queued.job.waits_for = Some(WaitsFor::Turn { queue: queue(), workers: 1, slots: 1, used: 1, queued: 3 });
    assert_eq!(view_body(&queued), "<queued> next");
    let mut scheduled = viewed(State::Scheduled, "");
    scheduled.job.waits_for =
        Some(WaitsFor::Schedule { at: Some(Timestamp::UNIX_EPOCH), why: Postponed::Delay, detail: None });
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
        view(&viewed(State::Running, "half"), None),
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

/// A completed job whose output is `before` and then its result.
fn completed_after(before: &str, result: &str) -> JobView {
    let output = format!("{before}{result}\n");
    let from = output.len() - tail(&output, MAX_VIEW_BYTES).len();
    let mut view = viewed(State::Completed, "");
    view.output = OutputSlice {
        offset: from as u64,
        bytes: output.as_bytes()[from..].to_vec(),
        total: output.len() as u64,
    };
    view.job.result = Some(result.to_owned());
    view
}

#[test]
fn a_long_result_is_cut_in_a_view_with_the_offset_to_read_on_from() {
    let long = "x".repeat(900_118);
    let body = bounded_body(&completed_after("before ", &long));
    let (shown, rest) = body.split_once("\n\n").unwrap();
    assert_eq!(shown.len(), 16 * 1024);
    assert_eq!(rest, "[output truncated: 7–16391 of 900126 bytes; read on with since=16391]");
    assert_eq!(view_body(&completed_after("", &long)), long);

    let exact = "x".repeat(16 * 1024);
    assert_eq!(bounded_body(&completed_after("", &exact)), exact);
    let wide = "é".repeat(9_000);
    let body = bounded_body(&completed_after("", &format!("a{wide}")));
    assert!(
        body.ends_with("0–16383 of 18002 bytes; read on with since=16383]"),
        "{}",
        &body[body.len() - 90..]
    );

    let mut capped = completed_after("", &long);
    capped.output.bytes = b"something else".to_vec();
    let body = bounded_body(&capped);
    assert!(
        body.ends_with("[output truncated: 0–16384 of 900118 bytes; read the whole output with since=0]")
    );
}

/// The same job as a wait reads it: the beginning and the end of its result, and less of its output.
fn read_in_part(view: &JobView) -> JobView {
    const READ: usize = MAX_WAIT_BYTES + 64;
    let text = view.job.result.as_deref().unwrap_or_default();
    let mut part = view.clone();
    part.job.result = Some(head(text, READ).to_owned());
    let skipped = view.output.bytes.len().saturating_sub(MAX_WAIT_BYTES);
    part.output.bytes.drain(..skipped);
    part.output.offset += skipped as u64;
    part.cut = Some(CutText { bytes: text.len() as u64, tail: tail(text, MAX_WAIT_BYTES).to_owned() });
    part
}

#[test]
fn a_result_that_was_read_in_part_is_answered_as_if_it_was_whole() {
    for result in ["x".repeat(900_118), format!(" \n {}é\n", "long ".repeat(2_000))] {
        for before in ["", "before "] {
            let whole = completed_after(before, &result);
            let part = read_in_part(&whole);
            let answers = [&whole, &part].map(|view| {
                let items = [WaitItem::Found(Box::new(view.clone()))];
                WaitAnswer::new(&items, false)
            });
            assert_eq!(answers[0], answers[1]);
            assert!(answers[1].tasks[0].truncated && answers[1].tasks[0].output_offset.is_some());
            let announced = [whole, part].map(|view| {
                announcement(&[Mail { id: MailId("1".into()), content: MailContent::Ended(Box::new(view)) }])
            });
            assert_eq!(announced[0], announced[1]);
        }
    }
    let mut failed = viewed(State::Failed, "half");
    failed.job.error = Some("e".repeat(MAX_WAIT_BYTES));
    failed.cut = Some(CutText { bytes: 1_000_000, tail: "e".repeat(100) });
    let answer = WaitAnswer::new(&[WaitItem::Found(Box::new(failed))], false);
    assert!(answer.tasks[0].truncated, "{answer:?}");
}

#[test]
fn errors_and_partial_output_share_the_bound_of_a_view() {
    let mut failed = viewed(State::Failed, &"o".repeat(16 * 1024));
    failed.job.error = Some("e".repeat(1_000_000));
    let body = bounded_body(&failed);
    assert!(body.len() < 16 * 1024 + 100, "{}", body.len());
    let offset = "<task failed>\nError: ".len() + 4096;
    assert!(
        body.contains(&format!("e\n\n[output from byte {offset} of 16384]\noo")),
        "{}",
        &body[4000..4300]
    );
}

#[test]
fn the_answer_of_a_wait_is_the_contracts_object() {
    let mut done = viewed(State::Completed, "");
    done.job.result = Some(" 42 \n".into());
    let found = |view: JobView| WaitItem::Found(Box::new(view));
    let items =
        [found(done.clone()), found(viewed(State::Failed, "half")), found(viewed(State::Reaping, ""))];
    let id = done.job.id;
    let answer = WaitAnswer::new(&items, true);
    assert_eq!(
        answer.text(),
        format!(
            r#"{{"all_done":false,"timed_out":true,"tasks":[{{"task_id":"{id}","status":"completed","done":true,"output":"42"}},{{"task_id":"{id}","status":"failed","done":true,"output":"half","error":"it broke","cause":"agent_error"}},{{"task_id":"{id}","status":"running","done":false}}]}}"#
        )
    );
    assert!(!answer.is_error());
    let unknown = WaitAnswer::new(&[found(done.clone()), WaitItem::NotFound("x".into())], false);
    assert_eq!(
        unknown.text(),
        format!(
            r#"{{"all_done":false,"tasks":[{{"task_id":"{id}","status":"completed","done":true,"output":"42"}},{{"task_id":"x","status":"not_found","done":false,"error":"Task not found; it may have been pruned."}}]}}"#
        )
    );
    assert!(unknown.is_error());
    assert!(WaitAnswer::new(&[found(done)], false).all_done);
}

#[test]
fn a_wait_shows_at_most_four_kilobytes_of_each_task() {
    let long = format!("a{}", "é".repeat(400_000));
    let mut failed = viewed(State::Failed, "");
    failed.job.error = Some(long.clone());
    let mut running = viewed(State::Running, "");
    running.output =
        OutputSlice { offset: 100_000, bytes: long.as_bytes()[..5_001].to_vec(), total: 105_001 };
    let items =
        [completed_after("before ", &long), failed, running].map(|view| WaitItem::Found(Box::new(view)));
    let [result, error, tail] = <[WaitedTask; 3]>::try_from(WaitAnswer::new(&items, false).tasks).unwrap();
    assert_eq!((result.output.len(), result.truncated), (4095, true));
    assert!(result.output.starts_with("aé"));
    assert_eq!((result.output_offset, result.output_bytes), (Some(7), Some(800_008)));
    assert_eq!((error.error.len(), error.truncated, error.output_bytes), (4095, true, None));
    assert_eq!((tail.output.len(), tail.truncated), (4096, true));
    assert_eq!((tail.output_offset, tail.output_bytes), (Some(100_905), Some(105_001)));
}

#[test]
fn the_arguments_of_a_wait_are_checked() {
    let ids = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let count = "task_ids must contain 1 to 100 distinct task IDs";
    let timeout = "timeout must be between 0 and 3600 seconds";
    let table = [
        (ids(&[]), None, count),
        (many.clone(), None, count),
        (ids(&["a", " "]), None, "task IDs must not be empty"),
        (ids(&["a", "b", "a"]), Some(-1.0), "duplicate task ID: a"),
        (ids(&["a"]), Some(-1.0), timeout),
        (ids(&["a"]), Some(3600.5), timeout),
        (ids(&["a"]), Some(f64::NAN), timeout),
    ];
    for (ids, seconds, expected) in table {
        assert_eq!(wait_timeout(&ids, seconds), Err(expected.to_owned()));
    }
    for (seconds, expected) in [(None, 300.0), (Some(0.0), 300.0), (Some(1.5), 1.5), (Some(3600.0), 3600.0)] {
        assert_eq!(wait_timeout(&many[1..], seconds).map(|timeout| timeout.as_secs_f64()), Ok(expected));
    }
}

#[test]
fn an_announcement_of_many_jobs_is_bounded_and_counts_the_rest() {
    let mail: Vec<Mail> = (0..400)
        .map(|number| {
            let mut view = viewed(if number % 2 == 0 { State::Completed } else { State::Failed }, "");
            view.job.result = Some("r".repeat(4_000));
            Mail { id: MailId(format!("{number}-0")), content: MailContent::Ended(Box::new(view)) }
        })
        .collect();
    let text = announcement(&mail).unwrap();
    assert!(text.len() <= MAX_ANNOUNCEMENT_BYTES, "{}", text.len());
    let shown = text.matches("ID: ").count();
    assert!(shown > 20, "{shown}");
    assert!(text.contains(&format!("\n\nAnd {} more: ", 400 - shown)), "{}", &text[text.len() - 300..]);
}

#[test]
fn messages_beyond_their_bound_are_refused() {
    assert_eq!(message_refusal(&"x".repeat(16 * 1024)), None);
    assert_eq!(message_refusal(" ").unwrap(), "message must not be empty");
    let refusal = message_refusal(&"x".repeat(16 * 1024 + 1)).unwrap();
    assert_eq!(refusal, "message must not exceed 16384 bytes; it has 16385");
}

#[test]
fn views_that_show_nothing_new_are_counted() {
    let mut polls = PollCounter::default();
    let running = viewed(State::Running, "half");
    assert_eq!(
        [polls.count(&running), polls.count(&running), polls.count(&running)],
        [None, Some(2), Some(3)]
    );
    assert!(
        view(&running, Some(3)).ends_with("[still running...]\n\n[No new output since last check — poll #3]")
    );
    let more = viewed(State::Running, "half more");
    assert_eq!([polls.count(&more), polls.count(&more)], [None, Some(2)]);
    let done = viewed(State::Completed, "half more");
    assert_eq!([polls.count(&done), polls.count(&done)], [None, None]);
}

#[test]
fn an_unknown_id_neither_ends_nor_blocks_a_wait() {
    let unknown = || WaitItem::NotFound("x".into());
    let found = |status| WaitItem::Found(Box::new(viewed(status, "")));
    for (items, all, any) in [
        (vec![unknown()], true, true),
        (vec![unknown(), found(State::Running)], false, false),
        (vec![unknown(), found(State::Running), found(State::Stopped)], false, true),
        (vec![unknown(), found(State::Completed)], true, true),
    ] {
        assert_eq!((WaitMode::All.is_over(&items), WaitMode::Any.is_over(&items)), (all, any), "{items:?}");
    }
}
