//! The job or the session that a person means: a whole id, or an unambiguous beginning of one.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::TryStreamExt as _;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JOB_ID_PREFIX;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::SEE_LIST;
use crate::port::JobFilter;
use crate::port::Watch as _;

/// The shortest beginning of an id that is searched for: a shorter one is ambiguous among a few hundred jobs.
const MIN_PREFIX: usize = 4;
/// [`MIN_PREFIX`] in words.
const MIN_PREFIX_WORDS: &str = "four characters";
/// Candidates that an error names: enough to recognise the job, and still one line.
const MAX_CANDIDATES: usize = 10;
/// The newest jobs whose sessions are searched, as many as are searched for a job's own id in each shard.
const MAX_JOBS_SEARCHED: usize = 10_000;

/// What [`FindError::NotFound`] calls a worker.
const WORKER: &str = "worker";
/// Where workers are listed.
const SEE_WORKERS: &str = "`legwork workers` lists the live ones";

/// Why no single job, session or worker was found.
#[derive(Debug, Error)]
pub enum FindError {
    /// Nothing that is stored begins like this, or the text cannot be the beginning of an id.
    #[error("{what} not found: {text}")]
    NotFound {
        /// `task`, `session` or `worker`.
        what: &'static str,
        /// What was searched for.
        text: String,
    },
    /// Several ids begin like this.
    #[error("`{text}` may be any of {}", candidates.join(", "))]
    Ambiguous {
        /// What was searched for.
        text: String,
        /// At most ten of the ids.
        candidates: Vec<String>,
    },
    /// Redis could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl FindError {
    /// No live worker has this id, or one that begins like this.
    pub(super) fn worker(text: &str) -> Self {
        Self::NotFound { what: WORKER, text: text.to_owned() }
    }
}

impl Coded for FindError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound { .. } => ExitStatus::NotFound,
            Self::Ambiguous { .. } => ExitStatus::Usage,
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { what: WORKER, .. } => Some(SEE_WORKERS.to_owned()),
            Self::NotFound { text, .. } if is_too_short(text) => {
                Some(format!("write {MIN_PREFIX_WORDS} of the id, or more"))
            }
            Self::NotFound { .. } => Some(SEE_LIST.to_owned()),
            Self::Ambiguous { .. } => Some("write more of the id".to_owned()),
            Self::Queue(error) => error.hint(),
        }
    }
}

impl Operator {
    /// The job that `text` names: a whole id, with or without `agent_task_`, or a beginning of its UUID of four
    /// characters or more. A whole id is not checked for existence; a beginning is searched among the newest 10,000
    /// jobs of each shard.
    ///
    /// # Errors
    ///
    /// [`FindError`] when no job or several jobs begin like this, or when Redis cannot be reached.
    pub async fn find(&self, text: &str) -> Result<JobId, FindError> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let bare = text.strip_prefix(JOB_ID_PREFIX).unwrap_or(text);
        let found = if is_prefix(bare) { self.queue().find(bare, MAX_CANDIDATES).await? } else { Vec::new() };
        only("task", text, &found)
    }

    /// The session that `text` names, as [`find`](Self::find) does for jobs. A beginning is searched among the sessions
    /// of the newest 10,000 jobs of the namespace.
    ///
    /// # Errors
    ///
    /// [`FindError`] when no session or several sessions begin like this, or when Redis cannot be reached.
    pub async fn find_session(&self, text: &str) -> Result<SessionId, FindError> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let mut found: BTreeSet<SessionId> = BTreeSet::new();
        if is_prefix(text) {
            let prefix = text.to_ascii_lowercase();
            let mut searched = 0;
            let mut pages = pin!(self.pages(JobFilter::default()));
            while let Some(page) = pages.try_next().await? {
                searched += page.len();
                found.extend(
                    page.iter().map(|job| job.session).filter(|id| id.to_string().starts_with(&prefix)),
                );
                if searched >= MAX_JOBS_SEARCHED || found.len() >= MAX_CANDIDATES {
                    break;
                }
            }
        }
        let found: Vec<SessionId> = found.into_iter().take(MAX_CANDIDATES).collect();
        only("session", text, &found)
    }
}

/// Whether a text may be the beginning of a UUID that is worth a search.
fn is_prefix(text: &str) -> bool {
    text.len() >= MIN_PREFIX && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// Whether a text may begin an id, and is too short to be searched for.
fn is_too_short(text: &str) -> bool {
    text.strip_prefix(JOB_ID_PREFIX).unwrap_or(text).len() < MIN_PREFIX
}

/// The only id found.
fn only<I: Copy + ToString>(what: &'static str, text: &str, found: &[I]) -> Result<I, FindError> {
    match found {
        [] => Err(FindError::NotFound { what, text: text.to_owned() }),
        [id] => Ok(*id),
        several => Err(FindError::Ambiguous {
            text: text.to_owned(),
            candidates: several.iter().map(ToString::to_string).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_texts_of_four_characters_are_searched() {
        for (text, searched) in [
            ("", false),
            ("abc", false),
            ("abcd", true),
            ("ABCD", true),
            ("01234567-89ab", true),
            ("wxyz", false),
            ("ab d", false),
            ("äöüä", false),
        ] {
            assert_eq!(is_prefix(text), searched, "{text}");
        }
    }

    #[test]
    fn one_match_is_the_job_and_others_are_errors() {
        assert_eq!(only("task", "abcd", &["abcd1"]).unwrap(), "abcd1");
        let missing = only::<&str>("session", "abcd", &[]).unwrap_err();
        assert_eq!((missing.to_string().as_str(), missing.code()), ("session not found: abcd", "not_found"));
        let several = only("task", "abcd", &["abcd1", "abcd2"]).unwrap_err();
        assert_eq!(several.to_string(), "`abcd` may be any of abcd1, abcd2");
        assert_eq!((several.code(), several.exit()), ("ambiguous", ExitStatus::Usage));
    }
}
