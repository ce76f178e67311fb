//! `cache` of an agent: the same message is answered as before, without a model call.

use std::collections::BTreeMap;

use legwork_common::error::chain;
use legwork_common::job::Usage;
use legwork_common::team::ResponseCache;

use super::halt::Halt;
use super::state::RunState;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::redaction;
use crate::tool::ToolOutcome;
use crate::toolset::shared_file::SharedFile;

/// The largest file of answers. Each lookup reads and each answer writes the whole file.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Written between the texts of two turns.
const TURN_SEPARATOR: &str = "\n\n";

/// The message as it is compared.
fn key(cache: &ResponseCache, message: &str) -> String {
    let message = if cache.trim_spaces { message.trim() } else { message };
    if cache.case_sensitive { message.to_owned() } else { message.to_lowercase() }
}

impl RunState<'_> {
    /// Before the first model call after a prompt: answers the message of the user as an earlier one was. Whether it did. A
    /// message with a secret is neither looked up nor kept: without it, it would be another message.
    pub(super) async fn answer_from_cache(&mut self, turn: u32) -> Result<bool, Halt> {
        let Some(cache) = &self.current.agent.cache else { return Ok(false) };
        if self.asked.is_some() || !self.transcript.is_prompted() || self.answers_by_tool() {
            return Ok(false);
        }
        let prompt = self.transcript.latest_prompt();
        if self.without_secrets(prompt) != prompt {
            return Ok(false);
        }
        let asked = key(cache, prompt);
        self.asked = Some(asked.clone());
        let answer = match &cache.path {
            Some(path) => self.unless_cancelled(Box::pin(self.kept_answer(path, asked))).await?,
            None => self.transcript.earlier_answer(|text| key(cache, text) == asked).map(str::to_owned),
        };
        let Some(text) = answer.filter(|text| !text.is_empty()) else { return Ok(false) };
        let separator = if self.transcript.has_output() { TURN_SEPARATOR } else { "" };
        self.unless_cancelled(self.ports.journal.output(&format!("{separator}{text}"))).await??;
        let message = AssistantMessage { text, usage: Usage::default(), ..AssistantMessage::default() };
        self.record(TurnEntry::Reply { turn, message }).await?;
        Ok(true)
    }

    /// At the end of a run: keeps its answer for the next one. A failure costs a model call later, and is a warning.
    pub(super) async fn keep_answer(&mut self, answer: &str) -> Result<(), Halt> {
        let path = self.current.agent.cache.as_ref().and_then(|cache| cache.path.clone());
        let (Some(path), Some(asked)) = (path, self.asked.take()) else { return Ok(()) };
        if answer.is_empty() {
            return Ok(());
        }
        let kept = async {
            let file = self.cache_file(&path)?;
            let blocking = &self.ports.environment.blocking;
            let lock = file.lock(blocking).await.map_err(|error| chain(&error))?;
            let answer = self.without_secrets(answer);
            let written = blocking.run(move || {
                let failed = |why: String| ToolOutcome::error(why);
                let mut answers = answers(&file).map_err(failed)?;
                answers.insert(asked, answer);
                let text = serde_json::to_string(&answers).map_err(|error| failed(error.to_string()))?;
                if text.len() as u64 > MAX_FILE_BYTES {
                    return Err(failed("it would be larger than 4 MiB".to_owned()));
                }
                file.replace(text.as_bytes(), &lock).map_err(|error| failed(chain(&error)))
            });
            written.await.map_err(|failed| failed.text)
        };
        if let Err(why) = self.unless_cancelled(kept).await? {
            self.warn(format!("the answer is not kept in {path}: {why}"));
        }
        Ok(())
    }

    /// The text without secrets of this machine, and of well-known shapes where the agent wants that.
    fn without_secrets(&self, text: &str) -> String {
        let text = self.ports.environment.secrets.redacted(text).into_owned();
        if self.redacts() { redaction::redacted(text) } else { text }
    }

    /// The answer of the file. What goes wrong is a warning: then the model is asked.
    async fn kept_answer(&self, path: &str, asked: String) -> Option<String> {
        let found = match self.cache_file(path) {
            Ok(file) => {
                let reading = move || {
                    let mut answers = answers(&file).map_err(ToolOutcome::error)?;
                    Ok(answers.remove(&asked))
                };
                self.ports.environment.blocking.run(reading).await.map_err(|failed| failed.text)
            }
            Err(why) => Err(why),
        };
        found.unwrap_or_else(|why| {
            self.warn(format!("the answers in {path} are not used: {why}"));
            None
        })
    }

    /// The file of the answers, below the working folder.
    fn cache_file(&self, path: &str) -> Result<SharedFile, String> {
        SharedFile::of_run(&self.ports.environment, path)
    }
}

/// All answers of a file, by their messages.
fn answers(file: &SharedFile) -> Result<BTreeMap<String, String>, String> {
    let Some(text) = file.read(MAX_FILE_BYTES).map_err(|error| chain(&error))? else {
        return Ok(BTreeMap::new());
    };
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err("it is larger than 4 MiB".to_owned());
    }
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_slice(&text).map_err(|error| format!("it does not contain answers: {error}"))
}
