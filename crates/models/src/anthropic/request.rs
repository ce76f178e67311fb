//! Settings and a conversation as the body of Messages.

pub(crate) mod form;
mod messages;
pub(crate) mod thinking;

use std::collections::BTreeSet;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Anthropic;
use super::model::Claude;
use super::model::Sampling;
use crate::conversation::ToolSpec;
use crate::json::put;
use crate::settings::Settings;
use crate::settings::ToolChoice;
use crate::wire::Ask;
use crate::wire::Note;
use crate::wire::RequestError;
use crate::wire::Wire as _;
use crate::wire::WireRequest;
use thinking::Thought;

/// The version of the interface.
const VERSION: &str = "2023-06-01";
/// The field that holds the version where it is not a header.
const VERSION_FIELD: &str = "anthropic_version";
/// The feature that thinks between tool calls, for models that do not do so of their own accord.
const INTERLEAVED: &str = "interleaved-thinking-2025-05-14";
/// The feature that tells the model how many tokens it has for a task.
const TASK_BUDGETS: &str = "task-budgets-2026-03-13";

/// Builds the request.
pub(super) fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
    let model = Claude::of(&settings.model);
    let mut notes = Vec::new();
    let thought = thinking::thought(settings, model, Anthropic::NAME, ask.messages, &mut notes)?;
    let converted = messages::convert(settings, model, &thought, ask.messages);
    if converted.messages.is_empty() {
        return Err(RequestError::NothingAsked);
    }
    let mut body = settings.extra.clone();
    tools(settings, &thought, ask.tools, &converted.messages, &mut body, &mut notes);
    put(&mut body, "messages", Some(converted.messages));
    put(&mut body, "system", Some(converted.system).filter(|system| !system.is_empty()));
    put(&mut body, "stream", Some(true));
    put(&mut body, "max_tokens", Some(thought.output_tokens));
    sampling(settings, model, &thought, &mut body, &mut notes);
    output(settings, &thought, &mut body);
    let headers = headers(settings, model, &thought, &body);
    let path = place(settings, &mut body);
    put(&mut body, "thinking", thought.thinking);
    Ok(WireRequest { path, headers, body: Value::Object(body), notes })
}

/// The path. Sets the model in the body unless it is part of the path.
fn place(settings: &Settings, body: &mut Map<String, Value>) -> String {
    if body.contains_key(VERSION_FIELD) {
        body.remove("model");
        return format!("models/{}:streamRawPredict", settings.model);
    }
    put(body, "model", Some(settings.model.as_str()));
    "messages".to_owned()
}

fn headers(
    settings: &Settings,
    model: Claude,
    thought: &Thought,
    body: &Map<String, Value>,
) -> Vec<(&'static str, String)> {
    let version = (!body.contains_key(VERSION_FIELD)).then(|| ("anthropic-version", VERSION.to_owned()));
    let interleaved = settings.interleaved_thinking && model.takes_budget() && !thought.is_adaptive;
    let has_budget = body.get("output_config").is_some_and(|output| output.get("task_budget").is_some());
    let betas: Vec<&str> = [(interleaved, INTERLEAVED), (has_budget, TASK_BUDGETS)]
        .into_iter()
        .filter_map(|(is_used, beta)| is_used.then_some(beta))
        .collect();
    let betas = (!betas.is_empty()).then(|| ("anthropic-beta", betas.join(",")));
    version.into_iter().chain(betas).collect()
}

fn sampling(
    settings: &Settings,
    model: Claude,
    thought: &Thought,
    body: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    const UNKNOWN: &str = "this provider does not know it";
    const THINKING: &str = "a model that thinks before it answers refuses it";
    let refusal = |other: bool| match model.sampling() {
        _ if thought.thinks => Some(THINKING),
        Sampling::Neither => Some("this model refuses it"),
        Sampling::One if other => Some("this model refuses it along with `temperature`"),
        Sampling::One | Sampling::Both => None,
    };
    let both = settings.temperature.is_some();
    for (setting, value, refusal) in [
        ("temperature", settings.temperature, refusal(false)),
        ("top_p", settings.top_p, refusal(both)),
        ("frequency_penalty", settings.frequency_penalty, Some(UNKNOWN)),
        ("presence_penalty", settings.presence_penalty, Some(UNKNOWN)),
    ] {
        match (value, refusal) {
            (None, _) => {}
            (Some(_), Some(why)) => notes.push(Note::left_out(setting, why)),
            (Some(value), None) if value > 1.0 => {
                notes.push(Note::sent_as(setting, 1, "this provider takes no more"));
                put(body, setting, Some(1.0));
            }
            (Some(value), None) => put(body, setting, Some(value)),
        }
    }
}

/// The form of the answer and the effort, which share a field.
fn output(settings: &Settings, thought: &Thought, body: &mut Map<String, Value>) {
    let mut output = match body.remove("output_config") {
        Some(Value::Object(given)) => given,
        _ => Map::new(),
    };
    put(&mut output, "effort", thought.effort);
    put(&mut output, "format", settings.form.as_ref().map(form::format));
    put(body, "output_config", Some(output).filter(|output| !output.is_empty()));
}

fn tools(
    settings: &Settings,
    thought: &Thought,
    tools: &[ToolSpec],
    messages: &[Value],
    body: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    if tools.is_empty() {
        withdrawn(messages, body);
        return;
    }
    put(body, "tools", Some(tools.iter().map(tool).collect::<Vec<_>>()));
    let mut choice = match &settings.tool_choice {
        ToolChoice::Required | ToolChoice::Tool(_) if thought.thinks => {
            notes.push(Note::left_out("tool_choice", "a model that thinks cannot be made to call a tool"));
            json!({"type": "auto"})
        }
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::Never => json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Tool(name) => json!({"type": "tool", "name": name}),
    };
    if settings.parallel_tool_calls == Some(false) && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    if choice != json!({"type": "auto"}) {
        put(body, "tool_choice", Some(choice));
    }
}

/// Describes the tools of earlier calls where none may be called any more: a conversation with calls and without tools is
/// refused.
fn withdrawn(messages: &[Value], body: &mut Map<String, Value>) {
    let blocks = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
    let called =
        blocks.filter(|block| block["type"] == "tool_use").filter_map(|block| block["name"].as_str());
    let names: BTreeSet<&str> = called.collect();
    if names.is_empty() || body.contains_key("tools") {
        return;
    }
    let describe = |name: &str| json!({"name": name, "description": "No longer available.", "input_schema": {"type": "object"}});
    put(body, "tools", Some(names.into_iter().map(describe).collect::<Vec<_>>()));
    put(body, "tool_choice", Some(json!({"type": "none"})));
}

fn tool(spec: &ToolSpec) -> Value {
    let mut schema = match &spec.parameters {
        Value::Object(schema) => schema.clone(),
        _ => Map::new(),
    };
    // These are refused at the top, where the provider wants an object and nothing else.
    for key in ["oneOf", "anyOf", "allOf"] {
        schema.remove(key);
    }
    put(&mut schema, "type", Some("object"));
    let mut tool = Map::new();
    put(&mut tool, "name", Some(spec.name.as_str()));
    put(&mut tool, "description", Some(spec.description.as_str()).filter(|words| !words.trim().is_empty()));
    put(&mut tool, "input_schema", Some(schema));
    Value::Object(tool)
}
