//! How a reply leaves the provider: in segments at random, and now and then broken.

use std::time::Duration;

use legwork_tests::provider::Answer;
use legwork_tests::provider::Raw;
use serde_json::Value;

use crate::random::Random;
use crate::wires::Said;
use crate::wires::Wire;

/// A whole reply of any form. `pace` is how long each word takes.
pub(crate) fn whole(wire: Wire, said: &Said, pace: Duration, random: &mut Random) -> Answer {
    let events = wire.events(said, random);
    let bytes = wire.bytes(&events, random);
    sent(wire, said, bytes, pace, false, random)
}

/// A response that is not a whole reply: the same request must be made again.
pub(crate) fn broken(wire: Wire, said: &Said, pace: Duration, random: &mut Random) -> Answer {
    match random.below(8) {
        0 => Answer::Status(500, Vec::new(), "{\"error\": {\"message\": \"on purpose\"}}"),
        1 => Answer::Status(503, vec![("retry-after", "1")], "busy on purpose"),
        2 => Answer::Status(
            529,
            vec![("retry-after", "1")],
            "{\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\"}}",
        ),
        3 => {
            Answer::Status(200, vec![("content-type", "text/html")], "<html><title>On purpose</title></html>")
        }
        4 => {
            let nothing = Said { words: Vec::new(), calls: Vec::new() };
            let events = wire.events(&nothing, random);
            let bytes = wire.bytes(&events, random);
            sent(wire, said, bytes, pace, false, random)
        }
        // An error after some of the events.
        5 => {
            let mut events = some(wire.events(said, random), random);
            events.push(wire.error(random));
            let bytes = wire.bytes(&events, random);
            sent(wire, said, bytes, pace, false, random)
        }
        // The connection breaks anywhere, perhaps after all that matters.
        _ => {
            let events = wire.events(said, random);
            let mut bytes = wire.bytes(&events, random);
            bytes.truncate(random.index(bytes.len()));
            sent(wire, said, bytes, pace, true, random)
        }
    }
}

/// The first of the events, without the ends of the reply.
fn some(mut events: Vec<(String, Value)>, random: &mut Random) -> Vec<(String, Value)> {
    events.truncate(random.index(events.len().saturating_sub(3).max(1)));
    events
}

fn sent(
    wire: Wire,
    said: &Said,
    bytes: Vec<u8>,
    pace: Duration,
    breaks: bool,
    random: &mut Random,
) -> Answer {
    // Single bytes now and then; most segments are long, so that the pace is that of the words.
    let longest = if random.once_in(8) { 3 } else { 400 };
    let mut segments = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (segment, after) = rest.split_at(rest.len().min(1 + random.index(longest)));
        segments.push(segment.to_vec());
        rest = after;
    }
    let words = u32::try_from(said.words.len()).unwrap();
    let every = (pace * words) / u32::try_from(segments.len().max(1)).unwrap();
    let content_type = match wire {
        Wire::Converse => "application/vnd.amazon.eventstream",
        _ => "text/event-stream",
    };
    Answer::Raw(Raw { status: 200, headers: vec![("content-type", content_type)], segments, every, breaks })
}
