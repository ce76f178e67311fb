//! Real signals, sent by this process to itself. The only test of its program, because signals reach the whole process.

#![cfg(test)]

use std::time::Duration;

use legwork_process::shutdown::Cause;
use legwork_process::shutdown::Shutdown;
use legwork_process::shutdown::Signal;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use rustix::process;

fn signal_myself(signal: process::Signal) {
    process::kill_process(process::getpid(), signal).unwrap();
}

async fn broken() {
    panic!("a bug");
}

#[tokio::test]
async fn the_first_signal_drains_the_second_ends_and_a_failed_task_drains() {
    let tasks = Tasks::new();
    let shutdown = Shutdown::listen(&tasks).unwrap();
    assert_eq!(shutdown.cause(), None);

    signal_myself(process::Signal::TERM);
    shutdown.drain.cancelled().await;
    assert_eq!(shutdown.cause(), Some(Cause::Signal(Signal::Terminate)));
    assert!(!shutdown.now.is_cancelled());

    signal_myself(process::Signal::INT);
    shutdown.now.cancelled().await;
    assert_eq!(shutdown.cause(), Some(Cause::Signal(Signal::Terminate)), "the first cause is kept");

    assert_eq!(tasks.close_and_wait(Duration::from_secs(5)).await, []);

    let tasks = Tasks::new();
    let shutdown = Shutdown::listen(&tasks).unwrap();
    tasks.spawn(TaskKind::Renewal, broken());
    shutdown.drain.cancelled().await;
    assert_eq!(shutdown.cause(), Some(Cause::Failure(TaskKind::Renewal)));
    assert!(!shutdown.now.is_cancelled(), "a failure counts once");
    assert_eq!(tasks.close_and_wait(Duration::from_secs(5)).await, []);
}
