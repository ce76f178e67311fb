//! Sessions, storing jobs and stopping them, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::TeamDigest;

use crate::error::QueueError;
use crate::port::Asker;
use crate::port::Dispatch;
use crate::port::Enqueue;
use crate::port::EnqueueRefusal;
use crate::port::Enqueued;
use crate::port::Lane;
use crate::port::OpenSession;
use crate::port::Opened;
use crate::port::SendOutcome;
use crate::port::SessionEnd;
use crate::port::StopOutcome;
use crate::port::StopRoot;
use crate::port::WaitingStop;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

#[async_trait]
impl Dispatch for Queue {
    async fn open(&self, session: &OpenSession) -> Result<Opened, QueueError> {
        let lane = if session.own_lane { Lane::Session(session.session).name() } else { String::new() };
        let call = Call::on(self.keys.session_tag(session.session))
            .key(self.keys.session(session.session))
            .arg(session.session)
            .arg(session.owner.map(|owner| owner.to_string()).unwrap_or_default())
            .arg(match session.on_end {
                SessionEnd::Stop => "stop",
                SessionEnd::Keep => "keep",
            })
            .arg(session.cap)
            .arg(lane)
            .arg(session.owner_grace.max(self.settings.lease).as_millis())
            .arg(session.budget.map(|tokens| tokens.to_string()).unwrap_or_default())
            .arg(session.max_cost.map(|money| money.0.to_string()).unwrap_or_default())
            .arg(session.quota);
        let word = step::OPEN.call(&self.link, &call).await?.word()?;
        match word.as_str() {
            "opened" => Ok(Opened::Open),
            "owned" => Ok(Opened::Owned),
            "closed" => Ok(Opened::Closed),
            _ => Err(word.unknown()),
        }
    }

    async fn close(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError> {
        self.give_up(session, owner, "close").await
    }

    async fn detach(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError> {
        self.give_up(session, owner, "detach").await
    }

    async fn store_team(
        &self,
        session: SessionId,
        digest: &TeamDigest,
        json: &str,
    ) -> Result<(), QueueError> {
        let shard = session.shard(self.keys.shards());
        let call = Call::on(self.keys.tag(shard)).key(self.keys.team(shard, digest)).arg(json);
        step::TEAM.call(&self.link, &call).await.map(drop)
    }

    async fn enqueue(&self, request: &Enqueue) -> Result<Result<Vec<Enqueued>, EnqueueRefusal>, QueueError> {
        self.enqueue_in_batches(request).await
    }

    async fn stop(&self, root: StopRoot, asker: Asker, why: Cause) -> Result<StopOutcome, QueueError> {
        let outcome = self.mark_and_sweep(&[root], asker, why).await?.pop();
        Ok(outcome.unwrap_or(StopOutcome::NotFound))
    }

    async fn stop_waiting(&self, ids: &[JobId], why: Cause) -> Result<Vec<WaitingStop>, QueueError> {
        self.stop_waiting_in_batches(ids, why).await
    }

    async fn sweep(&self, root: StopRoot) -> Result<u64, QueueError> {
        self.sweep_tree(self.sweep_of(root)).await
    }

    async fn send(
        &self,
        id: JobId,
        (message, seal): (&str, Option<&str>),
        request: &str,
        keep: Duration,
    ) -> Result<SendOutcome, QueueError> {
        let call = Call::on(self.keys.job_tag(id))
            .key(self.keys.job(id))
            .arg(id.uuid())
            .arg(message)
            .arg(request)
            .arg(keep.as_millis())
            .arg(seal.unwrap_or_default());
        let (word, mut rest) = step::SEND.call(&self.link, &call).await?.tagged()?;
        match word.as_str() {
            "sent" => Ok(SendOutcome::Sent),
            "state" => Ok(SendOutcome::NotRunning(rest.item()?.parse()?)),
            "missing" => Ok(SendOutcome::NotFound),
            _ => Err(word.unknown()),
        }
    }
}

impl Queue {
    /// Gives up the ownership of a session; `mode` is `close` or `detach`.
    async fn give_up(&self, session: SessionId, owner: RunToken, mode: &str) -> Result<(), QueueError> {
        let call = Call::on(self.keys.session_tag(session))
            .key(self.keys.session(session))
            .arg(session)
            .arg(owner)
            .arg(mode);
        step::CLOSE.call(&self.link, &call).await.map(drop)
    }
}
