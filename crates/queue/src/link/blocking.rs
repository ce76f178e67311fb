//! Blocking reads of lists: one on one server, one for each slot of a Cluster, which blocks on one slot at a time.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::Cmd;
use redis::ConnectionAddr;
use redis::ErrorKind;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use crate::error::QueueError;
use crate::link::COMMAND_TIMEOUT;
use crate::link::Target;
use crate::link::target::connect_blocking;
use crate::link::timeout_error;

/// How many times a read follows a slot to another node before it fails: a slot moves once in a while.
const MAX_REDIRECTS: usize = 5;

/// The connections that block, and the reads that are in flight on them. Nothing else may use such a connection.
#[derive(Default)]
pub(crate) struct BlockingReads {
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    // The connection of a single server.
    idle: Option<MultiplexedConnection>,
    // The groups of keys that are read, and one read for each, from call to call. An answer that comes between two
    // calls waits for the next one.
    groups: Vec<Vec<String>>,
    in_flight: FuturesUnordered<Read>,
}

type Read = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What a read of a group came back with: the connection, if it can be used again, and the key of a list that had an
/// element, or nothing after the time.
struct Outcome {
    group: usize,
    connection: Option<MultiplexedConnection>,
    answer: RedisResult<Value>,
}

impl BlockingReads {
    /// Takes an element from the first list that has one, waiting for up to `seconds`: the answer of `BLPOP`. The keys
    /// of a group are in one slot. Dropped in the middle, it closes the connection of a single server, so that no later
    /// command can stall behind this read or take its answer; reads of a Cluster continue, for the next call.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when a server cannot be reached, or does not answer in time.
    pub(crate) async fn take(
        &self,
        target: &Target,
        groups: Vec<Vec<String>>,
        seconds: u32,
        asked: &'static str,
    ) -> Result<Value, QueueError> {
        let mut reads = self.reads.lock().await;
        let taken = if target.is_cluster() {
            reads.of_cluster(target, groups, seconds).await
        } else {
            reads.of_server(target, &groups.concat(), seconds).await
        };
        taken.map_err(|error| QueueError::from_redis(asked, error))
    }
}

impl BlockingReads {
    /// [`BlockingReads::take`] from the lists of one server, followed by a command in the same round trip: the server runs it
    /// right after the read, whether or not that found an element. The answers of both may be errors of their own. Dropped in
    /// the middle, the command was run, or is, or never will be.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the server cannot be reached, or does not answer in time.
    pub(crate) async fn take_and_send(
        &self,
        target: &Target,
        keys: Vec<String>,
        seconds: u32,
        asked: &'static str,
        command: &Cmd,
    ) -> Result<[Value; 2], QueueError> {
        let mut reads = self.reads.lock().await;
        let answers = reads.of_server_and(target, &keys, seconds, command).await;
        answers.map_err(|error| QueueError::from_redis(asked, error))
    }
}

impl Reads {
    async fn of_server_and(
        &mut self,
        target: &Target,
        keys: &[String],
        seconds: u32,
        command: &Cmd,
    ) -> RedisResult<[Value; 2]> {
        let mut connection = self.connection(target).await?;
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(blocking_read(keys, seconds)).add_command(command.clone());
        let sent = connection.send_packed_commands(&pipeline, 0, pipeline.len());
        let answers = within(seconds, sent).await?;
        // Put back only after answers that are none of a replica.
        if !answers.iter().any(|answer| matches!(answer, Value::ServerError(_))) {
            self.idle = Some(connection);
        }
        let two = "a read and a command have two answers";
        <[Value; 2]>::try_from(answers).map_err(|_| RedisError::from((ErrorKind::Client, two)))
    }

