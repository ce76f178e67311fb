//! A receiver of webhooks over HTTP, which answers as a test says and keeps what it was sent.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver as Channel;
use std::sync::mpsc::SyncSender;

use serde_json::Value;

use crate::programs::TIMEOUT;

/// Requests that a receiver keeps until the test takes them; more than any test sends.
const CAPACITY: usize = 1000;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path and query.
    pub path: String,
    /// Headers by name, in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A receiver on a free port of this machine. Its threads end with the test's process.
#[derive(Debug)]
pub struct Receiver {
    url: String,
    requests: Channel<Received>,
}

impl Receiver {
    /// Starts a receiver that answers the n-th request, counted from 1, with this status; with 0 it never answers.
    pub fn start(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        Self::start_asking(status, "")
    }

    /// The same, with a `Retry-After` in each answer; none for an empty text.
    pub fn start_asking(
        status: impl Fn(usize) -> u16 + Send + Sync + 'static,
        retry_after: &'static str,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::sync_channel(CAPACITY);
        let status = Arc::new(status);
        std::thread::spawn(move || {
            for (number, connection) in (1..).zip(listener.incoming().flatten()) {
                let (sender, status) = (sender.clone(), Arc::clone(&status));
                // An error is the other side's end.
                std::thread::spawn(move || serve(connection, &sender, status(number), retry_after).ok());
            }
        });
        Self { url, requests }
    }

    /// Its URL, without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next request, in the order of arrival; panics where none comes in time.
    pub fn next(&self) -> Received {
        self.requests.recv_timeout(TIMEOUT).expect("the receiver was sent nothing")
    }

    /// A request that has arrived already.
    pub fn arrived(&self) -> Option<Received> {
        self.requests.try_recv().ok()
    }
}

/// Reads the one request of a connection and answers it.
fn serve(
    mut connection: TcpStream,
    sender: &SyncSender<Received>,
    status: u16,
    retry_after: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    // The test has it before the sender has the answer.
    sender.send(Received { path, headers, body }).ok();
    if status == 0 {
        // Ends with the sender.
        return reader.read_to_end(&mut Vec::new()).map(drop);
    }
    let asks = if retry_after.is_empty() { String::new() } else { format!("retry-after: {retry_after}\r\n") };
    write!(
        connection,
        "HTTP/1.1 {status} X\r\n{asks}location: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}
