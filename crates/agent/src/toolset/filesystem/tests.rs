//! The tools of `filesystem`, each test in a folder of its own.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::environment::NoGuard;
use crate::image;
use crate::testing;
use crate::toolset::tests::call;

struct Fixture {
    folder: TempDir,
    tools: Vec<Arc<dyn Tool>>,
}

fn fixture(ignore_vcs: bool, post_edit: &[PostEdit]) -> Fixture {
    with_settings(Settings { ignore_vcs, post_edit, ..Settings::default() })
}

fn with_settings(settings: Settings<'_>) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let environment = Arc::new(testing::environment(folder.path()));
    let tools = open(environment, settings, Nursery::new(Arc::new(NoGuard))).unwrap().tools;
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
        call(&self.tools, name, arguments).await
    }
}

#[tokio::test]
async fn no_tool_reaches_what_the_lists_keep_from_it() {
    let lists = [["work".to_owned()], ["work/secret".to_owned()]];
    let [allow_list, deny_list] = &lists;
    let fixture = with_settings(Settings { allow_list, deny_list, ..Settings::default() });
    fixture.put("work/a.txt", "hello");
    fixture.put("work/secret/b.txt", "hello");
    fixture.put("other.txt", "hello");
    assert_eq!(fixture.call("read_file", json!({"path": "work/a.txt"})).await.text, "hello");
    let refused = "work/secret/b.txt cannot be reached: deny_list of this toolset has it";
    let read = fixture.call("read_file", json!({"path": "work/secret/b.txt"})).await;
    assert_eq!(read, ToolOutcome::error(refused));
    let several = fixture.call("read_multiple_files", json!({"paths": ["work/a.txt", "other.txt"]})).await;
    assert!(several.text.contains("hello") && several.text.contains("allow_list"), "{}", several.text);
    for (tool, arguments) in [
        ("write_file", json!({"path": "other.txt", "content": "x"})),
        ("edit_file", json!({"path": "other.txt", "edits": [{"oldText": "hello", "newText": "x"}]})),
        ("create_directory", json!({"paths": ["new"]})),
        ("remove_directory", json!({"paths": ["work/secret"]})),
        ("list_directory", json!({"path": "."})),
        ("directory_tree", json!({"path": "work/secret"})),
        ("search_files_content", json!({"path": ".", "query": "hello"})),
    ] {
        let outcome = fixture.call(tool, arguments).await;
        assert!(outcome.is_error && outcome.text.contains("cannot be reached"), "{tool}: {}", outcome.text);
    }
    assert_eq!(fixture.text("other.txt"), "hello");
    let found = fixture.call("search_files_content", json!({"path": "work", "query": "hello"})).await.text;
    assert!(found.contains("a.txt") && !found.contains("b.txt"), "{found}");
    let listed = fixture.call("list_directory", json!({"path": "work"})).await.text;
    assert_eq!(listed, "FILE a.txt\n");
}

