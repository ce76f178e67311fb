//! Questions of jobs to people, and their answers.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::question::Answer;
use legwork_common::question::AskedQuestion;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;

use super::Lease;
use crate::error::QueueError;

/// What became of a question that an attempt asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It has no answer yet.
    Open {
        /// Its number in the job.
        number: u32,
        /// How long until it expires; asking again after that decides it.
        expires_in: Duration,
    },
    /// It was answered, or it expired; with the seal of the answer, where it has one.
    Answered(Answer, Option<String>),
    /// The job is being stopped.
    Stopping,
    /// Another attempt holds the job.
    Lost,
}

/// Jobs that wait for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asking {
    /// Some of them.
    pub ids: Vec<JobId>,
    /// How many there are.
    pub total: u64,
    /// Since when the first of them has waited, by Redis' clock in milliseconds.
    pub since: Option<u64>,
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// It is recorded, and the job acts on it.
    Recorded,
    /// The question has this answer, which came first; or it expired.
    Already(Answer),
    /// The job has ended, or is being stopped.
    NotRunning(State),
    /// The job asked no such question.
    Unasked,
    /// The job does not exist, or was forgotten.
    NotFound,
}

/// Asking people and answering jobs.
#[async_trait]
pub trait Questions: Debug + Send + Sync {
    /// Stores the question of a call. It stays until the job ends, whatever becomes of its worker: an attempt that resumes
    /// asks it again by the place of its call, and finds it, or its answer.
    async fn ask(
        &self,
        lease: Lease,
        call: CallIndex,
        question: &Question,
        expiry: Duration,
    ) -> Result<Asked, QueueError>;

    /// The answer to a question, once there is one. One short read.
    async fn decided(&self, id: JobId, number: u32) -> Result<Option<Answer>, QueueError>;

    /// The place of the call that asks a question, as its seal has it; `None` where an earlier release stored it. One short
    /// read.
    async fn place(&self, id: JobId, number: u32) -> Result<Option<String>, QueueError>;

    /// Records an answer, with its seal where it has one. The first one counts; a repeat finds it.
    async fn answer(
        &self,
        id: JobId,
        number: u32,
        answer: &Answer,
        seal: Option<&str>,
    ) -> Result<AnswerOutcome, QueueError>;

    /// The questions of jobs that have no answer, by number; of each job those of its current turn, so however many it asked
    /// before, that is a short read, and at most 100. Those that this release cannot read are left out.
    async fn open_questions(&self, ids: &[JobId]) -> Result<Vec<Vec<AskedQuestion>>, QueueError>;

    /// A question of a job, with its answer where there is one: the one with this number, or the last. `None` where the job
    /// asked none such, or this release cannot read it.
    async fn question(&self, id: JobId, number: Option<u32>) -> Result<Option<AskedQuestion>, QueueError>;

    /// The jobs with a question that has no answer, at most `most` of each shard, those that have waited longest first.
    async fn asking(&self, most: usize) -> Result<Asking, QueueError>;
}
