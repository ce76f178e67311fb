//! Plans in a folder of a test.

use std::path::Path;

use super::*;
use crate::testing;

/// The tools, with their state folder and their working folder in `folder`.
fn tools(folder: &Path) -> Vec<Arc<dyn Tool>> {
    let mut environment = testing::environment(folder);
    let state = folder.join("state").display().to_string();
    environment.variables.insert(legwork_common::variables::STATE_DIR.to_owned(), state);
    open(&Arc::new(environment)).unwrap().tools
}

async fn outcome(folder: &Path, name: &str, arguments: Value) -> ToolOutcome {
    let tools = tools(folder);
    testing::call(tools.iter().find(|tool| tool.spec().name == name).unwrap(), arguments).await
}

async fn answer(folder: &Path, name: &str, arguments: Value) -> Value {
    let outcome = outcome(folder, name, arguments).await;
    assert!(!outcome.is_error, "{outcome:?}");
    serde_json::from_str(&outcome.text).unwrap()
}

async fn refused(folder: &Path, name: &str, arguments: Value) -> String {
    let outcome = outcome(folder, name, arguments).await;
    assert!(outcome.is_error, "{outcome:?}");
    outcome.text
}

#[tokio::test]
async fn a_plan_is_written_and_read_by_other_agents() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let written =
        answer(folder, "write_plan", json!({"name": "db", "content": "one", "title": "T", "author": "a"}))
            .await;
    assert_eq!((&written["revision"], &written["title"]), (&json!(1), &json!("T")), "{written}");
    assert_eq!(written.get("content"), None, "{written}");
    let again = answer(folder, "write_plan", json!({"name": "db", "content": "two", "status": "open"})).await;
    assert_eq!((&again["revision"], &again["title"]), (&json!(2), &json!("T")), "what is left out stays");
    let read = answer(folder, "read_plan", json!({"name": "db"})).await;
    assert_eq!(
        (&read["content"], &read["author"], &read["status"]),
        (&json!("two"), &json!("a"), &json!("open"))
    );
    let listed = answer(folder, "list_plans", json!({})).await;
    assert_eq!((&listed["plans"][0]["name"], listed["plans"][0].get("content")), (&json!("db"), None));
    let status = answer(folder, "set_plan_status", json!({"name": "db", "status": "done"})).await;
    assert_eq!(status, json!({"name": "db", "status": "done", "revision": 3}));
    assert_eq!(answer(folder, "get_plan_status", json!({"name": "db"})).await, status);
    assert_eq!(
        refused(folder, "set_plan_status", json!({"name": "no", "status": "x"})).await,
        "plan not found: no"
    );
    outcome(folder, "delete_plan", json!({"name": "db"})).await;
    assert_eq!(refused(folder, "read_plan", json!({"name": "db"})).await, "plan not found: db");
    assert_eq!(refused(folder, "delete_plan", json!({"name": "db"})).await, "plan not found: db");
}

#[tokio::test]
async fn a_change_on_an_old_revision_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    answer(folder, "write_plan", json!({"name": "p", "content": "mine", "last_known_revision": 0})).await;
    answer(folder, "write_plan", json!({"name": "p", "content": "theirs", "last_known_revision": 1})).await;
    for (tool, mut arguments) in [
        ("write_plan", json!({"content": "x"})),
        ("set_plan_status", json!({"status": "x"})),
        ("delete_plan", json!({})),
    ] {
        arguments["name"] = json!("p");
        arguments["last_known_revision"] = json!(1);
        let why = refused(folder, tool, arguments).await;
        assert!(why.starts_with("version conflict on plan p: last_known_revision 1 does not match"), "{why}");
    }
    assert_eq!(answer(folder, "read_plan", json!({"name": "p"})).await["content"], "theirs");
}

#[tokio::test]
async fn a_plan_goes_through_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    answer(folder, "write_plan", json!({"name": "p", "content": "text"})).await;
    let exported = answer(folder, "export_plan_to_file", json!({"name": "p", "path": "out/p.md"})).await;
    assert_eq!((&exported["path"], &exported["bytesWritten"]), (&json!("out/p.md"), &json!(4)));
    let file = folder.join("out/p.md");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    std::fs::write(&file, "changed").unwrap();
    answer(folder, "update_plan_from_file", json!({"name": "p", "path": "out/p.md"})).await;
    assert_eq!(answer(folder, "read_plan", json!({"name": "p"})).await["content"], "changed");
    // A file that is hidden from the file tools is hidden from these too.
    std::fs::write(folder.join(".agentsignore"), "out/\n").unwrap();
    let why = refused(folder, "update_plan_from_file", json!({"name": "p", "path": "out/p.md"})).await;
    assert_eq!(why, "out/p.md cannot be reached: .agentsignore hides it");
}

#[tokio::test]
async fn an_argument_of_another_action_is_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    answer(folder, "write_plan", json!({"name": "p", "content": "text"})).await;
    std::fs::write(folder.join("secret"), "secret").unwrap();
    for (tool, arguments, field) in [
        ("write_plan", json!({"content": "x", "path": "secret"}), "path"),
        ("set_plan_status", json!({"status": "done", "path": "secret"}), "path"),
        ("set_plan_status", json!({"status": "done", "content": "x"}), "content"),
        ("update_plan_from_file", json!({"path": "secret", "content": "x"}), "content"),
        ("delete_plan", json!({"status": "x"}), "status"),
        ("read_plan", json!({"path": "secret"}), "path"),
        ("get_plan_status", json!({"title": "x"}), "title"),
    ] {
        let mut arguments = arguments;
        arguments["name"] = json!("p");
        let why = refused(folder, tool, arguments).await;
        assert_eq!(why, format!("invalid arguments for {tool}: unknown field `{field}`"));
    }
    let missing = refused(folder, "update_plan_from_file", json!({"name": "p"})).await;
    assert_eq!(missing, "invalid arguments for update_plan_from_file: missing field `path`");
    let read = answer(folder, "read_plan", json!({"name": "p"})).await;
    assert_eq!((&read["content"], &read["revision"]), (&json!("text"), &json!(1)));
}

#[tokio::test]
async fn names_stay_in_the_folder_and_a_broken_plan_is_reported_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["", "../x", "A", "-a", "a/b", "a.b", &"x".repeat(129)] {
        let why = refused(folder, "write_plan", json!({"name": name, "content": "x"})).await;
        assert!(why.starts_with("the name of a plan must be"), "{name}: {why}");
    }
    answer(folder, "write_plan", json!({"name": "good", "content": "x"})).await;
    std::fs::write(folder.join("state/plans/broken.json"), "{").unwrap();
    let listed = answer(folder, "list_plans", json!({})).await;
    assert_eq!(listed["plans"].as_array().unwrap().len(), 1, "{listed}");
    assert!(
        listed["warnings"][0].as_str().unwrap().starts_with("the plan broken cannot be read"),
        "{listed}"
    );
    assert!(!outcome(folder, "delete_plan", json!({"name": "broken"})).await.is_error);
}

#[tokio::test]
async fn writes_at_the_same_time_are_all_counted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let writes = (0..8).map(|_| answer(folder, "write_plan", json!({"name": "p", "content": "x"})));
    futures::future::join_all(writes).await;
    assert_eq!(answer(folder, "get_plan_status", json!({"name": "p"})).await["revision"], 8);
}
