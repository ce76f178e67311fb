//! Calls behind fake limits: what is kept while a call waits and runs, and what is returned when it is given up.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use legwork_agent::model::Purpose;

use super::*;

/// Grants every limit but `closed` ones, and records what is kept and returned.
#[derive(Debug, Default)]
struct FakePermits {
    /// A limit without permits for now.
    is_closed: AtomicBool,
    /// Whether limits that are not configured are free.
    is_free: AtomicBool,
    taken: AtomicU32,
    kept: Mutex<Vec<String>>,
    returned: Mutex<Vec<(String, i64)>>,
}

const CLOSED: &str = "anthropic";

#[async_trait]
impl Permits for FakePermits {
    async fn take(&self, request: &PermitRequest) -> Result<Permitted, QueueError> {
        if request.name == CLOSED && self.is_closed.load(Ordering::SeqCst) {
            return Ok(Permitted::Wait { pause: Duration::from_secs(60), due: 1, why: WaitReason::Rate });
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        Ok(if self.is_free.load(Ordering::SeqCst) { Permitted::Free } else { Permitted::Go })
    }

    async fn keep(&self, permits: &[(String, RequestId)]) -> Result<(), QueueError> {
        self.kept.lock().unwrap().extend(permits.iter().map(|(name, _)| name.clone()));
        Ok(())
    }

    async fn give_back(&self, request: &PermitRequest, beyond: i64) -> Result<(), QueueError> {
        self.returned.lock().unwrap().push((request.name.clone(), beyond));
        Ok(())
    }

    async fn pause(&self, _: &PermitRequest, _: Option<Duration>, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

#[derive(Debug)]
struct NoModels;

#[async_trait]
impl ModelPort for NoModels {
    async fn stream(
        &self,
        _: &ModelSettings,
        _: &ModelRequest,
        _: mpsc::Sender<Delta>,
    ) -> Result<ModelReply, ModelError> {
        std::future::pending().await
    }
}

fn models(permits: &Arc<FakePermits>) -> Arc<RateLimitedModels> {
    let policy = Arc::new(Policy::default());
    Arc::new(RateLimitedModels::new(Arc::new(NoModels), Arc::clone(permits) as _, policy))
}

fn request(name: &str) -> PermitRequest {
    let limit = RateLimit { concurrent: Some(1), ..RateLimit::default() };
    PermitRequest { name: name.to_owned(), limit, permit: RequestId::random(), tokens: 7, due: None }
}

#[tokio::test(start_paused = true)]
async fn a_granted_permit_is_kept_while_another_is_waited_for_and_both_are_returned() {
    let permits = Arc::new(FakePermits { is_closed: AtomicBool::new(true), ..FakePermits::default() });
    let models = models(&permits);
    let (deltas, _receiver) = mpsc::channel(9);
    let mut call = CallPermits { models: &models, granted: Vec::new(), requested: None };
    call.add(request("anthropic/model"), &deltas).await;
    let waited = tokio::time::timeout(Duration::from_secs(25), call.add(request(CLOSED), &deltas)).await;
    assert!(waited.is_err(), "the limit is closed");
    assert_eq!(*permits.kept.lock().unwrap(), ["anthropic/model", "anthropic/model"]);
    drop(call);
    let returned = tokio::time::timeout(Duration::from_secs(1), Arc::clone(&models).return_forever()).await;
    assert!(returned.is_err());
    let returned: BTreeMap<String, i64> = permits.returned.lock().unwrap().drain(..).collect();
    let expected = [("anthropic/model".to_owned(), 0), (CLOSED.to_owned(), -7)];
    assert_eq!(returned, BTreeMap::from(expected));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_free_is_asked_for_once_a_second_and_again_after_a_refusal() {
    let permits = Arc::new(FakePermits { is_free: AtomicBool::new(true), ..FakePermits::default() });
    let models = models(&permits);
    let (deltas, _receiver) = mpsc::channel(9);
    let settings = ModelSettings::inline("anthropic", "model").unwrap();
    let request = ModelRequest {
        agent: "a".into(),
        turn: 1,
        messages: Vec::new(),
        tools: Vec::new(),
        form: None,
        purpose: Purpose::Turn,
    };
    for _ in 0..3 {
        drop(models.acquire(&settings, &request, &deltas).await);
    }
    assert_eq!(permits.taken.load(Ordering::SeqCst), 1);
    tokio::time::sleep(FREE_FOR).await;
    for taken in [2, 3] {
        let mut refused = models.acquire(&settings, &request, &deltas).await;
        assert_eq!(permits.taken.load(Ordering::SeqCst), taken);
        let (model, detail) = (String::new(), String::new());
        refused.settle(&Err(ModelError::RateLimited { model, retry_after: None, detail })).await;
    }
}
