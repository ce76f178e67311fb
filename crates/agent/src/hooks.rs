//! What the hooks of an agent are given at an event, and what their answers mean. Pure.

pub(crate) mod builtin;

use grep_matcher::Matcher as _;
use grep_regex::RegexMatcher;
use legwork_common::team::HOLDING_EVENTS;
use legwork_common::team::Hook;
use legwork_common::team::HookRule;
use legwork_common::team::Hooks;
use legwork_common::team::OnHookError;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Before a tool is called: its arguments may be changed.
pub(crate) const INPUT_TRANSFORM: &str = "tool_input_transform";
/// Before the permissions of a call are looked up.
pub(crate) const GUARD: &str = "tool_guard";
/// Before a call that the permissions allow.
pub(crate) const PRE_TOOL_USE: &str = "pre_tool_use";
/// Before a person is asked for approval.
pub(crate) const PERMISSION_REQUEST: &str = "permission_request";
/// After a call: its result may be changed.
pub(crate) const RESPONSE_TRANSFORM: &str = "tool_response_transform";
/// After a call.
pub(crate) const POST_TOOL_USE: &str = "post_tool_use";
/// When an agent becomes active.
pub(crate) const SESSION_START: &str = "session_start";
/// When the run of an agent is over.
pub(crate) const SESSION_END: &str = "session_end";
/// Before the first model call after a prompt of a user.
pub(crate) const USER_PROMPT_SUBMIT: &str = "user_prompt_submit";
/// Before each turn.
pub(crate) const TURN_START: &str = "turn_start";
/// After each turn.
pub(crate) const TURN_END: &str = "turn_end";
/// Before each model call.
pub(crate) const BEFORE_LLM_CALL: &str = "before_llm_call";
/// After each model call.
pub(crate) const AFTER_LLM_CALL: &str = "after_llm_call";
/// Before a conversation is summarized, by its older name.
pub(crate) const PRE_COMPACT: &str = "pre_compact";
/// Before a conversation is summarized.
pub(crate) const BEFORE_COMPACTION: &str = "before_compaction";
/// After a conversation was summarized.
pub(crate) const AFTER_COMPACTION: &str = "after_compaction";
/// When the model asks for nothing more.
pub(crate) const STOP: &str = "stop";
/// When a run fails.
pub(crate) const ON_ERROR: &str = "on_error";
/// When an agent used up its `max_iterations`.
pub(crate) const ON_MAX_ITERATIONS: &str = "on_max_iterations";
/// When a run fails or an agent used up its `max_iterations`: the text that a person reads.
pub(crate) const NOTIFICATION: &str = "notification";
/// When it is decided whether a call is made.
pub(crate) const ON_TOOL_APPROVAL_DECISION: &str = "on_tool_approval_decision";
/// When the agent is told that a job of its sub-agents has ended.
pub(crate) const SUBAGENT_STOP: &str = "subagent_stop";
/// When the conversation is handed to another agent.
pub(crate) const ON_AGENT_SWITCH: &str = "on_agent_switch";

/// Events at which a hook that fails is a refusal: what it guards is not done without it.
const CLOSED_ON_FAILURE: [&str; 2] = [GUARD, PRE_TOOL_USE];
/// Events at which output that is not JSON is added to what the model knows.
const INFORMING: [&str; 4] = [SESSION_START, USER_PROMPT_SUBMIT, TURN_START, BEFORE_LLM_CALL];

/// The hooks for an event, for a tool where the event is about one.
pub(crate) fn matching<'h>(hooks: &'h Hooks, event: &str, tool: Option<&str>) -> Vec<&'h Hook> {
    let rules = hooks.get(event).map(Vec::as_slice).unwrap_or_default();
    rules.iter().filter(|rule| applies(rule, tool)).flat_map(|rule| &rule.hooks).collect()
}

/// Whether the whole name of the tool matches. An expression that cannot be read matches everything: its hook may be a
/// guard.
fn applies(rule: &HookRule, tool: Option<&str>) -> bool {
    let (Some(pattern), Some(tool)) = (&rule.matcher, tool) else { return true };
    RegexMatcher::new(&format!("^(?:{pattern})$"))
        .map_or(true, |matcher| matcher.is_match(tool.as_bytes()).unwrap_or(true))
}

