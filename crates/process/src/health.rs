//! Health and metrics over HTTP: `/healthz`, `/readyz` and `/metrics`.
//!
//! `/healthz` answers while the process lives. `/readyz` answers what the program last set. `/metrics`
//! exposes the program's gauges in the text format of Prometheus. Nothing here is secret and nothing can be
//! changed through it, but it has no authentication: bind it to an address that only operators reach.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::http_server;
use crate::tasks::TaskKind;
use crate::tasks::Tasks;

/// The most connections: collectors and probes are few.
const MAX_CONNECTIONS: usize = 32;

/// Whether the program can do its work now; not ready at first. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    // Relaxed is enough: the flag guards no other data.
    ready: Arc<AtomicBool>,
}

impl Readiness {
    /// Sets what `/readyz` answers from now on: 200 or 503.
    pub fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// A metric that can go up and down; zero at first. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Gauge {
    // Relaxed is enough: a scrape may be a moment late.
    value: Arc<AtomicU64>,
}

impl Gauge {
    /// Sets the value that the next scrape sees.
    pub fn set(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// The value last set.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// The gauges of one program. Cheap to clone; all clones are one list.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    by_name: Arc<Mutex<BTreeMap<&'static str, Metric>>>,
}

#[derive(Debug)]
struct Metric {
    help: &'static str,
    gauge: Gauge,
}

impl Gauges {
    /// The gauge called `name`, registered with zero by the first call. `name` is a metric name of Prometheus
    /// (letters, digits and `_`), such as `legwork_worker_running_jobs`; `help` is one line.
    pub fn register(&self, name: &'static str, help: &'static str) -> Gauge {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.entry(name).or_insert_with(|| Metric { help, gauge: Gauge::default() }).gauge.clone()
    }

    /// All gauges in the text format of Prometheus, sorted by name.
    pub fn render(&self) -> String {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().fold(String::new(), |mut text, (name, Metric { help, gauge })| {
            // Writing into a string cannot fail.
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}", gauge.value()).ok();
            text
        })
    }
}

/// Why health cannot be served.
#[derive(Debug, Error)]
#[error("cannot listen on {address} for health: {source}")]
pub struct HealthError {
    /// The requested address.
    address: SocketAddr,
    /// The system's error.
    source: io::Error,
}

impl Coded for HealthError {
    fn code(&self) -> &'static str {
        "health_address"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("give another --health address, or one with port 0".to_owned())
    }
}

/// A bound socket that does not serve yet.
#[derive(Debug)]
pub struct HealthListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl HealthListener {
    /// Binds `address`, so that a bad one is an error before the program starts its work.
    ///
    /// # Errors
    ///
    /// [`HealthError`] when the address is in use or not this machine's.
    pub async fn bind(address: SocketAddr) -> Result<Self, HealthError> {
        let failed = |source| HealthError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The bound address: with the assigned port where port 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves in a task of [`TaskKind::Health`] until the program closes; open connections are dropped then.
    pub fn serve(self, tasks: &Tasks, readiness: Readiness, gauges: Gauges) {
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready).with_state(readiness))
            .route("/metrics", get(metrics).with_state(gauges));
        let closing = tasks.closing();
        tasks.spawn(TaskKind::Health, async move {
            http_server::serve(self.listener, router, MAX_CONNECTIONS, closing, Duration::ZERO).await;
        });
    }
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(gauges): State<Gauges>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], gauges.render())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_paths_answer_until_the_program_closes() {
        let (tasks, readiness, gauges) = (Tasks::new(), Readiness::default(), Gauges::default());
        let listener = HealthListener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address();
        gauges.register("legwork_test_jobs", "Jobs that run.").set(3);
        listener.serve(&tasks, readiness.clone(), gauges);

        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200 OK"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
        readiness.set(true);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200 OK"));
        assert!(ask(address, "/metrics").await.ends_with("\nlegwork_test_jobs 3\n"));
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404 "));

        assert_eq!(tasks.close_and_wait(Duration::from_secs(5)).await, []);
        assert!(TcpStream::connect(address).await.is_err(), "still listening after the close");
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_before_anything_is_served() {
        let first = HealthListener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = HealthListener::bind(first.address()).await.unwrap_err();
        assert!(error.to_string().contains(&first.address().to_string()), "{error}");
    }

    #[test]
    fn gauges_are_shared_by_name_and_rendered_sorted() {
        let gauges = Gauges::default();
        gauges.register("b", "Second.").set(2);
        gauges.register("a", "First.");
        gauges.register("b", "Second.").set(5);
        assert_eq!(
            gauges.render(),
            "# HELP a First.\n# TYPE a gauge\na 0\n# HELP b Second.\n# TYPE b gauge\nb 5\n"
        );
    }
}
