//! Shuts down a worker whose embedded server is gone: no other program restarts the server for it or stops the worker.
//! A server whose folder is gone is ended by the programs that use it.

use std::time::Duration;

use legwork_queue::Queue;
use legwork_queue::embedded::OwnServer;
use legwork_queue::port::Watch as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Polling interval for the server: a worker may outlive its server by this much more than [`MAX_ABSENCE`].
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long the server may be unreachable. Longer than the default lease (10 s), after which no job of this worker is
/// worth keeping, and longer than a server takes to restart and load its data.
const MAX_ABSENCE: Duration = Duration::from_secs(20);

/// Why a program cannot use its embedded server any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It was unreachable for [`MAX_ABSENCE`].
    Server,
    /// Its folder was moved or deleted, so that no other program finds it.
    Folder,
}

/// Cancels `shutdown`, in this order, once the embedded server was unreachable for [`MAX_ABSENCE`], or its folder is gone:
/// then it ends the server too. The worker's jobs were suspended long before; the next command on this machine reclaims
/// them.
pub(crate) async fn shut_down_without_server(
    queue: Queue,
    server: OwnServer,
    shutdown: [CancellationToken; 2],
) {
    let is_present = || async { queue.unfinished().await.is_ok() };
    match until_lost(is_present, || server.has_folder()).await {
        Loss::Server => tracing::error!("the embedded server is gone; this worker shuts down"),
        Loss::Folder => {
            tracing::error!(
                "the folder of the embedded server is gone; the server and this worker shut down"
            );
            end(&server).await;
        }
    }
    shutdown.iter().for_each(CancellationToken::cancel);
}

/// Ends the embedded server once its folder is gone. For programs that run without a worker of their own to do it.
pub async fn end_server_without_folder(server: OwnServer) {
    while server.has_folder() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    tracing::error!("the folder of the embedded server is gone; the server shuts down");
    end(&server).await;
}

async fn end(server: &OwnServer) {
    if !server.end().await {
        tracing::error!("the embedded server does not end");
    }
}

/// Returns once no probe succeeded for [`MAX_ABSENCE`], or the folder is gone.
async fn until_lost<F: Future<Output = bool>>(
    is_present: impl Fn() -> F,
    has_folder: impl Fn() -> bool,
) -> Loss {
    let mut last_seen = Instant::now();
    while last_seen.elapsed() < MAX_ABSENCE {
        tokio::time::sleep(POLL_INTERVAL).await;
        if !has_folder() {
            return Loss::Folder;
        }
        if is_present().await {
            last_seen = Instant::now();
        }
    }
    Loss::Server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_uninterrupted_absence_counts() {
        let started = Instant::now();
        // It comes back once, just before it would count as gone.
        let back = MAX_ABSENCE - POLL_INTERVAL;
        let lost = until_lost(|| async move { started.elapsed() == back }, || true).await;
        assert_eq!((lost, started.elapsed()), (Loss::Server, back + MAX_ABSENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_a_folder_is_lost_although_it_answers() {
        let started = Instant::now();
        let lost = until_lost(|| async { true }, || started.elapsed() < MAX_ABSENCE * 2).await;
        assert_eq!((lost, started.elapsed()), (Loss::Folder, MAX_ABSENCE * 2));
    }
}
