//! Permits to call a model provider, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::RequestId;

use crate::answer::Answer;
use crate::answer::next;
use crate::answer::unknown_word;
use crate::error::QueueError;
use crate::port::PermitRequest;
use crate::port::Permits;
use crate::port::Permitted;
use crate::port::WaitReason;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

const STEP: &str = "permit";
/// A permit whose holder died ends after this.
const PERMIT_LASTS: Duration = Duration::from_secs(30);
/// A minute in milliseconds.
const MINUTE: f64 = 60_000.0;
/// Milliseconds of a minute's tokens that may be taken at once.
const TOKENS_AT_ONCE: u32 = 10_000;

#[async_trait]
impl Permits for Queue {
    async fn take(&self, wish: &PermitRequest) -> Result<Permitted, QueueError> {
        let interval = wish.limit.requests_per_minute.map_or(0.0, |calls| MINUTE / f64::from(calls));
        let call = self
            .permit_call("take", &wish.name, wish.permit)
            .arg(wish.due.unwrap_or(0))
            .arg(interval)
            .arg(worth(wish, i64::try_from(wish.tokens).unwrap_or(i64::MAX)))
            .arg(TOKENS_AT_ONCE)
            .arg(wish.limit.concurrent.unwrap_or(0))
            .arg(PERMIT_LASTS.as_millis());
        let answer = Answer::of(STEP, step::call(&self.link, &step::PERMIT, &call).await?);
        let (word, mut rest) = answer.tagged()?;
        match word.as_str() {
            "go" => Ok(Permitted::Go),
            "wait" => Ok(Permitted::Wait {
                pause: Duration::from_millis(next(STEP, &mut rest)?.parse()?),
                due: next(STEP, &mut rest)?.parse()?,
                why: match next(STEP, &mut rest)?.text()?.as_str() {
                    "rate" => WaitReason::Rate,
                    "paused" => WaitReason::Paused,
                    "busy" => WaitReason::Busy,
                    other => return Err(unknown_word(STEP, other)),
                },
            }),
            other => Err(unknown_word(STEP, other)),
        }
    }

    async fn keep(&self, permits: &[(String, RequestId)]) -> Result<(), QueueError> {
        let calls: Vec<Call> = permits
            .iter()
            .map(|(name, permit)| self.permit_call("renew", name, *permit).arg(PERMIT_LASTS.as_millis()))
            .collect();
        step::call_all(&self.link, &step::PERMIT, &calls).await.map(drop)
    }

    async fn give_back(&self, wish: &PermitRequest, beyond: i64) -> Result<(), QueueError> {
        let call = self.permit_call("return", &wish.name, wish.permit).arg(worth(wish, beyond));
        step::call(&self.link, &step::PERMIT, &call).await.map(drop)
    }

    async fn pause(
        &self,
        wish: &PermitRequest,
        asked: Option<Duration>,
        most: Duration,
    ) -> Result<(), QueueError> {
        let call = self
            .permit_call("pause", &wish.name, wish.permit)
            .arg(asked.map_or(0, |asked| asked.as_millis().max(1)))
            .arg(most.as_millis());
        step::call(&self.link, &step::PERMIT, &call).await.map(drop)
    }
}

impl Queue {
    fn permit_call(&self, mode: &str, name: &str, permit: RequestId) -> Call {
        Call::on(self.keys.limit(name)).key(self.keys.limit_calls(name)).arg(mode).arg(permit)
    }
}

/// How many milliseconds of the limit's tokens these are worth; 0 where tokens are not limited.
fn worth(wish: &PermitRequest, tokens: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
    let tokens = tokens as f64;
    wish.limit.tokens_per_minute.map_or(0.0, |a_minute| tokens * MINUTE / f64::from(a_minute))
}
