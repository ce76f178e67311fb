//! The memory tools on databases in temporary folders.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::environment::Confinement;
use crate::files::user::AsUser;
use crate::files::user::CommandUser;
use crate::testing;
use crate::toolset::tests::call;

async fn tools(environment: &Environment, path: Option<&str>) -> Vec<Arc<dyn Tool>> {
    open(environment, path, "0a1b2c3d").await.unwrap().tools
}

async fn add(tools: &[Arc<dyn Tool>], arguments: Value) -> String {
    let text = call(tools, "add_memory", arguments).await.text;
    text.strip_prefix("Memory added successfully with ID: ").unwrap().to_owned()
}

async fn found(tools: &[Arc<dyn Tool>], arguments: Value) -> Vec<String> {
    let text = call(tools, "search_memories", arguments).await.text;
    let all: Option<Vec<Value>> = serde_json::from_str(&text).unwrap();
    all.unwrap_or_default().iter().map(|memory| memory["memory"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_memory_outlives_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = testing::environment("/");
    let home = folder.path().display().to_string();
    environment.variables.insert("HOME".into(), home);
    let first = tools(&environment, None).await;
    assert_eq!(call(&first, "get_memories", json!({})).await, ToolOutcome::ok("null"));
    let id = add(&first, json!({"memory": "Ada likes tea", "category": "preference"})).await;
    assert!(id.len() >= 19 && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
    assert!(folder.path().join(".local/state/legwork/memory/0a1b2c3d/memory.db").is_file());
    let second = tools(&environment, None).await;
    let all: Value = serde_json::from_str(&call(&second, "get_memories", json!({})).await.text).unwrap();
    let created = all[0]["created_at"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z'), "{created}");
    let expected =
        json!([{"id": id, "created_at": created, "memory": "Ada likes tea", "category": "preference"}]);
    assert_eq!(all, expected);
    let updated = call(&second, "update_memory", json!({"id": id, "memory": "Ada likes coffee"})).await;
    assert_eq!(updated, ToolOutcome::ok(format!("Memory with ID {id} updated successfully")));
    assert_eq!(found(&first, json!({"category": "Preference"})).await, ["Ada likes coffee"]);
    let unknown = call(&second, "update_memory", json!({"id": "7", "memory": "x"})).await;
    assert_eq!(unknown, ToolOutcome::error("Memory with ID 7 not found"));
    for id in [id.as_str(), "7"] {
        let deleted = call(&second, "delete_memory", json!({"id": id})).await;
        assert_eq!(deleted, ToolOutcome::ok(format!("Memory with ID {id} deleted successfully")));
    }
    assert_eq!(call(&first, "search_memories", json!({"query": "Ada"})).await, ToolOutcome::ok("null"));
}

#[tokio::test]
async fn a_search_finds_memories_with_all_words() {
    let folder = tempfile::tempdir().unwrap();
    let environment = testing::environment(folder.path());
    let tools = tools(&environment, Some("db/m.db")).await;
    for memory in ["Bats sleep upside down", "Cats sleep on sofas", "100% of bats_fly", "back\\slash"] {
        add(&tools, json!({"memory": memory})).await;
    }
    for (query, expected) in [
        ("sleep", vec!["Bats sleep upside down", "Cats sleep on sofas"]),
        ("BATS  down", vec!["Bats sleep upside down"]),
        ("% bats_", vec!["100% of bats_fly"]),
        ("k\\s", vec!["back\\slash"]),
        ("'; DROP TABLE memories; --", vec![]),
    ] {
        assert_eq!(found(&tools, json!({"query": query})).await, expected, "{query}");
    }
    assert_eq!(found(&tools, json!({})).await.len(), 4);
}

#[tokio::test]
async fn concurrent_additions_get_distinct_ids() {
    let folder = tempfile::tempdir().unwrap();
    let tools = tools(&testing::environment(folder.path()), Some("m.db")).await;
    let adding = (0..20).map(|number| add(&tools, json!({"memory": number.to_string()})));
    let ids: std::collections::BTreeSet<String> =
        futures::future::join_all(adding).await.into_iter().collect();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn paths_stay_below_the_working_folder() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(elsewhere.path(), folder.path().join("link")).unwrap();
    let environment = testing::environment(folder.path());
    for path in ["../m.db", "a/../../m.db", "/tmp/m.db", "."] {
        let reason = open(&environment, Some(path), "t").await.unwrap_err();
        assert_eq!(reason, format!("the path {path} is not below the working folder"));
    }
    let reason = open(&environment, Some("link/m.db"), "t").await.unwrap_err();
    assert!(reason.ends_with("link/m.db leads out of the working folder"), "{reason}");
    assert!(!elsewhere.path().join("m.db").exists());
    let homeless = open(&environment, None, "t").await.unwrap_err();
    assert!(homeless.starts_with("no folder for its database"), "{homeless}");
}

#[tokio::test]
async fn a_database_without_the_category_column_is_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let old = Connection::open(folder.path().join("m.db")).unwrap();
    let text = "CREATE TABLE memories (id TEXT PRIMARY KEY, created_at TEXT, memory TEXT); \
                INSERT INTO memories VALUES ('1', '2025-01-01T00:00:00Z', 'old')";
    old.execute_batch(text).unwrap();
    let tools = tools(&testing::environment(folder.path()), Some("./m.db")).await;
    let listed = call(&tools, "get_memories", json!({})).await.text;
    assert_eq!(listed, r#"[{"id":"1","created_at":"2025-01-01T00:00:00Z","memory":"old"}]"#);
}

#[tokio::test]
async fn in_a_confined_run_no_link_leads_to_another_database() {
    let top = tempfile::tempdir().unwrap();
    let (job, other) = (top.path().join("job"), top.path().join("other"));
    for folder in [&job, &other] {
        fs::create_dir(folder).unwrap();
    }
    let others = tools(&testing::environment(&other), Some("m.db")).await;
    add(&others, json!({"memory": "not for this job"})).await;
    let mut environment = testing::environment(&job);
    environment.confinement = Some(Confinement { folder: job.clone(), readable: Vec::new(), user: None });
    let own = tools(&environment, Some("db/m.db")).await;
    let id = add(&own, json!({"memory": "tea"})).await;
    assert_eq!(found(&tools(&environment, Some("db/m.db")).await, json!({})).await, ["tea"]);
    assert!(!call(&own, "update_memory", json!({"id": id, "memory": "coffee"})).await.is_error);
    // SQLite itself reads what is stored.
    let stored = Connection::open(job.join("db/m.db")).unwrap();
    let memory: String = stored.query_row("SELECT memory FROM memories", [], |row| row.get(0)).unwrap();
    assert_eq!(memory, "coffee");

    // A command of the job puts a link there after the toolset was opened.
    fs::rename(job.join("db"), job.join("before")).unwrap();
    symlink(&other, job.join("db")).unwrap();
    for (tool, arguments) in [
        ("get_memories", json!({})),
        ("add_memory", json!({"memory": "x"})),
        ("delete_memory", json!({"id": id})),
    ] {
        let outcome = call(&own, tool, arguments).await;
        assert!(outcome.is_error, "{tool}: {}", outcome.text);
    }
    assert_eq!(found(&others, json!({})).await, ["not for this job"]);
    fs::remove_file(job.join("db")).unwrap();
    fs::rename(job.join("before"), job.join("db")).unwrap();
    assert_eq!(found(&own, json!({})).await, ["coffee"]);
}

#[tokio::test]
async fn a_database_in_a_folder_that_cannot_be_written_is_read_without_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = testing::environment(folder.path());
    add(&tools(&environment, Some("m.db")).await, json!({"memory": "tea"})).await;
    fs::remove_file(folder.path().join(".m.db.lock")).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root writes everywhere, so this is another user: first a thread of its own, as an unconfined run of that user.
        let user = CommandUser { uid: 65534, gid: 65534, groups: vec![65534] };
        let store = MemoryStore::Shared(SharedFile::of_run(&environment, "m.db").unwrap());
        let as_user = AsUser::enter(Some(&user)).unwrap();
        assert!(store.prepare(None).is_ok() && store.search("", None).unwrap().len() == 1);
        let none = MemoryStore::Shared(SharedFile::of_run(&environment, "none.db").unwrap());
        assert!(none.prepare(None).is_err());
        drop(as_user);
        let confined = folder.path().to_owned();
        environment.confinement =
            Some(Confinement { folder: confined, readable: Vec::new(), user: Some(user) });
    }
    let readers = tools(&environment, Some("m.db")).await;
    assert_eq!(found(&readers, json!({})).await, ["tea"]);
    let refused = call(&readers, "add_memory", json!({"memory": "x"})).await;
    assert!(refused.is_error && refused.text.contains("cannot be written"), "{refused:?}");
    assert!(open(&environment, Some("none.db"), "t").await.is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_and_an_unconfined_run_lose_nothing_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let open_environment = testing::environment(folder.path());
    let mut environment = open_environment.clone();
    environment.confinement =
        Some(Confinement { folder: folder.path().to_owned(), readable: Vec::new(), user: None });
    let both = [tools(&open_environment, Some("m.db")).await, tools(&environment, Some("m.db")).await];
    let adding = (0..40).map(|number| add(&both[number % 2], json!({"memory": number.to_string()})));
    futures::future::join_all(adding).await;
    for tools in &both {
        assert_eq!(found(tools, json!({})).await.len(), 40);
    }
}
