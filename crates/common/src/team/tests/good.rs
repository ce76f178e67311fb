//! Valid files: what they resolve to, and their warnings.

use std::collections::BTreeSet;

use super::BACKGROUND_AGENTS;
use super::EVERY_KEY;
use super::OLDEST;
use crate::team::AgentKind;
use crate::team::Api;
use crate::team::Mcp;
use crate::team::McpServer;
use crate::team::McpTransport;
use crate::team::ModelSettings;
use crate::team::Parsed;
use crate::team::RequiredKey;
use crate::team::Support;
use crate::team::Team;
use crate::team::ThinkingBudget;
use crate::team::ToolsetKind;
use crate::team::auto_model;
use crate::team::compatibility_rows as rows;
use crate::team::parse;
use crate::team::parse_with;

/// Parses a valid file, whose folder has one file for each `instruction_file`.
pub(super) fn good(text: &str) -> Parsed {
    match parse_with("agents.yaml", text.as_bytes(), &|path| Ok(format!("The text of {path}."))) {
        Ok(parsed) => parsed,
        Err(errors) => panic!("{}", errors.report()),
    }
}

/// The models of an agent, which must not be a command.
fn models<'t>(team: &'t Team, agent: &str) -> &'t [ModelSettings] {
    match &team.agent(agent).unwrap().kind {
        AgentKind::Models(models) => models,
        other => panic!("{other:?}"),
    }
}

