//! Models behind the fleet's limits: a call begins when every limit that it counts against permits it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::message::AssistantMessage;
use legwork_agent::message::Message;
use legwork_agent::model::Delta;
use legwork_agent::model::ModelError;
use legwork_agent::model::ModelPort;
use legwork_agent::model::ModelRequest;
use legwork_common::duration;
use legwork_common::id::RequestId;
use legwork_common::policy::Policy;
use legwork_common::team::ModelSettings;
use legwork_queue::QueueError;
use legwork_queue::port::PermitRequest;
use legwork_queue::port::Permits;
use legwork_queue::port::Permitted;
use legwork_queue::port::WaitReason;
use tokio::sync::mpsc;

/// The longest that a provider is left alone because of one refusal.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a call looks whether another one has ended, where the calls at once are limited.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the permits of a call are kept while it goes on.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// The pause after Redis could not be asked.
const PAUSE: Duration = Duration::from_millis(500);
/// Waits shorter than this are not worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
/// Bytes of a token, roughly.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens that a reply is expected to have.
const USUAL_REPLY: u64 = 500;

/// Models behind the fleet's limits.
#[derive(Debug)]
pub struct RateLimitedModels {
    models: Arc<dyn ModelPort>,
    permits: Arc<dyn Permits>,
    policy: Arc<Policy>,
    // Those whose call was dropped in the middle; given back with the next call.
    abandoned: Mutex<Vec<PermitRequest>>,
}

impl RateLimitedModels {
    /// These models, behind the limits of this policy.
    pub fn new(models: Arc<dyn ModelPort>, permits: Arc<dyn Permits>, policy: Arc<Policy>) -> Self {
        Self { models, permits, policy, abandoned: Mutex::default() }
    }

    /// Waits until every limit permits the call.
    async fn pass<'a>(
        &'a self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: &mpsc::Sender<Delta>,
    ) -> Passed<'a> {
        self.return_abandoned().await;
        let tokens = expected_tokens(request);
        let mut passed = Passed { limited: self, wishes: Vec::new() };
        for (name, limit) in self.policy.limits(&settings.provider, &settings.model) {
            let wish = PermitRequest { name, limit, permit: RequestId::random(), tokens, due: None };
            passed.wishes.push(wish);
            if let Some(wish) = passed.wishes.last_mut() {
                self.wait_for(wish, deltas).await;
            }
        }
        passed
    }

    /// Waits for one permit, and says so while that takes longer.
    async fn wait_for(&self, wish: &mut PermitRequest, deltas: &mpsc::Sender<Delta>) {
        let mut said = None;
        loop {
            let (pause, why) = match self.permits.take(wish).await {
                Ok(Permitted::Go) => break,
                Ok(Permitted::Wait { pause, due, why }) => {
                    wish.due = Some(due);
                    (pause, why)
                }
                Err(error) => {
                    tracing::warn!(limit = %wish.name, %error, "could not ask for a permit, trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if (pause >= WORTH_A_WORD || why == WaitReason::Busy) && said != Some(why) {
                said = Some(why);
                // Nobody listens any more: then nobody wants to know.
                deltas.send(Delta::Waits(Some(words(wish, pause, why)))).await.ok();
            }
            tokio::time::sleep(pause.max(if why == WaitReason::Busy { LOOK_EVERY } else { Duration::ZERO }))
                .await;
        }
        if said.is_some() {
            deltas.send(Delta::Waits(None)).await.ok();
        }
    }

    async fn return_abandoned(&self) {
        let abandoned = std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        for wish in abandoned {
            logged(self.permits.give_back(&wish, 0).await);
        }
    }
}

/// The permits of one call. Dropped before they are settled, they are given back with the next call, or end
/// by themselves.
#[derive(Debug)]
struct Passed<'a> {
    limited: &'a RateLimitedModels,
    wishes: Vec<PermitRequest>,
}

impl Passed<'_> {
    /// Keeps the permits for as long as the call goes on.
    async fn keep_for_ever(&self) {
        let counted: Vec<(String, RequestId)> = self
            .wishes
            .iter()
            .filter(|wish| wish.limit.concurrent.is_some())
            .map(|wish| (wish.name.clone(), wish.permit))
            .collect();
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            logged(self.limited.permits.keep(&counted).await);
        }
    }

    /// Gives the permits back, or pauses the provider that refused.
    async fn settle(&mut self, answer: &Result<AssistantMessage, ModelError>) {
        for wish in std::mem::take(&mut self.wishes) {
            let permits = &self.limited.permits;
            logged(match answer {
                Err(ModelError::RateLimited { retry_after, .. }) => {
                    permits.pause(&wish, *retry_after, LONGEST_PAUSE).await
                }
                Err(_) if is_counted(&wish) => permits.give_back(&wish, 0).await,
                Ok(message) if is_counted(&wish) => {
                    let spent = message.usage.input_tokens.saturating_add(message.usage.output_tokens);
                    let beyond = i64::try_from(spent).unwrap_or(i64::MAX)
                        - i64::try_from(wish.tokens).unwrap_or(i64::MAX);
                    permits.give_back(&wish, beyond).await
                }
                Ok(_) | Err(_) => Ok(()),
            });
        }
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.wishes).into_iter().filter(is_counted);
        self.limited.abandoned.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
    }
}

#[async_trait]
impl ModelPort for RateLimitedModels {
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<AssistantMessage, ModelError> {
        let mut passed = self.pass(settings, request, &deltas).await;
        let answer = tokio::select! {
            answer = self.models.stream(settings, request, deltas) => answer,
            () = passed.keep_for_ever() => return Err(never(settings)),
        };
        passed.settle(&answer).await;
        answer
    }
}

/// Keeping never ends; this is for the compiler.
fn never(settings: &ModelSettings) -> ModelError {
    ModelError::Transient { model: settings.reference(), detail: "its permit ended".to_owned() }
}

/// Whether giving the permit back changes anything.
fn is_counted(wish: &PermitRequest) -> bool {
    wish.limit.concurrent.is_some() || wish.limit.tokens_per_minute.is_some()
}

/// What a call will cost, roughly: what is sent, and a usual reply.
fn expected_tokens(request: &ModelRequest) -> u64 {
    let bytes: usize = request.messages.iter().map(Message::bytes).sum();
    USUAL_REPLY.saturating_add(u64::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u64::MAX))
}

/// Why a call waits, for people.
fn words(wish: &PermitRequest, pause: Duration, why: WaitReason) -> String {
    let name = &wish.name;
    match why {
        WaitReason::Paused => {
            format!("{name} asked for a pause: {} from now at the earliest", duration::short(pause))
        }
        WaitReason::Rate => format!("its turn with {name} comes in {}", duration::short(pause)),
        WaitReason::Busy => format!("as many calls of {name} as are allowed at once are in flight"),
    }
}

/// Trouble with a permit holds up no call: it ends by itself.
fn logged(done: Result<(), QueueError>) {
    if let Err(error) = done {
        tracing::warn!(%error, "could not tell the limits of a model provider");
    }
}
