//! Doing the tool calls of one reply.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use legwork_common::service::CallIndex;
use serde_json::Map;
use serde_json::Value;

use super::Halt;
use super::Running;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::ToolCall;
use crate::permission;
use crate::tool::Interrupted;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::toolset::call_description;
use crate::turn::Step;

/// What the model is told of a call whose outcome nobody knows.
const INTERRUPTED: &str = "This call was interrupted and its outcome is unknown. It was not repeated.";

impl Running<'_> {
    /// Takes up the turns of an earlier attempt: tools remember what they were told, and open calls that may not be
    /// repeated are reported.
    pub(super) async fn take_up(&mut self) -> Result<(), Halt> {
        self.current.replay(self.team, &self.first, &self.recorded);
        let Step::Work { open } = self.transcript.next(None) else { return Ok(()) };
        for (index, call) in open {
            let again = self.current.toolbox.get(&call.name).map(|tool| tool.spec().interrupted);
            if again != Some(Interrupted::RunAgain) {
                self.record(result(index, &call, ToolOutcome::error(INTERRUPTED))).await?;
            }
        }
        Ok(())
    }

    /// Does all calls at once. Each result is recorded as soon as it is there.
    pub(super) async fn work(&mut self, open: Vec<(CallIndex, ToolCall)>) -> Result<(), Halt> {
        let here = &*self;
        let mut calls: FuturesUnordered<_> =
            open.into_iter().map(|(index, call)| here.finish(index, call)).collect();
        let mut results = Vec::new();
        while let Some(entry) = here.live(calls.next()).await? {
            results.push(entry?);
        }
        drop(calls);
        for entry in results {
            self.take_in(&entry);
        }
        Ok(())
    }

    /// One call, from the gate to the record.
    async fn finish(&self, index: CallIndex, call: ToolCall) -> Result<TurnEntry, Halt> {
        let journal = &self.ports.journal;
        journal.gate().await?;
        let ToolCall { name, arguments, .. } = call.clone();
        journal.note(RunEvent::ToolStarted { call: index, name: name.clone(), arguments });
        let outcome = AssertUnwindSafe(self.outcome(index, &call))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| ToolOutcome::error(format!("the tool {name} broke")));
        journal.note(RunEvent::ToolEnded { call: index, name, is_error: outcome.is_error });
        // What a tool that was cut off says of its end is not what it came to: such a call is reported as interrupted.
        if self.cancel.is_cancelled() {
            return Err(Halt::Stopped);
        }
        journal.gate().await?;
        let entry = result(index, &call, outcome);
        journal.record(&entry).await?;
        Ok(entry)
    }

    async fn outcome(&self, index: CallIndex, call: &ToolCall) -> ToolOutcome {
        let Some(tool) = self.current.toolbox.get(&call.name) else {
            let names: Vec<String> = self.current.toolbox.specs().into_iter().map(|spec| spec.name).collect();
            let names = names.join(", ");
            return ToolOutcome::error(format!("unknown tool `{}`. Available: {names}", call.name));
        };
        let mut arguments = match arguments(call) {
            Ok(arguments) => arguments,
            Err(wrong) => return ToolOutcome::error(wrong),
        };
        if self.current.agent.add_description_parameter {
            call_description::strip(tool.spec(), &mut arguments);
        }
        let approval = self.ports.approval.as_deref();
        if let Some(refusal) = permission::refusal(self.permissions, approval, call, &arguments).await {
            return ToolOutcome::error(refusal);
        }
        let context = ToolContext { call: index, cancel: self.cancel.clone() };
        tool.call(Value::Object(arguments), &context).await
    }
}

/// The entry for what a call came to.
fn result(index: CallIndex, call: &ToolCall, outcome: ToolOutcome) -> TurnEntry {
    let ToolOutcome { text, is_error, ended } = outcome;
    let CallIndex { turn, index } = index;
    TurnEntry::Result { turn, index, call_id: call.id.clone(), text, is_error, ended }
}

/// The arguments with the nulls of OpenAI's strict form left out, or what is wrong with them.
pub(super) fn arguments(call: &ToolCall) -> Result<Map<String, Value>, String> {
    let text = call.arguments.trim();
    if text.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(mut arguments)) => {
            arguments.retain(|_, value| !value.is_null());
            Ok(arguments)
        }
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(format!("the arguments of {} are not a JSON object", call.name)),
        Err(error) => Err(format!("the arguments of {} are not valid JSON: {error}", call.name)),
    }
}
