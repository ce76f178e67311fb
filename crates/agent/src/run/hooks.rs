//! Runs the hooks of an agent.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::duration;
use legwork_common::job::Cause;
use legwork_common::team::Agent;
use legwork_common::team::Hook;
use legwork_common::team::HookKind;
use legwork_common::team::ModelSettings;
use legwork_common::team::hook_prompt;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use super::state::RunState;
use crate::environment::Environment;
use crate::hooks;
use crate::hooks::Answer;
use crate::hooks::Decision;
use crate::hooks::builtin::Builtin;
use crate::hooks::builtin::builtin;
use crate::message::Message;
use crate::model::Deltas;
use crate::model::ModelCall;
use crate::model::ModelPort;
use crate::model::ModelRequest;
use crate::model::Purpose;
use crate::process::Nursery;
use crate::process::Process;
use crate::process::TRAILING_OUTPUT_TIMEOUT;
use crate::redaction;
use crate::toolset::foreground;
use crate::toolset::foreground::CommandEnd;
use crate::toolset::post_json;
use crate::turn::Step;

/// How long a hook may take where the file does not say. docker-agent's.
const DEFAULT_TIMEOUT_SECONDS: u32 = 60;
/// The most bytes of a hook's output that are read. A hook that writes more blocks until its timeout.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;

/// What the hooks of one agent run with.
pub(super) struct HookRunner<'a> {
    pub(super) agent: &'a Agent,
    pub(super) environment: &'a Environment,
    pub(super) nursery: &'a Nursery,
    pub(super) models: &'a dyn ModelPort,
    pub(super) cancel: &'a CancellationToken,
}

