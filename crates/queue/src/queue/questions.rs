//! Questions of jobs to people, on Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::question::Answer;
use legwork_common::question::AskedQuestion;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::stored::QUESTION;
use redis::Pipeline;

use crate::answer::Answer as Reply;
use crate::error::QueueError;
use crate::port::AnswerOutcome;
use crate::port::Asked;
use crate::port::Asking;
use crate::port::Lease;
use crate::port::Questions;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// What these reads are called in messages.
const ASKED: &str = "read questions";

#[async_trait]
impl Questions for Queue {
    async fn ask(
        &self,
        lease: Lease,
        call: CallIndex,
        question: &Question,
        expiry: Duration,
    ) -> Result<Asked, QueueError> {
        let CallIndex { turn, index } = call;
        // A call that asks the user may itself need an approval first.
        let place = match question {
            Question::Approval { .. } => format!("{turn}.{index}"),
            Question::Prompt { .. } => format!("{turn}.{index}:prompt"),
        };
        let call = Call::on(self.keys.job_tag(lease.id))
            .key(self.keys.job(lease.id))
            .arg(lease.id.uuid())
            .arg(lease.token)
            .arg(place)
            .arg(encoded(question)?)
            .arg(expiry.as_millis());
        let (word, mut rest) = step::ASK.call(&self.link, &call).await?.tagged()?;
        match word.as_str() {
            "open" => {
                let number = rest.item()?.parse()?;
                let expires_in = Duration::from_millis(rest.item()?.parse()?);
                Ok(Asked::Open { number, expires_in })
            }
            "answered" => Ok(Asked::Answered(QUESTION.from_json(&rest.item()?.text()?)?)),
            "stopping" => Ok(Asked::Stopping),
            "lost" => Ok(Asked::Lost),
            _ => Err(word.unknown()),
        }
    }

    async fn decided(&self, id: JobId, number: u32) -> Result<Option<Answer>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.questions(id)).arg(format!("answer:{number}"));
        let text = self.link.ask(ASKED, &command).await?.optional_text()?;
        Ok(text.map(|text| QUESTION.from_json(&text)).transpose()?)
    }

    async fn answer(&self, id: JobId, number: u32, answer: &Answer) -> Result<AnswerOutcome, QueueError> {
        let call = Call::on(self.keys.job_tag(id))
            .key(self.keys.job(id))
            .arg(id.uuid())
            .arg(number)
            .arg(encoded(answer)?);
        let (word, mut rest) = step::ANSWER.call(&self.link, &call).await?.tagged()?;
        match word.as_str() {
            "recorded" => Ok(AnswerOutcome::Recorded),
            "answered" => Ok(AnswerOutcome::Already(QUESTION.from_json(&rest.item()?.text()?)?)),
            "state" => Ok(AnswerOutcome::NotRunning(rest.item()?.parse()?)),
            "unasked" => Ok(AnswerOutcome::Unasked),
            "missing" => Ok(AnswerOutcome::NotFound),
            _ => Err(word.unknown()),
        }
    }

    async fn questions(&self, ids: &[JobId]) -> Result<Vec<Vec<AskedQuestion>>, QueueError> {
        let mut pipeline = redis::pipe();
        for id in ids {
            self.push_questions(&mut pipeline, *id);
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.link.ask_all(ASKED, &pipeline).await?.map(read_questions).collect()
    }

    async fn asking(&self, most: usize) -> Result<Asking, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            let key = self.keys.asking(shard);
            pipeline.cmd("ZCARD").arg(&key);
            pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(most.saturating_sub(1)).arg("WITHSCORES");
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let mut asking = Asking::default();
        for _ in 0..self.keys.shards() {
            asking.total += answers.item()?.parse::<u64>()?;
            // Pairs, as RESP3 answers them.
            for pair in answers.item()?.items()? {
                let mut pair = pair.items()?;
                asking.ids.push(pair.item()?.parse()?);
                // A score of milliseconds is whole and far below what a double holds exactly.
                let since = pair.item()?.parse::<f64>()? as u64;
                asking.since = Some(asking.since.map_or(since, |first| first.min(since)));
            }
        }
        Ok(asking)
    }
}

impl Queue {
    /// Adds the read of one job's questions.
    pub(super) fn push_questions(&self, pipeline: &mut Pipeline, id: JobId) {
        pipeline.cmd("HGETALL").arg(self.keys.questions(id));
    }
}

/// A question or an answer as it is stored.
fn encoded<T: serde::Serialize>(value: &T) -> Result<String, QueueError> {
    let unexpected =
        |error: serde_json::Error| QueueError::Unexpected { step: ASKED, detail: error.to_string() };
    QUESTION.to_json(value).map_err(unexpected)
}

/// Reads the answer to [`Queue::push_questions`].
pub(super) fn read_questions(reply: Reply) -> Result<Vec<AskedQuestion>, QueueError> {
    let mut asked: BTreeMap<u32, AskedQuestion> = BTreeMap::new();
    let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
    for (field, value) in reply.pairs()? {
        let text = value.text()?;
        match field.split_once(':').map(|(kind, number)| (kind, number.parse::<u32>())) {
            Some(("question", Ok(number))) => {
                asked.extend(question(number, &text).map(|question| (number, question)));
            }
            Some(("answer", Ok(number))) => {
                answers.extend(QUESTION.from_json(&text).ok().map(|answer| (number, answer)));
            }
            _ => {}
        }
    }
    Ok(asked
        .into_iter()
        .map(|(number, question)| AskedQuestion { answer: answers.remove(&number), ..question })
        .collect())
}

/// A stored question: when it was asked, when it expires, and its JSON.
fn question(number: u32, text: &str) -> Option<AskedQuestion> {
    let mut words = text.splitn(3, ' ');
    let mut time = || words.next()?.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let (asked_at, expires_at) = (time()?, time());
    let question = QUESTION.from_json(words.next()?).ok()?;
    Some(AskedQuestion { number, question, asked_at, expires_at, answer: None })
}
