//! Waiting through an outage of Redis: a command that waits asks again for a while, says so once, and when it gives up
//! says how to continue.

use std::time::Duration;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_queue::Retryable;
use legwork_queue::ride_out;

use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;

/// How a command waits through an outage.
#[derive(Debug, Clone)]
pub struct Outage {
    limit: Duration,
    /// Where Redis is, without the password.
    address: String,
    output: Output,
}

impl Outage {
    /// For commands on this connection. Each outage may last as long as `--redis-timeout`.
    pub fn of(context: &Context, connection: &Connection) -> Self {
        Self {
            limit: context.redis_timeout,
            address: connection.backend.target().to_string(),
            output: context.output,
        }
    }

    /// Repeats a call that may be repeated until Redis answers it, or the outage is too long.
    ///
    /// # Errors
    ///
    /// [`Failure`] of the last try, or of one that no repeat cures.
    pub async fn ask<T, E, F>(&self, ask: impl Fn() -> F) -> Result<T, Failure>
    where
        E: Retryable + Coded,
        F: Future<Output = Result<T, E>>,
    {
        let announce = || self.output.note(&format!("waiting for Redis at {}", self.address));
        Ok(ride_out(self.limit, announce, ask).await?)
    }
}

/// The failure of a wait, with the command that continues it where Redis was away for too long.
pub fn with_continuation(failure: Failure, command: &str) -> Failure {
    if failure.exit == ExitStatus::Redis {
        failure.with_hint(format!("to continue: {command}"))
    } else {
        failure
    }
}
