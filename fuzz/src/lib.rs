//! What every target holds a wire's reader to: any bytes, in any segments, give one list of events and one end.

use legwork_models::reader::Close;
use legwork_models::reader::read_segments;
use legwork_models::reply::Limits;
use legwork_models::reply::ReplyEvent;
use legwork_models::wire::Wire;

/// Small, so that inputs of a few kilobytes reach each limit.
const LIMITS: Limits = Limits { line_bytes: 400, reply_bytes: 1500, calls: 4 };

/// Reads `data` whole and in pieces, and panics where the two differ or more is kept than the limits allow. The first byte
/// says how long the pieces are and how the connection ends.
pub fn hold<W: Wire + 'static>(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let close = if choice & 1 == 1 { Close::Broken("reset") } else { Close::Clean };
    let whole = read_segments::<W>(&[body], close, LIMITS);
    let pieces: Vec<&[u8]> = body.chunks(usize::from(choice >> 1) + 1).collect();
    assert_eq!(read_segments::<W>(&pieces, close, LIMITS), whole);
    let kept: usize = whole.0.iter().map(bytes).sum();
    assert!(kept <= LIMITS.reply_bytes, "{kept} bytes");
}

fn bytes(event: &ReplyEvent) -> usize {
    match event {
        ReplyEvent::Text(text) | ReplyEvent::Reasoning(text) => text.len(),
        ReplyEvent::CallGrew { bytes, .. } => *bytes,
        ReplyEvent::CallBegun { .. } | ReplyEvent::Usage(_) | ReplyEvent::KeepAlive => 0,
    }
}
