//! A signature as text, next to what it signs: `<key>~<signature, base64url>`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::key::KeyId;
use crate::key::SigningKey;

impl SigningKey {
    /// The seal of these bytes for a purpose.
    pub(crate) fn seal(&self, purpose: &str, signed: &[u8]) -> String {
        format!("{}~{}", self.id(), URL_SAFE_NO_PAD.encode(self.sign(purpose, signed)))
    }
}

/// The key that a seal names, and its signature, which is not verified by that; `None` for what is not a seal.
pub(crate) fn parse(seal: &str) -> Option<(KeyId, Vec<u8>)> {
    let (key, signature) = seal.split_once('~')?;
    Some((key.parse().ok()?, URL_SAFE_NO_PAD.decode(signature).ok()?))
}
