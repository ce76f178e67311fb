//! The facts of a job: what its dispatch decided and nothing changes, in the string that its request is in too.
//!
//! ```text
//! <version> <session> <parent> <queue> <lane> <priority> <created> <sequence> <timeout> <retries> <retry delay> <budget>
//!   <q|s> <entry> <key> <team> <ancestors>\n<request as JSON>
//! ```
//!
//! One line with one space between two facts, and `-` for an absent one. `enqueue.lua` writes it, because the time and the
//! entry in the lane's stream are known only there. A later version may only add facts at the end of the line: the steps of
//! this release find those that they know at their places.

use std::str::FromStr;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::DEFAULT_RETRY_DELAY;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;
use legwork_common::stored::FACTS;
use legwork_common::stored::Unreadable;

/// Bytes of a job's string in which its facts end, with ten ancestors and the longest names, and after them the name of its
/// agent: read where the rest of the request is not needed.
pub(crate) const MAX_BYTES: usize = 1200;

/// The facts of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) session: SessionId,
    pub(crate) parent: Option<JobId>,
    pub(crate) queue: String,
    pub(crate) lane: String,
    /// A level, see [`Priority`](legwork_common::job::Priority).
    pub(crate) priority: u8,
    /// By Redis' clock, in milliseconds.
    pub(crate) created: u64,
    /// Its place among the jobs of its session.
    pub(crate) sequence: u64,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) retry_delay: Duration,
    pub(crate) has_session_budget: bool,
    /// The state until something happens to it: queued or scheduled.
    pub(crate) first_state: State,
    /// Its first entry in the stream of its lane; `None` where it began in the backlog or scheduled.
    pub(crate) entry: Option<String>,
    /// The hash of its idempotency key.
    pub(crate) key: Option<String>,
    pub(crate) team: TeamDigest,
    /// The jobs above it, the nearest first.
    pub(crate) ancestors: Vec<JobId>,
}

/// The facts of a string, and the request behind them.
///
/// # Errors
///
/// [`Unreadable`] where a later release wrote it, or it is damaged.
pub(crate) fn split(text: &str) -> Result<(Facts, &str), Unreadable> {
    let (line, request) = text.split_once('\n').unwrap_or((text, ""));
    decode(line).map(|facts| (facts, request))
}

/// The facts of a line.
///
/// # Errors
///
/// As for [`split`].
fn decode(line: &str) -> Result<Facts, Unreadable> {
    let version = line.split(' ').next().unwrap_or_default();
    FACTS.check(if version.is_empty() { "-" } else { version })?;
    known(line)
}

/// The facts that this release knows, of a line of any version; the line may be followed by anything.
///
/// # Errors
///
/// [`Unreadable`] where it is damaged.
pub(crate) fn known(line: &str) -> Result<Facts, Unreadable> {
    let line = line.split_once('\n').map_or(line, |(line, _)| line);
    let mut words = line.split(' ');
    words.next();
    let mut next = Words(words);
    Ok(Facts {
        session: next.parse("session")?,
        parent: next.optional("parent")?,
        queue: next.parse("queue")?,
        lane: next.parse("lane")?,
        priority: next.parse("priority")?,
        created: next.parse("created")?,
        sequence: next.parse("sequence")?,
        timeout: next.optional("timeout")?.filter(|ms| *ms > 0).map(Duration::from_millis),
        retries: next.parse("retries")?,
        retry_delay: next.optional("retry delay")?.map_or(DEFAULT_RETRY_DELAY, Duration::from_millis),
        has_session_budget: next.parse::<u8>("budget")? == 1,
        first_state: if next.word("state")? == "s" { State::Scheduled } else { State::Queued },
        entry: next.optional("entry")?,
        key: next.optional("key")?,
        team: TeamDigest(next.parse("team")?),
        ancestors: match next.word("ancestors")? {
            "-" => Vec::new(),
            ids => ids
                .split(',')
                .map(|id| id.parse().map_err(|_| damaged("ancestors", id)))
                .collect::<Result<_, _>>()?,
        },
    })
}

