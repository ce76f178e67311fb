//! A proxy in front of Redis that parses commands, counts them, and injects a fault into one of them.
//!
//! Counted are the calls of the queue: Lua steps and reads. Not counted are the handshake of a connection, its
//! subscriptions, blocking waits for a notification, and loading scripts.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

/// Commands that are not calls of the queue.
const UNCOUNTED: [&str; 10] =
    ["UNWATCH", "HELLO", "CLIENT", "AUTH", "SELECT", "PING", "SCRIPT", "BLPOP", "SUBSCRIBE", "UNSUBSCRIBE"];
/// A command that every server rejects with a permanent error.
const UNKNOWN_COMMAND: &[u8] = b"*1\r\n$6\r\nBROKEN\r\n";
/// Time for the server to execute a command after it was sent. A step takes less than a millisecond; the rest is margin for
/// a busy machine.
const EXECUTION_TIME: Duration = Duration::from_millis(20);
/// How long the connection to the server stays open after its client is gone, so that the server executes what it was
/// sent instead of dropping it with the connection.
const LINGER: Duration = Duration::from_secs(1);

/// The fault that is injected into a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The command is not delivered, and its connection closes.
    Fail,
    /// The command is executed, and its connection closes before the reply.
    LoseReply,
    /// The connection closes, and the command is executed this much later, after the client has repeated it on another
    /// connection.
    Late(Duration),
    /// The command and everything after it on its connection is delivered this much later.
    Hold(Duration),
    /// The command is executed; all replies on its connection are delayed by this much.
    Delay(Duration),
    /// The server rejects the command with a permanent error.
    Refuse,
    /// The client crashes before the command is delivered or after it was executed: all connections close and no new ones
    /// are accepted. The test must end the client, see [`CommandProxy::died`].
    Die {
        /// Whether the command is executed first.
        executed: bool,
    },
}

/// The armed fault, and what has happened since it was armed.
#[derive(Debug, Default)]
struct State {
    /// Number of the command, from 1, and its fault.
    armed: Option<(usize, Fault)>,
    /// The last argument of a command, and the fault of the first command that ends with it.
    armed_on: Option<(String, Fault)>,
    counted: usize,
    /// The command that the fault was injected into.
    hit: Option<String>,
    /// Whether the command of a [`Fault::Late`] was executed.
    late_executed: bool,
}

#[derive(Debug, Default)]
struct SharedState {
    state: Mutex<State>,
    dead: watch::Sender<bool>,
}

/// The proxy. Dropping the value closes all connections.
#[derive(Debug)]
pub struct CommandProxy {
    address: SocketAddr,
    server: SocketAddr,
    shared: Arc<SharedState>,
    serving: JoinSet<()>,
}

impl SharedState {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn died(&self) {
        // An error means that the sender is gone, which `self` rules out.
        self.dead.subscribe().wait_for(|dead| *dead).await.ok();
    }
}

impl CommandProxy {
    /// Starts a proxy in front of this server. Nothing is counted until [`CommandProxy::arm`].
    pub async fn start(server: SocketAddr) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), server).await
    }

    async fn start_at(address: SocketAddr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(SharedState::default());
        let mut serving = JoinSet::new();
        let accepting = Arc::clone(&shared);
        serving.spawn(async move {
            // Dropped, and so aborted, with this accepting task.
            let mut connections = JoinSet::new();
            loop {
                let client = tokio::select! {
                    Ok((client, _)) = listener.accept() => client,
                    () = accepting.died() => return,
                };
                let shared = Arc::clone(&accepting);
                connections.spawn(async move {
                    // An error closes the connection, which the client notices.
                    client.set_nodelay(true).ok();
                    forward(client, server, &shared).await.ok();
                });
            }
        });
        Self { address, server, shared, serving }
    }

    /// Redis URL of the proxy.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts counting commands from 1 and injects `fault` into the `nth`.
    pub fn arm(&self, nth: usize, fault: Fault) {
        *self.shared.state() = State { armed: Some((nth, fault)), ..State::default() };
    }

    /// Injects `fault` into the next command whose last argument is `last`.
    pub fn arm_on(&self, last: &str, fault: Fault) {
        *self.shared.state() = State { armed_on: Some((last.to_owned(), fault)), ..State::default() };
    }

    /// Starts anew at the same address, for clients that reconnect after a [`Fault::Die`].
    pub async fn restart(self) -> Self {
        let Self { address, server, shared, mut serving } = self;
        drop(shared);
        serving.shutdown().await;
        Self::start_at(address, server).await
    }

    /// Number of commands counted since [`CommandProxy::arm`].
    pub fn counted(&self) -> usize {
        self.shared.state().counted
    }

    /// Whether the command of a [`Fault::Late`] has been executed.
    pub fn came_late(&self) -> bool {
        self.shared.state().late_executed
    }

    /// Waits for a [`Fault::Die`]: the test then ends the client.
    pub async fn died(&self) {
        self.shared.died().await;
    }

    /// The command that the fault was injected into, if it was reached.
    pub fn hit(&self) -> Option<String> {
        self.shared.state().hit.clone()
    }
}

impl State {
    /// Counts a command and returns the fault to inject, if it is the armed one. Pipelined reads count as one call.
    fn count(&mut self, command: &[u8], follows_a_read: bool) -> Option<Fault> {
        if self.armed_on.as_ref().is_some_and(|(last, _)| ends_with(command, last)) {
            self.hit = Some(readable(command));
            return self.armed_on.take().map(|(_, fault)| fault);
        }
        let (nth, fault) = self.armed?;
        if is_read(command) && follows_a_read {
            return None;
        }
        self.counted += 1;
        (self.counted == nth).then(|| {
            self.hit = Some(readable(command));
            fault
        })
    }
}

