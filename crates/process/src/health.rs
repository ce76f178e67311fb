//! Health and metrics over HTTP: `/healthz`, `/readyz` and `/metrics`.
//!
//! `/healthz` answers while the process lives. `/readyz` answers what the program last set. `/metrics`
//! exposes the program's metrics in the text format of OpenMetrics, which Prometheus reads. Nothing here is secret and nothing can be
//! changed through it, but it has no authentication: bind it to an address that only operators reach.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
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
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge;
use prometheus_client::registry::Metric;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::http_server;
use crate::tasks::TaskKind;
use crate::tasks::Tasks;

/// The type of the text format of OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// A number that can go up and down; zero at first. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Gauge(gauge::Gauge<i64, AtomicI64>);

impl Gauge {
    /// Sets the value that the next scrape sees.
    pub fn set(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// The value last set.
    pub fn value(&self) -> u64 {
        u64::try_from(self.0.get()).unwrap_or(0)
    }
}

/// The metrics of one program. Cheap to clone; all clones are one registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Registers a gauge. `name` is a metric name of Prometheus (letters, digits and `_`), such as
    /// `legwork_worker_used_slots`; `help` is one line.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.register(name, help, gauge.0.clone());
        gauge
    }

    /// Registers a metric of any kind. A counter's name gets `_total` when it is scraped. Labels must have few values:
    /// what a request, a model or a file brings is counted as `other` beyond a bound.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// All metrics in the text format of OpenMetrics, in the order of their registration.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string cannot fail.
        encode(&mut text, &registry).ok();
        text
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
    pub fn serve(self, tasks: &Tasks, readiness: Readiness, exposed: Metrics) {
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready).with_state(readiness))
            .route("/metrics", get(metrics).with_state(exposed));
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

async fn metrics(State(exposed): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], exposed.render())
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
        let (tasks, readiness, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
        let listener = HealthListener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address();
        metrics.gauge("legwork_test_jobs", "Jobs that run").set(3);
        listener.serve(&tasks, readiness.clone(), metrics);

        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200 OK"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
        readiness.set(true);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200 OK"));
        assert!(ask(address, "/metrics").await.ends_with("\nlegwork_test_jobs 3\n# EOF\n"));
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
    fn metrics_are_rendered_as_they_were_last_set() {
        let metrics = Metrics::default();
        let gauge = metrics.clone().gauge("legwork_test_jobs", "Jobs that run");
        gauge.set(2);
        gauge.set(5);
        assert_eq!(gauge.value(), 5);
        assert_eq!(
            metrics.render(),
            "# HELP legwork_test_jobs Jobs that run.\n# TYPE legwork_test_jobs gauge\nlegwork_test_jobs 5\n# EOF\n"
        );
    }
}
