//! Asking on while Redis cannot be reached.

use std::error::Error;
use std::time::Duration;

use legwork_common::service::ServiceError;
use tokio::time::Instant;

use crate::error::QueueError;

/// How long to leave Redis alone between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks until there is an answer or an error that no repeat cures, or until `deadline`; then the last error counts.
///
/// What is asked must be something that may be repeated. Dropping the future leaves it asked or not asked.
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
                if passes(error.as_ref()) && deadline.is_none_or(|deadline| Instant::now() < deadline) =>
            {
                tracing::warn!(%error, "could not ask the queue, asking again");
            }
            answer => return answer,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a later repeat may succeed.
fn passes(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref().is_some_and(QueueError::is_transient)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn away() -> ServiceError {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        QueueError::from_redis("read", error.into()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn asks_on_until_there_is_an_answer() {
        let tries = Cell::new(0);
        let ask = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 4 { Err(away()) } else { Ok(7) }
        };
        assert_eq!(retry_while_unavailable(None, ask).await.unwrap(), 7);
        assert_eq!(tries.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline_and_at_what_no_repeat_cures() {
        let began = Instant::now();
        let ask = || async { Err::<(), _>(away()) };
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
