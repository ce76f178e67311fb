//! Summaries of long conversations.

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::compaction;
use crate::model::Delta;
use crate::model::ModelError;
use crate::model::ModelPort;
use crate::model::ModelReply;
use crate::model::ModelRequest;
use crate::model::Purpose;
use crate::prompt;
use crate::pruning;

/// Models that keep the size of each request.
#[derive(Debug)]
struct MeasuringModels {
    models: Arc<dyn ModelPort>,
    tokens: std::sync::Mutex<Vec<(Purpose, u64)>>,
}

#[async_trait]
impl ModelPort for MeasuringModels {
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<ModelReply, ModelError> {
        let tokens = compaction::estimate(&request.messages, &request.tools);
        self.tokens.lock().unwrap().push((request.purpose, tokens));
        self.models.stream(settings, request, deltas).await
    }
}

#[tokio::test]
async fn a_thousand_turns_fit_into_a_small_window() {
    let window = 4000;
    let thought = "It is long, and it is said again. ".repeat(10);
    let mut replies = vec![calls("shell", json!({"cmd": format!("echo {thought}")})); 999];
    replies.push(json!({"text": "done"}));
    let mut world = world(&json!({"a": replies}));
    let models = Arc::new(MeasuringModels { models: world.ports.models.clone(), tokens: Default::default() });
    world.ports.models = models.clone();
    let mut settings = crate::testing::settings();
    settings.provider_opts.insert("context_size".to_owned(), json!(window));
    let toolsets = json!([{"kind": {"type": "shell", "env": {}}}]);
    let team = team(&[("a", &[], json!({"toolsets": toolsets, "kind": {"models": [settings]}}))]);
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
    assert_eq!(resumed.task(), opening);
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
