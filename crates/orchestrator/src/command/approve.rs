//! `legwork approve` and `legwork deny`: what waits for a person, and the answers.

use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_common::question::Answer;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::AnsweredQuestion;
use legwork_queue::operator::Decision;
use legwork_queue::operator::OpenQuestion;

use crate::cli::ApproveArgs;
use crate::cli::DenyArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::context::WhileAway;
use crate::failure::Failure;
use crate::render;
use crate::render::table;
use crate::render::table::Column;

const COLUMNS: [Column; 5] = [
    Column::whole("ID"),
    Column::whole("CALL"),
    Column::cut("AGENT"),
    Column::whole("WAITED"),
    Column::cut("QUESTION"),
];

/// Approves a call or answers a question; without an id lists what waits.
pub(super) async fn approve(context: Context, args: ApproveArgs) -> Result<ExitStatus, Failure> {
    // The list needs no key.
    let connection = match &args.id {
        None => context.connect(ConnectionKind::Pooled).await?,
        Some(_) => context.connect_to_sign(ConnectionKind::Pooled, WhileAway::Fail).await?,
    };
    let done = match &args.id {
        None => list(&context, &connection).await,
        Some(id) => {
            let decision = Decision::Approve(args.answer.as_deref());
            answer(&context, &connection, id, args.call, decision).await
        }
    };
    connection.leave().await?;
    done.map(|()| ExitStatus::Success)
}

/// Denies a call, or declines to answer.
pub(super) async fn deny(context: Context, args: DenyArgs) -> Result<ExitStatus, Failure> {
    let why = args.why.join(" ");
    let decision = Decision::Deny(Some(why.trim()).filter(|why| !why.is_empty()));
    let connection = context.connect_to_sign(ConnectionKind::Pooled, WhileAway::Fail).await?;
    let done = answer(&context, &connection, &args.id, args.call, decision).await;
    connection.leave().await?;
    done.map(|()| ExitStatus::Success)
}

async fn answer(
    context: &Context,
    connection: &Connection,
    id: &str,
    call: Option<u32>,
    decision: Decision<'_>,
) -> Result<(), Failure> {
    let id = connection.operator.find(id).await?;
    let answered = connection.operator.answer(id, call, decision).await?;
    if context.output.json {
        return context.output.object(&answered);
    }
    context.output.line(&context.output.harmless(&sentence(&answered)))
}

/// What was decided, as a line.
fn sentence(answered: &AnsweredQuestion) -> String {
    let AnsweredQuestion { id, asked, was_answered } = answered;
    let what = match &asked.answer {
        Some(Answer::Approved) => "approved",
        Some(Answer::Answered { .. }) => "answered",
        Some(Answer::Denied { .. }) => "denied",
        Some(Answer::Expired) | None => "expired",
    };
    let before = if *was_answered { " before" } else { "" };
    format!("{what}{before}: call {} of {id}: {}", asked.number, one_line(&asked.question.text()))
}

async fn list(context: &Context, connection: &Connection) -> Result<(), Failure> {
    let open = connection.operator.open_questions(None).await?;
    if context.output.json {
        return open.iter().try_for_each(|question| context.output.object(question));
    }
    context.output.text(&context.output.harmless(&text(&open, Timestamp::now(), context.output.width)))
}

/// The questions as a table, the oldest first, and how to answer.
fn text(open: &[OpenQuestion], now: Timestamp, width: Option<usize>) -> String {
    if open.is_empty() {
        return "nothing waits for a person\n".to_owned();
    }
    let rows: Vec<Vec<String>> = open.iter().map(|question| row(question, now)).collect();
    format!(
        "{}\n`legwork view ID` shows it; `legwork approve ID` or `deny ID WHY` answers\n",
        table::text(&COLUMNS, &rows, width)
    )
}

fn row(question: &OpenQuestion, now: Timestamp) -> Vec<String> {
    let asked = &question.asked;
    vec![
        question.id.uuid().to_string().chars().take(8).collect(),
        asked.number.to_string(),
        question.agent.clone(),
        duration::age(render::since(asked.asked_at, now)),
        one_line(&asked.question.text()),
    ]
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use legwork_common::question::AskedQuestion;
    use legwork_common::question::Question;
    use serde_json::json;

    use super::*;

    fn open(number: u32, seconds: i64, question: Question) -> OpenQuestion {
        OpenQuestion {
            id: "agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap(),
            session: "00000000-0000-4000-8000-00000000abcd".parse().unwrap(),
            agent: "deployer".to_owned(),
            asked: AskedQuestion {
                number,
                question,
                asked_at: Timestamp::from_second(seconds).unwrap(),
                expires_at: Timestamp::from_second(seconds + 3600).ok(),
                answer: None,
            },
        }
    }

    #[test]
    fn what_waits_for_a_person_is_a_table() {
        let call = Question::approval(
            "shell",
            r#"{"cmd":"kubectl rollout restart deployment/api -n production"}"#,
            "",
        );
        let prompt = Question::Prompt {
            message: "Which region\nfirst?".to_owned(),
            title: Some("Rollout".to_owned()),
            schema: Some(json!({"enum": ["eu", "us"]})),
        };
        let all = [open(1, 0, call), open(2, 3000, prompt)];
        let now = Timestamp::from_second(7200).unwrap();
        insta::assert_snapshot!(text(&all, now, Some(80)));
        insta::assert_json_snapshot!(all[1]);
        assert_eq!(text(&[], now, Some(80)), "nothing waits for a person\n");
    }

    #[test]
    fn an_answer_is_repeated_to_its_giver() {
        let call = open(1, 0, Question::approval("shell", r#"{"cmd":"ls"}"#, ""));
        let answered = |answer, was_answered| AnsweredQuestion {
            id: call.id,
            asked: AskedQuestion { answer: Some(answer), ..call.asked.clone() },
            was_answered,
        };
        let lines = [
            sentence(&answered(Answer::Approved, false)),
            sentence(&answered(Answer::Denied { why: Some("no".to_owned()) }, true)),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }
}
