//! Files and folders, in a folder of each test.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::environment::NoGuard;
use crate::testing;

struct Fixture {
    folder: TempDir,
    tools: Vec<Arc<dyn Tool>>,
}

fn fixture(ignore_vcs: bool, post_edit: &[PostEdit]) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let environment = Arc::new(testing::environment(folder.path()));
    let tools = kit(environment, ignore_vcs, post_edit, Nursery::new(Arc::new(NoGuard))).tools;
    Fixture { folder, tools }
}

impl Fixture {
    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap()
    }

    async fn call(&self, name: &str, arguments: Value) -> ToolOutcome {
        let tool = self.tools.iter().find(|tool| tool.spec().name == name).unwrap();
        testing::call(tool, arguments).await
    }
}

#[tokio::test]
async fn reading() {
    let here = fixture(true, &[]);
    here.put("a.txt", "eins\nzwei\n");
    here.put("b.bin", "x\0y");
    let absolute = here.folder.path().join("a.txt");
    for path in ["a.txt", "./x/../a.txt", absolute.to_str().unwrap()] {
        if path.starts_with("./") {
            fs::create_dir_all(here.folder.path().join("x")).unwrap();
        }
        assert_eq!(here.call("read_file", json!({"path": path})).await, ToolOutcome::ok("eins\nzwei\n"));
    }
    assert_eq!(here.call("read_file", json!({"path": "c"})).await, ToolOutcome::error("not found"));
    let binary = here.call("read_file", json!({"path": "b.bin"})).await;
    assert_eq!(binary, ToolOutcome::error("b.bin is not a text file: 3 bytes"));
    assert!(here.call("read_file", json!({"path": "."})).await.is_error);
    let both = here.call("read_multiple_files", json!({"paths": ["a.txt", "c"]})).await;
    assert_eq!(both.text, "=== a.txt ===\neins\nzwei\n\n\n=== c ===\nError: not found\n\n");
    let both = here.call("read_multiple_files", json!({"paths": ["a.txt"], "json": true})).await;
    assert_eq!(both.text, r#"[{"path":"a.txt","content":"eins\nzwei\n"}]"#);
}

#[tokio::test]
async fn writing_and_editing() {
    let here = fixture(true, &[PostEdit { path: "*.rs".into(), cmd: "echo seen >> \"$path\"".into() }]);
    let written = here.call("write_file", json!({"path": "new/f.txt", "content": "äb ab"})).await;
    assert_eq!(written, ToolOutcome::ok("File written successfully: new/f.txt (6 bytes)"));
    let edits = json!([{"oldText": "ab", "newText": "x"}, {"oldText": "äb x", "newText": "done"}]);
    let edited = here.call("edit_file", json!({"path": "new/f.txt", "edits": edits})).await;
    assert!(!edited.is_error, "{edited:?}");
    assert_eq!(here.text("new/f.txt"), "done");
    let edits = json!([{"oldText": "done", "newText": "lost"}, {"oldText": "nope", "newText": ""}]);
    let refused = here.call("edit_file", json!({"path": "new/f.txt", "edits": edits})).await;
    assert_eq!(refused, ToolOutcome::error("Edit 2 failed: old text not found"));
    assert_eq!(here.text("new/f.txt"), "done", "nothing is written unless all match");
    here.call("write_file", json!({"path": "m.rs", "content": "fn\n"})).await;
    assert_eq!(here.text("m.rs"), "fn\nseen\n", "the command after the edit ran");
}

#[tokio::test]
async fn listing_hides_what_the_version_control_ignores() {
    for (ignore_vcs, hidden) in [(true, false), (false, true)] {
        let here = fixture(ignore_vcs, &[]);
        fs::create_dir(here.folder.path().join(".git")).unwrap();
        here.put(".gitignore", "target/\n*.log\n");
        here.put("target/out", "needle");
        here.put("src/main.rs", "needle");
        here.put("x.log", "needle");
        let listed = here.call("list_directory", json!({"path": "."})).await.text;
        assert_eq!(listed.contains("DIR  target\n"), hidden, "{listed}");
        assert_eq!(listed.contains("FILE x.log\n"), hidden, "{listed}");
        assert_eq!(listed.contains("DIR  .git\n"), hidden, "{listed}");
        assert!(listed.contains("DIR  src\n") && listed.contains("FILE .gitignore\n"), "{listed}");
        let tree: Value =
            serde_json::from_str(&here.call("directory_tree", json!({"path": "."})).await.text).unwrap();
        let src =
            json!({"name": "src", "type": "directory", "children": [{"name": "main.rs", "type": "file"}]});
        assert!(tree["children"].as_array().unwrap().contains(&src), "{tree}");
        let found = here.call("search_files_content", json!({"path": ".", "query": "needle"})).await.text;
        assert!(found.contains("src/main.rs:1:1: needle\n"), "{found}");
        assert_eq!(found.contains("x.log:1:1"), hidden, "{found}");
    }
}

#[tokio::test]
async fn long_listings_are_cut() {
    let here = fixture(true, &[]);
    for number in 0..120 {
        here.put(&format!("f{number:03}"), "");
    }
    let listed = here.call("list_directory", json!({"path": "."})).await.text;
    assert_eq!(listed.lines().count(), 101);
    assert!(listed.ends_with("FILE f099\n...output truncated due to file limit...\n"), "{listed}");
    let tree = here.call("directory_tree", json!({"path": "."})).await.text;
    assert_eq!(tree.matches("\"name\"").count(), 100);
}

#[tokio::test]
async fn searching() {
    let here = fixture(true, &[]);
    let long = format!("{}(x) needle (x){}", "a".repeat(90), "b".repeat(90));
    here.put("d/one.txt", &format!("nothing\n  übel needle\n{long}\n"));
    here.put("d/skip/two.txt", "needle");
    here.put("d/bin", "needle\0");
    let search = async |arguments| here.call("search_files_content", arguments).await;
    let plain = search(json!({"path": "d", "query": "(x) needle", "excludePatterns": ["skip"]})).await;
    assert_eq!(plain.text, format!("d/one.txt:3:91: {}(x) needle (x){}\n", "a".repeat(20), "b".repeat(16)));
    let regex = json!({"path": "d", "query": "^ +.*ne{2}dle", "is_regex": true});
    assert_eq!(search(regex).await.text, "d/one.txt:2:1: übel needle\n");
    let file = json!({"path": "d/skip/two.txt", "query": "needle"});
    assert_eq!(search(file).await.text, "d/skip/two.txt:1:1: needle\n");
    let none = json!({"path": "d", "query": "absent"});
    assert_eq!(search(none).await, ToolOutcome::ok("No results found"));
    let broken = search(json!({"path": "d", "query": "(", "is_regex": true})).await;
    assert!(broken.is_error && broken.text.starts_with("invalid regular expression"), "{broken:?}");
    assert_eq!(search(json!({"path": "e", "query": "x"})).await, ToolOutcome::error("not found"));
}

#[tokio::test]
async fn folders() {
    let here = fixture(true, &[]);
    let made = here.call("create_directory", json!({"paths": ["a/b", "c"]})).await;
    assert_eq!(made.text, "Directory created successfully: a/b\nDirectory created successfully: c\n");
    let removed = here.call("remove_directory", json!({"paths": ["c", "a"]})).await;
    assert!(removed.is_error, "only empty folders are removed");
    assert!(removed.text.starts_with("Directory removed successfully: c\nError: a: "), "{removed:?}");
    assert!(here.folder.path().join("a/b").is_dir());
}
