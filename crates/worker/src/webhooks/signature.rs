//! The secrets of a sender and its signature: version `v1` of Standard Webhooks, HMAC with SHA-256.

use std::fmt;
use std::fmt::Debug;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::variables::WEBHOOK_SECRET;
use legwork_common::variables::WEBHOOK_SECRET_FILE;
use sha2::Sha256;
use thiserror::Error;

use crate::key_file::read_bounded;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// The least bytes of a secret, as Standard Webhooks asks for; with fewer it could be guessed.
const MIN_BYTES: usize = 24;
/// The most bytes of a secret, as Standard Webhooks asks for.
const MAX_BYTES: usize = 64;
/// Bytes of a file that has secrets: a few of them are expected.
const MAX_FILE_BYTES: u64 = 4096;

/// Secrets, each of which signs: a receiver knows one of them while they are replaced. The debug form has none.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secrets(Vec<Vec<u8>>);

/// Why there is no sender of notifications.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretError {
    /// A secret has another form. Its text is left out.
    #[error("a webhook secret must be {PREFIX} and the base64 of {MIN_BYTES} to {MAX_BYTES} bytes")]
    Form,
    /// The file cannot be read.
    #[error("cannot read the webhook secret: {detail}")]
    File {
        /// The file and the reason.
        detail: String,
    },
    /// The client cannot be built.
    #[error("cannot send notifications: {detail}")]
    Client {
        /// The reason.
        detail: String,
    },
}

impl Coded for SecretError {
    fn code(&self) -> &'static str {
        "webhook_secret"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Form | Self::File { .. } => Some(format!(
                "`echo {PREFIX}$(openssl rand -base64 32)` makes one for {WEBHOOK_SECRET}, or a file that {WEBHOOK_SECRET_FILE} names"
            )),
            Self::Client { .. } => None,
        }
    }
}

impl Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Reads secrets that white space separates; at least one.
    pub(super) fn parse(text: &str) -> Result<Self, SecretError> {
        let secrets: Vec<Vec<u8>> = text.split_whitespace().map(secret).collect::<Result<_, _>>()?;
        if secrets.is_empty() { Err(SecretError::Form) } else { Ok(Self(secrets)) }
    }

    /// Reads the secrets of a file.
    pub(super) fn read(file: &str) -> Result<Self, SecretError> {
        Self::parse(&text_of(file)?)
    }

    /// The header `webhook-signature`: one signature for each secret.
    pub(super) fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let one = |secret: &Vec<u8>| {
            // HMAC takes a key of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(signed.as_bytes());
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.0.iter().filter_map(one).collect::<Vec<String>>().join(" ")
    }
}

/// The text of a file that has secrets.
pub(super) fn text_of(file: &str) -> Result<String, SecretError> {
    let failed = |error: io::Error| SecretError::File { detail: format!("{file}: {error}") };
    read_bounded(Path::new(file), MAX_FILE_BYTES).map(|(text, _)| text).map_err(failed)
}

fn secret(word: &str) -> Result<Vec<u8>, SecretError> {
    let encoded = word.strip_prefix(PREFIX).ok_or(SecretError::Form)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Form)?;
    if (MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) { Ok(bytes) } else { Err(SecretError::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the reference implementation.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signatures_are_those_of_the_reference_implementation() {
        let sign = |secrets: &str| {
            let secrets = Secrets::parse(secrets).unwrap();
            secrets.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(SECRET), expected);
        let both = sign(&format!("whsec_{}\n{SECRET}\n", "QUFB".repeat(10)));
        assert!(both.ends_with(&format!(" {expected}")) && both.matches("v1,").count() == 2, "{both}");
    }

    #[test]
    fn other_texts_are_no_secrets_and_are_not_shown() {
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_QUFB", "whsec_!", "whsec_Mf KQ"]
        {
            assert_eq!(Secrets::parse(text), Err(SecretError::Form), "{text}");
        }
        assert_eq!(Secrets::parse(&format!("whsec_{}", "QUFB".repeat(22))), Err(SecretError::Form));
        assert!(!format!("{:?}", Secrets::parse(SECRET)).contains("MfKQ"));
    }

    #[test]
    fn a_file_is_read_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("good"), format!("{SECRET}\n")).unwrap();
        std::fs::write(file("long"), SECRET.repeat(1000)).unwrap();
        assert_eq!(Secrets::read(&file("good")), Secrets::parse(SECRET));
        for name in ["long", "missing", "."] {
            assert!(matches!(Secrets::read(&file(name)), Err(SecretError::File { .. })), "{name}");
        }
    }
}
