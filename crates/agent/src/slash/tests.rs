//! Prompts of a team whose agent has a shell, expanded for real.

use serde_json::json;

use super::*;
use crate::testing;
use crate::testing::FakeService;

/// Expands what a user typed, with these prompts by name.
async fn expand_with(commands: Value, permissions: Value, text: &str) -> Expanded {
    let commands: Map<String, Value> = commands
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, text)| (name.clone(), json!({"description": "", "instruction": text})))
        .collect();
    let script = json!({"cmd": "echo greetings $name", "description": "", "args": {"name": null}, "env": {}});
    let toolsets = json!([
        {"kind": {"type": "shell", "env": {}}},
        {"kind": {"type": "script", "scripts": {"greet": script}}},
        {"kind": {"type": "todo", "shared": false}},
    ]);
    let agent = json!({
        "name": "a",
        "kind": {"models": [testing::settings()]},
        "commands": commands,
        "toolsets": toolsets,
    });
    let team: Team = serde_json::from_value(json!({"agents": [agent], "permissions": permissions})).unwrap();
    let mut environment = testing::environment("/usr");
    environment.variables.insert("NAME".into(), "Ada ${args[0]}".into());
    let service = Arc::new(FakeService::default());
    let (background, session_state): (Arc<dyn BackgroundAgents>, Arc<dyn SessionState>) =
        (service.clone(), service);
    let context = CommandContext {
        team: &team,
        agent: team.agent("a").unwrap(),
        environment: &Arc::new(environment),
        background: &background,
        session_state: &session_state,
    };
    expand(context, text, &CancellationToken::new()).await
}

async fn expanded(prompt: &str, rest: &str) -> String {
    let expanded = expand_with(json!({"p": prompt}), json!({}), &format!("/p {rest}")).await;
    assert_eq!(expanded.warnings, [""; 0], "{prompt}");
    expanded.prompt
}

/// Expands each prompt with what follows its name, and compares.
async fn expand_as(cases: &[(&str, &str, &str)]) {
    for (prompt, rest, expected) in cases {
        assert_eq!(expanded(prompt, rest).await, *expected, "{prompt}");
    }
}

#[tokio::test]
async fn expands_prompts_that_are_called_by_name() {
    let prompts = json!({"plain": "Do it.", "fix": "Fix ${args[0]} in ${args[1]}!"});
    for (text, expected) in [
        ("hello /plain", "hello /plain"),
        ("/nothing here", "/nothing here"),
        ("/plain", "Do it."),
        ("/plain and  \"more\"", "Do it. and  \"more\""),
        (" /fix a b c", "Fix a in b!"),
        ("/fix 'the bug' \"file one\"", "Fix the bug in file one!"),
        ("/fix\nthis\nthat", "Fix this in that!"),
        ("/fix", "Fix  in !"),
    ] {
        let expanded = expand_with(prompts.clone(), json!({}), text).await;
        assert_eq!((expanded.prompt.as_str(), expanded.warnings.len()), (expected, 0), "{text}");
    }
}

#[tokio::test]
async fn expressions_have_the_values_that_javascript_gives_them() {
    expand_as(&[
        ("Run: ${args.join(\" \")}", "a 'b c'", "Run: a b c"),
        ("${args}", "a b", "a,b"),
        ("Count: ${args.length}", "a b", "Count: 2"),
        ("Rest: ${args.slice(1).join(\" \")}", "a b c", "Rest: b c"),
        ("${args.slice(-2, -1)}|${'häuser'.slice(1, 3)}", "a b c", "b|äu"),
        ("${args[0] || \"\"} and ${args[1] || \"none\"}", "a", "a and none"),
        ("${args.length > 1 ? 'many' : 'one'} ${args.includes('a')}", "a", "one true"),
        ("${1 + 2} ${1.5 + 1.5} ${'a' + 1} ${5 - 2} ${-1}", "", "3 3 a1 3 -1"),
        (
            "${!args[0] && 'x'} ${null ?? 'y'} ${\"a\" === 'a'} ${2 <= 10} ${'2' == 2}",
            "",
            "x y true true true",
        ),
        ("${`<${args[0].trim().toUpperCase()}>`}", "' a '", "<A>"),
        ("${args[0].split('/').join('.')} ${args[0].startsWith('a/')}", "a/b", "a.b true"),
        ("${env.NAME} ${env.NOTHING || 'x'} ${env['PATH'].length > 0}", "z", "Ada ${args[0]} x true z"),
    ])
    .await;
}

#[tokio::test]
async fn the_output_of_a_tool_takes_the_place_of_its_call() {
    expand_as(&[
        ("Status: !shell(cmd=\"echo clean; pwd\").", "", "Status: clean\n/usr."),
        ("${shell({cmd: \"echo lint\"})}!", "", "lint\n!"),
        ("!shell(cmd=\"echo ${args.join(\",\")} >&1\")", "a b", "a,b"),
        ("!shell(cmd=\"basename $PWD\", cwd=\"bin\", timeout=5)", "", "bin"),
        (
            "!greet(name=World) ${greet({name: args[0], other: null})}",
            "Ada",
            "greetings World greetings Ada\n",
        ),
        ("!shell(cmd=\"exit 3\")", "", "Error executing command: exit status 3\nOutput:"),
        // What a tool or a user wrote is not a template.
        ("!shell(cmd=\"printf '%s' '$'; echo '{args[0]} !greet()'\")", "", "${args[0]} !greet()"),
        ("${args[0]}", "'!shell(cmd=ls)'", "!shell(cmd=ls)"),
        ("${args[0] || shell({cmd: 'echo not run'})}", "given", "given"),
    ])
    .await;
}

#[tokio::test]
async fn arguments_have_the_types_of_the_tool() {
    let both = "!create_todos(descriptions='[\"a\", \"b\"]') !shell(cmd=5)";
    let text = expanded(both, "").await;
    assert!(
        text.contains("\"description\":\"b\"") && text.contains("Error executing command: exit status 127"),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_run_is_said() {
    for (prompt, expected, warning) in [
        ("a ${FOO} b", "a ${FOO} b", "`${FOO}` cannot be evaluated: the name `FOO` is unknown"),
        ("Fix $1", "Fix $1", "`$1` is not replaced; write `${args[0]}`"),
        ("!missing()", "Error: tool 'missing' not found", "the tool `missing` of the prompt was not found"),
        (
            "${greet({nme: 1})}",
            "invalid arguments for greet: unknown field `nme`",
            "the tool `greet` of the prompt failed",
        ),
        ("${shell(args)}", "Error executing 'shell': \"\" is not an object", ""),
        (
            "!shell(cmd=ls)",
            "Tool 'shell' is denied by permissions configuration.",
            "the tool `shell` of the prompt is denied",
        ),
    ] {
        let permissions = if warning.ends_with("denied") { json!({"deny": ["shell"]}) } else { json!({}) };
        let expanded = expand_with(json!({"p": prompt}), permissions, "/p").await;
        assert_eq!(expanded.prompt, expected, "{prompt}");
        assert!(expanded.warnings.concat().starts_with(warning), "{prompt}: {:?}", expanded.warnings);
    }
}
