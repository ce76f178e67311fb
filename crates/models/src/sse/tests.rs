//! Streams byte for byte, cut at every place.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64;

/// The items of a stream in segments, and whether it broke the limit.
fn read(segments: &[&[u8]], limit: usize) -> (Vec<Item>, bool) {
    let (mut decoder, mut items) = (Decoder::new(limit), Vec::new());
    let mut fed = segments.iter().try_for_each(|segment| decoder.feed(segment, &mut items));
    if fed.is_ok() {
        fed = decoder.finish(&mut items);
    }
    (items, fed.is_err())
}

fn event(name: &str, data: &str) -> Item {
    Item::Event { name: (!name.is_empty()).then(|| name.to_owned()), data: data.to_owned() }
}

/// The stream whole, byte by byte, and in two pieces cut at each place.
fn expect(bytes: &[u8], expected: &[Item]) {
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(read(&[bytes], LIMIT), (expected.to_vec(), false), "{shown:?}");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single, LIMIT).0, expected, "{shown:?} by bytes");
    for at in 0..bytes.len() {
        assert_eq!(read(&[&bytes[..at], b"", &bytes[at..]], LIMIT).0, expected, "{shown:?} cut at {at}");
    }
}

#[test]
fn streams_and_their_events() {
    let two = [event("", "a"), event("", "b")];
    expect(b"data: a\n\ndata: b\n\n", &two);
    expect(b"data: a\r\n\r\ndata: b\r\n\r\n", &two);
    expect(b"data: a\r\rdata: b\r\r", &two);
    expect(b"data:a\n\ndata:b\n\n", &two);
    expect(b"\xef\xbb\xbfdata: a\n\ndata: b", &two);
    expect(b"data: a\n\n\n\ndata: b\n", &two);
    expect(b"id: 1\nretry: 5\ndata: a\n\ndata: b\r", &two);
    expect(b"event: x\ndata: a\n\ndata: b\n\n", &[event("x", "a"), event("", "b")]);
    expect(b"data: a\nevent:x\n\n", &[event("x", "a")]);
    expect(b"data: a\ndata:  b\n\n", &[event("", "a\n b")]);
    expect(b": ping\n\n:\n\ndata: a\n\n", &[Item::KeepAlive, Item::KeepAlive, event("", "a")]);
    expect(b"event: ping\n\ndata\n\ndata:\n\n", &[Item::KeepAlive]);
    expect(b"{\"error\": 1}\n\n", &[event("", "{\"error\": 1}")]);
    expect("data: h\u{e9}\u{1f600}\n\n".as_bytes(), &[event("", "h\u{e9}\u{1f600}")]);
    expect(b"data: \xff\xc3\n\n", &[event("", "\u{fffd}\u{fffd}")]);
    expect(b"", &[]);
}

#[test]
fn a_body_that_is_not_a_stream_is_kept_for_the_error() {
    let (mut decoder, mut items) = (Decoder::new(LIMIT), Vec::new());
    decoder.feed(b"upstream connect error\nor so\n", &mut items).unwrap();
    assert_eq!((decoder.stray(), items.len()), ("upstream connect error or so ", 0));
}

#[test]
fn what_is_too_long_is_an_error_however_it_is_cut() {
    let line = [b"data: a\n\ndata: ".as_slice(), &[b'b'; LIMIT]].concat();
    let lines = [b"data: a\n\n".as_slice(), b"data: bbbbbbbb\n".repeat(9).as_slice()].concat();
    for bytes in [line, lines] {
        for size in [1, 7, 1000] {
            let segments: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(read(&segments, LIMIT), (vec![event("", "a")], true), "{size}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_the_same_items(
        bytes in vec(prop_oneof![3 => prop::sample::select(b"\r\n: daevnt{".to_vec()), 1 => any::<u8>()], 0..200),
        size in 1_usize..9,
    ) {
        let segments: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(read(&segments, 24), read(&[&bytes], 24));
    }
}
