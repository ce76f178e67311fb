//! The end of a worker whose embedded server is gone: nobody starts another one for it, and nobody else ends it.

use std::time::Duration;

use legwork_queue::Queue;
use legwork_queue::port::Watch as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the server is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long it may be gone: well beyond a lease, and beyond any start of a server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the program through `ends`, in this order, once the embedded server cannot be
/// reached for that long. Its jobs were suspended long before; what is left of them is for the next command's
/// sweep.
pub(crate) async fn end_without_server(queue: Queue, ends: [CancellationToken; 2]) {
    until_gone(|| async { queue.unfinished().await.is_ok() }).await;
    tracing::error!("the embedded server is gone; this worker ends");
    ends.iter().for_each(CancellationToken::cancel);
}

/// Returns when nothing was found for that long.
async fn until_gone<F: Future<Output = bool>>(is_there: impl Fn() -> F) {
    let mut seen = Instant::now();
    while seen.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
        if is_there().await {
            seen = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_long_absence_counts() {
        let began = Instant::now();
        // It comes back once, shortly before it would count as gone.
        let back = PATIENCE - LOOK_EVERY;
        until_gone(|| async move { began.elapsed() == back }).await;
        assert_eq!(began.elapsed(), back + PATIENCE);
    }
}
