//! A few connections that many callers share, one call at a time on each.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Manager;
use deadpool_redis::Pool;
use deadpool_redis::PoolError;
use deadpool_redis::Runtime;
use redis::AsyncConnectionConfig;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::ConnectionLike as _;
use tokio::sync::Semaphore;

use crate::error::QueueError;
use crate::link::COMMAND_TIMEOUT;
use crate::link::CONNECT_TIMEOUT;
use crate::link::is_read_only;
use crate::link::is_timeout;
use crate::link::timeout_error;
use crate::link::within_round_trip;

/// Connections of a pool. A command line runs a few operations at once; the MCP server's hosts share them.
const POOL_SIZE: usize = 8;
/// How long a call may wait for its turn on one of the connections. Hundreds of hosts that call at once wait for each other and
/// not for the server: their round trips begin with their turns.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a checkout from the pool may take before all idle connections are closed. A checkout asks the server first,
/// so it takes this long when the connection went silent. A third of a round trip: a new connection and the command
/// still fit in.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(1);

/// A pool of connections to one server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    pool: Pool,
    /// One for each connection. Not left to the pool, whose wait for a connection would be part of the round trip.
    turns: Arc<Semaphore>,
}

impl Pooled {
    /// Connects to nothing yet.
    pub(crate) fn new(server: ConnectionInfo) -> Result<Self, QueueError> {
        let failed = |error| QueueError::from_redis("connect", error);
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
        Ok(Self { pool, turns: Arc::new(Semaphore::new(POOL_SIZE)) })
    }

    /// Sends several commands in one round trip; each answer may be an error of its own. Waits for its turn for up to
    /// [`TURN_TIMEOUT`], and then for one round trip. Dropped in the middle, the commands were run, or are, or never will be.
    ///
    /// # Errors
    ///
    /// A timeout, or the error of a connection.
    pub(crate) async fn pipeline(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.acquire()).await;
        let _turn = turn.map_err(|_elapsed| timeout_error())?;
        let answers = within_round_trip(through_pool(&self.pool, pipeline)).await;
        if is_timeout(&answers) {
            // The others are as old, and a connection that a dropped call held is back in the pool.
            close_idle(&self.pool);
        }
        answers
    }
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

/// The error of a pool as one of the client: that of the connection, or a wait for one that was too long.
fn pool_error(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(_) => timeout_error(),
        other => RedisError::from((ErrorKind::Io, "no connection from the pool", other.to_string())),
    }
}
