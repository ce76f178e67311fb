//! Connections to Redis.
//!
//! Two kinds behind one type. Short operations take a connection from a deadpool pool. A worker's hot path holds one of
//! its own, because a checkout from the pool costs a round trip.
//!
//! What the client's defaults lack is set here: TCP_NODELAY is on; the response timeout is two seconds instead of half
//! a second; a connection is replaced when the server answers `READONLY`, because after a failover the old address may
//! be a replica; a connection is replaced after one timeout, because a network can drop a connection without a reset; a
//! round trip has a bound that includes all attempts to connect.

mod blocking;
mod dedicated;
mod durable;
mod target;
mod url;

pub(crate) use blocking::BlockingReads;
pub(crate) use durable::NOT_DURABLE;
pub use target::Target;

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Manager;
use deadpool_redis::Pool;
use deadpool_redis::PoolError;
use deadpool_redis::Runtime;
use redis::AsyncConnectionConfig;
use redis::Cmd;
use redis::ErrorKind;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::ConnectionLike;

use crate::answer::Answer;
use crate::answer::Items;
use crate::error::QueueError;
use crate::link::dedicated::Dedicated;
use crate::link::durable::DurableLink;

/// The timeout of one command. Longer than any step takes on a loaded server, and a fifth of the default lease, so that
/// a renewal that is lost can be repeated in time.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of a round trip, all attempts to connect included. A server that accepts connections and never answers
/// would hold a step up for the sum of its attempts otherwise.
pub(crate) const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(3);
/// The error code of a replica that is asked to write.
const READ_ONLY: &str = "READONLY";
/// The timeout of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a checkout from the pool may take before all idle connections are closed. A checkout asks the server first,
/// so it takes this long when the connection went silent. A third of a round trip: a new connection and the command
/// still fit in.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle time before the first TCP keepalive probe, and the time between probes. They close connections that no command
/// waits on, such as those of an idle pool, and keep firewalls from forgetting them.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How long sent bytes may stay unacknowledged before the kernel closes the connection. Longer than any timeout here,
/// which all replace the connection first; this closes what is not waited on.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest delay between two attempts to reconnect: a server that is back is found within this.
pub(crate) const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Attempts to reconnect before the commands that wait for the connection fail. The timeout of a round trip is reached
/// first; this bounds the task of the client behind it.
const RECONNECT_ATTEMPTS: usize = 3;
/// Connections of a pool. A command line runs a few operations at once; the MCP server's hosts share them.
const POOL_SIZE: usize = 8;

/// A connection to send commands on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// Takes a connection from a pool for each command.
    Pooled(Pool),
    /// Holds one connection, or one to each node of a Cluster.
    Dedicated(Dedicated),
    /// Waits after each call until files and replicas have what it wrote.
    Durable(Arc<DurableLink>),
}

