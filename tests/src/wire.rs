//! A line to Redis that knows commands: it counts what is asked and does harm to one of them.
//!
//! What counts is what the port of the queue asks: steps and reads. The greetings of a connection, its
//! subscriptions, the wait for a sign and what fills the script cache do not.

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

/// Commands that are no calls of the queue's port.
const UNCOUNTED: [&str; 10] =
    ["UNWATCH", "HELLO", "CLIENT", "AUTH", "SELECT", "PING", "SCRIPT", "BLPOP", "SUBSCRIBE", "UNSUBSCRIBE"];
/// A command that every server refuses, for good.
const BROKEN: &[u8] = b"*1\r\n$6\r\nBROKEN\r\n";
/// How long a server is given to do the last command of the dead.
const DYING: Duration = Duration::from_millis(20);
/// How long a server that lost its client is left to do what it was told.
const LINGER: Duration = Duration::from_secs(1);

/// What is done to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It does not arrive, and its connection closes.
    Fail,
    /// It is done, and its connection closes before the reply.
    LoseReply,
    /// Its connection closes, and it is done so much later: after it was repeated on another one.
    Late(Duration),
    /// It, and what follows it on its connection, arrive so much later.
    Hold(Duration),
    /// It is done, and nothing of its connection is heard for so long.
    Delay(Duration),
    /// The server refuses it for good.
    Refuse,
    /// Whoever sends it dies, before it arrives or after it is done: this and all other connections close for good.
    Die {
        /// Whether it is done.
        done: bool,
    },
}

/// What happens to which command, and what has happened.
#[derive(Debug, Default)]
struct Line {
    armed: Option<(usize, Harm)>,
    counted: usize,
    hit: Option<String>,
    /// A late command was sent.
    is_late: bool,
}

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    dead: watch::Sender<bool>,
}

/// The line. It ends with the value.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn died(&self) {
        // It cannot be gone while it is borrowed.
        self.dead.subscribe().wait_for(|dead| *dead).await.ok();
    }
}

impl Wire {
    /// Starts one before this server. Nothing is counted yet.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let mut serving = JoinSet::new();
        let accepting = Arc::clone(&shared);
        serving.spawn(async move {
            // Ended together with the one that accepts.
            let mut connections = JoinSet::new();
            loop {
                let client = tokio::select! {
                    Ok((client, _)) = listener.accept() => client,
                    () = accepting.died() => return,
                };
                let shared = Arc::clone(&accepting);
                connections.spawn(async move {
                    // However a connection ends, its client notices.
                    carry(client, server, &shared).await.ok();
                });
            }
        });
        Self { address, shared, _serving: serving }
    }

    /// The URL of a Redis behind it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on commands are counted, and the `nth`, from 1, meets with `harm`.
    pub fn arm(&self, nth: usize, harm: Harm) {
        *self.shared.line() = Line { armed: Some((nth, harm)), ..Line::default() };
    }

    /// How many commands were counted.
    pub fn counted(&self) -> usize {
        self.shared.line().counted
    }

    /// Whether a command that was to come late has been sent.
    pub fn came_late(&self) -> bool {
        self.shared.line().is_late
    }

    /// Waits until whoever is behind it was to die.
    pub async fn died(&self) {
        self.shared.died().await;
    }

    /// The command that met with harm, if one did.
    pub fn hit(&self) -> Option<String> {
        self.shared.line().hit.clone()
    }
}

impl Line {
    /// Counts a command; what is to be done to it. Reads that are sent together are one call.
    fn harm(&mut self, command: &[u8], follows_a_read: bool) -> Option<Harm> {
        let (nth, harm) = self.armed?;
        if is_read(command) && follows_a_read {
            return None;
        }
        self.counted += 1;
        (self.counted == nth).then(|| {
            self.hit = Some(readable(command));
            harm
        })
    }
}

/// What happens to the replies of one connection.
#[derive(Debug, Clone, Copy)]
enum Replies {
    Flow,
    HeldUntil(Instant),
    Lost,
}

