//! The task tools: what blocks a task, and the file of the list.

use std::fs;
use std::os::unix::fs::symlink;

use futures::future::join_all;
use serde_json::json;

use super::*;
use crate::toolset::tests;

fn tools(folder: &Path) -> Vec<Arc<dyn Tool>> {
    open(folder, None).unwrap().tools
}

/// Calls a tool that must succeed.
async fn call(tools: &[Arc<dyn Tool>], name: &str, arguments: Value) -> Value {
    let outcome = tests::call(tools, name, arguments).await;
    assert!(!outcome.is_error, "{outcome:?}");
    serde_json::from_str(&outcome.text).unwrap()
}

/// Calls a tool that must fail, and returns the error text.
async fn refused(tools: &[Arc<dyn Tool>], name: &str, arguments: Value) -> String {
    let outcome = tests::call(tools, name, arguments).await;
    assert!(outcome.is_error, "{outcome:?}");
    outcome.text
}

/// Creates three tasks, of which the third depends on the first.
async fn create_three(tools: &[Arc<dyn Tool>]) {
    call(tools, "create_task", json!({"title": "dig", "description": "a hole"})).await;
    call(tools, "create_task", json!({"title": "sweep", "priority": "low"})).await;
    let plant = json!({"title": "plant", "priority": "critical", "dependencies": ["task_1", "task_1"]});
    let created = call(tools, "create_task", plant).await;
    let expected = json!({"id": "task_3", "title": "plant", "description": "", "status": "blocked",
        "priority": "critical", "dependencies": ["task_1"], "blocked_by": ["task_1"]});
    assert_eq!(created, json!({"created": expected}));
}

#[tokio::test]
async fn tasks_outlive_the_run_and_block_each_other() {
    let folder = tempfile::tempdir().unwrap();
    create_three(&tools(folder.path())).await;
    let tools = tools(folder.path());
    let next = call(&tools, "next_task", json!({})).await;
    assert_eq!((&next["task"]["id"], &next["open"]), (&json!("task_1"), &json!(3)));
    let early = refused(&tools, "update_task", json!({"id": "task_3", "status": "in-progress"})).await;
    assert_eq!(early, "task_3 is blocked by task_1: complete those first");
    let done = call(&tools, "update_task", json!({"id": "task_1", "status": "completed"})).await;
    assert_eq!((&done["updated"]["status"], &done["unblocked"]), (&json!("completed"), &json!(["task_3"])));
    assert_eq!(call(&tools, "next_task", json!({})).await["task"]["title"], "plant");
    let one = call(&tools, "get_task", json!({"id": "task_1"})).await;
    assert_eq!(one["task"]["description"], "a hole");
    let pending = call(&tools, "list_tasks", json!({"status": "pending", "priority": "low"})).await;
    let sweep =
        json!({"id": "task_2", "title": "sweep", "status": "pending", "priority": "low", "dependencies": []});
    assert_eq!(pending, json!({"tasks": [sweep]}));
}

#[tokio::test]
async fn circular_dependencies_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tools = tools(folder.path());
    create_three(&tools).await;
    call(&tools, "add_dependency", json!({"id": "task_2", "depends_on": "task_3"})).await;
    for on in ["task_1", "task_2", "task_3"] {
        let circle = refused(&tools, "add_dependency", json!({"id": "task_1", "depends_on": on})).await;
        assert_eq!(circle, format!("task_1 cannot depend on {on}: {on} depends on task_1"));
    }
    let unknown = refused(&tools, "add_dependency", json!({"id": "task_1", "depends_on": "x"})).await;
    assert_eq!(unknown, "unknown task: x");
    let freed = call(&tools, "remove_dependency", json!({"id": "task_2", "depends_on": "task_3"})).await;
    assert_eq!(freed["updated"]["status"], "pending");
}

