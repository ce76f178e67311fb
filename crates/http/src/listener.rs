//! Connections within bounds: how many, how long a head may take, and how long one may stall.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Connections that the system queues until they are accepted. The usual default of 128 overflows when many clients
/// connect at once, and some see a reset; the system lowers this to its own maximum.
const BACKLOG: u32 = 4096;
/// Connections that are open at once; those beyond it wait in the backlog. Each takes some tens of kilobytes.
const MAX_CONNECTIONS: usize = 2048;
/// How long the head of a request may take, the first as any other: also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a head.
const HEAD_BYTES: usize = 32 * 1024;
/// How long the system keeps what a client does not read before it closes the connection.
const STALL_TIMEOUT_MS: u32 = 60_000;
/// How long open requests may take once the server ends.
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// The delay after an accept that failed, such as for lack of file descriptors: without it the loop would spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Binds and listens, with a larger backlog than tokio's own.
///
/// # Errors
///
/// The system's, for an address that is in use or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `end`, then waits up to five seconds for open requests.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    metrics: Metrics,
    tasks: &Tasks,
    end: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            () = end.cancelled() => break,
        };
        let Some((stream, permit)) = accepted else { continue };
        let connection = serve_connection(stream, router.clone(), end.clone());
        let open = metrics.connection();
        tasks.spawn(TaskKind::Http, async move {
            connection.await;
            drop((permit, open));
        });
    }
    drop(listener);
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // All permits are back when all connections are closed.
    tokio::time::timeout(GRACE_PERIOD, free.acquire_many(all)).await.map(drop).ok();
}

/// The next connection, once there may be one more; `None` for one that failed.
async fn accept(listener: &TcpListener, free: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => Some((stream, permit)),
        Err(error) => {
            tracing::debug!(%error, "could not accept a connection");
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            None
        }
    }
}

/// Serves one connection until it is closed, or `end` and the request in progress are over.
async fn serve_connection(stream: TcpStream, router: Router, end: CancellationToken) {
    // Small events must not wait for more; what is not read must not be kept forever. Neither is worth an error.
    let _unset = stream.set_nodelay(true);
    let _unset = rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL_TIMEOUT_MS);
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let closed: Result<Result<(), hyper::Error>, Infallible> = tokio::select! {
        closed = connection.as_mut() => Ok(closed),
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            Ok(tokio::time::timeout(GRACE_PERIOD, connection).await.unwrap_or(Ok(())))
        }
    };
    if let Ok(Err(error)) = closed {
        tracing::debug!(%error, "a connection ended early");
    }
}
