//! Mailboxes of dispatchers, on Redis.

use legwork_common::id::Dispatcher;
use legwork_common::id::SessionId;
use legwork_common::service::MailId;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::MailEntry;
use crate::port::MailEntryContent;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// Entries of one read of a mailbox. More are read after these were acknowledged.
const MAIL_PAGE_SIZE: usize = 1000;
/// Entries of one call of `acknowledge`, whose `unpack` must stay below the limit of Lua's stack.
const ACKNOWLEDGE_BATCH_SIZE: usize = 400;

impl Queue {
    /// Reads the oldest entries of a mailbox.
    pub(super) async fn read_mailbox(
        &self,
        session: SessionId,
        of: Dispatcher,
    ) -> Result<Vec<MailEntry>, QueueError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.mailbox(session, of)).arg("-").arg("+").arg("COUNT").arg(MAIL_PAGE_SIZE);
        self.link.ask("mail", &command).await?.items()?.map(read_mail).collect()
    }

    /// Drops entries of a mailbox.
    pub(super) async fn drop_mail(
        &self,
        session: SessionId,
        of: Dispatcher,
        mail: &[MailId],
    ) -> Result<(), QueueError> {
        for batch in mail.chunks(ACKNOWLEDGE_BATCH_SIZE) {
            let mut call = Call::on(self.keys.session_tag(session)).key(self.keys.mailbox(session, of));
            for id in batch {
                call.push(&id.0);
            }
            step::ACKNOWLEDGE.call(&self.link, &call).await?;
        }
        Ok(())
    }
}

fn read_mail(answer: Answer) -> Result<MailEntry, QueueError> {
    let mut parts = answer.items()?;
    let id = parts.item()?.word()?;
    let mut fields = parts.item()?.items()?;
    let (field, value) = (fields.item()?.word()?, fields.item()?);
    // The name and the seal.
    let seal = if fields.len() == 2 { fields.nth(1).map(Answer::text).transpose()? } else { None };
    let content = match field.as_str() {
        "ended" => MailEntryContent::Ended(value.parse()?),
        "message" => MailEntryContent::Message(value.text()?),
        // A kind of a later release: the agent reads it as it was stored.
        kind => MailEntryContent::Message(format!("[{kind}] {}", value.text()?)),
    };
    Ok(MailEntry { id: MailId(id.as_str().to_owned()), content, seal })
}
