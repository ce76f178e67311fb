//! Questions that a job asks a person, and their answers: a tool call that needs an approval, or something that its agent
//! wants to know.
//!
//! A job asks and is parked; a person answers later, from any machine. The first answer counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::job::UnknownValue;
use crate::job::optional_rfc3339;
use crate::job::rfc3339;

/// The most bytes of a call's arguments in a question: enough for a long command. The turns of the job have all of them.
pub const MAX_ARGUMENT_BYTES: usize = 4 * 1024;
/// The most bytes of an answer, and of the reason of a refusal: the text enters the context of a model, as a message does.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How long a question waits where the policy sets no time: over a weekend.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(3 * 24 * 3600);

/// What becomes of a call in the background that needs a person's approval, and of a question to the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approvals {
    /// It is refused at once: no one can answer.
    #[default]
    Deny,
    /// The job is parked until a person answers.
    Park,
    /// As `park`, and `legwork run` on a terminal asks there too.
    Ask,
}

impl Approvals {
    /// Every setting.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Park, Self::Ask];

    /// The name on the command line, in policy files and in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Park => "park",
            Self::Ask => "ask",
        }
    }
}

impl FromStr for Approvals {
    type Err = UnknownValue;

    fn from_str(value: &str) -> Result<Self, UnknownValue> {
        Self::ALL
            .into_iter()
            .find(|setting| setting.as_str() == value)
            .ok_or_else(|| UnknownValue { setting: "setting (deny, park, ask)", value: value.to_owned() })
    }
}

/// What a job asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Question {
    /// Whether a tool call may be made.
    Approval {
        /// The tool.
        tool: String,
        /// Its arguments as JSON, without secrets; where it is stored, cut after [`MAX_ARGUMENT_BYTES`].
        arguments: String,
        /// Why the call needs an approval.
        why: String,
    },
    /// A question of the agent, with docker-agent's `user_prompt`.
    Prompt {
        /// The question.
        message: String,
        /// A title above it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// The JSON schema of the answer; `None` for any text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Value>,
    },
}

/// What a person decided, or the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Answer {
    /// The call is made.
    Approved,
    /// The call is not made, or the question is not answered.
    Denied {
        /// The person's reason, which the model is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The answer to a question of the agent.
    Answered {
        /// Its content, in the form of the question's schema.
        content: Value,
    },
    /// No one answered in time.
    Expired,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approved => f.write_str("approved"),
            Self::Denied { why: None } => f.write_str("denied"),
            Self::Denied { why: Some(why) } => write!(f, "denied: {why}"),
            Self::Answered { content } => write!(f, "answered: {content}"),
            Self::Expired => f.write_str("expired unanswered"),
        }
    }
}

/// A question of a job as it is stored, with its answer once there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedQuestion {
    /// Its number in the job, from 1.
    pub number: u32,
    /// What is asked.
    #[serde(flatten)]
    pub question: Question,
    /// When it was asked first.
    #[serde(serialize_with = "rfc3339")]
    pub asked_at: Timestamp,
    /// When it is answered without a person; `None` for never.
    #[serde(serialize_with = "optional_rfc3339")]
    pub expires_at: Option<Timestamp>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

impl AskedQuestion {
    /// The question with its number and its times, on one line.
    pub fn line(&self) -> String {
        let expires = self.expires_at.map(|at| format!(", expires {at:.0}")).unwrap_or_default();
        let text = self.question.text();
        let what = match &self.question {
            Question::Approval { .. } => format!("a person to approve {text}"),
            Question::Prompt { .. } => format!("a person to answer: {text}"),
        };
        format!("{what} (call {}, since {:.0}{expires})", self.number, self.asked_at)
    }
}

impl Question {
    /// The question about a call, with all of its arguments.
    pub fn approval(tool: &str, arguments: &str, why: &str) -> Self {
        Self::Approval { tool: tool.to_owned(), arguments: arguments.to_owned(), why: why.to_owned() }
    }

    /// The question as it is stored and listed: with the first [`MAX_ARGUMENT_BYTES`] of its arguments.
    #[must_use]
    pub fn bounded(&self) -> Self {
        match self {
            Self::Approval { tool, arguments, why } => {
                Self::Approval { tool: tool.clone(), arguments: cut(arguments), why: why.clone() }
            }
            Self::Prompt { .. } => self.clone(),
        }
    }

