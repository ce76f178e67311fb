//! Agents that answer by a tool: `structured_output` in mode `tool`.

use legwork_common::job::Cause;
use legwork_common::service::CallIndex;
use legwork_common::service::MailId;
use serde_json::Value;

use super::halt::Halt;
use super::state::RunState;
use crate::journal::TurnEntry;
use crate::message::ToolCall;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::toolset::answer;
use crate::toolset::call_description;

/// Reminders of one run before it fails. A model that ignores three will ignore a fourth.
const MAX_REMINDERS: u32 = 3;
/// Begins the id of the mail that stands for a reminder. No mail of the store has such an id.
const REMINDER: &str = "submit_answer:";
/// Written between the texts of two turns.
const TURN_SEPARATOR: &str = "\n\n";

impl RunState<'_> {
    /// Whether the active agent answers by the tool.
    pub(super) fn answers_by_tool(&self) -> bool {
        answer::answers_by_tool(self.current.agent)
    }

    /// Makes a call of the tool. It is part of the run, so neither permissions nor hooks decide about it.
    pub(super) async fn submit(&self, index: CallIndex, tool: &dyn Tool, call: &ToolCall) -> ToolOutcome {
        let mut arguments = match call.parsed_arguments() {
            Ok(arguments) => arguments,
            Err(error) => return ToolOutcome::error(error),
        };
        if self.current.agent.add_description_parameter {
            call_description::strip(tool.spec(), &mut arguments);
        }
        let context = ToolContext {
            call: index,
            safety: self.safety(),
            person: self.ports.person.clone(),
            cancel: self.cancel.clone(),
        };
        tool.call(Value::Object(arguments), &context).await
    }

    /// The answer that the tool accepted in the last reply, as JSON.
    pub(super) fn submitted(&self) -> Option<String> {
        if !self.answers_by_tool() {
            return None;
        }
        let call = self.transcript.accepted_call(answer::NAME)?;
        let tool = self.current.toolbox.get(answer::NAME)?;
        answer::of_call(self.current.agent, tool.as_ref(), call)
    }

    /// Writes an accepted answer to the output, where the model's texts are.
    pub(super) async fn write_submitted(&self, answer: &str) -> Result<(), Halt> {
        let separator = if self.transcript.has_output() { TURN_SEPARATOR } else { "" };
        let text = format!("{separator}{answer}");
        Ok(self.unless_cancelled(self.ports.journal.output(&text)).await??)
    }

    /// When the model asks for nothing more: reminds one that has not called the tool. Whether it did.
    ///
    /// # Errors
    ///
    /// The run fails after [`MAX_REMINDERS`].
    pub(super) async fn remind(&mut self) -> Result<bool, Halt> {
        if !self.answers_by_tool() {
            return Ok(false);
        }
        if self.reminders == MAX_REMINDERS {
            let message = format!(
                "the model was reminded {MAX_REMINDERS} times and did not answer with {} (structured_output)",
                answer::NAME
            );
            return Err(Halt::Failed { cause: Cause::AgentError, message });
        }
        self.reminders += 1;
        let turn = self.transcript.turn() + 1;
        let mail = vec![MailId(format!("{REMINDER}{turn}"))];
        let text = format!("You have not answered yet. Call {} with your final answer.", answer::NAME);
        self.record(TurnEntry::Delivered { turn, mail, text }).await?;
        Ok(true)
    }
}