/// The warnings, one on each line.
fn warnings(parsed: &Parsed) -> String {
    parsed.warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

#[test]
fn every_key_resolves() {
    let parsed = good(EVERY_KEY);
    insta::assert_snapshot!("every_key_team", serde_json::to_string_pretty(&parsed.team).unwrap());
    insta::assert_snapshot!("every_key_warnings", warnings(&parsed));
}

#[test]
fn every_key_yaml_contains_every_key() {
    let values = ["a toolset type", "a hook type", "a harness type"];
    let newest = rows().filter(|row| row.last_version.is_none() && row.support != Support::Refused);
    for row in newest {
        let written = match row.map {
            map if values.contains(&map) => format!("type: {}", row.key),
            "a built-in hook" => format!("command: {}", row.key),
            // Maps that only older versions have.
            "a thinking budget" | "a sandbox" | "a todo list" | "a memory" => continue,
            _ => format!("{}:", row.key),
        };
        assert!(EVERY_KEY.contains(&written), "{row:?}");
    }
}

#[test]
fn the_oldest_schema_is_read() {
    let parsed = good(OLDEST);
    let first = parsed.team.default_agent();
    let kinds: Vec<&ToolsetKind> = first.toolsets.iter().map(|toolset| &toolset.kind).collect();
    assert_eq!(kinds[0], &ToolsetKind::Think);
    assert_eq!(kinds[1], &ToolsetKind::Todo { shared: true });
    assert_eq!(kinds[2], &ToolsetKind::Memory { path: Some("m.db".to_owned()) });
    assert_eq!(models(&parsed.team, "first")[0].api, Api::Anthropic);
    insta::assert_snapshot!("oldest_warnings", warnings(&parsed));
}

/// Files with keys that docker-agent drops when it upgrades them: the version, the file, and the warnings.
const DROPPED_KEYS: &[(&str, &str, &str)] = &[
    (
        "1",
        "env: {A: b}\nmodels: {m: {provider: openai, model: x, env: {A: b}}}\nagents: {a: {model: m}}",
        "`env` in the file has no effect yet: set the variables in the environment of the worker\n\
         `env` in a model has no effect yet: set the variables in the environment of the worker\n",
    ),
    (
        "2",
        "agents: {a: {model: auto, rag: [docs]}}\nrag: {docs: {description: about it, docs: [a.txt]}}",
        "`rag` in an agent has no effect yet: the agent cannot search these sources\n\
         `rag` in the file has no effect yet: no agent searches these sources\n\
         `description` in a RAG source has no effect yet: no agent searches this source\n",
    ),
    (
        "5",
        "agents: {a: {model: auto, toolsets: [{type: shell, sandbox: {image: alpine, paths: [., /tmp]}}]}}",
        "`sandbox` in a toolset has no effect yet: commands run directly on the worker, in no container: isolate the \
         worker itself\n",
    ),
];

#[test]
fn keys_of_older_versions_are_accepted_there_with_a_warning() {
    for (version, text, expected) in DROPPED_KEYS {
        let parsed = good(&format!("version: {version}\n{text}\n"));
        let messages = parsed.warnings.iter().map(|warning| format!("{}\n", warning.message));
        assert_eq!(messages.collect::<String>(), *expected, "version {version}");
        assert!(parse("agents.yaml", text.as_bytes()).is_err(), "the newest version has no such key: {text}");
    }
    let sandbox = "agents: {a: {model: auto, toolsets: [{type: shell, sandbox: {paths: [.]}}]}}\n";
    for version in [3, 4] {
        assert_eq!(good(&format!("version: {version}\n{sandbox}")).warnings.len(), 1);
    }
    let hint = |version: u8| {
        let errors = parse("agents.yaml", format!("version: {version}\n{sandbox}").as_bytes()).unwrap_err();
        errors.report()
    };
    assert!(hint(6).contains("it was removed after schema version 5"), "{}", hint(6));
    assert!(hint(2).contains("it is a key of schema versions 3 to 5"), "{}", hint(2));
}

#[test]
fn prompts_that_cannot_be_run_are_warnings() {
    let file = |toolsets: &str, prompt: &str| {
        let text = format!(
            "agents:\n  a:\n    model: auto\n    toolsets: [{toolsets}]\n    commands:\n      fix: {prompt:?}\n"
        );
        let messages = good(&text).warnings.into_iter().map(|warning| warning.message);
        messages.collect::<Vec<_>>().join("\n")
    };
    let shell = "{type: shell, tools: [shell]}";
    for runs in ["Fix ${args[0]}: !shell(cmd=ls)", "${shell({cmd: \"x\"})} for $5.00", "${env.HOME}"] {
        assert_eq!(file(shell, runs), "", "{runs}");
    }
    assert_eq!(
        file(shell, "Fix $1: !`ls` ${oops}"),
        "command 'fix' is sent as it is written: `!` before a backtick runs nothing; write `${shell({cmd: \"…\"})}`\n\
         command 'fix' is sent as it is written: `$1` is not replaced; write `${args[0]}`\n\
         command 'fix' is sent as it is written: `${oops}` cannot be evaluated: the name `oops` is unknown (known: `args`, \
         `env`, and `oops(…)` for a tool)"
    );
    let missing = "command 'fix' calls the tool `think`, which no toolset of agent 'a' has";
    assert_eq!(file(shell, "!think(thought=x)"), missing);
    assert_eq!(file(shell, "!run_background_job(cmd=x)"), missing.replace("think", "run_background_job"));
    assert_eq!(file("{type: mcp, command: x}", "!anything()"), "", "an MCP server may have any tool");
}

#[test]
fn the_background_agents_example_resolves() {
    let parsed = good(BACKGROUND_AGENTS);
    let team = &parsed.team;
    assert_eq!(team.default_agent().name, "root");
    assert_eq!(team.default_agent().sub_agents, ["web_researcher", "code_analyst"]);
    let kinds = |name: &str| -> Vec<ToolsetKind> {
        team.agent(name).unwrap().toolsets.iter().map(|toolset| toolset.kind.clone()).collect()
    };
    assert_eq!(kinds("root"), [ToolsetKind::Think, ToolsetKind::BackgroundAgents]);
    assert!(matches!(kinds("web_researcher").as_slice(), [ToolsetKind::Mcp(_)]));
    assert!(matches!(
        kinds("code_analyst").as_slice(),
        [ToolsetKind::Filesystem { ignore_vcs: true, .. }, ToolsetKind::Shell { .. }]
    ));
    let required: Vec<Vec<String>> =
        team.agents().iter().flat_map(|agent| agent.required_keys()).map(|key| key.any_of).collect();
    assert_eq!(required, [["ANTHROPIC_API_KEY"], ["OPENAI_API_KEY"], ["ANTHROPIC_API_KEY"]]);
    insta::assert_snapshot!("background_agents_warnings", warnings(&parsed));
}

#[test]
fn a_team_round_trips_through_json_with_the_same_digest() {
    for text in [EVERY_KEY, OLDEST, BACKGROUND_AGENTS] {
        let team = good(text).team;
        let json = team.to_json().unwrap();
        let parsed: Team = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed, team);
        assert_eq!(parsed.to_json().unwrap(), json);
        assert_eq!(parsed.sha256().unwrap(), team.sha256().unwrap());
        assert_eq!(team.sha256().unwrap().len(), 64);
    }
}

