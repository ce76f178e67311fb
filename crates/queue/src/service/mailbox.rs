//! The mailbox of a caller: ends of its jobs, and messages.

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::service::Mail;
use legwork_common::service::MailContent;
use legwork_common::service::MailId;
use legwork_common::service::Mailbox;
use legwork_common::service::ServiceError;

use crate::observer::POLL_INTERVAL;
use crate::port::DispatchedBy;
use crate::port::MailEntry;
use crate::port::MailEntryContent;
use crate::port::Work as _;
use crate::queue::EXCERPT_BYTES;
use crate::queue::ViewDepth;
use crate::service::Caller;
use crate::service::Service;

impl Service {
    /// Whether a message in the mailbox is delivered.
    fn trusts_message(&self, text: &str, seal: Option<&str>) -> bool {
        let (Some(trust), DispatchedBy::Job { id, .. }) = (&self.trust, self.caller.by) else { return true };
        let checked = trust.check_message(id, text, seal);
        if let Err(refusal) = &checked {
            tracing::warn!(job = %id, %refusal, "a message is not delivered");
        }
        checked.is_ok()
    }

    async fn read_mail(&self) -> Result<Vec<Mail>, ServiceError> {
        let Caller { session, .. } = self.caller;
        loop {
            let entries = self.queue().mail(session, self.caller.dispatcher()).await?;
            let ended = entries.iter().filter_map(|entry| match entry.content {
                MailEntryContent::Ended(id) => Some(id),
                MailEntryContent::Message(_) => None,
            });
            let ended: Vec<JobId> = ended.collect();
            let mut views = self.queue().views(&ended, ViewDepth::ANNOUNCED).await?.into_iter();
            let (mut mail, mut void) = (Vec::with_capacity(entries.len()), Vec::new());
            for MailEntry { id, content, seal } in entries {
                match content {
                    MailEntryContent::Message(text) if !self.trusts_message(&text, seal.as_deref()) => {
                        void.push(id);
                    }
                    MailEntryContent::Message(text) => {
                        mail.push(Mail { id, content: MailContent::Message(text) });
                    }
                    MailEntryContent::Ended(_) => match views.next().flatten() {
                        Some(view) => {
                            let view = Box::new(self.proven(view, Some(EXCERPT_BYTES)).await?);
                            mail.push(Mail { id, content: MailContent::Ended(view) });
                        }
                        // An operator deleted the job before its end was delivered.
                        None => void.push(id),
                    },
                }
            }
            if !void.is_empty() {
                self.queue().acknowledge(session, self.caller.dispatcher(), &void).await?;
            }
            // A page of nothing but deleted jobs must not hide what comes after it.
            if !mail.is_empty() || void.is_empty() {
                return Ok(mail);
            }
        }
    }
}

#[async_trait]
impl Mailbox for Service {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
        self.read_mail().await.map_err(|error| self.plain(error))
    }

    async fn acknowledge(&self, mail: &[MailId]) -> Result<(), ServiceError> {
        let acknowledged =
            self.queue().acknowledge(self.caller.session, self.caller.dispatcher(), mail).await;
        acknowledged.map_err(|error| self.plain(error.into()))
    }

    async fn settled(&self) -> Result<(), ServiceError> {
        if !self.waits {
            return Ok(());
        }
        let channel = self.queue().keys().session_channel(self.caller.session);
        let mut listener = self.observer.hints().listen(channel).await;
        while !self.is_settled().await? {
            // A hint or the timeout: the count is read again either way.
            let _hint = tokio::time::timeout(POLL_INTERVAL, listener.next()).await;
        }
        Ok(())
    }
}
