//! `commands`: prompts of an agent that the user calls by `/name arguments`.
//!
//! Such a prompt is a [`Template`]: `${…}` is an expression over the arguments (`args`), the environment (`env`) and the
//! agent's tools, and `!tool(key=value)` calls a tool. The output of a tool takes the place of its call, and what the
//! user or a tool wrote is never read as a template. Arguments are appended to a prompt that reads none.

mod value;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::CallIndex;
use legwork_common::session_state::SessionState;
use legwork_common::team::Agent;
use legwork_common::team::BangArgument;
use legwork_common::team::BangCall;
use legwork_common::team::BinaryOperator;
use legwork_common::team::Expression;
use legwork_common::team::Team;
use legwork_common::team::Template;
use legwork_common::team::TemplatePart;
use legwork_common::team::split_arguments;
use serde_json::Map;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::value::is_truthy;
use self::value::to_text;
use crate::environment::Environment;
use crate::permission;
use crate::permission::Verdict;
use crate::tool::ToolContext;
use crate::toolset::Toolbox;
use crate::toolset::limited;

/// How long a `!tool(…)` may take: docker-agent's limit.
const BANG_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a `${tool(…)}` may take, which docker-agent does not limit. It collects text for the prompt, and the user
/// waits for it; five minutes leave room for a build.
const CALL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What the prompts of an agent work with.
#[derive(Debug, Clone, Copy)]
pub struct CommandContext<'a> {
    /// The team of the agent.
    pub team: &'a Team,
    /// The agent whose commands are called.
    pub agent: &'a Agent,
    /// Variables, working directory and process guard.
    pub environment: &'a Arc<Environment>,
    /// Dispatches jobs where a prompt calls such a tool.
    pub background: &'a Arc<dyn BackgroundAgents>,
    /// The todo list of the session.
    pub session_state: &'a Arc<dyn SessionState>,
}

/// The prompt that a user's text stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The prompt for the agent.
    pub prompt: String,
    /// What could not be run, each a sentence for the user.
    pub warnings: Vec<String>,
}

/// The prompt that the agent is given for the user's `text`: an expanded command where it calls one, else the text
/// itself.
///
/// The toolsets of the agent are opened only for a prompt that calls a tool, and are closed again. Cancelling ends the
/// calls; so does dropping the future.
pub async fn expand(context: CommandContext<'_>, text: &str, cancel: &CancellationToken) -> Expanded {
    let Some((instruction, rest)) = called(context.agent, text) else {
        return Expanded { prompt: text.to_owned(), warnings: Vec::new() };
    };
    let template = Template::parse(instruction);
    let mut warnings = template.problems.clone();
    let mut toolbox = Toolbox::new(context.environment);
    if !template.tools().is_empty() {
        let CommandContext { team, agent, environment, background, session_state } = context;
        let opening = toolbox.open(team, agent, environment, background, session_state);
        cancel.run_until_cancelled(opening).await;
        warnings.extend(toolbox.warnings().iter().cloned());
    }
    let arguments = split_arguments(rest);
    let mut expansion = Expansion { context, toolbox: &toolbox, arguments, cancel, warnings };
    let mut prompt = String::new();
    for part in &template.parts {
        prompt.push_str(&expansion.part(part).await);
    }
    if !rest.is_empty() && !template.reads_arguments() {
        prompt.push(' ');
        prompt.push_str(rest);
    }
    let warnings = expansion.warnings;
    toolbox.close().await;
    Expanded { prompt, warnings }
}

/// The prompt that the text calls, and the text after the name; `None` where it calls none.
fn called<'a>(agent: &'a Agent, text: &'a str) -> Option<(&'a str, &'a str)> {
    let text = text.trim().strip_prefix('/')?;
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let command = agent.commands.get(name)?;
    Some((&command.instruction, rest.trim()))
}

/// The expansion of one prompt.
struct Expansion<'a> {
    context: CommandContext<'a>,
    toolbox: &'a Toolbox,
    arguments: Vec<String>,
    cancel: &'a CancellationToken,
    warnings: Vec<String>,
}

