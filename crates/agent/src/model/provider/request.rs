//! Converts a request to the types of `legwork-models`. Pure.

use std::sync::Arc;

use legwork_common::team::Api;
use legwork_common::team::ModelSettings;
use legwork_common::team::ThinkingBudget;
use legwork_models::conversation;
use legwork_models::images::reads_images;
use legwork_models::settings::Form;
use legwork_models::settings::Settings;
use legwork_models::settings::Thinking;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::message::Message;
use crate::message::ToolResult;
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
        interleaved_thinking: model.has_option("interleaved_thinking"),
        form: form.map(specified),
        parallel_tool_calls: model.parallel_tool_calls,
        images: model.takes_images.unwrap_or_else(|| reads_images(&model.model)),
        track_usage: model.track_usage.unwrap_or(true),
        extra: extra(model),
        ..Settings::new(model.provider.as_str(), model.model.as_str())
    }
}

/// What only one provider's interface has: the budget of a task.
fn extra(model: &ModelSettings) -> Map<String, Value> {
    let total = model.task_budget.filter(|_| model.api == Api::Anthropic);
    let field = total.map(|total| {
        ("output_config".to_owned(), json!({"task_budget": {"type": "tokens", "total": total}}))
    });
    field.into_iter().collect()
}

fn thinking(budget: &ThinkingBudget) -> Thinking {
    match budget {
        ThinkingBudget::Effort(word) => match word.as_str() {
            "none" => Thinking::Off,
            "adaptive" => Thinking::Adaptive,
            // Of `adaptive/high` the level: a model that decides on its own how much it thinks takes it as its effort.
            word => Thinking::Effort(word.strip_prefix("adaptive/").unwrap_or(word).to_owned()),
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
pub(super) fn messages(messages: &[Arc<Message>]) -> Vec<conversation::Message> {
    let converted = messages.iter().map(|message| match &**message {
        Message::System { text } => conversation::Message::system(text.as_str()),
        Message::User { text } => conversation::Message::user(text.as_str()),
        Message::Assistant(reply) => conversation::Message::Assistant(reply.to_wire()),
        Message::ToolResult(result) => conversation::Message::ToolResult(conversation::ToolResult {
            call_id: result.call_id.clone(),
            name: result.name.clone(),
            content: result_content(result),
            is_error: result.is_error,
        }),
    });
    converted.collect()
}

/// What a tool answered: its text, then its images. A wire whose model takes none sends a sentence for each.
fn result_content(result: &ToolResult) -> conversation::Content {
    let text = conversation::ContentPart::Text { text: result.text.clone() };
    let images = result.images.iter().cloned().map(conversation::ContentPart::Image);
    conversation::Content::new(std::iter::once(text).chain(images).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    #[test]
    fn a_task_budget_is_for_anthropic_and_a_level_is_an_effort() {
        let of = |provider: &str| {
            let mut model = ModelSettings::inline(provider, "m").unwrap();
            model.task_budget = Some(50_000);
            settings(&model, None).extra
        };
        let expected = json!({"output_config": {"task_budget": {"type": "tokens", "total": 50_000}}});
        assert_eq!(Value::Object(of("anthropic")), expected);
        assert!(of("openai").is_empty());
        for (word, expected) in [
            ("adaptive", Thinking::Adaptive),
            ("adaptive/low", Thinking::Effort("low".to_owned())),
            ("max", Thinking::Effort("max".to_owned())),
            ("none", Thinking::Off),
        ] {
            assert_eq!(thinking(&ThinkingBudget::Effort(word.to_owned())), expected, "{word}");
        }
    }

    #[test]
    fn images_of_a_result_follow_its_text() {
        let image = Image { media_type: "image/png".into(), data: "iVBORw0KGgo=".into() };
        let (call_id, name, text) = ("c".into(), "read_file".into(), "a.png".into());
        let result = ToolResult { call_id, name, text, images: vec![image], is_error: false };
        let content = result_content(&result);
        assert_eq!((content.text().as_str(), content.images().count()), ("a.png", 1));
    }
}
