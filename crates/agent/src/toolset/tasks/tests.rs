//! The task tools: what blocks a task, and the file of the list.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::environment::Confinement;
use crate::testing;
use crate::toolset::tests;

fn open(folder: &Path, path: Option<&str>) -> Result<Kit, String> {
    super::open(&Arc::new(testing::environment(folder)), path)
}

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

/// The id of a task that a tool returned.
fn id(task: &Value) -> String {
    task["id"].as_str().unwrap().to_owned()
}

/// Creates three tasks, of which the third depends on the first. Returns their ids.
async fn create_three(tools: &[Arc<dyn Tool>]) -> [String; 3] {
    let dig = call(tools, "create_task", json!({"title": "dig", "description": "a hole"})).await;
    let sweep = call(tools, "create_task", json!({"title": "sweep", "priority": "low"})).await;
    let plant = json!({"title": "plant", "priority": "critical", "dependencies": [id(&dig), id(&dig)]});
    let plant = call(tools, "create_task", plant).await;
    assert_eq!(plant["dependencies"], json!([id(&dig)]));
    [dig, sweep, plant].map(|task| id(&task))
}

#[tokio::test]
async fn tasks_outlive_the_run_and_block_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let [dig, sweep, plant] = create_three(&tools(folder.path())).await;
    let tools = tools(folder.path());
    let blocked = call(&tools, "get_task", json!({"id": plant})).await;
    assert_eq!((&blocked["status"], &blocked["effectiveStatus"]), (&json!("pending"), &json!("blocked")));
    assert_eq!(call(&tools, "next_task", json!({})).await["id"], json!(dig));
    let begun = call(&tools, "update_task", json!({"id": dig, "status": "in_progress"})).await;
    assert_eq!((&begun["status"], begun.get("effectiveStatus")), (&json!("in_progress"), None));
    assert_eq!(call(&tools, "next_task", json!({})).await["id"], json!(dig));
    call(&tools, "update_task", json!({"id": dig, "status": "done"})).await;
    assert_eq!(call(&tools, "next_task", json!({})).await["title"], "plant");
    let titles = async |filter: Value| {
        let listed = call(&tools, "list_tasks", filter).await;
        let titles: Vec<String> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["title"].as_str().unwrap().to_owned())
            .collect();
        titles.join(" ")
    };
    assert_eq!(titles(json!({})).await, "plant dig sweep");
    assert_eq!(titles(json!({"status": "pending", "priority": "low"})).await, "sweep");
    call(&tools, "update_task", json!({"id": plant, "status": "blocked"})).await;
    assert_eq!(titles(json!({})).await, "dig sweep plant", "blocked tasks are last");
    call(&tools, "update_task", json!({"id": sweep, "status": "done", "title": "", "description": "gone"}))
        .await;
    let none = tests::call(&tools, "next_task", json!({})).await;
    assert_eq!(none, ToolOutcome::ok("No actionable tasks. Everything is either done or blocked."));
    assert_eq!(titles(json!({"status": "done"})).await, "dig sweep");
}

#[tokio::test]
async fn a_list_of_docker_agent_is_read_and_written_in_its_form() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tools) = (folder.path().join("tasks.json"), tools(folder.path()));
    let old = json!({"id": "6e4b", "title": "old", "description": "d", "priority": "high", "status": "in_progress",
        "dependencies": [], "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"});
    fs::write(&file, json!({"tasks": {"6e4b": old}}).to_string()).unwrap();
    let mut shown = old.clone();
    shown["effectiveStatus"] = json!("in_progress");
    assert_eq!(call(&tools, "list_tasks", json!({})).await, json!([shown]));
    let created = call(&tools, "create_task", json!({"title": "new", "dependencies": ["6e4b"]})).await;
    let new = id(&created);
    assert_eq!(Uuid::parse_str(&new).unwrap().get_version_num(), 4);
    let at = created["createdAt"].as_str().unwrap();
    assert!(at.len() == "2026-01-01T00:00:00Z".len() && at.ends_with('Z'), "{at}");
    let expected = json!({"id": new, "title": "new", "description": "", "priority": "medium", "status": "pending",
        "dependencies": ["6e4b"], "createdAt": at, "updatedAt": at});
    assert_eq!(created, expected);
    let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(written, json!({"tasks": {"6e4b": old, new: expected}}));
    for empty in ["{}", "{\"tasks\": null}", "{\"tasks\": {}}"] {
        fs::write(&file, empty).unwrap();
        assert_eq!(call(&tools, "list_tasks", json!({})).await, json!([]), "{empty}");
    }
}

