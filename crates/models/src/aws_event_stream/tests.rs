//! Frames byte for byte, cut at every place, and bytes that are not frames.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 400;

/// A header of a name, a type, and the bytes of its value, its length included.
pub(crate) fn header(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[length], name.as_bytes(), &[kind], value].concat()
}

/// A header that is text.
pub(crate) fn text(name: &str, value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    header(name, TEXT, &[&length, value.as_bytes()].concat())
}

/// A frame of these headers and this payload.
pub(crate) fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let number = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    let mut frame = [number(headers.len() + payload.len() + 16), number(headers.len())].concat();
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend([headers, payload].concat());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame
}

/// The frames in segments, the error that ended them, and whether a frame is unfinished.
fn read(segments: &[&[u8]]) -> (Vec<Frame>, Result<bool, BadFrame>) {
    let (mut decoder, mut frames) = (Decoder::new(LIMIT), Vec::new());
    let fed = segments.iter().try_for_each(|segment| decoder.feed(segment, &mut frames));
    (frames, fed.map(|()| decoder.is_within_frame()))
}

/// The payloads of the frames in some bytes, the same for every cut.
fn payloads(bytes: &[u8]) -> (Vec<String>, Result<bool, BadFrame>) {
    let whole = read(&[bytes]);
    for size in [1, 3, 11, 17] {
        let segments: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(read(&segments), whole, "in pieces of {size}");
    }
    let (frames, end) = whole;
    (frames.into_iter().map(|frame| String::from_utf8(frame.payload).unwrap()).collect(), end)
}

/// Lengths with a good checksum, and nothing after them.
fn prelude(length: u32, headers: u32) -> Vec<u8> {
    let mut bytes = [length.to_be_bytes(), headers.to_be_bytes()].concat();
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

#[test]
fn frames_and_their_headers() {
    let of_all_types = [
        header("true", 0, &[]),
        header("false", 1, &[]),
        header("byte", 2, &[1]),
        header("short", 3, &[1; 2]),
        header("int", 4, &[1; 4]),
        header("long", 5, &[1; 8]),
        header("bytes", 6, &[0, 2, 7, 7]),
        header("time", 8, &[1; 8]),
        header("uuid", 9, &[1; 16]),
        text(":event-type", "h\u{e9}"),
    ];
    let stream = [framed(&of_all_types.concat(), b"one"), framed(&[], b""), framed(&[], b"three")].concat();
    let three = ["one", "", "three"].map(str::to_owned).to_vec();
    assert_eq!(payloads(&stream), (three.clone(), Ok(false)));
    for at in 0..stream.len() {
        assert_eq!(read(&[&stream[..at], &stream[at..]]), read(&[&stream]), "cut at {at}");
    }
    assert_eq!(payloads(&[stream, framed(&[], b"four")[..9].to_vec()].concat()), (three, Ok(true)));
    let frames = read(&[&framed(&of_all_types.concat(), b"")]).0;
    assert_eq!((frames[0].header(":event-type"), frames[0].header("true")), (Some("h\u{e9}"), None));
}

#[test]
fn bytes_that_are_not_frames_are_an_error_after_the_frames_before_them() {
    let good = || framed(&[], b"one");
    let changed = |at: usize| {
        let mut bytes = good();
        bytes[at] ^= 1;
        bytes
    };
    let broken = |headers: &[u8]| (framed(headers, b""), BadFrame::Headers);
    let too_long = BadFrame::TooLong { limit: LIMIT };
    let table = [
        (changed(0), BadFrame::Checksum),
        (changed(9), BadFrame::Checksum),
        (changed(13), BadFrame::Checksum),
        (changed(good().len() - 1), BadFrame::Checksum),
        (prelude(u32::MAX, 0), too_long),
        (prelude(401, 0), too_long),
        (prelude(15, 0), BadFrame::Lengths),
        (prelude(0, 0), BadFrame::Lengths),
        (prelude(40, 25), BadFrame::Lengths),
        (prelude(40, u32::MAX), BadFrame::Lengths),
        broken(&[200]),
        broken(&text("name", "value")[..8]),
        broken(&header("name", 10, &[])),
        broken(&header("name", TEXT, &[0, 1, 0xff])),
        broken(&header("name", 5, &[1])),
        (b"HTTP/1.1 200 OK".to_vec(), BadFrame::Checksum),
    ];
    for (bytes, error) in table {
        let came = payloads(&[good(), bytes.clone()].concat());
        assert_eq!(came, (vec!["one".to_owned()], Err(error)), "{bytes:?}");
    }
}

#[test]
fn reading_is_linear() {
    for (payload, count) in [(40, 20_000), (10 << 20, 1)] {
        let stream = framed(&text("name", "value"), &vec![b'a'; payload]).repeat(count);
        let work = work::counted(|| {
            let (mut decoder, mut frames) = (Decoder::new(16 << 20), Vec::new());
            stream.chunks(1400).for_each(|segment| decoder.feed(segment, &mut frames).unwrap());
            assert_eq!(frames.len(), count);
        });
        assert!(work <= 3 * stream.len(), "{payload} bytes");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_the_same_frames(
        pieces in vec(
            prop_oneof![
                4 => (vec(("[a-z]{0,4}", "[a-z]{0,4}"), 0..3), vec(any::<u8>(), 0..40)).prop_map(|(headers, payload)| {
                    let headers: Vec<u8> = headers.iter().flat_map(|(name, value)| text(name, value)).collect();
                    framed(&headers, &payload)
                }),
                1 => (vec(any::<u8>(), 0..30), vec(any::<u8>(), 0..30)).prop_map(|(headers, payload)| framed(&headers, &payload)),
                1 => (any::<u32>(), any::<u32>()).prop_map(|(length, headers)| prelude(length, headers)),
                1 => vec(any::<u8>(), 0..30),
            ],
            0..6,
        ),
        size in 1_usize..40,
    ) {
        let bytes = pieces.concat();
        let segments: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(read(&segments), read(&[&bytes]));
    }

    #[test]
    fn what_is_framed_comes_back(frames in vec((vec(("[a-z:-]{1,9}", "[a-z\u{e9}]{0,9}"), 0..3), vec(any::<u8>(), 0..60)), 0..5)) {
        let bytes = |(headers, payload): &(Vec<(String, String)>, Vec<u8>)| {
            let headers: Vec<u8> = headers.iter().flat_map(|(name, value)| text(name, value)).collect();
            framed(&headers, payload)
        };
        let stream: Vec<u8> = frames.iter().flat_map(bytes).collect();
        let expected: Vec<Frame> =
            frames.into_iter().map(|(headers, payload)| Frame { headers, payload }).collect();
        prop_assert_eq!(read(&[&stream]), (expected, Ok(false)));
    }
}
