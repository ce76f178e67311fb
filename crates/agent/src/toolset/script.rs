//! `script`: shell commands of the agent file, each of them a tool. Arguments are passed as environment variables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::duration;
use legwork_common::team::MissingVariable;
use legwork_common::team::Script;
use serde_json::Value;

use super::Kit;
use super::foreground;
use super::foreground::CommandEnd;
use super::limited;
use super::schema;
use super::schema::Schema;
use super::shell::or_no_output;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::describe_exit;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;
use crate::tool::text_of;

/// The timeout of one call. The agent file sets none, and a script may be a long build; a day is also how long ended jobs
/// are kept by default.
const TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// One tool for each script. A script's variables override the environment's, and arguments override both.
///
/// # Errors
///
/// [`MissingVariable`] where a value refers to a variable that is not set.
pub(crate) fn open(
    environment: &Environment,
    scripts: &BTreeMap<String, Script>,
    nursery: &Nursery,
) -> Result<Kit, MissingVariable> {
    let mut tools = Vec::new();
    for (name, script) in scripts {
        tools.push(ScriptTool {
            spec: spec(name, script),
            command: script.cmd.clone(),
            variables: environment.variables_with(&script.env)?,
            working_dir: environment.resolve(script.working_dir.as_deref().unwrap_or(".")),
            nursery: nursery.clone(),
        });
    }
    Ok(Kit::new(tools))
}

fn spec(name: &str, script: &Script) -> ToolSpec {
    // Without a list of required arguments, all are required.
    let all: Vec<String> = script.args.keys().cloned().collect();
    let required = script.required.as_ref().unwrap_or(&all);
    let description = if script.description.is_empty() { &script.cmd } else { &script.description };
    schema::writing(name, description, Schema::declared(&script.args, required))
}

#[derive(Debug)]
struct ScriptTool {
    spec: ToolSpec,
    command: String,
    variables: BTreeMap<String, String>,
    working_dir: PathBuf,
    nursery: Nursery,
}

impl ScriptTool {
    async fn run(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutcome, ToolOutcome> {
        let checked = schema::checked(&self.spec, arguments)?;
        let mut variables = self.variables.clone();
        variables.extend(checked.into_iter().map(|(name, value)| (name.to_owned(), text_of(value))));
        let command = foreground::command(&self.nursery, &self.command, &self.working_dir, &variables);
        let failed = |reason: &str, output: &str| {
            let text = format!("Error executing command '{}': {reason}\nOutput: {output}", self.command);
            ToolOutcome::error(limited(text))
        };
        let mut process =
            Process::start(command, &self.nursery).map_err(|error| failed(&error.to_string(), ""))?;
        match foreground::finish(&mut process, TIMEOUT, &context.cancel).await {
            CommandEnd::Ended(end) => {
                let output = process.capture().text();
                if end.status.is_some_and(|status| status.success()) {
                    return Ok(ToolOutcome::ok(limited(or_no_output(&output))));
                }
                Err(failed(&describe_exit(end.status), &output))
            }
            CommandEnd::TimedOut => {
                let reason = format!("it timed out after {}", duration::short(TIMEOUT));
                Err(failed(&reason, &process.capture().text()))
            }
            CommandEnd::Cancelled => Err(ToolOutcome::error("Command cancelled")),
        }
    }
}

#[async_trait]
impl Tool for ScriptTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        self.run(&arguments, context).await.unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::environment::NoGuard;
    use crate::testing;

    fn tools(scripts: Value) -> Result<Vec<Arc<dyn Tool>>, MissingVariable> {
        let scripts: BTreeMap<String, Script> = serde_json::from_value(scripts).unwrap();
        let environment = testing::environment("/");
        Ok(open(&environment, &scripts, &Nursery::new(Arc::new(NoGuard)))?.tools)
    }

    fn script(cmd: &str, args: Value, required: Value) -> Value {
        json!({"cmd": cmd, "description": "", "args": args, "required": required,
            "env": {"GREETING": "hi ${PATH}", "name": "world"}, "working_dir": "usr"})
    }

    #[tokio::test]
    async fn arguments_are_environment_variables_of_the_command() {
        let tools = tools(json!({
            "fail": script("echo $how; exit 3", json!({"how": null}), json!(null)),
            "greet": script("echo $GREETING, $name, $count; pwd",
                json!({"name": {}, "count": {"type": "integer", "description": "How often"}}), json!(["count"])),
            "quiet": script("true", json!({}), json!(null)),
        }))
        .unwrap();
        let [fail, greet, quiet] = &tools[..] else { panic!("{tools:?}") };
        assert_eq!(
            testing::call(greet, json!({"name": "Ada; $(ls)", "count": 2})).await,
            ToolOutcome::ok("hi /usr/bin:/bin, Ada; $(ls), 2\n/usr\n")
        );
        assert_eq!(
            testing::call(greet, json!({"count": 1})).await.text,
            "hi /usr/bin:/bin, world, 1\n/usr\n"
        );
        assert_eq!(
            testing::call(fail, json!({"how": "badly"})).await,
            ToolOutcome::error("Error executing command 'echo $how; exit 3': exit status 3\nOutput: badly\n")
        );
        assert_eq!(testing::call(quiet, json!({})).await.text, "<no output>");
        let missing = testing::call(fail, json!({})).await;
        assert_eq!(missing, ToolOutcome::error("invalid arguments for fail: missing field `how`"));
        let unknown = testing::call(greet, json!({"count": 1, "PATH": "/tmp"})).await;
        assert_eq!(unknown, ToolOutcome::error("invalid arguments for greet: unknown field `PATH`"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_ended() {
        let tools = tools(json!({"hang": script("exec sleep 600.32", json!({}), json!(null))})).unwrap();
        let hung = testing::call(&tools[0], json!({})).await;
        assert!(hung.is_error && hung.text.contains("it timed out after"), "{hung:?}");
    }

    #[test]
    fn schemas_follow_the_declared_arguments() {
        let tools = tools(json!({"greet": script("echo",
            json!({"name": {"description": "Who"}, "count": {"type": "integer"}}), json!(["name"]))}))
        .unwrap();
        let spec = tools[0].spec();
        assert_eq!((spec.description.as_str(), spec.read_only), ("echo", false));
        assert_eq!(
            spec.parameters,
            json!({
                "type": "object",
                "properties": {
                    "count": {"type": ["integer", "null"], "description": "The argument count"},
                    "name": {"description": "Who", "type": "string"},
                },
                "required": ["name"],
                "additionalProperties": false,
            })
        );
        let missing = json!({"a": {"cmd": "x", "description": "", "args": {}, "required": null,
            "env": {"A": "$NOWHERE"}, "working_dir": null}});
        assert!(self::tools(missing).is_err());
    }
}
