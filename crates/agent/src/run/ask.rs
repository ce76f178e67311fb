//! Asking the model, and asking again.

use std::time::Duration;
use std::time::Instant;

use legwork_common::duration;
use legwork_common::job::Cause;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;
use legwork_common::team::choose_auto;
use tokio::sync::mpsc;

use super::Halt;
use super::Running;
use super::open_agent::OpenAgent;
use crate::history;
use crate::journal::JournalError;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::model::Delta;
use crate::model::ModelError;
use crate::model::ModelRequest;
use crate::model::Purpose;
use crate::model::retry::Patience;
use crate::model::routing;

/// Pieces of a reply that may wait for the journal.
const WAITING_DELTAS: usize = 64;
/// How long the text that arrived before a cancellation may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What the output says between a reply that broke off and the next try.
const CUT_OFF: &str = "\n[the model's answer was cut off; asking again]\n";
/// How long a model that failed is left out where the file does not say.
const COOLDOWN: Duration = Duration::from_secs(60);
/// What stands between the texts of two turns.
const BETWEEN_TURNS: &str = "\n\n";

/// One try.
struct Tried {
    answer: Result<AssistantMessage, ModelError>,
    /// Whether any of its text is in the output.
    wrote: bool,
}

impl Running<'_> {
    /// One turn's model call, recorded.
    pub(super) async fn ask(&mut self, turn: u32) -> Result<(), Halt> {
        let OpenAgent { agent, head, .. } = &self.current;
        let mut messages = head.clone();
        messages.extend(history::latest(self.transcript.messages(), agent.num_history_items));
        let request = ModelRequest {
            agent: agent.name.clone(),
            turn,
            messages,
            tools: self.current.offered(),
            form: agent.structured_output.clone(),
            purpose: Purpose::Turn,
        };
        let (message, failed_first) = self.answer(&request).await?;
        if failed_first {
            self.first_model_rests_until = Instant::now().checked_add(self.cooldown());
        }
        self.record(TurnEntry::Reply { turn, message }).await
    }

    /// How long the first model is left out after another had to take over.
    fn cooldown(&self) -> Duration {
        let written = self.current.agent.fallback.as_ref().and_then(|fallback| fallback.cooldown.as_deref());
        written.and_then(|text| duration::parse(text).ok()).unwrap_or(COOLDOWN)
    }

    /// The first answer of the models that may be asked, one after the other, and whether others failed before.
    pub(super) async fn answer(&self, request: &ModelRequest) -> Result<(AssistantMessage, bool), Halt> {
        let models = self.models();
        let retries =
            self.current.agent.fallback.as_ref().map_or(Patience::RETRIES, |fallback| fallback.retries);
        let mut failures: Vec<String> = Vec::new();
        for (number, settings) in (1..).zip(&models) {
            let patience = Patience::new(retries, number == models.len());
            match self.insist(settings, request, patience).await? {
                Ok(message) => return Ok((message, !failures.is_empty())),
                Err(error) => failures.push(error.to_string()),
            }
        }
        let message = match &failures[..] {
            [one] => one.clone(),
            many => format!("all models failed: {}", many.join("; ")),
        };
        Err(Halt::Failed { cause: Cause::ProviderError, message })
    }

    /// One drawn model, or the one that its rules send this turn to, unless it rests; then those to fall back to. After
    /// tools that say which model goes on, that one is the first.
    pub(super) fn models(&self) -> Vec<ModelSettings> {
        let drawn = |models: &[ModelSettings]| {
            let own = models.get(rand::random_range(0..models.len().max(1)))?;
            Some(routing::pick(own, self.transcript.said()).clone())
        };
        let after = self.transcript.called().find_map(|tool| drawn(self.current.toolbox.next_models(tool)));
        let first = after.or_else(|| match &self.current.agent.runner {
            AgentKind::Models(models) => drawn(models),
            AgentKind::Auto => Some(choose_auto(|key| self.ports.environment.variable(key).is_some())),
            AgentKind::Command { .. } => None,
        });
        let others = self.current.agent.fallback.iter().flat_map(|fallback| fallback.models.clone());
        let all: Vec<ModelSettings> = first.into_iter().chain(others).collect();
        let rests = self.first_model_rests_until.is_some_and(|until| Instant::now() < until);
        if rests && all.len() > 1 { all[1..].to_vec() } else { all }
    }

    /// One model, as often as patience allows.
    async fn insist(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        mut patience: Patience,
    ) -> Result<Result<AssistantMessage, ModelError>, Halt> {
        let turn = request.turn;
        let mut before = if self.transcript.wrote() { BETWEEN_TURNS } else { "" };
        loop {
            self.ports.journal.note(RunEvent::ModelAsked { turn, model: settings.reference() });
            let Tried { answer, wrote } = self.attempt(settings, request, before).await?;
            let error = match answer {
                Ok(message) => return Ok(Ok(message)),
                Err(error) => error,
            };
            if wrote {
                self.live(self.ports.journal.output(CUT_OFF)).await??;
                before = "";
            }
            let Some(delay) = patience.delay(&error, rand::random()) else { return Ok(Err(error)) };
            self.ports.journal.note(RunEvent::ModelRetried { turn, reason: error.to_string() });
            self.live(tokio::time::sleep(delay)).await?;
            self.gate().await?;
        }
    }

    /// Asks once, and writes the text as it arrives, `before` before the first.
    async fn attempt(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        before: &str,
    ) -> Result<Tried, Halt> {
        let (sender, receiver) = mpsc::channel(WAITING_DELTAS);
        let stream = async {
            let answer = self.ports.models.stream(settings, request, sender);
            Ok(self.cancel.run_until_cancelled(answer).await)
        };
        let writing = async {
            tokio::select! {
                wrote = self.write(receiver, before, request.purpose) => wrote,
                () = self.long_cancelled() => Ok(false),
            }
        };
        let (answer, wrote) = tokio::try_join!(stream, writing)?;
        Ok(Tried { answer: answer.ok_or(Halt::Stopped)?, wrote })
    }

    async fn long_cancelled(&self) {
        self.cancel.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// Writes text until the sender is gone. Whether there was any.
    async fn write(
        &self,
        mut deltas: mpsc::Receiver<Delta>,
        before: &str,
        purpose: Purpose,
    ) -> Result<bool, JournalError> {
        let mut wrote = false;
        let mut pieces = Vec::new();
        while deltas.recv_many(&mut pieces, WAITING_DELTAS).await > 0 {
            let text: String = pieces.drain(..).map(|piece| self.visible(piece, purpose)).collect();
            if text.is_empty() {
                continue;
            }
            if !wrote && !before.is_empty() {
                self.ports.journal.output(before).await?;
            }
            wrote = true;
            self.ports.journal.output(&text).await?;
        }
        Ok(wrote)
    }

    /// What of a piece belongs to the output.
    fn visible(&self, piece: Delta, purpose: Purpose) -> String {
        match piece {
            Delta::Text(text) if purpose == Purpose::Turn => text,
            Delta::Text(_) | Delta::Reasoning(_) => String::new(),
            Delta::Waits(why) => {
                self.ports.journal.note(RunEvent::ModelWaits { why });
                String::new()
            }
        }
    }
}
