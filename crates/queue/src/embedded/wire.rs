//! The few commands that are sent to the server before and after it is used.
//!
//! Inline commands over the socket, not the Redis client: the client's handshake fails while a server loads its data,
//! and here a server that loads must be distinguished from one that does not answer.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::UnixStream;

/// How long one answer may take. A server that misses it is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest answer that is read, in bytes: `INFO` has a few thousand.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The outcome of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ping {
    /// The server answers.
    Ready,
    /// The server runs and still loads its data.
    Loading,
    /// No server listens, or it does not answer in time.
    NoAnswer,
}

/// What a running server reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) process_id: Option<u32>,
    pub(super) clients: Option<u32>,
}

/// Checks whether a server answers at `socket`.
pub(super) async fn ping(socket: &Path) -> Ping {
    match ask(socket, "PING\r\n").await {
        Ok(answer) => read_ping(&answer),
        Err(_) => Ping::NoAnswer,
    }
}

/// Any answer but LOADING comes from a server that serves. Other errors, such as a full disk, are reported better by
/// the commands of the queue.
fn read_ping(answer: &str) -> Ping {
    if answer.is_empty() {
        Ping::NoAnswer
    } else if answer.starts_with("-LOADING") {
        Ping::Loading
    } else {
        Ping::Ready
    }
}

/// Tells the server at `socket` to end. When this returns it may still be ending, or may not have received the command.
pub(super) async fn shut_down(socket: &Path) {
    // It closes the connection instead of answering. If it is gone already, there is nothing left to do.
    ask(socket, "SHUTDOWN NOSAVE\r\n").await.ok();
}

/// Reads what the server at `socket` reports about itself; `None` where it does not answer.
pub(super) async fn info(socket: &Path) -> Option<Info> {
    let text = ask(socket, "INFO\r\n").await.ok()?;
    let number = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).and_then(|n| n.parse().ok())
    };
    Some(Info { process_id: number("process_id"), clients: number("connected_clients") })
}

/// Sends one line and reads its answer: a line, or the text whose length a `$` line gives.
async fn ask(socket: &Path, line: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = BufReader::new(UnixStream::connect(socket).await?);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        let Some(length) = answer.strip_prefix('$').and_then(|length| length.trim_end().parse().ok()) else {
            return Ok(answer);
        };
        let mut text = vec![0; MAX_ANSWER_BYTES.min(length)];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loading_server_is_distinguished_from_a_ready_one() {
        let cases = [
            ("+PONG\r\n", Ping::Ready),
            ("-LOADING Redis is loading the dataset in memory\r\n", Ping::Loading),
            ("-MISCONF Errors writing to the AOF file\r\n", Ping::Ready),
            ("", Ping::NoAnswer),
        ];
        for (answer, expected) in cases {
            assert_eq!(read_ping(answer), expected, "{answer}");
        }
    }
}
