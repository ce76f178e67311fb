//! The turns of a job that was answered with one reply: they follow from its output and its record, so they need not be
//! kept once it has ended.
//!
//! Only an entry that comes back byte by byte counts as one, so what a later release adds to replies is never lost.

use std::borrow::Cow;

use serde::Deserialize;
use serde::Serialize;

use crate::job::Usage;

/// Bytes of an origin at most: Redis stores a hash with a longer value as a table, which takes more than is saved.
const MAX_ORIGIN_BYTES: usize = 64;
/// Stands for a reply without an origin.
const NO_ORIGIN: &str = "-";

/// The first turn entry of a job, of a reply with a text and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoleReply {
    /// The text of the reply.
    pub text: String,
    /// The tokens of its model call.
    pub usage: Usage,
    /// Who made it, as one word each: wire, provider and model; `-` for none. At most 64 bytes.
    origin: String,
}

/// The entry as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    entry: Cow<'a, str>,
    turn: u32,
    message: Message<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    text: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin<'a>>,
    usage: Usage,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin<'a> {
    wire: Cow<'a, str>,
    provider: Cow<'a, str>,
    model: Cow<'a, str>,
}

impl SoleReply {
    /// Reads the first entry of a job; `None` for one that holds more than a text, its origin and its usage.
    pub fn of(entry: &str) -> Option<Self> {
        let read: Entry<'_> = serde_json::from_str(entry).ok()?;
        let origin = read.message.origin.map_or_else(
            || NO_ORIGIN.to_owned(),
            |origin| format!("{} {} {}", origin.wire, origin.provider, origin.model),
        );
        let reply = Self { text: read.message.text.into_owned(), usage: read.message.usage, origin };
        let fits = reply.origin.len() <= MAX_ORIGIN_BYTES;
        (fits && reply.entry().as_deref() == Some(entry)).then_some(reply)
    }

    /// The reply of an origin that was stored.
    pub fn from_stored(text: String, usage: Usage, origin: &str) -> Self {
        Self { text, usage, origin: origin.to_owned() }
    }

    /// The origin, to be stored.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The entry; `None` where the origin is not one.
    pub fn entry(&self) -> Option<String> {
        let mut words = self.origin.split(' ');
        let origin = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(NO_ORIGIN), None, ..) => None,
            (Some(wire), Some(provider), Some(model), None) => {
                Some(Origin { wire: wire.into(), provider: provider.into(), model: model.into() })
            }
            _ => return None,
        };
        let message = Message { text: Cow::Borrowed(&self.text), origin, usage: self.usage };
        serde_json::to_string(&Entry { entry: "reply".into(), turn: 1, message }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"entry":"reply","turn":1,"message":{"text":"a \"b\"\n","usage":{"input_tokens":5,"cached_tokens":1,"output_tokens":2,"turns":1}}}"#;

    #[test]
    fn a_reply_comes_back_from_its_text_its_usage_and_its_origin() {
        let made = PLAIN.replace(
            ",\"usage\"",
            ",\"origin\":{\"wire\":\"chat\",\"provider\":\"openai\",\"model\":\"gpt\"},\"usage\"",
        );
        for (entry, origin) in [(PLAIN, "-"), (&made, "chat openai gpt")] {
            let reply = SoleReply::of(entry).unwrap();
            assert_eq!((reply.text.as_str(), reply.origin()), ("a \"b\"\n", origin));
            let again = SoleReply::from_stored(reply.text.clone(), reply.usage, origin);
            assert_eq!(again.entry().as_deref(), Some(entry));
        }
    }

    #[test]
    fn an_entry_that_holds_more_is_none() {
        let long = "x".repeat(MAX_ORIGIN_BYTES);
        for (part, instead) in [
            ("\"turn\":1", "\"turn\":2"),
            ("\"reply\"", "\"stderr\""),
            (",\"usage\"", ",\"tool_calls\":[{}],\"usage\""),
            (",\"usage\"", ",\"reasoning\":\"hm\",\"usage\""),
            (",\"usage\"", ",\"origin\":{\"wire\":\"a b\",\"provider\":\"p\",\"model\":\"m\"},\"usage\""),
            (",\"usage\"", ",\"origin\":{\"model\":\"m\",\"wire\":\"w\",\"provider\":\"p\"},\"usage\""),
            (
                ",\"usage\"",
                &format!(",\"origin\":{{\"wire\":\"{long}\",\"provider\":\"p\",\"model\":\"m\"}},\"usage\""),
            ),
            (",\"cached_tokens\":1", ""),
            ("{\"entry\"", "{\"v\":2,\"entry\""),
            ("\"text\":", "\"text\": "),
        ] {
            let entry = PLAIN.replacen(part, instead, 1);
            assert_ne!(entry, PLAIN);
            assert_eq!(SoleReply::of(&entry), None, "{entry}");
        }
        for origin in ["", "one", "one two", "one two three four"] {
            assert_eq!(
                SoleReply::from_stored(String::new(), Usage::default(), origin).entry(),
                None,
                "{origin}"
            );
        }
    }
}