#[test]
fn the_digest_ignores_formatting_and_key_order() {
    let a = "agents:\n  a:\n    model: m\n    add_date: true\nmodels:\n  m: {provider: openai, model: x, provider_opts: {b: 1, a: 2}}\n";
    let b = "# text\r\nmodels: {m: {provider_opts: {a: 2, b: 1}, model: x, provider: openai}}\r\nagents: {a: {add_date: true, model: m}}\r\n";
    assert_eq!(good(a).team.sha256().unwrap(), good(b).team.sha256().unwrap());
    let c = a.replace("true", "false");
    assert_ne!(good(a).team.sha256().unwrap(), good(&c).team.sha256().unwrap());
}

#[test]
fn json_of_an_invalid_team_is_rejected() {
    let cases = [
        (r#"{"agents":[]}"#, "the team has no agents"),
        (r#"{"agents":[{"name":"a","kind":"auto"},{"name":"a","kind":"auto"}]}"#, "two agents are named 'a'"),
        (r#"{"agents":[{"name":"a","kind":{"models":[]}}]}"#, "agent 'a' has no model"),
        (
            r#"{"agents":[{"name":"a","kind":"auto","sub_agents":["b"]}]}"#,
            "agent 'a' references non-existent sub-agent 'b'",
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(serde_json::from_str::<Team>(json).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_default_agent_is_root_or_the_first() {
    let team = |names: &str| good(&format!("agents: {{{names}}}")).team;
    assert_eq!(team("b: {model: auto}, a: {model: auto}").default_agent().name, "b");
    assert_eq!(team("b: {model: auto}, root: {model: auto}").default_agent().name, "root");
    assert!(team("b: {model: auto}").agent("a").is_none());
}

/// The columns: a reference, and the protocol, the base URL and the keys that it resolves to.
const PROVIDERS: &str = "
    openai/gpt-4o | OpenaiChat | | OPENAI_API_KEY
    openai/gpt-5-mini | OpenaiResponses | | OPENAI_API_KEY
    openai/o3 | OpenaiResponses | | OPENAI_API_KEY
    anthropic/claude-sonnet-4-0 | Anthropic | | ANTHROPIC_API_KEY
    google/gemini-2.5-flash | Google | | GOOGLE_API_KEY,GEMINI_API_KEY
    mistral/small | OpenaiChat | https://api.mistral.ai/v1 | MISTRAL_API_KEY
    xai/grok | OpenaiChat | https://api.x.ai/v1 | XAI_API_KEY
    nebius/a/b | OpenaiChat | https://api.studio.nebius.com/v1 | NEBIUS_API_KEY
    requesty/a | OpenaiChat | https://router.requesty.ai/v1 | REQUESTY_API_KEY
    minimax/a | OpenaiChat | https://api.minimax.io/v1 | MINIMAX_API_KEY
    ollama/qwen3 | OpenaiChat | http://localhost:11434/v1 |
    dmr/ai/qwen3 | DockerModelRunner | |
    amazon-bedrock/global.x:0 | AmazonBedrock | | AWS_BEARER_TOKEN_BEDROCK,AWS_ACCESS_KEY_ID
    scripted/anything | Scripted | |";

#[test]
fn builtin_providers_have_their_protocol_url_and_keys() {
    for line in PROVIDERS.trim().lines() {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let team = good(&format!("agents: {{a: {{model: '{}'}}}}", columns[0])).team;
        let [model] = models(&team, "a") else { panic!("{line}") };
        let found = [
            model.reference(),
            format!("{:?}", model.api),
            model.base_url.clone().unwrap_or_default(),
            model.token_keys.join(","),
        ];
        assert_eq!(found.as_slice(), columns, "{line}");
    }
}

#[test]
fn a_comma_list_keeps_every_alternative() {
    let team =
        good("agents: {a: {model: 'openai/gpt-4o, m,'}}\nmodels: {m: {provider: xai, model: grok}}").team;
    let names: Vec<String> = models(&team, "a").iter().map(ModelSettings::reference).collect();
    assert_eq!(names, ["openai/gpt-4o", "xai/grok"]);
    let nested = "agents: {a: {model: x}}\nmodels: {x: {model: 'y,m'}, y: {model: 'm,openai/b'}, m: {provider: xai, model: grok}}";
    let names: Vec<String> = models(&good(nested).team, "a").iter().map(ModelSettings::reference).collect();
    assert_eq!(names, ["xai/grok", "openai/b", "xai/grok"]);
}

#[test]
fn auto_chooses_the_first_provider_with_a_key() {
    let cases: [(&[&str], &str); 8] = [
        (&["OPENAI_API_KEY", "ANTHROPIC_API_KEY"], "anthropic/claude-sonnet-4-6"),
        (&["OPENAI_API_KEY", "MISTRAL_API_KEY"], "openai/gpt-5.6"),
        (&["CHATGPT_OAUTH_TOKEN", "OPENAI_API_KEY"], "openai/gpt-5.6"),
        (&["CHATGPT_OAUTH_TOKEN", "GEMINI_API_KEY"], "chatgpt/gpt-5.6"),
        (&["GEMINI_API_KEY"], "google/gemini-3.5-flash"),
        (&["MISTRAL_API_KEY"], "mistral/mistral-small-latest"),
        (&["AWS_PROFILE"], "amazon-bedrock/global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (&[], "dmr/ai/qwen3:latest"),
    ];
    for (set, expected) in cases {
        assert_eq!(auto_model(|name| set.contains(&name)).reference(), expected);
    }
}

#[test]
fn required_keys_include_models_and_env_references() {
    let team = good(EVERY_KEY).team;
    let needed = |name: &str| -> BTreeSet<String> {
        team.agent(name).unwrap().required_keys().into_iter().map(|key| key.any_of.join("|")).collect()
    };
    let helper = ["ANTHROPIC_API_KEY", "DOCS_TOKEN", "HOME", "MY_OPENAI_KEY", "OPENAI_BASE_URL", "PATH_B"];
    assert_eq!(needed("helper"), helper.map(str::to_owned).into());
    assert_eq!(needed("root"), BTreeSet::new());
    let program =
        RequiredKey { any_of: vec!["CLAUDE_KEY".to_owned()], needed_by: "command claude".to_owned() };
    assert_eq!(team.agent("program").unwrap().required_keys(), [program]);
}

#[test]
fn vertex_and_bedrock_need_a_key() {
    let file = |more: &str| {
        good(&format!(
            "models: {{m: {{provider: google, model: g, {more}provider_opts: {{project: p}}}}}}\nagents: {{a: {{model: 'm,amazon-bedrock/x'}}}}"
        ))
    };
    let parsed = file("token_key: VERTEX_TOKEN, ");
    let needed: Vec<_> =
        parsed.team.agent("a").unwrap().required_keys().into_iter().map(|key| key.any_of.join(" ")).collect();
    assert_eq!(needed, ["AWS_BEARER_TOKEN_BEDROCK AWS_ACCESS_KEY_ID", "VERTEX_TOKEN"]);
    assert_eq!(warnings(&parsed), "");
    assert!(warnings(&file("")).contains("name its variable with `token_key`"));
}

#[test]
fn the_transport_of_a_remote_server_follows_its_url() {
    let cases = [
        ("url: 'https://x/mcp'", McpTransport::StreamableHttp),
        ("url: 'https://x/sse'", McpTransport::Sse),
        ("url: 'https://x/sse', transport_type: streamable", McpTransport::StreamableHttp),
        ("url: 'https://x', transport_type: sse", McpTransport::Sse),
    ];
    for (remote, expected) in cases {
        let team =
            good(&format!("agents: {{a: {{model: auto, toolsets: [{{type: mcp, remote: {{{remote}}}}}]}}}}"))
                .team;
        let kind = &team.default_agent().toolsets[0].kind;
        assert!(
            matches!(kind, ToolsetKind::Mcp(Mcp { server: McpServer::Remote { transport, .. }, .. }) if *transport == expected),
            "{remote}: {kind:?}"
        );
    }
}

#[test]
fn an_unknown_toolset_type_is_a_warning() {
    let parsed = good("agents:\n  a:\n    model: auto\n    toolsets:\n      - {type: telescope, depth: 3}\n");
    let kind = ToolsetKind::Unsupported { kind: "telescope".to_owned() };
    assert_eq!(parsed.team.default_agent().toolsets[0].kind, kind);
    let expected = "5:9: unknown toolset type `telescope`; the agent runs without it\n";
    assert_eq!(warnings(&parsed), expected);
}

#[test]
fn a_command_agent_warns_about_keys_without_effect() {
    let parsed = good("agents:\n  a:\n    command: [cat]\n    max_iterations: 3\n");
    let expected =
        "4:5: `max_iterations` has no effect in an agent with `command`; configure the program itself\n";
    assert_eq!(warnings(&parsed), expected);
}

#[test]
fn default_values_are_accepted_in_every_toolset_type() {
    let toolset = "{type: think, shared: false, env: {}, url: '', args: [], toon: 'a, b'}";
    let parsed = good(&format!(
        "agents: {{a: {{model: auto, toolsets: [{toolset}], sub_agents: , instruction: ''}}}}"
    ));
    assert_eq!(parsed.team.default_agent().toolsets[0].toon, ["a", "b"]);
}

#[test]
fn line_endings_and_a_byte_order_mark_do_not_matter() {
    let team = good(EVERY_KEY).team;
    assert_eq!(good(&EVERY_KEY.replace('\n', "\r\n")).team, team);
    assert_eq!(good(&format!("\u{feff}{EVERY_KEY}")).team, team);
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "agents:\n  a: &base\n    model: openai/gpt-4o\n    add_date: true\n  b:\n    <<: *base\n    add_date: false\n";
    let team = good(text).team;
    assert!(team.agent("a").unwrap().add_date);
    assert!(!team.agent("b").unwrap().add_date);
    assert_eq!(models(&team, "b"), models(&team, "a"));
}

#[test]
fn unquoted_scalars_keep_their_spelling() {
    let team = good(
        "metadata: {version: 1.10, author: 0x10, license: yes}\nagents: {a: {model: auto, description: 007}}",
    )
    .team;
    assert_eq!(team.metadata().version, "1.10");
    assert_eq!(team.metadata().author, "0x10");
    assert_eq!(team.metadata().license, "yes");
    assert_eq!(team.default_agent().description, "007");
}

#[test]
fn identity_depends_on_names_and_descriptions_only() {
    let identity = |name: &str, rest: &str| {
        let file = format!("agents:\n  {name}:\n    model: openai/gpt-4o\n{rest}");
        good(&file).team.identity()
    };
    let original = identity("root", "    description: Helps\n");
    assert_eq!(original.len(), 8);
    assert_eq!(identity("root", "    description: Helps\n    instruction: Do.\n"), original);
    assert_ne!(identity("root", "    description: Writes\n"), original);
    assert_ne!(identity("roo", "    description: tHelps\n"), original);
}

#[test]
fn a_thinking_budget_can_be_a_map_up_to_version_2() {
    let budget = |map: &str| {
        let file = format!(
            "version: 2\nmodels: {{m: {{provider: openai, model: o3, thinking_budget: {map}}}}}\nagents: {{a: {{model: m}}}}"
        );
        models(&good(&file).team, "a")[0].thinking_budget.clone()
    };
    assert_eq!(budget("{effort: low}"), Some(ThinkingBudget::Effort("low".to_owned())));
    assert_eq!(budget("{tokens: 2048}"), Some(ThinkingBudget::Tokens(2048)));
}

#[test]
fn api_type_selects_the_protocol_of_a_provider() {
    let api = |more: &str| {
        let file =
            format!("providers: {{p: {{base_url: 'http://x/v1'{more}}}}}\nagents: {{a: {{model: p/m}}}}");
        models(&good(&file).team, "a")[0].api
    };
    assert_eq!(api(""), Api::OpenaiChat);
    assert_eq!(api(", api_type: openai_responses"), Api::OpenaiResponses);
}
