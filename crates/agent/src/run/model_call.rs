//! One model call: which models may answer it, how often each is tried, and how its text reaches the output.
//!
//! [`call_with_fallback`](RunState::call_with_fallback) tries the candidate models in order,
//! [`call_with_retries`](RunState::call_with_retries) one of them until it answers or is given up, and
//! [`call_once`](RunState::call_once) streams one try.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_common::duration;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;
use legwork_common::team::auto_model;
use tokio::time::sleep;
use tracing::Instrument as _;

use super::halt::Halt;
use super::spans;
use super::state::RunState;
use super::written::Written;
use crate::environment::CalledModel;
use crate::journal::JournalError;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::model::Delta;
use crate::model::Deltas;
use crate::model::ModelCall;
use crate::model::ModelError;
use crate::model::ModelReply;
use crate::model::ModelRequest;
use crate::model::Purpose;
use crate::model::ReplyEnd;
use crate::model::retry::Retries;
use crate::model::routing;
use crate::model::verdict;
use crate::toolset::answer;

/// How long the text that had arrived before a cancellation may take to be written. A quarter of the two seconds in
/// which a cancelled run ends: the processes of its tools need the rest.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the first model is skipped after another had to answer, where the agent file sets no `cooldown`. A
/// minute, the period over which most providers count their rate limits.
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(60);
/// Written between the texts of two turns.
const TURN_SEPARATOR: &str = "\n\n";

/// How often a reply that the provider paused is continued in one turn. Each pause is some minutes of work at the
/// provider; more of them are a model that does not end.
const MAX_PAUSES: u32 = 16;

/// No candidate model gave a usable reply.
#[derive(Debug)]
pub(super) struct NoReply {
    /// Why not, of each model.
    pub(super) message: String,
    /// Whether the conversation is too long for one of them: a shorter one may succeed.
    pub(super) is_window_full: bool,
}

impl NoReply {
    /// The same failure of a conversation that could not be shortened either.
    pub(super) fn without_summary(self, why: &str) -> Self {
        Self { message: format!("{}; it was not summarized: {why}", self.message), ..self }
    }
}

impl From<NoReply> for Halt {
    fn from(NoReply { message, .. }: NoReply) -> Self {
        Self::Failed { cause: Cause::ProviderError, message }
    }
}

impl<'team> RunState<'team> {
    /// Makes the model call of a turn and records the reply.
    pub(super) async fn call_model(&mut self, turn: u32) -> Result<Result<(), NoReply>, Halt> {
        self.before_model_call(turn).await?;
        let agent = self.current.agent;
        let request = ModelRequest {
            agent: agent.name.clone(),
            turn,
            messages: self.request_messages(),
            tools: self.current.offered_tools(),
            form: answer::native_form(agent),
            purpose: Purpose::Turn,
            waits_for_pauses: true,
        };
        let separator = if self.transcript.has_output() { TURN_SEPARATOR } else { "" };
        let models = self.candidate_models();
        match self.call_with_fallback(&models, &request, separator).await? {
            // Boxed, as all is that follows the call: see `run`.
            Ok(answer) => Box::pin(self.take_answer(request, answer)).await,
            Err(no_reply) => Ok(Err(no_reply)),
        }
    }

    /// Records the answer to a turn's request, and how it was come by.
    async fn take_answer(
        &mut self,
        request: ModelRequest,
        (first, used_fallback): (ModelReply, bool),
    ) -> Result<Result<(), NoReply>, Halt> {
        let turn = request.turn;
        if used_fallback {
            self.first_model_cooldown_until = Instant::now().checked_add(self.cooldown());
        }
        let message = if first.end == ReplyEnd::Paused {
            match Box::pin(self.continued(request, first)).await? {
                Ok(message) => message,
                Err(no_reply) => return Ok(Err(no_reply)),
            }
        } else {
            first.message
        };
        self.record_reply(turn, message).await.map(Ok)
    }

    /// The whole of a reply that the provider paused, perhaps several times.
    async fn continued(
        &mut self,
        mut request: ModelRequest,
        paused: ModelReply,
    ) -> Result<Result<AssistantMessage, NoReply>, Halt> {
        let ModelReply { mut message, mut end } = paused;
        let mut pauses = 0;
        while end == ReplyEnd::Paused {
            pauses += 1;
            if pauses > MAX_PAUSES {
                let message = format!("the provider paused the reply more than {MAX_PAUSES} times");
                return Ok(Err(NoReply { message, is_window_full: false }));
            }
            request.messages.push(Arc::new(Message::assistant(message.clone())));
            let models = self.candidate_models();
            let (next, _) = match self.call_with_fallback(&models, &request, "").await? {
                Ok(answer) => answer,
                Err(no_reply) => return Ok(Err(no_reply)),
            };
            request.messages.pop();
            message = message.continued_by(&next.message);
            end = next.end;
        }
        Ok(Ok(message))
    }

