//! `submit_answer`: the tool by which an agent answers whose `structured_output` has the mode `tool`. Its arguments are the
//! answer, and they must have the form of the agent file.

use async_trait::async_trait;
use jsonschema::Validator;
use legwork_common::team::Agent;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::call_description;
use super::schema;
use super::schema::Schema;
use crate::message::ToolCall;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The name of the tool.
pub(crate) const NAME: &str = "submit_answer";
/// The system message about it.
pub(crate) const INSTRUCTION: &str = "Give your final answer by calling submit_answer, once, when everything else is \
done. A text is not an answer.";
/// The property that holds an answer which is not an object: arguments always are one.
const WRAPPER: &str = "answer";
/// The most reasons that a model is told of at once.
const MAX_REASONS: usize = 5;

/// Whether an agent answers by the tool.
pub(crate) fn answers_by_tool(agent: &Agent) -> bool {
    agent.structured_output.as_ref().is_some_and(|form| form["mode"] == json!("tool"))
}

/// The form that the provider is asked for; `None` where the agent answers by the tool.
pub(crate) fn native_form(agent: &Agent) -> Option<Value> {
    agent.structured_output.clone().filter(|_| !answers_by_tool(agent))
}

/// The tool, and a warning where answers cannot be validated; `None` for an agent that answers by text.
pub(crate) fn open(agent: &Agent) -> Option<(AnswerTool, Option<String>)> {
    if !answers_by_tool(agent) {
        return None;
    }
    let form = agent.structured_output.as_ref()?;
    let schema = form["schema"].clone();
    let (validator, warning) = match jsonschema::validator_for(&schema) {
        Ok(validator) => (Some(validator), None),
        Err(error) => (None, Some(format!("the answer is not validated: its schema is not valid: {error}"))),
    };
    let about = form["description"].as_str().unwrap_or("The final answer");
    let mut spec = schema::read_only(NAME, about, Schema::new());
    spec.parameters = if is_object(&schema) {
        schema.clone()
    } else {
        Schema::new().required(WRAPPER, schema.clone(), about).build()
    };
    Some((AnswerTool { spec, schema, validator }, warning))
}

fn is_object(schema: &Value) -> bool {
    schema["type"] == json!("object")
}

/// The answer in the arguments of a call. Nulls, which were dropped, are put back where the form demands them.
fn answer_in(schema: &Value, mut arguments: Map<String, Value>) -> Option<Value> {
    if !is_object(schema) {
        return arguments.remove(WRAPPER);
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        let takes_null =
            schema["properties"][name]["type"].as_array().is_some_and(|types| types.contains(&json!("null")));
        if takes_null {
            arguments.entry(name).or_insert(Value::Null);
        }
    }
    Some(Value::Object(arguments))
}

/// The answer of a call that the tool accepted, as JSON.
pub(crate) fn of_call(agent: &Agent, tool: &dyn Tool, call: &ToolCall) -> Option<String> {
    let mut arguments = call.parsed_arguments().ok()?;
    if agent.add_description_parameter {
        call_description::strip(tool.spec(), &mut arguments);
    }
    let form = agent.structured_output.as_ref()?;
    answer_in(&form["schema"], arguments).map(|answer| answer.to_string())
}

/// The tool.
#[derive(Debug)]
pub(crate) struct AnswerTool {
    spec: ToolSpec,
    /// The schema of the answer, as in the agent file.
    schema: Value,
    /// `None` where that schema is not valid.
    validator: Option<Validator>,
}

#[async_trait]
impl Tool for AnswerTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let Value::Object(arguments) = arguments else {
            return schema::invalid_arguments(NAME, "they are not an object");
        };
        let Some(answer) = answer_in(&self.schema, arguments) else {
            return schema::invalid_arguments(NAME, format!("missing field `{WRAPPER}`"));
        };
        let reasons: Vec<String> = self
            .validator
            .iter()
            .flat_map(|validator| validator.iter_errors(&answer))
            .take(MAX_REASONS)
            .map(|error| format!("\n- {}: {error}", error.instance_path()))
            .collect();
        if reasons.is_empty() {
            return ToolOutcome::ok("The answer is accepted.");
        }
        ToolOutcome::error(format!(
            "The answer does not have the form that is asked for:{}",
            reasons.concat()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn agent(schema: Value) -> Agent {
        let form = json!({"name": "verdict", "mode": "tool", "schema": schema});
        testing::team(&[("a", &[], json!({"structured_output": form}))]).agents()[0].clone()
    }

    async fn answered(schema: Value, arguments: Value) -> ToolOutcome {
        let (tool, warning) = open(&agent(schema)).unwrap();
        assert_eq!(warning, None);
        let tool: std::sync::Arc<dyn Tool> = std::sync::Arc::new(tool);
        testing::call(&tool, arguments).await
    }

    #[tokio::test]
    async fn an_answer_must_have_the_form_of_the_file() {
        let schema = json!({"type": "object", "required": ["score", "note"], "properties": {
            "score": {"type": "integer", "minimum": 1},
            "note": {"type": ["string", "null"]},
        }});
        assert!(!answered(schema.clone(), json!({"score": 3, "note": "x"})).await.is_error);
        assert!(!answered(schema.clone(), json!({"score": 3})).await.is_error, "a null was dropped");
        let wrong = answered(schema, json!({"score": 0, "note": 5})).await;
        assert!(wrong.is_error && wrong.text.contains("\n- /score: 0 is less than"), "{wrong:?}");
        assert!(wrong.text.contains("\n- /note: 5 is not of types"), "{wrong:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_an_object_is_wrapped() {
        let schema = json!({"type": "array", "items": {"type": "string"}});
        assert!(!answered(schema.clone(), json!({"answer": ["x"]})).await.is_error);
        assert!(answered(schema.clone(), json!({"answer": [1]})).await.is_error);
        assert!(answered(schema.clone(), json!({})).await.text.contains("missing field `answer`"));
        let agent = agent(schema);
        let (tool, _) = open(&agent).unwrap();
        let call = ToolCall {
            id: "1".to_owned(),
            name: NAME.to_owned(),
            arguments: r#"{"answer": ["x"]}"#.to_owned(),
            thought_signature: None,
        };
        assert_eq!(of_call(&agent, &tool, &call).unwrap(), r#"["x"]"#);
    }

    #[test]
    fn a_form_of_the_provider_has_no_tool() {
        let native =
            testing::team(&[("a", &[], json!({"structured_output": {"schema": {"type": "object"}}}))]);
        assert!(open(&native.agents()[0]).is_none() && native_form(&native.agents()[0]).is_some());
        assert_eq!(native_form(&agent(json!({"type": "object"}))), None);
        let (_, warning) =
            open(&agent(json!({"type": "object", "properties": {"a": {"type": "text"}}}))).unwrap();
        assert!(warning.unwrap().contains("its schema is not valid"));
    }
}
