//! Slices of output that cut no character.

use legwork_common::service::OutputSlice;

/// Bytes that are read beyond a slice on both sides. A UTF-8 character has four bytes at most, so three show whether
/// one is cut.
pub(super) const SLICE_MARGIN: u64 = 3;

/// Cuts `bytes`, which begin at `from` in an output of `total` bytes, to the slice at `offset` of at most `most` bytes.
/// The slice is moved so that no UTF-8 character that is whole in the output is cut; bytes that are not UTF-8 are kept.
pub(super) fn whole_characters(bytes: &[u8], from: u64, offset: u64, most: usize, total: u64) -> OutputSlice {
    let is_continuation = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let skip = usize::try_from(offset - from).unwrap_or(0).min(bytes.len());
    let wanted = &bytes[skip..];
    // A reader that continues at a slice's end never begins inside a character. A tail may.
    let begin =
        if offset == 0 { 0 } else { wanted.iter().take(3).take_while(|byte| is_continuation(byte)).count() };
    let mut end = wanted.len().min(most);
    if from + (skip + end) as u64 != total {
        let back =
            wanted[..end.min(wanted.len())].iter().rev().take(3).take_while(|b| is_continuation(b)).count();
        let cut_inside = wanted.get(end).is_some_and(is_continuation);
        if cut_inside && end > back {
            end -= back + 1;
        }
    }
    let end = end.max(begin);
    OutputSlice { offset: offset + begin as u64, bytes: wanted[begin..end].to_vec(), total }
}

/// The slice at `offset`, at most the text's length, of at most `most` bytes of a text.
pub(crate) fn text_slice(text: &str, offset: u64, most: usize) -> OutputSlice {
    let bytes = text.as_bytes();
    let from = offset.saturating_sub(SLICE_MARGIN);
    let rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    whole_characters(rest, from, offset, most, bytes.len() as u64)
}

/// Bytes without those at their beginning that are the rest of a cut character.
pub(super) fn without_cut_beginning(bytes: &[u8]) -> &[u8] {
    let rest = bytes.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
    &bytes[rest..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_of_text_join_to_the_whole(text in "\\PC{0,40}", most in 4usize..12) {
            let bytes = text.as_bytes();
            let total = bytes.len() as u64;
            let (mut offset, mut joined) = (0u64, Vec::new());
            while offset < total {
                let from = offset.saturating_sub(3);
                let to = usize::min(bytes.len(), usize::try_from(offset).unwrap() + most + 3);
                let slice = whole_characters(&bytes[usize::try_from(from).unwrap()..to], from, offset, most, total);
                prop_assert_eq!(slice.offset, offset);
                prop_assert!(std::str::from_utf8(&slice.bytes).is_ok());
                prop_assert!(!slice.bytes.is_empty());
                joined.extend_from_slice(&slice.bytes);
                offset = slice.next_offset();
            }
            prop_assert_eq!(joined, bytes);
        }
    }

    #[test]
    fn bytes_that_are_not_text_still_make_progress() {
        let bytes = [0x80u8; 20];
        let slice = whole_characters(&bytes, 0, 0, 8, 20);
        assert!(slice.bytes.len() >= 4, "{slice:?}");
    }
}
