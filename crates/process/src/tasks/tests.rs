//! Policies seen from outside: who is waited for, who is dropped, whose failure drains the program.

use std::future::pending;
use std::io;

use tokio::sync::oneshot;

use super::*;

const GRACE: Duration = Duration::from_secs(30);

async fn broken() {
    panic!("a bug");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_may_be_dropped_is_dropped_when_the_program_closes() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Hints, pending::<()>());
    assert_eq!(tasks.live(TaskKind::Hints), 1);
    let before = tokio::time::Instant::now();
    assert_eq!(tasks.close_and_wait(GRACE).await, []);
    assert_eq!(before.elapsed(), Duration::ZERO, "it waited for a task that may be dropped");
    assert_eq!(tasks.live(TaskKind::Hints), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_must_be_awaited_finishes_its_work_after_the_token() {
    let tasks = Tasks::new();
    let closing = tasks.closing();
    let (done, flushed) = oneshot::channel();
    tasks.spawn(TaskKind::Output, async move {
        closing.cancelled().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        done.send(()).unwrap();
    });
    assert_eq!(tasks.close_and_wait(GRACE).await, []);
    flushed.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_names_the_kinds_that_did_not_end_in_time_once_each() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Panel, pending::<()>());
    tasks.spawn(TaskKind::Attempt, pending::<()>());
    tasks.spawn(TaskKind::Attempt, pending::<()>());
    tasks.spawn(TaskKind::Claims, async {});
    let before = tokio::time::Instant::now();
    assert_eq!(tasks.close_and_wait(GRACE).await, [TaskKind::Attempt, TaskKind::Panel]);
    assert_eq!(before.elapsed(), GRACE);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_of_a_kind_that_matters_is_told() {
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
async fn a_good_end_is_no_failure() {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Guard, async { Ok::<(), io::Error>(()) }).await.unwrap();
    assert_eq!(tasks.failed().now_or_never(), None);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_one_task_does_not_close_the_program() {
    let tasks = Tasks::new();
    tasks.closing().cancel();
    assert!(!tasks.closing().is_cancelled());
}

#[test]
fn panic_messages_are_kept() {
    assert_eq!(panic_message(&"static"), "static");
    assert_eq!(panic_message(&"owned".to_owned()), "owned");
    assert_eq!(panic_message(&7_u8), "no message");
}
