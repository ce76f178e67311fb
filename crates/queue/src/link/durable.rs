//! Calls that are answered only once files and replicas have what they wrote (`--durable`).
//!
//! `WAITAOF` waits for all that its own connection wrote before. So the call, a mark and `WAITAOF` go to one server on one
//! connection: a call whose connection was lost is repeated whole, also after a failover, where the repeat finds its writes
//! or makes them again. The mark is a write of its own, because a repeat that finds everything done writes nothing, and
//! `WAITAOF` would wait for nothing. The connection is blocked until then, so nothing else uses it.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use redis::Arg;
use redis::Cmd;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::ConnectionLike as _;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;

use crate::error::QueueError;
use crate::link;
use crate::link::COMMAND_TIMEOUT;
use crate::link::Target;
use crate::link::target::connect_blocking;
use crate::link::timeout_error;

/// How long a call waits for files and replicas. A replica that syncs its file every second says so within two; longer
/// than that it is away.
pub(crate) const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long the mark of a call is dropped.
const MARK_EXPIRY: Duration = Duration::from_secs(60);
/// Connections that wait at once, each for one call.
const MAX_WAITING: usize = 32;
/// The code of the error of a call that was done and not confirmed.
pub(crate) const NOT_DURABLE: &str = "NOTDURABLE";

/// The connections whose calls wait for files and replicas.
pub(crate) struct DurableLink {
    target: Target,
    mark: String,
    replicas: u32,
    // A std mutex: it is never held over an await.
    idle: Mutex<Vec<MultiplexedConnection>>,
    places: Semaphore,
}

impl DurableLink {
    /// Checks that the server can confirm what it is sent. `mark` is the key that each call writes.
    ///
    /// # Errors
    ///
    /// [`QueueError::CannotConfirm`] for a server that cannot; others where it cannot be reached.
    pub(super) async fn open(target: &Target, mark: String, replicas: u32) -> Result<Self, QueueError> {
        if target.is_cluster() {
            return Err(QueueError::CannotConfirm { detail: "a Cluster is not supported".to_owned() });
        }
        let places = Semaphore::new(MAX_WAITING);
        let opened = Self { target: target.clone(), mark, replicas, idle: Mutex::default(), places };
        let mut wait = redis::cmd("WAITAOF");
        wait.arg(1).arg(replicas).arg(1);
        let failed = |error| QueueError::from_redis("connect", error);
        let mut connection = opened.connect().await.map_err(failed)?;
        let asked = connection.send_packed_command(&wait);
        // It has written nothing, so that it does not wait.
        match link::within_round_trip(asked).await.and_then(Value::extract_error) {
            Ok(_) => {
                opened.keep(connection);
                Ok(opened)
            }
            Err(error) if error.is_io_error() || error.is_timeout() => Err(failed(error)),
            Err(error) => Err(QueueError::CannotConfirm { detail: refusal(&error) }),
        }
    }

    /// Sends commands, and waits until the server's file and those of the replicas have what they wrote. Dropping the future
    /// closes its connection and leaves the commands done or not done.
    ///
    /// # Errors
    ///
    /// That of the connection; or one with the code [`NOT_DURABLE`], where the commands were done and are not confirmed
    /// within [`CONFIRMATION_TIMEOUT`].
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let within = CONFIRMATION_TIMEOUT + COMMAND_TIMEOUT;
        let place = tokio::time::timeout(within, self.places.acquire()).await;
        let _place = place.map_err(|_elapsed| timeout_error())?.map_err(|_closed| timeout_error())?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => link::within_round_trip(self.connect()).await?,
        };
        let sent = connection.req_packed_commands(commands, 0, commands.len());
        let answers = link::within_round_trip(sent).await;
        if answers.is_err() || link::is_read_only(&answers) {
            // The others lead to the same server.
            self.idle().clear();
            return answers;
        }
        let answers = answers?;
        // A refused step has nothing to confirm; a script that was loaded is not data.
        let is_refused = answers.iter().any(|answer| matches!(answer, Value::ServerError(_)));
        if !is_refused && commands.cmd_iter().any(is_step) {
            self.confirm(&mut connection).await?;
        }
        self.keep(connection);
        Ok(answers)
    }

    /// Waits for all that this connection wrote.
    async fn confirm(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut mark = redis::pipe();
        mark.cmd("SET").arg(&self.mark).arg(1).arg("PX").arg(MARK_EXPIRY.as_millis());
        mark.cmd("WAITAOF").arg(1).arg(self.replicas).arg(CONFIRMATION_TIMEOUT.as_millis());
        let within = CONFIRMATION_TIMEOUT + COMMAND_TIMEOUT;
        let sent = connection.req_packed_commands(&mark, 0, mark.len());
        let answers =
            tokio::time::timeout(within, sent).await.unwrap_or_else(|_elapsed| Err(timeout_error()));
        let confirmed = answers.and_then(|mut answers| answers.pop().unwrap_or(Value::Nil).extract_error());
        let counts = confirmed.and_then(|counts| Ok(redis::from_redis_value::<(u32, u32)>(counts)?));
        match counts {
            Ok((files, replicas)) if files >= 1 && replicas >= self.replicas => Ok(()),
            failed => {
                // With Sentinels the next call may find another master.
                self.idle().clear();
                Err(failed.map_or_else(|error| error, |counts| self.unconfirmed(counts)))
            }
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        connect_blocking(&self.target.client().await?).await
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, connection: MultiplexedConnection) {
        self.idle().push(connection);
    }

    /// The error of a call that is not confirmed.
    fn unconfirmed(&self, (files, replicas): (u32, u32)) -> RedisError {
        let own = if files < 1 { "the server's file does not have it" } else { "the server's file has it" };
        let text = format!("-{NOT_DURABLE} {own}, and {replicas} of {} replicas do\r\n", self.replicas);
        match redis::parse_redis_value(text.as_bytes()).and_then(Value::extract_error) {
            Err(error) => error,
            Ok(_) => timeout_error(),
        }
    }
}

/// Whether a command is a step, which may write.
fn is_step(command: &Cmd) -> bool {
    matches!(command.args_iter().next(), Some(Arg::Simple(b"EVALSHA")))
}

/// Why a server refused `WAITAOF`.
fn refusal(error: &RedisError) -> String {
    let text = error.to_string();
    if text.to_lowercase().contains("unknown command") {
        return "this server does not know WAITAOF".to_owned();
    }
    text
}

impl fmt::Debug for DurableLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableLink").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}
