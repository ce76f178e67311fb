//! Messages over standard input and output, one JSON object a line. A line that is not JSON gets the error that JSON-RPC
//! has for it.

use std::fmt;
use std::io;
use std::pin::Pin;

use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::service::RxJsonRpcMessage;
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::async_rw::JsonRpcMessageCodec;
use serde::de::IgnoredAny;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::BufReader;
use tokio::io::Empty;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder as _;

/// The longest message in bytes, as of the protocol's library. A longer line is refused and skipped.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// An answer that is being written.
type Reply = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A host on the other end of two streams.
pub struct Lines<R: AsyncRead, W: AsyncWrite> {
    input: BufReader<R>,
    /// The current line so far. Kept here, because a receive may be dropped in the middle of a line.
    line: Vec<u8>,
    /// Whether the rest of the current line is skipped, because it is too long.
    skips: bool,
    codec: JsonRpcMessageCodec<RxJsonRpcMessage<RoleServer>>,
    /// Writes answers; it has nothing to read.
    output: AsyncRwTransport<RoleServer, Empty, W>,
    /// The answer to a bad line. Kept here, because a receive may be dropped while it is written.
    reply: Option<Reply>,
}

impl<R: AsyncRead, W: AsyncWrite> fmt::Debug for Lines<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// Reads requests from `input` and writes answers to `output`.
    pub fn new(input: R, output: W) -> Self {
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
            skips: false,
            codec: JsonRpcMessageCodec::new(),
            output: AsyncRwTransport::new(tokio::io::empty(), output),
            reply: None,
        }
    }

    /// Reads on to the end of the line; `false` at the end of input, where an unfinished line is dropped. Dropping the
    /// future loses nothing.
    async fn read_line(&mut self) -> io::Result<bool> {
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                return Ok(false);
            }
            let end = available.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(available.len());
            if !self.skips {
                self.line.extend_from_slice(&available[..taken]);
            }
            self.input.consume(taken);
            self.skips |= self.line.len() > MAX_LINE_BYTES;
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// The message of a whole line; `None` for a blank one and for a notification that the protocol does not have.
    fn message(&mut self) -> Result<Option<RxJsonRpcMessage<RoleServer>>, ErrorData> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.skips) {
            return Err(ErrorData::parse_error("Parse error: the line is longer than 16 MiB", None));
        }
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(text) {
            return Err(ErrorData::parse_error(format!("Parse error: the line is not JSON: {error}"), None));
        }
        let decoded = self.codec.decode(&mut BytesMut::from(line.as_slice()));
        decoded.map_err(|_| ErrorData::invalid_request("Invalid request", None))
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.output.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(reply) = &mut self.reply {
                let written = reply.await;
                self.reply = None;
                written.ok()?;
            }
            if !self.read_line().await.unwrap_or(false) {
                return None;
            }
            match self.message() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(error) => {
                    let answer = TxJsonRpcMessage::<RoleServer>::error(error, None);
                    self.reply = Some(Box::pin(self.output.send(answer)));
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.output.close().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// The messages in `input` and the answers to its bad lines.
    async fn received(input: &[u8]) -> (usize, Vec<serde_json::Value>) {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut lines = Lines::new(input, near);
        let mut messages = 0;
        while lines.receive().await.is_some() {
            messages += 1;
        }
        drop(lines);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        (messages, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[tokio::test]
    async fn a_line_that_is_not_json_is_a_parse_error_and_the_next_one_is_read() {
        let ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
        let input =
            format!("hello\n\n{ping}{{\"jsonrpc\":\n[1\u{0}]\n{ping}{{\"some\":\"json\"}}\nunfinished");
        let (messages, answers) = received(input.as_bytes()).await;
        assert_eq!(messages, 2);
        let codes: Vec<_> = answers.iter().map(|answer| answer["error"]["code"].as_i64().unwrap()).collect();
        assert_eq!(codes, [-32700, -32700, -32700, -32600], "{answers:?}");
        assert!(
            answers.iter().all(|answer| answer["id"].is_null() && answer["jsonrpc"] == "2.0"),
            "{answers:?}"
        );
    }

    #[tokio::test]
    async fn a_line_without_an_end_does_not_fill_the_memory() {
        let mut input = vec![b'x'; MAX_LINE_BYTES + 100_000];
        input.extend_from_slice(b"\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
        let (messages, answers) = received(&input).await;
        assert_eq!((messages, answers.len()), (1, 1), "{answers:?}");
    }
}