impl Link {
    /// For short operations: a pool where there is one server. Connects to nothing yet.
    pub(crate) fn pooled(target: &Target) -> Result<Self, QueueError> {
        let failed = |error| QueueError::from_redis("connect", error);
        let Some(server) = target.single().map_err(failed)? else {
            return Ok(Self::dedicated(target));
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let manager = Manager::new_with_config(server, config).map_err(failed)?;
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(COMMAND_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(COMMAND_TIMEOUT))
            .build()
            .map_err(|error| QueueError::Unexpected { step: "connect", detail: error.to_string() })?;
        Ok(Self::Pooled(pool))
    }

    /// One dedicated connection. Connects at the first command.
    pub(crate) fn dedicated(target: &Target) -> Self {
        Self::Dedicated(Dedicated::new(target))
    }

    /// For calls that are to wait until the server's file and those of the replicas that `target` asks for have what they
    /// wrote; `None` where it asks for none.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the server cannot confirm that, or cannot be reached.
    pub(crate) async fn durable(target: &Target, mark: String) -> Result<Option<Self>, QueueError> {
        match target.replicas() {
            Some(replicas) => {
                Ok(Some(Self::Durable(Arc::new(DurableLink::open(target, mark, replicas).await?))))
            }
            None => Ok(None),
        }
    }

    /// Whether each command goes to the node that has its slot. A step then declares a second key: see
    /// [`crate::step::Call`].
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Dedicated(dedicated) if dedicated.is_cluster())
    }

    /// Sends one command and reads its answer; `asked` names it in errors. Dropping the future may leave the command
    /// done or not done.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached in time, or answers with an error.
    pub(crate) async fn ask(&self, asked: &'static str, command: &Cmd) -> Result<Answer, QueueError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        self.ask_all(asked, &pipeline).await?.item()
    }

    /// Sends several commands in one round trip and reads their answers, in order.
    ///
    /// # Errors
    ///
    /// As [`Link::ask`], for the first command that failed; the others may have been done.
    pub(crate) async fn ask_all(
        &self,
        asked: &'static str,
        pipeline: &Pipeline,
    ) -> Result<Items, QueueError> {
        let failed = |error| QueueError::from_redis(asked, error);
        if pipeline.is_empty() {
            return Ok(Items::of(asked, Vec::new()));
        }
        let values = self.pipeline(pipeline).await.map_err(failed)?;
        let values: RedisResult<Vec<Value>> = values.into_iter().map(Value::extract_error).collect();
        Ok(Items::of(asked, values.map_err(failed)?))
    }

    /// Sends several commands in one round trip; each answer may be an error of its own. Gives up after
    /// [`ROUND_TRIP_TIMEOUT`]. A connection that timed out is not used again.
    pub(crate) async fn pipeline(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Pooled(pool) => {
                let answers = within_round_trip(Box::pin(through_pool(pool, pipeline))).await;
                if is_timeout(&answers) {
                    // The others are as old, and a connection that a dropped call held is back in the pool.
                    close_idle(pool);
                }
                answers
            }
            Self::Durable(durable) => Box::pin(durable.pipeline(pipeline)).await,
            // Boxed, because its type is too deep for the compiler in each of its callers.
            Self::Dedicated(dedicated) => Box::pin(dedicated.send(pipeline)).await,
        }
    }
}

/// The answers, or a timeout after [`ROUND_TRIP_TIMEOUT`].
async fn within_round_trip<T>(answers: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(ROUND_TRIP_TIMEOUT, answers).await.unwrap_or_else(|_| Err(timeout_error()))
}

pub(crate) fn timeout_error() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Sends commands on a connection of the pool. Closes the connection if it cannot be used again.
async fn through_pool(pool: &Pool, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut connection = checkout(pool).await?;
    let answers = connection.req_packed_commands(pipeline, 0, pipeline.len()).await;
    if is_read_only(&answers) || is_timeout(&answers) {
        // Taken out of the pool, so that it is closed and not used again.
        drop(deadpool_redis::Connection::take(connection));
    }
    answers
}

/// A connection of the pool. Where an idle one does not answer in time, all idle ones are closed, and a new one is made.
async fn checkout(pool: &Pool) -> RedisResult<deadpool_redis::Connection> {
    if let Ok(connection) = tokio::time::timeout(CHECKOUT_TIMEOUT, pool.get()).await {
        return connection.map_err(pool_error);
    }
    close_idle(pool);
    pool.get().await.map_err(pool_error)
}

fn close_idle(pool: &Pool) {
    pool.retain(|_, _| false);
}

/// Whether no answer came in time.
fn is_timeout(answers: &RedisResult<Vec<Value>>) -> bool {
    answers.as_ref().is_err_and(RedisError::is_timeout)
}

/// Whether a server answered that it is a replica. One answer is enough: all came from the same server.
fn is_read_only(answers: &RedisResult<Vec<Value>>) -> bool {
    match answers {
        Ok(values) => {
            values.iter().any(|value| matches!(value, Value::ServerError(error) if error.code() == READ_ONLY))
        }
        Err(error) => error.code() == Some(READ_ONLY),
    }
}

/// The error of a pool as one of the client: that of the connection, or a wait for one that was too long.
fn pool_error(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(_) => timeout_error(),
        other => RedisError::from((ErrorKind::Io, "no connection from the pool", other.to_string())),
    }
}
