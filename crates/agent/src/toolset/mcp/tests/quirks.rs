//! Servers that do what the protocol does not say, and lists of tools that change.

use legwork_common::service::BackgroundAgents;
use legwork_common::session_state::SessionState;

use super::*;
use crate::image::Image;
use crate::testing::FakeService;
use crate::testing::team;
use crate::toolset::Toolbox;

const QUIRKS: &str = include_str!("quirks.sh");

fn quirky(quirks: &str) -> Mcp {
    program("sh", &["-c", QUIRKS, "sh", quirks], json!({}))
}

#[tokio::test]
async fn an_unknown_part_of_a_result_is_one_sentence_and_the_texts_are_kept() {
    let fixture = fixture();
    let kit = fixture.kit(&quirky("noise")).await.unwrap();
    let expected = "one [content of the type \"weird\", which cannot be shown here] two";
    assert_eq!(call(&kit, "odd", json!({})).await, ToolOutcome::ok(expected));
    fixture.nursery.close().await;
}

#[tokio::test]
async fn images_of_a_result_are_images() {
    let fixture = fixture();
    let kit = fixture.kit(&quirky("")).await.unwrap();
    let outcome = call(&kit, "image", json!({})).await;
    // The bytes decide about the type, not the server.
    let image = Image { media_type: "image/png".into(), data: "iVBORw0KGgo=".into() };
    assert_eq!(outcome.images, [image]);
    let unknown = "[an image of an unknown format, 1 bytes, which cannot be shown]";
    assert_eq!(outcome.text, format!("a [an image (image/png, 8 bytes)]{unknown}"));
    fixture.nursery.close().await;
}

#[tokio::test]
async fn a_server_without_the_capability_for_tools_is_a_warning() {
    let fixture = fixture();
    let kit = fixture.kit(&quirky("no_capability")).await.unwrap();
    assert!(kit.tools.is_empty());
    let expected = "toolset mcp: sh: it offers no tools (its handshake has no capability for them)";
    assert_eq!(kit.warnings, [expected]);
    fixture.nursery.close().await;
}

#[tokio::test]
async fn a_tool_that_cannot_be_read_and_an_endless_list_are_warnings() {
    let fixture = fixture();
    let kit = fixture.kit(&quirky("odd_tool")).await.unwrap();
    assert_eq!(names(&kit.tools), ["odd", "image", "grow", "shrink"]);
    let [warning] = &kit.warnings[..] else { panic!("{:?}", kit.warnings) };
    assert!(
        warning.starts_with("toolset mcp: sh: its tool bad cannot be read and is skipped: "),
        "{warning}"
    );
    let endless = fixture.kit(&quirky("endless")).await.unwrap();
    assert!(endless.warnings[0].contains("more than 100 pages"), "{:?}", endless.warnings);
    fixture.nursery.close().await;
}

#[tokio::test]
async fn a_list_of_too_many_tools_or_of_too_long_ones_ends_at_its_bounds() {
    let fixture = fixture();
    // Pages of 300 tools, and of one of a million bytes: the page that exceeds 2,000 tools, or 8 MiB, is left out.
    for (quirk, used) in [("many", 1800), ("heavy", 8)] {
        let kit = fixture.kit(&quirky(quirk)).await.unwrap();
        let expected = format!("it lists too many tools; only the first {used} are used");
        assert!(kit.warnings.iter().any(|warning| warning.ends_with(&expected)), "{:?}", kit.warnings);
        assert!(kit.tools.len() <= used, "{}", kit.tools.len());
    }
    fixture.nursery.close().await;
}

/// A toolbox of an agent with the quirky server, deferred or not, between two other toolsets.
async fn toolbox(fixture: &Fixture, defer: Value) -> Toolbox {
    let mcp = json!({"type": "mcp", "name": null, "server": quirky("").server});
    let toolsets = json!([
        {"kind": {"type": "think"}},
        {"kind": {"type": "script", "scripts": {"image": {"cmd": "true", "description": "", "args": {}, "env": {}}}}},
        {"kind": mcp, "defer": defer, "tools": ["odd", "image", "grow", "shrink", "later"]},
        {"kind": {"type": "todo", "shared": false}, "tools": ["list_todos"]},
    ]);
    let team = team(&[("a", &[], json!({"toolsets": toolsets}))]);
    let service = Arc::new(FakeService::default());
    let (background, session_state): (Arc<dyn BackgroundAgents>, Arc<dyn SessionState>) =
        (service.clone(), service);
    let environment = Arc::new(fixture.environment.clone());
    let mut toolbox = Toolbox::new(&environment);
    toolbox.open(&team, team.agent("a").unwrap(), &environment, &background, &session_state).await;
    toolbox
}

fn offered(toolbox: &Toolbox) -> String {
    toolbox.specs().into_iter().map(|spec| spec.name).collect::<Vec<_>>().join(" ")
}

async fn make(toolbox: &Toolbox, name: &str, arguments: Value) -> String {
    testing::call(toolbox.get(name).unwrap(), arguments).await.text
}

#[tokio::test]
async fn a_changed_list_of_tools_is_followed_between_turns() {
    let fixture = fixture();
    let mut toolbox = toolbox(&fixture, json!(null)).await;
    assert_eq!(offered(&toolbox), "think image odd grow shrink list_todos");
    assert_eq!(toolbox.warnings(), ["tool image of mcp skipped: another tool has the same name"]);
    assert_eq!(toolbox.refresh().await, [""; 0]);
    assert_eq!(make(&toolbox, "grow", json!({})).await, "grown");
    assert!(toolbox.get("later").is_none(), "all calls of one reply see the same tools");
    assert_eq!(toolbox.refresh().await, [""; 0], "known warnings are not repeated");
    assert_eq!(offered(&toolbox), "think image odd grow shrink later list_todos");
    assert_eq!(make(&toolbox, "later", json!({})).await, "later");
    make(&toolbox, "shrink", json!({})).await;
    toolbox.refresh().await;
    assert_eq!(offered(&toolbox), "think image odd list_todos");
    toolbox.close().await;
}

#[tokio::test]
async fn deferred_tools_stay_deferred_and_added_ones_stay_added() {
    let fixture = fixture();
    let mut toolbox = toolbox(&fixture, json!("all")).await;
    assert_eq!(offered(&toolbox), "think image list_todos search_tool add_tool");
    make(&toolbox, "add_tool", json!({"name": "grow"})).await;
    make(&toolbox, "grow", json!({})).await;
    toolbox.refresh().await;
    assert_eq!(offered(&toolbox), "think image grow list_todos search_tool add_tool");
    assert!(make(&toolbox, "search_tool", json!({"query": ""})).await.contains("later: "));
    toolbox.close().await;
}

#[tokio::test]
async fn a_restarted_server_is_asked_for_its_tools_again() {
    let fixture = fixture();
    let timing = Timing { restart_delays: vec![Duration::ZERO; 2], ..timing() };
    let server = fixture.start(&server(json!({})).server, timing).await;
    assert!(server.changed_tools().await.is_none());
    server.call(CallToolRequestParams::new("die")).await.unwrap_err();
    while server.call(CallToolRequestParams::new("echo")).await.is_err() {
        tokio::task::yield_now().await;
    }
    let (tools, warnings) = server.changed_tools().await.unwrap();
    assert_eq!((tools.len(), warnings.len()), (8, 0));
    assert!(server.changed_tools().await.is_none());
    fixture.nursery.close().await;
}
