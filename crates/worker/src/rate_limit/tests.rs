//! Calls behind fake limits: what is kept while a call waits and runs, and what is returned when it is given up.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use legwork_agent::message::AssistantMessage;
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
    /// Of each limit, the requests that are in flight, and the most that were at once.
    in_flight: Mutex<BTreeMap<String, (u32, u32)>>,
    /// Accounts that are paused, for half a minute.
    paused: Mutex<Vec<String>>,
    kept: Mutex<Vec<String>>,
    returned: Mutex<Vec<(String, i64)>>,
}

const CLOSED: &str = "anthropic";
/// The address of an account whose limit is on a server that does not answer.
const AWAY: &str = "away";

#[async_trait]
impl Permits for FakePermits {
    async fn take(&self, request: &PermitRequest) -> Result<Permitted, QueueError> {
        {
            let mut in_flight = self.in_flight.lock().unwrap();
            let (now, most) = in_flight.entry(request.name.clone()).or_default();
            *now += 1;
            *most = (*now).max(*most);
        }
        // The round trip.
        if request.name == AWAY {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        self.in_flight.lock().unwrap().entry(request.name.clone()).or_default().0 -= 1;
        if request.name == CLOSED && self.is_closed.load(Ordering::SeqCst) {
            return Ok(Permitted::Wait { pause: Duration::from_secs(60), due: 1, why: WaitReason::Rate });
        }
        if self.paused.lock().unwrap().contains(&request.name) {
            let pause = Duration::from_secs(30);
            return Ok(Permitted::Wait { pause, due: 1, why: WaitReason::Paused });
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

    async fn pause(
        &self,
        request: &PermitRequest,
        _: Option<Duration>,
        _: Duration,
    ) -> Result<Duration, QueueError> {
        self.paused.lock().unwrap().push(request.name.clone());
        Ok(Duration::from_secs(30))
    }
}

#[derive(Debug)]
struct NoModels;

#[async_trait]
impl ModelPort for NoModels {
    async fn stream(&self, _: ModelCall<'_>) -> Result<ModelReply, ModelError> {
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
    let deltas = Deltas::default();
    let mut call = CallPermits::new(&models, String::new());
    let waiter = Waiter { deltas: &deltas, shown: String::new(), waits_for_pauses: true };
    assert!(call.add(request("anthropic/model"), &waiter).await.is_ok());
    let waited = tokio::time::timeout(Duration::from_secs(25), call.add(request(CLOSED), &waiter)).await;
    assert!(waited.is_err(), "the limit is closed");
    assert_eq!(*permits.kept.lock().unwrap(), ["anthropic/model", "anthropic/model"]);
    drop(call);
    let returned = tokio::time::timeout(Duration::from_secs(1), Arc::clone(&models).return_forever()).await;
    assert!(returned.is_err());
    let returned: BTreeMap<String, i64> = permits.returned.lock().unwrap().drain(..).collect();
    let expected = [("anthropic/model".to_owned(), 0), (CLOSED.to_owned(), -7)];
    assert_eq!(returned, BTreeMap::from(expected));
}

/// Models of which one address refuses every call; accounts are addresses.
#[derive(Debug)]
struct Refusing;

#[async_trait]
impl ModelPort for Refusing {
    fn account(&self, settings: &ModelSettings) -> String {
        settings.base_url.clone().unwrap_or_default()
    }

    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, .. } = call;
        match settings.base_url.as_deref() {
            Some("refusing") => Err(ModelError::RateLimited {
                model: settings.reference(),
                retry_after: Some(Duration::from_secs(30)),
                detail: "slow down".into(),
            }),
            _ => Ok(ModelReply::complete(AssistantMessage::default())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_pauses_one_account_and_only_the_last_model_waits_for_it() {
    let permits = Arc::new(FakePermits::default());
    let limit = "openai=concurrent:5";
    let mut policy = Policy::default();
    policy.add_limit(limit).unwrap();
    let models = RateLimitedModels::new(Arc::new(Refusing), Arc::clone(&permits) as _, Arc::new(policy));
    let ask = async |address: &str, waits_for_pauses: bool| {
        let mut settings = ModelSettings::inline("openai", "m").unwrap();
        settings.base_url = Some(address.to_owned());
        let request = model_request(waits_for_pauses);
        let deltas = &Deltas::default();
        let asked = models.stream(ModelCall { settings: &settings, request: &request, deltas });
        tokio::time::timeout(Duration::from_secs(20), asked).await
    };
    assert!(matches!(ask("refusing", false).await, Ok(Err(ModelError::RateLimited { .. }))));
    assert_eq!(*permits.paused.lock().unwrap(), ["refusing"], "and not the provider's name");
    assert_eq!(permits.returned.lock().unwrap()[0].0, "openai", "the place of the provider's limit");
    assert!(matches!(ask("elsewhere", true).await, Ok(Ok(_))), "another address of the same provider");
    let error = ask("refusing", false).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "openai/m limits the rate: it is paused for 30s");
    assert!(ask("refusing", true).await.is_err(), "it is waited for where no other model is left");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_free_is_asked_for_once_a_second_and_again_after_a_refusal() {
    let permits = Arc::new(FakePermits { is_free: AtomicBool::new(true), ..FakePermits::default() });
    let policy = Arc::new(Policy::default());
    let models = RateLimitedModels::new(Arc::new(Refusing), Arc::clone(&permits) as _, policy);
    let ask = async |address: &str| {
        let mut settings = ModelSettings::inline("openai", "m").unwrap();
        settings.base_url = Some(address.to_owned());
        let request = model_request(false);
        models
            .stream(ModelCall { settings: &settings, request: &request, deltas: &Deltas::default() })
            .await
            .is_ok()
    };
    let taken = || permits.taken.swap(0, Ordering::SeqCst);
    // The account; the policy limits no provider.
    assert!(ask("elsewhere").await && taken() == 1);
    assert!(ask("elsewhere").await && taken() == 0);
    tokio::time::sleep(FREE_FOR).await;
    assert!(ask("elsewhere").await && taken() == 1);
    // The account of the other address is asked for each time it refused.
    for _ in 0..2 {
        assert!(!ask("refusing").await);
        permits.paused.lock().unwrap().clear();
        assert_eq!(taken(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_start_together_request_few_permits_at_once() {
    const CALLS: u32 = 1000;
    let most = u32::try_from(MAX_REQUESTS).unwrap();
    for (limit, requests) in [(None, 1..=most), (Some("openai=concurrent:5000"), CALLS..=CALLS + most)] {
        let permits = Arc::new(FakePermits { is_free: AtomicBool::new(true), ..FakePermits::default() });
        let mut policy = Policy::default();
        if let Some(limit) = limit {
            policy.add_limit(limit).unwrap();
        }
        let models = RateLimitedModels::new(Arc::new(Refusing), Arc::clone(&permits) as _, Arc::new(policy));
        let (settings, request) = (ModelSettings::inline("openai", "m").unwrap(), model_request(true));
        let deltas = &Deltas::default();
        let call = |_| models.stream(ModelCall { settings: &settings, request: &request, deltas });
        let answers = futures::future::join_all((0..CALLS).map(call)).await;
        assert!(answers.iter().all(Result::is_ok));
        assert!(requests.contains(&permits.taken.load(Ordering::SeqCst)), "{limit:?}");
        let in_flight = permits.in_flight.lock().unwrap().clone();
        assert!(in_flight.values().all(|counts| *counts == (0, most)), "{limit:?} {in_flight:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_whose_server_is_away_holds_up_no_call_that_does_not_count_against_it() {
    let permits = Arc::new(FakePermits { is_free: AtomicBool::new(true), ..FakePermits::default() });
    let models =
        RateLimitedModels::new(Arc::new(Refusing), Arc::clone(&permits) as _, Arc::new(Policy::default()));
    let request = model_request(true);
    let ask = |address: &str| {
        let mut settings = ModelSettings::inline("openai", "m").unwrap();
        settings.base_url = Some(address.to_owned());
        let (models, request) = (&models, &request);
        async move {
            let deltas = &Deltas::default();
            models.stream(ModelCall { settings: &settings, request, deltas }).await
        }
    };
    let mut waiting: Vec<_> = (0..2 * MAX_REQUESTS).map(|_| Box::pin(ask(AWAY))).collect();
    for call in &mut waiting {
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    let most = u32::try_from(MAX_REQUESTS).unwrap();
    assert_eq!(permits.in_flight.lock().unwrap()[AWAY], (most, most));
    assert!(ask("elsewhere").await.is_ok());
}

/// A request of an agent's first turn.
fn model_request(waits_for_pauses: bool) -> ModelRequest {
    ModelRequest {
        agent: "a".into(),
        turn: 1,
        messages: Vec::new(),
        tools: Vec::new(),
        form: None,
        purpose: Purpose::Turn,
        waits_for_pauses,
    }
}
