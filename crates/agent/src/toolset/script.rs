//! `script`: shell commands of the agent file, each of them a tool. Arguments are passed as environment variables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
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
    Ok(Kit::new(tools).with_instruction(instruction(scripts)))
}

/// The system message of the toolset: each tool with its description and its arguments.
fn instruction(scripts: &BTreeMap<String, Script>) -> String {
    let mut text = "## Commands of this project\n".to_owned();
    for (name, script) in scripts {
        let Script { cmd, description, args, required, .. } = script;
        let _ = match description.is_empty() {
            true => writeln!(text, "\n### {name}\nRuns `{cmd}`"),
            false => writeln!(text, "\n### {name}\n{description}"),
        };
        for (argument, declared) in args {
            let what = declared["description"].as_str().filter(|text| !text.is_empty());
            let what = what.map(|text| format!(": {text}")).unwrap_or_default();
            let is_required = required.iter().flatten().any(|name| name == argument);
            let required = if is_required { " (required)" } else { "" };
            let _ = writeln!(text, "- `{argument}`{what}{required}");
        }
    }
    text.trim_end().to_owned()
}

fn spec(name: &str, script: &Script) -> ToolSpec {
    let required = script.required.as_deref().unwrap_or_default();
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
                let output = process.text();
                if end.status.is_some_and(|status| status.success()) {
                    return Ok(ToolOutcome::ok(limited(or_no_output(&output))));
                }
                Err(failed(&describe_exit(end.status), &output))
            }
            CommandEnd::TimedOut => {
                let reason = format!("it timed out after {}", duration::setting(TIMEOUT));
                Err(failed(&reason, &process.text()))
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
        let without = testing::call(fail, json!({})).await;
        let expected = "Error executing command 'echo $how; exit 3': exit status 3\nOutput: \n";
        assert_eq!(
            without,
            ToolOutcome::error(expected),
            "arguments are required only where the file states it"
        );
        let missing = testing::call(greet, json!({"name": "Ada"})).await;
        assert_eq!(missing, ToolOutcome::error("invalid arguments for greet: missing field `count`"));
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
    fn the_system_message_lists_the_commands_with_their_arguments() {
        let scripts = json!({
            "greet": script("echo $name", json!({"name": {"description": "Who"}, "count": null}), json!(["name"])),
            "quiet": {"cmd": "true", "description": "Does nothing", "args": {}, "required": null, "env": {}},
        });
        let scripts: BTreeMap<String, Script> = serde_json::from_value(scripts).unwrap();
        let expected = "## Commands of this project\n\n### greet\nRuns `echo $name`\n- `count`\n- `name`: Who (required)\n\n\
                        ### quiet\nDoes nothing";
        assert_eq!(instruction(&scripts), expected);
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
