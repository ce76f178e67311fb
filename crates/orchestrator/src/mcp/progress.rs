//! Progress notifications during a wait, for hosts that ask for them.

use std::time::Duration;

use legwork_common::service::WaitItem;
use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::model::ProgressToken;
use rmcp::service::Peer;
use rmcp::service::RequestContext;
use tokio::time::Instant;

/// Interval between two notifications. Well below the 60 seconds after which the most impatient hosts give up on a
/// call.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(5);
/// Timeout for sending one notification, so that a host that does not read cannot hold up the wait.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The progress of one request.
#[derive(Debug)]
pub struct Progress {
    /// The host and its progress token; `None` where the request has no token.
    receiver: Option<(Peer<RoleServer>, ProgressToken)>,
    began: Instant,
}

impl Progress {
    /// The progress of this request, which begins now.
    pub fn of(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self { receiver: token.map(|token| (context.peer.clone(), token)), began: Instant::now() }
    }

    /// When the wait pauses for the first notification: at once, so that a wait is visible from its beginning; at
    /// `deadline` without a receiver.
    pub fn first(&self, deadline: Instant) -> Instant {
        if self.receiver.is_some() { self.began } else { deadline }
    }

    /// When the wait pauses for the next notification; at `deadline` without a receiver.
    pub fn next(&self, deadline: Instant) -> Instant {
        match self.receiver {
            Some(_) => deadline.min(Instant::now() + NOTIFY_INTERVAL),
            None => deadline,
        }
    }

    /// Sends the state of the wait. A notification that cannot be sent in time is dropped.
    pub async fn notify(&self, items: &[WaitItem], deadline: Instant) {
        let Some((peer, token)) = &self.receiver else { return };
        let mut message = ProgressNotificationParam::new(token.clone(), self.began.elapsed().as_secs_f64());
        message.total = Some(deadline.duration_since(self.began).as_secs_f64());
        message.message = Some(summary(items));
        let sent = tokio::time::timeout(SEND_TIMEOUT, peer.notify_progress(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("dropped a progress notification that could not be sent");
        }
    }
}

/// How many jobs have ended, and which agents are still running.
fn summary(items: &[WaitItem]) -> String {
    let running: Vec<&str> = items
        .iter()
        .filter_map(|item| match item {
            WaitItem::Found(view) if !view.job.status.is_terminal() => Some(view.job.agent.as_str()),
            WaitItem::Found(_) | WaitItem::NotFound(_) => None,
        })
        .collect();
    let ended = items.len() - running.len();
    format!("{ended} of {} ended; still running: {}", items.len(), running.join(", "))
}
