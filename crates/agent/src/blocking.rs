//! Threads for work that may block: what tools do with files.
//!
//! A call to a file system that hangs, as on a network that is gone, cannot be ended: its thread is lost until the system
//! answers, whatever becomes of the job. So a run gets a few threads, and all runs of the program together half of those that
//! there are: the rest of the worker needs threads too, and the jobs next to this one theirs.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use legwork_common::duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::tool::ToolOutcome;

/// How long the blocking part of a tool call may take: a search of a very large folder takes minutes. Longer than this
/// means that the file system hangs.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a call waits for a thread of the program. Calls take milliseconds, so that all threads are in use for as long
/// only where the file system hangs.
const THREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Threads of one run: more calls at once do not make a disk faster.
const MAX_OF_RUN: usize = 16;
/// Threads of all runs of the program: half of the 512 that the runtime has for blocking work.
const MAX_OF_PROGRAM: usize = 256;

/// The threads of the program that are free.
static OF_PROGRAM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_OF_PROGRAM)));

/// The threads of one run. All clones are one.
#[derive(Debug, Clone)]
pub struct BlockingThreads {
    of_run: Arc<Semaphore>,
    of_program: Arc<Semaphore>,
    timeout: Duration,
    thread_timeout: Duration,
}

impl Default for BlockingThreads {
    fn default() -> Self {
        Self {
            of_run: Arc::new(Semaphore::new(MAX_OF_RUN)),
            of_program: Arc::clone(&OF_PROGRAM),
            timeout: TIMEOUT,
            thread_timeout: THREAD_TIMEOUT,
        }
    }
}

impl BlockingThreads {
    /// Runs the blocking part of a tool call on a thread of its own, for ten minutes at most, the wait for a thread included.
    /// A panic there becomes an error outcome of this one call. Dropping the future does not stop the thread, which counts
    /// until it ends.
    ///
    /// # Errors
    ///
    /// That of `work`; or the outcome for the model where there is no thread, or no answer in time.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ToolOutcome> + Send + 'static,
    ) -> Result<T, ToolOutcome> {
        let deadline = Instant::now() + self.timeout;
        let permits = self.permits(deadline).await?;
        let counted = move || {
            let done = work();
            drop(permits);
            done
        };
        let done = async {
            spawn_blocking(counted).await.unwrap_or_else(|error| {
                Err(ToolOutcome::error(format!("the tool failed unexpectedly: {error}")))
            })
        };
        timeout_at(deadline, done).await.unwrap_or_else(|_| {
            Err(ToolOutcome::error(format!(
                "the file system did not respond within {}; whether the call has an effect is unknown",
                duration::setting(self.timeout)
            )))
        })
    }

    /// The run's thread first: a run whose threads all hang takes none of the program's.
    async fn permits(&self, deadline: Instant) -> Result<[OwnedSemaphorePermit; 2], ToolOutcome> {
        let closed = |_| ToolOutcome::error("the program ends");
        let of_run = timeout_at(deadline, Arc::clone(&self.of_run).acquire_owned());
        let of_run = of_run.await.map_err(|_| all_hang(MAX_OF_RUN, "job"))?.map_err(closed)?;
        let deadline = deadline.min(Instant::now() + self.thread_timeout);
        let of_program = timeout_at(deadline, Arc::clone(&self.of_program).acquire_owned());
        let of_program = of_program.await.map_err(|_| {
            let refused = all_hang(MAX_OF_PROGRAM, "worker");
            tracing::warn!("{}", refused.text);
            refused
        })?;
        Ok([of_run, of_program.map_err(closed)?])
    }
}

fn all_hang(threads: usize, whose: &str) -> ToolOutcome {
    ToolOutcome::error(format!(
        "the call was not made: all {threads} threads of this {whose} for files wait for a file system that does not respond"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;

    fn threads(of_run: usize, of_program: &Arc<Semaphore>) -> BlockingThreads {
        BlockingThreads {
            of_run: Arc::new(Semaphore::new(of_run)),
            of_program: Arc::clone(of_program),
            timeout: Duration::from_millis(200),
            thread_timeout: Duration::from_millis(50),
        }
    }

    /// Work that hangs until the other end of the channel is dropped.
    fn hang() -> (mpsc::Sender<()>, impl FnOnce() -> Result<(), ToolOutcome> + Send) {
        let (hangs, until) = mpsc::channel::<()>();
        (hangs, move || {
            until.recv().ok();
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_run_whose_calls_hang_leaves_threads_to_others_until_all_are_lost() {
        let of_program = Arc::new(Semaphore::new(3));
        let (hostile, other) = (threads(2, &of_program), threads(2, &of_program));
        let (mut ends, mut works) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (end, work) = hang();
            ends.push(end);
            works.push(work);
        }
        // The third of them gets no thread.
        for (work, expected) in works.into_iter().zip([
            "the file system did not respond within 200ms",
            "the file system did not respond within 200ms",
            "the call was not made: all 16 threads of this job",
        ]) {
            let outcome = hostile.run(work).await.unwrap_err();
            assert!(outcome.text.starts_with(expected), "{outcome:?}");
        }
        assert_eq!(of_program.available_permits(), 1);
        assert_eq!(other.run(|| Ok(7)).await, Ok(7));
        let (end, work) = hang();
        ends.push(end);
        other.run(work).await.unwrap_err();
        let refused = other.run(|| Ok(7)).await.unwrap_err();
        assert!(refused.text.contains("all 256 threads of this worker"), "{refused:?}");
        // Once the system answers, the threads are there again.
        ends.clear();
        let back = async {
            while of_program.available_permits() < 3 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), back).await.unwrap();
        assert_eq!(hostile.run(|| Ok(8)).await, Ok(8));
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_counts_until_its_thread_ends() {
        let of_program = Arc::new(Semaphore::new(1));
        let threads = threads(1, &of_program);
        let (end, work) = hang();
        // As a job that is stopped drops its calls.
        assert!(timeout(Duration::from_millis(20), threads.run(work)).await.is_err());
        assert_eq!(of_program.available_permits(), 0);
        drop(end);
        assert_eq!(threads.run(|| Ok(1)).await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_is_the_outcome_of_its_call() {
        let threads = BlockingThreads::default();
        let outcome = threads.run::<()>(|| panic!("oops")).await.unwrap_err();
        assert!(outcome.text.starts_with("the tool failed unexpectedly"), "{outcome:?}");
        assert_eq!(threads.of_run.available_permits(), MAX_OF_RUN);
    }
}
