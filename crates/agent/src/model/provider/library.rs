//! Bedrock's models, through the `genai` library.
//!
//! The library does not report a stream that breaks off, or reports it as complete; here it is a transient error.

mod fault;
mod request;
mod target;

use std::time::Duration;

use futures::StreamExt;
use genai::Client;
use genai::adapter::AdapterKind;
use genai::chat::ChatStreamEvent;
use genai::chat::ContentPart;
use genai::chat::StreamEnd;
use jiff::Timestamp;
use legwork_common::job::Usage;
use legwork_common::team::ModelSettings;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use tokio::sync::mpsc;

use crate::environment::Environment;
use crate::message::AssistantMessage;
use crate::message::ToolCall;
use crate::model::Delta;
use crate::model::ModelError;
use crate::model::ModelReply;
use crate::model::ModelRequest;
use crate::model::ReplyEnd;

/// How long a connection may take, TLS included. Slower than that, a provider is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Models over the wires that the library serves. One for a process: it keeps connections.
#[derive(Debug, Clone)]
pub(super) struct LibraryModels {
    client: Client,
    environment: Environment,
}

impl LibraryModels {
    /// Models whose keys and base URLs are looked up in `environment`.
    ///
    /// # Errors
    ///
    /// Where the system has no usable network configuration.
    pub(super) fn new(environment: Environment) -> Result<Self, genai::Error> {
        let web = genai::WebConfig::default().with_connect_timeout(CONNECT_TIMEOUT);
        let client = Client::builder().with_web_config(web).build()?;
        Ok(Self { client, environment })
    }
}

impl LibraryModels {
    /// As [`ModelPort::stream`](crate::model::ModelPort::stream).
    pub(super) async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<ModelReply, ModelError> {
        let target = target::target(settings, &request.agent, &self.environment)?;
        let chat = request::chat(settings, request);
        let wire = target.model.adapter_kind;
        let mut options = request::options(settings, wire, request.form.as_ref());
        let headers = target::headers(settings);
        if !headers.is_empty() {
            options = options.with_extra_headers(headers);
        }
        let failed = |error: &genai::Error| fault::classified(settings, error, Timestamp::now());
        let answer = self
            .client
            .exec_chat_stream(target, chat, Some(&options))
            .await
            .map_err(|error| failed(&error))?;
        let mut events = answer.stream;
        while let Some(event) = events.next().await {
            let delta = match event.map_err(|error| failed(&error))? {
                ChatStreamEvent::Chunk(piece) => Delta::Text(piece.content),
                ChatStreamEvent::ReasoningChunk(piece) => Delta::Reasoning(piece.content),
                ChatStreamEvent::End(end) if is_whole(wire, &end) => {
                    return Ok(reply(message(settings, end)));
                }
                ChatStreamEvent::End(_) => break,
                ChatStreamEvent::Start
                | ChatStreamEvent::ThoughtSignatureChunk(_)
                | ChatStreamEvent::ToolCallChunk(_)
                | ChatStreamEvent::Heartbeat => continue,
            };
            // Without a receiver the complete reply is still returned.
            deltas.send(delta).await.ok();
        }
        Err(ModelError::Transient {
            model: settings.reference(),
            detail: "the stream ended in the middle of the reply".to_owned(),
        })
    }
}

/// Whether the provider itself ended the reply. On two wires the library reports an end only then; on the others it
/// also reports one when the stream breaks off, without a stop reason.
fn is_whole(wire: AdapterKind, end: &StreamEnd) -> bool {
    matches!(wire, AdapterKind::OpenAI | AdapterKind::Anthropic) || end.captured_stop_reason.is_some()
}

/// The library does not report how a reply ended, except for one without anything in it.
fn reply(message: AssistantMessage) -> ModelReply {
    let reasoned = message.reasoning.is_some();
    let reply = ModelReply::complete(message);
    if reply.end == ReplyEnd::Finished && reply.message.text.trim().is_empty() {
        return ModelReply { end: ReplyEnd::Empty { reasoned }, ..reply };
    }
    reply
}

/// The complete reply.
fn message(settings: &ModelSettings, mut end: StreamEnd) -> AssistantMessage {
    let usage = usage(end.captured_usage.as_ref());
    let reasoning = end.captured_reasoning_content.take();
    let (mut text, mut tool_calls, mut kept) = (String::new(), Vec::new(), Vec::new());
    let mut signatures = Map::new();
    for part in end.captured_content.map(|content| content.into_parts()).unwrap_or_default() {
        match part {
            ContentPart::Text(piece) => text.push_str(&piece),
            ContentPart::ToolCall(mut call) => {
                let signed = call.thought_signatures.take();
                signatures.extend(signed.map(|signed| (call.call_id.clone(), json!(signed))));
                tool_calls.push(tool_call(call));
            }
            ContentPart::ThoughtSignature(_) | ContentPart::ReasoningContent(_) | ContentPart::Custom(_) => {
                kept.push(part);
            }
            ContentPart::Binary(_) | ContentPart::ToolResponse(_) => {}
        }
    }
    let has_reasoning = kept.iter().any(ContentPart::is_reasoning_content);
    kept.extend(reasoning.clone().filter(|_| !has_reasoning).map(ContentPart::ReasoningContent));
    let continuation = continuation(settings, &kept, signatures);
    AssistantMessage { text, reasoning, tool_calls, continuation, usage, ..AssistantMessage::default() }
}

/// What this provider requires to be sent back, with the signatures of single calls by their ids. Other providers
/// do not understand it.
fn continuation(
    settings: &ModelSettings,
    kept: &[ContentPart],
    signatures: Map<String, Value>,
) -> Option<Value> {
    let parts = serde_json::to_value(kept).ok()?;
    let any = !kept.is_empty() || !signatures.is_empty();
    any.then(|| json!({"provider": settings.provider, "parts": parts, "signatures": signatures}))
}

fn tool_call(call: genai::chat::ToolCall) -> ToolCall {
    let arguments = match call.fn_arguments {
        // Arguments that are not JSON stay as the model wrote them.
        Value::String(raw) => raw,
        arguments => arguments.to_string(),
    };
    ToolCall { id: call.call_id, name: call.fn_name, arguments, thought_signature: None }
}

fn usage(counted: Option<&genai::chat::Usage>) -> Usage {
    let tokens = |count: Option<i32>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    let Some(counted) = counted else { return Usage { turns: 1, ..Usage::default() } };
    let details = counted.prompt_tokens_details.as_ref();
    Usage {
        input_tokens: tokens(counted.prompt_tokens),
        cached_tokens: tokens(details.and_then(|details| details.cached_tokens)),
        output_tokens: tokens(counted.completion_tokens),
        turns: 1,
    }
}