    /// The idle connection of a server, or a new one.
    async fn connection(&mut self, target: &Target) -> RedisResult<MultiplexedConnection> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => connect_blocking(&target.client().await?).await,
        }
    }

    async fn of_server(&mut self, target: &Target, keys: &[String], seconds: u32) -> RedisResult<Value> {
        let mut connection = self.connection(target).await?;
        // Put back only after an answer.
        let answer = read(&mut connection, keys, seconds).await?;
        self.idle = Some(connection);
        Ok(answer)
    }

    /// Waits for the first of all reads. A read that found nothing starts again at the next call.
    async fn of_cluster(
        &mut self,
        target: &Target,
        groups: Vec<Vec<String>>,
        seconds: u32,
    ) -> RedisResult<Value> {
        if self.groups != groups {
            // Dropped reads close their connections; an element that they took is lost, as after a crash.
            self.in_flight = FuturesUnordered::new();
            self.groups = groups;
            for group in 0..self.groups.len() {
                self.start(target, group, None, seconds);
            }
        }
        // All reads end within their time, so this does too.
        for _ in 0..self.groups.len() {
            let Some(Outcome { group, connection, answer }) = self.in_flight.next().await else { break };
            self.start(target, group, connection, seconds);
            match answer? {
                Value::Nil => {}
                element => return Ok(element),
            }
        }
        Ok(Value::Nil)
    }

    fn start(
        &mut self,
        target: &Target,
        group: usize,
        connection: Option<MultiplexedConnection>,
        seconds: u32,
    ) {
        let (target, keys) = (target.clone(), self.groups.get(group).cloned().unwrap_or_default());
        self.in_flight.push(Box::pin(async move {
            let (connection, answer) = read_slot(&target, &keys, connection, seconds).await;
            Outcome { group, connection, answer }
        }));
    }
}

/// Reads the lists of one slot, from the node that has it.
async fn read_slot(
    target: &Target,
    keys: &[String],
    connection: Option<MultiplexedConnection>,
    seconds: u32,
) -> (Option<MultiplexedConnection>, RedisResult<Value>) {
    let mut connection = match connection {
        Some(connection) => Ok(connection),
        None => any_node(target).await,
    };
    for _ in 0..MAX_REDIRECTS {
        let mut open = match connection {
            Ok(open) => open,
            Err(error) => return (None, Err(error)),
        };
        match read(&mut open, keys, seconds).await {
            Ok(answer) => return (Some(open), Ok(answer)),
            Err(error) => match node_of(target, &error) {
                Some(Ok(client)) => connection = connect_blocking(&client).await,
                Some(Err(error)) => return (None, Err(error)),
                None => return (None, Err(error)),
            },
        }
    }
    (None, Err(timeout_error()))
}

/// One blocking read of lists in one slot.
async fn read(connection: &mut MultiplexedConnection, keys: &[String], seconds: u32) -> RedisResult<Value> {
    within(seconds, connection.send_packed_command(&blocking_read(keys, seconds))).await?.extract_error()
}

fn blocking_read(keys: &[String], seconds: u32) -> Cmd {
    let mut command = Cmd::new();
    command.arg("BLPOP").arg(keys).arg(seconds);
    command
}

/// The answer of a read that blocks for so long, or a timeout.
async fn within<T>(seconds: u32, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let timeout = Duration::from_secs(u64::from(seconds)) + COMMAND_TIMEOUT;
    tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_elapsed| Err(timeout_error()))
}

/// A connection to the first node of the URL that answers.
async fn any_node(target: &Target) -> RedisResult<MultiplexedConnection> {
    let mut failed = timeout_error();
    for node in target.nodes() {
        match connect_blocking(&target.client_of(node)?).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The node that an error names as the one that has the slot.
fn node_of(target: &Target, error: &RedisError) -> Option<RedisResult<redis::Client>> {
    let (address, _slot) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    // A node that does not know its own host leaves it out: then it is the host that was asked.
    let known = target.nodes().first().map(redis::ConnectionInfo::addr);
    let host = match (host, known) {
        ("", Some(ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. })) => host,
        (host, _) => host,
    };
    Some(target.node_client(host, port.parse().ok()?))
}

impl fmt::Debug for BlockingReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingReads").finish_non_exhaustive()
    }
}
