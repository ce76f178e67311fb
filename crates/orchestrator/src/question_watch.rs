//! The questions of a run's jobs, asked on its terminal: `ask` of the policy or of `--approvals`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use legwork_common::id::SessionId;
use legwork_common::question::Answer;
use legwork_queue::Operator;
use legwork_queue::operator::AnswerError;
use legwork_queue::operator::Decision;
use legwork_queue::operator::OpenQuestion;
use tokio_util::sync::CancellationToken;

use crate::panel::Screen;
use crate::terminal::Terminal;

/// Poll interval for questions: a person hardly notices a second, and one read a second costs little.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Asks a person at this terminal what the jobs of a session ask, one question after the other, until `over`. An answer
/// that was given elsewhere before counts instead. Dropping the future leaves the questions open.
pub async fn ask_on_terminal(
    operator: Operator,
    session: SessionId,
    terminal: Arc<Terminal>,
    screen: Arc<Screen>,
    over: CancellationToken,
) {
    let mut asked: HashSet<(String, u32)> = HashSet::new();
    while over.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
        let open = match operator.open_questions(Some(session)).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "could not read what the jobs ask");
                continue;
            }
        };
        let next = open.into_iter().find(|one| !asked.contains(&(one.id.to_string(), one.asked.number)));
        let Some(question) = next else { continue };
        let asking = ask(&operator, &terminal, &screen, &question);
        if over.run_until_cancelled(asking).await.is_none() {
            return;
        }
        asked.insert((question.id.to_string(), question.asked.number));
    }
}

async fn ask(operator: &Operator, terminal: &Terminal, screen: &Screen, question: &OpenQuestion) {
    let OpenQuestion { id, agent, asked, .. } = question;
    let answer = terminal.answer(&format!("{agent} ({id})"), &asked.question).await;
    let text;
    let decision = match &answer {
        Answer::Approved => Decision::Approve(None),
        Answer::Answered { content } => {
            text = content_text(content);
            Decision::Approve(Some(&text))
        }
        Answer::Denied { why } => Decision::Deny(why.as_deref()),
        Answer::Expired => return,
    };
    match operator.answer(*id, Some(asked.number), decision).await {
        Ok(_) => {}
        Err(AnswerError::Decided { answer, .. }) => screen.note(&format!("decided before: {answer}")),
        Err(error) => screen.note(&format!("the answer was not recorded: {error}")),
    }
}

/// The answer as it was typed: the only value of its content, or the whole of it.
fn content_text(content: &serde_json::Value) -> String {
    let only =
        content.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.values().next());
    match only {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => content.to_string(),
    }
}