/// The system message of a model that a hook asks.
pub(crate) const MODEL_INSTRUCTION: &str = "You are asked on behalf of a program that supervises an agent. Follow the \
instructions of the message exactly. Where a JSON schema is given, answer with one JSON object of it and nothing else. \
Otherwise answer briefly in plain text, which the agent will read.";

/// The form of an answer that decides about a call.
const DECISION_FORM: &str = "pre_tool_use_decision";

/// The form that a model's answer must have; `None` for plain text.
pub(crate) fn answer_form(schema: Option<&str>) -> Option<Value> {
    let schema = schema.filter(|schema| !schema.is_empty())?;
    let properties = json!({
        "decision": {"type": "string", "enum": ["allow", "ask", "deny"]},
        "reason": {"type": "string"},
    });
    let form = json!({
        "type": "object",
        "properties": properties,
        "required": ["decision", "reason"],
        "additionalProperties": false,
    });
    Some(json!({"name": schema, "description": "What to do with a call", "strict": true, "schema": form}))
}

/// The output of a hook, from the answer of a model. Models like to put JSON between words, so those are ignored.
///
/// # Errors
///
/// Why the answer is not one.
pub(crate) fn output_of_answer(schema: Option<&str>, answer: &str) -> Result<String, String> {
    let answer = answer.trim();
    if schema.is_none_or(str::is_empty) {
        return Ok(json!({"hook_specific_output": {"additional_context": answer}}).to_string());
    }
    let object = answer.find('{').zip(answer.rfind('}')).and_then(|(from, to)| answer.get(from..=to));
    let object: Value = object
        .and_then(|object| serde_json::from_str(object).ok())
        .ok_or_else(|| format!("the model's answer is not the JSON of {DECISION_FORM}"))?;
    let word = |name: &str| object[name].as_str().unwrap_or_default().trim();
    let decision = word("decision").to_lowercase();
    if !["allow", "ask", "deny"].contains(&decision.as_str()) {
        return Err(format!("the model's decision is `{decision}`, not `allow`, `ask` or `deny`"));
    }
    let reason = if word("reason").is_empty() { "no reason was given" } else { word("reason") };
    let specific = json!({"permission_decision": decision, "permission_decision_reason": reason});
    Ok(json!({"hook_specific_output": specific}).to_string())
}

/// What all hooks of an event decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decision {
    /// Why what the event is about must not be done.
    pub(crate) denied: Option<String>,
    /// Whether a person must approve it.
    pub(crate) asks: bool,
    /// Whether it needs no approval.
    pub(crate) allows: bool,
    /// Arguments that replace those with the same names.
    pub(crate) input: Map<String, Value>,
    /// The text in place of the tool's result.
    pub(crate) response: Option<String>,
    /// Texts for the model.
    pub(crate) context: Vec<String>,
    /// Texts for people.
    pub(crate) warnings: Vec<String>,
}

impl Decision {
    /// Adds what a later hook decided.
    pub(crate) fn add(&mut self, later: Self) {
        self.denied = self.denied.take().or(later.denied);
        self.asks |= later.asks;
        self.allows |= later.allows;
        self.input.extend(later.input);
        self.response = later.response.or(self.response.take());
        self.context.extend(later.context);
        self.warnings.extend(later.warnings);
    }
}

/// How the command of a hook ended, with its output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// Its exit status; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) output: &'a str,
    /// Its standard error.
    pub(crate) error: &'a str,
}

/// What one hook decided. The error is why it gave no answer.
pub(crate) fn decide(event: &str, hook: &Hook, answer: Result<Answer<'_>, String>) -> Decision {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return failed(event, hook, &why),
    };
    match answer.code {
        Some(0) => {}
        Some(2) => return refused(event, or_else(answer.error, "a hook refused it")),
        Some(code) => return failed(event, hook, &format!("exit status {code}: {}", answer.error.trim())),
        None => return failed(event, hook, "it was killed"),
    }
    let output = answer.output.trim();
    match serde_json::from_str::<Output>(output) {
        Ok(parsed) if output.starts_with('{') => parsed.decision(event),
        Err(error) if output.starts_with('{') || hook.strict_output && !output.is_empty() => {
            failed(event, hook, &format!("its output is not the JSON of a hook: {error}"))
        }
        Ok(_) | Err(_) if INFORMING.contains(&event) && !output.is_empty() => {
            Decision { context: vec![output.to_owned()], ..Decision::default() }
        }
        Ok(_) | Err(_) => Decision::default(),
    }
}

