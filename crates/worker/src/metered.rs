//! Models whose calls are counted for `/metrics`: by model and outcome, with their tokens, money and time; and the pauses of
//! providers that refused calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::message::AssistantMessage;
use legwork_agent::model::ModelCall;
use legwork_agent::model::ModelError;
use legwork_agent::model::ModelPort;
use legwork_agent::model::ModelReply;
use legwork_agent::model::ReplyEnd;
use legwork_common::job::Usage;
use legwork_common::money::Prices;
use legwork_common::team::ModelSettings;
use legwork_process::health::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;
use tokio::time::Instant;

/// Models with labels of their own; those beyond it are counted as `other`. Agent files name models, so there is no other
/// bound on them.
const MAX_MODELS: usize = 100;
/// What a model beyond [`MAX_MODELS`] is called.
const OTHER: &str = "other";
/// Micro-dollars in a dollar.
const MICROS: f64 = 1_000_000.0;

type Labels<const N: usize> = [(&'static str, String); N];

/// Counts of the calls of a program's models. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    calls: Family<Labels<3>, Counter>,
    tokens: Family<Labels<3>, Counter>,
    cost: Family<Labels<2>, Counter<f64, AtomicU64>>,
    seconds: Family<Labels<2>, Histogram>,
    pauses: Family<Labels<1>, Counter>,
    paused: Family<Labels<1>, Counter<f64, AtomicU64>>,
    /// The models that have labels. A std mutex: never held over an await.
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            tokens: Family::default(),
            cost: Family::default(),
            // A tenth of a second to almost an hour: the shortest replies, and the longest that thinking models took.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.1, 2.0, 16))),
            pauses: Family::default(),
            paused: Family::default(),
            known: Arc::default(),
        }
    }
}

impl ModelMetrics {
    /// Counts that are exposed by `/metrics`.
    pub fn registered_in(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register(
            "legwork_model_calls",
            "Calls of models that ended, by what came of them",
            Family::clone(&counts.calls),
        );
        metrics.register(
            "legwork_model_tokens",
            "Tokens of their replies: input, cached (a part of input), output",
            Family::clone(&counts.tokens),
        );
        metrics.register(
            "legwork_model_cost_usd",
            "What these tokens cost, in US dollars, of models with a known price",
            Family::clone(&counts.cost),
        );
        metrics.register(
            "legwork_model_call_seconds",
            "Time from the request to the end of the reply, without waits for limits",
            Family::clone(&counts.seconds),
        );
        metrics.register(
            "legwork_provider_pauses",
            "Refusals (429) of a provider that paused its calls on all workers",
            Family::clone(&counts.pauses),
        );
        metrics.register(
            "legwork_provider_paused_seconds",
            "Time by which these refusals made the pauses of a provider longer; over all workers, the time it was paused",
            Family::clone(&counts.paused),
        );
        counts
    }

    /// Counts a refusal that made the pause of a model's provider so much longer.
    pub(crate) fn count_pause(&self, settings: &ModelSettings, longer: Duration) {
        let [provider, _] = self.labels(settings);
        let provider = [provider];
        self.pauses.get_or_create(&provider).inc();
        self.paused.get_or_create(&provider).inc_by(longer.as_secs_f64());
    }

    fn count(
        &self,
        settings: &ModelSettings,
        prices: &Prices,
        took: f64,
        answer: &Result<ModelReply, ModelError>,
    ) {
        let [provider, model] = self.labels(settings);
        let of_model = [provider.clone(), model.clone()];
        let outcome = ("outcome", outcome(answer).to_owned());
        self.calls.get_or_create(&[provider.clone(), model.clone(), outcome]).inc();
        self.seconds.get_or_create(&of_model).observe(took);
        let Ok(ModelReply { message: AssistantMessage { usage, .. }, .. }) = answer else { return };
        for (kind, tokens) in kinds(usage) {
            let kind = ("kind", kind.to_owned());
            self.tokens.get_or_create(&[provider.clone(), model.clone(), kind]).inc_by(tokens);
        }
        if let Some(price) = prices.of(&settings.reference()) {
            #[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
            let dollars = price.of(*usage).0 as f64 / MICROS;
            self.cost.get_or_create(&of_model).inc_by(dollars);
        }
    }

    fn labels(&self, settings: &ModelSettings) -> Labels<2> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reference = settings.reference();
        let has_label = known.contains(&reference) || known.len() < MAX_MODELS && known.insert(reference);
        let [provider, model] =
            if has_label { [settings.provider.as_str(), settings.model.as_str()] } else { [OTHER; 2] };
        [("provider", provider.to_owned()), ("model", model.to_owned())]
    }
}

