//! The few words that are exchanged with the server before and after anybody uses it.
//!
//! Plain text over the socket, not the Redis client: the client's greeting fails while a server loads
//! its data, and here a server that loads must be told from one that is silent.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::UnixStream;

/// How long one answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 1 << 20;

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It answers.
    Ready,
    /// It lives and still reads its data.
    Loading,
    /// Nothing is heard.
    Silent,
}

/// What a running server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) process_id: Option<u32>,
    pub(super) clients: Option<u32>,
}

/// Asks whether a server listens at `socket`.
pub(super) async fn ping(socket: &Path) -> Pulse {
    match ask(socket, "PING\r\n").await {
        Ok(answer) => pulse(&answer),
        Err(_) => Pulse::Silent,
    }
}

/// Any answer but LOADING is one of a server that serves: what else may be wrong, such as a full disk,
/// the queue's own commands will say better.
fn pulse(answer: &str) -> Pulse {
    if answer.is_empty() {
        Pulse::Silent
    } else if answer.starts_with("-LOADING") {
        Pulse::Loading
    } else {
        Pulse::Ready
    }
}

/// Tells the server at `socket` to end. It may still be ending, or not have heard, when this returns.
pub(super) async fn shut_down(socket: &Path) {
    // Its answer is the end of the connection, or an error when it is gone already.
    ask(socket, "SHUTDOWN NOSAVE\r\n").await.ok();
}

/// Asks the server at `socket` about itself.
pub(super) async fn info(socket: &Path) -> Option<Info> {
    let text = ask(socket, "INFO\r\n").await.ok()?;
    let number = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).and_then(|n| n.parse().ok())
    };
    Some(Info { process_id: number("process_id"), clients: number("connected_clients") })
}

/// Sends one line and reads its answer: a line, or the text that a `$` line announces.
async fn ask(socket: &Path, line: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = BufReader::new(UnixStream::connect(socket).await?);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        let Some(length) = answer.strip_prefix('$').and_then(|length| length.trim_end().parse().ok()) else {
            return Ok(answer);
        };
        let mut text = vec![0; ANSWER_LIMIT.min(length)];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    tokio::time::timeout(ANSWER_PATIENCE, exchange).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let cases = [
            ("+PONG\r\n", Pulse::Ready),
            ("-LOADING Redis is loading the dataset in memory\r\n", Pulse::Loading),
            ("-MISCONF Errors writing to the AOF file\r\n", Pulse::Ready),
            ("", Pulse::Silent),
        ];
        for (answer, expected) in cases {
            assert_eq!(pulse(answer), expected, "{answer}");
        }
    }
}