fn or_else(text: &str, otherwise: &str) -> String {
    let text = text.trim();
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

/// The decision of a hook that does not want what the event is about.
fn refused(event: &str, reason: String) -> Decision {
    if HOLDING_EVENTS.contains(&event) {
        return Decision { denied: Some(reason), ..Decision::default() };
    }
    Decision { warnings: vec![format!("a hook of {event}: {reason}")], ..Decision::default() }
}

/// The decision for a hook that gave no answer.
fn failed(event: &str, hook: &Hook, why: &str) -> Decision {
    let name = hook.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
    let reason = format!("the hook{name} of {event} failed: {why}");
    match hook.on_error {
        _ if CLOSED_ON_FAILURE.contains(&event) => refused(event, reason),
        OnHookError::Block => refused(event, reason),
        OnHookError::Warn => Decision { warnings: vec![reason], ..Decision::default() },
        OnHookError::Ignore => Decision::default(),
    }
}

/// The JSON that a hook writes. Names are accepted as docker-agent writes them and as Claude Code does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Output {
    #[serde(rename = "continue")]
    resume: Option<bool>,
    #[serde(alias = "stopReason")]
    stop_reason: Option<String>,
    decision: Option<String>,
    reason: Option<String>,
    #[serde(alias = "systemMessage")]
    system_message: Option<String>,
    #[serde(alias = "hookSpecificOutput")]
    hook_specific_output: Specific,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Specific {
    #[serde(alias = "permissionDecision")]
    permission_decision: Option<String>,
    #[serde(alias = "permissionDecisionReason")]
    permission_decision_reason: Option<String>,
    #[serde(alias = "updatedInput")]
    updated_input: Map<String, Value>,
    #[serde(alias = "updatedToolResponse")]
    updated_tool_response: Option<Value>,
    #[serde(alias = "additionalContext")]
    additional_context: Option<String>,
}

impl Output {
    fn decision(self, event: &str) -> Decision {
        let specific = self.hook_specific_output;
        let blocks = self.decision.as_deref() == Some("block");
        let permission = specific.permission_decision.as_deref();
        let reasons = [specific.permission_decision_reason, self.reason, self.stop_reason];
        let reason = reasons.into_iter().flatten().find(|reason| !reason.trim().is_empty());
        let mut decision = Decision {
            asks: permission == Some("ask"),
            allows: permission == Some("allow"),
            input: specific.updated_input,
            response: specific.updated_tool_response.as_ref().map(crate::tool::text_of),
            context: specific.additional_context.into_iter().filter(|text| !text.trim().is_empty()).collect(),
            warnings: self.system_message.into_iter().collect(),
            ..Decision::default()
        };
        if blocks || permission == Some("deny") || self.resume == Some(false) {
            decision.add(refused(event, reason.unwrap_or_else(|| "a hook refused it".to_owned())));
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(more: Value) -> Hook {
        let mut hook = json!({"kind": {"command": "x"}});
        for (key, value) in more.as_object().unwrap() {
            hook[key] = value.clone();
        }
        serde_json::from_value(hook).unwrap()
    }

    fn decided(event: &str, more: Value, code: i32, output: &str, error: &str) -> Decision {
        decide(event, &hook(more), Ok(Answer { code: Some(code), output, error }))
    }

    #[test]
    fn an_exit_status_of_two_refuses_and_others_fail() {
        let denied = |decision: Decision| decision.denied;
        assert_eq!(denied(decided(PRE_TOOL_USE, json!({}), 2, "", "not here\n")).unwrap(), "not here");
        assert_eq!(denied(decided(POST_TOOL_USE, json!({}), 2, "", "x")), None);
        let closed = denied(decided(PRE_TOOL_USE, json!({"on_error": "ignore"}), 1, "", "broken"));
        assert_eq!(closed.unwrap(), "the hook of pre_tool_use failed: exit status 1: broken");
        assert_eq!(denied(decided(BEFORE_LLM_CALL, json!({}), 1, "", "")), None);
        let warned = decided(TURN_START, json!({"name": "check"}), 7, "", "no");
        assert_eq!(warned.warnings, ["the hook check of turn_start failed: exit status 7: no"]);
        assert!(denied(decided(BEFORE_LLM_CALL, json!({"on_error": "block"}), 1, "", "")).is_some());
        assert_eq!(decided(TURN_START, json!({"on_error": "ignore"}), 1, "", ""), Decision::default());
        let silent = decide(GUARD, &hook(json!({})), Err("it took longer than 60s".into()));
        assert_eq!(silent.denied.unwrap(), "the hook of tool_guard failed: it took longer than 60s");
    }

    #[test]
    fn json_of_both_spellings_is_read() {
        for output in [
            r#"{"hook_specific_output": {"permission_decision": "deny", "permission_decision_reason": "no"}}"#,
            r#"{"hookSpecificOutput": {"permissionDecision": "deny", "permissionDecisionReason": "no"}}"#,
            r#"{"decision": "block", "reason": "no"}"#,
            r#"{"continue": false, "stop_reason": "no"}"#,
        ] {
            assert_eq!(decided(GUARD, json!({}), 0, output, "").denied.as_deref(), Some("no"), "{output}");
        }
        let changed =
            r#"{"hook_specific_output": {"updated_input": {"cmd": "ls"}, "permission_decision": "ask"}}"#;
        let decision = decided(INPUT_TRANSFORM, json!({}), 0, changed, "");
        assert_eq!((decision.input["cmd"].clone(), decision.asks), (json!("ls"), true));
        let response = r#"{"hook_specific_output": {"updated_tool_response": "short"}}"#;
        assert_eq!(decided(RESPONSE_TRANSFORM, json!({}), 0, response, "").response.unwrap(), "short");
        assert!(
            decided(GUARD, json!({}), 0, "{broken", "").denied.unwrap().contains("not the JSON of a hook")
        );
        assert_eq!(decided(TURN_START, json!({}), 0, "It rains.\n", "").context, ["It rains."]);
        assert_eq!(decided(POST_TOOL_USE, json!({}), 0, "done", ""), Decision::default());
        assert!(!decided(TURN_START, json!({"strict_output": true}), 0, "It rains.", "").warnings.is_empty());
    }

    #[test]
    fn the_answer_of_a_model_is_a_decision_or_a_text() {
        let decided_by = |schema, answer| {
            let output = output_of_answer(schema, answer)?;
            Ok::<_, String>(decided(PRE_TOOL_USE, json!({}), 0, &output, ""))
        };
        let form = Some(DECISION_FORM);
        let fenced = "```json\n{\"decision\": \"DENY\", \"reason\": \"it deletes\"}\n```";
        assert_eq!(decided_by(form, fenced).unwrap().denied.as_deref(), Some("it deletes"));
        assert!(decided_by(form, r#"{"decision": "allow", "reason": ""}"#).unwrap().allows);
        assert!(decided_by(form, r#"Well: {"decision": "ask"}"#).unwrap().asks);
        for wrong in ["", "yes", r#"{"decision": "maybe"}"#, "} {"] {
            assert!(decided_by(form, wrong).is_err(), "{wrong}");
        }
        assert_eq!(decided_by(None, " It rains.\n").unwrap().context, ["It rains."]);
        assert_eq!(answer_form(form).unwrap()["name"], json!(DECISION_FORM));
        assert_eq!(answer_form(Some("")), None);
    }

    #[test]
    fn a_matcher_is_an_expression_over_the_whole_name() {
        let rules = json!({"pre_tool_use": [
            {"matcher": "shell|edit_.*", "hooks": [{"name": "one", "kind": {"command": "x"}}]},
            {"matcher": "(", "hooks": [{"name": "broken", "kind": {"command": "x"}}]},
            {"hooks": [{"name": "date", "kind": {"builtin": "add_date"}}]},
        ]});
        let hooks: Hooks = serde_json::from_value(rules).unwrap();
        let commands = |tool| {
            let found = matching(&hooks, PRE_TOOL_USE, Some(tool));
            found.into_iter().map(|hook| hook.name.clone().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(commands("shell").len(), 3);
        assert_eq!(commands("edit_file").len(), 3);
        assert_eq!(commands("shell2"), ["broken", "date"]);
        assert!(matching(&hooks, STOP, None).is_empty());
    }
}
