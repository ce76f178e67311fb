//! Why a job does not run now, with the numbers that would change it: the field `waits_for` of a job.
//!
//! The reason is decided by the queue's reads and only worded here, so that the header of a view, a paragraph of
//! `legwork explain` and a program that reads the JSON agree.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::id::JobId;
use crate::job::optional_rfc3339;
use crate::question::AskedQuestion;

/// What a job waits for. Reasons and fields may be added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WaitsFor {
    /// As many jobs of its session as the cap allows are admitted to its queue.
    SessionCap {
        /// The queue; the cap counts each queue of a session.
        queue: String,
        /// The session's cap.
        cap: u64,
        /// Jobs of the session that are admitted: on their lane or running.
        admitted: u64,
        /// Jobs of the session that are admitted before it: those that are admitted now and those ahead of it in the
        /// session's backlog.
        ahead: u64,
        /// The first few of the admitted jobs, those admitted longest ago first.
        held_by: Vec<JobId>,
    },
    /// No live worker that takes new jobs serves its queue.
    NoWorker {
        /// The queue.
        queue: String,
        /// Workers that serve it and take no new jobs, because they drain.
        draining: u64,
        /// Whether the job waits in a lane of its session, which only a worker of that session serves.
        session_lane: bool,
    },
    /// An operator paused its queue.
    Paused {
        /// The queue.
        queue: String,
        /// Since when.
        #[serde(serialize_with = "optional_rfc3339")]
        since: Option<Timestamp>,
    },
    /// A worker takes it as soon as one has a free slot.
    Turn {
        /// The queue.
        queue: String,
        /// Workers that serve it.
        workers: u64,
        /// Their slots together.
        slots: u64,
        /// The slots in use, as of their last heartbeats.
        used: u64,
        /// Jobs that wait in the same queue with its priority or a higher one, itself included: at most so many are
        /// taken before it.
        queued: u64,
    },
    /// It is due at a later time.
    Schedule {
        /// When it is queued.
        #[serde(serialize_with = "optional_rfc3339")]
        at: Option<Timestamp>,
        /// Why it was postponed.
        why: Postponed,
        /// What failed or lacked, in words, if anything did.
        detail: Option<String>,
    },
    /// It waits for jobs that it dispatched, and holds no slot.
    Children {
        /// Those that have not ended.
        live: u64,
    },
    /// It waits for a person, and holds no slot.
    Answer {
        /// The questions without an answer, the oldest first; at most 20.
        questions: Vec<AskedQuestion>,
    },
    /// A call of its model waits for a rate limit.
    RateLimit {
        /// The limit and its numbers, in words.
        detail: String,
    },
    /// A call of its model waits for tokens of its session's budget, which other jobs of the session have reserved.
    Budget {
        /// How many, in words.
        detail: String,
    },
    /// It runs and shows no activity.
    Stalled {
        /// Since when and since what, in words.
        detail: String,
    },
}

/// Why a job is scheduled for a later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Postponed {
    /// It was dispatched with a delay.
    Delay,
    /// Its last attempt failed, and it is retried.
    Retry,
    /// A worker gave it back because it lacks what the job needs.
    GivenBack,
}

impl WaitsFor {
    /// The reason as the text in a job's record. `None` for no reason is the empty text.
    pub fn stored(reason: Option<&Self>) -> String {
        // A value of plain fields always has a JSON form.
        reason.and_then(|reason| serde_json::to_string(reason).ok()).unwrap_or_default()
    }

    /// Reads [`stored`](Self::stored). A text that this release cannot read is kept as a detail.
    pub fn from_stored(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        Some(serde_json::from_str(text).unwrap_or_else(|_| Self::RateLimit { detail: text.to_owned() }))
    }

