//! Questions and answers as they are stored and sealed.

use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::stored::QUESTION;
use serde_json::json;

use crate::error::QueueError;

/// The field behind a stored question: the place of its call.
pub(crate) const PLACE: &str = "at";
/// The field behind a stored answer.
pub(crate) const SEAL: &str = "seal";

/// The place of a call among the questions of its job. A call that asks the user may itself need an approval first.
pub(crate) fn place_of(CallIndex { turn, index }: CallIndex, question: &Question) -> String {
    match question {
        Question::Approval { .. } => format!("{turn}.{index}"),
        Question::Prompt { .. } => format!("{turn}.{index}:prompt"),
    }
}

/// A place in the characters of a seal.
pub(crate) fn sealed_place(place: &str) -> String {
    place.replace(':', "-")
}

/// What is sealed of an answer, as texts: the place of the call, the question and the answer.
///
/// # Errors
///
/// The answer has no JSON.
pub(crate) fn sealed_texts(
    call: CallIndex,
    question: &Question,
    answer: &Answer,
) -> Result<[String; 3], QueueError> {
    Ok([sealed_place(&place_of(call, question)), asked_text(question), encoded(answer)?])
}

/// What is asked, as both who answers and who acts on it read it; why it is asked may differ after a crash.
pub(crate) fn asked_text(question: &Question) -> String {
    match question {
        Question::Approval { tool, arguments, why: _ } => json!(["approval", tool, arguments]).to_string(),
        Question::Prompt { message, title, schema } => json!(["prompt", message, title, schema]).to_string(),
    }
}

/// A question or an answer as it is stored.
pub(crate) fn encoded<T: serde::Serialize>(value: &T) -> Result<String, QueueError> {
    let unexpected =
        |error: serde_json::Error| QueueError::Unexpected { step: "questions", detail: error.to_string() };
    QUESTION.to_json(value).map_err(unexpected)
}
