//! The schema of an answer as OpenAI's strict mode takes it.

use serde_json::Map;
use serde_json::Value;

use crate::settings::Form;

/// Keywords whose value is one schema.
const ONE: [&str; 3] = ["items", "not", "additionalItems"];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value is an object of schemas.
const NAMED: [&str; 3] = ["properties", "$defs", "definitions"];

/// The schema of this form. In strict mode each object without them gets `additionalProperties: false` and all its
/// properties as required: the provider refuses a strict schema without either.
pub(crate) fn schema(form: &Form) -> Value {
    let mut schema = form.schema.clone();
    if form.strict {
        close(&mut schema);
    }
    schema
}

fn close(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            (name, value) if ONE.contains(&name) => close(value),
            (name, Value::Array(schemas)) if LISTS.contains(&name) => schemas.iter_mut().for_each(close),
            (name, Value::Object(schemas)) if NAMED.contains(&name) => schemas.values_mut().for_each(close),
            _ => {}
        }
    }
    close_object(fields);
}

fn close_object(fields: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = fields.get("properties") else { return };
    let names: Vec<Value> = properties.keys().map(|name| Value::from(name.as_str())).collect();
    fields.entry("additionalProperties").or_insert(Value::Bool(false));
    fields.entry("required").or_insert(Value::Array(names));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strict_objects_are_closed_at_every_depth() {
        let text = || json!({"type": "string"});
        let inner = json!({"type": "object", "properties": {"b": text()}});
        let list = json!({"type": "array", "items": inner.clone()});
        let open = json!({"type": "object", "properties": {"a": list, "either": {"anyOf": [inner, text()]}}});
        let closed_inner = json!({"type": "object", "properties": {"b": text()}, "additionalProperties": false, "required": ["b"]});
        let expected = json!({
            "type": "object",
            "properties": {
                "a": {"type": "array", "items": closed_inner.clone()},
                "either": {"anyOf": [closed_inner, text()]},
            },
            "additionalProperties": false,
            "required": ["a", "either"],
        });
        let form = |strict| Form { name: "answer".into(), description: None, strict, schema: open.clone() };
        assert_eq!(schema(&form(true)), expected);
        assert_eq!(schema(&form(false)), open);
    }

    #[test]
    fn what_the_schema_states_is_kept() {
        let given =
            json!({"properties": {"a": {}, "b": {}}, "required": ["a"], "additionalProperties": true});
        let form = Form { name: "answer".into(), description: None, strict: true, schema: given.clone() };
        assert_eq!(schema(&form), given);
    }
}
