//! Makes the tool calls of one reply, and resumes those that an earlier attempt left open.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use legwork_common::service::CallIndex;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tracing::Instrument as _;

use super::excerpt;
use super::halt::Halt;
use super::inner::InnerRuns;
use super::spans;
use super::state::RunState;
use crate::history;
use crate::hooks;
use crate::journal::INTERRUPTED;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::ToolCall;
use crate::redaction;
use crate::tool::Interrupted;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::toolset::answer;
use crate::toolset::call_description;
use crate::turn::Step;

impl RunState<'_> {
    /// Resumes after an earlier attempt: tools rebuild their state from its calls, and open calls that are not safe
    /// to repeat get a result that reports the interruption. The other open calls run again in the first step.
    pub(super) async fn resume(&mut self) -> Result<(), Halt> {
        self.current.replay(self.team, &self.first_agent, &self.recorded);
        let Step::Work { open } = self.transcript.next(None) else { return Ok(()) };
        for (index, call) in open {
            let interrupted = self.current.toolbox.get(&call.name).map(|tool| tool.spec().interrupted);
            if interrupted != Some(Interrupted::RunAgain) && !self.was_never_made(index) {
                self.record(result_entry(index, &call, ToolOutcome::error(INTERRUPTED))).await?;
            }
        }
        Ok(())
    }

    /// Makes all calls at once. Each result is recorded as soon as it is there, so that a crash loses only the
    /// calls that are still running.
    pub(super) async fn run_calls(&mut self, open: Vec<(CallIndex, ToolCall)>) -> Result<(), Halt> {
        self.inner_runs = Arc::new(InnerRuns::new(self.used_tokens(), self.budget));
        let state = &*self;
        let mut calls: FuturesUnordered<_> =
            open.into_iter().map(|(index, call)| state.run_call(index, call)).collect();
        let mut entries = Vec::new();
        let mut used = 0_u64;
        while let Some(made) = state.unless_cancelled(calls.next()).await? {
            let Made { entry, tokens } = made?;
            if let Some(TurnEntry::Compacted { usage, .. }) = &tokens {
                used = used.saturating_add(usage.input_tokens).saturating_add(usage.output_tokens);
            }
            entries.extend(tokens);
            entries.push(entry);
        }
        drop(calls);
        self.pots.leave_out(used, self.inner_runs.time());
        for entry in entries {
            self.apply(&entry);
        }
        Ok(())
    }

    /// One call, from the check of the lease to the recorded result. A panic of the tool is an error result.
    async fn run_call(&self, index: CallIndex, call: ToolCall) -> Result<Made, Halt> {
        let journal = &self.ports.journal;
        journal.confirm_lease().await?;
        let ToolCall { name, arguments, .. } = call.clone();
        journal.note(RunEvent::ToolStarted { call: index, name: name.clone(), arguments });
        let span = spans::of_tool_call(&call, self.current.toolbox.get(&name).is_some());
        let outcome = AssertUnwindSafe(self.outcome(index, &call).instrument(span.clone()))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Ok(ToolOutcome::error(format!("the tool {name} crashed"))))?;
        if outcome.is_error {
            spans::record_error(&span, "tool_error");
        }
        drop(span);
        journal.note(RunEvent::ToolEnded { call: index, name, is_error: outcome.is_error });
        // A tool may notice the cancellation first and return an outcome, such as a command that was killed. That
        // is not the call's outcome: without a record the next attempt runs it again or reports it as interrupted.
        if self.cancel.is_cancelled() {
            return Err(Halt::Stopped);
        }
        // The same for a tool that ended because the lease did.
        journal.confirm_lease().await?;
        let used = outcome.used;
        let tokens = (used.input_tokens > 0 || used.output_tokens > 0)
            .then(|| TurnEntry::tokens_only(index.turn, used));
        if let Some(tokens) = &tokens {
            journal.record(tokens).await?;
        }
        let outcome = self.shown(index, &call.name, outcome).await;
        let entry = result_entry(index, &call, outcome);
        // The model sees all images in this attempt, also those that are too large to be stored.
        journal.record(&entry.stored()).await?;
        Ok(Made { entry, tokens })
    }

    /// The outcome as the model is shown it: without secrets, and not longer than its limits allow.
    async fn shown(&self, index: CallIndex, tool: &str, outcome: ToolOutcome) -> ToolOutcome {
        let agent = self.current.agent;
        // Neither the model, nor the store, nor the file of a long result is given a secret of this machine.
        let text = self.ports.environment.secrets.redacted(&outcome.text).into_owned();
        let text = if self.redacts() { redaction::redacted(text) } else { text };
        let (tool, environment) = (tool.to_owned(), Arc::clone(&self.ports.environment));
        let blocking = environment.blocking.clone();
        let text = blocking.run(move || Ok(excerpt::shown(text, &tool, index, &environment))).await;
        let text = text.unwrap_or_else(|failed: ToolOutcome| failed.text);
        let max_tokens = agent.limits.max_tool_result_tokens;
        ToolOutcome { text: history::without_middle(text, max_tokens), ..outcome }
    }

    /// Checks the call and makes it. An invalid or refused call is an error result, which the model can react to.
    async fn outcome(&self, index: CallIndex, call: &ToolCall) -> Result<ToolOutcome, Halt> {
        let Some(tool) = self.current.toolbox.get(&call.name) else {
            let names: Vec<String> = self.current.toolbox.specs().into_iter().map(|spec| spec.name).collect();
            let names = names.join(", ");
            return Ok(ToolOutcome::error(format!("unknown tool `{}`. Available: {names}", call.name)));
        };
        if call.name == answer::NAME && self.answers_by_tool() {
            return Ok(self.submit(index, tool.as_ref(), call).await);
        }
        let mut arguments = match call.parsed_arguments() {
            Ok(arguments) => arguments,
            Err(error) => return Ok(ToolOutcome::error(error)),
        };
        if self.current.agent.add_description_parameter {
            call_description::strip(tool.spec(), &mut arguments);
        }
        if self.redacts() {
            redaction::redact_arguments(&mut arguments);
        }
        let refusal = self.refusal(index, tool.as_ref(), call, &mut arguments).await?;
        self.observe_decision(call, &arguments, refusal.as_deref()).await?;
        if let Some(refusal) = refusal {
            return Ok(ToolOutcome::error(refusal));
        }
        let mut outcome = self.call_tool(index, tool.as_ref(), &arguments).await?;
        let transform =
            self.fire_for(hooks::RESPONSE_TRANSFORM, call, &arguments, Some(&outcome.text)).await?;
        if let Some(reason) = transform.denied {
            outcome =
                ToolOutcome::error(format!("The result of {} is withheld by a hook: {reason}", call.name));
        }
        outcome.text = transform.response.unwrap_or(outcome.text);
        let after = self.fire_for(hooks::POST_TOOL_USE, call, &arguments, Some(&outcome.text)).await?;
        for context in after.context {
            outcome.text.push_str("\n\n");
            outcome.text.push_str(&context);
        }
        Ok(outcome)
    }
}

