//! The form of an answer as Claude models take it: objects are closed.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::settings::Form;

/// Keywords whose value is a schema or a list of schemas.
const SCHEMAS: [&str; 8] =
    ["items", "anyOf", "oneOf", "allOf", "prefixItems", "not", "additionalProperties", "contains"];
/// Keywords whose value has schemas by names.
const NAMED: [&str; 3] = ["properties", "$defs", "definitions"];

/// The field of the request.
pub(super) fn format(form: &Form) -> Value {
    json!({"type": "json_schema", "schema": closed(&form.schema)})
}

/// The schema, with every object saying that it has no other properties: one that leaves this open is refused.
pub(crate) fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => closed_object(fields),
        Value::Array(schemas) => schemas.iter().map(closed).collect(),
        other => other.clone(),
    }
}

fn closed_object(fields: &Map<String, Value>) -> Value {
    let mut all = fields.clone();
    for (key, value) in &mut all {
        if SCHEMAS.contains(&key.as_str()) {
            *value = closed(value);
        } else if let (true, Value::Object(named)) = (NAMED.contains(&key.as_str()), value) {
            named.values_mut().for_each(|schema| *schema = closed(schema));
        }
    }
    if all.get("type").is_some_and(|kind| kind == "object") || all.contains_key("properties") {
        all.entry("additionalProperties").or_insert(json!(false));
    }
    Value::Object(all)
}
