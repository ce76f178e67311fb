//! Tool calls that a local model wrote as text, because its server did not recognise them.
//!
//! They become calls only where they are certain: the reply finished, holds nothing but such calls and reasoning, and names
//! only tools of the agent. In any other case the reply is unchanged, for a text that only mentions a call must not run it.
//!
//! | form | models |
//! | --- | --- |
//! | `<tool_call>{"name": …, "arguments": {…}}</tool_call>` | Hermes, Qwen |
//! | `<tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>` | Qwen Coder |
//! | `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>value</arg_value></tool_call>` | GLM |
//! | `<function=NAME>{…}</function>` | Llama 3 |
//! | `[TOOL_CALLS][{"name": …, "arguments": {…}}]`, `[TOOL_CALLS]NAME[ARGS]{…}` | Mistral |
//! | the JSON alone, as a list, or in a fence | Llama 3, Gemma, and any |

mod forms;
mod scan;

use serde_json::Value;

use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolSpec;
use crate::reply::Reply;
use crate::reply::ReplyEnd;
use crate::work;

/// The longest text that is searched for calls. A local model's whole context is shorter.
const MAX_BYTES: usize = 1 << 20;

/// A call as it is written.
#[derive(Debug, PartialEq, Eq)]
struct Written<'t> {
    name: &'t str,
    arguments: Arguments<'t>,
}

/// The arguments as they are written.
#[derive(Debug, PartialEq, Eq)]
enum Arguments<'t> {
    /// JSON text.
    Json(&'t str),
    /// Names and values; only the schema of the tool says which values are text.
    Pairs(Vec<(&'t str, &'t str)>),
}

/// The reply with the calls that its text is, or the reply itself.
///
/// `id_prefix` begins the ids of the calls, as in [`Reader::new`](crate::reader::Reader::new). A caller that asked for an
/// answer in JSON leaves this out: such an answer may look like a call.
#[must_use]
pub fn recognise(reply: Reply, tools: &[ToolSpec], id_prefix: &str) -> Reply {
    let text = match reply.end {
        ReplyEnd::Finished if reply.message.tool_calls().next().is_none() => reply.message.text(),
        _ => return reply,
    };
    if tools.is_empty() || text.len() > MAX_BYTES {
        return reply;
    }
    work::count(text.len());
    let (reasoning, rest) = forms::reasoning(&text);
    let calls = forms::calls(rest, |name| tools.iter().any(|tool| tool.name == name));
    match calls.filter(|calls| !calls.is_empty()) {
        Some(calls) => with_calls(reply, reasoning, &calls, tools, id_prefix),
        None => reply,
    }
}

fn with_calls(
    mut reply: Reply,
    reasoning: &str,
    calls: &[Written<'_>],
    tools: &[ToolSpec],
    id_prefix: &str,
) -> Reply {
    let parts = &mut reply.message.parts;
    parts.retain(|part| !matches!(part, Part::Text(_)));
    if !reasoning.is_empty() {
        parts.push(Part::Thinking { text: reasoning.to_owned(), signature: None });
    }
    parts.extend(calls.iter().enumerate().map(|(at, call)| {
        let tool = tools.iter().find(|tool| tool.name == call.name);
        Part::ToolCall(ToolCall {
            id: format!("{id_prefix}{}", at + 1),
            name: call.name.to_owned(),
            arguments: call.arguments.as_json(tool.map(|tool| &tool.parameters)),
            thought_signature: None,
        })
    }));
    reply.end = ReplyEnd::WantsTools;
    reply
}

impl Arguments<'_> {
    /// The text of a JSON object.
    fn as_json(&self, schema: Option<&Value>) -> String {
        match self {
            Self::Json(text) => match serde_json::from_str(text) {
                // An object that was written as a JSON text.
                Ok(Value::String(inner)) => inner,
                Ok(Value::Null) => "{}".to_owned(),
                _ => (*text).to_owned(),
            },
            Self::Pairs(pairs) => {
                let value =
                    |(name, written): &(&str, &str)| ((*name).to_owned(), value(name, written, schema));
                Value::Object(pairs.iter().map(value).collect()).to_string()
            }
        }
    }
}

/// A value that is written without quotes: text where the schema has it so or where it is not JSON.
fn value(name: &str, written: &str, schema: Option<&Value>) -> Value {
    let kind = schema.map_or(&Value::Null, |schema| &schema["properties"][name]["type"]);
    let is_text =
        *kind == "string" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "string"));
    let parsed = if is_text { None } else { serde_json::from_str(written.trim()).ok() };
    parsed.unwrap_or_else(|| Value::String(written.to_owned()))
}

#[cfg(test)]
mod tests;
