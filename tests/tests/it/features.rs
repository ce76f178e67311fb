//! The features of agent files, one small file for each: those in `tests/features/runs` run one turn, those in
//! `tests/features/fails` fail with line and hint.

use std::collections::BTreeSet;

use legwork_common::team::Support;
use legwork_common::team::compatibility_rows;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::repository;
use legwork_tests::provider::Answer;
use legwork_tests::provider::Call;
use legwork_tests::provider::FakeProvider;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Runtime;

/// The files that run, each with a text that the model's request has because of the feature.
const RUNS: &[(&str, &str)] = &[
    ("agent_keys", r#"Be full."#),
    ("answer_tool", r#""submit_answer""#),
    ("background_jobs", r#""run_background_job""#),
    ("budget", r#"Save."#),
    ("cache", r#"Remember."#),
    ("code_mode", r#""think""#),
    ("deferred_tools", r#""search_tool""#),
    ("fetch_with_headers", r#""fetch""#),
    ("file_toolset", r#""edit_file""#),
    ("first_available", r#""model":"second""#),
    ("force_handoff", r#""handoff""#),
    ("hooks", r#"Built in for root."#),
    ("instruction_file", r#"The house rules."#),
    ("instruction_list", r#"Be kind.\n\nBe brief."#),
    ("instruction_with_variables", r#"The mood is calm, and ${this} stays."#),
    ("later_version", r#"Later."#),
    ("limits", r#"Stop."#),
    ("lists", r#""search_files_content""#),
    ("mcps", r#"Serve."#),
    ("memory", r#""add_memory""#),
    ("metadata", r#"Sign."#),
    ("middle_version", r#""create_todo""#),
    ("model_by_variable", r#""model":"calm""#),
    ("model_hook", r#"It is turn 1 of root."#),
    ("model_keys", r#""model":"small""#),
    ("newest_version", r#""think""#),
    ("observing_hooks", r#"It is watched."#),
    ("oldest_version", r#""think""#),
    ("open_url", r#""open_docs""#),
    ("permissions", r#""shell""#),
    ("plan", r#""write_plan""#),
    ("programs", r#"Name: words | Description: Counts words"#),
    ("prompt_files", r#"Be kind to all."#),
    ("prompt_files_below", r#"- deep/RULES.md"#),
    ("provider_defaults", r#""temperature":0.25"#),
    ("rag", r#"Read."#),
    ("rag_source", r#"Look."#),
    ("readonly", r#""read_file""#),
    ("safety", r#"Careful."#),
    ("sampling", r#""max_tokens":400"#),
    ("shared_commands", r#"Obey."#),
    ("shared_skills", r#""Hello""#),
    ("shared_toolsets", r#""create_todo""#),
    ("shell_without_sudo", r#""shell""#),
    ("skills", r#"How to plant a tree."#),
    ("structured_output", r#""json_schema""#),
    ("team", r#""run_background_agent""#),
    ("thinking", r#"Think."#),
    ("toolsets", r#""greet""#),
    ("toolsets_without_effect", r#""think""#),
    ("user_prompt", r#""user_prompt""#),
    ("version_0", r#""create_todo""#),
    ("version_1", r#"Be one."#),
    ("version_2", r#"Be two."#),
    ("version_4", r#""shell""#),
    ("webhook", r#""send_webhook""#),
];

/// The files that fail, each with the line of its error, a part of the message and a part of the hint.
const FAILS: &[(&str, u64, &str, &str)] = &[
    ("allowed_domains", 7, r#"allowed_domains and blocked_domains are mutually exclusive"#, r#"only one"#),
    ("auth", 5, r#"`auth` in a model is refused"#, r#"`token_key`"#),
    ("both_instructions", 5, r#"mutually exclusive"#, r#""#),
    (
        "compaction_threshold",
        4,
        r#"compaction_threshold must be greater than 0 and at most 1, got 80"#,
        r#""#,
    ),
    ("cost_budget", 1, r#"`max_cost` must be"#, r#""#),
    ("deny_list", 5, r#"an entry of `deny_list` must not be empty"#, r#""#),
    (
        "first_available_with_keys",
        4,
        r#"first_available cannot be combined with temperature"#,
        r#"set the key in its candidates"#,
    ),
    ("handoff_to_itself", 4, r#"cannot force_handoff to itself"#, r#""#),
    ("harness_type", 3, r#"unsupported harness.type `cursor`"#, r#"`claude-code`"#),
    ("hook_prompt", 4, r#"`range` is not supported"#, r#"`toJSON`"#),
    ("hook_type", 4, r#"hooks.stop[0]: unsupported hook type 'webhook'"#, r#"`command`"#),
    ("missing_instruction_file", 4, r#"cannot be read"#, r#"relative to the folder"#),
    ("missing_toolset", 4, r#"references non-existent toolset 'note'"#, r#"did you mean `notes`?"#),
    ("negative_budget", 1, r#"`max_tokens` must be an integer"#, r#""#),
    ("outside_instruction_file", 4, r#"outside the folder"#, r#"below the folder"#),
    ("safety", 4, r#"invalid safety mode `careful`"#, r#"`balanced`"#),
    ("sandbox", 1, r#"`sandbox` in the runtime defaults is refused"#, r#"isolate the worker itself"#),
    ("tool_guard", 4, r#"`safer_shell` as a built-in hook is refused"#, r#"`safety: balanced`"#),
    ("unknown_budget", 5, r#"unknown budget "dey""#, r#"did you mean `day`?"#),
    ("unknown_key", 4, r#"unknown key `toolset` in an agent"#, r#"did you mean `toolsets`?"#),
    ("unknown_top_level_key", 4, r#"unknown key `tool_sets` in the file"#, r#"did you mean `toolsets`?"#),
    ("version", 1, r#"unsupported config version: latest"#, r#"omit `version`"#),
];

/// The text of a file of a folder below `tests/features`.
fn text(folder: &str, name: &str) -> String {
    let path = repository().join("tests/features").join(folder).join(format!("{name}.yaml"));
    std::fs::read_to_string(path).unwrap()
}

/// The names of all files of a folder.
fn names(folder: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(repository().join("tests/features").join(folder)).unwrap();
    files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// The answer of an agent that answers by a tool.
const SUBMITTED: &str = r#"{"word":"done"}"#;

/// What the model says: one word, by the tool for it where there is one.
fn answer(request: &Value) -> Answer {
    if !request["tools"].to_string().contains("submit_answer") {
        return Answer::text(&["done"]);
    }
    let call = Call { id: "call_1", name: "submit_answer", arguments: vec![SUBMITTED] };
    Answer::Reply { reasoning: None, text: Vec::new(), calls: vec![call] }
}

#[test]
fn every_feature_runs_one_turn() {
    let runtime = Runtime::new().unwrap();
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("LOCAL_KEY", "sesame");
    state.set("MOOD", "calm");
    state.file("RULES.md", "Be kind to all.");
    for folder in ["prompts", "deep"] {
        std::fs::create_dir(state.path(folder)).unwrap();
    }
    state.file("deep/RULES.md", "Be kind here.");
    state.file("prompts/root.md", "The house rules.");
    for (name, expected) in RUNS {
        let fake = runtime.block_on(FakeProvider::choosing(answer));
        state.set("FAKE_URL", &fake.url);
        let file = state.file(&format!("{name}.yaml"), text("runs", name));
        let output = state.legwork(["run", &file, "Hello"]);
        // A conversation that is passed on has two answers.
        let answers: Vec<&str> = output.stdout.split_whitespace().collect();
        let expected_answers = match *name {
            "force_handoff" => vec!["done"; 2],
            "answer_tool" => vec![SUBMITTED],
            _ => vec!["done"],
        };
        assert_eq!((output.status, answers), (0, expected_answers), "{name}: {output:?}");
        let asked = fake.asked()[0].body.to_string();
        assert!(asked.contains(expected), "{name}: {asked}");
    }
}

#[test]
fn every_mistake_is_reported_with_line_and_hint() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    for (name, line, message, hint) in FAILS {
        let file = state.file(&format!("{name}.yaml"), text("fails", name));
        let output = state.legwork(["check", "--json", &file]);
        assert_eq!(output.status, 4, "{name}: {output:?}");
        let errors = output.json_lines()[0]["errors"].clone();
        let error = &errors[0];
        assert_eq!(error["line"], json!(line), "{name}: {errors}");
        assert!(error["message"].as_str().unwrap().contains(message), "{name}: {errors}");
        assert!(error["hint"].as_str().unwrap_or_default().contains(hint), "{name}: {errors}");
    }
}

#[test]
fn every_file_of_the_folders_is_listed() {
    assert_eq!(names("runs"), RUNS.iter().map(|(name, _)| (*name).to_owned()).collect());
    assert_eq!(names("fails"), FAILS.iter().map(|(name, ..)| (*name).to_owned()).collect());
}

#[test]
fn every_key_is_in_a_file_that_runs() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    std::fs::create_dir(state.path("prompts")).unwrap();
    state.file("prompts/root.md", "The house rules.");
    let mut found = BTreeSet::new();
    for (name, _) in RUNS {
        let file = state.file(&format!("{name}.yaml"), text("runs", name));
        let report = state.legwork(["check", "--json", &file]).json_lines()[0].clone();
        for key in report["found"].as_object().unwrap().values().flat_map(|keys| keys.as_array().unwrap()) {
            let text = |field: &str| key[field].as_str().unwrap().to_owned();
            found.insert((text("in"), text("key")));
        }
    }
    let rows = compatibility_rows().filter(|row| row.support != Support::Refused);
    let missing: Vec<_> =
        rows.map(|row| (row.map.to_owned(), row.key.to_owned())).filter(|row| !found.contains(row)).collect();
    assert_eq!(missing, [], "add a file to `runs`, or the key to one");
}

#[test]
fn check_groups_the_keys_of_a_file_and_explains_one() {
    let state = StateFolder::on("redis://127.0.0.1:1");
    let file = state.file("keys.yaml", text("runs", "model_keys"));
    let report = state.legwork(["check", "--json", &file]).json_lines()[0].clone();
    let keys = |class: &str| -> Vec<&str> {
        report["found"][class].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect()
    };
    assert!(keys("yes").contains(&"agents") && keys("no").contains(&"title_model"), "{report}");
    assert_eq!(keys("refused"), [""; 0]);
    let file = state.file("refused.yaml", text("fails", "auth"));
    let report = state.legwork(["check", "--json", &file]).json_lines()[0].clone();
    assert_eq!(report["errors"][0]["class"], "refused", "{report}");
    assert_eq!(report["found"]["refused"][0]["lines"], json!([5]), "{report}");

    let rows = state.legwork(["check", "--explain", "instruction_file"]).expect_success();
    assert_eq!(
        rows,
        "`instruction_file` in an agent: yes: read where the team is submitted, from the folder of the agent file or below\n"
    );
    let unknown = state.legwork(["check", "--explain", "toolset"]);
    assert_eq!(unknown.status, 2, "{unknown:?}");
    assert!(unknown.stderr.contains("did you mean `toolsets`?"), "{unknown:?}");
}
