//! Numbers for Prometheus: the fleet's, read from Redis at most every five seconds, and the server's own.
//!
//! Labels are names of queues, of which there are at most a hundred and one, and words of this program. Nothing that a
//! request brings becomes a label.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use std::time::Instant;

use axum::extract::Request;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use legwork_queue::Operator;
use legwork_queue::operator::FleetStats;
use legwork_queue::operator::QueueStats;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use crate::problem::Problem;

/// How old the fleet's numbers may be: two scrapers, or a client that scrapes all the time, cost one reading.
const MAX_AGE: Duration = Duration::from_secs(5);
/// Queues with a label of their own; those beyond it are counted as `other`.
const MAX_QUEUES: usize = 100;

type Labels<const N: usize> = [(&'static str, String); N];
type Numbers<const N: usize> = Family<Labels<N>, Gauge<i64, AtomicI64>>;

/// What was counted. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: Family<Labels<2>, Counter>,
    connections: Gauge<i64, AtomicI64>,
    redis: Histogram,
    fleet: Fleet,
    /// When the fleet was last read.
    read: Mutex<Option<Instant>>,
}

/// The fleet's numbers.
#[derive(Debug, Default)]
struct Fleet {
    jobs: Numbers<2>,
    oldest: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    slots: Numbers<1>,
    used: Numbers<1>,
    paused: Numbers<1>,
    workers: Numbers<1>,
    ended: Numbers<2>,
    tokens: Numbers<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let connections = Gauge::default();
        // 0.2 ms to 3 s: a round trip on one machine, and the longest that a command may take.
        let redis = Histogram::new(exponential_buckets(0.0002, 2.0, 15));
        registry.register(
            "legwork_http_requests",
            "Requests by operation and status",
            Family::clone(&requests),
        );
        registry.register("legwork_http_connections", "Connections that are open", connections.clone());
        registry.register(
            "legwork_redis_ping_seconds",
            "Round trips to Redis, one for each scrape",
            redis.clone(),
        );
        let fleet = Fleet::registered_in(&mut registry);
        Self(Arc::new(Inner { registry, requests, connections, redis, fleet, read: Mutex::new(None) }))
    }
}

impl Fleet {
    fn registered_in(registry: &mut Registry) -> Self {
        let fleet = Self::default();
        let numbers = [
            ("legwork_queue_slots", "Slots of the workers that serve a queue", &fleet.slots),
            ("legwork_queue_used_slots", "Those slots in use", &fleet.used),
            ("legwork_queue_paused", "1 for a paused queue", &fleet.paused),
            ("legwork_workers", "Workers by state", &fleet.workers),
            ("legwork_tokens_last_hour", "Tokens of the jobs that ended in the last hour", &fleet.tokens),
        ];
        for (name, help, family) in numbers {
            registry.register(name, help, Family::clone(family));
        }
        registry.register("legwork_queue_jobs", "Live jobs by queue and state", Family::clone(&fleet.jobs));
        registry.register(
            "legwork_queue_oldest_seconds",
            "How long ago the oldest queued job was dispatched",
            Family::clone(&fleet.oldest),
        );
        registry.register(
            "legwork_jobs_ended_last_hour",
            "Jobs that ended in the last hour, by status and cause",
            Family::clone(&fleet.ended),
        );
        fleet
    }

    /// Replaces all numbers, so that a queue that is gone has none.
    fn set(&self, stats: &FleetStats) {
        let all = [&self.slots, &self.used, &self.paused, &self.workers, &self.tokens];
        all.into_iter().for_each(|family| family.clear());
        self.jobs.clear();
        self.oldest.clear();
        self.ended.clear();
        for (at, queue) in stats.queues.iter().enumerate() {
            let name = if at < MAX_QUEUES { queue.queue.clone() } else { "other".to_owned() };
            self.add_queue(&name, queue);
        }
        let workers = &stats.workers;
        for (state, count) in [
            ("serving", workers.serving),
            ("draining", workers.draining),
            ("lost", workers.lost),
            ("sick", workers.sick),
        ] {
            add(&self.workers, [("state", state.to_owned())], count);
        }
        let Some(hour) = stats.ended.first() else { return };
        for (status, count) in
            [("completed", hour.completed), ("failed", hour.failed), ("stopped", hour.stopped)]
        {
            add(&self.ended, [("status", status.to_owned()), ("cause", "any".to_owned())], count);
        }
        for (cause, count) in &hour.causes {
            add(&self.ended, [("status", "any".to_owned()), ("cause", cause.clone())], *count);
        }
        let usage = hour.usage;
        for (kind, count) in
            [("input", usage.input_tokens), ("cached", usage.cached_tokens), ("output", usage.output_tokens)]
        {
            add(&self.tokens, [("kind", kind.to_owned())], count);
        }
    }

    fn add_queue(&self, name: &str, queue: &QueueStats) {
        let label = || [("queue", name.to_owned())];
        for (state, count) in [
            ("queued", queue.queued),
            ("scheduled", queue.scheduled),
            ("running", queue.running),
            ("waiting", queue.waiting),
        ] {
            add(&self.jobs, [("queue", name.to_owned()), ("state", state.to_owned())], count);
        }
        let oldest = Duration::from_millis(queue.oldest_queued_ms.unwrap_or(0)).as_secs_f64();
        let gauge = self.oldest.get_or_create(&label());
        gauge.set(gauge.get().max(oldest));
        drop(gauge);
        add(&self.slots, label(), queue.slots);
        add(&self.used, label(), queue.used);
        add(&self.paused, label(), u64::from(queue.paused_since.is_some()));
    }
}

/// Adds to a number; a count is far below what the type holds.
fn add<const N: usize>(family: &Numbers<N>, labels: Labels<N>, count: u64) {
    family.get_or_create(&labels).inc_by(i64::try_from(count).unwrap_or(i64::MAX));
}

impl Metrics {
    /// The text of a scrape.
    ///
    /// # Errors
    ///
    /// [`Problem`] when Redis cannot be asked: a scrape with old numbers would hide that.
    pub async fn scrape(&self, operator: &Operator) -> Result<String, Problem> {
        let mut read = self.0.read.lock().await;
        if read.is_none_or(|read| read.elapsed() > MAX_AGE) {
            let asked = Instant::now();
            operator.queue().ping().await?;
            self.0.redis.observe(asked.elapsed().as_secs_f64());
            self.0.fleet.set(&operator.stats().await?);
            *read = Some(Instant::now());
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        encode(&mut text, &self.0.registry).ok();
        Ok(text)
    }

    /// Counts a connection for as long as the value lives.
    pub fn connection(&self) -> OpenConnection {
        self.0.connections.inc();
        OpenConnection(self.clone())
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct OpenConnection(Metrics);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.connections.dec();
    }
}

/// Counts a request when it is answered.
pub async fn count(
    State((metrics, operation)): State<(Metrics, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let labels = [("operation", operation.to_owned()), ("status", status)];
    metrics.0.requests.get_or_create(&labels).inc();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_is_a_sentence_with_one_full_stop() {
        let metrics = Metrics::default();
        let mut text = String::new();
        encode(&mut text, &metrics.0.registry).unwrap();
        let helps: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP")).collect();
        assert!(!helps.is_empty(), "{text}");
        assert!(helps.iter().all(|help| help.ends_with('.') && !help.ends_with("..")), "{helps:?}");
    }
}