impl HookRunner<'_> {
    /// Runs the hooks of an event one after the other, and returns what they decided. The first that refuses is the last
    /// that runs. `details` are keys of the JSON on their standard input.
    ///
    /// # Errors
    ///
    /// [`Halt::Stopped`] where the run is cancelled during that; the hook's processes have ended by then.
    pub(super) async fn fire(
        &self,
        event: &str,
        tool: Option<&str>,
        details: Value,
    ) -> Result<Decision, Halt> {
        let matching = hooks::matching(&self.agent.hooks, event, tool);
        if matching.is_empty() {
            return Ok(Decision::default());
        }
        // Boxed: most agents have no hooks, and every step of a run has this call.
        Box::pin(self.run_all(event, matching, details)).await
    }

    async fn run_all(&self, event: &str, matching: Vec<&Hook>, details: Value) -> Result<Decision, Halt> {
        let mut decision = Decision::default();
        let mut input = Map::from_iter([
            ("hook_event_name".to_owned(), json!(event)),
            ("agent_name".to_owned(), json!(self.agent.name)),
            ("cwd".to_owned(), json!(self.environment.working_dir)),
        ]);
        if let Value::Object(details) = details {
            input.extend(details);
        }
        let input = Value::Object(input).to_string();
        for hook in matching {
            let one = self.run(event, hook, &input).await;
            // What a hook decided while it was being killed counts for nothing.
            if self.cancel.is_cancelled() {
                return Err(Halt::Stopped);
            }
            decision.add(one);
            if decision.denied.is_some() {
                break;
            }
        }
        Ok(decision)
    }

    async fn run(&self, event: &str, hook: &Hook, input: &str) -> Decision {
        let ended = match &hook.kind {
            HookKind::Model { models, prompt, schema } => {
                let asked = self.answer_of(models, prompt, schema.as_deref(), input);
                let limit = timeout_of(hook);
                match self.cancel.run_until_cancelled(timeout(limit, asked)).await {
                    Some(Ok(answer)) => answer.map(|output| (Some(0), output, String::new())),
                    Some(Err(_)) => Err(format!("it took longer than {}", duration::setting(limit))),
                    None => Err("it was cancelled".to_owned()),
                }
            }
            HookKind::Command(command) => {
                // The arguments follow a command as they do in a shell.
                let more = if hook.args.is_empty() { "" } else { " \"$@\"" };
                self.output_of(hook, &format!("{command}{more}"), input).await
            }
            HookKind::Builtin(name) => self.builtin(hook, name, input).await,
        };
        match ended {
            Ok((code, output, error)) => {
                hooks::decide(event, hook, Ok(Answer { code, output: &output, error: &error }))
            }
            Err(why) => hooks::decide(event, hook, Err(why)),
        }
    }

    /// Asks a model, and makes its answer the output of a hook. The error is why there is none.
    async fn answer_of(
        &self,
        models: &[ModelSettings],
        prompt: &str,
        schema: Option<&str>,
        input: &str,
    ) -> Result<String, String> {
        let event = serde_json::from_str(input).unwrap_or_default();
        let prompt = hook_prompt(prompt, &event)?;
        let settings = models.get(rand::random_range(0..models.len().max(1))).ok_or("it names no model")?;
        let settings = self.environment.model(settings);
        let messages = [Message::system(hooks::MODEL_INSTRUCTION), Message::user(prompt)].map(Arc::new);
        let redacts = self.agent.redact_secrets.unwrap_or(true);
        let redacted = |message| if redacts { redaction::redacted_message(message) } else { message };
        let request = ModelRequest {
            agent: self.agent.name.clone(),
            turn: event["turn"].as_u64().and_then(|turn| u32::try_from(turn).ok()).unwrap_or_default(),
            messages: messages.into_iter().map(redacted).collect(),
            tools: Vec::new(),
            form: hooks::answer_form(schema),
            purpose: Purpose::Hook,
            waits_for_pauses: true,
        };
        // The pieces of the answer are not used: it is taken whole.
        let deltas = Deltas::default();
        let call = ModelCall { settings: &settings, request: &request, deltas: &deltas };
        let reply = tokio::select! {
            reply = self.models.stream(call) => reply,
            never = deltas.discard() => match never {},
        };
        let reply = reply.map_err(|error| error.to_string())?;
        hooks::output_of_answer(schema, &reply.message.text)
    }

    /// Runs a built-in hook, with the result of a command. The error is why there is none.
    async fn builtin(
        &self,
        hook: &Hook,
        name: &str,
        input: &str,
    ) -> Result<(Option<i32>, String, String), String> {
        let event = serde_json::from_str(input).unwrap_or_default();
        match builtin(name, &hook.args, &event)? {
            // Built-in commands read the arguments as `$1` and so on.
            Builtin::Command(command) => self.output_of(hook, command, input).await,
            Builtin::Answer(output) => Ok((Some(0), output, String::new())),
            Builtin::Post { url, body } => {
                let limit = timeout_of(hook);
                let posting = post_json(self.environment, &url, body, limit);
                let posted = self.cancel.run_until_cancelled(posting).await;
                posted.unwrap_or_else(|| Err("it was cancelled".to_owned()))?;
                Ok((Some(0), String::new(), String::new()))
            }
        }
    }

    /// Runs a command line to its end: its exit status, its output and its standard error. The error is why there is none.
    async fn output_of(
        &self,
        hook: &Hook,
        command_line: &str,
        input: &str,
    ) -> Result<(Option<i32>, String, String), String> {
        let variables = self.environment.variables_with(&hook.env).map_err(|missing| missing.to_string())?;
        let folder =
            self.environment.resolve(&self.environment.expanded(hook.working_dir.as_deref().unwrap_or(".")));
        let mut command = foreground::command(self.nursery, command_line, &folder, &variables);
        command.arg("hook").args(&hook.args);
        let (mut process, pipe) = Process::start_with(command, input.as_bytes().to_vec(), self.nursery)
            .map_err(|error| format!("it cannot be started: {error}"))?;
        let limit = timeout_of(hook);
        let mut output = Vec::new();
        let end = {
            let mut pipe = pipe.take(MAX_OUTPUT_BYTES);
            let reading = pipe.read_to_end(&mut output);
            tokio::pin!(reading);
            let finished = foreground::finish(&mut process, limit, self.cancel);
            tokio::pin!(finished);
            tokio::select! {
                // The end of the command counts: what it left in the background may hold its output open.
                end = &mut finished => {
                    timeout(TRAILING_OUTPUT_TIMEOUT, reading).await.ok();
                    end
                }
                _ = &mut reading => finished.await,
            }
        };
        let error = process.text();
        match end {
            CommandEnd::Ended(end) => {
                let code = end.status.and_then(|status| status.code());
                Ok((code, String::from_utf8_lossy(&output).into_owned(), error))
            }
            CommandEnd::TimedOut => Err(format!("it took longer than {}", duration::setting(limit))),
            CommandEnd::Cancelled => Err("it was cancelled".to_owned()),
        }
    }
}

