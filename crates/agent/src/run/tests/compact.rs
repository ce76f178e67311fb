//! Summaries of long conversations.

use async_trait::async_trait;

use super::*;
use crate::compaction;
use crate::model::ModelCall;
use crate::model::ModelError;
use crate::model::ModelPort;
use crate::model::ModelReply;
use crate::model::Purpose;
use crate::prompt;
use crate::pruning;
use crate::testing::FakeModels;

/// Models that keep the size of each request.
#[derive(Debug)]
struct MeasuringModels {
    models: Arc<dyn ModelPort>,
    tokens: std::sync::Mutex<Vec<(Purpose, u64)>>,
}

#[async_trait]
impl ModelPort for MeasuringModels {
    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, request, deltas } = call;
        let tokens = compaction::estimate(&request.messages, &request.tools);
        self.tokens.lock().unwrap().push((request.purpose, tokens));
        self.models.stream(ModelCall { settings, request, deltas }).await
    }
}

#[tokio::test]
async fn a_thousand_turns_fit_into_a_small_window() {
    let window = 4000;
    let thought = "It is long, and it is said again. ".repeat(10);
    let reply = |turn| calls("shell", json!({"cmd": format!("echo {turn} {thought}")}));
    let mut replies: Vec<Value> = (0..999).map(reply).collect();
    replies.push(json!({"text": "done"}));
    let mut world = world(&json!({"a": replies}));
    let models = Arc::new(MeasuringModels { models: world.ports.models.clone(), tokens: Default::default() });
    world.ports.models = models.clone();
    let mut settings = crate::testing::settings();
    settings.provider_opts.insert("context_size".to_owned(), json!(window));
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    let team = team(&[(
        "a",
        &[],
        json!({"toolsets": toolsets, "kind": {"models": [settings]}, "max_iterations": 0}),
    )]);
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let tokens = models.tokens.lock().unwrap().clone();
    let largest = tokens.iter().map(|(_, tokens)| *tokens).max().unwrap();
    assert!(largest <= window, "{largest}");
    let summaries = tokens.iter().filter(|(purpose, _)| *purpose == Purpose::Summary).count();
    assert!((20..500).contains(&summaries), "{summaries}");

    // Another attempt has the same conversation and pays for no summary again.
    let entries = world.journal.entries();
    let opening = prompt::delegated("the task", None).to_vec();
    let resumed = Transcript::new(opening.clone(), &entries);
    assert!(compaction::estimate(resumed.messages(), &[]) <= window);
    let task: Vec<Message> = resumed.task().iter().map(|message| (**message).clone()).collect();
    assert_eq!(task, opening);
    assert!(!world.journal.output().contains("Summary before turn"), "{}", world.journal.output());
    // The pruned turns are much smaller and lead to the same conversation.
    let mut pruned = entries.clone();
    pruning::prune_replaced(&mut pruned);
    assert_eq!(Transcript::new(opening, &pruned).messages(), resumed.messages());
    let bytes = |entries: &[TurnEntry]| serde_json::to_string(entries).unwrap().len();
    assert!(3 * bytes(&pruned) < bytes(&entries), "{} of {}", bytes(&pruned), bytes(&entries));
    let asked = tokens.len();
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", pruned)).await), "done");
    assert_eq!(models.tokens.lock().unwrap().len(), asked);
}

/// A small window, and turns that fill it.
fn small_window(more: Value) -> Arc<Team> {
    let mut settings = crate::testing::settings();
    settings.provider_opts.insert("context_size".to_owned(), json!(1780));
    let mut agent = json!({"kind": {"models": [settings]}});
    for (key, value) in more.as_object().unwrap() {
        agent[key] = value.clone();
    }
    team(&[("a", &[], agent)])
}

fn said(text: &str) -> Result<ModelReply, ModelError> {
    Ok(ModelReply::complete(AssistantMessage { text: text.into(), ..AssistantMessage::default() }))
}

