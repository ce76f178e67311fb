//! The schemas of tools' arguments, and reading arguments by them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::tool::Interrupted;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The longest name of a tool that every provider takes.
const NAME_CHARACTERS: usize = 64;

/// A name in letters that every provider takes.
pub(super) fn fitted(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.chars().map(|c| if fits(c) { c } else { '_' }).take(NAME_CHARACTERS).collect()
}

/// The JSON schema of an object that takes these properties and no others.
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

    /// A property that must be there. `shape` is its schema without the description.
    #[must_use]
    pub(super) fn required(mut self, name: &str, shape: Value, description: &str) -> Self {
        self.required.push(name.to_owned());
        self.property(name, shape, description)
    }

    /// A property that may be absent or null.
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

    /// The arguments that a team's file declares, texts where it names no type.
    pub(super) fn declared(args: &BTreeMap<String, Value>, required: &[String]) -> Self {
        args.iter().fold(Self::new(), |schema, (name, written)| {
            let mut shape = if written.is_object() { written.clone() } else { json!({}) };
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

    fn build(self) -> Value {
        json!({
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

/// A tool that changes nothing outside the run.
pub(super) fn reading(name: &str, description: &str, schema: Schema) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: schema.build(),
        read_only: true,
        interrupted: Interrupted::RunAgain,
    }
}

/// A tool that changes something, and whose calls are not repeated.
pub(super) fn writing(name: &str, description: &str, schema: Schema) -> ToolSpec {
    ToolSpec { read_only: false, interrupted: Interrupted::Report, ..reading(name, description, schema) }
}

/// A tool that changes something, and where the same call has the same effect once.
pub(super) fn repeatable(name: &str, description: &str, schema: Schema) -> ToolSpec {
    ToolSpec { read_only: false, ..reading(name, description, schema) }
}

/// The arguments of a tool whose file declares them, or what the model is told.
pub(super) fn given<'a>(
    spec: &ToolSpec,
    arguments: &'a Value,
) -> Result<Vec<(&'a str, &'a Value)>, ToolOutcome> {
    let wrong = |what: String| ToolOutcome::error(format!("invalid arguments for {}: {what}", spec.name));
    let names = spec.parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = names.into_iter().find(|name| arguments.get(name).is_none()) {
        return Err(wrong(format!("missing field `{missing}`")));
    }
    let mut given = Vec::new();
    for (name, value) in arguments.as_object().into_iter().flatten() {
        if spec.parameters["properties"].get(name).is_none() {
            return Err(wrong(format!("unknown field `{name}`")));
        }
        given.push((name.as_str(), value));
    }
    Ok(given)
}

/// The arguments as the tool's own type, or what the model is told.
pub(super) fn read<A: DeserializeOwned>(spec: &ToolSpec, arguments: Value) -> Result<A, ToolOutcome> {
    serde_json::from_value(arguments)
        .map_err(|error| ToolOutcome::error(format!("invalid arguments for {}: {error}", spec.name)))
}
