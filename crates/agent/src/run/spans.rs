//! The spans of a run, with the names of OpenTelemetry's conventions for generative AI. Their attributes are names, ids and
//! numbers: no prompt, argument, result or error.

use legwork_common::job::Usage;
use legwork_common::team::ModelSettings;
use legwork_common::trace::SPAN_TARGET;
use tracing::Span;
use tracing::field::Empty;

use crate::message::ToolCall;
use crate::model::ModelError;
use crate::model::ModelReply;

/// A run of an agent.
pub(super) fn of_agent(name: &str) -> Span {
    tracing::info_span!(
        target: SPAN_TARGET,
        "invoke_agent",
        otel.name = format!("invoke_agent {name}"),
        otel.status_code = Empty,
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = name,
        error.type = Empty,
    )
}

/// One call of a model; each retry is another.
pub(super) fn of_model_call(settings: &ModelSettings, agent: &str) -> Span {
    tracing::info_span!(
        target: SPAN_TARGET,
        "chat",
        otel.name = format!("chat {}", settings.model),
        otel.kind = "client",
        otel.status_code = Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = %settings.provider,
        gen_ai.request.model = %settings.model,
        gen_ai.agent.name = agent,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        error.type = Empty,
    )
}

/// Records what a model call used, or that it failed.
pub(super) fn record_reply(span: &Span, answer: &Result<ModelReply, ModelError>) {
    match answer {
        Ok(reply) => {
            let Usage { input_tokens, cached_tokens, output_tokens, .. } = reply.message.usage;
            span.record("gen_ai.usage.input_tokens", input_tokens);
            span.record("gen_ai.usage.output_tokens", output_tokens);
            span.record("gen_ai.usage.cache_read.input_tokens", cached_tokens);
        }
        Err(error) => record_error(span, error.kind()),
    }
}

/// One call of a tool. A name that is not a tool's was made up by the model, so it is left out.
pub(super) fn of_tool_call(call: &ToolCall, is_known: bool) -> Span {
    let name = if is_known { call.name.as_str() } else { "unknown" };
    tracing::info_span!(
        target: SPAN_TARGET,
        "execute_tool",
        otel.name = format!("execute_tool {name}"),
        otel.status_code = Empty,
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name,
        gen_ai.tool.type = "function",
        error.type = Empty,
    )
}

/// Marks a span as failed; `kind` is one of few words.
pub(super) fn record_error(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}
