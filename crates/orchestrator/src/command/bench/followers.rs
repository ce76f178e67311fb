//! Jobs that stream words, each with a follower: how late the followers see them.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use legwork_agent::Outcome;
use legwork_agent::journal::Journal as _;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_process::tasks::TaskKind;
use legwork_queue::Hints;
use legwork_queue::QueueError;
use legwork_queue::Target;
use legwork_queue::operator::bench::Measurement;
use legwork_queue::output_after;
use legwork_worker::runner::Run;
use legwork_worker::runner::RunEnd;
use legwork_worker::runner::Runner;
use serde::Serialize;
use tokio::sync::Barrier;
use tokio::sync::mpsc;

use super::MeasuredWorker;
use super::Row;
use super::percentile;
use crate::failure::Failure;

/// Jobs that stream at once, at most.
const MAX_JOBS: u32 = 1000;
/// Words of each, and the time between two, as in the section `streaming`.
const WORDS: u32 = 200;
const WORD_DELAY: Duration = Duration::from_millis(20);
/// Digits of a word: the microseconds at which it was written.
const DIGITS: usize = 12;
/// Bytes of one read of output, as `view --follow` reads it.
const CHUNK_BYTES: usize = 64 * 1024;
/// A lost hint delays a follower so long at most.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    followers: u32,
    words: u32,
    seconds: f64,
    lag_p50_ms: f64,
    lag_p99_ms: f64,
    lag_max_ms: f64,
    redis_cpu_us_per_word: f64,
}

/// Streams with as many jobs as were asked for. Worker and followers are in this process.
pub(super) async fn measure(
    measurement: &Measurement,
    target: &Target,
    jobs: u32,
) -> Result<Figures, Failure> {
    let count = jobs.clamp(1, MAX_JOBS);
    let began = Instant::now();
    let ready = Arc::new(Barrier::new(count as usize + 1));
    let worker =
        MeasuredWorker::start(measurement, Arc::new(Streamer { began, ready: Arc::clone(&ready) }), count)?;
    let hints = Hints::new(target)?;
    let (report, mut reports) = mpsc::channel(MAX_JOBS as usize);
    for id in measurement.dispatch(count as usize).await? {
        let (measurement, hints, report) = (measurement.clone(), hints.clone(), report.clone());
        worker.tasks.spawn(TaskKind::Http, async move {
            let lags = follow(&measurement, &hints, id, began).await;
            // Without a receiver the measurement is over.
            report.send(lags).await.ok();
        });
    }
    drop(report);
    // All jobs run before the first word, so that starts do not count.
    ready.wait().await;
    let streaming = Instant::now();
    let before = measurement.server_cost().await?;
    let mut lags = Vec::new();
    while let Some(seen) = reports.recv().await {
        lags.extend(seen?);
    }
    let (took, cost) = (streaming.elapsed(), measurement.server_cost().await?.since(before));
    worker.drain(measurement).await?;
    worker.end().await;
    lags.sort_unstable();
    let ms = |share| percentile(&lags, share).as_secs_f64() * 1e3;
    Ok(Figures {
        section: "followers",
        followers: count,
        words: WORDS,
        seconds: took.as_secs_f64(),
        lag_p50_ms: ms(0.5),
        lag_p99_ms: ms(0.99),
        lag_max_ms: ms(1.0),
        redis_cpu_us_per_word: cost.cpu_seconds * 1e6 / (f64::from(count) * f64::from(WORDS)),
    })
}

/// Follows a job as `view --follow` does, until it has all words; how late each was.
async fn follow(
    measurement: &Measurement,
    hints: &Hints,
    id: JobId,
    began: Instant,
) -> Result<Vec<Duration>, QueueError> {
    let channel = measurement.queue().keys().job_channel(id);
    let mut listener = hints.listen(channel).await;
    let (mut text, mut lags) = (Vec::new(), Vec::new());
    while lags.len() < WORDS as usize {
        let offset = text.len() as u64;
        let hint = tokio::time::timeout(POLL_INTERVAL, listener.next()).await.ok().flatten();
        match hint.as_deref().and_then(|hint| output_after(offset, hint)) {
            Some(new) => text.extend_from_slice(new.as_bytes()),
            None => text.extend(measurement.output(id, offset, CHUNK_BYTES).await?.bytes),
        }
        let now = began.elapsed();
        let whole = text.chunks_exact(DIGITS).skip(lags.len());
        lags.extend(whole.map(|word| now.saturating_sub(written_at(word))).collect::<Vec<_>>());
    }
    Ok(lags)
}

/// When a word was written, since the beginning of the measurement.
fn written_at(word: &[u8]) -> Duration {
    let digits = std::str::from_utf8(word).unwrap_or_default();
    Duration::from_micros(digits.trim_start_matches('0').parse().unwrap_or(0))
}

/// Writes words with the time of each.
#[derive(Debug)]
struct Streamer {
    began: Instant,
    ready: Arc<Barrier>,
}

#[async_trait]
impl Runner for Streamer {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, run: Box<Run>) -> RunEnd {
        self.ready.wait().await;
        let mut pace = tokio::time::interval(WORD_DELAY);
        for _ in 0..WORDS {
            pace.tick().await;
            let word = format!("{:0DIGITS$}", self.began.elapsed().as_micros());
            if run.journal.output(&word).await.is_err() {
                return RunEnd::Ended(Outcome::Lost);
            }
        }
        RunEnd::Ended(Outcome::Completed { result: String::new(), usage: Usage::default() })
    }
}

impl Row for Figures {
    fn text(&self) -> String {
        format!(
            "followers                {}, {} words each, in {:.1} s; worker and followers in one process\n\
             words are late by        p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms\n\
             Redis CPU per word       {:.2} µs\n",
            self.followers,
            self.words,
            self.seconds,
            self.lag_p50_ms,
            self.lag_p99_ms,
            self.lag_max_ms,
            self.redis_cpu_us_per_word,
        )
    }
}
