//! Reads a response of any wire: bytes in, events out, a reply at the end.

use std::fmt::Debug;
use std::mem;

use serde_json::Value;

use crate::aws_event_stream;
use crate::aws_event_stream::BadFrame;
use crate::aws_event_stream::Frame;
use crate::conversation::Origin;
use crate::error::ProviderError;
use crate::error::one_line;
use crate::json;
use crate::json::Unread;
use crate::names::Names;
use crate::reply::Assembly;
use crate::reply::Limits;
use crate::reply::Reply;
use crate::reply::ReplyEvent;
use crate::settings::Settings;
use crate::sse::Decoder;
use crate::sse::Item;
use crate::sse::TooLong;
use crate::wire::Event;
use crate::wire::Wire;

/// By what most wires say that a stream is over.
const DONE: &str = "[DONE]";
/// The mark that a text may begin with.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close<'a> {
    /// In order.
    Clean,
    /// The connection broke, and why, as a lowercase fragment.
    Broken(&'a str),
}

/// A reader of one response, whatever its wire.
pub trait ReadReply: Debug + Send {
    /// Reads a segment of the body of a response with a good status, and adds what it says to `events`.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] where the provider says so in the stream, or a limit is broken. The events before it were
    /// added; the reader must not be fed again.
    fn feed(&mut self, segment: &[u8], events: &mut Vec<ReplyEvent>) -> Result<(), ProviderError>;

    /// Whether the provider reported that nothing more will come. Some keep the connection open after that.
    fn is_complete(&self) -> bool;

    /// Reads the end of the body.
    ///
    /// A reply that the provider called finished is whole even where the connection broke after that.
    ///
    /// # Errors
    ///
    /// As [`ReadReply::feed`], and where the body is neither a stream nor a reply. An incomplete reply is not an error:
    /// its end says so.
    fn finish(
        self: Box<Self>,
        close: Close<'_>,
        events: &mut Vec<ReplyEvent>,
    ) -> Result<Reply, ProviderError>;
}

/// The reader of a wire.
#[derive(Debug)]
pub struct Reader<W: Wire> {
    state: W::State,
    reply: Assembly,
    body: Body,
    limit: usize,
    names: Names,
}

/// Reads a whole response that came in these segments.
pub fn read_segments<W: Wire + 'static>(
    segments: &[&[u8]],
    close: Close<'_>,
    limits: Limits,
) -> (Vec<ReplyEvent>, Result<Reply, ProviderError>) {
    let mut reader = Box::new(Reader::<W>::new(&Settings::new("provider", "model"), limits, "made_"));
    let mut events = Vec::new();
    for segment in segments {
        if let Err(error) = reader.feed(segment, &mut events) {
            return (events, Err(error));
        }
    }
    let reply = reader.finish(close, &mut events);
    (events, reply)
}

/// What the body is.
#[derive(Debug)]
enum Body {
    /// Nothing but blanks and perhaps the beginning of a mark, which is kept.
    Unknown(Vec<u8>),
    Stream(Decoder),
    /// A stream of AWS.
    Frames(aws_event_stream::Decoder),
    /// JSON or a page, kept whole.
    Document(Vec<u8>),
}

impl<W: Wire> Reader<W> {
    /// A reader of the response to a request with `settings`. `id_prefix` begins the ids of calls that come without one;
    /// with the turn in it, they are distinct in the whole conversation.
    pub fn new(settings: &Settings, limits: Limits, id_prefix: impl Into<String>) -> Self {
        let origin = Origin {
            wire: W::NAME.to_owned(),
            provider: settings.provider.clone(),
            model: settings.model.clone(),
        };
        Self {
            state: W::State::default(),
            reply: Assembly::new(limits, origin, id_prefix.into()),
            body: Body::Unknown(Vec::new()),
            limit: limits.line_bytes,
            names: Names::default(),
        }
    }

