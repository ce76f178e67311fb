//! Questions of jobs to people, on Redis.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::question::Answer;
use legwork_common::question::AskedQuestion;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::stored::QUESTION;
use legwork_signing::field;
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
use crate::stored::question::PLACE;
use crate::stored::question::SEAL;
use crate::stored::question::encoded;
use crate::stored::question::place_of;
use crate::stored::question::sealed_place;

/// What these reads are called in messages.
const ASKED: &str = "read questions";
/// Open questions of one job that are read: a reply of a model has a few calls, each of which asks at most twice.
const MAX_OPEN: u32 = 100;

/// Numbers of questions of one job.
pub(super) type Numbers = RangeInclusive<u32>;

#[async_trait]
impl Questions for Queue {
    async fn ask(
        &self,
        lease: Lease,
        call: CallIndex,
        question: &Question,
        expiry: Duration,
    ) -> Result<Asked, QueueError> {
        let place = place_of(call, question);
        let stored = field::append(&encoded(question)?, PLACE, &sealed_place(&place));
        let call = Call::on(self.keys.job_tag(lease.id))
            .key(self.keys.job(lease.id))
            .arg(lease.id.uuid())
            .arg(lease.token)
            .arg(place)
            .arg(stored)
            .arg(expiry.as_millis());
        let (word, mut rest) = step::ASK.call(&self.link, &call).await?.tagged()?;
        match word.as_str() {
            "open" => {
                let number = rest.item()?.parse()?;
                let expires_in = Duration::from_millis(rest.item()?.parse()?);
                Ok(Asked::Open { number, expires_in })
            }
            "answered" => {
                let text = rest.item()?.text()?;
                let seal = field::split(&text, SEAL).map(|(_, seal)| seal.to_owned());
                Ok(Asked::Answered(QUESTION.from_json(&text)?, seal))
            }
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

    async fn place(&self, id: JobId, number: u32) -> Result<Option<String>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.questions(id)).arg(format!("question:{number}"));
        let text = self.link.ask(ASKED, &command).await?.optional_text()?;
        Ok(text.as_deref().and_then(|text| field::split(text, PLACE)).map(|(_, place)| place.to_owned()))
    }

    async fn answer(
        &self,
        id: JobId,
        number: u32,
        answer: &Answer,
        seal: Option<&str>,
    ) -> Result<AnswerOutcome, QueueError> {
        let mut answer = encoded(answer)?;
        if let Some(seal) = seal {
            answer = field::append(&answer, SEAL, seal);
        }
        let call =
            Call::on(self.keys.job_tag(id)).key(self.keys.job(id)).arg(id.uuid()).arg(number).arg(answer);
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

    async fn open_questions(&self, ids: &[JobId]) -> Result<Vec<Vec<AskedQuestion>>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for id in ids {
            self.push_numbers(&mut pipeline, *id);
        }
        let numbers: Vec<Numbers> =
            self.link.ask_all(ASKED, &pipeline).await?.map(read_numbers).collect::<Result<_, _>>()?;
        self.open_among(&ids.iter().copied().zip(numbers).collect::<Vec<_>>()).await
    }

    async fn question(&self, id: JobId, number: Option<u32>) -> Result<Option<AskedQuestion>, QueueError> {
        let number = match number {
            Some(number) => number,
            None => self.asked(id).await?,
        };
        let mut pipeline = redis::pipe();
        self.push_questions(&mut pipeline, id, number..=number);
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        Ok(read_questions(number..=number, answers.item()?)?.pop())
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
    /// Adds the read of the numbers among which the open questions of a job are.
    pub(super) fn push_numbers(&self, pipeline: &mut Pipeline, id: JobId) {
        pipeline.cmd("HMGET").arg(self.keys.questions(id)).arg(&["first_open", "asked"]);
    }

    /// The open questions of each job among those with these numbers: one round trip, or none without numbers.
    pub(super) async fn open_among(
        &self,
        jobs: &[(JobId, Numbers)],
    ) -> Result<Vec<Vec<AskedQuestion>>, QueueError> {
        let mut all = vec![Vec::new(); jobs.len()];
        let mut pipeline = redis::pipe();
        for (id, numbers) in jobs.iter().filter(|(_, numbers)| !numbers.is_empty()) {
            self.push_questions(&mut pipeline, *id, numbers.clone());
        }
        if pipeline.is_empty() {
            return Ok(all);
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let asking = jobs.iter().zip(&mut all).filter(|((_, numbers), _)| !numbers.is_empty());
        for ((_, numbers), open) in asking {
            *open = read_questions(numbers.clone(), answers.item()?)?;
            open.retain(|asked| asked.answer.is_none());
        }
        Ok(all)
    }

    /// How many questions a job has asked, so the number of the last.
    async fn asked(&self, id: JobId) -> Result<u32, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.questions(id)).arg("asked");
        Ok(self.link.ask(ASKED, &command).await?.parse_optional()?.unwrap_or(0))
    }

    /// Adds the read of questions of one job and of their answers.
    fn push_questions(&self, pipeline: &mut Pipeline, id: JobId, numbers: Numbers) {
        let command = pipeline.cmd("HMGET").arg(self.keys.questions(id));
        for number in numbers {
            command.arg(format!("question:{number}")).arg(format!("answer:{number}"));
        }
    }
}

/// Reads the answer to [`Queue::push_numbers`]. Questions are asked by calls of one reply, so those that are open are among
/// the last.
pub(super) fn read_numbers(reply: Reply) -> Result<Numbers, QueueError> {
    let mut fields = reply.items()?;
    let first: u32 = fields.item()?.parse_optional()?.unwrap_or(1);
    let asked: u32 = fields.item()?.parse_optional()?.unwrap_or(0);
    Ok(first.max(asked.saturating_sub(MAX_OPEN - 1))..=asked)
}

/// Reads the answer to [`Queue::push_questions`].
fn read_questions(numbers: Numbers, reply: Reply) -> Result<Vec<AskedQuestion>, QueueError> {
    let mut fields = reply.items()?;
    let mut all = Vec::new();
    for number in numbers {
        let (asked, answer) = (fields.item()?.text()?, fields.item()?.optional_text()?);
        // An answer that cannot be read is one all the same, but what it says is not known.
        let answer = match answer.map(|text| QUESTION.from_json(&text)) {
            Some(Ok(answer)) => Some(answer),
            Some(Err(_)) => continue,
            None => None,
        };
        all.extend(question(number, &asked).map(|question| AskedQuestion { answer, ..question }));
    }
    Ok(all)
}

/// A stored question: when it was asked, when it expires, and its JSON.
fn question(number: u32, text: &str) -> Option<AskedQuestion> {
    let mut words = text.splitn(3, ' ');
    let mut time = || words.next()?.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let (asked_at, expires_at) = (time()?, time());
    let question = QUESTION.from_json(words.next()?).ok()?;
    Some(AskedQuestion { number, question, asked_at, expires_at, answer: None })
}
