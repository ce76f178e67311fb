//! Permits to call a model provider: its rate limits hold for the whole fleet.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::RequestId;
use legwork_common::policy::RateLimit;

use crate::error::QueueError;

/// A request to call a provider, against one rate limit.
#[derive(Debug, Clone)]
pub struct PermitRequest {
    /// The name of the limit: `provider` or `provider/model`.
    pub name: String,
    /// What the limit allows.
    pub limit: RateLimit,
    /// Names the permit. A repeat has the same one, so that it is granted once.
    pub permit: RequestId,
    /// Tokens that the call is expected to cost.
    pub tokens: u64,
    /// The time to come at from an earlier [`Permitted::Wait`], in milliseconds of Redis' clock; `None` at first.
    pub due: Option<u64>,
}

/// Why a call has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// Its place in line comes later.
    Rate,
    /// The provider refused a call, so all calls to it are paused.
    Paused,
    /// As many calls as are allowed at once are in flight.
    Busy,
}

/// The answer to a [`PermitRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    /// The permit is granted.
    Go,
    /// The permit is granted, and nothing limits calls now: no limit is configured, and no refusal has an effect.
    Free,
    /// It is not granted yet: ask again after `pause`, with `due` in the request. Asked again sooner, it may move up to
    /// a place that another request gave up.
    Wait {
        /// How long to wait. Zero for [`WaitReason::Busy`]: calls end at any time, so the caller polls.
        pause: Duration,
        /// The time to come at, which keeps the place in line.
        due: u64,
        /// What it waits for, to be shown to users.
        why: WaitReason,
    },
}

/// The fleet's rate limits for model providers.
///
/// The permit of a caller that died expires within 30 seconds; its place in line passes unused. A limit that is not used is
/// forgotten after two hours.
#[async_trait]
pub trait Permits: Debug + Send + Sync {
    /// Takes a permit, or a place in line. A crash after it leaves a permit that expires.
    async fn take(&self, request: &PermitRequest) -> Result<Permitted, QueueError>;

    /// Keeps permits of calls that are in flight, by limit and permit, for another 30 seconds. To be called every ten.
    async fn keep(&self, permits: &[(String, RequestId)]) -> Result<(), QueueError>;

    /// Gives a permit back, or the place in line of one that was not granted: the next request gets it. `beyond` is how many
    /// more tokens the call cost than expected; negative where it cost fewer.
    async fn give_back(&self, request: &PermitRequest, beyond: i64) -> Result<(), QueueError>;

    /// Gives a permit back whose call the provider refused for exceeding its limit, and pauses the provider for every
    /// worker: for `asked` where the provider named a time, but for `most` at the longest. Returns by how much that made the
    /// pause longer, so that the pauses of a fleet add up to the time that the provider was paused.
    async fn pause(
        &self,
        request: &PermitRequest,
        asked: Option<Duration>,
        most: Duration,
    ) -> Result<Duration, QueueError>;
}