    /// Records the reply of a turn.
    async fn record_reply(&mut self, turn: u32, message: AssistantMessage) -> Result<(), Halt> {
        let text = message.text.clone();
        self.record(TurnEntry::Reply { turn, message }).await?;
        self.after_model_call(turn, &text).await
    }

    /// How long the first model is skipped after another had to answer.
    fn cooldown(&self) -> Duration {
        let configured =
            self.current.agent.fallback.as_ref().and_then(|fallback| fallback.cooldown.as_deref());
        configured.and_then(|text| duration::parse(text).ok()).unwrap_or(DEFAULT_COOLDOWN)
    }

    /// The usable reply of the first of these models that gives one, and whether any before it failed. `separator` is
    /// written before its text.
    pub(super) async fn call_with_fallback(
        &mut self,
        models: &[CalledModel<'_>],
        request: &ModelRequest,
        separator: &'static str,
    ) -> Result<Result<(ModelReply, bool), NoReply>, Halt> {
        let fallback = self.current.agent.fallback.as_ref();
        let max_retries = fallback.map_or(Retries::DEFAULT_MAX, |fallback| fallback.retries);
        let mut failures: Vec<String> = Vec::new();
        let mut is_window_full = false;
        let mut written = Written::after(separator);
        for (number, settings) in (1..).zip(models) {
            let is_last = number == models.len();
            let mut retries = Retries::new(max_retries, is_last);
            let hasty =
                (!is_last).then(|| Box::new(ModelRequest { waits_for_pauses: false, ..request.clone() }));
            let request = hasty.as_deref().unwrap_or(request);
            match self.call_with_retries(settings, request, &mut retries, &mut written).await? {
                Ok(reply) => return Ok(Ok((reply, !failures.is_empty()))),
                Err(error) => {
                    is_window_full |= matches!(error, ModelError::WindowFull { .. });
                    failures.push(error.to_string());
                }
            }
        }
        // docker-agent's words.
        let what = if self.has_fallback() { "all models failed" } else { "model failed" };
        let message = format!("{what}: {}", failures.join("; "));
        Ok(Err(NoReply { message, is_window_full }))
    }

    /// Whether the active agent has models for the case that its first one fails.
    fn has_fallback(&self) -> bool {
        self.current.agent.fallback.as_ref().is_some_and(|fallback| !fallback.models.is_empty())
    }

    /// The models that may answer the next request, in the order in which they are tried.
    ///
    /// The first is the model that the toolset of the last call names, else one drawn from the agent's list; its
    /// routing rules may send the turn to another. The fallback models follow. A first model in its cooldown is
    /// left out, unless it is the only one.
    pub(super) fn candidate_models(&self) -> Vec<CalledModel<'team>> {
        let environment = &self.ports.environment;
        let agent = self.current.agent;
        let toolbox = &self.current.toolbox;
        let by_toolset =
            self.transcript.last_called_tools().find_map(|tool| self.draw(toolbox.next_models(tool)));
        // The toolbox does not live as long as the team.
        let by_toolset = by_toolset.map(|model| environment.model(model).into_owned());
        let first = by_toolset.or_else(|| match &agent.kind {
            AgentKind::Models(models) => self.draw(models).map(|model| environment.model(model)),
            AgentKind::Auto => {
                let auto = auto_model(|key| environment.variable(key).is_some());
                Some(environment.model(&auto).into_owned())
            }
            AgentKind::Command { .. } => None,
        });
        let fallback = agent.fallback.iter().flat_map(|fallback| &fallback.models);
        let mut all: Vec<_> =
            first.into_iter().chain(fallback.map(|model| environment.model(model))).collect();
        let in_cooldown = self.first_model_cooldown_until.is_some_and(|until| Instant::now() < until);
        if in_cooldown && all.len() > 1 {
            all.remove(0);
        }
        // Mostly one, in room for four.
        all.shrink_to_fit();
        all
    }

