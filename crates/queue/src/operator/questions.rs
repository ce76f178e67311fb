//! Questions that wait for a person: listing them, and answering them.

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::lifecycle::State;
use legwork_common::question::Answer;
use legwork_common::question::AskedQuestion;
use legwork_common::question::MAX_ANSWER_BYTES;
use legwork_common::service::WRONG_STATE;
use legwork_signing::AnswerTerms;
use serde::Serialize;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::AnswerOutcome;
use crate::port::Questions as _;
use crate::port::Watch as _;
use crate::stored::question::asked_text;
use crate::stored::question::encoded;

/// Jobs of each shard in a list of questions: more than a person answers in a sitting.
const MAX_ASKING: usize = 1000;

/// A question that waits for a person, and the job that asks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenQuestion {
    /// The job.
    pub id: JobId,
    /// Its session.
    pub session: SessionId,
    /// Its agent.
    pub agent: String,
    /// The question.
    #[serde(flatten)]
    pub asked: AskedQuestion,
}

/// What a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Approves a call, or answers a question with this text.
    Approve(Option<&'a str>),
    /// Denies a call, or declines to answer, with this reason.
    Deny(Option<&'a str>),
}

/// A question after it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnsweredQuestion {
    /// The job.
    pub id: JobId,
    /// The question, with the answer that counts.
    #[serde(flatten)]
    pub asked: AskedQuestion,
    /// Whether this answer was given before.
    pub was_answered: bool,
}

/// Why an answer does not count.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// The job is not stored.
    #[error("task not found: {0}")]
    NotFound(JobId),
    /// The job has ended, or is being stopped.
    #[error("task {id} waits for no answer (status: {status})")]
    NotAsking {
        /// The job.
        id: JobId,
        /// Its state.
        status: State,
    },
    /// The job has no question with this number.
    #[error("task {id} has asked no question {number}")]
    Unasked {
        /// The job.
        id: JobId,
        /// The number.
        number: u32,
    },
    /// The job waits for several answers, and none of its questions was named.
    #[error("task {id} waits for {} answers", open.len())]
    Several {
        /// The job.
        id: JobId,
        /// Its open questions.
        open: Vec<AskedQuestion>,
    },
    /// The question does not take this answer.
    #[error("{0}")]
    Unfit(String),
    /// Another answer came first, or the question expired.
    #[error("call {number} of task {id} was decided before: {answer}")]
    Decided {
        /// The job.
        id: JobId,
        /// The number of the question.
        number: u32,
        /// The answer that counts.
        answer: Answer,
    },
    /// Redis could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for AnswerError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::NotAsking { .. } | Self::Unasked { .. } => WRONG_STATE,
            Self::Several { .. } => "several_questions",
            Self::Unfit(_) => "usage",
            Self::Decided { .. } => "decided",
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::NotAsking { .. } | Self::Unasked { .. } | Self::Several { .. } | Self::Unfit(_) => {
                ExitStatus::Usage
            }
            Self::Decided { .. } => ExitStatus::Conflict,
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some(crate::operator::SEE_LIST.to_owned()),
            Self::NotAsking { .. } | Self::Unasked { .. } => {
                Some("`legwork approve` lists what waits for an answer".to_owned())
            }
            Self::Several { open, .. } => {
                let calls: Vec<String> = open.iter().map(|asked| format!("{}", asked.number)).collect();
                Some(format!("name one with --call: {}", calls.join(", ")))
            }
            Self::Unfit(_) | Self::Decided { .. } => None,
            Self::Queue(error) => error.hint(),
        }
    }
}

