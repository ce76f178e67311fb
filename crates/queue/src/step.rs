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

/// What every step of a shard begins with.
const PRELUDE: &str = include_str!("lua/prelude.lua");
/// Parts of the prelude for the steps that use them. Redis runs a script from its first line at each call, so a step
/// pays for each function that it is composed of.
const STOPS: &str = include_str!("lua/prelude/stops.lua");
const SESSIONS: &str = include_str!("lua/prelude/sessions.lua");
const ADMISSION: &str = include_str!("lua/prelude/admission.lua");
const ATTEMPTS: &str = include_str!("lua/prelude/attempts.lua");
const RETURNING: &str = include_str!("lua/prelude/returning.lua");
const ENDING: &str = include_str!("lua/prelude/ending.lua");
/// A step's own file is the body of this function, so that it may return anywhere.
const BODY: &str = "local function body()\n";
/// After every step of a shard: what the parts of the prelude deferred, such as wakes and notices.
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

    /// A step below a shard's tag: the key names and the parts of the prelude that it uses, its own file, the epilogue.
    fn of_shard(name: &'static str, flags: &str, parts: &[&str], body: &str) -> Self {
        let script = [PRELUDE, &parts.concat(), BODY, body, EPILOGUE].concat();
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
            pipeline.add_command(call.command(self));
        }
        let values = self.send(link, &pipeline).await?;
        Ok(values.into_iter().map(|value| Answer::of(self.name, value)).collect())
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
            // Memory is not freed within this bound, so a full server is left to the caller.
            let full = matches!(error, QueueError::Full { .. });
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

/// Declares the steps, each from its file. Parts of the prelude stand in the order in which they build on each other.
macro_rules! steps {
    (
        of_shard { $($shard:ident = $shard_file:literal, $flags:ident, [$($part:ident),*];)* }
        of_own_tag { $($own:ident = $own_file:literal;)* }
    ) => {
        $(
            pub(crate) static $shard: LazyLock<Step> = LazyLock::new(|| {
                let body = include_str!(concat!("lua/", $shard_file, ".lua"));
                Step::of_shard($shard_file, $flags, &[$($part),*], body)
            });
        )*
        $(
            pub(crate) static $own: LazyLock<Step> = LazyLock::new(|| {
                Step::of_own_tag($own_file, include_str!(concat!("lua/", $own_file, ".lua")))
            });
        )*
        /// Each step of a shard: its name, its parts and its own file.
        #[cfg(test)]
        const OF_SHARD: &[(&str, &[&str], &str)] =
            &[$(($shard_file, &[$($part),*], include_str!(concat!("lua/", $shard_file, ".lua")))),*];
    };
}

steps! {
    of_shard {
        OPEN = "open", ALLOW_OOM, [SESSIONS];
        CLOSE = "close", ALLOW_OOM, [SESSIONS];
        TEAM = "team", REFUSE_OOM, [];
        ENQUEUE = "enqueue", REFUSE_OOM, [STOPS, SESSIONS, ADMISSION];
        CLAIM = "claim", ALLOW_OOM, [STOPS];
        RENEW = "renew", ALLOW_OOM, [STOPS];
        PARK = "park", ALLOW_OOM, [STOPS, ADMISSION];
        FINISH = "finish", ALLOW_OOM, [STOPS, ADMISSION, ATTEMPTS, RETURNING, ENDING];
        RELEASE = "release", ALLOW_OOM, [STOPS, ADMISSION, ATTEMPTS, RETURNING, ENDING];
        SEND = "send", ALLOW_OOM, [STOPS];
        ACKNOWLEDGE = "acknowledge", ALLOW_OOM, [];
        STOP = "stop", ALLOW_OOM, [STOPS];
        STOP_WAITING = "stop_waiting", ALLOW_OOM, [STOPS, ADMISSION, ENDING];
        SWEEP = "sweep", ALLOW_OOM, [STOPS, ADMISSION, ENDING];
        UNMARK = "unmark", ALLOW_OOM, [];
        REAP = "reap", ALLOW_OOM, [STOPS, SESSIONS, ADMISSION, ATTEMPTS];
        REAPED = "reaped", ALLOW_OOM, [STOPS, ADMISSION, RETURNING, ENDING];
        FORGET = "forget", ALLOW_OOM, [STOPS, SESSIONS];
        HEARTBEAT = "heartbeat", ALLOW_OOM, [];
        DRAIN = "drain", ALLOW_OOM, [];
        TODO_LIST = "todo", REFUSE_OOM, [SESSIONS];
        BUDGET = "budget", ALLOW_OOM, [];
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

    fn command(&self, step: &Step) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&step.hash).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [(&str, &str); 6] = [
        ("STOPS", STOPS),
        ("SESSIONS", SESSIONS),
        ("ADMISSION", ADMISSION),
        ("ATTEMPTS", ATTEMPTS),
        ("RETURNING", RETURNING),
        ("ENDING", ENDING),
    ];

    #[test]
    fn a_step_has_the_parts_whose_names_it_uses_and_no_others() {
        for (step, parts, body) in OF_SHARD {
            for (name, part) in PARTS {
                let names = names(part);
                let uses = |script: &str| words(script).intersection(&names).next().is_some();
                let others = parts.iter().filter(|other| **other != part);
                let used = uses(body) || others.into_iter().any(|other| uses(other));
                assert_eq!(parts.contains(&part), used, "{step} and {name}");
            }
        }
    }
}