/// Carries commands to the server until the client closes, or harm ends it.
async fn carry(client: TcpStream, server: SocketAddr, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (mut asks, answers) = client.into_split();
    let (replies, mut server) = server.into_split();
    let (fate, told) = watch::channel(Replies::Flow);
    let mut back = JoinSet::new();
    back.spawn(reply(replies, answers, told));
    let mut buffer = Vec::new();
    while asks.read_buf(&mut buffer).await? > 0 {
        let mut follows_a_read = false;
        while let Some(length) = frame(&buffer) {
            let command: Vec<u8> = buffer.drain(..length).collect();
            let harm = if is_counted(&command) { shared.line().harm(&command, follows_a_read) } else { None };
            follows_a_read = is_read(&command);
            match harm {
                None => server.write_all(&command).await?,
                Some(Harm::Refuse) => server.write_all(BROKEN).await?,
                Some(Harm::Fail) => return Ok(()),
                Some(Harm::Die { done }) => {
                    fate.send_replace(Replies::Lost);
                    if done {
                        server.write_all(&command).await?;
                        sleep(DYING).await;
                    }
                    shared.dead.send_replace(true);
                }
                Some(Harm::Hold(time)) => {
                    sleep(time).await;
                    server.write_all(&command).await?;
                }
                Some(Harm::Delay(time)) => {
                    fate.send_replace(Replies::HeldUntil(Instant::now() + time));
                    server.write_all(&command).await?;
                }
                Some(Harm::LoseReply) => {
                    fate.send_replace(Replies::Lost);
                    drop(asks);
                    server.write_all(&command).await?;
                    sleep(LINGER).await;
                    return Ok(());
                }
                Some(Harm::Late(time)) => {
                    fate.send_replace(Replies::Lost);
                    drop(asks);
                    sleep(time).await;
                    server.write_all(&command).await?;
                    shared.line().is_late = true;
                    sleep(LINGER).await;
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Carries replies to the client for as long as they may be heard.
async fn reply(mut from: OwnedReadHalf, to: OwnedWriteHalf, mut fate: watch::Receiver<Replies>) {
    let mut to = Some(to);
    let mut piece = Vec::with_capacity(65536);
    loop {
        piece.clear();
        tokio::select! {
            read = from.read_buf(&mut piece) => if !matches!(read, Ok(1..)) { return },
            changed = fate.changed() => if changed.is_err() { return },
        }
        let now = *fate.borrow_and_update();
        match now {
            Replies::Flow => {}
            Replies::HeldUntil(moment) => sleep_until(moment).await,
            // With this end of it, the client's connection closes.
            Replies::Lost => to = None,
        }
        if let Some(to) = &mut to
            && to.write_all(&piece).await.is_err()
        {
            return;
        }
    }
}

/// How long the first command in `buffer` is, if it is whole: an array of strings, as every client writes it.
fn frame(buffer: &[u8]) -> Option<usize> {
    let (count, mut at) = number(buffer, 0)?;
    for _ in 0..count {
        let (length, begins) = number(buffer, at)?;
        at = begins + length + 2;
    }
    (at <= buffer.len()).then_some(at)
}

/// The number of the line that begins with a type's sign at `at`, and where the next line begins.
fn number(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    let line = buffer.get(at..)?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let digits = std::str::from_utf8(line.get(1..end)?).unwrap();
    Some((digits.parse().unwrap(), at + end + 2))
}

/// The name of a command.
fn name(command: &[u8]) -> String {
    let mut lines = command.split(|byte| *byte == b'\n');
    let name = lines.nth(2).unwrap_or_default();
    String::from_utf8_lossy(name).trim().to_ascii_uppercase()
}

fn is_counted(command: &[u8]) -> bool {
    !UNCOUNTED.contains(&name(command).as_str())
}

/// Whether it is a plain command and no step.
fn is_read(command: &[u8]) -> bool {
    name(command) != "EVALSHA"
}

/// The beginning of a command in one line.
fn readable(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(&command[..command.len().min(400)]).into_owned();
    let words = text.split("\r\n").skip(2).step_by(2);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_are_told_apart() {
    let two = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
    assert_eq!((frame(two), frame(&two[..10]), frame(&two[20..])), (Some(20), None, Some(14)));
    assert!(is_counted(two) && is_read(two) && !is_counted(&two[20..]));
    assert_eq!(readable(&two[..20]), "GET k");
}
