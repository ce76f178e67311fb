//! Puts a reply together from what a wire reads.

use std::collections::HashMap;

use serde_json::Value;

use super::Reply;
use super::ReplyEnd;
use super::ReplyEvent;
use crate::conversation::AssistantMessage;
use crate::conversation::Origin;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::Usage;
use crate::error::ProviderError;
use crate::tool_calls::CallDelta;
use crate::tool_calls::Taken;
use crate::tool_calls::ToolCalls;
use crate::work;

/// How much of a reply is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one line, one event, or a body that is not a stream.
    pub line_bytes: usize,
    /// The most bytes of text, reasoning, arguments and whatever else a reply holds.
    pub reply_bytes: usize,
    /// The most tool calls of a reply.
    pub calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 16 << 20, reply_bytes: 32 << 20, calls: 512 }
    }
}

/// What a part costs beyond its text, so that many small ones are bounded too.
const PART_BYTES: usize = 64;

/// Why a provider says that the reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    End,
    /// It waits for its tools.
    Tools,
    /// The most tokens of one reply.
    OutputLimit,
    /// The context window.
    WindowFull,
    /// The model refused.
    Refused,
    /// The provider filtered.
    Filtered,
    /// The provider will continue.
    Paused,
    /// Something went wrong at the provider, in its words.
    Broken(String),
}

/// A reply that is being read. A wire tells it what it saw; texts that are empty are passed over.
#[derive(Debug)]
pub struct Assembly {
    limits: Limits,
    origin: Origin,
    parts: Vec<Slot>,
    /// Where the last opaque part is.
    opaque: Option<usize>,
    calls: ToolCalls,
    usage: Usage,
    refusal: String,
    stop: Option<Stop>,
    complete: bool,
    /// The part that the next piece of its kind continues. None: the next piece begins a part.
    open: Option<usize>,
    /// The item that the next pieces belong to, where the wire counts them.
    item: Option<usize>,
    /// The part of each item.
    by_item: HashMap<usize, usize>,
    bytes: usize,
    events: Vec<ReplyEvent>,
}

/// A part in its place; calls are put in when they are whole.
#[derive(Debug)]
enum Slot {
    Part(Part),
    Call(usize),
}

impl Assembly {
    /// Nothing yet. `id_prefix` begins the ids of calls that come without one.
    pub(crate) fn new(limits: Limits, origin: Origin, id_prefix: String) -> Self {
        Self {
            limits,
            origin,
            parts: Vec::new(),
            opaque: None,
            calls: ToolCalls::new(limits.calls, id_prefix),
            usage: Usage::default(),
            refusal: String::new(),
            stop: None,
            complete: false,
            open: None,
            item: None,
            by_item: HashMap::new(),
            bytes: 0,
            events: Vec::new(),
        }
    }

