//! Waiting through an outage of Redis: a command that waits asks again for a while, says so once, and when it gives up
//! says how to continue.

use std::time::Duration;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_queue::Operator;
use legwork_queue::Retryable;
use legwork_queue::Target;
use legwork_queue::ride_out;
use tokio::time::Instant;

use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::local_worker::replacement::while_serving;
use crate::suggest;

/// How a command waits through an outage.
#[derive(Debug)]
pub struct Outage<'a> {
    context: &'a Context,
    /// When the command's own time is over.
    deadline: Option<Instant>,
    /// Where Redis is, without the password.
    address: String,
    /// Whether it is the embedded server.
    is_embedded: bool,
}

impl<'a> Outage<'a> {
    /// For commands on this connection. Each outage may last as long as `--redis-timeout`.
    pub fn of(context: &'a Context, connection: &Connection) -> Self {
        let is_embedded = connection.backend.is_embedded();
        Self { is_embedded, ..Self::at(context, connection.backend.target()) }
    }

    /// For commands on the Redis at this address, which may not be connected to yet.
    pub fn at(context: &'a Context, target: &Target) -> Self {
        Self { context, deadline: None, address: target.to_string(), is_embedded: false }
    }

    /// The same, where no outage may last beyond the deadline of the command.
    pub fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// How long an outage that begins now may last.
    fn limit(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(self.context.redis_timeout, |left| left.min(self.context.redis_timeout))
    }

    /// Runs `work` while jobs of dead workers are reclaimed, and on the embedded server workers are replaced.
    pub async fn while_serving<T>(&self, operator: &Operator, work: impl Future<Output = T>) -> T {
        while_serving(self.context, operator, self.is_embedded, work).await
    }

    /// A command of this program that continues, from the same shell and with the same jobs.
    pub fn command(&self, words: &str) -> String {
        suggest::command(self.context, "legwork", words)
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
        let announce = || self.context.output.note(&format!("waiting for Redis at {}", self.address));
        Ok(ride_out(|| self.limit(), announce, ask).await?)
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
