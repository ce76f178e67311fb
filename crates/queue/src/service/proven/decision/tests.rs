//! Tests: texts that are proven or not, in every state.

use jiff::Timestamp;
use legwork_common::contract::PollCounter;
use legwork_common::contract::WaitAnswer;
use legwork_common::contract::announcement;
use legwork_common::contract::list;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::service::JobList;
use legwork_common::service::Mail;
use legwork_common::service::MailContent;
use legwork_common::service::MailId;
use legwork_common::service::WaitItem;
use legwork_common::team;
use legwork_common::waits_for::Postponed;

use super::*;

const FORGED: &str = "forged";

fn team() -> Team {
    let file = "agents: {root: {model: scripted/any, instruction: i}}";
    team::parse("team.yaml", file.as_bytes()).unwrap().team
}

/// A job of which every text is forged.
fn forged(status: State, waits_for: Option<WaitsFor>) -> JobView {
    let session = SessionId::random();
    let job = Job {
        status,
        agent: FORGED.to_owned(),
        task: FORGED.to_owned(),
        queue: FORGED.to_owned(),
        cause: Some(Cause::from_stored(FORGED)),
        error: Some(FORGED.to_owned()),
        result: Some(FORGED.to_owned()),
        key: Some(FORGED.to_owned()),
        waits_for,
        ..Job::queued(JobId::random_in(session), session)
    };
    let output = OutputSlice { offset: 7, bytes: FORGED.into(), total: 13 };
    JobView { job, output, truncated: true, since: None, cut: None, seal: Some(FORGED.to_owned()) }
}

fn reasons() -> Vec<Option<WaitsFor>> {
    let (queue, detail) = (FORGED.to_owned(), FORGED.to_owned());
    let asked = |question| AskedQuestion {
        number: 1,
        question,
        asked_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        answer: None,
    };
    let questions = vec![
        asked(Question::approval(FORGED, FORGED, FORGED)),
        asked(Question::Prompt { message: FORGED.to_owned(), title: Some(FORGED.to_owned()), schema: None }),
    ];
    vec![
        None,
        Some(WaitsFor::NoWorker { queue: queue.clone(), draining: 0, session_lane: false }),
        Some(WaitsFor::Turn { queue, workers: 1, slots: 1, used: 1, queued: 1 }),
        Some(WaitsFor::Schedule { at: None, why: Postponed::Retry, detail: Some(detail.clone()) }),
        Some(WaitsFor::Answer { questions }),
        Some(WaitsFor::Stalled { detail }),
    ]
}

/// Everything that a model is told of a job.
fn told(view: &JobView) -> String {
    let jobs = vec![view.job.clone()];
    let mail = Mail { id: MailId("1-0".into()), content: MailContent::Ended(Box::new(view.clone())) };
    let items = [WaitItem::Found(Box::new(view.clone()))];
    [
        contract::view(view, PollCounter::default().count(view)),
        list(&JobList { jobs, more_queued: 0, more_ended: 0 }),
        announcement(&[mail]).unwrap(),
        WaitAnswer::new(&items, false).text(),
        format!("{:?}", view.job),
    ]
    .join("\n")
}

#[test]
fn no_stored_text_of_a_job_without_a_proof_is_told() {
    for status in State::ALL {
        for waits_for in reasons() {
            for since in [None, Some(0)] {
                let view = JobView { since, ..forged(status, waits_for.clone()) };
                assert!(told(&view).contains(FORGED), "{status}");
                let shown = told(&unproven(&view, Some(&team())));
                assert!(!shown.contains(FORGED), "{status}: {shown}");
                assert_eq!(
                    sealed_text(&view.job).is_some(),
                    matches!(status, State::Completed | State::Failed)
                );
            }
        }
    }
}

#[test]
fn state_cause_and_the_agents_of_the_team_are_told() {
    let mut view = forged(State::Failed, None);
    view.job.agent = "root".to_owned();
    view.job.cause = Some(Cause::WorkerLost);
    let shown = unproven(&view, Some(&team()));
    assert_eq!(
        contract::view(&shown, None).split_once("Agent:").unwrap().1,
        "   root\nStatus:  failed\nRuntime: 0s\n\n--- Output ---\n<task failed>\nError: [The error of this task is \
         withheld: no trusted worker signed it. Its cause: worker_lost.]"
    );
    assert_eq!(unproven(&view, None).job.agent, NO_AGENT);
    view.job.status = State::Stopped;
    view.job.cause = Some(Cause::Operator);
    let shown = unproven(&view, Some(&team()));
    assert_eq!(contract::view_body(&shown), format!("<task was stopped>\n\n{}", contract::OUTPUT_WITHHELD));
    assert_eq!(shown.job.cause, Some(Cause::Operator));
    view.job.status = State::Running;
    let mut polls = PollCounter::default();
    let shown = unproven(&view, Some(&team()));
    assert_eq!(contract::view_body(&shown), format!("{}\n\n[still running...]", contract::OUTPUT_WITHHELD));
    // Whether there is more output is told.
    assert_eq!((polls.count(&shown), polls.count(&shown)), (None, Some(2)));
    view.output.total += 1;
    assert_eq!(polls.count(&unproven(&view, Some(&team()))), None);
}

#[test]
fn a_proven_text_is_told_whole_and_nothing_else_is() {
    for (status, text) in
        [(State::Completed, "42 files"), (State::Failed, "it broke"), (State::Completed, "")]
    {
        let view = forged(status, None);
        let shown = proven(&view, text.to_owned(), Some(4096), Some(&team()));
        let told = told(&shown);
        assert!(told.contains(text) && !told.contains(FORGED), "{told}");
        assert_eq!(told.contains(contract::OUTPUT_WITHHELD), status == State::Failed, "{told}");
    }
    let empty = proven(&forged(State::Completed, None), String::new(), None, None);
    assert_eq!(contract::view_body(&empty), "<no output>");
}

#[test]
fn a_long_proven_result_is_read_on_in_itself() {
    let text = format!("ä{}", "wörter ".repeat(9_000));
    let view = forged(State::Completed, None);
    let first = contract::bounded_body(&proven(&view, text.clone(), None, None));
    let (mut read, note) = first.rsplit_once("\n\n").map(|(text, note)| (text.to_owned(), note)).unwrap();
    assert!(note.ends_with(&format!("read on with since={}]", read.len())), "{note}");
    while read.len() < text.len() {
        let next = JobView { since: Some(read.len() as u64), ..view.clone() };
        let page = contract::bounded_body(&proven(&next, text.clone(), None, None));
        read.push_str(page.rsplit_once("\n\n").unwrap().0);
    }
    assert_eq!(read, text);
    let beyond = JobView { since: Some(u64::MAX), ..view.clone() };
    let beyond = contract::bounded_body(&proven(&beyond, text.clone(), None, None));
    assert_eq!(beyond, format!("\n\n[end of output at byte {}]", text.len()));

    // What a wait answers is the same, whether it holds all of the text or its ends.
    let answer = |excerpt| {
        let shown = proven(&view, text.clone(), excerpt, None);
        (shown.cut.is_some(), WaitAnswer::new(&[WaitItem::Found(Box::new(shown))], false))
    };
    let ((is_cut, part), (_, whole)) = (answer(Some(4_160)), answer(None));
    assert!(is_cut);
    assert_eq!(part, whole);
    assert_eq!(part.tasks[0].output_offset, Some(0));
}