#[tokio::test]
async fn text_files_are_read_whole() {
    let fixture = fixture(true, &[]);
    fixture.put("a.txt", "eins\nzwei\n");
    fixture.put("b.bin", "x\0y");
    let absolute = fixture.folder.path().join("a.txt");
    for path in ["a.txt", "./x/../a.txt", absolute.to_str().unwrap()] {
        if path.starts_with("./") {
            fs::create_dir_all(fixture.folder.path().join("x")).unwrap();
        }
        assert_eq!(fixture.call("read_file", json!({"path": path})).await, ToolOutcome::ok("eins\nzwei\n"));
    }
    assert_eq!(fixture.call("read_file", json!({"path": "c"})).await, ToolOutcome::error("not found"));
    let binary = fixture.call("read_file", json!({"path": "b.bin"})).await;
    assert_eq!(binary, ToolOutcome::error("b.bin is not a text file: 3 bytes"));
    assert!(fixture.call("read_file", json!({"path": "."})).await.is_error);
    let both = fixture.call("read_multiple_files", json!({"paths": ["a.txt", "c"]})).await;
    assert_eq!(both.text, "=== a.txt ===\neins\nzwei\n\n\n=== c ===\nError: not found\n\n");
    let both = fixture.call("read_multiple_files", json!({"paths": ["a.txt"], "json": true})).await;
    assert_eq!(both.text, r#"[{"path":"a.txt","content":"eins\nzwei\n"}]"#);
}

#[tokio::test]
async fn an_image_is_read_as_an_image_and_named_in_the_text() {
    let fixture = fixture(true, &[]);
    let png = b"\x89PNG\r\n\x1a\n\0rest";
    // The first bytes decide, not the name.
    for name in ["img.png", "shot"] {
        fs::write(fixture.folder.path().join(name), png).unwrap();
        let read = fixture.call("read_file", json!({"path": name})).await;
        assert_eq!(read.text, format!("{name}: [an image (image/png, 13 bytes)]"));
        assert_eq!(read.images, [image::read(png).unwrap()]);
    }
    fixture.put("a.txt", "text");
    let both = fixture.call("read_multiple_files", json!({"paths": ["a.txt", "img.png"]})).await;
    assert_eq!(
        both.text,
        "=== a.txt ===\ntext\n\n=== img.png ===\nimg.png: [an image (image/png, 13 bytes)]\n\n"
    );
    assert_eq!(both.images.len(), 1);
    let mut large = png.to_vec();
    large.resize(6 * 1024 * 1024, 0);
    fs::write(fixture.folder.path().join("large.png"), large).unwrap();
    let refused = fixture.call("read_file", json!({"path": "large.png"})).await;
    let expected =
        "large.png: [an image (image/png, 6291456 bytes), larger than the 5 MiB that can be shown]";
    assert_eq!(refused, ToolOutcome::error(expected));
}

#[tokio::test]
async fn files_are_written_and_edited_and_post_edit_commands_run() {
    let fixture = fixture(true, &[PostEdit { path: "*.rs".into(), cmd: "echo seen >> \"$path\"".into() }]);
    let written = fixture.call("write_file", json!({"path": "new/f.txt", "content": "äb ab"})).await;
    assert_eq!(written, ToolOutcome::ok("File written successfully: new/f.txt (6 bytes)"));
    let edits = json!([{"oldText": "ab", "newText": "x"}, {"oldText": "äb x", "newText": "done"}]);
    let edited = fixture.call("edit_file", json!({"path": "new/f.txt", "edits": edits})).await;
    assert!(!edited.is_error, "{edited:?}");
    assert_eq!(fixture.text("new/f.txt"), "done");
    let edits = json!([{"oldText": "done", "newText": "lost"}, {"oldText": "nope", "newText": ""}]);
    let refused = fixture.call("edit_file", json!({"path": "new/f.txt", "edits": edits})).await;
    assert_eq!(refused, ToolOutcome::error("Edit 2 failed: old text not found"));
    assert_eq!(fixture.text("new/f.txt"), "done", "nothing is written unless all match");
    fixture.call("write_file", json!({"path": "m.rs", "content": "fn\n"})).await;
    assert_eq!(fixture.text("m.rs"), "fn\nseen\n", "the command after the edit ran");
}

#[tokio::test(start_paused = true)]
async fn a_command_after_an_edit_that_hangs_is_ended() {
    let fixture = fixture(true, &[PostEdit { path: "*".into(), cmd: "echo up; exec sleep 600.31".into() }]);
    let written = fixture.call("write_file", json!({"path": "f", "content": "x"})).await;
    assert!(!written.is_error && written.text.contains("it timed out"), "{written:?}");
}

#[tokio::test]
async fn an_edit_that_names_no_single_place_changes_nothing() {
    let fixture = fixture(true, &[]);
    fixture.put("f.txt", "one two one");
    for (old, expected) in [
        ("", "Edit 1 failed: old text is empty"),
        ("one", "Edit 1 failed: old text occurs 2 times; add the lines around the one to replace"),
    ] {
        let edits = json!([{"oldText": old, "newText": "three"}]);
        let refused = fixture.call("edit_file", json!({"path": "f.txt", "edits": edits})).await;
        assert_eq!(refused, ToolOutcome::error(expected));
    }
    assert_eq!(fixture.text("f.txt"), "one two one");
}

#[tokio::test]
async fn a_file_that_is_not_utf8_is_not_edited() {
    let fixture = fixture(true, &[]);
    let file = fixture.folder.path().join("latin1.txt");
    let bytes = b"one\ncaf\xe9\n";
    fs::write(&file, bytes).unwrap();
    let edits = json!([{"oldText": "one", "newText": "two"}]);
    let refused = fixture.call("edit_file", json!({"path": "latin1.txt", "edits": edits})).await;
    let expected = "latin1.txt is not UTF-8 (first at byte 7, in line 2), so it cannot be edited safely. It was not \
                    changed. Edit it with a shell command that preserves its encoding.";
    assert_eq!(refused, ToolOutcome::error(expected));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[tokio::test]
async fn listing_hides_what_the_version_control_ignores() {
    for (ignore_vcs, hidden) in [(true, false), (false, true)] {
        let fixture = fixture(ignore_vcs, &[]);
        fs::create_dir(fixture.folder.path().join(".git")).unwrap();
        fixture.put(".gitignore", "target/\n*.log\n");
        fixture.put("target/out", "needle");
        fixture.put("src/main.rs", "needle");
        fixture.put("x.log", "needle");
        let listed = fixture.call("list_directory", json!({"path": "."})).await.text;
        assert_eq!(listed.contains("DIR  target\n"), hidden, "{listed}");
        assert_eq!(listed.contains("FILE x.log\n"), hidden, "{listed}");
        assert_eq!(listed.contains("DIR  .git\n"), hidden, "{listed}");
        assert!(listed.contains("DIR  src\n") && listed.contains("FILE .gitignore\n"), "{listed}");
        let tree: Value =
            serde_json::from_str(&fixture.call("directory_tree", json!({"path": "."})).await.text).unwrap();
        let src =
            json!({"name": "src", "type": "directory", "children": [{"name": "main.rs", "type": "file"}]});
        assert!(tree["children"].as_array().unwrap().contains(&src), "{tree}");
        let found = fixture.call("search_files_content", json!({"path": ".", "query": "needle"})).await.text;
        assert!(found.contains("src/main.rs:1:1: needle\n"), "{found}");
        assert_eq!(found.contains("x.log:1:1"), hidden, "{found}");
    }
}

#[tokio::test]
async fn long_listings_are_truncated() {
    let fixture = fixture(true, &[]);
    for number in 0..120 {
        fixture.put(&format!("f{number:03}"), "");
    }
    let listed = fixture.call("list_directory", json!({"path": "."})).await.text;
    assert_eq!(listed.lines().count(), 101);
    assert!(listed.ends_with("FILE f099\n...output truncated due to file limit...\n"), "{listed}");
    let tree = fixture.call("directory_tree", json!({"path": "."})).await.text;
    assert_eq!(tree.matches("\"name\"").count(), 100);
}

#[tokio::test]
async fn a_search_finds_texts_and_regular_expressions() {
    let fixture = fixture(true, &[]);
    let long = format!("{}(x) needle (x){}", "a".repeat(90), "b".repeat(90));
    fixture.put("d/one.txt", &format!("nothing\n  übel needle\n{long}\n"));
    fixture.put("d/skip/two.txt", "needle");
    fixture.put("d/bin", "needle\0");
    let search = async |arguments| fixture.call("search_files_content", arguments).await;
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
async fn folders_are_created_and_only_empty_ones_removed() {
    let fixture = fixture(true, &[]);
    let made = fixture.call("create_directory", json!({"paths": ["a/b", "c"]})).await;
    assert_eq!(made.text, "Directory created successfully: a/b\nDirectory created successfully: c\n");
    let removed = fixture.call("remove_directory", json!({"paths": ["c", "a"]})).await;
    assert!(removed.is_error, "only empty folders are removed");
    assert!(removed.text.starts_with("Directory removed successfully: c\nError: a: "), "{removed:?}");
    assert!(fixture.folder.path().join("a/b").is_dir());
}

#[tokio::test]
async fn devices_pipes_state_and_long_lines_are_refused_or_skipped() {
    let fixture = fixture(false, &[]);
    let fifo = fixture.folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let edits = json!([{"oldText": "a", "newText": "b"}]);
    for path in ["/dev/zero", fifo.to_str().unwrap()] {
        let expected = ToolOutcome::error(format!("{path} is not a file"));
        assert_eq!(fixture.call("read_file", json!({"path": path})).await, expected);
        assert_eq!(fixture.call("edit_file", json!({"path": path, "edits": edits})).await, expected);
        assert_eq!(fixture.call("write_file", json!({"path": path, "content": "x"})).await, expected);
        let many = fixture.call("read_multiple_files", json!({"paths": vec![path; 400]})).await;
        assert!(many.text.contains("is not a file"));
    }
    for path in ["/proc/self/environ", "/proc/self/maps"] {
        let edited = fixture.call("edit_file", json!({"path": path, "edits": edits})).await;
        assert!(edited.is_error && edited.text.contains("the state of the machine"), "{edited:?}");
    }
    fixture.put("long.txt", &("needle ".to_owned() + &"x".repeat(20 << 20)));
    fixture.put("short.txt", "a needle\n");
    let found = fixture.call("search_files_content", json!({"path": ".", "query": "needle"})).await;
    assert_eq!(found.text, "short.txt:1:3: a needle\n");
}

#[tokio::test]
async fn all_files_of_one_call_have_the_bound_of_one() {
    let fixture = fixture(false, &[]);
    fixture.put("big.txt", &"x".repeat(9 << 20));
    let many = fixture.call("read_multiple_files", json!({"paths": vec!["big.txt"; 40]})).await;
    assert!(many.text.len() < (10 << 20), "{}", many.text.len());
    assert!(many.text.contains("Error: big.txt is too large to read whole"));
}

#[tokio::test]
async fn what_agentsignore_names_is_neither_shown_nor_reached() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".agentsignore"), "secret/\n*.key\n").unwrap();
    fs::create_dir(folder.path().join("secret")).unwrap();
    for name in ["secret/a.txt", "id.key", "open.txt"] {
        fs::write(folder.path().join(name), "needle\n").unwrap();
    }
    let environment = Arc::new(testing::environment(folder.path()));
    let nursery = Nursery::new(Arc::clone(&environment.guard));
    let tools = open(environment, Settings::default(), nursery).unwrap().tools;
    let call = async |name: &str, arguments: Value| {
        let tool = tools.iter().find(|tool| tool.spec().name == name).unwrap();
        testing::call(tool, arguments).await
    };
    let listed = call("list_directory", json!({"path": "."})).await.text;
    assert_eq!(listed, "FILE open.txt\n");
    assert!(!call("directory_tree", json!({"path": "."})).await.text.contains("secret"));
    let found = call("search_files_content", json!({"path": ".", "query": "needle"})).await.text;
    assert!(
        found.contains("open.txt:1:1") && !found.contains("secret") && !found.contains("id.key"),
        "{found}"
    );
    for (name, arguments) in [
        ("read_file", json!({"path": "id.key"})),
        ("write_file", json!({"path": "secret/new", "content": "x"})),
        ("write_file", json!({"path": ".agentsignore", "content": ""})),
        ("list_directory", json!({"path": "secret"})),
        ("search_files_content", json!({"path": "secret", "query": "needle"})),
    ] {
        let refused = call(name, arguments).await;
        assert!(refused.is_error && refused.text.contains(".agentsignore hides it"), "{name}: {refused:?}");
    }
    let many = call("read_multiple_files", json!({"paths": ["open.txt", "id.key"]})).await.text;
    assert!(many.contains("needle") && many.contains(".agentsignore hides it"), "{many}");
}
