//! Replaces the middle of a long conversation by a summary, before the model's window is full.

use std::sync::Arc;

use legwork_common::job::Usage;
use legwork_common::service::CallIndex;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;
use serde_json::Value;
use serde_json::json;

use super::halt::Halt;
use super::model_call::NoReply;
use super::state::RunState;
use crate::compaction;
use crate::environment::CalledModel;
use crate::hooks;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::model::ModelReply;
use crate::model::ModelRequest;
use crate::model::Purpose;
use crate::tool::ToolContext;
use crate::toolset::limited;

/// The line before the background work that is listed under a summary.
const BACKGROUND_WORK: &str = "Background work at the time of this summary, by id:";

/// What became of a summary.
#[derive(Debug)]
pub(super) enum Summarized {
    /// It replaced a part of the conversation.
    Replaced,
    /// There is nothing that it could replace.
    Nothing,
    /// There is none that is shorter than what it would replace: why not.
    Failed(String),
}

impl<'team> RunState<'team> {
    /// Asks for a summary where the next request would fill too much of the window, and records it. Without one the
    /// conversation stays as it is. The next summary is not asked for until the request has grown by a tenth of the
    /// window, so that a summary that frees little is not repeated each turn.
    ///
    /// A crash before the record leaves the conversation as it was, and the next attempt pays for a summary of its
    /// own. A crash after it costs nothing.
    pub(super) async fn compact(&mut self, turn: u32) -> Result<(), Halt> {
        let limits = &self.current.agent.limits;
        let (request, window) = (self.request_tokens(), self.smallest_window());
        let of_model = self.candidate_models().iter().find_map(|model| model.compaction_threshold);
        let is_due = compaction::is_due(request, window, of_model.or(limits.compaction_threshold));
        if limits.keeps_whole_conversation || !is_due || request < self.next_summary_at {
            return Ok(());
        }
        if let Summarized::Failed(why) = Box::pin(self.summarize(turn)).await? {
            self.warn(format!("the conversation was not summarized: {why}"));
        }
        self.next_summary_at = self.request_tokens().saturating_add(window / 10);
        Ok(())
    }

    /// Asks for a summary and records it.
    pub(super) async fn summarize(&mut self, turn: u32) -> Result<Summarized, Halt> {
        if self.current.agent.limits.keeps_whole_conversation {
            return Ok(Summarized::Failed("session_compaction is false".to_owned()));
        }
        let window = self.smallest_window();
        let (messages, task) = (self.transcript.messages(), self.transcript.task());
        let Some(kept) = compaction::kept(messages, task.len(), window) else {
            return Ok(Summarized::Nothing);
        };
        for event in [hooks::PRE_COMPACT, hooks::BEFORE_COMPACTION] {
            if let Some(reason) = self.fire(event, None, json!({"turn": turn})).await?.denied {
                return Ok(Summarized::Failed(format!("a hook refused it: {reason}")));
            }
        }
        let replaced = &messages[task.len()..messages.len() - kept];
        let history = compaction::history_text(task, replaced, window);
        let request = ModelRequest {
            agent: self.current.agent.name.clone(),
            turn,
            messages: [Message::system(compaction::INSTRUCTION), Message::user(history)].map(Arc::new).into(),
            tools: Vec::new(),
            form: None,
            purpose: Purpose::Summary,
            waits_for_pauses: true,
        };
        self.reserve_tokens(compaction::estimate(&request.messages, &[])).await?;
        let summarized = self.record_summary(&request, kept).await;
        self.settle_budget().await;
        summarized
    }

    /// Records the summary, or only its tokens where it frees nothing.
    async fn record_summary(&mut self, request: &ModelRequest, kept: usize) -> Result<Summarized, Halt> {
        let models = self.summary_models();
        let (ModelReply { message: reply, .. }, _) =
            match self.call_with_fallback(&models, request, "").await? {
                Ok(answer) => answer,
                Err(NoReply { message, .. }) => return Ok(Summarized::Failed(message)),
            };
        let replaceable = self.transcript.messages().len() - self.transcript.task().len();
        let summary = reply.text.trim();
        let failure = if summary.is_empty() {
            Some("the summary is empty")
        } else if summary.len() >= self.replaced_bytes(replaceable, kept) {
            Some("the summary is not shorter than what it would replace")
        } else {
            None
        };
        let (kept, summary) = match failure {
            // All that could be replaced is kept.
            Some(_) => (replaceable, String::new()),
            None => (kept, format!("{summary}{}", self.background_work(request.turn).await?)),
        };
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        // Its tokens count as usage, but it is not a turn.
        let usage = Usage { turns: 0, ..reply.usage };
        let details = json!({"turn": request.turn, "summary": summary});
        self.record(TurnEntry::Compacted { turn: request.turn, kept, summary, usage }).await?;
        self.observe(hooks::AFTER_COMPACTION, details).await?;
        Ok(failure.map_or(Summarized::Replaced, |why| Summarized::Failed(why.to_owned())))
    }

    /// The size of the messages that a summary replaces: of the last `replaceable` ones all but the last `kept`.
    fn replaced_bytes(&self, replaceable: usize, kept: usize) -> usize {
        let last = self.transcript.messages().iter().rev();
        last.take(replaceable).skip(kept).map(|message| message.bytes()).sum()
    }

    /// What runs in the background, as the agent's own tools list it: a summary tends to lose ids, and without them the
    /// model can neither read a result nor stop a job. Empty where nothing was started.
    async fn background_work(&self, turn: u32) -> Result<String, Halt> {
        let mut text = String::new();
        let call = CallIndex { turn, index: u32::MAX };
        let context = ToolContext { call, safety: self.safety(), person: None, cancel: self.cancel.clone() };
        for tool in self.current.toolbox.overviews() {
            let call = tool.call(Value::Object(serde_json::Map::new()), &context);
            let outcome = self.unless_cancelled(call).await?;
            if !outcome.is_error && outcome.text.contains("\nID: ") {
                text.push_str("\n\n");
                text.push_str(limited(outcome.text).trim_end());
            }
        }
        if text.is_empty() {
            return Ok(text);
        }
        Ok(format!("\n\n{BACKGROUND_WORK}{text}"))
    }

    /// The models that may write a summary, in the order in which they are tried: those that the agent names, else those
    /// that its model names, then the agent's own.
    fn summary_models(&self) -> Vec<CalledModel<'team>> {
        let own = self.candidate_models();
        let environment = &self.ports.environment;
        let mut models: Vec<_> = self
            .current
            .agent
            .limits
            .compaction_models
            .iter()
            .map(|model| environment.model(model))
            .collect();
        if models.is_empty() {
            let of_model = own.first().into_iter().flat_map(|model| &model.compaction_models);
            models.extend(of_model.map(|model| environment.model(model).into_owned()));
        }
        models.extend(own);
        models
    }

    /// The smallest window, in tokens, of all models that may answer or write a summary: which one will is drawn anew for
    /// each call.
    fn smallest_window(&self) -> u64 {
        let candidates = self.summary_models();
        let listed: &[ModelSettings] = match &self.current.agent.kind {
            AgentKind::Models(models) => models,
            AgentKind::Auto | AgentKind::Command { .. } => &[],
        };
        let candidates = candidates.iter().map(|model| &**model);
        listed.iter().chain(candidates).map(compaction::window).min().unwrap_or(u64::MAX)
    }
}
