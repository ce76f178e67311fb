//! Which variables are secrets, and taking their values out of texts.
//!
//! A value is recognised as it is spelled in its variable. Encoded, split or translated, it is not recognised: what an
//! agent must not send away must not reach it in the first place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Debug;

use serde_json::Value;

use crate::variables::OTLP_HEADERS;
use crate::variables::REDIS_URL;
use crate::variables::WEBHOOK_SECRET;

/// The shortest value that is taken for a secret, in bytes. Shorter ones, such as `test` or `1`, are placeholders, and
/// would be found in any text.
const MIN_SECRET_BYTES: usize = 6;

/// A variable is a secret if its name, split at underscores, has one of these words.
const SECRET_WORDS: [&str; 13] = [
    "KEY",
    "APIKEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "CREDENTIALS",
    "PAT",
    "AUTH",
    "COOKIE",
    "BEARER",
];
/// Ends of names whose value says where a secret is.
const PLACE_ENDINGS: [&str; 3] = ["_FILE", "_SOCK", "APPLICATION_CREDENTIALS"];

/// Variables that every command of an agent gets: what a shell needs to find programs, files and words in its user's
/// language. None of them holds a secret.
const COMMAND_VARIABLES: [&str; 13] = [
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SHELL",
    "TRACEPARENT",
];

/// Whether commands of agents get this variable without asking for it.
pub fn passes_to_commands(name: &str) -> bool {
    COMMAND_VARIABLES.contains(&name) || name.starts_with("LC_")
}

/// The values of secrets. The debug form has none of them. Cheap to ask where there are none.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Name and value. The longest value first, so that a secret that contains another is replaced whole.
    known: Vec<(String, String)>,
}

impl Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|(name, _)| name)).finish()
    }
}

impl Secrets {
    /// The secrets in an environment: the values of variables whose names say so, and passwords in addresses.
    pub fn of(variables: &BTreeMap<String, String>) -> Self {
        let secret = |(name, value): (&String, &String)| {
            let value = if is_secret(name) { Some(value.trim()) } else { password(value) };
            value
                .filter(|value| value.len() >= MIN_SECRET_BYTES)
                .map(|value| (name.clone(), value.to_owned()))
        };
        let mut known: Vec<(String, String)> = variables.iter().filter_map(secret).collect();
        // While secrets of webhooks are replaced there are several, and each stands alone in a text.
        let webhooks = variables.get(WEBHOOK_SECRET).map(|several| several.split_whitespace());
        let webhooks = webhooks.into_iter().flatten().filter(|word| word.len() >= MIN_SECRET_BYTES);
        known.extend(webhooks.map(|word| (WEBHOOK_SECRET.to_owned(), word.to_owned())));
        // The password of Redis stands alone in some texts.
        let passwords =
            variables.get(REDIS_URL).and_then(|url| password(url)).filter(|it| it.len() >= MIN_SECRET_BYTES);
        known.extend(passwords.map(|password| (REDIS_URL.to_owned(), password.to_owned())));
        known.sort_by(|(_, one), (_, other)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        known.dedup_by(|(_, one), (_, other)| one == other);
        Self { known }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The text with `[hidden: NAME]` in the place of each secret.
    pub fn redacted<'text>(&self, text: &'text str) -> Cow<'text, str> {
        let mut redacted = Cow::Borrowed(text);
        for (name, value) in &self.known {
            if redacted.contains(value) {
                redacted = Cow::Owned(redacted.replace(value, &format!("[hidden: {name}]")));
            }
        }
        redacted
    }

    /// Replaces secrets in all strings of a JSON value, the names of fields too. Whether there were any.
    pub fn redact_json(&self, value: &mut Value) -> bool {
        if self.is_empty() {
            return false;
        }
        match value {
            Value::String(text) => match self.redacted(text) {
                Cow::Borrowed(_) => false,
                Cow::Owned(redacted) => {
                    *text = redacted;
                    true
                }
            },
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.redact_json(item) | any),
            Value::Object(fields) => {
                let mut any = false;
                for (name, mut item) in std::mem::take(fields) {
                    any |= self.redact_json(&mut item);
                    let redacted = self.redacted(&name).into_owned();
                    any |= redacted != name;
                    fields.insert(redacted, item);
                }
                any
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Bytes at the end of `text` that may be the beginning of a secret.
    fn open_end(&self, text: &str) -> usize {
        let begins = |value: &String| {
            let longest = value.len().saturating_sub(1).min(text.len());
            (1..=longest).rev().find(|&length| {
                text.is_char_boundary(text.len() - length) && value.starts_with(&text[text.len() - length..])
            })
        };
        self.known.iter().map(|(_, value)| value).filter_map(begins).max().unwrap_or(0)
    }
}

/// A text that arrives in pieces, without secrets: also without those that arrive in two pieces.
#[derive(Debug, Clone, Default)]
pub struct RedactedStream {
    /// The end of what arrived, held back because it may be the beginning of a secret; shorter than the longest one.
    held_back: String,
}

impl RedactedStream {
    /// What may be shown once `piece` has arrived.
    pub fn push(&mut self, secrets: &Secrets, piece: &str) -> String {
        let whole = std::mem::take(&mut self.held_back) + piece;
        let mut shown = secrets.redacted(&whole).into_owned();
        self.held_back = shown.split_off(shown.len() - secrets.open_end(&shown));
        shown
    }

    /// What was held back: the text ends here.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held_back)
    }
}

/// Whether a variable's name says that its value is a secret. The URL of Redis counts, as it may hold a password.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_place = PLACE_ENDINGS.iter().any(|ending| name.ends_with(ending));
    name == REDIS_URL
        || name == OTLP_HEADERS
        || !is_place && name.split('_').any(|word| SECRET_WORDS.contains(&word))
}

