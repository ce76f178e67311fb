//! The schemas of tools' arguments, and reading arguments by them.

use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::tool::Interrupted;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

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

/// The arguments as the tool's own type, or what the model is told.
pub(super) fn read<A: DeserializeOwned>(spec: &ToolSpec, arguments: Value) -> Result<A, ToolOutcome> {
    serde_json::from_value(arguments)
        .map_err(|error| ToolOutcome::error(format!("invalid arguments for {}: {error}", spec.name)))
}
