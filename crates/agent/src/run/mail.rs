//! Telling the model what reached the run.

use std::time::Duration;

use legwork_common::error::chain;
use legwork_common::job::Cause;
use legwork_common::retry::Backoff;
use legwork_common::service::Mail;
use legwork_common::service::MailId;
use legwork_common::service::ServiceError;

use super::Halt;
use super::Running;
use super::unless_lost;
use crate::journal::TurnEntry;
use crate::turn::Sorted;

/// How long a mailbox that cannot be reached is tried again: about a minute.
const TRIES: u32 = 32;

impl Running<'_> {
    /// Before a model call: tells what is there. A mailbox that cannot be reached is left for the next turn.
    pub(super) async fn hear(&mut self) -> Result<(), Halt> {
        let answer = self.live(self.ports.mailbox.mail()).await?;
        match unless_lost(answer)? {
            Ok(mail) => self.tell(mail).await.map(drop),
            Err(error) => {
                self.warn(format!("the mailbox was not read before this turn: {}", chain(&error)));
                Ok(())
            }
        }
    }

    /// At the end of a turn without tool calls: waits until no job of this agent is live. Whether there is
    /// something that the model must be asked about once more.
    pub(super) async fn rest(&mut self) -> Result<bool, Halt> {
        if self.dispatches() {
            let mailbox = self.ports.mailbox.clone();
            self.retry_while_unavailable(|| mailbox.settled()).await?;
        }
        let mailbox = self.ports.mailbox.clone();
        let mail = self.retry_while_unavailable(|| mailbox.mail()).await?;
        self.tell(mail).await
    }

    /// Records what the model is told and then drops the mail. Whether there was anything to tell.
    async fn tell(&mut self, mail: Vec<Mail>) -> Result<bool, Halt> {
        let Sorted { known: mut done, tell } = self.transcript.sort(mail);
        let any = !tell.is_empty();
        for entry in tell {
            if let TurnEntry::Delivered { mail, .. } = &entry {
                done.extend(mail.iter().cloned());
            }
            self.record(entry).await?;
        }
        self.drop_mail(&done).await?;
        Ok(any)
    }

    /// Mail that stays is told apart by the recorded turns, so a failure here costs nothing.
    async fn drop_mail(&self, done: &[MailId]) -> Result<(), Halt> {
        if done.is_empty() {
            return Ok(());
        }
        let answer = self.live(self.ports.mailbox.acknowledge(done)).await?;
        if let Err(error) = unless_lost(answer)? {
            self.warn(format!("told mail was not dropped: {}", chain(&error)));
        }
        Ok(())
    }

    /// Asks until there is an answer, and fails the run when there is none for about a minute.
    pub(super) async fn retry_while_unavailable<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, ServiceError>> + Send,
    {
        let mut delays = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(2), TRIES);
        loop {
            let answer = self.live(ask()).await?;
            let error = match unless_lost(answer)? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(delay) = delays.next() else {
                return Err(Halt::Failed { cause: Cause::AgentError, message: chain(&error) });
            };
            self.live(tokio::time::sleep(delay)).await?;
        }
    }
}
