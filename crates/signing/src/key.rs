//! Ed25519 keys: a private key as the text of a file, a public key as one word, and the id that names both.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use legwork_common::job::parse_name;
use ring::rand::SecureRandom as _;
use ring::rand::SystemRandom;
use ring::signature::ED25519;
use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair as _;
use ring::signature::UnparsedPublicKey;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use thiserror::Error;

/// What the word of a public key begins with.
const PUBLIC: &str = "ed25519:";
/// What the word of a private key begins with.
const PRIVATE: &str = "ed25519-private:";
/// Digits of an id that is made of the public key: 64 bits, so that no two keys of a fleet share one by accident. The id
/// is only a name; what is trusted is the key.
const FINGERPRINT_DIGITS: usize = 16;

/// The name of a key, in envelopes and in trust files: 1 to 60 letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_name(text).map(Self).map_err(KeyError::Id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The id is not a name.
    #[error("the id of a key: {0}")]
    Id(String),
    /// The text is not a public key.
    #[error("a public key is `ed25519:` and 43 characters, as `keys new` prints it")]
    Public,
    /// The text is not that of a private key.
    #[error("it is not a private key as `keys new` writes it")]
    Private,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether the holder of the private key signed these bytes for `purpose`.
    pub fn verifies(&self, purpose: &str, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&message(purpose, bytes), signature).is_ok()
    }

    /// The id of a key that is given no other.
    fn fingerprint(&self) -> KeyId {
        let digits: String = Sha256::digest(self.0).iter().map(|byte| format!("{byte:02x}")).collect();
        KeyId(digits[..FINGERPRINT_DIGITS].to_owned())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        bytes_of(text, PUBLIC).map(Self).ok_or(KeyError::Public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// A private key with its id. Its debug form does not show it.
pub struct SigningKey {
    id: KeyId,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key; without an id, the id is made of its public key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`].
    pub fn generate(id: Option<KeyId>) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Random)?;
        let id = id.unwrap_or_else(|| public_of(&pair).fingerprint());
        Ok(Self { id, seed, pair })
    }

    /// The key of a file's text: lines that begin with `#`, and one with the id and the key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`] for any other text, which the error does not repeat; [`KeyError::Id`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let is_key = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let mut lines = text.lines().map(str::trim).filter(is_key);
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(KeyError::Private) };
        let (id, key) = line.split_once(' ').ok_or(KeyError::Private)?;
        let seed = bytes_of(key.trim(), PRIVATE).ok_or(KeyError::Private)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Private)?;
        Ok(Self { id: id.parse()?, seed, pair })
    }

    /// The text of a file from which the key is read again.
    pub fn to_text(&self) -> String {
        format!(
            "# A private key of Legwork: who reads this file can sign jobs as `{id}`.\n{id} {PRIVATE}{key}\n",
            id = self.id,
            key = URL_SAFE_NO_PAD.encode(self.seed)
        )
    }

    /// The name of the key.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        public_of(&self.pair)
    }

    /// Signs bytes for `purpose`: the signature holds for no other purpose.
    pub fn sign(&self, purpose: &str, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(&message(purpose, bytes)).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn public_of(pair: &Ed25519KeyPair) -> PublicKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(pair.public_key().as_ref());
    PublicKey(bytes)
}

/// What is signed: the purpose, a byte that is in no purpose, and the bytes.
fn message(purpose: &str, bytes: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), &[0], bytes].concat()
}

fn bytes_of(text: &str, prefix: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_signs_for_one_purpose() {
        let key = SigningKey::generate(Some("ci".parse().unwrap())).unwrap();
        let read = SigningKey::from_text(&key.to_text()).unwrap();
        assert_eq!((read.id(), read.public()), (key.id(), key.public()));
        let signature = read.sign("job", b"bytes");
        let public: PublicKey = key.public().to_string().parse().unwrap();
        assert!(public.verifies("job", b"bytes", &signature));
        assert!(!public.verifies("turn", b"bytes", &signature));
        assert!(!public.verifies("job", b"byte", &signature));
        assert!(!public.verifies("job", b"bytes", &signature[1..]));
        let other = SigningKey::generate(None).unwrap();
        assert!(!other.public().verifies("job", b"bytes", &signature));
        assert_eq!(other.id().as_str().len(), FINGERPRINT_DIGITS);
        assert!(!format!("{key:?}").contains(&URL_SAFE_NO_PAD.encode(key.seed)));
    }

    #[test]
    fn texts_that_hold_no_key_are_refused_without_being_repeated() {
        let key = SigningKey::generate(None).unwrap().to_text();
        for text in [
            "",
            "# only a comment",
            "x",
            "a b",
            &key.replace("private:", "private:x"),
            &format!("{key}{key}"),
        ] {
            assert_eq!(SigningKey::from_text(text).err(), Some(KeyError::Private), "{text}");
        }
        for text in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA"] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Public), "{text}");
        }
        assert!(matches!("two words".parse::<KeyId>(), Err(KeyError::Id(_))));
    }
}
