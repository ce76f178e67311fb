//! Policies as seen from outside: which tasks are awaited or dropped, and whose failure drains the program.

use std::future::pending;
use std::io;

use tokio::sync::oneshot;

use super::*;

const GRACE_PERIOD: Duration = Duration::from_secs(30);

async fn broken() {
    panic!("a bug");
}

#[tokio::test(start_paused = true)]
async fn a_task_with_the_abort_policy_is_dropped_when_the_program_closes() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Hints, pending::<()>());
    assert_eq!(tasks.live(TaskKind::Hints), 1);
    let before = tokio::time::Instant::now();
    assert_eq!(tasks.close_and_wait(GRACE_PERIOD).await, []);
    assert_eq!(before.elapsed(), Duration::ZERO, "it waited for a task with the abort policy");
    assert_eq!(tasks.live(TaskKind::Hints), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_with_the_wait_policy_finishes_after_the_token() {
    let tasks = Tasks::new();
    let closing = tasks.closing();
    let (done, flushed) = oneshot::channel();
    tasks.spawn(TaskKind::Output, async move {
        closing.cancelled().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        done.send(()).unwrap();
    });
    assert_eq!(tasks.close_and_wait(GRACE_PERIOD).await, []);
    flushed.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_returns_each_kind_that_did_not_end_in_time_once() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Panel, pending::<()>());
    tasks.spawn(TaskKind::Attempt, pending::<()>());
    tasks.spawn(TaskKind::Attempt, pending::<()>());
    tasks.spawn(TaskKind::Claims, async {});
    let before = tokio::time::Instant::now();
    assert_eq!(tasks.close_and_wait(GRACE_PERIOD).await, [TaskKind::Attempt, TaskKind::Panel]);
    assert_eq!(before.elapsed(), GRACE_PERIOD);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_that_shuts_down_is_returned() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Renewal, async { Err::<(), _>(io::Error::other("no answer")) });
    assert_eq!(tasks.failed().await, TaskKind::Renewal);
    tasks.spawn(TaskKind::Output, async { Err::<(), _>(io::Error::other("later")) }).await.unwrap();
    assert_eq!(tasks.failed().await, TaskKind::Renewal);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_ends_only_its_task() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Attempt, broken()).await.unwrap();
    assert_eq!(tasks.failed().now_or_never(), None, "one job's panic must not drain the program");
    tasks.spawn(TaskKind::Claims, broken()).await.unwrap();
    assert_eq!(tasks.failed().now_or_never(), Some(TaskKind::Claims));
    assert_eq!(tasks.live(TaskKind::Attempt), 0);
}

#[tokio::test(start_paused = true)]
async fn a_successful_end_is_not_a_failure() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Guard, async { Ok::<(), io::Error>(()) }).await.unwrap();
    assert_eq!(tasks.failed().now_or_never(), None);
}

#[tokio::test(start_paused = true)]
async fn cancelling_one_tasks_token_does_not_close_the_program() {
    let tasks = Tasks::new();
    tasks.closing().cancel();
    assert!(!tasks.closing().is_cancelled());
}

#[test]
fn panic_messages_are_extracted() {
    assert_eq!(panic_message(&"static"), "static");
    assert_eq!(panic_message(&"owned".to_owned()), "owned");
    assert_eq!(panic_message(&7_u8), "no message");
}