#[tokio::test]
async fn ids_of_deleted_tasks_are_not_reused() {
    let folder = tempfile::tempdir().unwrap();
    let tools = tools(folder.path());
    create_three(&tools).await;
    let deleted = call(&tools, "delete_task", json!({"id": "task_1"})).await;
    assert_eq!(deleted, json!({"deleted": "task_1", "unblocked": ["task_3"]}));
    assert_eq!(refused(&tools, "delete_task", json!({"id": "task_1"})).await, "unknown task: task_1");
    call(&tools, "delete_task", json!({"id": "task_3"})).await;
    let created = call(&tools, "create_task", json!({"title": "rest"})).await;
    assert_eq!(created["created"]["id"], "task_4");
    assert_eq!(refused(&tools, "create_task", json!({"title": " "})).await, "a task needs a title");
}

#[tokio::test]
async fn an_invalid_file_is_an_error_and_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tools) = (folder.path().join("tasks.json"), tools(folder.path()));
    let task = r#"{"id": "a", "title": "t", "status": "pending"}"#;
    for text in ["", "{\"tasks\": [", "[1]", &format!("{{\"tasks\": [{task}, {task}]}}")] {
        fs::write(&file, text).unwrap();
        for (name, arguments) in [("create_task", json!({"title": "x"})), ("list_tasks", json!({}))] {
            let error = refused(&tools, name, arguments).await;
            assert!(error.contains("does not contain a task list and was not changed"), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[tokio::test]
async fn fields_and_links_of_other_programs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (real, tools) = (folder.path().join("real.json"), tools(folder.path()));
    let text = r#"{"v": 1, "tasks": [{"id": "task_7", "title": "t", "status": "blocked", "owner": "Ada"}]}"#;
    fs::write(&real, text).unwrap();
    symlink("real.json", folder.path().join("tasks.json")).unwrap();
    let created = call(&tools, "create_task", json!({"title": "x"})).await;
    assert_eq!(created["created"]["id"], "task_8");
    let written: Value = serde_json::from_slice(&fs::read(&real).unwrap()).unwrap();
    assert_eq!((&written["v"], &written["tasks"][0]["owner"]), (&json!(1), &json!("Ada")));
    assert!(folder.path().join("tasks.json").is_symlink());
    assert!(!folder.path().join(".tasks.json.new").exists());
}

#[tokio::test]
async fn concurrent_changes_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let kits = [(); 4].map(|()| tools(folder.path()));
    let adding = (0..20).map(|at| call(&kits[at % 4], "create_task", json!({"title": at.to_string()})));
    join_all(adding).await;
    let all = call(&kits[0], "list_tasks", json!({})).await;
    assert_eq!(all["tasks"].as_array().unwrap().len(), 20);
    assert_eq!(all["tasks"][19]["id"], "task_20");
}

#[tokio::test]
async fn the_file_stays_below_the_working_folder() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for path in ["../t.json", "/tmp/t.json", "."] {
        let reason = open(folder.path(), Some(path)).unwrap_err();
        assert_eq!(reason, format!("the path {path} is not below the working folder"));
    }
    symlink(elsewhere.path(), folder.path().join("link")).unwrap();
    for path in ["link/t.json", "link/more/t.json"] {
        let tools = open(folder.path(), Some(path)).unwrap().tools;
        let error = refused(&tools, "create_task", json!({"title": "x"})).await;
        assert!(error.ends_with(&format!("{path} leads out of the working folder")), "{error}");
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    let below = open(folder.path(), Some("a/b/t.json")).unwrap().tools;
    assert_eq!(call(&below, "list_tasks", json!({})).await, json!({"tasks": []}));
    call(&below, "create_task", json!({"title": "x"})).await;
    assert!(folder.path().join("a/b/t.json").is_file());
}

#[test]
fn only_tools_that_change_nothing_are_read_only() {
    let read_only = |(_, spec): (Action, ToolSpec)| spec.read_only.then_some(spec.name);
    let names: Vec<String> = specs().into_iter().filter_map(read_only).collect();
    assert_eq!(names, ["get_task", "list_tasks", "next_task"]);
}