/// What came of a call, in one word for each thing that an operator does about it.
fn outcome(answer: &Result<ModelReply, ModelError>) -> &'static str {
    match answer {
        Ok(reply) => match reply.end {
            ReplyEnd::Finished | ReplyEnd::WantsTools | ReplyEnd::Paused => "ok",
            ReplyEnd::CutAtOutputLimit => "cut",
            ReplyEnd::Refused(_) | ReplyEnd::Filtered(_) => "refused",
            ReplyEnd::WindowFull => "window_full",
            ReplyEnd::Empty { .. } => "empty",
            ReplyEnd::BrokenOff(_) => "broken",
        },
        Err(error) => error.kind(),
    }
}

fn kinds(usage: &Usage) -> [(&'static str, u64); 3] {
    [("input", usage.input_tokens), ("cached", usage.cached_tokens), ("output", usage.output_tokens)]
}

/// Models whose calls are counted.
#[derive(Debug)]
pub struct MeteredModels {
    models: Arc<dyn ModelPort>,
    metrics: ModelMetrics,
    prices: Prices,
}

impl MeteredModels {
    /// Counts the calls of `models`, with these prices.
    pub fn new(models: Arc<dyn ModelPort>, metrics: ModelMetrics, prices: Prices) -> Self {
        Self { models, metrics, prices }
    }
}

#[async_trait]
impl ModelPort for MeteredModels {
    fn account(&self, settings: &ModelSettings) -> String {
        self.models.account(settings)
    }

    /// A call that is dropped is not counted: whether it would have succeeded is not known.
    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let settings = call.settings;
        let began = Instant::now();
        let answer = self.models.stream(call).await;
        self.metrics.count(settings, &self.prices, began.elapsed().as_secs_f64(), &answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use legwork_agent::model::Deltas;
    use legwork_agent::model::ModelRequest;
    use legwork_agent::model::Purpose;

    use super::*;

    /// Answers with a reply of some tokens, or refuses, by the name of the model.
    #[derive(Debug)]
    struct Answering;

    #[async_trait]
    impl ModelPort for Answering {
        async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
            if call.settings.model == "busy" {
                let model = call.settings.reference();
                return Err(ModelError::RateLimited { model, retry_after: None, detail: "slow".into() });
            }
            let usage =
                Usage { input_tokens: 1_000_000, cached_tokens: 400_000, output_tokens: 100_000, turns: 1 };
            Ok(ModelReply::complete(AssistantMessage { usage, ..AssistantMessage::default() }))
        }
    }

    async fn called(models: &[String]) -> String {
        let metrics = Metrics::default();
        let counts = ModelMetrics::registered_in(&metrics);
        let metered = MeteredModels::new(Arc::new(Answering), counts, Prices::default());
        for model in models {
            let settings = ModelSettings::inline("openai", model).unwrap();
            let request = ModelRequest {
                agent: "a".into(),
                turn: 1,
                messages: Vec::new(),
                tools: Vec::new(),
                form: None,
                purpose: Purpose::Turn,
                waits_for_pauses: true,
            };
            let deltas = &Deltas::default();
            metered.stream(ModelCall { settings: &settings, request: &request, deltas }).await.ok();
        }
        metrics.render()
    }

    #[tokio::test]
    async fn calls_tokens_and_money_are_counted_by_model() {
        let text = called(&["gpt-4o", "gpt-4o", "busy", "unpriced"].map(str::to_owned)).await;
        for line in [
            r#"legwork_model_calls_total{provider="openai",model="gpt-4o",outcome="ok"} 2"#,
            r#"legwork_model_calls_total{provider="openai",model="busy",outcome="rate_limited"} 1"#,
            r#"legwork_model_tokens_total{provider="openai",model="gpt-4o",kind="cached"} 800000"#,
            // 600,000 at 2.50, 400,000 at 1.25 and 100,000 at 10 dollars a million, twice.
            r#"legwork_model_cost_usd_total{provider="openai",model="gpt-4o"} 6.0"#,
            r#"legwork_model_call_seconds_count{provider="openai",model="busy"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains(r#"cost_usd_total{provider="openai",model="unpriced""#), "{text}");
        assert!(!text.contains(r#"tokens_total{provider="openai",model="busy""#), "{text}");
    }

    #[test]
    fn pauses_are_counted_by_provider() {
        let metrics = Metrics::default();
        let counts = ModelMetrics::registered_in(&metrics);
        for (model, seconds) in [("gpt-4o", 2), ("o3", 0)] {
            let settings = ModelSettings::inline("openai", model).unwrap();
            counts.count_pause(&settings, Duration::from_secs(seconds));
        }
        let text = metrics.render();
        for line in [
            r#"legwork_provider_pauses_total{provider="openai"} 2"#,
            r#"legwork_provider_paused_seconds_total{provider="openai"} 2.0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn the_labels_are_bounded_whatever_files_name() {
        let many: Vec<String> = (0..MAX_MODELS + 5).map(|at| format!("m{at}")).collect();
        let text = called(&many).await;
        let calls = text.lines().filter(|line| line.starts_with("legwork_model_calls_total{")).count();
        assert_eq!(calls, MAX_MODELS + 1);
        assert!(text.contains(r#"calls_total{provider="other",model="other",outcome="ok"} 5"#), "{text}");
    }
}
