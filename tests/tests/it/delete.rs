//! What `legwork delete` leaves: nothing.

use legwork_tests::programs::StateFolder;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::teams::Team;
use crate::teams::calls;

#[test]
fn what_is_deleted_leaves_no_key() {
    let redis = Redis::start();
    let mut state = StateFolder::on(&redis.url());
    let script = json!({
        "nested": [calls("run_background_agent", &json!({"agent": "shell", "task": "t"})), {"text": "I rest."}, {"text": "I was told."}],
        "shell": [calls("shell", &json!({"cmd": "echo x"})), {"text": "done"}],
        "quick": [{"text": "word ".repeat(50), "chunk_delay_ms": 1000}],
    });
    let team = Team::in_house(&mut state, &script);
    let mut worker = state.worker(&[]);
    let keyed = state.dispatch(&[&team.file, "nested", "go", "--key", "k"]);
    let running = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&keyed, "completed");
    state.until_status(&running, "running");

    // What has not ended is not deleted, nor is anything else of the same call.
    let said = state.legwork(["delete", &keyed, &running]);
    assert_eq!(said.status, 2, "{said:?}");
    assert!(said.err.contains("has not ended") && said.err.contains("legwork stop"), "{said:?}");
    assert_eq!(state.legwork(["list", "--json"]).objects().len(), 3);
    assert_eq!(state.legwork(["delete", &keyed[..20]]).good(), format!("{keyed} deleted\n"));
    assert_eq!(state.legwork(["view", &keyed]).status, 3);
    assert_eq!(state.legwork(["delete", &keyed]).status, 3);

    // The key is free, and its child is deleted with the rest that ended; nothing that did so just now is old.
    let again = state.dispatch(&[&team.file, "nested", "go", "--key", "k"]);
    assert_ne!(again, keyed);
    state.until_status(&again, "completed");
    state.legwork(["stop", &running]).good();
    assert_eq!(state.legwork(["delete", "--ended-before", "1h"]).good(), "0 jobs deleted\n");
    assert_eq!(
        state.legwork(["delete", "--ended-before", "0s", "--json"]).good(),
        "{\"deleted\":4,\"kept\":0}\n"
    );
    assert_eq!(state.legwork(["list", "--json"]).objects().len(), 0);
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.status(), 0);
    assert_eq!(redis.keys_that_stay(), ["legwork:default:meta"], "only the namespace itself is left");
}
