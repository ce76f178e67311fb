//! Delivers mail to the model: the ends of its jobs, and messages that were sent to it.
//!
//! Mail is recorded as a turn entry first and acknowledged after. A crash between the two hands the same mail to
//! the next attempt, which finds it recorded and only acknowledges it, so the model sees each piece once.

use std::future::Future;
use std::time::Duration;

use legwork_common::error::chain;
use legwork_common::job::Cause;
use legwork_common::retry::Backoff;
use legwork_common::service::Mail;
use legwork_common::service::MailContent;
use legwork_common::service::MailId;
use legwork_common::service::ServiceError;
use serde_json::Value;
use serde_json::json;

use super::halt::Halt;
use super::halt::halt_if_lease_lost;
use super::state::RunState;
use crate::hooks;
use crate::journal::TurnEntry;
use crate::turn::SortedMail;

/// Retries of a call that cannot be left out. With their delays (200 ms, doubled up to 2 s) they take about a
/// minute, longer than a restart or a failover of the store.
const MAX_RETRIES: u32 = 32;

/// What hooks are told of the end of a job.
fn ended(mail: &Mail) -> Option<Value> {
    let MailContent::Ended(view) = &mail.content else { return None };
    let ids = [view.job.id.to_string()];
    Some(json!({"agent_name": view.job.agent, "task_ids": ids, "stop_response": view.job.result}))
}

impl RunState<'_> {
    /// Logs what the store did not do. It does not stand in the job's output: nothing is lost, and the next turn repeats it.
    fn log_mailbox_error(&self, what: &str, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(agent = %self.current.agent.name, error = chain(error), "{what}");
    }

    /// Before a model call: delivers the mail that is there. A mailbox that cannot be reached is left for the next
    /// turn, because the model can work without it.
    pub(super) async fn deliver_mail(&mut self) -> Result<(), Halt> {
        let answer = self.unless_cancelled(self.ports.mailbox.mail()).await?;
        match halt_if_lease_lost(answer)? {
            Ok(mail) => Box::pin(self.deliver(mail)).await.map(drop),
            Err(error) => {
                self.log_mailbox_error("the mailbox was not read before this turn", &error);
                Ok(())
            }
        }
    }

    /// When the model asks for nothing more: waits until no job that this run dispatched is live, then delivers the
    /// mail. Whether there was any: then the model is called once more, else the run is complete.
    ///
    /// The mailbox is read after the wait, so that the end of each job is in it. Here it must be read: a run that
    /// ended without it would lose a message.
    pub(super) async fn wait_for_jobs_and_mail(&mut self) -> Result<bool, Halt> {
        let mailbox = self.ports.mailbox.clone();
        if self.dispatches_jobs() {
            self.retry_while_unavailable(|| mailbox.settled()).await?;
        }
        let mail = self.retry_while_unavailable(|| mailbox.mail()).await?;
        self.deliver(mail).await
    }

    /// Records what is new to the model, then acknowledges all of it. Whether anything was new.
    async fn deliver(&mut self, mail: Vec<Mail>) -> Result<bool, Halt> {
        let ends =
            mail.iter().filter(|mail| !self.transcript.knows(mail)).filter_map(ended).collect::<Vec<_>>();
        let SortedMail { known, deliveries } = self.transcript.sort_mail(mail);
        let any = !deliveries.is_empty();
        let mut done = known;
        for entry in deliveries {
            if let TurnEntry::Delivered { mail, .. } = &entry {
                done.extend(mail.iter().cloned());
            }
            self.record(entry).await?;
        }
        self.acknowledge(&done).await?;
        for end in ends {
            self.observe(hooks::SUBAGENT_STOP, end).await?;
        }
        Ok(any)
    }

    /// Removes mail from the mailbox. An error is only a warning: mail that stays is recognized by the recorded
    /// turns and acknowledged with the next.
    async fn acknowledge(&self, done: &[MailId]) -> Result<(), Halt> {
        if done.is_empty() {
            return Ok(());
        }
        let answer = self.unless_cancelled(self.ports.mailbox.acknowledge(done)).await?;
        if let Err(error) = halt_if_lease_lost(answer)? {
            self.log_mailbox_error("delivered mail was not acknowledged", &error);
        }
        Ok(())
    }

    /// Repeats a call until it is answered; fails the run where it is not within about a minute.
    pub(super) async fn retry_while_unavailable<T, F>(&self, call: impl Fn() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, ServiceError>> + Send,
    {
        let mut delays =
            Backoff::exponential(Duration::from_millis(200), Duration::from_secs(2), MAX_RETRIES);
        loop {
            let answer = self.unless_cancelled(call()).await?;
            let error = match halt_if_lease_lost(answer)? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(delay) = delays.next() else {
                return Err(Halt::Failed { cause: Cause::AgentError, message: chain(&error) });
            };
            self.unless_cancelled(tokio::time::sleep(delay)).await?;
        }
    }
}
