//! Deleting ended jobs with everything they left: by id, or all that ended long ago.

use std::time::Duration;

use futures::Stream;
use futures::StreamExt as _;
use futures::stream;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::service::WRONG_STATE;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::SEE_LIST;
use crate::operator::end_it_first;
use crate::port::Cleared;
use crate::port::Forgotten;
use crate::port::Upkeep as _;
use crate::port::Watch as _;
use crate::queue::Clearing;

/// Jobs of one call of a deletion by id.
const CHUNK_SIZE: usize = 200;

/// Why a job was not deleted.
#[derive(Debug, Error)]
pub enum DeleteError {
    /// The job is not stored.
    #[error("task not found: {0}")]
    NotFound(JobId),
    /// The job has not ended, or a stop of its tree has not.
    #[error("task {0} has not ended, or its tree is still being stopped")]
    Live(JobId),
    /// Redis could not be asked. The job may be deleted, or be there without its output; a repeat deletes it.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for DeleteError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Live(_) => WRONG_STATE,
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::Live(_) => ExitStatus::Usage,
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some(SEE_LIST.to_owned()),
            Self::Live(id) => Some(end_it_first(*id)),
            Self::Queue(error) => error.hint(),
        }
    }
}

impl Operator {
    /// Whether each of the jobs may be deleted; one result for each, in their order. Changes nothing, so a caller can
    /// check all of its ids before the first is deleted.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn check_deletable(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<Result<JobId, DeleteError>>, QueueError> {
        let states = self.queue().states(ids).await?;
        Ok(ids.iter().zip(states).map(|(id, state)| deletable(*id, state)).collect())
    }

    /// Deletes jobs, even where their dispatcher lives; one result for each, in their order. A job that another caller
    /// deleted first counts as deleted.
    ///
    /// Of each job its output and turns go first, then the record: a crash in between leaves a job without output,
    /// which a repeat deletes.
    pub fn delete_many(&self, ids: Vec<JobId>) -> impl Stream<Item = Result<JobId, DeleteError>> + Send + '_ {
        let chunks: Vec<Vec<JobId>> = ids.chunks(CHUNK_SIZE).map(<[JobId]>::to_vec).collect();
        stream::iter(chunks)
            .then(async move |ids| match self.queue().forget(&ids, true).await {
                Err(error) => vec![Err(error.into())],
                Ok(verdicts) => {
                    ids.into_iter().zip(verdicts).map(|(id, verdict)| deleted(id, verdict)).collect()
                }
            })
            .flat_map(stream::iter)
    }

    /// How many jobs [`clear`](Self::clear) would find: those that ended at least `age` ago.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn count_ended_before(&self, age: Duration) -> Result<u64, QueueError> {
        self.queue().left_to_clear(&self.queue().clearing(age).await?).await
    }

    /// Deletes all jobs that ended at least `age` ago and whose dispatcher has ended too: a dispatcher that lives may
    /// not have been given the result yet. Yields what was done so far after each page; the last item is the outcome.
    /// A crash leaves the rest for a repeat.
    pub fn clear(&self, age: Duration) -> impl Stream<Item = Result<Cleared, QueueError>> + Send + '_ {
        // `None` before the first page.
        let beginning: Option<Clearing> = None;
        stream::try_unfold((beginning, false), move |(clearing, is_over)| async move {
            if is_over {
                return Ok(None);
            }
            let mut clearing = match clearing {
                Some(clearing) => clearing,
                None => self.queue().clearing(age).await?,
            };
            let more = self.queue().clear_page(&mut clearing).await?;
            Ok(Some((clearing.cleared, (Some(clearing), !more))))
        })
    }
}

/// Whether a job in this state, or in none, may be deleted.
fn deletable(id: JobId, state: Option<State>) -> Result<JobId, DeleteError> {
    match state {
        None => Err(DeleteError::NotFound(id)),
        Some(state) if !state.is_terminal() => Err(DeleteError::Live(id)),
        Some(_) => Ok(id),
    }
}

/// What the step's answer means for the caller.
fn deleted(id: JobId, verdict: Forgotten) -> Result<JobId, DeleteError> {
    match verdict {
        Forgotten::Forgotten | Forgotten::Missing => Ok(id),
        Forgotten::Live | Forgotten::Spared => Err(DeleteError::Live(id)),
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    fn word(result: Result<JobId, DeleteError>) -> &'static str {
        match result {
            Ok(_) => "yes",
            Err(DeleteError::NotFound(_)) => "not found",
            Err(DeleteError::Live(_)) => "live",
            Err(DeleteError::Queue(_)) => "error",
        }
    }

    #[test]
    fn only_ended_jobs_may_be_deleted() {
        let id = JobId::random_in(SessionId::random());
        assert_eq!(word(deletable(id, None)), "not found");
        for state in State::ALL {
            let expected = if state.is_terminal() { "yes" } else { "live" };
            assert_eq!(word(deletable(id, Some(state))), expected, "{state}");
        }
    }

    #[test]
    fn a_job_deleted_by_another_caller_is_deleted() {
        let id = JobId::random_in(SessionId::random());
        for (verdict, expected) in [
            (Forgotten::Forgotten, "yes"),
            (Forgotten::Missing, "yes"),
            (Forgotten::Live, "live"),
            (Forgotten::Spared, "live"),
        ] {
            assert_eq!(word(deleted(id, verdict)), expected, "{verdict:?}");
        }
    }
}