/// What is recorded of a call: its result, and what a run within the run used.
struct Made {
    entry: TurnEntry,
    tokens: Option<TurnEntry>,
}

impl RunState<'_> {
    /// Makes a call that is allowed. Hooks hear of the sub-agents that have ended with it.
    async fn call_tool(
        &self,
        index: CallIndex,
        tool: &dyn Tool,
        arguments: &Map<String, Value>,
    ) -> Result<ToolOutcome, Halt> {
        let context = ToolContext {
            call: index,
            safety: self.safety(),
            person: self.ports.person.clone(),
            cancel: self.cancel.clone(),
        };
        let arguments = Value::Object(arguments.clone());
        let (outcome, agent) = match tool.inner_run(&arguments) {
            None => {
                let outcome = tool.call(arguments.clone(), &context).await;
                let ended = (!outcome.ended.is_empty()).then(|| arguments["agent"].clone());
                (outcome, ended)
            }
            Some(Err(refused)) => return Ok(refused),
            Some(Ok(inner)) => {
                let agent = json!(inner.agent.name);
                let (outcome, used) = self.run_inner(inner).await?;
                (ToolOutcome { used, ..outcome }, Some(agent))
            }
        };
        if let Some(agent) = agent {
            let ids: Vec<String> = outcome.ended.iter().map(ToString::to_string).collect();
            let details = json!({"agent_name": agent, "task_ids": ids, "stop_response": outcome.text});
            self.observe(hooks::SUBAGENT_STOP, details).await?;
        }
        Ok(outcome)
    }
}

fn result_entry(index: CallIndex, call: &ToolCall, outcome: ToolOutcome) -> TurnEntry {
    let ToolOutcome { text, images, is_error, ended, used: _ } = outcome;
    let CallIndex { turn, index } = index;
    TurnEntry::Result { turn, index, call_id: call.id.clone(), text, images, is_error, ended }
}