/// How long a hook may take.
fn timeout_of(hook: &Hook) -> Duration {
    Duration::from_secs(u64::from(hook.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS)))
}

impl RunState<'_> {
    /// Runs the hooks of the active agent for an event. What they have to say to people is noted.
    pub(super) async fn fire(
        &self,
        event: &str,
        tool: Option<&str>,
        details: Value,
    ) -> Result<Decision, Halt> {
        let runner = HookRunner {
            agent: self.current.agent,
            environment: &self.ports.environment,
            nursery: self.current.toolbox.nursery(),
            models: self.ports.models.as_ref(),
            cancel: &self.cancel,
        };
        let decision = runner.fire(event, tool, details).await?;
        for warning in &decision.warnings {
            self.warn(warning.clone());
        }
        Ok(decision)
    }

    /// Runs the hooks of an event that no hook can end.
    pub(super) async fn observe(&self, event: &str, details: Value) -> Result<(), Halt> {
        self.fire(event, None, details).await.map(drop)
    }
}

impl RunState<'_> {
    /// Before the first model call after a user's prompt: what the hooks add to it holds for the whole run.
    pub(super) async fn submit_prompt(&mut self, is_prompted: bool) -> Result<(), Halt> {
        if !is_prompted || !matches!(self.transcript.next(None), Step::Ask { .. }) {
            return Ok(());
        }
        let details = json!({"prompt": self.transcript.latest_prompt()});
        let submitted = self.fire(hooks::USER_PROMPT_SUBMIT, None, details).await?;
        if let Some(reason) = submitted.denied {
            return Err(refused("the prompt", &reason));
        }
        self.context = submitted.context;
        self.lasting_context = self.context.len();
        Ok(())
    }

    /// Before each turn: what the hooks add to it holds for this turn.
    pub(super) async fn begin_turn(&mut self, turn: u32) -> Result<(), Halt> {
        self.context.truncate(self.lasting_context);
        let begun = self.fire(hooks::TURN_START, None, json!({"turn": turn})).await?;
        self.context.extend(begun.context);
        Ok(())
    }

    /// Before a model call.
    pub(super) async fn before_model_call(&mut self, turn: u32) -> Result<(), Halt> {
        let iteration = turn.saturating_sub(self.active_agent.uncounted_turns());
        let details = json!({"turn": turn, "iteration": iteration});
        let before = self.fire(hooks::BEFORE_LLM_CALL, None, details).await?;
        if let Some(reason) = before.denied {
            return Err(refused("the model call", &reason));
        }
        self.context.extend(before.context);
        Ok(())
    }

    /// After the reply of a turn was recorded.
    pub(super) async fn after_model_call(&self, turn: u32, text: &str) -> Result<(), Halt> {
        self.observe(hooks::AFTER_LLM_CALL, json!({"turn": turn, "response": text})).await?;
        self.observe(hooks::TURN_END, json!({"turn": turn})).await
    }

    /// Runs the hooks of an end that is not a good one, and those of all notifications.
    async fn notify(&self, event: &str, level: &str, message: &str) -> Result<(), Halt> {
        let details = json!({"error": message, "notification_level": level, "notification_message": message});
        self.observe(event, details.clone()).await?;
        self.observe(hooks::NOTIFICATION, details).await
    }

    /// After the last step of a run that was not cancelled. What goes wrong here changes nothing about its end.
    pub(super) async fn report_end(&self, end: &Result<String, Halt>) {
        let reported = match end {
            Err(Halt::Failed { cause: Cause::MaxIterations, message }) => {
                self.notify(hooks::ON_MAX_ITERATIONS, "warning", message).await
            }
            Err(Halt::Failed { message, .. }) => self.notify(hooks::ON_ERROR, "error", message).await,
            Err(Halt::Lost | Halt::Stopped) => return,
            Ok(_) => Ok(()),
        };
        if reported.is_ok() {
            self.observe(hooks::SESSION_END, json!({})).await.ok();
        }
    }
}

/// The end of a run that a hook does not let continue.
fn refused(what: &str, reason: &str) -> Halt {
    Halt::Failed { cause: Cause::AgentError, message: format!("a hook refused {what}: {reason}") }
}