/// The facts of a line that are yet to be read.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn word(&mut self, name: &str) -> Result<&'a str, Unreadable> {
        self.0.next().ok_or_else(|| damaged(name, ""))
    }

    fn parse<T: FromStr>(&mut self, name: &str) -> Result<T, Unreadable> {
        let word = self.word(name)?;
        word.parse().map_err(|_| damaged(name, word))
    }

    fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Unreadable> {
        let word = self.word(name)?;
        if word == "-" { Ok(None) } else { word.parse().map(Some).map_err(|_| damaged(name, word)) }
    }
}

fn damaged(name: &str, word: &str) -> Unreadable {
    Unreadable::Unknown { form: FACTS.name, detail: format!("{name} is `{word}`") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `enqueue.lua` writes it.
    fn encode(facts: &Facts) -> String {
        let or_dash = |word: Option<String>| word.unwrap_or_else(|| "-".to_owned());
        let above: Vec<String> = facts.ancestors.iter().map(|id| id.uuid().to_string()).collect();
        [
            FACTS.version.to_string(),
            facts.session.to_string(),
            or_dash(facts.parent.map(|id| id.uuid().to_string())),
            facts.queue.clone(),
            facts.lane.clone(),
            facts.priority.to_string(),
            facts.created.to_string(),
            facts.sequence.to_string(),
            facts.timeout.map_or(0, |timeout| timeout.as_millis()).to_string(),
            facts.retries.to_string(),
            facts.retry_delay.as_millis().to_string(),
            u8::from(facts.has_session_budget).to_string(),
            if facts.first_state == State::Scheduled { "s" } else { "q" }.to_owned(),
            or_dash(facts.entry.clone()),
            or_dash(facts.key.clone()),
            facts.team.0.clone(),
            if above.is_empty() { "-".to_owned() } else { above.join(",") },
        ]
        .join(" ")
    }

    fn example(numbers: [u64; 4], flags: [bool; 4], depth: usize) -> Facts {
        let session = SessionId::random();
        Facts {
            session,
            parent: flags[0].then(|| JobId::random_in(session)),
            queue: "default".into(),
            lane: if flags[1] { format!("@{session}") } else { "default".into() },
            priority: u8::try_from(numbers[0] % 3).unwrap(),
            created: numbers[0],
            sequence: numbers[1],
            timeout: Some(numbers[2]).filter(|ms| *ms > 0).map(Duration::from_millis),
            retries: u32::try_from(numbers[3] % 100).unwrap(),
            retry_delay: Duration::from_millis(numbers[3]),
            has_session_budget: flags[2],
            first_state: if flags[3] { State::Scheduled } else { State::Queued },
            entry: flags[0].then(|| format!("{}-{}", numbers[0], numbers[1])),
            key: flags[1].then(|| "a".repeat(64)),
            team: TeamDigest("0".repeat(64)),
            ancestors: (0..depth).map(|_| JobId::random_in(session)).collect(),
        }
    }

    proptest! {
        #[test]
        fn facts_come_back_from_their_line(
            numbers in proptest::array::uniform4(0u64..1 << 50),
            flags in proptest::array::uniform4(any::<bool>()),
            depth in 0usize..10,
        ) {
            let facts = example(numbers, flags, depth);
            let line = encode(&facts);
            prop_assert!(line.len() < MAX_BYTES);
            prop_assert_eq!(decode(&line), Ok(facts.clone()));
            let text = format!("{line}\n{{\"task\":\"two\\nlines\"}}");
            prop_assert_eq!(split(&text), Ok((facts.clone(), "{\"task\":\"two\\nlines\"}")));
            // A later version only adds facts.
            let (_, facts_alone) = line.split_once(' ').unwrap();
            let later = format!("4 {facts_alone} more");
            prop_assert!(matches!(decode(&later), Err(Unreadable::Later { version: 4, .. })), "{:?}", decode(&later));
            prop_assert_eq!(known(&later), Ok(facts));
        }

        #[test]
        fn a_damaged_line_is_an_error(text in "\\PC{0,60}") {
            prop_assert!(decode(&text).is_err());
        }
    }
}