    /// The same reader, which restores the tool names that were replaced in the request.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    fn drain_into(&mut self, events: &mut Vec<ReplyEvent>) {
        let names = &self.names;
        events.extend(self.reply.drain().map(|event| names.restore_event(event)));
    }

    fn read(&mut self, segment: &[u8]) -> Result<(), ProviderError> {
        match &mut self.body {
            Body::Unknown(seen) => {
                seen.extend_from_slice(segment);
                let seen = begun(mem::take(seen));
                if BOM.starts_with(&seen) {
                    self.body = Body::Unknown(seen);
                    return Ok(());
                }
                self.body = match seen.first() {
                    Some(b'{' | b'[' | b'<') => Body::Document(Vec::new()),
                    // A frame begins with its length in four bytes.
                    Some(0) => Body::Frames(aws_event_stream::Decoder::new(self.limit)),
                    _ => Body::Stream(Decoder::new(self.limit)),
                };
                self.read(&seen)
            }
            Body::Document(seen) => keep(seen, segment, self.limit),
            Body::Stream(decoder) => {
                let mut items = Vec::new();
                let fed = decoder.feed(segment, &mut items);
                self.items(items, false)?;
                fed.map_err(too_long)
            }
            Body::Frames(decoder) => {
                let mut frames = Vec::new();
                let fed = decoder.feed(segment, &mut frames);
                frames.iter().try_for_each(|frame| self.frame(frame))?;
                fed.map_err(bad_frame)
            }
        }
    }

    fn read_end(&mut self, close: Close<'_>) -> Result<(), ProviderError> {
        match mem::replace(&mut self.body, Body::Unknown(Vec::new())) {
            // A frame that is not whole is a reply that is not.
            Body::Unknown(_) | Body::Frames(_) => Ok(()),
            Body::Document(bytes) => self.document(&bytes, close),
            Body::Stream(decoder) => self.end_of_stream(decoder, close),
        }
    }

    fn end_of_stream(&mut self, mut decoder: Decoder, close: Close<'_>) -> Result<(), ProviderError> {
        let mut items = Vec::new();
        let fed = decoder.finish(&mut items);
        self.items(items, true)?;
        fed.map_err(too_long)?;
        if close == Close::Clean && self.reply.is_untouched() && !decoder.stray().is_empty() {
            return Err(ProviderError::not_a_reply(decoder.stray()));
        }
        Ok(())
    }

    fn items(&mut self, items: Vec<Item>, at_end: bool) -> Result<(), ProviderError> {
        for item in items {
            match item {
                Item::KeepAlive => self.reply.keep_alive(),
                Item::Event { name, data } => self.event(name.as_deref(), data.trim(), at_end)?,
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), ProviderError> {
        let body = String::from_utf8_lossy(&frame.payload);
        let header = |names: &[&str]| names.iter().find_map(|name| frame.header(name));
        match frame.header(":message-type") {
            Some("exception" | "error") => {
                let name = header(&[":exception-type", ":error-code", ":event-type"]).unwrap_or_default();
                let words = header(&[":error-message"]).filter(|_| body.is_empty());
                Err(ProviderError::in_frame(name, words.unwrap_or(&body)))
            }
            _ => self.event(frame.header(":event-type"), body.trim(), false),
        }
    }

    /// One event. At the end of the stream it may be cut.
    fn event(&mut self, name: Option<&str>, data: &str, at_end: bool) -> Result<(), ProviderError> {
        if data.eq_ignore_ascii_case(DONE) {
            self.reply.complete();
            return Ok(());
        }
        match json::parse(data) {
            Ok(value) => self.value(name, value, data),
            Err(Unread::TooMany) => {
                Err(ProviderError::too_large("one event of the stream has too many values".into()))
            }
            Err(Unread::Broken) if name == Some("error") => Err(ProviderError::in_error_event(data)),
            // Servers that leave out the blank lines.
            Err(Unread::Broken) if data.contains('\n') => {
                data.lines().try_for_each(|line| self.event(name, line.trim(), at_end))
            }
            Err(Unread::Broken) if at_end => Ok(()),
            Err(Unread::Broken) if data.starts_with(['{', '[']) => {
                Err(ProviderError::unreadable("an event of the stream is broken JSON"))
            }
            Err(Unread::Broken) => {
                self.reply.keep_alive();
                Ok(())
            }
        }
    }

    fn value(&mut self, name: Option<&str>, value: Value, data: &str) -> Result<(), ProviderError> {
        if let Some(error) = ProviderError::in_json(&value) {
            return Err(error);
        }
        if name == Some("error") {
            return Err(ProviderError::in_error_event(data));
        }
        W::event(&mut self.state, Event { name, data: value }, &mut self.reply)
    }

    /// A body that is not a stream.
    fn document(&mut self, bytes: &[u8], close: Close<'_>) -> Result<(), ProviderError> {
        let text = String::from_utf8_lossy(bytes);
        match json::parse(text.trim()) {
            Ok(document) => match ProviderError::in_json(&document) {
                Some(error) => Err(error),
                None => W::whole(document, &mut self.reply),
            },
            Err(Unread::TooMany) => Err(ProviderError::too_large("the body has too many values".into())),
            Err(Unread::Broken) if close != Close::Clean => Ok(()),
            Err(Unread::Broken) if text.trim_start().starts_with('{') => self.lines(bytes, &text),
            Err(Unread::Broken) => Err(ProviderError::not_a_reply(&text)),
        }
    }

    /// Several documents, or a document and a stream after it.
    fn lines(&mut self, bytes: &[u8], text: &str) -> Result<(), ProviderError> {
        let (mut decoder, mut items) = (Decoder::new(self.limit), Vec::new());
        decoder.feed(bytes, &mut items).and_then(|()| decoder.finish(&mut items)).map_err(too_long)?;
        self.items(items, true)?;
        if self.reply.is_untouched() { Err(ProviderError::not_a_reply(text)) } else { Ok(()) }
    }
}

impl<W: Wire> ReadReply for Reader<W> {
    fn feed(&mut self, segment: &[u8], events: &mut Vec<ReplyEvent>) -> Result<(), ProviderError> {
        let read = self.read(segment);
        self.drain_into(events);
        read
    }

    fn is_complete(&self) -> bool {
        self.reply.is_complete()
    }

    fn finish(
        mut self: Box<Self>,
        close: Close<'_>,
        events: &mut Vec<ReplyEvent>,
    ) -> Result<Reply, ProviderError> {
        let read = self.read_end(close);
        self.drain_into(events);
        read?;
        if let Close::Broken(words) = close {
            self.reply.broken(&one_line(words));
        }
        let mut reply = self.reply.finish();
        self.names.restore(&mut reply);
        Ok(reply)
    }
}

/// What follows the blanks and marks at the beginning.
fn begun(mut seen: Vec<u8>) -> Vec<u8> {
    let mut rest = seen.as_slice();
    loop {
        let text = rest.trim_ascii_start();
        let text = text.strip_prefix(BOM).unwrap_or(text);
        if text.len() == rest.len() {
            break;
        }
        rest = text;
    }
    let blanks = seen.len() - rest.len();
    seen.drain(..blanks);
    seen
}

fn keep(seen: &mut Vec<u8>, segment: &[u8], limit: usize) -> Result<(), ProviderError> {
    if seen.len() + segment.len() > limit {
        return Err(ProviderError::too_large(format!("the body is longer than {limit} bytes")));
    }
    seen.extend_from_slice(segment);
    Ok(())
}

fn bad_frame(error: BadFrame) -> ProviderError {
    match error {
        BadFrame::TooLong { .. } => ProviderError::too_large(error.to_string()),
        BadFrame::Lengths | BadFrame::Checksum | BadFrame::Headers => {
            ProviderError::unreadable(&error.to_string())
        }
    }
}

fn too_long(error: TooLong) -> ProviderError {
    ProviderError::too_large(error.to_string())
}
