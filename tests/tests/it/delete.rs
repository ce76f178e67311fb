//! `legwork delete` leaves no keys in Redis.

use legwork_tests::programs::StateFolder;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

#[test]
fn a_deleted_job_leaves_no_key() {
    let (redis, mut state) = StateFolder::with_redis();
    let script = json!({
        "nested": [calls("run_background_agent", &json!({"agent": "shell", "task": "t"})), {"text": "Turn finished."}, {"text": "I was notified."}],
        "shell": [calls("shell", &json!({"cmd": "echo x"})), {"text": "done"}],
        "quick": [{"text": "word ".repeat(50), "chunk_delay_ms": 1000}],
    });
    let team = Team::write(&mut state, &script);
    let mut worker = state.worker(&[]);
    let keyed = state.dispatch(&[&team.file, "nested", "go", "--key", "k"]);
    let running = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&keyed, "completed");
    state.until_status(&running, "running");

    // A job that has not ended is not deleted.
    let output = state.legwork(["delete", &running]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(output.stderr.contains("has not ended") && output.stderr.contains("legwork stop"), "{output:?}");
    assert_eq!(state.legwork(["list", "--json"]).json_lines().len(), 3);
    assert_eq!(state.legwork(["delete", &keyed[..20]]).expect_success(), format!("{keyed} deleted\n"));
    assert_eq!(state.legwork(["view", &keyed]).status, 3);
    assert_eq!(state.legwork(["delete", &keyed]).status, 3);

    // The idempotency key is free again. No job that ended just now is older than an hour; with 0s, all ended jobs are
    // deleted, the child too.
    let again = state.dispatch(&[&team.file, "nested", "go", "--key", "k"]);
    assert_ne!(again, keyed);
    state.until_status(&again, "completed");
    state.legwork(["stop", &running]).expect_success();
    assert_eq!(state.legwork(["delete", "--ended-before", "1h"]).expect_success(), "0 jobs deleted\n");
    assert_eq!(
        state.legwork(["delete", "--ended-before", "0s", "--yes", "--json"]).expect_success(),
        "{\"deleted\":4,\"kept\":0}\n"
    );
    assert_eq!(state.legwork(["list", "--json"]).json_lines().len(), 0);
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.wait(), 0);
    assert_eq!(redis.persistent_keys(), ["legwork:default:meta"], "only the namespace itself is left");
}
