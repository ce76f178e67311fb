//! Whether the end of an output is a text that the worker has at hand later, without a copy of the output.

use sha2::Digest as _;
use sha2::Sha256;

/// Bytes of what separates the text of a turn from what was written before it.
const SEPARATOR_BYTES: usize = 2;

/// The output since the last turn entry: a digest of it, its length and its first bytes.
#[derive(Debug, Clone)]
pub(super) struct OutputTail {
    digest: Sha256,
    bytes: u64,
    beginning: [u8; SEPARATOR_BYTES],
    /// Whether a turn entry was recorded, so that the next text begins a new tail.
    is_closed: bool,
    /// Whether some of it was dropped at the output cap.
    is_cut: bool,
}

impl Default for OutputTail {
    fn default() -> Self {
        Self {
            digest: Sha256::new(),
            bytes: 0,
            beginning: [0; SEPARATOR_BYTES],
            is_closed: false,
            is_cut: false,
        }
    }
}

impl OutputTail {
    /// Adds text, of which the first `kept` bytes are below the output cap.
    pub(super) fn push(&mut self, text: &[u8], kept: usize) {
        if self.is_closed && !text.is_empty() {
            *self = Self::default();
        }
        let kept_text = text.get(..kept).unwrap_or(text);
        self.is_cut |= kept_text.len() < text.len();
        let at = usize::try_from(self.bytes).unwrap_or(usize::MAX).min(SEPARATOR_BYTES);
        for (byte, from) in self.beginning[at..].iter_mut().zip(kept_text) {
            *byte = *from;
        }
        self.bytes += kept_text.len() as u64;
        self.digest.update(kept_text);
    }

    /// A turn entry follows what was added.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the output since the last turn entry is this text.
    pub(super) fn is(&self, text: &str) -> bool {
        self.bytes == text.len() as u64 && self.ends_with(text)
    }

    /// Whether the output ends with this text, and with no more than a separator before it since the last turn entry.
    pub(super) fn ends_with(&self, text: &str) -> bool {
        let separator =
            self.bytes.checked_sub(text.len() as u64).and_then(|bytes| usize::try_from(bytes).ok());
        let Some(separator) = separator.and_then(|bytes| self.beginning.get(..bytes)) else { return false };
        !self.is_cut && !text.is_empty() && {
            let whole = Sha256::new().chain_update(separator).chain_update(text);
            whole.finalize() == self.digest.clone().finalize()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail(pieces: &[&str]) -> OutputTail {
        let mut tail = OutputTail::default();
        pieces.iter().for_each(|piece| tail.push(piece.as_bytes(), piece.len()));
        tail
    }

    #[test]
    fn a_text_is_found_after_a_separator_and_after_nothing_longer() {
        assert!(tail(&["on", "e"]).is("one"));
        assert!(tail(&["\n\n", "two"]).ends_with("two") && !tail(&["\n\n", "two"]).is("two"));
        for (pieces, text) in [
            (&["\n\n\ntwo"][..], "two"),
            (&["one"], "two"),
            (&["one"], "one two"),
            (&["one"], ""),
            (&[], ""),
            (&["[warning]\n", "two"], "two"),
        ] {
            assert!(!tail(pieces).ends_with(text), "{pieces:?} {text}");
        }
    }

    #[test]
    fn a_turn_entry_begins_a_new_tail_with_the_next_text() {
        let mut tail = tail(&["one"]);
        tail.close();
        assert!(tail.is("one"), "the text before the entry");
        tail.push(b"", 0);
        assert!(tail.is("one"));
        tail.push(b"\n\ntwo", 5);
        assert!(tail.ends_with("two") && !tail.ends_with("one\n\ntwo"));
    }

    #[test]
    fn a_text_that_was_cut_is_not_found() {
        let mut tail = tail(&["one"]);
        tail.push(b"two", 2);
        assert!(!tail.ends_with("onetw") && !tail.ends_with("onetwo"));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "\\PC{1,60}", cuts in proptest::collection::vec(0usize..60, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut tail = OutputTail::default();
            for pair in cuts.windows(2) {
                tail.push(&text.as_bytes()[pair[0]..pair[1]], pair[1] - pair[0]);
            }
            prop_assert!(tail.is(&text));
        }
    }
}
