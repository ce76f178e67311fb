//! Steps: one Lua script for each atomic change, called by its hash.
//!
//! A step may be repeated: what a repeat finds done already, it answers as the first time. So a lost answer, a flushed
//! script cache, a slot that moves and a server that still loads its data have one fix, to call again. It is applied
//! here, within a bound.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

use legwork_common::retry::Backoff;
use redis::Cmd;
use redis::Pipeline;
use redis::RedisError;
use redis::Script;
use redis::Value;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::keys::LUA_KEYS;
use crate::link::Link;

/// The first line of a script that may run while memory is full.
const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";
/// The first line of a script that is refused while memory is full.
const REFUSE_OOM: &str = "#!lua\n";
/// No repeat begins later than this after the first call, so a call ends within this and one round trip: well before a
/// lease of the default length runs out.
const MAX_RETRY_TIME: Duration = Duration::from_millis(2500);
/// The delay before the first repeat. An answer that was lost with its connection is found by the first one, so it is
/// short.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(20);
/// The longest delay between two repeats.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Repeats of one call: 620 ms with the delays above. On a server that is slow to answer, `MAX_RETRY_TIME` is reached
/// first.
const MAX_RETRIES: u32 = 5;

/// What steps of a shard share, in the order in which the definitions build on each other. A step gets the paragraphs
/// whose names it uses: Redis runs a script from its first line at each call, so each function that is defined costs time
/// even where it is not called.
const SHARED: [&str; 8] = [
    include_str!("lua/prelude.lua"),
    include_str!("lua/prelude/stops.lua"),
    include_str!("lua/prelude/sessions.lua"),
    include_str!("lua/prelude/admission.lua"),
    include_str!("lua/prelude/attempts.lua"),
    include_str!("lua/prelude/returning.lua"),
    include_str!("lua/prelude/ending.lua"),
    include_str!("lua/prelude/questions.lua"),
];
/// Around the file of a step that defers something: it is the body of a function, so that it may return anywhere.
const BODY: &str = "local function body()\n";
/// After such a step: what was deferred, such as wakes and notices.
const EPILOGUE: &str = "\nend\nlocal reply = body()\nfinish()\nreturn reply\n";

/// One atomic step: a name for messages, and its script.
#[derive(Debug)]
pub(crate) struct Step {
    name: &'static str,
    source: String,
    hash: String,
}

impl Step {
    fn new(name: &'static str, source: String) -> Self {
        let hash = Script::new(&source).get_hash().to_owned();
        Self { name, source, hash }
    }

    /// A step below a shard's tag: the key names and the shared paragraphs that it uses, and its own file.
    fn of_shard(name: &'static str, flags: &str, body: &str) -> Self {
        let shared = used_paragraphs(body);
        let script = if words(&shared).contains("deferred") {
            [&shared, BODY, body, EPILOGUE].concat()
        } else {
            [&shared, body].concat()
        };
        Self::new(name, [flags, &key_names(&script), &script].concat())
    }

    /// A step below a tag of its own, a job's, a limit's or a key's: its file alone.
    fn of_own_tag(name: &'static str, body: &str) -> Self {
        Self::new(name, [ALLOW_OOM, body].concat())
    }

    /// Calls the step until it is answered, within a bound. Dropping the future leaves the step done or not done.
    ///
    /// # Errors
    ///
    /// [`QueueError`] once the repeats are used up, or at once for an error that no repeat cures.
    pub(crate) async fn call(&self, link: &Link, call: &Call) -> Result<Answer, QueueError> {
        let answer = self.call_all(link, std::slice::from_ref(call)).await?.pop();
        Ok(answer.unwrap_or_else(|| Answer::of(self.name, Value::Nil)))
    }

