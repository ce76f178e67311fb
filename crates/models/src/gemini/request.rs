//! Settings and a conversation as the body of generateContent.

mod contents;
mod thinking;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::model::Model;
use crate::conversation::Message;
use crate::conversation::ToolSpec;
use crate::json::put;
use crate::settings::Settings;
use crate::settings::ToolChoice;
use crate::wire::Ask;
use crate::wire::Note;
use crate::wire::RequestError;
use crate::wire::WireRequest;

/// The field of the settings of generation.
const CONFIG: &str = "generationConfig";

/// Builds the request.
pub(super) fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
    let model = Model::of(&settings.model);
    let contents = contents::contents(settings, model, ask.messages);
    if contents.is_empty() {
        return Err(RequestError::NothingAsked);
    }
    let mut body = settings.extra.clone();
    let mut notes = Vec::new();
    put(&mut body, "contents", Some(contents));
    put(&mut body, "systemInstruction", system(ask.messages));
    if !ask.tools.is_empty() {
        tools(settings, ask.tools, &mut body, &mut notes);
    }
    let mut config = match body.remove(CONFIG) {
        Some(Value::Object(given)) => given,
        _ => Map::new(),
    };
    generation(settings, model, ask.tools, &mut config, &mut notes);
    put(&mut body, CONFIG, Some(config).filter(|config| !config.is_empty()));
    let name = settings.model.strip_prefix("models/").unwrap_or(&settings.model);
    Ok(WireRequest {
        path: format!("models/{name}:streamGenerateContent?alt=sse"),
        headers: Vec::new(),
        body: Value::Object(body),
        notes,
    })
}

/// The system prompt: one text, since models read several parts as if nothing stood between them.
fn system(messages: &[Message]) -> Option<Value> {
    let texts = messages.iter().filter_map(|message| match message {
        Message::System { text } if !text.trim().is_empty() => Some(text.as_str()),
        _ => None,
    });
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| json!({"parts": [{"text": texts.join("\n\n")}]}))
}

fn generation(
    settings: &Settings,
    model: Model,
    tools: &[ToolSpec],
    config: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    put(config, "temperature", settings.temperature);
    put(config, "topP", settings.top_p);
    put(config, "maxOutputTokens", settings.max_output_tokens);
    for (setting, field, value) in [
        ("frequency_penalty", "frequencyPenalty", settings.frequency_penalty),
        ("presence_penalty", "presencePenalty", settings.presence_penalty),
    ] {
        match value {
            Some(_) if !model.takes_penalties() => {
                notes.push(Note::left_out(setting, "this model refuses it"));
            }
            value => put(config, field, value),
        }
    }
    put(config, "thinkingConfig", thinking::config(settings, model, notes));
    match &settings.form {
        Some(_) if !tools.is_empty() && !model.takes_form_with_tools() => {
            notes.push(Note::left_out("structured_output", "this model refuses it where there are tools"));
        }
        Some(form) => {
            put(config, "responseMimeType", Some("application/json"));
            put(config, "responseJsonSchema", Some(form.schema.clone()));
        }
        None => {}
    }
}

fn tools(settings: &Settings, tools: &[ToolSpec], body: &mut Map<String, Value>, notes: &mut Vec<Note>) {
    let declarations: Vec<Value> = tools.iter().map(declaration).collect();
    put(body, "tools", Some(json!([{"functionDeclarations": declarations}])));
    let calling = match &settings.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::Never => Some(json!({"mode": "NONE"})),
        ToolChoice::Required => Some(json!({"mode": "ANY"})),
        ToolChoice::Tool(name) => Some(json!({"mode": "ANY", "allowedFunctionNames": [name]})),
    };
    put(body, "toolConfig", calling.map(|calling| json!({"functionCallingConfig": calling})));
    if settings.parallel_tool_calls == Some(false) {
        notes.push(Note::left_out("parallel_tool_calls", "this provider does not know it"));
    }
}

fn declaration(spec: &ToolSpec) -> Value {
    let mut declaration = Map::new();
    put(&mut declaration, "name", Some(spec.name.as_str()));
    put(&mut declaration, "description", Some(spec.description.as_str()));
    if let Value::Object(schema) = &spec.parameters {
        let mut schema = schema.clone();
        // The one keyword of tool servers that is refused.
        schema.remove("$schema");
        put(&mut declaration, "parametersJsonSchema", Some(schema));
    }
    Value::Object(declaration)
}
