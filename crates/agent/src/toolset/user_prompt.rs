//! `user_prompt`: a question of the agent to its user, with the form of the answer.

use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Kit;
use super::schema;
use super::schema::Schema;
use crate::person::NO_ONE;
use crate::person::Person;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The most bytes of a question with its schema. It is kept until it is answered, and shown on a terminal.
const MAX_QUESTION_BYTES: usize = 16 * 1024;

/// The toolset.
pub(crate) fn open() -> Kit {
    let schema = Schema::new()
        .required("message", schema::string(), "The question")
        .optional("title", schema::string(), "A title above the question")
        .optional(
            "schema",
            json!({"type": "object"}),
            "The JSON schema of the answer: of an object with properties, or of a single value. `enum` gives choices",
        );
    let description = "Ask the user a question and wait for the answer. Use it where you cannot decide on your own. The \
                       result is JSON: `action` is accept, decline or cancel, and `content` has the answer.";
    // Asking again after a crash finds the same question, so it is repeated like a call that only reads.
    Kit::new([UserPrompt { spec: schema::read_only("user_prompt", description, schema) }])
}

#[derive(Debug)]
struct UserPrompt {
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    message: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    schema: Option<Value>,
}

#[async_trait]
impl Tool for UserPrompt {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        if arguments.to_string().len() > MAX_QUESTION_BYTES {
            return ToolOutcome::error(format!("a question has at most {MAX_QUESTION_BYTES} bytes"));
        }
        match schema::parse::<Arguments>(&self.spec, arguments) {
            Ok(Arguments { message, .. }) if message.trim().is_empty() => {
                ToolOutcome::error("message must not be empty")
            }
            Ok(Arguments { message, title, schema }) => {
                let schema = schema.filter(|schema| schema.as_object().is_some_and(|keys| !keys.is_empty()));
                ask(context, &Question::Prompt { message, title, schema }).await
            }
            Err(invalid) => invalid,
        }
    }
}

/// Asks, and words the answer as docker-agent does. Whatever is not an answer is an error result.
async fn ask(context: &ToolContext, question: &Question) -> ToolOutcome {
    let person: Option<Arc<dyn Person>> = context.person.clone();
    let Some(person) = person else { return ToolOutcome::error(NO_ONE) };
    let refused = |action: &str, reason: Option<String>| {
        let mut answer = json!({"action": action});
        if let Some(reason) = reason {
            answer["reason"] = reason.into();
        }
        ToolOutcome::error(answer.to_string())
    };
    match person.ask(context.call, question).await {
        Ok(Answer::Answered { content }) => {
            ToolOutcome::ok(json!({"action": "accept", "content": content}).to_string())
        }
        Ok(Answer::Approved) => ToolOutcome::ok(json!({"action": "accept"}).to_string()),
        Ok(Answer::Denied { why }) => refused("decline", why),
        Ok(Answer::Expired) => refused("cancel", Some("no one answered in time".to_owned())),
        Err(error) => ToolOutcome::error(format!("the question could not be asked: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::service::CallIndex;
    use legwork_common::service::ServiceError;

    use super::*;
    use crate::testing;

    /// A person who always gives one answer.
    #[derive(Debug)]
    struct Says(Answer);

    #[async_trait]
    impl Person for Says {
        fn is_durable(&self) -> bool {
            false
        }

        async fn ask(&self, _call: CallIndex, _question: &Question) -> Result<Answer, ServiceError> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn answers_are_worded_as_docker_agent_does() {
        let kit = open();
        let table = [
            (
                Answer::Answered { content: json!({"response": "red"}) },
                r#"{"action":"accept","content":{"response":"red"}}"#,
                false,
            ),
            (Answer::Denied { why: None }, r#"{"action":"decline"}"#, true),
            (Answer::Denied { why: Some("busy".into()) }, r#"{"action":"decline","reason":"busy"}"#, true),
            (Answer::Expired, r#"{"action":"cancel","reason":"no one answered in time"}"#, true),
        ];
        for (answer, text, is_error) in table {
            let context = ToolContext { person: Some(Arc::new(Says(answer))), ..testing::context() };
            let outcome = kit.tools[0].call(json!({"message": "Which?"}), &context).await;
            assert_eq!((outcome.text.as_str(), outcome.is_error), (text, is_error));
        }
        let alone = testing::call(&kit.tools[0], json!({"message": "Which?"})).await;
        assert_eq!((alone.text.as_str(), alone.is_error), ("No one can answer here.", true));
        let blank = testing::call(&kit.tools[0], json!({"message": " "})).await;
        assert!(blank.is_error);
    }
}
