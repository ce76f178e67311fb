//! Steps: one Lua script for each atomic change, called by hash.
//!
//! A step may be repeated: whatever a repeat finds done already, it answers as the first time. So an
//! answer that was lost, a script cache that was flushed, a slot that moves or a server that is still
//! loading all have one cure, to call again, and it is applied here, with a bound.

use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

use legwork_common::retry::Backoff;
use redis::Cmd;
use redis::Pipeline;
use redis::RedisError;
use redis::Script;
use redis::Value;

use crate::error::QueueError;
use crate::keys::LUA_KEYS;
use crate::link::Link;

/// The first line of a script that may run while memory is full.
const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";
/// The first line of a script that is refused while memory is full.
const REFUSED_OOM: &str = "#!lua\n";
/// After this long no further repeat is begun, so that a step ends within this and one round trip.
const PATIENCE: Duration = Duration::from_millis(2500);
/// What the steps of a shard share.
const PRELUDE: &str = include_str!("lua/prelude.lua");

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

    /// A step below a shard's tag.
    fn of_shard(name: &'static str, flags: &str, body: &str) -> Self {
        Self::new(name, format!("{flags}{LUA_KEYS}{PRELUDE}{body}"))
    }

    /// A step below a job's own tag.
    fn of_job(name: &'static str, body: &str) -> Self {
        Self::new(name, format!("{ALLOW_OOM}{body}"))
    }
}

/// Declares the steps, each from its file.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $kind:ident($file:literal $(, $flags:expr)?);)*) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: LazyLock<Step> = LazyLock::new(|| {
                Step::$kind($file, $($flags,)? include_str!(concat!("lua/", $file, ".lua")))
            });
        )*
    };
}

steps! {
    OPEN = of_shard("open", ALLOW_OOM);
    CLOSE = of_shard("close", ALLOW_OOM);
    TEAM = of_shard("team", REFUSED_OOM);
    ENQUEUE = of_shard("enqueue", REFUSED_OOM);
    CLAIM = of_shard("claim", ALLOW_OOM);
    RENEW = of_shard("renew", ALLOW_OOM);
    PARK = of_shard("park", ALLOW_OOM);
    FINISH = of_shard("finish", ALLOW_OOM);
    STOP = of_shard("stop", ALLOW_OOM);
    SWEEP = of_shard("sweep", ALLOW_OOM);
    ACKNOWLEDGE = of_shard("acknowledge", ALLOW_OOM);
    SEND = of_shard("send", ALLOW_OOM);
    REAP = of_shard("reap", ALLOW_OOM);
    REAPED = of_shard("reaped", ALLOW_OOM);
    RELEASE = of_shard("release", ALLOW_OOM);
    HEARTBEAT = of_shard("heartbeat", ALLOW_OOM);
    FORGET = of_shard("forget", ALLOW_OOM);
    TODOS = of_shard("todo", REFUSED_OOM);
    BUDGET = of_shard("budget", ALLOW_OOM);
    BEGIN = of_job("begin");
    APPEND = of_job("append");
    SEAL = of_job("seal");
    RESERVE = of_job("reserve");
    VOID = of_job("void");
    PERMIT = of_job("permit");
}

/// One call of a step: its keys (the shard's tag first) and its arguments.
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

    /// Declares a further key that is known before the call.
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

/// Calls a step until it is answered, within a bound.
///
/// # Errors
///
/// [`QueueError`] once the repeats are used up, or at once for an error that no repeat cures.
pub(crate) async fn call(link: &Link, step: &Step, call: &Call) -> Result<Value, QueueError> {
    let answers = call_all(link, step, std::slice::from_ref(call)).await?;
    Ok(answers.into_iter().next().unwrap_or(Value::Nil))
}

/// Calls a step several times in one round trip; answers in the order of the calls.
///
/// # Errors
///
/// As [`call`]. Some of the calls may have been done when one fails.
pub(crate) async fn call_all(link: &Link, step: &Step, calls: &[Call]) -> Result<Vec<Value>, QueueError> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls {
        pipeline.add_command(call.command(step));
    }
    let mut pauses = Backoff::exponential(Duration::from_millis(20), Duration::from_millis(500), 5);
    let began = Instant::now();
    let mut loaded = false;
    loop {
        let error = match send(link, &pipeline).await {
            Ok(answers) => return Ok(answers),
            Err(error) => error,
        };
        if error.code() == Some("NOSCRIPT") && !loaded {
            load(link, step).await?;
            loaded = true;
            continue;
        }
        let error = QueueError::from_redis(step.name, error);
        let full = matches!(error, QueueError::Full { .. });
        let Some(pause) =
            pauses.next().filter(|_| error.is_transient() && !full && began.elapsed() < PATIENCE)
        else {
            return Err(error);
        };
        tokio::time::sleep(pause).await;
    }
}

/// Sends the calls once; the first error among the answers counts.
async fn send(link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
    link.pipeline(pipeline).await?.into_iter().map(Value::extract_error).collect()
}

/// Puts a step's script into the server's cache, which a restart or `SCRIPT FLUSH` empties.
async fn load(link: &Link, step: &Step) -> Result<(), QueueError> {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(&step.source);
    link.command(&command)
        .await
        .and_then(Value::extract_error)
        .map(drop)
        .map_err(|error| QueueError::from_redis(step.name, error))
}
