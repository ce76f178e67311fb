//! The text that the tries of one request write: what a failed try has written is not written again by the next one.
//!
//! Written output cannot be taken back. A try that says the same again continues where the last one was cut off; a try
//! that says something else is written whole, after the notice.

use std::mem;

/// Written once a reply was cut off and is asked for again.
pub(super) const CUT_OFF_NOTICE: &str = "\n[the model's answer was cut off; asking again]\n";

/// What the output of one request holds so far.
#[derive(Debug)]
pub(super) struct Written {
    /// Written before the first text.
    separator: &'static str,
    /// The visible text of the tries so far, as one try would have said it. Bounded by the most bytes of a reply.
    text: String,
    /// How many bytes of `text` the current try has repeated. None once it has said more, or something else.
    repeated: Option<usize>,
    /// Whether the current try has written anything.
    grew: bool,
}

impl Written {
    /// Nothing yet. `separator` is written before the first text.
    pub(super) fn after(separator: &'static str) -> Self {
        Self { separator, text: String::new(), repeated: None, grew: false }
    }

    /// Begins another try, and returns what to write before it: the notice, where the last try has left a text that is not
    /// whole.
    pub(super) fn begin_try(&mut self) -> &'static str {
        self.repeated = (!self.text.is_empty()).then_some(0);
        if mem::take(&mut self.grew) { CUT_OFF_NOTICE } else { "" }
    }

    /// The part of the next piece that is to be written now, with the separator.
    pub(super) fn take(&mut self, piece: &str) -> String {
        if piece.is_empty() {
            return String::new();
        }
        let Some(at) = self.repeated else { return self.write(piece) };
        let expected = &self.text[at..];
        if expected.starts_with(piece) {
            self.repeated = Some(at + piece.len());
            return String::new();
        }
        self.repeated = None;
        match piece.strip_prefix(expected).map(str::to_owned) {
            Some(more) => self.write(&more),
            // Something else: all of it is written.
            None => {
                self.text.truncate(at);
                let same = mem::take(&mut self.text);
                self.write(&(same + piece))
            }
        }
    }

    /// What is still to be written at the end of a usable reply: all of it, where it ended before the text of the try that
    /// failed.
    pub(super) fn end_reply(&mut self) -> String {
        match self.repeated.take() {
            Some(at) if at > 0 && at < self.text.len() => {
                self.text.truncate(at);
                mem::take(&mut self.text)
            }
            _ => String::new(),
        }
    }

    fn write(&mut self, piece: &str) -> String {
        self.grew = true;
        self.text.push_str(piece);
        let separator = mem::take(&mut self.separator);
        format!("{separator}{piece}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of these tries, each a list of pieces; the last one succeeds.
    fn output(tries: &[&[&str]]) -> String {
        let mut written = Written::after("\n\n");
        let mut output = String::new();
        for pieces in tries {
            output += written.begin_try();
            output.extend(pieces.iter().map(|piece| written.take(piece)));
        }
        output + &written.end_reply()
    }

    #[test]
    fn a_text_that_is_repeated_is_written_once() {
        let cut = CUT_OFF_NOTICE;
        let table: &[(&[&[&str]], String)] = &[
            (&[&["one", " two"]], "\n\none two".into()),
            (&[&[], &["one"]], "\n\none".into()),
            (&[&["on"], &["one", " two"]], format!("\n\non{cut}e two")),
            (&[&["on"], &["o", "ne"]], format!("\n\non{cut}e")),
            (&[&["one"], &["one"]], format!("\n\none{cut}")),
            (&[&["one"], &["o"], &["one", " two"]], format!("\n\none{cut} two")),
            (&[&["on"], &["one"], &["one two"]], format!("\n\non{cut}e{cut} two")),
            (&[&["one"], &["on", "ly"]], format!("\n\none{cut}only")),
            (&[&["one"], &["two"], &["two", " three"]], format!("\n\none{cut}two{cut} three")),
            (&[&["one two"], &["one"]], format!("\n\none two{cut}one")),
            (&[&["one"], &[]], format!("\n\none{cut}")),
            (&[&["h\u{e9}"], &["h", "\u{e8}"]], format!("\n\nh\u{e9}{cut}h\u{e8}")),
        ];
        for (tries, expected) in table {
            assert_eq!(&output(tries), expected, "{tries:?}");
        }
    }
}