    /// One of these models, or the one that its routing rules send the turn to.
    fn draw<'m>(&self, models: &'m [ModelSettings]) -> Option<&'m ModelSettings> {
        let drawn = models.get(rand::random_range(0..models.len().max(1)))?;
        Some(routing::pick(drawn, self.transcript.latest_prompt()))
    }

    /// Calls one model until it gives a usable reply, or fails in a way that is not retried or no longer retried.
    async fn call_with_retries(
        &mut self,
        settings: &ModelSettings,
        request: &ModelRequest,
        retries: &mut Retries,
        written: &mut Written,
    ) -> Result<Result<ModelReply, ModelError>, Halt> {
        loop {
            self.write_text(written.begin_try()).await?;
            let model = settings.reference();
            self.ports.journal.note(RunEvent::ModelAsked { turn: request.turn, model });
            let answer = self.call_once(settings, request, written).await?;
            let judged = Box::pin(self.judge(settings, request.turn, answer, retries, written)).await?;
            if let ControlFlow::Break(answer) = judged {
                return Ok(answer);
            }
        }
    }

    /// Takes a usable reply, waits until the model may be called again, or gives it up.
    async fn judge(
        &mut self,
        settings: &ModelSettings,
        turn: u32,
        answer: Result<ModelReply, ModelError>,
        retries: &mut Retries,
        written: &mut Written,
    ) -> Result<ControlFlow<Result<ModelReply, ModelError>>, Halt> {
        let used = answer.as_ref().map(|reply| reply.message.usage).unwrap_or_default();
        let error = match answer.and_then(|reply| verdict::usable(settings, reply)) {
            Ok(reply) => {
                self.count_cost(settings, reply.message.usage);
                self.write_text(&written.end_reply()).await?;
                return Ok(ControlFlow::Break(Ok(reply)));
            }
            Err(error) => error,
        };
        self.record_wasted(turn, used).await?;
        let Some(delay) = retries.next_delay(&error, rand::random()) else {
            return Ok(ControlFlow::Break(Err(error)));
        };
        self.ports.journal.note(RunEvent::ModelRetried { turn, reason: error.to_string() });
        self.unless_cancelled(sleep(delay)).await?;
        // The lease may have run out during the delay.
        self.check_lease().await?;
        Ok(ControlFlow::Continue(()))
    }

    /// Records the tokens of a reply that no turn can be made of: they were paid for.
    async fn record_wasted(&mut self, turn: u32, used: Usage) -> Result<(), Halt> {
        if used.input_tokens == 0 && used.output_tokens == 0 {
            return Ok(());
        }
        self.record(TurnEntry::tokens_only(turn, used)).await
    }

    async fn write_text(&self, text: &str) -> Result<(), Halt> {
        if text.is_empty() {
            return Ok(());
        }
        Ok(self.unless_cancelled(self.ports.journal.output(text)).await??)
    }

    /// Calls a model once and writes its text as it arrives.
    async fn call_once(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        written: &mut Written,
    ) -> Result<Result<ModelReply, ModelError>, Halt> {
        let span = spans::of_model_call(settings, &request.agent);
        let answer = self.stream(settings, request, written).instrument(span.clone()).await?;
        spans::record_reply(&span, &answer);
        Ok(answer)
    }

    /// Streams one reply, and writes its text.
    ///
    /// A cancellation drops the stream. The deltas that are still there are then written; if the journal blocks, they are
    /// dropped after [`FINAL_FLUSH_TIMEOUT`]. A lost lease found by the writer drops the stream at once.
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        written: &mut Written,
    ) -> Result<Result<ModelReply, ModelError>, Halt> {
        let deltas = Deltas::default();
        let mut writing = pin!(self.write(&deltas, written, request.purpose));
        let answer = tokio::select! {
            // In this order, so that a delta is written as soon as it has arrived.
            biased;
            answer = self.answer_unless_cancelled(ModelCall { settings, request, deltas: &deltas }) => answer,
            // It ends without an error only once the deltas are closed.
            Err(error) = &mut writing => return Err(error.into()),
        };
        deltas.close();
        // With an answer too: a full buffer waits for as long as Redis is away.
        let flushed = async {
            tokio::select! {
                wrote = writing => wrote,
                () = self.final_flush_deadline() => Ok(()),
            }
        };
        // Boxed: see `run`.
        Box::pin(flushed).await?;
        answer.map(|answer| *answer).ok_or(Halt::Stopped)
    }

    /// Returns when the last text of a cancelled run must be written; never for a run that is not cancelled.
    async fn final_flush_deadline(&self) {
        self.cancel.cancelled().await;
        sleep(FINAL_FLUSH_TIMEOUT).await;
    }

    /// The answer; `None` where the run is cancelled. Boxed, so that little is held while its last text is written.
    async fn answer_unless_cancelled(
        &self,
        call: ModelCall<'_>,
    ) -> Option<Box<Result<ModelReply, ModelError>>> {
        self.cancel.run_until_cancelled(self.ports.models.stream(call)).await.map(Box::new)
    }

    /// Writes visible text until the stream has ended, all deltas that wait as one write.
    async fn write(
        &self,
        deltas: &Deltas,
        written: &mut Written,
        purpose: Purpose,
    ) -> Result<(), JournalError> {
        let mut batch = Vec::new();
        while deltas.take(&mut batch).await {
            let said: String = batch.drain(..).map(|delta| self.visible_text(delta, purpose)).collect();
            let text = written.take(&said);
            if !text.is_empty() {
                self.ports.journal.output(&text).await?;
            }
        }
        Ok(())
    }

    /// The text of a delta that belongs to the output: neither reasoning nor summaries do. A wait becomes an event.
    fn visible_text(&self, delta: Delta, purpose: Purpose) -> String {
        match delta {
            Delta::Text(text) if purpose == Purpose::Turn => text,
            Delta::Text(_) | Delta::Reasoning(_) => String::new(),
            Delta::Waiting(why) => {
                self.ports.journal.note(RunEvent::ModelWaiting { why });
                String::new()
            }
        }
    }
}
