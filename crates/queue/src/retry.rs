//! Retries of a service call while Redis cannot be reached.

use std::error::Error;
use std::time::Duration;

use legwork_common::service::ServiceError;
use tokio::time::Instant;

use crate::error::QueueError;

/// The delay between two tries. A try itself backs off for up to three seconds; this only keeps a caller whose tries
/// fail at once from spinning.
const RETRY_DELAY: Duration = Duration::from_millis(500);

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
            Err(ServiceError::Unavailable(error))
                if is_transient(error.as_ref())
                    && deadline.is_none_or(|deadline| Instant::now() < deadline) =>
            {
                tracing::warn!(%error, "queue is unavailable; retrying");
            }
            answer => return answer,
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
}
