//! Steps: one Lua script for each atomic change, called by its hash.
//!
//! A step may be repeated: what a repeat finds done already, it answers as the first time. So a lost answer, a flushed
//! script cache, a slot that moves and a server that still loads its data have one remedy, to call again. It is applied
//! here, within a bound.

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

/// What the steps of a shard share, in this order, because each part uses those before it.
const PRELUDE: [&str; 6] = [
    LUA_KEYS,
    include_str!("lua/prelude.lua"),
    include_str!("lua/prelude/stops.lua"),
    include_str!("lua/prelude/sessions.lua"),
    include_str!("lua/prelude/admission.lua"),
    include_str!("lua/prelude/ending.lua"),
];
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

    /// A step below a shard's tag: the prelude, its own file, the epilogue.
    fn of_shard(name: &'static str, flags: &str, body: &str) -> Self {
        Self::new(name, [flags, &PRELUDE.concat(), BODY, body, EPILOGUE].concat())
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

/// Sends the calls once. The first error among the answers counts.
async fn send_once(link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
    link.pipeline(pipeline).await?.into_iter().map(Value::extract_error).collect()
}

/// Declares the steps, each from its file.
macro_rules! steps {
    ($($name:ident = $kind:ident($file:literal $(, $flags:expr)?);)*) => {
        $(
            pub(crate) static $name: LazyLock<Step> = LazyLock::new(|| {
                Step::$kind($file, $($flags,)? include_str!(concat!("lua/", $file, ".lua")))
            });
        )*
    };
}

steps! {
    OPEN = of_shard("open", ALLOW_OOM);
    CLOSE = of_shard("close", ALLOW_OOM);
    TEAM = of_shard("team", REFUSE_OOM);
    ENQUEUE = of_shard("enqueue", REFUSE_OOM);
    CLAIM = of_shard("claim", ALLOW_OOM);
    RENEW = of_shard("renew", ALLOW_OOM);
    PARK = of_shard("park", ALLOW_OOM);
    FINISH = of_shard("finish", ALLOW_OOM);
    RELEASE = of_shard("release", ALLOW_OOM);
    SEND = of_shard("send", ALLOW_OOM);
    ACKNOWLEDGE = of_shard("acknowledge", ALLOW_OOM);
    STOP = of_shard("stop", ALLOW_OOM);
    SWEEP = of_shard("sweep", ALLOW_OOM);
    UNMARK = of_shard("unmark", ALLOW_OOM);
    REAP = of_shard("reap", ALLOW_OOM);
    REAPED = of_shard("reaped", ALLOW_OOM);
    FORGET = of_shard("forget", ALLOW_OOM);
    HEARTBEAT = of_shard("heartbeat", ALLOW_OOM);
    TODO_LIST = of_shard("todo", REFUSE_OOM);
    BUDGET = of_shard("budget", ALLOW_OOM);
    BEGIN = of_own_tag("begin");
    APPEND = of_own_tag("append");
    SEAL = of_own_tag("seal");
    RESERVE = of_own_tag("reserve");
    VOID = of_own_tag("void");
    PERMIT = of_own_tag("permit");
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
