//! What a provider's failure means: the same on every wire, in the stream as over HTTP.

mod body;
mod classify;
mod retry_after;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use body::Said;

pub use self::retry_after::asked_delay;

/// The most characters of a provider's own words.
const WORDS: usize = 300;

/// A provider gave an error in place of a reply, or of the rest of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{words}", self.prefix())]
pub struct ProviderError {
    /// What it means.
    pub kind: ErrorKind,
    /// The status of the response; none for an error in a stream.
    pub status: Option<u16>,
    /// The provider's own name for it: a type or a code.
    pub code: Option<String>,
    /// The provider's words: one line of at most 300 characters, never a whole body.
    pub words: String,
    /// How long the provider wants to be left alone, where it says so. Not bounded here.
    pub retry_after: Option<Duration>,
}

/// What a failure means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Too many requests or tokens for now: transient.
    RateLimited,
    /// The account has nothing left: no wait helps, and other accounts are not concerned.
    QuotaUsedUp,
    /// The provider has too much to do: transient.
    Overloaded,
    /// A transient failure at the provider, or on the way to it.
    Server,
    /// The key is missing, wrong, or may not do this.
    Authentication,
    /// There is no such model or address.
    NotFound,
    /// The conversation does not fit into the context window: a shorter one may.
    ContextLength,
    /// The provider's filter refused the conversation.
    Filtered,
    /// The request is refused, and would be again.
    InvalidRequest,
    /// Something other than a reply came with a good status: a page, a proxy's text.
    NotAReply,
    /// The stream holds what cannot be read.
    Unreadable,
    /// The reply breaks a limit of ours, which the words name.
    TooLarge,
}

impl ErrorKind {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::Server | Self::NotAReply | Self::Unreadable => true,
            Self::QuotaUsedUp
            | Self::Authentication
            | Self::NotFound
            | Self::ContextLength
            | Self::Filtered
            | Self::InvalidRequest
            | Self::TooLarge => false,
        }
    }
}

impl ProviderError {
    /// The error in a response whose status is not good. `header` looks up by lower-case names, `now` is for dates.
    pub fn from_response<'h>(
        status: u16,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
        now: Timestamp,
    ) -> Self {
        let mut said = Said::in_body(&String::from_utf8_lossy(body));
        // AWS has the name in a header, and perhaps an address after it.
        let named = header("x-amzn-errortype").and_then(|named| named.split(':').next());
        said.names.extend(named.map(str::to_owned));
        let asked = asked_delay(header, now);
        let mut error = Self::of(Some(status), said);
        error.retry_after = asked.or(error.retry_after);
        error
    }

    /// The error in a JSON document of a good response, if it is one: an event of a stream or a whole body.
    #[must_use]
    pub fn in_json(document: &Value) -> Option<Self> {
        Said::in_error_document(document).map(|said| Self::of(None, said))
    }

    /// The error that a wire found in a place of its own: a code or type, and the words.
    #[must_use]
    pub fn named(code: &str, words: &str) -> Self {
        Self::of(None, Said { names: vec![code.to_owned()], words: words.to_owned(), ..Said::default() })
    }

    /// The error in an event that is called one, whatever its form.
    #[must_use]
    pub(crate) fn in_error_event(data: &str) -> Self {
        Self::of(None, Said::in_body(data))
    }

    /// The error in a frame that names it apart from its body.
    #[must_use]
    pub(crate) fn in_frame(name: &str, body: &str) -> Self {
        let mut said = Said::in_body(body);
        said.names.insert(0, name.to_owned());
        Self::of(None, said)
    }

    /// A body of a good response that is neither a stream nor JSON.
    #[must_use]
    pub fn not_a_reply(body: &str) -> Self {
        let said = Said::in_body(body);
        let what = if said.is_page { "a page came in place of a reply: " } else { "no reply came, but: " };
        let words = if said.words.is_empty() { body.to_owned() } else { said.words };
        Self::new(ErrorKind::NotAReply, format!("{what}{words}"))
    }

    /// The stream holds what cannot be read.
    pub(crate) fn unreadable(what: &str) -> Self {
        Self::new(ErrorKind::Unreadable, what.to_owned())
    }

    /// A limit of ours is broken.
    pub(crate) fn too_large(words: String) -> Self {
        Self::new(ErrorKind::TooLarge, words)
    }

    fn new(kind: ErrorKind, words: String) -> Self {
        Self { kind, status: None, code: None, words: one_line(&words), retry_after: None }
    }

    fn of(status: Option<u16>, said: Said) -> Self {
        let kind = classify::kind(status, &said);
        let retry_after = said.retry_after.or_else(|| retry_after::in_words(&said.words));
        let words = match said.words.as_str() {
            "" if said.names.iter().all(String::is_empty) => "no reason was given".to_owned(),
            "" => said.names.join(" "),
            words => words.to_owned(),
        };
        let code = said.names.into_iter().next().map(|name| one_line(&name));
        Self { kind, status, code, words: one_line(&words), retry_after }
    }

    /// The status and the code before the words.
    fn prefix(&self) -> String {
        let status = self.status.map(|status| status.to_string());
        let code = self
            .code
            .clone()
            .filter(|code| Some(code) != status.as_ref() && !self.words.contains(code.as_str()));
        let known = [status, code].into_iter().flatten().map(|word| word + ": ");
        known.collect()
    }
}

/// At most [`WORDS`] characters in one line, without control characters. Looks at a bounded part of the text.
pub(crate) fn one_line(text: &str) -> String {
    let printable = text.chars().take(8 * WORDS).map(|c| if c.is_control() { ' ' } else { c });
    let words: String = printable.collect();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests;
