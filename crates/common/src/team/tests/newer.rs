//! Files with the keys of schema 8 to 16: what they resolve to.

use super::good::good;
use crate::team::Agent;
use crate::team::AgentKind;
use crate::team::Api;
use crate::team::ModelSettings;
use crate::team::ThinkingBudget;
use crate::team::ToolsetKind;
use crate::team::parse;

/// The first agent of a file.
fn agent(text: &str) -> Agent {
    good(text).team.agents()[0].clone()
}

/// The only model of the first agent of a file.
fn model(text: &str) -> ModelSettings {
    match agent(text).kind {
        AgentKind::Models(models) if models.len() == 1 => models[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_version_is_read_and_a_newer_one_is_a_warning() {
    for version in 0..=16 {
        assert!(good(&format!("version: {version}\nagents: {{a: {{model: auto}}}}\n")).warnings.is_empty());
    }
    for version in ["17", "\"300\""] {
        let parsed = good(&format!("version: {version}\nagents: {{a: {{model: auto}}}}\n"));
        let message = &parsed.warnings[0].message;
        assert!(
            message.ends_with("is newer than 16, the newest that is known; the file is read as 16"),
            "{message}"
        );
    }
}

#[test]
fn the_first_model_with_a_key_is_taken_where_the_agent_runs() {
    let text = "models:\n  best: {first_available: [anthropic/claude-opus-4-6, openai/gpt-4o, own]}\n  \
                own: {provider: openai, model: local, token_key: OWN_KEY}\nagents: {a: {model: best}}\n";
    let model = model(text);
    let taken = |keys: &[&str]| model.available(|key| keys.contains(&key)).reference();
    assert_eq!(taken(&["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]), "anthropic/claude-opus-4-6");
    assert_eq!(taken(&["OPENAI_API_KEY", "OWN_KEY"]), "openai/gpt-4o");
    assert_eq!(taken(&["OWN_KEY"]), "openai/local");
    assert_eq!(taken(&[]), "anthropic/claude-opus-4-6", "its missing key is reported");
    let required = agent(text).required_keys();
    assert_eq!(required[0].any_of, ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OWN_KEY"]);
    let local = "models: {m: {first_available: [openai/gpt-4o, dmr/ai/qwen3]}}\nagents: {a: {model: m}}\n";
    assert_eq!(agent(local).required_keys(), [], "the local model needs none");
}

#[test]
fn a_provider_has_the_protocol_of_another_and_defaults_for_its_models() {
    let text = "providers:\n  work:\n    provider: anthropic\n    token_key: WORK_KEY\n    max_tokens: 2000\n    temperature: 0.2\n    \
                thinking_budget: low\n    provider_opts: {interleaved_thinking: true, x: 1}\n\
                models: {m: {provider: work, model: claude-opus-4-6, temperature: 0.9, provider_opts: {x: 2}}}\n\
                agents:\n  a: {model: MODEL}\n";
    let named = model(&text.replace("MODEL", "m"));
    assert_eq!((named.api, named.token_keys), (Api::Anthropic, vec!["WORK_KEY".to_owned()]));
    assert_eq!((named.max_tokens, named.temperature), (Some(2000), Some(0.9)));
    assert_eq!(named.thinking_budget, Some(ThinkingBudget::Effort("low".to_owned())));
    assert_eq!(
        serde_json::to_string(&named.provider_opts).unwrap(),
        r#"{"interleaved_thinking":true,"x":2}"#
    );
    let inline = model(&text.replace("MODEL", "work/claude-haiku-4-5"));
    assert_eq!((inline.api, inline.max_tokens, inline.temperature), (Api::Anthropic, Some(2000), Some(0.2)));
}

#[test]
fn the_keys_of_a_provider_are_those_of_the_provider_that_it_names() {
    let provider =
        |keys: &str| model(&format!("providers: {{p: {{{keys}}}}}\nagents: {{a: {{model: p/gpt-5}}}}\n"));
    let openai = provider("provider: openai");
    assert_eq!((openai.api, openai.token_keys), (Api::OpenaiResponses, vec!["OPENAI_API_KEY".to_owned()]));
    let elsewhere = provider("provider: openai, base_url: 'http://x/v1'");
    assert_eq!((elsewhere.api, elsewhere.token_keys), (Api::OpenaiChat, Vec::new()));
    let groq = provider("provider: groq");
    assert_eq!(groq.base_url.as_deref(), Some("https://api.groq.com/openai/v1"));
}

#[test]
fn providers_that_speak_openais_protocol_have_their_key_and_address() {
    let known = [
        ("nvidia", "NVIDIA_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("baseten", "BASETEN_API_KEY"),
        ("ovhcloud", "OVH_AI_ENDPOINTS_ACCESS_TOKEN"),
        ("groq", "GROQ_API_KEY"),
        ("fireworks", "FIREWORKS_API_KEY"),
        ("deepseek", "DEEPSEEK_API_KEY"),
        ("cerebras", "CEREBRAS_API_KEY"),
        ("together", "TOGETHER_API_KEY"),
        ("huggingface", "HF_TOKEN"),
        ("moonshot", "MOONSHOT_API_KEY"),
        ("vercel", "AI_GATEWAY_API_KEY"),
        ("cloudflare-workers-ai", "CLOUDFLARE_API_TOKEN"),
        ("cloudflare-ai-gateway", "CLOUDFLARE_API_TOKEN"),
        ("github-copilot", "GITHUB_TOKEN"),
        ("opencode-zen", "OPENCODE_API_KEY"),
        ("opencode-go", "OPENCODE_API_KEY"),
    ];
    for (provider, key) in known {
        let settings = ModelSettings::inline(provider, "m").unwrap();
        assert_eq!(
            (settings.api, settings.token_keys),
            (Api::OpenaiChat, vec![key.to_owned()]),
            "{provider}"
        );
        assert!(settings.base_url.unwrap().starts_with("https://"), "{provider}");
    }
}

#[test]
fn chatgpt_needs_a_token() {
    let settings = ModelSettings::inline("chatgpt", "gpt-5.6").unwrap();
    assert_eq!(
        (settings.api, settings.token_keys),
        (Api::OpenaiResponses, vec!["CHATGPT_OAUTH_TOKEN".to_owned()])
    );
}

#[test]
fn named_toolsets_commands_and_skills_are_used_by_name() {
    let text = "toolsets: {notes: {type: todo, shared: true}}\ncommands: {house: {fix: Theirs, tidy: Tidy up}}\n\
                skills: {house: [{name: style, description: d, instructions: Theirs}, {name: tone, description: d, instructions: i}]}\n\
                agents:\n  a:\n    model: auto\n    toolsets: [{type: think}]\n    commands: {fix: Mine}\n    \
                skills: [{name: style, description: d, instructions: Mine}]\n    \
                use_toolsets: [notes]\n    use_commands: [house]\n    use_skills: [house]\n";
    let agent = agent(text);
    let kinds: Vec<_> = agent.toolsets.into_iter().map(|toolset| toolset.kind).collect();
    assert_eq!(kinds, [ToolsetKind::Think, ToolsetKind::Todo { shared: true }]);
    assert_eq!(
        (&*agent.commands["fix"].instruction, &*agent.commands["tidy"].instruction),
        ("Mine", "Tidy up")
    );
    let skills = agent.skills.unwrap().inline;
    let texts: Vec<(&str, &str)> = skills.iter().map(|skill| (&*skill.name, &*skill.instructions)).collect();
    assert_eq!(texts, [("style", "Mine"), ("tone", "i")]);
    let broken = "toolsets: {unused: {type: mcp}}\nagents: {a: {model: auto}}\n";
    assert!(parse("f", broken.as_bytes()).is_err(), "a named toolset is checked even if no agent uses it");
}

#[test]
fn names_alone_choose_from_the_local_skills() {
    let skills = |value: &str| agent(&format!("agents: {{a: {{model: auto, skills: {value}}}}}\n")).skills;
    assert!(skills("[review]").unwrap().local);
    assert!(skills("true").unwrap().names.is_empty());
    assert!(!skills("[{name: a, description: b, instructions: c}]").unwrap().local);
    assert!(!skills("['https://x', review]").unwrap().local);
    assert_eq!(skills("false"), None);
}

#[test]
fn an_instruction_is_a_list_or_comes_from_files() {
    let instruction = |keys: &str| agent(&format!("agents: {{a: {{model: auto, {keys}}}}}\n")).instruction;
    assert_eq!(instruction("instruction: [One., Two.]"), "One.\n\nTwo.");
    assert_eq!(instruction("instruction_file: a.md"), "The text of a.md.");
    assert_eq!(instruction("instruction_file: [a.md, p/b.md]"), "The text of a.md.\n\nThe text of p/b.md.");
    for outside in ["/etc/passwd", "../a.md", "p/../../a.md", "~/a.md"] {
        let text = format!("agents: {{a: {{model: auto, instruction_file: '{outside}'}}}}\n");
        let errors = parse("f", text.as_bytes()).unwrap_err();
        assert!(errors.to_string().contains("is outside the folder of the agent file"), "{errors}");
    }
}

#[test]
fn a_harness_is_a_command() {
    let command = |harness: &str| match agent(&format!("agents: {{a: {{harness: {harness}}}}}\n")).kind {
        AgentKind::Command { program, args, .. } => format!("{program} {}", args.join(" ")),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        command("{type: claude-code, model: opus, effort: high}"),
        "claude -p --output-format text --permission-mode acceptEdits --model opus --effort high"
    );
    assert_eq!(
        command("{type: codex, model: gpt-5}"),
        "codex exec --sandbox workspace-write --skip-git-repo-check --model gpt-5 -"
    );
    assert_eq!(
        command("{type: opencode, agent: build, thinking: true}"),
        "opencode run --agent build --thinking {task}"
    );
    assert_eq!(command("{type: pi}"), "pi -p {task}");
}

#[test]
fn a_part_of_a_toolset_has_only_its_own_tools() {
    let tools = |keys: &str| {
        let toolset =
            agent(&format!("agents: {{a: {{model: auto, toolsets: [{{{keys}}}]}}}}\n")).toolsets[0].clone();
        toolset.tools
    };
    assert_eq!(tools("type: file"), ["read_file", "write_file", "edit_file"]);
    assert_eq!(tools("type: file, tools: [read_file, shell]"), ["read_file"]);
    assert_eq!(tools("type: file, tools: [shell]"), [""], "no tool is left");
    assert_eq!(tools("type: background_jobs").len(), 5);
}

#[test]
fn the_budget_of_a_session_is_read() {
    let budget = |text: &str| good(&format!("{text}\nagents: {{a: {{model: auto}}}}\n")).team.budget();
    assert_eq!(budget("budget: {max_tokens: 5000}").map(|budget| budget.max_tokens), Some(5000));
    assert_eq!(budget("budget: {max_tokens: 0, max_cost: 0, max_time: 0s}"), None);
    let all = budget("budget: {max_cost: 1.5, max_time: 90s}").unwrap();
    assert_eq!((all.max_cost, all.max_time), (Some(1.5), Some(std::time::Duration::from_secs(90))));
    let named = "budgets: {day: {max_tokens: 7}}\nagents: {a: {model: auto, budgets: [day]}}\n";
    let team = good(named).team;
    assert_eq!(
        (team.budgets()["day"].max_tokens, &team.agents()[0].budgets[..]),
        (7, &["day".to_owned()][..])
    );
    let unknown = parse("agents.yaml", named.replace("[day]", "[days]").as_bytes()).unwrap_err();
    let report = unknown.report();
    assert!(
        report.contains("agents.a: budgets: unknown budget \"days\"") && report.contains("`day`"),
        "{report}"
    );
}

#[test]
fn hooks_are_read_with_their_matchers() {
    let text = "agents:\n  a:\n    model: auto\n    hooks:\n      \
                post_tool_use: {matcher: 'shell', hooks: {type: command, command: ./log.sh}}\n      \
                stop: [{type: builtin, command: snapshot}, {type: model, model: openai/gpt-4o, prompt: Sum up}]\n      \
                session_start: []\n";
    let hooks = agent(text).hooks;
    let events: Vec<&str> = hooks.keys().map(String::as_str).collect();
    assert_eq!(events, ["post_tool_use", "stop"]);
    assert_eq!(hooks["post_tool_use"][0].matcher.as_deref(), Some("shell"));
    assert_eq!(hooks["stop"][0].hooks.len(), 2);
}

#[test]
fn a_task_budget_is_a_number_or_a_map_and_that_of_a_model_wins() {
    let text = "providers:\n  work: {provider: anthropic, task_budget: {type: tokens, total: 30000}}\n\
                models: {m: {provider: work, model: claude-opus-4-7, task_budget: 50000}}\nagents:\n  a: {model: MODEL}\n";
    assert_eq!(model(&text.replace("MODEL", "m")).task_budget, Some(50000));
    assert_eq!(model(&text.replace("MODEL", "work/claude-opus-4-7")).task_budget, Some(30000));
    let none = text.replace("total: 30000", "total: 0").replace("MODEL", "work/claude-opus-4-7");
    assert_eq!(model(&none).task_budget, None);
}

#[test]
fn models_name_what_they_take_and_who_summarizes() {
    let text = "providers:\n  own: {base_url: 'http://localhost', compaction_model: fast}\nmodels:\n  \
                fast: {provider: openai, model: gpt-4o-mini}\n  \
                big: {provider: openai, model: o3, compaction_model: fast, compaction_threshold: 0.5, \
                capabilities: {image: true}}\n  \
                mine: {provider: own, model: x, capabilities: {pdf: true}}\nagents: {a: {model: 'big, mine'}}\n";
    let team = good(text).team;
    let AgentKind::Models(models) = &team.default_agent().kind else { panic!("{team:?}") };
    let summaries =
        |at: usize| models[at].compaction_models.iter().map(ModelSettings::reference).collect::<Vec<_>>();
    assert_eq!(
        (summaries(0), summaries(1)),
        (vec!["openai/gpt-4o-mini".into()], vec!["openai/gpt-4o-mini".into()])
    );
    assert_eq!((models[0].compaction_threshold, models[1].compaction_threshold), (Some(0.5), None));
    assert_eq!((models[0].takes_images, models[1].takes_images), (Some(true), Some(false)));
    let unknown = text.replace("compaction_model: fast, c", "compaction_model: fst, c");
    let errors = parse("agents.yaml", unknown.as_bytes()).unwrap_err();
    assert!(
        errors.report().contains("model 'big' references non-existent model 'fst'"),
        "{}",
        errors.report()
    );
}

#[test]
fn a_skill_that_runs_by_itself_has_its_model_and_its_toolsets() {
    let text = "toolsets: {web: {type: fetch}}\nskills:\n  house:\n    - {name: s, description: d, instructions: i, context: fork, \
                model: openai/gpt-4o-mini, allowed_tools: [read_*], toolsets: [web]}\n\
                agents: {a: {model: auto, use_skills: [house]}}\n";
    let skill = agent(text).skills.unwrap().inline.remove(0);
    assert_eq!((skill.fork, skill.models[0].reference()), (true, "openai/gpt-4o-mini".to_owned()));
    assert_eq!(skill.allowed_tools, ["read_*"]);
    assert!(matches!(skill.more_toolsets[0].kind, ToolsetKind::Fetch(_)));
    for (wrong, expected) in [
        (
            text.replace("toolsets: [web]", "toolsets: [wbe]"),
            "skill 's' of agent 'a' references non-existent toolset 'wbe'",
        ),
        (
            text.replace("openai/gpt-4o-mini", "fst"),
            "skill 's' of agent 'a' references non-existent model 'fst'",
        ),
        (text.replace("context: fork, ", ""), "`model` of a skill can only be used with `context: fork`"),
    ] {
        let errors = parse("agents.yaml", wrong.as_bytes()).unwrap_err();
        assert!(errors.report().contains(expected), "{}", errors.report());
    }
}
