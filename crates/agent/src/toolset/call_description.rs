//! `add_description_parameter`: each tool call says in a few words what it is for. Pure.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::tool::ToolSpec;

/// The argument that is added.
const DESCRIPTION: &str = "description";

/// The tool as a model is offered it: with the argument, unless it has one of that name.
pub(crate) fn offered(mut spec: ToolSpec) -> ToolSpec {
    if is_own(&spec) {
        return spec;
    }
    if let Some(parameters) = spec.parameters.as_object_mut() {
        let properties = parameters.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            let about = "What this call is for, in a few words, for those who watch";
            properties.insert(DESCRIPTION.to_owned(), json!({"type": "string", "description": about}));
        }
    }
    spec
}

/// Takes the argument out again: the tool does not know it.
pub(crate) fn strip(spec: &ToolSpec, arguments: &mut Map<String, Value>) {
    if !is_own(spec) {
        arguments.remove(DESCRIPTION);
    }
}

fn is_own(spec: &ToolSpec) -> bool {
    spec.parameters["properties"].get(DESCRIPTION).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Interrupted;

    fn spec(parameters: Value) -> ToolSpec {
        let (name, description) = ("t".to_owned(), "T".to_owned());
        ToolSpec { name, description, parameters, read_only: true, interrupted: Interrupted::RunAgain }
    }

    #[test]
    fn the_argument_comes_and_goes() {
        for parameters in [json!({"type": "object"}), json!({"properties": {"a": {}}})] {
            let plain = spec(parameters);
            assert_eq!(offered(plain.clone()).parameters["properties"]["description"]["type"], "string");
            let mut arguments =
                Map::from_iter([("description".to_owned(), json!("why")), ("a".into(), json!(1))]);
            strip(&plain, &mut arguments);
            assert_eq!(Value::Object(arguments), json!({"a": 1}));
        }
    }

    #[test]
    fn a_tool_keeps_its_own() {
        let own = spec(json!({"properties": {"description": {"type": "integer"}}}));
        assert_eq!(offered(own.clone()), own);
        let mut arguments = Map::from_iter([("description".to_owned(), json!(1))]);
        strip(&own, &mut arguments);
        assert_eq!(arguments.len(), 1);
    }
}
