//! Waiting for a deadline that may not exist.

use tokio::time::Instant;

/// Waits for the deadline; forever where there is none. For `select!`, where the other branches bound the wait.
pub(crate) async fn reached(deadline: Option<Instant>) {
    match deadline {
        // Boxed, because most attempts have none.
        Some(deadline) => Box::pin(tokio::time::sleep_until(deadline)).await,
        None => std::future::pending().await,
    }
}