#[tokio::test]
async fn a_list_of_the_first_form_is_read_and_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tools) = (folder.path().join("tasks.json"), tools(folder.path()));
    let task = |id: &str, status: &str| json!({"id": id, "title": id, "status": status, "owner": "Ada"});
    let first = json!({"last_id": 12, "v": 1, "tasks": [task("task_10", "in-progress"),
        task("task_2", "completed"), task("task_12", "blocked"), task("task_1", "pending")]});
    fs::write(&file, first.to_string()).unwrap();
    let listed = call(&tools, "list_tasks", json!({})).await;
    let shown = listed.as_array().unwrap().iter().map(|task| format!("{} {}", id(task), task["status"]));
    let expected = "task_10 \"in_progress\", task_2 \"done\", task_1 \"pending\", task_12 \"blocked\"";
    assert_eq!(shown.collect::<Vec<_>>().join(", "), expected);
    call(&tools, "update_task", json!({"id": "task_1", "status": "done"})).await;
    let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&written["v"], written.get("last_id")), (&json!(1), None));
    assert_eq!(
        (&written["tasks"]["task_2"]["status"], &written["tasks"]["task_2"]["owner"]),
        (&json!("done"), &json!("Ada"))
    );
}

#[tokio::test]
async fn dependencies_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let tools = tools(folder.path());
    let [dig, sweep, plant] = create_three(&tools).await;
    let on = |task: &str, on: &str| json!({"taskId": task, "dependsOnId": on});
    call(&tools, "add_dependency", on(&sweep, &plant)).await;
    for target in [&dig, &sweep, &plant] {
        let circle = refused(&tools, "add_dependency", on(&dig, target)).await;
        assert_eq!(circle, "adding this dependency would create a cycle");
        let circle = refused(&tools, "update_task", json!({"id": dig, "dependencies": [target]})).await;
        assert_eq!(circle, "adding these dependencies would create a cycle");
    }
    assert_eq!(refused(&tools, "add_dependency", on(&sweep, &plant)).await, "dependency already exists");
    assert_eq!(refused(&tools, "add_dependency", on(&dig, "x")).await, "dependency task not found: x");
    assert_eq!(refused(&tools, "add_dependency", on("x", &dig)).await, "task not found: x");
    let created = refused(&tools, "create_task", json!({"title": "t", "dependencies": ["x"]})).await;
    assert_eq!(created, "dependency task not found: x");
    assert_eq!(call(&tools, "remove_dependency", on(&sweep, &plant)).await["dependencies"], json!([]));
    let moved = call(&tools, "update_task", json!({"id": sweep, "dependencies": [dig]})).await;
    assert_eq!(moved["dependencies"], json!([dig]));
    assert_eq!(call(&tools, "delete_task", json!({"id": dig})).await, json!({"deleted": dig}));
    assert_eq!(refused(&tools, "delete_task", json!({"id": dig})).await, format!("task not found: {dig}"));
    assert_eq!(call(&tools, "get_task", json!({"id": sweep})).await["dependencies"], json!([]));
    assert_eq!(refused(&tools, "create_task", json!({"title": " "})).await, "a task needs a title");
    let unknown = refused(&tools, "update_task", json!({"id": sweep, "status": "lost"})).await;
    assert!(unknown.starts_with("invalid arguments for update_task: unknown variant `lost`"), "{unknown}");
}

#[tokio::test]
async fn a_description_may_come_from_a_file_next_to_the_list() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("docs")).unwrap();
    fs::write(folder.path().join("docs/task.md"), "# All of it").unwrap();
    fs::write(elsewhere.path().join("secret"), "x").unwrap();
    symlink(elsewhere.path(), folder.path().join("link")).unwrap();
    let tools = tools(folder.path());
    let arguments = json!({"title": "t", "description": "ignored", "path": "docs/task.md"});
    let created = call(&tools, "create_task", arguments).await;
    assert_eq!(created["description"], "# All of it");
    fs::write(folder.path().join("docs/task.md"), "# More").unwrap();
    let again = json!({"id": id(&created), "path": "docs/task.md"});
    assert_eq!(call(&tools, "update_task", again).await["description"], "# More");
    for path in ["../x", "/etc/passwd", "link/secret"] {
        let refused = refused(&tools, "create_task", json!({"title": "t", "path": path})).await;
        assert_eq!(refused, format!("invalid file path: {path} is not in the folder of the task list"));
    }
    let missing = refused(&tools, "create_task", json!({"title": "t", "path": "none.md"})).await;
    assert!(missing.contains("none.md cannot be read"), "{missing}");
}

