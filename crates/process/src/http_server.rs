//! How every HTTP server of ours treats its peers: who is slow is cut off, and who is many does not keep others out.
//!
//! A request's headers and body must arrive in time. Connections are capped, below what the process may open in all, so
//! that no peer takes the descriptors that jobs need. Where the cap is reached, a new connection takes the place of the
//! one that has waited longest without a request: a peer that opens connections and says nothing evicts its own.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use axum::BoxError;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Body as HttpBody;
use hyper::body::Frame;
use hyper::body::SizeHint;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use rustix::process::Resource;
use rustix::process::getrlimit;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Sleep;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the headers of a request may take, and how long a connection may wait for its next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the body of a request may take. The bodies that we take are small.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay after the system could not accept a connection, as when the process has no descriptor left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// The most connections of one server. Hosts and collectors are few; each connection costs a descriptor and some memory.
const MAX_CONNECTIONS: usize = 512;
/// The share of the process' descriptors that one server may take: two servers leave half of them to the jobs.
const DESCRIPTOR_SHARE: u64 = 4;

/// The most connections that a server of this process takes: `MAX_CONNECTIONS`, and a quarter of its descriptors.
pub fn max_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / DESCRIPTOR_SHARE)
        .map_or(MAX_CONNECTIONS, |share| share.clamp(1, MAX_CONNECTIONS))
}

/// Serves until `end`, then gives open requests `grace_period` to end. Dropping the future closes all connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    end: CancellationToken,
    grace_period: Duration,
) {
    let connections = Connections::default();
    let tasks = TaskTracker::new();
    let closing = CancellationToken::new();
    let _closing = closing.clone().drop_guard();
    let mut number = 0;
    while !end.is_cancelled() {
        let has_room = connections.make_room(max_connections);
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    let connection = connections.add(number, closing.child_token());
                    let ends = Ends { end: end.clone(), grace_period };
                    tasks.spawn(connection.serve(stream, router.clone(), ends));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    connections.make_room(0);
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            () = connections.closed.notified() => {}
            () = end.cancelled() => {}
        }
    }
    drop(listener);
    tasks.close();
    if timeout(grace_period, tasks.wait()).await.is_err() {
        tracing::debug!("requests were cut off at the end");
    }
}

/// The open connections of a server, by number: the lowest is the oldest.
#[derive(Debug, Clone, Default)]
struct Connections {
    // A std mutex: never held over an await.
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    /// A connection was closed.
    closed: Arc<Notify>,
}

#[derive(Debug)]
struct OpenConnection {
    requests: Arc<AtomicUsize>,
    close: CancellationToken,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, number: u64, close: CancellationToken) -> Connection {
        let requests = Arc::<AtomicUsize>::default();
        let open = OpenConnection { requests: Arc::clone(&requests), close: close.clone() };
        self.open().insert(number, open);
        Connection { number, requests, close, connections: self.clone() }
    }

    /// Whether there is room below `max`. Where there is none, the oldest connection without a request is closed, which
    /// notifies `closed` if there is one.
    fn make_room(&self, max: usize) -> bool {
        let open = self.open();
        if open.len() < max {
            return true;
        }
        if let Some(idle) = open.values().find(|connection| connection.requests.load(Ordering::Relaxed) == 0)
        {
            idle.close.cancel();
        }
        false
    }
}

/// How a server ends.
struct Ends {
    end: CancellationToken,
    grace_period: Duration,
}

/// One connection, listed until it is dropped.
struct Connection {
    number: u64,
    requests: Arc<AtomicUsize>,
    close: CancellationToken,
    connections: Connections,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
        self.connections.closed.notify_one();
    }
}

impl Connection {
    async fn serve(self, stream: TcpStream, router: Router, ends: Ends) {
        let router = router.layer(middleware::from_fn_with_state(Arc::clone(&self.requests), bounded));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::pin!(serving);
        tokio::select! {
            // An error is the peer's: it went away, was too slow, or does not speak HTTP.
            served = &mut serving => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection failed");
                }
            }
            () = self.close.cancelled() => {}
            () = ends.end.cancelled() => {
                serving.as_mut().graceful_shutdown();
                timeout(ends.grace_period, serving).await.ok();
            }
        }
    }
}

/// Counts a request until its response was sent, and bounds the time of its body.
async fn bounded(State(requests): State<Arc<AtomicUsize>>, request: Request, next: Next) -> Response {
    requests.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(requests);
    let request =
        request.map(|inner| Body::new(TimedBody { inner, deadline: Box::pin(sleep(BODY_TIMEOUT)) }));
    next.run(request).await.map(|inner| Body::new(CountedBody { inner, _counted: counted }))
}

/// A request in progress.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response whose request is in progress until it was sent.
struct CountedBody {
    inner: Body,
    _counted: Counted,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of a request, which ends in an error once its time is over.
struct TimedBody {
    inner: Body,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the body did not arrive in time");
            return Poll::Ready(Some(Err(error.into())));
        }
        Pin::new(&mut self.inner).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::routing::post;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Serves with room for `max` connections; returns the address.
    async fn server(max: usize, end: CancellationToken) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router =
            Router::new().route("/", get(async || "hello")).route("/body", post(async |body: String| body));
        TaskTracker::new().spawn(serve(listener, router, max, end, Duration::ZERO));
        address
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        // A connection that is cut off may be reset.
        stream.read_to_string(&mut answer).await.ok();
        answer
    }

    async fn sent(address: std::net::SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn many_requests_that_are_never_finished_keep_no_one_out() {
        let end = CancellationToken::new();
        let address = server(8, end.clone()).await;
        let mut half = Vec::new();
        for _ in 0..100 {
            half.push(sent(address, "GET / HTTP/1.1\r\nHost: x\r\nX-Half: ").await);
        }
        let whole = sent(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer(whole).await.ends_with("hello"));
        end.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn slow_headers_and_slow_bodies_are_cut_off() {
        let end = CancellationToken::new();
        let address = server(8, end.clone()).await;
        let headers = sent(address, "GET / HTTP/1.1\r\nHost: x\r\nX-Half: ").await;
        assert_eq!(answer(headers).await, "");
        let body = sent(address, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf").await;
        let answered = answer(body).await;
        assert!(answered.starts_with("HTTP/1.1 400"), "{answered}");
        end.cancel();
    }
}
