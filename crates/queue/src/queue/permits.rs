//! Permits to call a model provider, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::RequestId;

use crate::error::QueueError;
use crate::port::PermitRequest;
use crate::port::Permits;
use crate::port::Permitted;
use crate::port::WaitReason;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// How long a permit lasts without renewal. Holders renew every ten seconds, so two renewals may fail.
const PERMIT_EXPIRY: Duration = Duration::from_secs(30);
/// A minute in milliseconds, the unit of limits.
const MINUTE_MS: f64 = 60_000.0;
/// How many milliseconds' worth of a minute's tokens may be taken at once: one large call need not wait for its tokens
/// to become free one after another, and all calls together stay within the minute.
const TOKEN_BURST_MS: u32 = 10_000;

#[async_trait]
impl Permits for Queue {
    async fn take(&self, request: &PermitRequest) -> Result<Permitted, QueueError> {
        let interval_ms = request.limit.requests_per_minute.map_or(0.0, |calls| MINUTE_MS / f64::from(calls));
        let call = self
            .permit_call("take", &request.name, request.permit)
            .arg(request.due.unwrap_or(0))
            .arg(interval_ms)
            .arg(worth_ms(request, i64::try_from(request.tokens).unwrap_or(i64::MAX)))
            .arg(TOKEN_BURST_MS)
            .arg(request.limit.concurrent.unwrap_or(0))
            .arg(PERMIT_EXPIRY.as_millis());
        let (word, mut rest) = step::PERMIT.call(&self.link, &call).await?.tagged()?;
        match word.as_str() {
            "go" => Ok(Permitted::Go),
            "free" => Ok(Permitted::Free),
            "wait" => {
                let pause = Duration::from_millis(rest.item()?.parse()?);
                let due = rest.item()?.parse()?;
                let why = rest.item()?.word()?;
                let why = match why.as_str() {
                    "rate" => WaitReason::Rate,
                    "paused" => WaitReason::Paused,
                    "busy" => WaitReason::Busy,
                    _ => return Err(why.unknown()),
                };
                Ok(Permitted::Wait { pause, due, why })
            }
            _ => Err(word.unknown()),
        }
    }

    async fn keep(&self, permits: &[(String, RequestId)]) -> Result<(), QueueError> {
        let calls: Vec<Call> = permits
            .iter()
            .map(|(name, permit)| self.permit_call("renew", name, *permit).arg(PERMIT_EXPIRY.as_millis()))
            .collect();
        step::PERMIT.call_all(&self.link, &calls).await.map(drop)
    }

    async fn give_back(&self, request: &PermitRequest, beyond: i64) -> Result<(), QueueError> {
        let call = self.permit_call("return", &request.name, request.permit).arg(worth_ms(request, beyond));
        step::PERMIT.call(&self.link, &call).await.map(drop)
    }

    async fn pause(
        &self,
        request: &PermitRequest,
        asked: Option<Duration>,
        most: Duration,
    ) -> Result<Duration, QueueError> {
        let call = self
            .permit_call("pause", &request.name, request.permit)
            // 0 stands for a provider that named no time.
            .arg(asked.map_or(0, |asked| asked.as_millis().max(1)))
            .arg(most.as_millis());
        let (_done, mut rest) = step::PERMIT.call(&self.link, &call).await?.tagged()?;
        Ok(Duration::from_millis(rest.item()?.parse()?))
    }
}

impl Queue {
    fn permit_call(&self, mode: &str, name: &str, permit: RequestId) -> Call {
        Call::on(self.keys.limit(name))
            .key(self.keys.limit_calls(name))
            .key(self.keys.limit_line(name))
            .key(self.keys.limit_free(name))
            .arg(mode)
            .arg(permit)
    }
}

/// In how many milliseconds the limit allows this many tokens; 0 where tokens are not limited.
fn worth_ms(request: &PermitRequest, tokens: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
    let tokens = tokens as f64;
    request.limit.tokens_per_minute.map_or(0.0, |a_minute| tokens * MINUTE_MS / f64::from(a_minute))
}
