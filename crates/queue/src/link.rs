//! Connections to Redis.
//!
//! Two kinds behind one type. Short operations take a connection from a deadpool pool. A worker's hot path holds one of
//! its own, because a checkout from the pool costs a round trip.
//!
//! What the client's defaults lack is set here: TCP_NODELAY is on; the response timeout is two seconds instead of half
//! a second; a connection is replaced when the server answers `READONLY`, because after a failover the old address may
//! be a replica; a connection is replaced after one timeout, because a network can drop a connection without a reset; a
//! round trip has a bound that includes all attempts to connect.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
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
use redis::aio::AsyncPushSender;
use redis::aio::ConnectionLike;
use redis::aio::ConnectionManager;
use redis::aio::ConnectionManagerConfig;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;

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
    /// [`QueueError::Address`] for a text that cannot be one.
    pub fn parse(url: &str) -> Result<Self, QueueError> {
        let info =
            url.into_connection_info().map_err(|_| QueueError::Address { text: without_credentials(url) })?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp_settings());
        Ok(Self { info })
    }

    /// A client for this target. Does not connect yet.
    fn client(&self) -> RedisResult<Client> {
        Client::open(self.info.clone())
    }

    /// Checks that a client can be made for this target. Does not connect.
    ///
    /// # Errors
    ///
    /// [`QueueError::Refused`] for a target that cannot be one.
    pub(crate) fn check(&self) -> Result<(), QueueError> {
        self.client().map(drop).map_err(|error| QueueError::from_redis("connect", error))
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

    /// A connection whose pushes go to `sender`. It does not reconnect.
    ///
    /// # Errors
    ///
    /// [`RedisError`] when no connection can be made within two seconds.
    pub(crate) async fn push_connection(
        &self,
        sender: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_push_sender(sender);
        self.client()?.get_multiplexed_async_connection_with_config(&config).await
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

/// An address for messages: what stands before its `@` may be a password.
fn without_credentials(url: &str) -> String {
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
    format!("{scheme}…@{host}")
}

/// The settings of every TCP connection, with TLS or without. Unix domain sockets ignore them.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(TCP_USER_TIMEOUT);
    settings
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
            Self::Dedicated(dedicated) => {
                let (generation, mut connection) = dedicated.current();
                let count = pipeline.len();
                let answers = within_round_trip(connection.req_packed_commands(pipeline, 0, count)).await;
                if is_read_only(&answers) {
                    dedicated.replace(generation, "Redis server became read-only; reconnecting");
                } else if is_timeout(&answers) {
                    dedicated.replace(generation, "Redis connection timed out; reconnecting");
                }
                answers
            }
        }
    }
}

/// The answers, or a timeout after [`ROUND_TRIP_TIMEOUT`].
async fn within_round_trip(
    answers: impl Future<Output = RedisResult<Vec<Value>>>,
) -> RedisResult<Vec<Value>> {
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

/// One dedicated connection. It is replaced when its server turns out to be a replica, and when it times out.
#[derive(Clone)]
pub(crate) struct Dedicated {
    client: Client,
    // A std mutex: it is held for a clone or an assignment, never over an await.
    current: Arc<Mutex<Current>>,
}

/// The connection that is used now.
struct Current {
    manager: ConnectionManager,
    // How often it was replaced. Of all calls that fail on one connection, the first replaces it.
    generation: u64,
}

impl Dedicated {
    fn new(target: &Target) -> RedisResult<Self> {
        let client = target.client()?;
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), manager_config())?;
        Ok(Self { client, current: Arc::new(Mutex::new(Current { manager, generation: 0 })) })
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> (u64, ConnectionManager) {
        let current = self.lock();
        (current.generation, current.manager.clone())
    }

    /// Makes a new connection in place of the one of this generation; does nothing if that was replaced before. The
    /// manager reconnects when a connection drops, but neither on `READONLY` nor after a timeout.
    fn replace(&self, generation: u64, reason: &'static str) {
        let mut current = self.lock();
        if current.generation != generation {
            return;
        }
        tracing::warn!("{reason}");
        if let Ok(manager) = ConnectionManager::new_lazy_with_config(self.client.clone(), manager_config()) {
            *current = Current { manager, generation: generation + 1 };
        }
    }
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated").finish_non_exhaustive()
    }
}
