//! Telling a host that a wait goes on, where it asked to be told.

use std::time::Duration;

use legwork_common::service::WaitItem;
use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::model::ProgressToken;
use rmcp::service::Peer;
use rmcp::service::RequestContext;
use tokio::time::Instant;

/// How often a host is told.
pub const EVERY: Duration = Duration::from_secs(5);
/// How long one message may take; a host that does not read is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The progress of one request.
#[derive(Debug)]
pub struct Progress {
    /// Whom to tell, under which token; `None` where nobody asked.
    listener: Option<(Peer<RoleServer>, ProgressToken)>,
    began: Instant,
}

impl Progress {
    /// The progress of this request.
    pub fn of(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self { listener: token.map(|token| (context.peer.clone(), token)), began: Instant::now() }
    }

    /// When to look up for the first time: at once where somebody listens, so that a wait shows from its beginning.
    pub fn first(&self, deadline: Instant) -> Instant {
        if self.listener.is_some() { self.began } else { deadline }
    }

    /// When to look up from waiting to tell: never where nobody listens.
    pub fn next(&self, deadline: Instant) -> Instant {
        match self.listener {
            Some(_) => deadline.min(Instant::now() + EVERY),
            None => deadline,
        }
    }

    /// Tells how it stands. A message that cannot be sent is left out.
    pub async fn tell(&self, items: &[WaitItem], deadline: Instant) {
        let Some((peer, token)) = &self.listener else { return };
        let mut message = ProgressNotificationParam::new(token.clone(), self.began.elapsed().as_secs_f64());
        message.total = Some(deadline.duration_since(self.began).as_secs_f64());
        message.message = Some(words(items));
        let sent = tokio::time::timeout(PATIENCE, peer.notify_progress(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("could not tell the host of the progress");
        }
    }
}

/// How many have ended, and how the others are.
fn words(items: &[WaitItem]) -> String {
    let running: Vec<&str> = items
        .iter()
        .filter_map(|item| match item {
            WaitItem::Found(view) if !view.job.status.is_terminal() => Some(view.job.agent.as_str()),
            WaitItem::Found(_) | WaitItem::NotFound(_) => None,
        })
        .collect();
    let ended = items.len() - running.len();
    format!("{ended} of {} ended; still at work: {}", items.len(), running.join(", "))
}
