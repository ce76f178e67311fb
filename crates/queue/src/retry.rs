//! Retries of a call while Redis cannot be reached.

use std::error::Error;
use std::time::Duration;

use legwork_common::service::ServiceError;
use tokio::time::Instant;

use crate::error::QueueError;
use crate::operator::FindError;
use crate::operator::ViewError;

/// The delay between two tries. A try itself backs off for up to three seconds; this only keeps a caller whose tries
/// fail at once from spinning.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A try that took longer than this was answered in between: a step that gets no answer fails within six seconds, and a
/// try makes several steps.
const MAX_UNANSWERED_TRY: Duration = Duration::from_secs(10);

/// An error of a call that may be repeated.
pub trait Retryable {
    /// Whether Redis could not be reached, or cannot serve the call now, so that a later repeat may succeed.
    fn is_transient(&self) -> bool;
}

impl Retryable for QueueError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

impl Retryable for ServiceError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(error) => is_transient(error.as_ref()),
            _ => false,
        }
    }
}

impl Retryable for FindError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Queue(error) if error.is_transient())
    }
}

impl Retryable for ViewError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Queue(error) if error.is_transient())
    }
}

/// Repeats a call until it is answered or fails with an error that no repeat cures. After `deadline` no further try
/// begins and the last error is returned; without one it tries forever.
///
/// The call must be repeatable, as every step of the queue is. Dropping the future leaves it done or not done.
///
/// # Errors
///
/// [`ServiceError`] of the last try.
pub async fn retry_while_unavailable<T, F>(
    deadline: Option<Instant>,
    ask: impl Fn() -> F,
) -> Result<T, ServiceError>
where
    F: Future<Output = Result<T, ServiceError>>,
{
    loop {
        match ask().await {
            Err(error)
                if error.is_transient() && deadline.is_none_or(|deadline| Instant::now() < deadline) =>
            {
                tracing::warn!(%error, "queue is unavailable; retrying");
            }
            answer => return answer,
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Repeats a call through outages that are shorter than `limit` each, counted from the first try that failed. At each
/// outage's first failure, calls `on_outage` and asks how long this one may last.
///
/// The call must be repeatable, and may take long: one that waits for a job survives several outages.
///
/// # Errors
///
/// The error of the last try of an outage that was too long, or one that no repeat cures.
pub async fn ride_out<T, E, F>(
    limit: impl Fn() -> Duration,
    on_outage: impl Fn(),
    ask: impl Fn() -> F,
) -> Result<T, E>
where
    E: Retryable,
    F: Future<Output = Result<T, E>>,
{
    let mut until: Option<Instant> = None;
    loop {
        let began = Instant::now();
        let error = match ask().await {
            Err(error) if error.is_transient() => error,
            answer => return answer,
        };
        if began.elapsed() > MAX_UNANSWERED_TRY {
            until = None;
        }
        let end = *until.get_or_insert_with(|| {
            on_outage();
            Instant::now() + limit()
        });
        if Instant::now() >= end {
            return Err(error);
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Whether a later repeat may succeed.
fn is_transient(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref().is_some_and(QueueError::is_transient)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn unreachable() -> ServiceError {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        QueueError::from_redis("read", error.into()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn retries_until_answered() {
        let tries = Cell::new(0);
        let ask = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 4 { Err(unreachable()) } else { Ok(7) }
        };
        assert_eq!(retry_while_unavailable(None, ask).await.unwrap(), 7);
        assert_eq!(tries.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline_and_at_a_permanent_error() {
        let began = Instant::now();
        let ask = || async { Err::<(), _>(unreachable()) };
        let deadline = began + Duration::from_secs(2);
        assert!(matches!(
            retry_while_unavailable(Some(deadline), ask).await,
            Err(ServiceError::Unavailable(_))
        ));
        assert!(Instant::now() >= deadline);
        let refused = retry_while_unavailable(None, || async { Err::<(), _>(ServiceError::Stopping) }).await;
        assert!(matches!(refused, Err(ServiceError::Stopping)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_announced_once_and_ridden_out_up_to_its_limit() {
        let limit = Duration::from_secs(60);
        let (tries, announced) = (Cell::new(0), Cell::new(0));
        let announce = || announced.set(announced.get() + 1);
        // The third and the fifth try wait for long before Redis goes away again.
        let ask = || async {
            tries.set(tries.get() + 1);
            match tries.get() {
                3 | 5 => {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                    Err(unreachable())
                }
                8.. => Ok(()),
                _ => Err(unreachable()),
            }
        };
        ride_out(|| limit, announce, ask).await.unwrap();
        assert_eq!((tries.get(), announced.get()), (8, 3));

        let began = Instant::now();
        let refused = ride_out(|| limit, || {}, || async { Err::<(), _>(unreachable()) }).await;
        assert!(matches!(refused, Err(ServiceError::Unavailable(_))));
        assert!(began.elapsed() >= limit && began.elapsed() < limit * 2, "{:?}", began.elapsed());
    }
}
