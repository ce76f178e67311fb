//! Shuts down a worker whose embedded server is gone: no other program restarts the server for it or stops the worker.

use std::time::Duration;

use legwork_queue::Queue;
use legwork_queue::port::Watch as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Polling interval for the server: a worker may outlive its server by this much more than [`MAX_ABSENCE`].
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long the server may be unreachable. Longer than the default lease (10 s), after which no job of this worker is
/// worth keeping, and longer than a server takes to restart and load its data.
const MAX_ABSENCE: Duration = Duration::from_secs(20);

/// Cancels `shutdown`, in this order, once the embedded server was unreachable for [`MAX_ABSENCE`]. The worker's jobs
/// were suspended long before; the next command on this machine reclaims them.
pub(crate) async fn shut_down_without_server(queue: Queue, shutdown: [CancellationToken; 2]) {
    until_absent(|| async { queue.unfinished().await.is_ok() }).await;
    tracing::error!("the embedded server is gone; this worker shuts down");
    shutdown.iter().for_each(CancellationToken::cancel);
}

/// Returns once no probe succeeded for [`MAX_ABSENCE`].
async fn until_absent<F: Future<Output = bool>>(is_present: impl Fn() -> F) {
    let mut last_seen = Instant::now();
    while last_seen.elapsed() < MAX_ABSENCE {
        tokio::time::sleep(POLL_INTERVAL).await;
        if is_present().await {
            last_seen = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_uninterrupted_absence_counts() {
        let started = Instant::now();
        // It comes back once, just before it would count as gone.
        let back = MAX_ABSENCE - POLL_INTERVAL;
        until_absent(|| async move { started.elapsed() == back }).await;
        assert_eq!(started.elapsed(), back + MAX_ABSENCE);
    }
}