/// A reply that runs this command.
fn ran(cmd: &str) -> Result<ModelReply, ModelError> {
    let arguments = json!({"cmd": cmd}).to_string();
    let call = ToolCall { id: "c".into(), name: "shell".into(), arguments, thought_signature: None };
    Ok(ModelReply::complete(AssistantMessage { tool_calls: vec![call], ..AssistantMessage::default() }))
}

async fn asked(team: &Arc<Team>, answers: Vec<Result<ModelReply, ModelError>>) -> (World, Vec<Purpose>) {
    let models = Arc::new(FakeModels::new(answers));
    let mut world = world(&json!({}));
    world.ports.models = models.clone();
    assert_eq!(result_of(run_to_end(&world, delegated(team, "a", Vec::new())).await), "done");
    let purposes = models.requests().iter().map(|(_, request)| request.purpose).collect();
    (world, purposes)
}

#[tokio::test]
async fn an_empty_summary_leaves_the_conversation_and_is_not_asked_for_each_turn() {
    let team = small_window(json!({"toolsets": [{"kind": {"type": "shell", "env": {}}}]}));
    let answers =
        vec![ran("seq 1 600"), ran("seq 601 900"), said(" "), ran("echo one"), ran("echo two"), said("done")];
    let (world, purposes) = asked(&team, answers).await;
    let turns = |count| vec![Purpose::Turn; count];
    assert_eq!(purposes, [turns(2), vec![Purpose::Summary], turns(3)].concat());
    let warned = RunEvent::Warning("the conversation was not summarized: the summary is empty".into());
    assert!(world.journal.events().contains(&warned));
    let opening = prompt::delegated("the task", None).to_vec();
    let whole = Transcript::new(opening, &world.journal.entries());
    assert!(format!("{:?}", whole.messages()).contains("599"), "nothing is forgotten");
}

#[tokio::test]
async fn a_summary_that_is_longer_than_what_it_replaces_is_not_taken_and_not_repeated() {
    let team = small_window(json!({"toolsets": [{"kind": {"type": "shell", "env": {}}}]}));
    let long = "s".repeat(6000);
    let answers = vec![
        ran("seq 1 600"),
        ran("seq 601 900"),
        said(&long),
        ran("echo one"),
        ran("echo two"),
        said("done"),
    ];
    let (world, purposes) = asked(&team, answers).await;
    let turns = |count| vec![Purpose::Turn; count];
    assert_eq!(purposes, [turns(2), vec![Purpose::Summary], turns(3)].concat());
    let why = "the conversation was not summarized: the summary is not shorter than what it would replace";
    assert!(world.journal.events().contains(&RunEvent::Warning(why.into())));
    let opening = prompt::delegated("the task", None).to_vec();
    let whole = format!("{:?}", Transcript::new(opening, &world.journal.entries()).messages());
    assert!(whole.contains("599") && !whole.contains("sss"), "nothing is forgotten");
}

#[tokio::test]
async fn hooks_refuse_a_summary_or_observe_it() {
    let hook = |text: &str| json!([{"hooks": [{"kind": {"command": text}}]}]);
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    for event in ["pre_compact", "before_compaction"] {
        let hooks = json!({event: hook("echo 'keep it' >&2; exit 2")});
        let team = small_window(json!({"toolsets": toolsets, "hooks": hooks}));
        let answers = vec![ran("seq 1 600"), ran("seq 601 900"), said("done")];
        let (world, purposes) = asked(&team, answers).await;
        assert_eq!(purposes, vec![Purpose::Turn; 3], "{event}");
        let why = "the conversation was not summarized: a hook refused it: keep it";
        assert!(world.journal.events().contains(&RunEvent::Warning(why.into())), "{event}");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = |event: &str| hook(&format!("echo {event} >> {}/log", folder.path().display()));
    let events = ["pre_compact", "before_compaction", "after_compaction"];
    let hooks: Value = events.iter().map(|event| ((*event).to_owned(), log(event))).collect();
    let team = small_window(json!({"toolsets": toolsets, "hooks": hooks}));
    let answers = vec![ran("seq 1 600"), ran("seq 601 900"), said("short"), said("done")];
    let (_, purposes) = asked(&team, answers).await;
    assert!(purposes.contains(&Purpose::Summary), "{purposes:?}");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("log")).unwrap(),
        format!("{}\n", events.join("\n"))
    );
}