    /// Calls the step several times in one round trip. Answers come in the order of the calls.
    ///
    /// # Errors
    ///
    /// As [`Step::call`]. Some of the calls may have been done when one fails.
    pub(crate) async fn call_all(&self, link: &Link, calls: &[Call]) -> Result<Vec<Answer>, QueueError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call.command(self, link.is_cluster()));
        }
        let values = self.send(link, &pipeline).await?;
        Ok(values.into_iter().map(|value| Answer::of(self.name, value)).collect())
    }

    /// The command of a call to one server, for a connection that is not a [`Link`]. It is answered with an error where the
    /// server does not have the script.
    pub(crate) fn command(&self, call: &Call) -> Cmd {
        call.command(self, false)
    }

    /// The answer to [`Step::command`].
    pub(crate) fn answer(&self, value: Value) -> Answer {
        Answer::of(self.name, value)
    }

    /// Sends calls of this step and repeats all of them after a transient error.
    async fn send(&self, link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, QueueError> {
        let mut delays = Backoff::exponential(FIRST_RETRY_DELAY, MAX_RETRY_DELAY, MAX_RETRIES);
        let began = Instant::now();
        let mut loaded = false;
        loop {
            let error = match send_once(link, pipeline).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            // Loaded once only: a server whose cache is empty again at once has another problem.
            if error.code() == Some("NOSCRIPT") && !loaded {
                self.load(link).await?;
                loaded = true;
                continue;
            }
            let error = QueueError::from_redis(self.name, error);
            // Neither is memory freed nor does a replica come back within this bound, so both are left to the caller.
            let full = matches!(error, QueueError::Full { .. } | QueueError::NotDurable { .. });
            let Some(delay) =
                delays.next().filter(|_| error.is_transient() && !full && began.elapsed() < MAX_RETRY_TIME)
            else {
                return Err(error);
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Puts the script into the server's cache, which a restart or `SCRIPT FLUSH` empties.
    async fn load(&self, link: &Link) -> Result<(), QueueError> {
        link.ask(self.name, redis::cmd("SCRIPT").arg("LOAD").arg(&self.source)).await.map(drop)
    }
}

/// The lines of [`LUA_KEYS`] whose names a script uses, and the tag, which all of them use.
fn key_names(script: &str) -> String {
    let used = words(script);
    let is_used =
        |line: &&str| line.contains("KEYS[1]") || names(line).iter().any(|name| used.contains(name));
    LUA_KEYS.lines().filter(is_used).flat_map(|line| [line, "\n"]).collect()
}

/// The paragraphs of [`SHARED`] that a step's file uses, directly or through each other.
fn used_paragraphs(body: &str) -> String {
    let paragraphs: Vec<String> = SHARED.into_iter().flat_map(paragraphs).collect();
    let mut used = words(body);
    // Definitions come before their uses, so one pass from the end finds all.
    let mut kept: Vec<&str> = Vec::new();
    for paragraph in paragraphs.iter().rev() {
        if names(paragraph).iter().any(|name| used.contains(name)) {
            used.extend(words(paragraph));
            kept.push(paragraph);
        }
    }
    kept.into_iter().rev().flat_map(|paragraph| [paragraph, "\n\n"]).collect()
}

/// The paragraphs of a shared file. One begins after an empty line with a line that is not indented; a paragraph that
/// defines no name belongs to the one before it.
fn paragraphs(file: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for piece in file.split("\n\n") {
        let begins = !piece.starts_with(' ') && !names(piece).is_empty();
        match all.last_mut() {
            Some(last) if !begins => {
                last.push_str("\n\n");
                last.push_str(piece);
            }
            _ => all.push(piece.to_owned()),
        }
    }
    all
}

/// The words of a script, without its comments.
fn words(script: &str) -> BTreeSet<&str> {
    let code = script.lines().map(|line| line.split("--").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

/// The names that a script defines at its top level.
fn names(script: &str) -> BTreeSet<&str> {
    let locals = script.lines().filter_map(|line| line.strip_prefix("local "));
    let names = locals.flat_map(|line| match line.strip_prefix("function ") {
        Some(function) => function.split('(').take(1),
        None => line.split('=').take(1),
    });
    names.flat_map(|names| names.split(',')).map(str::trim).collect()
}

/// Sends the calls once. The first error among the answers counts.
async fn send_once(link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
    link.pipeline(pipeline).await?.into_iter().map(Value::extract_error).collect()
}

/// Declares the steps, each from its file.
macro_rules! steps {
    (
        of_shard { $($shard:ident = $shard_file:literal, $flags:ident;)* }
        of_own_tag { $($own:ident = $own_file:literal;)* }
    ) => {
        $(
            pub(crate) static $shard: LazyLock<Step> = LazyLock::new(|| {
                let body = include_str!(concat!("lua/", $shard_file, ".lua"));
                Step::of_shard($shard_file, $flags, body)
            });
        )*
        $(
            pub(crate) static $own: LazyLock<Step> = LazyLock::new(|| {
                Step::of_own_tag($own_file, include_str!(concat!("lua/", $own_file, ".lua")))
            });
        )*
    };
}

steps! {
    of_shard {
        OPEN = "open", ALLOW_OOM;
        CLOSE = "close", ALLOW_OOM;
        TEAM = "team", REFUSE_OOM;
        ENQUEUE = "enqueue", REFUSE_OOM;
        CLAIM = "claim", ALLOW_OOM;
        RENEW = "renew", ALLOW_OOM;
        PARK = "park", ALLOW_OOM;
        LEAVE_QUARANTINE = "leave_quarantine", ALLOW_OOM;
        ASK = "ask", ALLOW_OOM;
        ANSWER = "answer", ALLOW_OOM;
        NOTIFY = "notify", ALLOW_OOM;
        NOTIFIED = "notified", ALLOW_OOM;
        FINISH = "finish", ALLOW_OOM;
        RELEASE = "release", ALLOW_OOM;
        SEND = "send", ALLOW_OOM;
        ACKNOWLEDGE = "acknowledge", ALLOW_OOM;
        STOP = "stop", ALLOW_OOM;
        STOP_WAITING = "stop_waiting", ALLOW_OOM;
        SWEEP = "sweep", ALLOW_OOM;
        UNMARK = "unmark", ALLOW_OOM;
        REAP = "reap", ALLOW_OOM;
        REAPED = "reaped", ALLOW_OOM;
        FORGET = "forget", ALLOW_OOM;
        HEARTBEAT = "heartbeat", ALLOW_OOM;
        DRAIN = "drain", ALLOW_OOM;
        TODO_LIST = "todo", REFUSE_OOM;
        BUDGET = "budget", ALLOW_OOM;
        POTS = "pots", ALLOW_OOM;
    }
    of_own_tag {
        BEGIN = "begin";
        APPEND = "append";
        SEAL = "seal";
        RESERVE = "reserve";
        VOID = "void";
        PERMIT = "permit";
    }
}

/// One call of a step: its keys (the shard's tag first) and its arguments, in the order that its file names them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    /// A call whose first key is `tag`.
    pub(crate) fn on(tag: impl Into<String>) -> Self {
        Self { keys: vec![tag.into()], arguments: Vec::new() }
    }

    /// Declares a further key that is known before the call. A Cluster checks that all are in one slot.
    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl ToString) -> Self {
        self.push(argument);
        self
    }

    /// Adds an argument of raw bytes.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.push_bytes(bytes);
        self
    }

    /// Adds an argument in place.
    pub(crate) fn push(&mut self, argument: impl ToString) {
        self.arguments.push(argument.to_string().into_bytes());
    }

    /// Adds an argument of raw bytes in place.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.arguments.push(bytes.to_vec());
    }

    /// The command. In a Cluster it declares one more key, which never exists: while a slot moves from node to node, a
    /// script that declares two keys, one of them missing, is answered `TRYAGAIN` by both nodes, and it is repeated
    /// until the slot has moved. With one key the new node would run it before it has the rest of the slot.
    fn command(&self, step: &Step, is_cluster: bool) -> Cmd {
        let anchor = self.keys.first().filter(|_| is_cluster).map(|key| format!("{key}:"));
        let count = self.keys.len() + usize::from(anchor.is_some());
        let mut command = redis::cmd("EVALSHA");
        command.arg(&step.hash).arg(count).arg(&self.keys).arg(anchor).arg(&self.arguments);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gets_what_it_uses_and_no_more() {
        let shared = used_paragraphs("return is_terminal(state)");
        assert!(shared.contains("local function is_terminal"), "{shared}");
        assert!(!shared.contains("TIME") && !shared.contains("deferred"), "{shared}");
        let admitting = used_paragraphs("admit(id, sid, queue, lane, priority)");
        assert!(admitting.contains("local function wake(") && admitting.contains("local function finish("));
        assert!(!admitting.contains("end_job"), "{admitting}");
    }

    #[test]
    fn every_shared_name_is_defined_before_it_is_used() {
        let paragraphs: Vec<String> = SHARED.into_iter().flat_map(paragraphs).collect();
        for (at, paragraph) in paragraphs.iter().enumerate() {
            for later in &paragraphs[at + 1..] {
                let early: Vec<_> =
                    names(later).into_iter().filter(|name| words(paragraph).contains(name)).collect();
                assert!(early.is_empty(), "{early:?} in {paragraph}");
            }
        }
    }
}
