//! One connection for the life of a queue. It is replaced when its server turns out to be a replica, and when it times
//! out; with Sentinels also when its server is gone, because another may be the master then.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use futures::future::join_all;
use redis::Arg;
use redis::Cmd;
use redis::ErrorKind;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::ServerError;
use redis::Value;
use redis::aio::ConnectionLike as _;
use redis::aio::ConnectionManager;
use redis::aio::ConnectionManagerConfig;
use redis::cluster::ClusterConfig;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::RoutingInfo;
use redis::cluster_routing::SingleNodeRoutingInfo;

use crate::link;
use crate::link::COMMAND_TIMEOUT;
use crate::link::CONNECT_TIMEOUT;
use crate::link::MAX_RECONNECT_DELAY;
use crate::link::RECONNECT_ATTEMPTS;
use crate::link::Target;

/// One connection, and how to make the next one.
#[derive(Clone)]
pub(crate) struct Dedicated {
    target: Target,
    // A std mutex: it is held for a clone or an assignment, never over an await.
    current: Arc<Mutex<Current>>,
}

/// The connection that is used now, once one was needed.
struct Current {
    connection: Option<Connection>,
    // How often it was replaced. Of all calls that fail on one connection, the first replaces it.
    generation: u64,
}

/// A connection that can be shared. It connects at its first command.
#[derive(Clone)]
enum Connection {
    /// To one server; it reconnects to the same address.
    Managed(ConnectionManager),
    /// To all nodes of a Cluster; it follows slots and masters.
    Cluster(ClusterConnection),
}

impl Dedicated {
    pub(super) fn new(target: &Target) -> Self {
        let current = Current { connection: None, generation: 0 };
        Self { target: target.clone(), current: Arc::new(Mutex::new(current)) }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether each command goes to the node that has its slot.
    pub(super) fn is_cluster(&self) -> bool {
        self.target.is_cluster()
    }

    /// Sends the commands; replaces the connection where the answers say that it is of no use. However many calls are in
    /// flight, none waits for another: a node that hangs must not hold up the renewals that go to the others.
    pub(super) async fn send(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut used = None;
        let answers = link::within_round_trip(async {
            let (generation, connection) = self.current().await?;
            used = Some((generation, Instant::now()));
            connection.send(pipeline).await
        });
        let answers = answers.await;
        let Some((generation, sent)) = used else { return answers };
        if link::is_read_only(&answers) {
            self.replace(generation, "Redis server became read-only; reconnecting");
        } else if link::is_timeout(&answers) && sent.elapsed() >= COMMAND_TIMEOUT {
            // One that took so long to make that it had less time than that is used again.
            self.replace(generation, "Redis connection timed out; reconnecting");
        } else if answers.as_ref().is_err_and(RedisError::is_io_error) && self.is_found_by_sentinels() {
            self.replace(generation, "Redis connection was lost; the Sentinels are asked for the master");
        }
        answers
    }

    async fn current(&self) -> RedisResult<(u64, Connection)> {
        {
            let current = self.lock();
            if let Some(connection) = &current.connection {
                return Ok((current.generation, connection.clone()));
            }
        }
        let made = self.connect().await?;
        let mut current = self.lock();
        // Another call may have been first.
        let connection = current.connection.get_or_insert(made).clone();
        Ok((current.generation, connection))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        if self.is_cluster() {
            let client = self.target.cluster_client()?;
            let connection = client.get_pending_async_connection_with_config(ClusterConfig::new());
            return Ok(Connection::Cluster(connection));
        }
        let client = self.target.client().await?;
        let manager = ConnectionManager::new_lazy_with_config(client, manager_config())?;
        Ok(Connection::Managed(manager))
    }

    fn is_found_by_sentinels(&self) -> bool {
        !self.is_cluster() && self.target.single().is_ok_and(|single| single.is_none())
    }

    /// Lets the next call make a new connection in place of the one of this generation; does nothing if that was
    /// replaced before. The manager reconnects when a connection drops, but neither on `READONLY` nor after a timeout.
    fn replace(&self, generation: u64, reason: &'static str) {
        let mut current = self.lock();
        if current.generation != generation {
            return;
        }
        tracing::warn!("{reason}");
        *current = Current { connection: None, generation: generation + 1 };
    }
}

impl Connection {
    async fn send(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Managed(manager) => manager.clone().req_packed_commands(pipeline, 0, pipeline.len()).await,
            Self::Cluster(connection) => send_to_nodes(connection, pipeline).await,
        }
    }
}

/// Sends each command to the node that has its slot, all at once. Those for one node arrive in their order, unless a
/// slot moves in the middle. An error that a server answered stands among the answers; any other ends the call, when
/// some commands may have been done. So does a redirect that was followed in vain.
async fn send_to_nodes(connection: &ClusterConnection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let answers = pipeline.cmd_iter().map(|command| {
        let (mut connection, command) = (connection.clone(), command.clone());
        async move {
            if asks_any_node(&command) {
                let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                connection.route_command(command, any).await
            } else {
                connection.req_packed_command(&command).await
            }
        }
    });
    let answers = join_all(answers).await.into_iter();
    let or_refused = |error: RedisError| match error.code() {
        Some("MOVED" | "ASK") => Err(unsettled(&error)),
        _ => Ok(Value::ServerError(ServerError::try_from(error)?)),
    };
    answers.map(|answer| answer.or_else(or_refused)).collect()
}

/// The error of a command that the client followed from node to node until it gave up: where a master is replaced while a slot
/// moves, two nodes can each name the other. They agree within seconds, so this is an outage and no refusal.
fn unsettled(redirect: &RedisError) -> RedisError {
    let disagree = "the nodes of the Cluster do not agree on which of them has a slot";
    RedisError::from((ErrorKind::ClusterConnectionNotFound, disagree, redirect.to_string()))
}

/// Whether a command without a key asks a server about itself. The library would ask every node; one is asked, so that
/// the answer has the form that a single server gives it.
fn asks_any_node(command: &Cmd) -> bool {
    let name = command.args_iter().next();
    matches!(name, Some(Arg::Simple(b"PING" | b"INFO" | b"CONFIG" | b"TIME" | b"SCAN")))
}

/// The settings of every managed connection.
fn manager_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(COMMAND_TIMEOUT))
        .set_max_delay(MAX_RECONNECT_DELAY)
        .set_number_of_retries(RECONNECT_ATTEMPTS)
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated").finish_non_exhaustive()
    }
}