#[tokio::test]
async fn a_hidden_file_does_not_become_a_description() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".agentsignore"), "*.env\n").unwrap();
    fs::write(folder.path().join("a.env"), "secret").unwrap();
    symlink("a.env", folder.path().join("plain")).unwrap();
    let tools = tools(folder.path());
    for path in ["a.env", "plain", ".agentsignore"] {
        let refused = refused(&tools, "create_task", json!({"title": "t", "path": path})).await;
        assert_eq!(refused, format!("invalid file path: {path} cannot be reached: .agentsignore hides it"));
    }
}

#[tokio::test]
async fn the_list_of_a_confined_run_stays_within_its_folder() {
    let top = tempfile::tempdir().unwrap();
    let (job, other) = (top.path().join("job"), top.path().join("other"));
    fs::create_dir_all(job.join("lists")).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("text"), "secret").unwrap();
    // The working folder is above what the run may reach.
    let mut environment = testing::environment(top.path());
    environment.confinement = Some(Confinement { folder: job.clone(), readable: Vec::new(), user: None });
    let environment = Arc::new(environment);
    let inside = super::open(&environment, Some("job/lists/t.json")).unwrap().tools;
    call(&inside, "create_task", json!({"title": "x"})).await;
    call(&inside, "create_task", json!({"title": "y"})).await;
    assert_eq!(call(&inside, "list_tasks", json!({})).await.as_array().unwrap().len(), 2);
    let mut files: Vec<_> =
        fs::read_dir(job.join("lists")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, [".t.json.lock", "t.json"]);
    let outside = super::open(&environment, Some("other/t.json")).unwrap().tools;
    let error = refused(&outside, "create_task", json!({"title": "x", "path": "text"})).await;
    assert!(error.contains("cannot be written"), "{error}");
    symlink(&other, job.join("link")).unwrap();
    let linked = super::open(&environment, Some("job/link/t.json")).unwrap().tools;
    for (tool, arguments) in [("create_task", json!({"title": "x"})), ("list_tasks", json!({}))] {
        refused(&linked, tool, arguments).await;
    }
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

#[tokio::test]
async fn an_invalid_file_is_an_error_and_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tools) = (folder.path().join("tasks.json"), tools(folder.path()));
    let task = r#"{"id": "a", "title": "t", "status": "pending"}"#;
    let twice = [
        format!("{{\"tasks\": [{task}, {task}]}}"),
        format!("{{\"tasks\": {{\"a\": {task}, \"a\": {task}}}}}"),
    ];
    for text in ["", "{\"tasks\": [", "[1]", "{\"tasks\": 3}", &twice[0], &twice[1]] {
        fs::write(&file, text).unwrap();
        for (name, arguments) in [("create_task", json!({"title": "x"})), ("list_tasks", json!({}))] {
            let error = refused(&tools, name, arguments).await;
            assert!(error.contains("does not contain a task list and was not changed"), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[tokio::test]
async fn a_link_to_the_list_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (real, tools) = (folder.path().join("real.json"), tools(folder.path()));
    fs::write(&real, r#"{"tasks": {}}"#).unwrap();
    symlink("real.json", folder.path().join("tasks.json")).unwrap();
    let created = call(&tools, "create_task", json!({"title": "x"})).await;
    let written: Value = serde_json::from_slice(&fs::read(&real).unwrap()).unwrap();
    assert_eq!(written["tasks"][id(&created)], created);
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
    assert_eq!(all.as_array().unwrap().len(), 20);
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
    assert_eq!(call(&below, "list_tasks", json!({})).await, json!([]));
    call(&below, "create_task", json!({"title": "x"})).await;
    assert!(folder.path().join("a/b/t.json").is_file());
}

#[test]
fn only_tools_that_change_nothing_are_read_only() {
    let read_only = |(_, spec): (Action, ToolSpec)| spec.read_only.then_some(spec.name);
    let names: Vec<String> = specs().filter_map(read_only).collect();
    assert_eq!(names, ["get_task", "list_tasks", "next_task"]);
}