impl Operator {
    /// The questions that wait for a person, those of one session or all, the oldest first; of at most 1,000 jobs of
    /// each shard.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn open_questions(&self, session: Option<SessionId>) -> Result<Vec<OpenQuestion>, QueueError> {
        let ids = self.queue().asking(MAX_ASKING).await?.ids;
        let jobs = self.queue().outlines_in(&ids, session).await?;
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let questions = self.queue().open_questions(&ids).await?;
        let mut open: Vec<OpenQuestion> = Vec::new();
        for (job, asked) in jobs.into_iter().zip(questions) {
            open.extend(asked.into_iter().map(|asked| OpenQuestion {
                id: job.id,
                session: job.session,
                agent: job.agent.clone(),
                asked,
            }));
        }
        open.sort_by_key(|question| question.asked.asked_at);
        Ok(open)
    }

    /// Answers a question of a job: the one with this number, or its only open one. The answer is durable when this
    /// returns, and the job acts on it whatever becomes of its worker. The same answer again changes nothing.
    ///
    /// # Errors
    ///
    /// [`AnswerError`]; nothing has changed then, or Redis could not be asked.
    pub async fn answer(
        &self,
        id: JobId,
        number: Option<u32>,
        decision: Decision<'_>,
    ) -> Result<AnsweredQuestion, AnswerError> {
        let asked = self.question(id, number).await?;
        let answer = match decision {
            Decision::Approve(text) => asked.question.approved_with(text),
            Decision::Deny(Some(why)) if why.len() > MAX_ANSWER_BYTES => {
                Err(format!("a reason has at most {MAX_ANSWER_BYTES} bytes; this one has {}", why.len()))
            }
            Decision::Deny(why) => Ok(Answer::Denied { why: why.map(str::to_owned) }),
        };
        let number = asked.number;
        let answer = match (answer, &asked.answer) {
            (Ok(answer), _) => answer,
            // An answer that comes too late learns what was decided, whatever is wrong with it.
            (Err(_), Some(first)) => return Err(AnswerError::Decided { id, number, answer: first.clone() }),
            (Err(unfit), None) => return Err(AnswerError::Unfit(unfit)),
        };
        let seal = self.seal_of(id, &asked, &answer).await?;
        match self.queue().answer(id, number, &answer, seal.as_deref()).await? {
            AnswerOutcome::Recorded => Ok(AnsweredQuestion {
                id,
                asked: AskedQuestion { answer: Some(answer), ..asked },
                was_answered: false,
            }),
            AnswerOutcome::Already(first) if first == answer => Ok(AnsweredQuestion {
                id,
                asked: AskedQuestion { answer: Some(answer), ..asked },
                was_answered: true,
            }),
            AnswerOutcome::Already(answer) => Err(AnswerError::Decided { id, number, answer }),
            AnswerOutcome::NotRunning(status) => Err(AnswerError::NotAsking { id, status }),
            AnswerOutcome::Unasked => Err(AnswerError::Unasked { id, number }),
            AnswerOutcome::NotFound => Err(AnswerError::NotFound(id)),
        }
    }

    /// The seal of an answer; `None` without a key. What is sealed is the question as it was read here, which is what the person
    /// is told.
    async fn seal_of(
        &self,
        id: JobId,
        asked: &AskedQuestion,
        answer: &Answer,
    ) -> Result<Option<String>, QueueError> {
        let Some(key) = self.signing_key() else { return Ok(None) };
        let place = self.queue().place(id, asked.number).await?.unwrap_or_default();
        let (question, answer) = (asked_text(&asked.question), encoded(answer)?);
        let terms = AnswerTerms { job: id, place: &place, question: &question, answer: &answer };
        Ok(Some(key.seal_answer(&terms)))
    }

    /// The question that an answer is for. Without a number, a job whose questions all have answers is asked about the last
    /// of them, so that a second person learns what was decided.
    async fn question(&self, id: JobId, number: Option<u32>) -> Result<AskedQuestion, AnswerError> {
        let status = self.queue().states(&[id]).await?.pop().flatten().ok_or(AnswerError::NotFound(id))?;
        if status.is_terminal() {
            return Err(AnswerError::NotAsking { id, status });
        }
        if let Some(number) = number {
            let named = self.queue().question(id, Some(number)).await?;
            return named.ok_or(AnswerError::Unasked { id, number });
        }
        let mut open = self.queue().open_questions(&[id]).await?.pop().unwrap_or_default();
        match (open.len(), open.pop()) {
            (1, Some(only)) => Ok(only),
            (_, Some(last)) => {
                open.push(last);
                Err(AnswerError::Several { id, open })
            }
            (_, None) => {
                let last = self.queue().question(id, None).await?;
                last.ok_or(AnswerError::NotAsking { id, status })
            }
        }
    }
}