    /// The reason as a fragment, for one line of a view.
    pub fn phrase(&self) -> String {
        match self {
            Self::SessionCap { cap, admitted, ahead, .. } => format!(
                "its session's cap of {cap}: {admitted} admitted, {ahead} before it; `--cap` sets another for a new \
                 session"
            ),
            Self::NoWorker { session_lane: true, .. } => "no worker serves its session".to_owned(),
            Self::NoWorker { queue, draining: 0, .. } => format!("no worker serves queue {queue}"),
            Self::NoWorker { queue, draining, .. } => {
                format!("no worker takes jobs of queue {queue}: all {draining} drain")
            }
            Self::Paused { queue, since } => {
                let since = since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
                format!("queue {queue}, which is paused{since}")
            }
            Self::Turn { queue, workers, slots, used, queued } => format!(
                "a free slot: {used} of {slots} in use on {}, {queued} queued in {queue}",
                counted(*workers, "worker")
            ),
            Self::Schedule { at, why, detail } => {
                let what = match why {
                    Postponed::Delay => "its delay",
                    Postponed::Retry => "its retry",
                    Postponed::GivenBack => "a worker that can run it",
                };
                let until = at.map(|at| format!(", next try at {at:.0}")).unwrap_or_default();
                let lacks = detail.as_ref().filter(|_| *why == Postponed::GivenBack);
                format!("{what}{until}{}", lacks.map(|lacks| format!("; lacks {lacks}")).unwrap_or_default())
            }
            Self::Children { live: 0 } => "a free slot of its worker".to_owned(),
            Self::Children { live } => format!("{} that it dispatched", counted(*live, "job")),
            Self::Answer { questions } => {
                questions.iter().map(AskedQuestion::line).collect::<Vec<_>>().join("; ")
            }
            Self::RateLimit { detail } | Self::Budget { detail } | Self::Stalled { detail } => detail.clone(),
        }
    }
}

/// `1 job`, `2 jobs`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Question;

    /// A call and a question to the user.
    fn questions() -> Vec<AskedQuestion> {
        let question = Question::approval("shell", r#"{"cmd":"rm -r build"}"#, "the team's permissions ask");
        let prompt = Question::Prompt {
            message: "Which colour?".to_owned(),
            title: Some("Paint".to_owned()),
            schema: Some(serde_json::json!({"enum": ["red", "blue"]})),
        };
        let asked = |number, question| AskedQuestion {
            number,
            question,
            asked_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::from_second(3600).ok().filter(|_| number == 1),
            answer: None,
        };
        vec![asked(1, question), asked(2, prompt)]
    }

    /// Every reason with numbers that tell its fields apart.
    fn reasons() -> Vec<WaitsFor> {
        let queue = || "gpu".to_owned();
        let held_by = vec!["agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap()];
        let schedule = |why, detail: Option<&str>| WaitsFor::Schedule {
            at: Some(Timestamp::UNIX_EPOCH),
            why,
            detail: detail.map(str::to_owned),
        };
        vec![
            WaitsFor::SessionCap { queue: queue(), cap: 20, admitted: 20, ahead: 58, held_by },
            WaitsFor::NoWorker { queue: queue(), draining: 0, session_lane: false },
            WaitsFor::NoWorker { queue: queue(), draining: 2, session_lane: false },
            WaitsFor::NoWorker { queue: queue(), draining: 0, session_lane: true },
            WaitsFor::Paused { queue: queue(), since: Some(Timestamp::UNIX_EPOCH) },
            WaitsFor::Turn { queue: queue(), workers: 1, slots: 20, used: 19, queued: 7 },
            schedule(Postponed::Delay, None),
            schedule(Postponed::Retry, Some("503")),
            schedule(Postponed::GivenBack, Some("OPENAI_API_KEY")),
            WaitsFor::Children { live: 1 },
            WaitsFor::Children { live: 0 },
            WaitsFor::Answer { questions: questions() },
            WaitsFor::RateLimit { detail: "openai permits the call in 3s".to_owned() },
            WaitsFor::Budget {
                detail: "other jobs have reserved 900 tokens of the session's budget".to_owned(),
            },
            WaitsFor::Stalled { detail: "no activity for more than 5m".to_owned() },
        ]
    }

    #[test]
    fn each_reason_has_its_numbers_in_words_and_as_fields() {
        let lines: Vec<String> = reasons()
            .iter()
            .map(|reason| format!("{}\n  {}", reason.phrase(), WaitsFor::stored(Some(reason))))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_reason_survives_its_record_and_an_unknown_text_is_shown() {
        for reason in reasons() {
            assert_eq!(WaitsFor::from_stored(&WaitsFor::stored(Some(&reason))), Some(reason));
        }
        assert_eq!(WaitsFor::from_stored(&WaitsFor::stored(None)), None);
        assert_eq!(
            WaitsFor::from_stored("in words"),
            Some(WaitsFor::RateLimit { detail: "in words".to_owned() })
        );
    }
}