impl Expansion<'_> {
    async fn part<'t>(&mut self, part: &'t TemplatePart) -> Cow<'t, str> {
        match part {
            TemplatePart::Text(text) => Cow::Borrowed(text),
            TemplatePart::Value(expression) => Cow::Owned(to_text(&self.value(expression).await)),
            TemplatePart::Call(call) => Cow::Owned(self.bang_call(call).await),
        }
    }

    async fn bang_call(&mut self, call: &BangCall) -> String {
        let mut arguments = Map::new();
        for BangArgument { name, value, is_quoted } in &call.arguments {
            let mut text = String::new();
            for part in value {
                text.push_str(&Box::pin(self.part(part)).await);
            }
            let parameters = self.toolbox.get(&call.tool).map(|tool| &tool.spec().parameters);
            let schema = parameters.map_or(&Value::Null, |parameters| &parameters["properties"][name]);
            arguments.insert(name.clone(), value::typed(text, *is_quoted, schema));
        }
        self.call(&call.tool, arguments, BANG_CALL_TIMEOUT).await.trim().to_owned()
    }

    /// Calls a tool; returns its output, or a line about the failure. Calls that the team denies are not made. The user
    /// has asked for the others, so no approval is needed.
    async fn call(&mut self, name: &str, arguments: Map<String, Value>, limit: Duration) -> String {
        let Some(tool) = self.toolbox.get(name).cloned() else {
            self.warnings.push(format!("the tool `{name}` of the prompt was not found"));
            return format!("Error: tool '{name}' not found");
        };
        let permissions = self.context.team.permissions();
        if permission::verdict(permissions, name, &arguments) == Verdict::Denied {
            self.warnings.push(format!("the tool `{name}` of the prompt is denied by the permissions"));
            return permission::denied(name);
        }
        // No model made this call. Its place in the run is its own, so that no other call is taken for a repetition.
        let call = CallIndex { turn: 0, index: rand::random() };
        let context = ToolContext { safety: None, call, person: None, cancel: self.cancel.clone() };
        match tokio::time::timeout(limit, tool.call(Value::Object(arguments), &context)).await {
            Ok(outcome) => {
                if outcome.is_error {
                    self.warnings.push(format!("the tool `{name}` of the prompt failed"));
                }
                limited(outcome.text)
            }
            Err(_) => {
                let seconds = limit.as_secs();
                self.warnings.push(format!("the tool `{name}` of the prompt took longer than {seconds} s"));
                format!("Error executing '{name}': it took longer than {seconds} s")
            }
        }
    }

    /// The value of an expression. Its depth is bounded by the size that a template may have.
    fn value<'s>(&'s mut self, expression: &'s Expression) -> BoxFuture<'s, Value> {
        Box::pin(async move {
            match expression {
                Expression::Literal(value) => value.clone(),
                Expression::Arguments => self.arguments.clone().into(),
                Expression::Environment(name) => {
                    self.context.environment.variables.get(name).cloned().unwrap_or_default().into()
                }
                Expression::List(items) => self.values(items).await.into(),
                Expression::Joined(parts) => {
                    let texts: String = self.values(parts).await.iter().map(to_text).collect();
                    texts.into()
                }
                Expression::Object(entries) => Value::Object(self.object(entries).await),
                Expression::Call { tool, arguments } => {
                    let arguments = match arguments {
                        None => Map::new(),
                        Some(arguments) => match self.value(arguments).await {
                            Value::Object(arguments) => without_nulls(arguments),
                            other => {
                                let text = to_text(&other);
                                return format!("Error executing '{tool}': {text:?} is not an object").into();
                            }
                        },
                    };
                    self.call(tool, arguments, CALL_TIMEOUT).await.into()
                }
                Expression::Index(of, index) => {
                    let of = self.value(of).await;
                    value::element(&of, &self.value(index).await)
                }
                Expression::Method(of, method, arguments) => {
                    let of = self.value(of).await;
                    value::method(&of, *method, &self.values(arguments).await)
                }
                Expression::Not(value) => (!is_truthy(&self.value(value).await)).into(),
                Expression::Negative(value) => value::negative(&self.value(value).await),
                Expression::Binary(operator, left, right) => self.binary(*operator, left, right).await,
                Expression::Conditional(three) => {
                    let [condition, first, second] = &**three;
                    let chosen = if is_truthy(&self.value(condition).await) { first } else { second };
                    self.value(chosen).await
                }
            }
        })
    }

    async fn values(&mut self, expressions: &[Expression]) -> Vec<Value> {
        let mut values = Vec::with_capacity(expressions.len());
        for expression in expressions {
            values.push(self.value(expression).await);
        }
        values
    }

    async fn object(&mut self, entries: &[(String, Expression)]) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in entries {
            object.insert(key.clone(), self.value(value).await);
        }
        object
    }

    /// The second value is not evaluated where the first decides: it may call a tool.
    async fn binary(&mut self, operator: BinaryOperator, left: &Expression, right: &Expression) -> Value {
        let left = self.value(left).await;
        let is_decided = match operator {
            BinaryOperator::Or => is_truthy(&left),
            BinaryOperator::And => !is_truthy(&left),
            BinaryOperator::OrIfNull => !left.is_null(),
            _ => false,
        };
        if is_decided {
            return left;
        }
        let right = self.value(right).await;
        match operator {
            BinaryOperator::Or | BinaryOperator::And | BinaryOperator::OrIfNull => right,
            other => value::binary(other, &left, &right),
        }
    }
}

fn without_nulls(mut arguments: Map<String, Value>) -> Map<String, Value> {
    arguments.retain(|_, value| !value.is_null());
    arguments
}

#[cfg(test)]
mod tests;
