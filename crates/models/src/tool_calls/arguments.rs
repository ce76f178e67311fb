//! The arguments of one call as they grow.

use serde::de::IgnoredAny;

use crate::work;

/// The text of the arguments, and what is known of it without reading it again.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    text: String,
    /// Where the last piece begins that said all of it again. Some providers send what they have so far each time.
    restated: usize,
    balance: Balance,
}

impl Arguments {
    /// Adds a piece and returns its bytes. Looks at no more bytes than the piece has.
    pub(super) fn push(&mut self, piece: &str) -> usize {
        if self.is_restated_by(piece) {
            self.restated = self.text.len();
        }
        work::count(piece.len());
        self.text.push_str(piece);
        self.balance.read(piece.as_bytes());
        piece.len()
    }

    /// Replaces all that came with `whole`, unless that is nothing, and returns by how many bytes it is longer.
    pub(super) fn replace(&mut self, whole: &str) -> usize {
        if whole.is_empty() {
            return 0;
        }
        let before = self.text.len();
        *self = Self::default();
        self.push(whole).saturating_sub(before)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is nothing, or nothing but blanks.
    pub(super) fn is_empty(&self) -> bool {
        !self.balance.begun
    }

    /// Whether there is nothing, or only what stands for it.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_empty() || matches!(self.text.trim(), "{}" | "null")
    }

    /// Whether the brackets have been balanced: a JSON object has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.balance.closed
    }

    /// Whether a piece begins with all that came since the last such piece.
    pub(super) fn is_restated_by(&self, piece: &str) -> bool {
        let so_far = &self.text[self.restated..];
        work::count(so_far.len().min(piece.len()));
        !so_far.is_empty() && piece.starts_with(so_far)
    }

    /// The whole: `{}` for nothing, the last statement where pieces repeated each other, what follows an empty object that
    /// stood for nothing, and else as the model wrote it.
    pub(super) fn finish(self) -> String {
        let text = match self.text.trim() {
            // An empty list is how PHP writes an empty object.
            "" | "null" | "[]" | r#""""# => return "{}".to_owned(),
            text if is_json(text) => text,
            text => {
                let again = self.text[self.restated..].trim();
                let after = text.strip_prefix("{}").map(str::trim).filter(|after| is_json(after));
                if is_json(again) { again } else { after.unwrap_or(text) }
            }
        };
        // An object that was written as a JSON text.
        let inner: Option<String> = serde_json::from_str(text).ok();
        match inner {
            Some(inner) if inner.trim_start().starts_with('{') && is_json(&inner) => inner,
            _ => text.to_owned(),
        }
    }
}

fn is_json(text: &str) -> bool {
    work::count(text.len());
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// How the brackets stand, read byte by byte.
#[derive(Debug, Default)]
struct Balance {
    begun: bool,
    depth: usize,
    in_text: bool,
    escaped: bool,
    closed: bool,
}

impl Balance {
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.begun |= !byte.is_ascii_whitespace();
            match (self.in_text, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_text = !self.in_text,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.closed |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}
