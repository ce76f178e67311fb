//! Permits to call a model provider: its limits hold for the whole fleet.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::RequestId;
use legwork_common::policy::RateLimit;

use crate::error::QueueError;

/// A wish to call a provider, against one limit.
#[derive(Debug, Clone)]
pub struct PermitRequest {
    /// The limit's name: `provider` or `provider/model`.
    pub name: String,
    /// What it allows.
    pub limit: RateLimit,
    /// Names the permit.
    pub permit: RequestId,
    /// Tokens that the call is expected to cost.
    pub tokens: u64,
    /// The time it was told to come, if it was; Redis' clock.
    pub due: Option<u64>,
}

/// Why a call has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// Its place in line comes later.
    Rate,
    /// The provider asked to be left alone.
    Paused,
    /// As many calls as are allowed at once are in flight.
    Busy,
}

/// How a wish was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    /// Go ahead.
    Go,
    /// Come again after `pause` with `due` in the wish.
    Wait {
        /// How long; zero where nobody knows.
        pause: Duration,
        /// What to come with.
        due: u64,
        /// Why.
        why: WaitReason,
    },
}

/// The fleet's limits for model providers.
///
/// A caller that dies holds its permit for half a minute at most, and its place in line is lost. A limit that
/// nobody asks about is forgotten after two hours.
#[async_trait]
pub trait Permits: Debug + Send + Sync {
    /// Takes a permit, or a place in line.
    async fn take(&self, wish: &PermitRequest) -> Result<Permitted, QueueError>;

    /// Keeps permits of calls that are in flight, by limit and permit. To be done every ten seconds.
    async fn keep(&self, permits: &[(String, RequestId)]) -> Result<(), QueueError>;

    /// Gives a permit back; `beyond` are the tokens that the call cost more than was expected, or less.
    async fn give_back(&self, wish: &PermitRequest, beyond: i64) -> Result<(), QueueError>;

    /// Pauses the provider for every worker, because it refused this call for coming too often. `asked` is how
    /// long it wants to be left alone, if it said; at most `most` is heeded.
    async fn pause(
        &self,
        wish: &PermitRequest,
        asked: Option<Duration>,
        most: Duration,
    ) -> Result<(), QueueError>;
}
