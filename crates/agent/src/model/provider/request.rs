//! Converts a request to the types of `legwork-models`. Pure.

use legwork_common::team::Api;
use legwork_common::team::ModelSettings;
use legwork_common::team::ThinkingBudget;
use legwork_models::conversation;
use legwork_models::settings::Form;
use legwork_models::settings::Settings;
use legwork_models::settings::Thinking;
use serde_json::Value;

use crate::message::Message;
use crate::tool::ToolSpec;

/// The name of an answer's form where the agent file sets none.
const FORM_NAME: &str = "answer";

/// The settings of a request.
pub(super) fn settings(model: &ModelSettings, form: Option<&Value>) -> Settings {
    Settings {
        temperature: model.temperature,
        top_p: model.top_p,
        frequency_penalty: model.frequency_penalty,
        presence_penalty: model.presence_penalty,
        max_output_tokens: model.max_tokens,
        thinking: model.thinking_budget.as_ref().map(thinking),
        interleaved_thinking: model.api == Api::Anthropic && model.has_option("interleaved_thinking"),
        form: form.map(specified),
        parallel_tool_calls: model.parallel_tool_calls,
        track_usage: model.track_usage.unwrap_or(true),
        ..Settings::new(model.provider.as_str(), model.model.as_str())
    }
}

fn thinking(budget: &ThinkingBudget) -> Thinking {
    match budget {
        ThinkingBudget::Effort(word) => match word.as_str() {
            "none" => Thinking::Off,
            "adaptive" => Thinking::Adaptive,
            word => Thinking::Effort(word.to_owned()),
        },
        ThinkingBudget::Tokens(0) => Thinking::Off,
        // `-1` leaves it to the model.
        ThinkingBudget::Tokens(tokens) => u32::try_from(*tokens).map_or(Thinking::Adaptive, Thinking::Tokens),
    }
}

/// `structured_output`.
fn specified(form: &Value) -> Form {
    Form {
        name: form["name"].as_str().unwrap_or(FORM_NAME).to_owned(),
        description: form["description"].as_str().map(str::to_owned),
        strict: form["strict"].as_bool().unwrap_or(true),
        schema: form["schema"].clone(),
    }
}

/// The conversation.
pub(super) fn messages(messages: &[Message]) -> Vec<conversation::Message> {
    let converted = messages.iter().map(|message| match message {
        Message::System { text } => conversation::Message::system(text.as_str()),
        Message::User { text } => conversation::Message::user(text.as_str()),
        Message::Assistant(reply) => conversation::Message::Assistant(reply.to_wire()),
        Message::ToolResult(result) => conversation::Message::ToolResult(conversation::ToolResult {
            call_id: result.call_id.clone(),
            name: result.name.clone(),
            content: result.text.as_str().into(),
            is_error: result.is_error,
        }),
    });
    converted.collect()
}

/// The tools on offer.
pub(super) fn tools(tools: &[ToolSpec]) -> Vec<conversation::ToolSpec> {
    let converted = tools.iter().map(|tool| conversation::ToolSpec {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: tool.parameters.clone(),
    });
    converted.collect()
}
