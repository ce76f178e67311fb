//! The reader of Bedrock's Converse: the bytes as they are, and as the payloads of frames whose checksums are right.

#![no_main]

use legwork_models::bedrock_converse::BedrockConverse;
use libfuzzer_sys::fuzz_target;

/// The types of events.
const EVENTS: [&str; 6] =
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];

fuzz_target!(|data: &[u8]| {
    legwork_fuzz::hold::<BedrockConverse>(data);
    if let Some((choice, lines)) = data.split_first() {
        let frames = lines.split(|byte| *byte == b'\n').filter_map(frame);
        let body: Vec<u8> = std::iter::once(vec![*choice]).chain(frames).flatten().collect();
        legwork_fuzz::hold::<BedrockConverse>(&body);
    }
});

/// A frame with this payload, whose first byte says what it is.
fn frame(line: &[u8]) -> Option<Vec<u8>> {
    let (kind, payload) = line.split_first()?;
    let mut headers = Vec::new();
    for (name, value) in
        [(":message-type", "event"), (":event-type", EVENTS[usize::from(*kind) % EVENTS.len()])]
    {
        headers.push(u8::try_from(name.len()).ok()?);
        headers.extend(name.as_bytes());
        headers.push(7);
        headers.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let mut frame = Vec::new();
    frame.extend(u32::try_from(headers.len() + payload.len() + 16).ok()?.to_be_bytes());
    frame.extend(u32::try_from(headers.len()).ok()?.to_be_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload);
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    Some(frame)
}