    /// New visible text.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] where the reply grows beyond its limit; so with all that follow.
    pub fn text(&mut self, piece: &str) -> Result<(), ProviderError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.open_part() {
            Some(Part::Text(text)) => text.push_str(piece),
            _ => self.push(Part::Text(piece.to_owned()))?,
        }
        self.events.push(ReplyEvent::Text(piece.to_owned()));
        Ok(())
    }

    /// New reasoning text.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub fn thinking(&mut self, piece: &str) -> Result<(), ProviderError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.open_part() {
            Some(Part::Thinking { text, .. }) => text.push_str(piece),
            _ => self.push(Part::Thinking { text: piece.to_owned(), signature: None })?,
        }
        self.events.push(ReplyEvent::Reasoning(piece.to_owned()));
        Ok(())
    }

    /// A piece of the signature of the thinking that was just read, or of thinking that is not shown.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub fn signature(&mut self, piece: &str) -> Result<(), ProviderError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.open_part() {
            Some(Part::Thinking { signature, .. }) => {
                signature.get_or_insert_default().push_str(piece);
            }
            _ => self.push(Part::Thinking { text: String::new(), signature: Some(piece.to_owned()) })?,
        }
        Ok(())
    }

    /// Hidden reasoning, or what else only its maker understands.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub fn part(&mut self, part: Part) -> Result<(), ProviderError> {
        let bytes = match &part {
            Part::Text(text) => return self.text(text),
            Part::Thinking { text, signature } => text.len() + signature.as_ref().map_or(0, String::len),
            Part::RedactedThinking { data } => data.len(),
            Part::Opaque { data } => data.to_string().len(),
            Part::ToolCall(call) => call.arguments.len(),
        };
        self.grow(bytes)?;
        self.push(part)?;
        self.close_part();
        Ok(())
    }

    /// The last opaque part, so that a wire may add to it. `bytes` is by how much it will grow.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub fn last_opaque(&mut self, bytes: usize) -> Result<Option<&mut Value>, ProviderError> {
        self.grow(bytes)?;
        let slot = self.opaque.and_then(|at| self.parts.get_mut(at));
        Ok(slot.and_then(|slot| match slot {
            Slot::Part(Part::Opaque { data }) => Some(data),
            _ => None,
        }))
    }

    /// The next piece of text or reasoning begins a part of its own.
    pub fn close_part(&mut self) {
        self.open = None;
        self.item.take().map(|item| self.by_item.remove(&item));
    }

    /// The next pieces of text and reasoning belong to this item, even if pieces of others came since its last one. Items
    /// are numbered by the wire, and their parts stand in the order of their first pieces.
    pub fn select(&mut self, item: usize) {
        self.item = Some(item);
        self.open = self.by_item.get(&item).copied();
    }

    /// Counts what the wire itself keeps of the reply against the limit.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub fn account(&mut self, bytes: usize) -> Result<(), ProviderError> {
        self.grow(bytes)
    }

    /// A piece of a tool call.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`], and where there are too many calls.
    pub fn call(&mut self, delta: &CallDelta<'_>) -> Result<(), ProviderError> {
        self.grow(delta.bytes())?;
        let taken = self.calls.take(delta).map_err(ProviderError::too_large)?;
        self.taken(taken, delta);
        Ok(())
    }

    /// A tool call whose arguments are all there: they replace what came before.
    ///
    /// # Errors
    ///
    /// As [`Assembly::call`].
    pub fn whole_call(&mut self, delta: &CallDelta<'_>) -> Result<(), ProviderError> {
        let taken = self.calls.take_whole(delta).map_err(ProviderError::too_large)?;
        let without_arguments = delta.bytes().saturating_sub(delta.arguments.len());
        self.grow(without_arguments.saturating_add(taken.grown))?;
        self.taken(taken, delta);
        Ok(())
    }

    fn taken(&mut self, taken: Taken, delta: &CallDelta<'_>) {
        if taken.begun {
            self.parts.push(Slot::Call(taken.position));
            self.open = None;
            self.events.push(ReplyEvent::CallBegun { position: taken.position, name: delta.name.to_owned() });
        }
        if taken.grown > 0 {
            self.events.push(ReplyEvent::CallGrew { position: taken.position, bytes: taken.grown });
        }
    }

    /// A report on the tokens counted so far, as totals.
    pub fn usage(&mut self, report: Usage) {
        let before = self.usage;
        self.usage.report(report);
        if self.usage != before {
            self.events.push(ReplyEvent::Usage(self.usage));
        }
    }

    /// Words with which the model refuses.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub fn refusal(&mut self, piece: &str) -> Result<(), ProviderError> {
        self.grow(piece.len())?;
        self.refusal.push_str(piece);
        Ok(())
    }

    /// Why the reply ended. The last one counts, but no plain end takes the place of a reason.
    pub fn stop(&mut self, stop: Stop) {
        if !(stop == Stop::End && self.stop.is_some()) {
            self.stop = Some(stop);
        }
    }

    /// The provider said that nothing more will come, in words of its wire such as `[DONE]`.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// A sign of life without content.
    pub fn keep_alive(&mut self) {
        self.events.push(ReplyEvent::KeepAlive);
    }

    /// Whether anything of the model has been seen: text, reasoning, a call, a refusal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.refusal.is_empty()
    }

    /// The events since the last time.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = ReplyEvent> {
        self.events.drain(..)
    }

    /// The connection broke: that is the end of the reply unless the provider said before why it ended.
    pub(crate) fn broken(&mut self, words: &str) {
        if self.stop.is_none() && !self.complete {
            self.stop = Some(Stop::Broken(words.to_owned()));
        }
    }

    /// Whether the provider reported that nothing more will come.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the provider said nothing at all.
    pub(crate) fn is_untouched(&self) -> bool {
        self.is_empty() && self.stop.is_none() && !self.complete
    }

    /// The reply as it stands when the bytes end.
    pub(crate) fn finish(self) -> Reply {
        let mut calls: Vec<Option<ToolCall>> = self.calls.finish();
        let any_calls = calls.iter().any(Option::is_some);
        let parts = self.parts.into_iter().filter_map(|slot| match slot {
            Slot::Part(part) => Some(part),
            Slot::Call(position) => calls.get_mut(position)?.take().map(Part::ToolCall),
        });
        let mut message =
            AssistantMessage { parts: parts.collect(), origin: Some(self.origin), usage: self.usage };
        let stop = self.stop.or(self.complete.then_some(Stop::End));
        let end = decide(stop, &message, any_calls, self.refusal);
        let mut dropped_calls = Vec::new();
        if end != ReplyEnd::WantsTools {
            dropped_calls = message.tool_calls().cloned().collect();
            message.parts.retain(|part| !matches!(part, Part::ToolCall(_)));
        }
        Reply { message, end, dropped_calls }
    }

    fn push(&mut self, part: Part) -> Result<(), ProviderError> {
        self.grow(PART_BYTES)?;
        if matches!(part, Part::Opaque { .. }) {
            self.opaque = Some(self.parts.len());
        }
        self.open = Some(self.parts.len());
        if let Some(item) = self.item {
            self.by_item.insert(item, self.parts.len());
        }
        self.parts.push(Slot::Part(part));
        Ok(())
    }

    fn open_part(&mut self) -> Option<&mut Part> {
        match self.parts.get_mut(self.open?)? {
            Slot::Part(part) => Some(part),
            Slot::Call(_) => None,
        }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ProviderError> {
        work::count(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        let limit = self.limits.reply_bytes;
        if self.bytes > limit {
            return Err(ProviderError::too_large(format!("the reply is longer than {limit} bytes")));
        }
        Ok(())
    }
}

/// What the end of a reply means.
fn decide(stop: Option<Stop>, message: &AssistantMessage, any_calls: bool, refusal: String) -> ReplyEnd {
    let refused = !refusal.trim().is_empty();
    let words = |refusal: String| if refused { refusal } else { message.text().trim().to_owned() };
    match stop {
        None => ReplyEnd::BrokenOff("the stream ended in the middle of the reply".to_owned()),
        Some(Stop::Broken(words)) => ReplyEnd::BrokenOff(words),
        Some(Stop::OutputLimit) => ReplyEnd::CutAtOutputLimit,
        Some(Stop::WindowFull) => ReplyEnd::WindowFull,
        Some(Stop::Paused) => ReplyEnd::Paused,
        Some(Stop::Filtered) => ReplyEnd::Filtered(words(refusal)),
        Some(Stop::Refused) => ReplyEnd::Refused(words(refusal)),
        Some(Stop::End | Stop::Tools) if refused => ReplyEnd::Refused(refusal),
        Some(Stop::End | Stop::Tools) if any_calls => ReplyEnd::WantsTools,
        Some(Stop::Tools) => ReplyEnd::BrokenOff("it announces tool calls and has none".to_owned()),
        Some(Stop::End) if message.says_anything() => ReplyEnd::Finished,
        Some(Stop::End) => ReplyEnd::Empty { reasoned: !message.parts.iter().all(is_text) },
    }
}

fn is_text(part: &Part) -> bool {
    matches!(part, Part::Text(_))
}
