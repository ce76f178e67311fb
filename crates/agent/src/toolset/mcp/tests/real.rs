//! Published servers, where `scripts/install-mcp-tools` has installed them. Tests of servers that are missing pass.

use std::env;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use legwork_common::variables;
use legwork_tests::tools::installed;

use super::*;

/// A fixture with the machine's own PATH, because some of these servers are scripts that need an interpreter.
fn fixture_with_path() -> Fixture {
    let mut fixture = fixture();
    let path = env::var_os(variables::PATH).unwrap_or_default();
    fixture.environment.variables.insert(variables::PATH.into(), path.to_string_lossy().into_owned());
    fixture
}

#[tokio::test]
async fn the_time_server_is_called() {
    let Some(program) = installed("mcp-python/bin/mcp-server-time") else { return };
    let fixture = fixture_with_path();
    let kit = fixture.kit(&self::program(&program, &["--local-timezone=UTC"], json!({}))).await.unwrap();
    let now = call(&kit, "get_current_time", json!({"timezone": "UTC"})).await;
    assert!(!now.is_error && now.text.contains("\"timezone\": \"UTC\""), "{now:?}");
    let nowhere = call(&kit, "get_current_time", json!({"timezone": "Nowhere/At_All"})).await;
    assert!(nowhere.is_error, "{nowhere:?}");
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
}

#[tokio::test]
async fn the_fetch_server_is_called() {
    let Some(program) = installed("mcp-python/bin/mcp-server-fetch") else { return };
    let fixture = fixture_with_path();
    let page = || async {
        Html("<html><body><article><h1>Bats</h1><p>They sleep upside down.</p></article></body>")
    };
    let url = testing::serve(Router::new().route("/", get(page))).await;
    let mcp = self::program(&program, &["--allow-private-ips"], json!({}));
    let kit = fixture.kit(&mcp).await.unwrap();
    let fetched = call(&kit, "fetch", json!({"url": url, "raw": true})).await;
    assert!(!fetched.is_error && fetched.text.contains("They sleep upside down."), "{fetched:?}");
    fixture.nursery.close().await;
}

#[tokio::test]
async fn the_filesystem_server_is_called() {
    let Some(program) = installed("mcp-node/node_modules/.bin/mcp-server-filesystem") else { return };
    let fixture = fixture_with_path();
    let folder = fixture.folder.path().canonicalize().unwrap().display().to_string();
    let mut mcp = self::program(&program, &[&folder], json!({}));
    mcp.name = Some("fs".into());
    let kit = fixture.kit(&mcp).await.unwrap();
    assert!(tool(&kit.tools, "fs_read_text_file").spec().read_only);
    assert!(!tool(&kit.tools, "fs_write_file").spec().read_only);
    let path = format!("{folder}/a.txt");
    let written = call(&kit, "fs_write_file", json!({"path": path, "content": "bats"})).await;
    assert!(!written.is_error, "{written:?}");
    assert_eq!(call(&kit, "fs_read_text_file", json!({"path": path})).await, ToolOutcome::ok("bats"));
    assert!(call(&kit, "fs_read_text_file", json!({"path": "/etc/passwd"})).await.is_error);
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
}

#[tokio::test]
async fn the_everything_server_is_called() {
    let Some(program) = installed("mcp-node/node_modules/.bin/mcp-server-everything") else { return };
    let fixture = fixture_with_path();
    let kit = fixture.kit(&self::program(&program, &[], json!({}))).await.unwrap();
    assert!(kit.instruction.is_some());
    assert_eq!(call(&kit, "echo", json!({"message": "hi"})).await, ToolOutcome::ok("Echo: hi"));
    fixture.nursery.close().await;
    assert_eq!(fixture.alive(), 0);
}
