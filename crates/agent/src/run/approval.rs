//! Whether a tool call is made: hooks, the team's permissions, the safety mode and a person, in this order.
//!
//! ```text
//! tool_input_transform ─► tool_guard ─► deny ─► allow ─► ask ─► safety mode ─► pre_tool_use ─► permission_request ─► person
//! ```

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::halt::Halt;
use super::state::RunState;
use crate::hooks;
use crate::hooks::Decision;
use crate::message::ToolCall;
use crate::permission;
use crate::permission::Verdict;
use crate::safety;
use crate::tool::Tool;

impl RunState<'_> {
    /// Why a call is refused, as a sentence for the model; `None` where it is made, with the arguments that hooks left.
    pub(super) async fn refusal(
        &self,
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
        let requested = self.fire_for(hooks::PERMISSION_REQUEST, call, arguments, None).await?;
        match requested {
            Decision { denied: Some(reason), .. } => Ok(Some(by_hook(call, &reason))),
            Decision { allows: true, .. } => Ok(None),
            Decision { .. } => Ok(permission::asked(self.ports.approval.as_deref(), call).await),
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
