//! Scripted agents that stream words at once: what a word costs Redis.

use legwork_queue::operator::bench::Measurement;
use serde::Serialize;
use serde_json::json;

use super::MeasuredWorker;
use super::Row;
use super::agents::agents;
use crate::failure::Failure;

/// Agents that stream at once, at most.
const MAX_AGENTS: u32 = 1000;
/// Words of each, at the pace of a fast model: four seconds.
const WORDS: u32 = 200;
/// Milliseconds between two words.
const WORD_DELAY_MS: u32 = 20;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    agents: u32,
    words: u32,
    seconds: f64,
    redis_cpu_us_per_word: f64,
    commands_per_word: f64,
}

/// Streams with as many agents as jobs were asked for.
pub(super) async fn measure(measurement: &mut Measurement, jobs: u32) -> Result<Figures, Failure> {
    let count = jobs.min(MAX_AGENTS);
    let text = vec!["word"; WORDS as usize].join(" ");
    let runner = agents(measurement, &json!({"text": text, "chunk_delay_ms": WORD_DELAY_MS})).await?;
    measurement.dispatch(count as usize).await?;
    let before = measurement.server_cost().await?;
    let worker = MeasuredWorker::start(measurement, runner, count)?;
    let took = worker.drain(measurement).await?;
    let cost = measurement.server_cost().await?.since(before);
    worker.end().await;
    let words = f64::from(count) * f64::from(WORDS);
    Ok(Figures {
        section: "streaming",
        agents: count,
        words: WORDS,
        seconds: took.as_secs_f64(),
        redis_cpu_us_per_word: cost.cpu_seconds * 1e6 / words,
        commands_per_word: cost.commands / words,
    })
}

impl Row for Figures {
    fn text(&self) -> String {
        format!(
            "streaming                {} agents, {} words each, in {:.1} s, no followers\n\
             Redis CPU per word       {:.2} µs, {:.2} commands\n",
            self.agents, self.words, self.seconds, self.redis_cpu_us_per_word, self.commands_per_word,
        )
    }
}