    /// The question in a few words, for a line of a list.
    pub fn phrase(&self) -> String {
        match self {
            Self::Approval { tool, .. } => format!("a person to approve {tool}"),
            Self::Prompt { .. } => "a person's answer".to_owned(),
        }
    }

    /// The whole question, on one line or several.
    pub fn text(&self) -> String {
        match self {
            Self::Approval { tool, arguments, .. } => format!("{tool} {arguments}"),
            Self::Prompt { message, title, .. } => {
                let title = title.as_ref().map(|title| format!("{title}: ")).unwrap_or_default();
                let choices = self.choices();
                let choices =
                    if choices.is_empty() { String::new() } else { format!(" ({})", choices.join(", ")) };
                format!("{title}{message}{choices}")
            }
        }
    }

    /// The answers that a question with a closed list accepts; empty for any other.
    pub fn choices(&self) -> Vec<String> {
        let Self::Prompt { schema: Some(schema), .. } = self else { return Vec::new() };
        let listed = match properties(schema) {
            Some(properties) if properties.len() == 1 => {
                properties.values().next().and_then(|only| only.get("enum"))
            }
            Some(_) => None,
            None => schema.get("enum"),
        };
        listed.and_then(Value::as_array).into_iter().flatten().map(plain).collect()
    }

    /// How a person answers it on the command line.
    pub fn command(&self, id: &str) -> String {
        match self {
            Self::Approval { .. } => format!("legwork approve {id}` or `legwork deny {id} WHY"),
            Self::Prompt { .. } => format!("legwork approve {id} --answer TEXT` or `legwork deny {id} WHY"),
        }
    }

    /// The answer that `text` gives, or plain approval without one.
    ///
    /// A JSON object answers a schema with properties; any text one with a single property, or no schema.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer, as a fragment.
    pub fn approved_with(&self, text: Option<&str>) -> Result<Answer, String> {
        match (self, text) {
            (_, Some(text)) if text.len() > MAX_ANSWER_BYTES => {
                Err(format!("an answer has at most {MAX_ANSWER_BYTES} bytes; this one has {}", text.len()))
            }
            (Self::Approval { .. }, None) => Ok(Answer::Approved),
            (Self::Approval { tool, .. }, Some(_)) => {
                Err(format!("the job waits for an approval of {tool}, which takes no answer"))
            }
            (Self::Prompt { .. }, None) => Err("the agent asks a question, which needs an answer".to_owned()),
            (Self::Prompt { schema, .. }, Some(text)) => {
                content(schema.as_ref(), text).map(|content| Answer::Answered { content })
            }
        }
    }
}

/// The content of an answer in the form that docker-agent gives it: an object with the properties of the schema, with
/// `value` for the schema of a single value, or with `response` without a schema.
fn content(schema: Option<&Value>, text: &str) -> Result<Value, String> {
    let Some(schema) = schema else { return Ok(object("response", Value::from(text))) };
    let Some(properties) = properties(schema) else {
        return Ok(object("value", value_of("the answer", schema, &typed(schema, text))?));
    };
    let given = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => fields,
        _ => match properties.iter().next() {
            Some((name, only)) if properties.len() == 1 => {
                Map::from_iter([(name.clone(), typed(only, text))])
            }
            _ => {
                let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                return Err(format!("the answer is a JSON object with {}", names.join(", ")));
            }
        },
    };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if let Some(missing) = required.filter_map(Value::as_str).find(|name| !given.contains_key(*name)) {
        return Err(format!("the answer lacks `{missing}`"));
    }
    let mut fields = Map::new();
    for (name, value) in given {
        let Some(property) = properties.get(&name) else {
            return Err(format!("the question has no `{name}`"));
        };
        // A form gives all its values as texts.
        let value = value.as_str().map_or_else(|| value.clone(), |text| typed(property, text));
        let value = value_of(&format!("`{name}`"), property, &value)?;
        fields.insert(name, value);
    }
    Ok(Value::Object(fields))
}

/// The properties of the schema of an object; `None` for the schema of a single value.
fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty())
}

fn object(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

/// A text as the type that the schema wants, where it can be read as one.
fn typed(schema: &Value, text: &str) -> Value {
    let text = text.trim();
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => match text.to_lowercase().as_str() {
            "y" | "yes" | "true" => Value::Bool(true),
            "n" | "no" | "false" => Value::Bool(false),
            _ => Value::from(text),
        },
        Some("number" | "integer" | "array" | "object") => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
        }
        _ => Value::from(text),
    }
}