#[tokio::test]
async fn ids_of_background_work_stand_under_a_summary() {
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}, {"kind": {"type": "background_agents"}}]);
    let team = small_window(json!({"toolsets": toolsets}));
    let models = Arc::new(FakeModels::new(vec![
        ran("seq 1 600"),
        ran("seq 601 900"),
        said("the summary"),
        said("done"),
    ]));
    let mut world = world(&json!({}));
    world.ports.models = models.clone();
    world.service.have(viewed(0, "b", State::Completed, "unread"));
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
    let entries = world.journal.entries();
    let summary = entries.iter().find_map(|entry| match entry {
        TurnEntry::Compacted { summary, .. } => Some(summary.clone()),
        _ => None,
    });
    let summary = summary.unwrap();
    assert!(
        summary.starts_with("the summary\n\nBackground work at the time of this summary, by id:"),
        "{summary}"
    );
    assert!(summary.contains(&crate::testing::job_id(0).to_string()), "{summary}");
    assert!(!summary.contains("No background jobs"), "{summary}");
}

#[tokio::test]
async fn a_conversation_is_not_summarized_where_the_file_forbids_it() {
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    let limits = json!({"keeps_whole_conversation": true});
    let team = small_window(json!({"toolsets": toolsets, "limits": limits}));
    let (_, purposes) = asked(&team, vec![ran("seq 1 600"), ran("seq 601 900"), said("done")]).await;
    assert_eq!(purposes, [Purpose::Turn; 3]);
}

#[tokio::test]
async fn the_file_names_the_model_that_writes_summaries() {
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    let named = |name: &str| json!([ModelSettings::inline("scripted", name).unwrap()]);
    // compaction_model of the agent wins over that of its model.
    for (of_agent, of_model, expected) in [
        (json!([]), json!([]), "scripted/test"),
        (named("small"), json!([]), "scripted/small"),
        (json!([]), named("tiny"), "scripted/tiny"),
        (named("small"), named("tiny"), "scripted/small"),
    ] {
        let mut settings = json!(crate::testing::settings());
        settings["provider_opts"] = json!({"context_size": 1780});
        settings["compaction_models"] = of_model;
        let limits = json!({"compaction_models": of_agent});
        let kind = json!({"models": [settings]});
        let team = team(&[("a", &[], json!({"toolsets": toolsets, "limits": limits, "kind": kind}))]);
        let models = Arc::new(FakeModels::new(vec![
            ran("seq 1 600"),
            ran("seq 601 900"),
            said("short"),
            said("done"),
        ]));
        let mut world = world(&json!({}));
        world.ports.models = models.clone();
        assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "done");
        let asked: Vec<String> = models.requests().into_iter().map(|(model, _)| model).collect();
        assert_eq!(asked, ["scripted/test", "scripted/test", expected, "scripted/test"]);
    }
}

#[tokio::test]
async fn the_threshold_of_a_model_wins() {
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    for (compaction_threshold, summaries) in [(0.1, 1), (1.0, 0)] {
        let mut settings = json!(crate::testing::settings());
        settings["provider_opts"] = json!({"context_size": 8000});
        settings["compaction_threshold"] = json!(compaction_threshold);
        let limits = json!({"compaction_threshold": 0.5});
        let kind = json!({"models": [settings]});
        let team = team(&[("a", &[], json!({"toolsets": toolsets, "limits": limits, "kind": kind}))]);
        let mut answers = vec![ran("seq 1 2000"), ran("seq 1 1500")];
        answers.extend((0..summaries).map(|_| said("short")));
        answers.push(said("done"));
        let (_, purposes) = asked(&team, answers).await;
        let found = purposes.iter().filter(|purpose| **purpose == Purpose::Summary).count();
        assert_eq!(found, summaries, "{compaction_threshold}");
    }
}
