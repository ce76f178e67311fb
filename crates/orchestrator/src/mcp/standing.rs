//! The session that a server returns to: the same for the same file in the same folder on the same machine.

use std::path::Path;

use legwork_common::id::SessionId;
use legwork_common::service::ServiceError;
use legwork_queue::Operator;
use legwork_queue::operator::SessionOptions;

use crate::failure::Failure;

/// Sessions that are tried, one after the other: a session that was closed stays closed until it is forgotten. Each
/// closing takes an abandoned server, so a hundred within one retention time do not happen.
const MAX_TRIED: u32 = 100;

/// What a standing session is found by. Equal values have the same session in each namespace.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The machine: two of them may have equal paths and one Redis.
    pub host: &'a str,
    /// The user's home folder, which tells users of one machine apart.
    pub home: &'a str,
    /// The agent file, without symbolic links.
    pub file: &'a Path,
    /// The working directory, without symbolic links.
    pub folder: &'a Path,
}

impl Standing<'_> {
    /// The session of a number: the next is taken when one was closed. The limits are part of it, because an open session
    /// keeps the ones that it was opened with.
    fn session(&self, options: SessionOptions, number: u32) -> SessionId {
        // Without a budget in money the name is that of earlier releases.
        let money = options.max_cost.map(|money| format!("{money:?} ")).unwrap_or_default();
        let limits = format!("{:?} {:?} {money}{number}", options.cap, options.budget);
        SessionId::named(&[
            self.host.as_bytes(),
            self.home.as_bytes(),
            self.file.as_os_str().as_encoded_bytes(),
            self.folder.as_os_str().as_encoded_bytes(),
            limits.as_bytes(),
        ])
    }

    /// Finds the session, and opens it if it is new; it expires unless a job is stored in it.
    ///
    /// # Errors
    ///
    /// [`Failure`] when Redis cannot be reached.
    pub async fn open(&self, operator: &Operator, options: SessionOptions) -> Result<SessionId, Failure> {
        for number in 0..MAX_TRIED {
            let session = self.session(options, number);
            match operator.join_session(session, options).await {
                Ok(()) => return Ok(session),
                Err(ServiceError::SessionClosed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(SessionId::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_makes_another_session() {
        let standing =
            Standing { host: "h", home: "/u", file: Path::new("/a/t.yaml"), folder: Path::new("/a") };
        let options = SessionOptions { cap: Some(20), ..SessionOptions::default() };
        let session = standing.session(options, 0);
        assert_eq!(standing.session(options, 0), session);
        let others = [
            Standing { host: "i", ..standing }.session(options, 0),
            Standing { home: "/v", ..standing }.session(options, 0),
            Standing { file: Path::new("/a/u.yaml"), ..standing }.session(options, 0),
            Standing { folder: Path::new("/b"), ..standing }.session(options, 0),
            standing.session(SessionOptions { cap: Some(21), ..options }, 0),
            standing.session(SessionOptions { budget: Some(1), ..options }, 0),
            standing.session(options, 1),
        ];
        for other in others {
            assert_ne!(other, session);
        }
    }
}
