//! `add_description_parameter`: an extra argument of each tool, in which the model describes the call. Pure.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::tool::ToolSpec;

/// The name of the extra argument, the same as in docker-agent.
const DESCRIPTION: &str = "description";

/// The spec with the extra argument. A tool that has an argument of that name is left as it is.
pub(crate) fn offered(mut spec: ToolSpec) -> ToolSpec {
    if is_own(&spec) {
        return spec;
    }
    if let Some(parameters) = spec.parameters.as_object_mut() {
        let properties = parameters.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            let description = "A few words for the user on what this call is for";
            properties.insert(DESCRIPTION.to_owned(), json!({"type": "string", "description": description}));
        }
    }
    spec
}

/// Removes the extra argument before the tool sees the call.
pub(crate) fn strip(spec: &ToolSpec, arguments: &mut Map<String, Value>) {
    if !is_own(spec) {
        arguments.remove(DESCRIPTION);
    }
}

/// Whether the tool itself has an argument of that name.
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
    fn the_argument_is_added_to_the_spec_and_stripped_from_calls() {
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
    fn a_tool_keeps_a_description_argument_of_its_own() {
        let own = spec(json!({"properties": {"description": {"type": "integer"}}}));
        assert_eq!(offered(own.clone()), own);
        let mut arguments = Map::from_iter([("description".to_owned(), json!(1))]);
        strip(&own, &mut arguments);
        assert_eq!(arguments.len(), 1);
    }
}
