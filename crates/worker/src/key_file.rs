//! Reading the files of `--signing-key` and `--trust`, for both programs.

use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_signing::KeyError;
use legwork_signing::SigningKey;
use legwork_signing::Trust;
use legwork_signing::TrustError;
use thiserror::Error;

/// The most bytes of such a file: a trust file of a thousand keys has 200 KiB.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Other users can read a private key.
    #[error("the private key {file} can be read by other users (mode {mode:o})")]
    Open {
        /// Its path.
        file: String,
        /// Its permissions.
        mode: u32,
    },
    /// Other users can change a trust file, and with it which keys are trusted.
    #[error("the trust file {file} can be changed by other users (mode {mode:o})")]
    Writable {
        /// Its path.
        file: String,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to another user, who can change it and its permissions.
    #[error("{file} belongs to the user {owner}, who is neither root nor the one that this program runs as")]
    Foreign {
        /// Its path.
        file: String,
        /// The id of its owner.
        owner: u32,
    },
    /// It holds no private key.
    #[error("{file}: {source}")]
    Key {
        /// Its path.
        file: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// It is not a trust file.
    #[error("the trust file {file}: {source}")]
    Trust {
        /// Its path.
        file: String,
        /// What is wrong.
        #[source]
        source: TrustError,
    },
}

impl Coded for KeyFileError {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Open { .. } | Self::Key { .. } => "signing_key",
            Self::Trust { .. } | Self::Writable { .. } => "trust_file",
            Self::Foreign { .. } => "foreign_file",
        }
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { .. } => None,
            Self::Open { file, .. } => Some(format!("chmod 600 {file}")),
            Self::Writable { file, .. } => Some(format!("chmod go-w {file}")),
            Self::Foreign { file, .. } => Some(format!("chown it, or copy it: cp {file} FILE")),
            Self::Key { .. } => Some("`legwork keys new FILE` makes one".to_owned()),
            Self::Trust { .. } => Some("it has `keys:` with the lines that `keys new` prints".to_owned()),
        }
    }
}

/// Reads a private key, which no other user may be able to read or change.
///
/// # Errors
///
/// [`KeyFileError`].
pub fn signing_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let (text, mode) = read(path)?;
    let file = path.display().to_string();
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { file, mode });
    }
    SigningKey::from_text(&text).map_err(|source| KeyFileError::Key { file, source })
}

/// Reads a trust file, which no other user may be able to change.
///
/// # Errors
///
/// [`KeyFileError`].
pub fn trust(path: &Path) -> Result<Trust, KeyFileError> {
    let (text, mode) = read(path)?;
    let file = path.display().to_string();
    if mode & 0o022 != 0 {
        return Err(KeyFileError::Writable { file, mode });
    }
    Trust::parse(&text).map_err(|source| KeyFileError::Trust { file, source })
}

/// The text of a file of this user or of root, and its permissions.
fn read(path: &Path) -> Result<(String, u32), KeyFileError> {
    let file = path.display().to_string();
    let (text, found) =
        read_bounded(path, MAX_BYTES).map_err(|source| KeyFileError::File { file: file.clone(), source })?;
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyFileError::Foreign { file, owner });
    }
    Ok((text, found.mode() & 0o777))
}

/// Reads a file of secrets or keys of at most so many bytes, and what the system has about it. A longer one is refused:
/// without its end it could mean something else.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<(String, Metadata)> {
    // A FIFO would block the program, and a device would have no end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    let file = File::open(path)?;
    let found = file.metadata()?;
    let read = file.take(max_bytes + 1).read_to_string(&mut text)?;
    if read as u64 > max_bytes {
        return Err(io::Error::other(format!("it has more than {max_bytes} bytes")));
    }
    Ok((text, found))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_too_long_or_not_regular_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, "12345678").unwrap();
        assert_eq!(read_bounded(&path, 8).unwrap().0, "12345678");
        assert_eq!(read_bounded(&path, 7).unwrap_err().to_string(), "it has more than 7 bytes");
        let device = read_bounded(Path::new("/dev/zero"), 8).unwrap_err();
        assert_eq!(device.to_string(), "it is not a regular file");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SigningKey::generate(None).unwrap();
        fs::write(&path, key.to_text()).unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set(0o640);
        let error = signing_key(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Open { mode: 0o640, .. }), "{error}");
        set(0o600);
        assert_eq!(signing_key(&path).unwrap().public(), key.public());
        assert!(matches!(signing_key(&folder.path().join("none")), Err(KeyFileError::File { .. })));
        assert!(matches!(trust(&path), Err(KeyFileError::Trust { .. })));
    }

    #[test]
    fn a_trust_file_that_others_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust");
        let key = SigningKey::generate(None).unwrap();
        fs::write(&path, format!("keys: {{ci: {{key: '{}'}}}}", key.public())).unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o664, 0o646] {
            set(mode);
            let error = trust(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Writable { mode: found, .. } if found == mode), "{error}");
        }
        set(0o644);
        trust(&path).unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            assert!(matches!(trust(&path), Err(KeyFileError::Foreign { owner: 65534, .. })));
        }
    }
}
