//! Tool specs: the JSON schemas of arguments, and parsing arguments by them.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::tool::Interrupted;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The longest tool name that every provider accepts: OpenAI and Anthropic both stop at 64 characters.
const MAX_NAME_CHARS: usize = 64;

/// Turns any text into a tool or argument name that every provider accepts. Other characters become `_`, and the rest
/// of a long name is cut off, so two different names may become equal.
pub(super) fn provider_safe_name(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.chars().map(|c| if is_safe(c) { c } else { '_' }).take(MAX_NAME_CHARS).collect()
}

/// The shape of a string, for [`Schema::required`] and [`Schema::optional`].
pub(super) fn string() -> Value {
    json!({"type": "string"})
}

/// The shape of one of these words.
pub(super) fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// The shape of a boolean.
pub(super) fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// The shape of a list whose items have the shape `items`.
pub(super) fn list_of(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// Builds the JSON schema of an object that accepts these properties and no others.
#[derive(Debug, Default)]
pub(super) struct Schema {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Schema {
    /// An object without properties.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a property that must be present. `shape` is its schema without the description.
    #[must_use]
    pub(super) fn required(mut self, name: &str, shape: Value, description: &str) -> Self {
        self.required.push(name.to_owned());
        self.property(name, shape, description)
    }

    /// Adds a property that may be absent or null. Null is allowed because OpenAI's strict mode sends every property.
    #[must_use]
    pub(super) fn optional(self, name: &str, mut shape: Value, description: &str) -> Self {
        if let Some(kind) = shape.get("type").cloned() {
            shape["type"] = json!([kind, "null"]);
        }
        if let Some(Value::Array(words)) = shape.get_mut("enum") {
            words.push(Value::Null);
        }
        self.property(name, shape, description)
    }

    /// The arguments that an agent file declares for a tool of its own. One without a type is a string.
    pub(super) fn declared(args: &BTreeMap<String, Value>, required: &[String]) -> Self {
        args.iter().fold(Self::new(), |schema, (name, declared)| {
            let mut shape = if declared.is_object() { declared.clone() } else { json!({}) };
            if shape.get("type").is_none() && shape.get("enum").is_none() {
                shape["type"] = json!("string");
            }
            let description = match shape.get("description").and_then(Value::as_str) {
                Some(text) if !text.is_empty() => text.to_owned(),
                _ => format!("The argument {name}"),
            };
            if required.contains(name) {
                schema.required(name, shape, &description)
            } else {
                schema.optional(name, shape, &description)
            }
        })
    }

    fn property(mut self, name: &str, mut shape: Value, description: &str) -> Self {
        shape["description"] = json!(description);
        self.properties.insert(name.to_owned(), shape);
        self
    }

    /// The finished schema. It is also the shape of a nested object.
    pub(super) fn build(self) -> Value {
        json!({
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

/// The spec of a tool that changes nothing outside the run. An interrupted call runs again.
pub(super) fn read_only(name: &str, description: &str, schema: Schema) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: schema.build(),
        read_only: true,
        interrupted: Interrupted::RunAgain,
    }
}

/// The spec of a tool that changes something. An interrupted call is reported, because running it again could repeat
/// its effect.
pub(super) fn writing(name: &str, description: &str, schema: Schema) -> ToolSpec {
    ToolSpec { read_only: false, interrupted: Interrupted::Report, ..read_only(name, description, schema) }
}

/// The spec of a tool that changes something, where repeating a call has no further effect. An interrupted call runs
/// again.
pub(super) fn idempotent(name: &str, description: &str, schema: Schema) -> ToolSpec {
    ToolSpec { read_only: false, ..read_only(name, description, schema) }
}

/// What a new attempt does with an interrupted call of a tool that is described elsewhere (MCP, HTTP).
pub(super) fn interrupted(is_idempotent: bool) -> Interrupted {
    if is_idempotent { Interrupted::RunAgain } else { Interrupted::Report }
}

/// Checks the arguments of a tool whose properties are not known to this program, and returns them by name.
///
/// # Errors
///
/// The outcome for the model: a required argument is missing, or one is unknown. Types are not checked.
pub(super) fn checked<'a>(
    spec: &ToolSpec,
    arguments: &'a Value,
) -> Result<Vec<(&'a str, &'a Value)>, ToolOutcome> {
    let required = spec.parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| arguments.get(name).is_none()) {
        return Err(invalid_arguments(&spec.name, format!("missing field `{missing}`")));
    }
    let mut checked = Vec::new();
    for (name, value) in arguments.as_object().into_iter().flatten() {
        if spec.parameters["properties"].get(name).is_none() {
            return Err(invalid_arguments(&spec.name, format!("unknown field `{name}`")));
        }
        checked.push((name.as_str(), value));
    }
    Ok(checked)
}

/// Parses the arguments into the tool's own type. No arguments are an empty object.
///
/// # Errors
///
/// The outcome for the model, with serde's reason.
pub(super) fn parse<A: DeserializeOwned>(spec: &ToolSpec, arguments: Value) -> Result<A, ToolOutcome> {
    let arguments = if arguments.is_null() { Value::Object(Map::new()) } else { arguments };
    serde_json::from_value(arguments).map_err(|error| invalid_arguments(&spec.name, error))
}

/// The outcome for a call whose arguments cannot be used.
pub(super) fn invalid_arguments(tool: &str, reason: impl Display) -> ToolOutcome {
    ToolOutcome::error(format!("invalid arguments for {tool}: {reason}"))
}
