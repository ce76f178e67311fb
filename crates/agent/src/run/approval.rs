//! Whether a tool call is made: hooks, the team's permissions, the safety mode and a person, in this order.
//!
//! ```text
//! tool_input_transform ─► tool_guard ─► deny ─► allow ─► ask ─► safety mode ─► pre_tool_use ─► permission_request ─► person
//! ```

use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::halt::Halt;
use super::halt::halt_if_lease_lost;
use super::state::RunState;
use crate::hooks;
use crate::hooks::Decision;
use crate::journal::TurnEntry;
use crate::message::ToolCall;
use crate::permission;
use crate::permission::Verdict;
use crate::redaction;
use crate::safety;
use crate::tool::Tool;

/// Why a call is asked about that an earlier attempt recorded, and died before it could ask.
const ASKED_BEFORE: &str = "the team's settings ask for it";

impl RunState<'_> {
    /// Why a call is refused, as a sentence for the model; `None` where it is made, with the arguments that hooks left.
    ///
    /// A call that an earlier attempt asked a person about has passed the rest: only its answer is awaited, and the
    /// arguments are those that it was asked about.
    pub(super) async fn refusal(
        &self,
        index: CallIndex,
        tool: &dyn Tool,
        call: &ToolCall,
        arguments: &mut Map<String, Value>,
    ) -> Result<Option<String>, Halt> {
        let Some(asked) = self.transcript.asked(index) else {
            return self.first_refusal(index, tool, call, arguments).await;
        };
        arguments.clone_from(&asked.arguments);
        match &asked.answer {
            Some(answer) => Ok(permission::refused_by(answer)),
            None => self.answer_about(index, &call.name, arguments, ASKED_BEFORE).await,
        }
    }

    /// Whether a person was asked about an open call, and it was not made: there is no answer, or none that allows it.
    pub(super) fn was_never_made(&self, index: CallIndex) -> bool {
        self.transcript.asked(index).is_some_and(|asked| asked.answer != Some(Answer::Approved))
    }

    /// [`refusal`](Self::refusal) of a call that no person was asked about.
    async fn first_refusal(
        &self,
        index: CallIndex,
        tool: &dyn Tool,
        call: &ToolCall,
        arguments: &mut Map<String, Value>,
    ) -> Result<Option<String>, Halt> {
        let transformed = self.fire_for(hooks::INPUT_TRANSFORM, call, arguments, None).await?;
        arguments.extend(transformed.input);
        if let Some(reason) = transformed.denied {
            return Ok(Some(by_hook(call, &reason)));
        }
        let guarded = self.fire_for(hooks::GUARD, call, arguments, None).await?;
        if let Some(reason) = guarded.denied {
            return Ok(Some(by_hook(call, &reason)));
        }
        let mode = self.safety();
        let label = safety::label(tool.spec(), arguments);
        let mut verdict = permission::verdict_in_mode(self.permissions, &call.name, arguments, mode, label);
        if verdict == Verdict::Denied {
            return Ok(Some(permission::denied(&call.name)));
        }
        let before = self.fire_for(hooks::PRE_TOOL_USE, call, arguments, None).await?;
        if let Some(reason) = before.denied {
            return Ok(Some(by_hook(call, &reason)));
        }
        if !before.input.is_empty() {
            // The changed call is another one, and `deny` holds for it too.
            arguments.extend(before.input);
            let label = safety::label(tool.spec(), arguments);
            verdict = permission::verdict_in_mode(self.permissions, &call.name, arguments, mode, label);
        }
        if verdict == Verdict::Denied {
            return Ok(Some(permission::denied(&call.name)));
        }
        // A hook that asks is heard although the permissions allow the call; one that allows answers their question.
        if before.allows {
            verdict = Verdict::Allowed;
        }
        if guarded.asks || before.asks {
            verdict = Verdict::NeedsApproval;
        }
        if verdict == Verdict::Allowed {
            return Ok(None);
        }
        let why = match (guarded.asks || before.asks, mode) {
            (true, _) => "a hook asks for it".to_owned(),
            (false, Some(mode)) => format!("the safety mode is {}", mode.as_str()),
            (false, None) => "the team's permissions ask for it".to_owned(),
        };
        let requested = self.fire_for(hooks::PERMISSION_REQUEST, call, arguments, None).await?;
        match requested {
            Decision { denied: Some(reason), .. } => Ok(Some(by_hook(call, &reason))),
            Decision { allows: true, .. } => Ok(None),
            Decision { .. } => self.ask_person(index, &call.name, arguments, &why).await,
        }
    }

    /// Runs the hooks that are told of each decision; `refusal` is why the call is not made.
    pub(super) async fn observe_decision(
        &self,
        call: &ToolCall,
        arguments: &Map<String, Value>,
        refusal: Option<&str>,
    ) -> Result<(), Halt> {
        let decision = if refusal.is_some() { "deny" } else { "allow" };
        let details = json!({
            "tool_name": call.name,
            "tool_use_id": call.id,
            "tool_input": arguments,
            "approval_decision": decision,
            "approval_reason": refusal,
        });
        self.observe(hooks::ON_TOOL_APPROVAL_DECISION, details).await
    }

    /// Whether the model still sees this result of an earlier call with the same arguments.
    fn shows_earlier(&self, call: &ToolCall, response: &str) -> bool {
        let agent = self.current.agent;
        let sees_all = agent.num_history_items.is_none() && agent.limits.max_old_tool_call_tokens.is_none();
        sees_all && !agent.hooks.is_empty() && self.transcript.has_shown(call, response)
    }

    /// Asks a person about a call: why it is refused, or `None` where it is approved. Where the answer may come in another
    /// attempt, it is recorded first that the call is not made.
    async fn ask_person(
        &self,
        index: CallIndex,
        tool: &str,
        arguments: &Map<String, Value>,
        why: &str,
    ) -> Result<Option<String>, Halt> {
        if self.ports.person.as_ref().is_some_and(|person| person.is_durable()) {
            let CallIndex { turn, index } = index;
            let (tool, arguments) = (tool.to_owned(), arguments.clone());
            self.ports.journal.record(&TurnEntry::Asked { turn, index, tool, arguments }).await?;
        }
        self.answer_about(index, tool, arguments, why).await
    }

    /// Waits for a person's answer about a call, which is recorded before the call is made: an attempt that dies after that
    /// leaves a call whose outcome is unknown, and which is not made again.
    async fn answer_about(
        &self,
        index: CallIndex,
        tool: &str,
        arguments: &Map<String, Value>,
        why: &str,
    ) -> Result<Option<String>, Halt> {
        let Some(person) = self.ports.person.as_deref() else {
            return Ok(Some(permission::unattended(tool)));
        };
        let written = Value::Object(arguments.clone()).to_string();
        let written = self.ports.environment.secrets.redacted(&written).into_owned();
        let written = if self.redacts() { redaction::redacted(written) } else { written };
        let question = Question::approval(tool, &written, why);
        let answer = match halt_if_lease_lost(person.ask(index, &question).await)? {
            Ok(answer) => answer,
            Err(error) => return Ok(Some(format!("No one could be asked about {tool}: {error}"))),
        };
        if person.is_durable() {
            let CallIndex { turn, index } = index;
            let answer = answer.clone();
            self.ports.journal.record(&TurnEntry::Decided { turn, index, answer }).await?;
            // The lease may have been lost in the meantime: a person takes longer than a lease.
            self.ports.journal.confirm_lease().await?;
        }
        Ok(permission::refused_by(&answer))
    }

    /// Runs the hooks of an event about a call, with its result where there is one.
    pub(super) async fn fire_for(
        &self,
        event: &str,
        call: &ToolCall,
        arguments: &Map<String, Value>,
        response: Option<&str>,
    ) -> Result<Decision, Halt> {
        let mut details = json!({"tool_name": call.name, "tool_use_id": call.id, "tool_input": arguments});
        if let Some(response) = response {
            details["tool_response"] = json!(response);
            details["repeats_earlier_result"] = json!(self.shows_earlier(call, response));
        }
        self.fire(event, Some(&call.name), details).await
    }
}

/// The sentence for a call that a hook refused.
fn by_hook(call: &ToolCall, reason: &str) -> String {
    format!("Tool '{}' is denied by a hook: {reason}", call.name)
}