/// The password in a URL such as `scheme://user:password@host`.
fn password(value: &str) -> Option<&str> {
    let authority = value.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let (login, _host) = authority.rsplit_once('@')?;
    login.split_once(':').map(|(_user, password)| password)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn secrets() -> Secrets {
        let variables = [
            ("OPENAI_API_KEY", "sk-canary-1234"),
            ("OPENAI_API_KEY_OLD", "sk-canary-1234-and-more"),
            ("GITHUB_TOKEN", "short"),
            ("DATABASE", "postgres://me:hush:hush@db.example/x?y=@"),
            ("OTHER", "postgres://db.example/me:x123456@y"),
            (REDIS_URL, "redis://me:hunter2hunter2@host:6379/0"),
            ("HOME", "/home/somewhere"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
            ("MONKEY_BUSINESS", "monkey-monkey"),
            (WEBHOOK_SECRET, "whsec_one-one whsec_two-two\n"),
            ("KEY_FILE", "/etc/key.txt"),
        ];
        Secrets::of(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn values_of_secret_variables_and_passwords_are_replaced() {
        let secrets = secrets();
        let table = [
            ("Bearer sk-canary-1234!", "Bearer [hidden: OPENAI_API_KEY]!"),
            ("sk-canary-1234-and-more", "[hidden: OPENAI_API_KEY_OLD]"),
            ("AUTH hunter2hunter2", "AUTH [hidden: LEGWORK_REDIS_URL]"),
            ("at redis://me:hunter2hunter2@host:6379/0", "at [hidden: LEGWORK_REDIS_URL]"),
            ("db hush:hush", "db [hidden: DATABASE]"),
            ("signed with whsec_two-two", "signed with [hidden: LEGWORK_WEBHOOK_SECRET]"),
            ("short /home/somewhere /etc/key.txt", "short /home/somewhere /etc/key.txt"),
        ];
        for (text, expected) in table {
            assert_eq!(secrets.redacted(text), expected);
        }
        assert!(!format!("{secrets:?}").contains("canary"));
        let mut value = json!({"a": ["x sk-canary-1234"], "sk-canary-1234": 7});
        assert!(secrets.redact_json(&mut value));
        assert_eq!(value, json!({"a": ["x [hidden: OPENAI_API_KEY]"], "[hidden: OPENAI_API_KEY]": 7}));
        assert!(!secrets.redact_json(&mut value));
    }

    #[test]
    fn commands_get_harmless_variables_only() {
        for (name, passes) in [
            ("PATH", true),
            ("LC_ALL", true),
            ("TZ", true),
            ("OPENAI_API_KEY", false),
            (REDIS_URL, false),
            ("AWS_SECRET_ACCESS_KEY", false),
            ("SSH_AUTH_SOCK", false),
        ] {
            assert_eq!(passes_to_commands(name), passes, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_secret_that_arrives_in_pieces_is_replaced(
            parts in prop::collection::vec("(sk-can|ary-1234|sk-canary-1234|é| |sk-|-and-more|hunter2){0,3}", 0..8),
        ) {
            let (secrets, mut stream) = (secrets(), RedactedStream::default());
            let mut shown: String = parts.iter().map(|part| stream.push(&secrets, part)).collect();
            shown.push_str(&stream.finish());
            prop_assert!(!shown.contains("sk-canary-1234") && !shown.contains("hunter2hunter2"), "{}", shown);
        }
    }

    #[test]
    fn other_text_is_shown_at_once() {
        let (secrets, mut stream) = (secrets(), RedactedStream::default());
        assert_eq!(stream.push(&secrets, "plain text, "), "plain text, ");
        assert_eq!(stream.push(&secrets, "ask"), "a");
        assert_eq!(stream.push(&secrets, "in"), "skin");
        assert_eq!(Secrets::default().redacted("sk-canary-1234"), "sk-canary-1234");
    }
}