/// Checks a value against its schema: its type, and the closed list where there is one.
fn value_of(what: &str, schema: &Value, value: &Value) -> Result<Value, String> {
    let fits = match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    if !fits {
        return Err(format!("{what} is a {}", schema["type"].as_str().unwrap_or("value")));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        let choices: Vec<String> = choices.iter().map(plain).collect();
        return Err(format!("{what} is one of: {}", choices.join(", ")));
    }
    Ok(value.clone())
}

/// A string without its quotes, any other value as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The first [`MAX_ARGUMENT_BYTES`], and how many there are in all.
fn cut(text: &str) -> String {
    if text.len() <= MAX_ARGUMENT_BYTES {
        return text.to_owned();
    }
    let end = (0..=MAX_ARGUMENT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}… [{} bytes in all; `legwork view ID --transcript` shows them]", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prompt(schema: Option<Value>) -> Question {
        Question::Prompt { message: "Which?".to_owned(), title: None, schema }
    }

    #[test]
    fn answers_take_the_form_of_their_schema() {
        let color = json!({"type": "object", "required": ["color"],
            "properties": {"color": {"type": "string", "enum": ["red", "blue"]}}});
        let two = json!({"type": "object", "required": ["a"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}});
        let table = [
            (None, "any text", Ok(json!({"response": "any text"}))),
            (Some(color.clone()), "red", Ok(json!({"color": "red"}))),
            (Some(color.clone()), r#"{"color": "blue"}"#, Ok(json!({"color": "blue"}))),
            (Some(color.clone()), "green", Err("`color` is one of: red, blue")),
            (Some(color), r#"{"size": 1}"#, Err("the answer lacks `color`")),
            (Some(two.clone()), r#"{"a": 3, "b": true}"#, Ok(json!({"a": 3, "b": true}))),
            (Some(two.clone()), r#"{"a": "3"}"#, Ok(json!({"a": 3}))),
            (Some(two.clone()), r#"{"a": "x"}"#, Err("`a` is a integer")),
            (Some(two.clone()), r#"{"a": 1, "c": 2}"#, Err("the question has no `c`")),
            (Some(two), "3", Err("the answer is a JSON object with a, b")),
            (Some(json!({"type": "boolean"})), "yes", Ok(json!({"value": true}))),
            (Some(json!({"type": "boolean"})), "perhaps", Err("the answer is a boolean")),
            (Some(json!({"type": "integer"})), "42", Ok(json!({"value": 42}))),
            (Some(json!({"enum": ["a", "b"]})), "b", Ok(json!({"value": "b"}))),
        ];
        for (schema, text, expected) in table {
            let got = prompt(schema.clone()).approved_with(Some(text));
            let expected =
                expected.map(|content| Answer::Answered { content }).map_err(|error: &str| error.to_owned());
            assert_eq!(got, expected, "{schema:?} {text}");
        }
    }

    #[test]
    fn a_call_takes_no_answer_and_a_question_needs_one() {
        let call = Question::approval("shell", r#"{"cmd":"ls"}"#, "");
        assert_eq!(call.approved_with(None), Ok(Answer::Approved));
        assert!(call.approved_with(Some("yes")).is_err());
        assert!(prompt(None).approved_with(None).is_err());
        assert!(prompt(None).approved_with(Some(&"x".repeat(MAX_ANSWER_BYTES + 1))).is_err());
    }

    #[test]
    fn a_question_is_bounded_and_shows_its_choices() {
        let long = Question::approval("shell", &"ö".repeat(MAX_ARGUMENT_BYTES), "").bounded();
        let Question::Approval { arguments, .. } = &long else { panic!("{long:?}") };
        assert!(arguments.len() < MAX_ARGUMENT_BYTES + 100, "{}", arguments.len());
        assert!(arguments.ends_with("[8192 bytes in all; `legwork view ID --transcript` shows them]"));
        let choices = prompt(Some(json!({"enum": ["a", 2]})));
        assert_eq!(
            (choices.choices(), choices.text().as_str()),
            (vec!["a".into(), "2".into()], "Which? (a, 2)")
        );
    }

    #[test]
    fn stored_forms_come_back() {
        for answer in [
            Answer::Approved,
            Answer::Denied { why: None },
            Answer::Denied { why: Some("no".into()) },
            Answer::Answered { content: json!({"response": "x"}) },
            Answer::Expired,
        ] {
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
        }
        for name in Approvals::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
        }
    }
}