/// How replies of one connection are handled.
#[derive(Debug, Clone, Copy)]
enum Replies {
    Forward,
    DelayUntil(Instant),
    Drop,
}

/// Forwards commands to the server until the client closes the connection or a fault ends it.
async fn forward(client: TcpStream, server: SocketAddr, shared: &SharedState) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (mut requests, to_client) = client.into_split();
    let (replies, mut server) = server.into_split();
    let (mode, mode_receiver) = watch::channel(Replies::Forward);
    let mut reply_task = JoinSet::new();
    reply_task.spawn(forward_replies(replies, to_client, mode_receiver));
    let mut buffer = Vec::new();
    while requests.read_buf(&mut buffer).await? > 0 {
        let mut follows_a_read = false;
        while let Some(length) = frame(&buffer) {
            let command: Vec<u8> = buffer.drain(..length).collect();
            let fault =
                if is_counted(&command) { shared.state().count(&command, follows_a_read) } else { None };
            follows_a_read = is_read(&command);
            match fault {
                None => server.write_all(&command).await?,
                Some(Fault::Refuse) => server.write_all(UNKNOWN_COMMAND).await?,
                Some(Fault::Fail) => return Ok(()),
                Some(Fault::Die { executed }) => {
                    mode.send_replace(Replies::Drop);
                    if executed {
                        server.write_all(&command).await?;
                        sleep(EXECUTION_TIME).await;
                    }
                    shared.dead.send_replace(true);
                }
                Some(Fault::Hold(time)) => {
                    sleep(time).await;
                    server.write_all(&command).await?;
                }
                Some(Fault::Delay(time)) => {
                    mode.send_replace(Replies::DelayUntil(Instant::now() + time));
                    server.write_all(&command).await?;
                }
                Some(Fault::LoseReply) => {
                    mode.send_replace(Replies::Drop);
                    drop(requests);
                    server.write_all(&command).await?;
                    sleep(LINGER).await;
                    return Ok(());
                }
                Some(Fault::Late(time)) => {
                    mode.send_replace(Replies::Drop);
                    drop(requests);
                    sleep(time).await;
                    server.write_all(&command).await?;
                    sleep(EXECUTION_TIME).await;
                    shared.state().late_executed = true;
                    sleep(LINGER).await;
                    return Ok(());
                }
            }
        }
    }
    // The client gave up; what it sent before is executed all the same.
    sleep(EXECUTION_TIME).await;
    Ok(())
}

/// Forwards replies to the client as `mode` says.
async fn forward_replies(mut from: OwnedReadHalf, to: OwnedWriteHalf, mut mode: watch::Receiver<Replies>) {
    let mut to = Some(to);
    let mut chunk = Vec::with_capacity(65536);
    loop {
        chunk.clear();
        tokio::select! {
            read = from.read_buf(&mut chunk) => if !matches!(read, Ok(1..)) { return },
            changed = mode.changed() => if changed.is_err() { return },
        }
        let now = *mode.borrow_and_update();
        match now {
            Replies::Forward => {}
            Replies::DelayUntil(deadline) => sleep_until(deadline).await,
            // Dropping the write half closes the client's connection once the read half is dropped too.
            Replies::Drop => to = None,
        }
        if let Some(to) = &mut to
            && to.write_all(&chunk).await.is_err()
        {
            return;
        }
    }
}

/// Length of the first command in `buffer` if it is complete. Every client sends commands as arrays of bulk strings.
fn frame(buffer: &[u8]) -> Option<usize> {
    let (count, mut at) = number(buffer, 0)?;
    for _ in 0..count {
        let (length, start) = number(buffer, at)?;
        at = start + length + 2;
    }
    (at <= buffer.len()).then_some(at)
}

/// The number in the line at `at`, after its type prefix (`*` or `$`), and the offset of the next line.
fn number(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    let line = buffer.get(at..)?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let digits = std::str::from_utf8(line.get(1..end)?).unwrap();
    Some((digits.parse().unwrap(), at + end + 2))
}

/// Name of a command in upper case.
fn name(command: &[u8]) -> String {
    let mut lines = command.split(|byte| *byte == b'\n');
    let name = lines.nth(2).unwrap_or_default();
    String::from_utf8_lossy(name).trim().to_ascii_uppercase()
}

fn is_counted(command: &[u8]) -> bool {
    !UNCOUNTED.contains(&name(command).as_str())
}

/// Whether it is a plain command and not a Lua step.
fn is_read(command: &[u8]) -> bool {
    name(command) != "EVALSHA"
}

/// Whether `last` is the last argument of a command.
fn ends_with(command: &[u8], last: &str) -> bool {
    command.ends_with(format!("\r\n${}\r\n{last}\r\n", last.len()).as_bytes())
}

/// The start of a command as one line, for failure messages.
fn readable(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(&command[..command.len().min(400)]).into_owned();
    let words = text.split("\r\n").skip(2).step_by(2);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_are_split_counted_and_shown() {
    let two = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
    assert_eq!((frame(two), frame(&two[..10]), frame(&two[20..])), (Some(20), None, Some(14)));
    assert!(is_counted(two) && is_read(two) && !is_counted(&two[20..]));
    assert_eq!(readable(&two[..20]), "GET k");
    assert!(ends_with(&two[..20], "k") && !ends_with(&two[..20], "GET"));
}
