//! Connections to Redis.
//!
//! Two kinds behind one type. Short operations take a connection from a deadpool pool. A worker's hot path holds one of
//! its own, because a checkout from the pool costs a round trip.
//!
//! What the client's defaults lack is set here: TCP_NODELAY is on; the response timeout is two seconds instead of half
//! a second; a connection is replaced when the server answers `READONLY`, because after a failover the old address may
//! be a replica; a round trip has a bound that includes all attempts to connect.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use deadpool_redis::Manager;
use deadpool_redis::Pool;
use deadpool_redis::PoolError;
use deadpool_redis::Runtime;
use redis::AsyncConnectionConfig;
use redis::Client;
use redis::Cmd;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::IntoConnectionInfo;
use redis::Pipeline;
use redis::ProtocolVersion;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::ConnectionLike;
use redis::aio::ConnectionManager;
use redis::aio::ConnectionManagerConfig;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;

use crate::answer::Answer;
use crate::answer::Items;
use crate::error::QueueError;

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
/// The longest delay between two attempts to reconnect: a server that is back is found within this.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Attempts to reconnect before the commands that wait for the connection fail. The timeout of a round trip is reached
/// first; this bounds the task of the client behind it.
const RECONNECT_ATTEMPTS: usize = 3;
/// Connections of a pool. A command line runs a few operations at once; the MCP server's hosts share them.
const POOL_SIZE: usize = 8;

/// Where Redis is, and how to log in. Its `Debug` and `Display` never show the password.
#[derive(Clone)]
pub struct Target {
    info: ConnectionInfo,
}

impl Target {
    /// Reads `redis://`, `rediss://` and `unix://` URLs.
    ///
    /// # Errors
    ///
    /// [`QueueError::Refused`] for a URL that cannot be one.
    pub fn parse(url: &str) -> Result<Self, QueueError> {
        let info =
            url.into_connection_info().map_err(|error| QueueError::from_redis("parse the URL", error))?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(redis).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { info })
    }

    /// A client for this target. Does not connect yet.
    fn client(&self) -> RedisResult<Client> {
        Client::open(self.info.clone())
    }

    /// A connection for one caller's blocking commands: all other commands on it would wait behind them. It has no
    /// response timeout, so the caller sets one.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when no connection can be made within two seconds.
    pub(crate) async fn blocking_connection(&self) -> Result<MultiplexedConnection, QueueError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let failed = |error| QueueError::from_redis("connect", error);
        self.client()
            .map_err(failed)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(failed)
    }

    /// A connection whose pushes go to `sender`, and which subscribes again after it reconnected.
    pub(crate) fn push_connection(
        &self,
        sender: tokio::sync::broadcast::Sender<redis::PushInfo>,
    ) -> Result<ConnectionManager, QueueError> {
        let config = manager_config().set_push_sender(sender).set_automatic_resubscription();
        let failed = |error| QueueError::from_redis("connect", error);
        ConnectionManager::new_lazy_with_config(self.client().map_err(failed)?, config).map_err(failed)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.info.addr())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// The settings of every managed connection.
fn manager_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(COMMAND_TIMEOUT))
        .set_max_delay(MAX_RECONNECT_DELAY)
        .set_number_of_retries(RECONNECT_ATTEMPTS)
}

/// A connection to send commands on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// Takes a connection from a pool for each command.
    Pooled(Pool),
    /// Holds one multiplexed connection.
    Dedicated(Box<Dedicated>),
}

impl Link {
    /// A pool for short operations. Connects to nothing yet.
    pub(crate) fn pooled(target: &Target) -> Result<Self, QueueError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let manager = Manager::new_with_config(target.info.clone(), config)
            .map_err(|error| QueueError::from_redis("connect", error))?;
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
    pub(crate) fn dedicated(target: &Target) -> Result<Self, QueueError> {
        let dedicated = Dedicated::new(target).map_err(|error| QueueError::from_redis("connect", error))?;
        Ok(Self::Dedicated(Box::new(dedicated)))
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
    /// [`ROUND_TRIP_TIMEOUT`].
    pub(crate) async fn pipeline(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let answers = tokio::time::timeout(ROUND_TRIP_TIMEOUT, self.unbounded(pipeline)).await;
        answers.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn unbounded(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = pipeline.len();
        match self {
            Self::Pooled(pool) => {
                let mut connection = pool.get().await.map_err(pool_error)?;
                let answers = connection.req_packed_commands(pipeline, 0, count).await;
                if is_read_only(&answers) {
                    // Taken out of the pool, so that it is closed and not used again.
                    drop(deadpool_redis::Connection::take(connection));
                }
                answers
            }
            Self::Dedicated(dedicated) => {
                let answers = dedicated.current().req_packed_commands(pipeline, 0, count).await;
                if is_read_only(&answers) {
                    dedicated.replace();
                }
                answers
            }
        }
    }
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
        other => RedisError::from((ErrorKind::Io, "no connection from the pool", other.to_string())),
    }
}

/// One dedicated connection that is replaced when its server turns out to be a replica.
#[derive(Clone)]
pub(crate) struct Dedicated {
    client: Client,
    // A std mutex: it is held for a clone or an assignment, never over an await.
    current: Arc<Mutex<ConnectionManager>>,
}

impl Dedicated {
    fn new(target: &Target) -> RedisResult<Self> {
        let client = target.client()?;
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), manager_config())?;
        Ok(Self { client, current: Arc::new(Mutex::new(manager)) })
    }

    fn current(&self) -> ConnectionManager {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a new connection. The manager reconnects when a connection drops, but not on `READONLY`.
    fn replace(&self) {
        tracing::warn!("Redis server became read-only; reconnecting");
        if let Ok(manager) = ConnectionManager::new_lazy_with_config(self.client.clone(), manager_config()) {
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = manager;
        }
    }
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated").finish_non_exhaustive()
    }
}
