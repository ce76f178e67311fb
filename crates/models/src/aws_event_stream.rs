//! Frames of `application/vnd.amazon.eventstream` from the segments in which bytes arrive.
//!
//! A frame has the lengths of itself and of its headers and a checksum of these; then the headers, the payload, and a
//! checksum of all of it. How the bytes are cut changes nothing. Each byte is moved once when it arrives, and once when
//! its frame is whole. Lengths are checked as soon as they are there: a hostile one neither makes the reader wait for bytes
//! that never come nor take up memory.

use thiserror::Error;

use crate::work;

/// The bytes before the headers: two lengths and their checksum.
const PRELUDE: usize = 12;
/// The bytes of a checksum.
const CHECKSUM: usize = 4;
/// The most bytes of the headers of one frame, as the format has it.
const MAX_HEADERS: usize = 128 << 10;
/// The type of a header whose value is text.
const TEXT: u8 = 7;
/// The type of a header whose value is bytes, which have a length as text has.
const BYTES: u8 = 6;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    headers: Vec<(String, String)>,
    /// The payload, for events of Bedrock a JSON text.
    pub payload: Vec<u8>,
}

/// Bytes that are not frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadFrame {
    /// A frame is longer than is taken in.
    #[error("one event of the stream is longer than {limit} bytes")]
    TooLong {
        /// The most bytes of a frame.
        limit: usize,
    },
    /// The lengths contradict each other.
    #[error("a frame of the stream has lengths that cannot be")]
    Lengths,
    /// A checksum is wrong: bytes were lost or changed on the way.
    #[error("a frame of the stream has a wrong checksum")]
    Checksum,
    /// The headers cannot be read.
    #[error("a frame of the stream has broken headers")]
    Headers,
}

impl Frame {
    /// The value of a header that is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a stream. Keeps at most one frame and the last segment in memory.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// What came and belongs to no frame yet.
    buffer: Vec<u8>,
}

impl Decoder {
    /// A stream whose frames have at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new() }
    }

    /// Reads a segment and adds what it completes to `frames`.
    ///
    /// # Errors
    ///
    /// [`BadFrame`]; the frames before it were added, and the decoder must not be fed again.
    pub fn feed(&mut self, segment: &[u8], frames: &mut Vec<Frame>) -> Result<(), BadFrame> {
        work::count(segment.len());
        self.buffer.extend_from_slice(segment);
        let mut read = 0;
        while let Some(length) = self.length(&self.buffer[read..])? {
            let Some(bytes) = self.buffer.get(read..read + length) else { break };
            frames.push(frame(bytes)?);
            read += length;
        }
        // What is left came with this segment, unless nothing was read.
        self.buffer.drain(..read);
        Ok(())
    }

    /// Whether bytes are left that are no whole frame.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The length of the frame that begins here; none if too little of it has come.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, BadFrame> {
        let Some((prelude, _)) = bytes.split_at_checked(PRELUDE) else { return Ok(None) };
        let [length, headers, checksum] = [0, 4, 8].map(|at| number(prelude, at));
        if checksum != crc32fast::hash(&prelude[..PRELUDE - CHECKSUM]) {
            return Err(BadFrame::Checksum);
        }
        let [length, headers] = [length, headers].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if length > self.limit {
            return Err(BadFrame::TooLong { limit: self.limit });
        }
        if length < PRELUDE + CHECKSUM || headers > (length - PRELUDE - CHECKSUM).min(MAX_HEADERS) {
            return Err(BadFrame::Lengths);
        }
        Ok(Some(length))
    }
}

/// A frame whose lengths are known to be good.
fn frame(bytes: &[u8]) -> Result<Frame, BadFrame> {
    work::count(bytes.len());
    let (checked, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if number(checksum, 0) != crc32fast::hash(checked) {
        return Err(BadFrame::Checksum);
    }
    let length = usize::try_from(number(checked, 4)).map_err(|_| BadFrame::Lengths)?;
    let (headers, payload) = checked[PRELUDE..].split_at_checked(length).ok_or(BadFrame::Lengths)?;
    Ok(Frame { headers: texts(headers).ok_or(BadFrame::Headers)?, payload: payload.to_vec() })
}

/// The headers that are text; those of other types are passed over.
fn texts(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (kind, rest) = rest.split_first()?;
        let (length, rest) = match *kind {
            TEXT | BYTES => {
                let (length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            kind => (size(kind)?, rest),
        };
        let (value, rest) = rest.split_at_checked(length)?;
        if *kind == TEXT {
            let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
            texts.push((text(name)?, text(value)?));
        }
        bytes = rest;
    }
    Some(texts)
}

/// The bytes of a value of a type of fixed size: a truth, a number, a time, or a UUID.
fn size(kind: u8) -> Option<usize> {
    match kind {
        0 | 1 => Some(0),
        2 => Some(1),
        3 => Some(2),
        4 => Some(4),
        5 | 8 => Some(8),
        9 => Some(16),
        _ => None,
    }
}

/// The number in four bytes, the highest first; 0 where there are not so many.
fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

#[cfg(test)]
pub(crate) mod tests;
