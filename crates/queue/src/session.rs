//! Opening a session, for every program that dispatches.

use legwork_common::service::ServiceError;

use crate::port::Dispatch as _;
use crate::port::OpenSession;
use crate::port::Opened;
use crate::queue::Queue;

/// Opens a session, or joins one that is open already. A repeat changes nothing. Without an owner in `open`, a session
/// that another program owns is joined: its jobs belong to the session, not to the owner.
///
/// # Errors
///
/// - [`ServiceError::SessionClosed`] for a session that takes no new jobs;
/// - [`ServiceError::LeaseLost`] when `open` names an owner and another live owner holds the session;
/// - [`ServiceError::Unavailable`] when Redis cannot be reached; the session may or may not be open then.
pub async fn open_session(queue: &Queue, open: &OpenSession) -> Result<(), ServiceError> {
    match queue.open(open).await? {
        Opened::Open => Ok(()),
        Opened::Owned if open.owner.is_none() => Ok(()),
        Opened::Owned => Err(ServiceError::LeaseLost),
        Opened::Closed => Err(ServiceError::SessionClosed(open.session.to_string())),
    }
}
