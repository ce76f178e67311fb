//! The limits of the session that a command opens.

use clap::Args;
use legwork_common::money::SpendingLimit;
use legwork_queue::operator::SessionOptions;

/// The limits of a new session. Of one that is open they change nothing.
#[derive(Debug, Clone, Copy, Args)]
pub struct SessionLimits {
    /// The most jobs of a session admitted at once; 0 for no cap [default: the namespace's]
    #[arg(long, value_name = "N")]
    pub cap: Option<u32>,
    /// The most unfinished jobs of a session, those of its agents too; 0 for no limit [default: the namespace's]
    #[arg(long, value_name = "N")]
    pub session_jobs: Option<u32>,
}

impl SessionLimits {
    /// What the session is opened with, with this limit next to the token budget of the agent file.
    pub fn options(self, limit: Option<SpendingLimit>, of_team: Option<u64>) -> SessionOptions {
        SessionOptions::new(self.cap, limit, of_team).with_jobs(self.session_jobs)
    }
}
