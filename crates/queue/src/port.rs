//! The port: what other crates may ask of the queue, by role, and what a crash leaves behind.
//!
//! - [`Dispatch`]: sessions, storing jobs, stopping trees, sending messages.
//! - [`Work`]: what a worker does with a job, from claim to finish.
//! - [`Upkeep`]: what keeps the promises when a process died.
//! - [`Permits`]: the fleet's rate limits for model providers.
//! - [`Questions`]: what jobs ask people, and the answers.
//! - [`Notifications`]: the ends of jobs that are reported to a URL.
//! - [`Connections`]: how hosts of the Model Context Protocol initialized their connections.
//! - [`SessionStateStore`]: the state that the agents of a session share.
//! - [`Watch`] reads.
//!
//! Every method is one atomic step in Redis unless its documentation says otherwise, may be repeated after a lost
//! answer, and uses Redis' clock. Cancelling a call leaves its step done or not done, never half done.
//!
//! Why these are traits although [`Queue`](crate::Queue) implements all of them: `docs/adr/0007-ports-by-role.md`.

mod connections;
mod dispatch;
mod notifications;
mod permits;
mod questions;
mod session_state;
mod upkeep;
mod watch;
mod work;

pub use connections::Connections;
pub use dispatch::Asker;
pub use dispatch::Dispatch;
pub use dispatch::DispatchedBy;
pub use dispatch::Enqueue;
pub use dispatch::EnqueueRefusal;
pub use dispatch::Enqueued;
pub use dispatch::IdempotencyKey;
pub use dispatch::NewJob;
pub use dispatch::OpenSession;
pub use dispatch::Opened;
pub use dispatch::SendOutcome;
pub use dispatch::SessionEnd;
pub use dispatch::StopOutcome;
pub use dispatch::StopRoot;
pub use dispatch::WaitingStop;
pub use notifications::DueNotification;
pub use notifications::Notifications;
pub use permits::PermitRequest;
pub use permits::Permits;
pub use permits::Permitted;
pub use permits::WaitReason;
pub use questions::AnswerOutcome;
pub use questions::Asked;
pub use questions::Asking;
pub use questions::Questions;
pub use session_state::SessionStateRefusal;
pub use session_state::SessionStateStore;
pub use upkeep::Cleared;
pub use upkeep::Forgotten;
pub use upkeep::ReapReport;
pub use upkeep::Upkeep;
pub use watch::JobFilter;
pub use watch::JobPage;
pub use watch::Original;
pub use watch::PageCursor;
pub use watch::Watch;
pub use watch::WorkerRecord;
pub use work::Append;
pub use work::Appended;
pub use work::Begun;
pub use work::Claim;
pub use work::Claimed;
pub use work::Claims;
pub use work::Ending;
pub use work::Finish;
pub use work::Finished;
pub use work::Heartbeat;
pub use work::InOutput;
pub use work::Lane;
pub use work::Lease;
pub use work::MailEntry;
pub use work::MailEntryContent;
pub use work::Parked;
pub use work::Release;
pub use work::ReleaseMode;
pub use work::Renewal;
pub use work::Renewed;
pub use work::SessionLease;
pub use work::WakeToken;
pub use work::Work;
pub use work::WorkerReport;
