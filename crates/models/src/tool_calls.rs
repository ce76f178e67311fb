//! Assembles streamed tool calls, whatever a provider makes of ids and indices.
//!
//! Calls are kept in the order in which they begin. An index and an id are names that a stream uses for a call, never
//! places: an index may be missing, huge, text or the same for all; an id may be missing, empty, late or repeated.
//!
//! - A new id begins a call, unless it comes late to a call that has none.
//! - A piece without an id belongs to the last call of its index; without an index too, to the last call.
//! - A name where the call has its name and arguments begins another call, unless it repeats what is known.
//! - A call that never gets a name continues the call before it.
//!
//! Each byte is examined a fixed number of times.

mod arguments;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::mem;

use serde_json::Value;

use crate::conversation::ToolCall;
use arguments::Arguments;

/// What one piece costs beyond its texts.
const PIECE_BYTES: usize = 32;

/// A piece of a tool call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallDelta<'a> {
    /// What the stream counts calls by, if it does.
    pub key: Option<CallKey>,
    /// The id, or a piece of nothing: empty where there is none.
    pub id: &'a str,
    /// The name or a piece of it; empty where there is none.
    pub name: &'a str,
    /// The arguments or a piece of them, as text.
    pub arguments: Cow<'a, str>,
    /// What Gemini wants back with the call.
    pub thought_signature: Option<&'a str>,
}

impl CallDelta<'_> {
    /// What it costs to keep.
    pub(crate) fn bytes(&self) -> usize {
        let signature = self.thought_signature.map_or(0, str::len);
        let key = self.key.as_ref().map_or(0, CallKey::bytes);
        PIECE_BYTES + key + self.id.len() + self.name.len() + self.arguments.len() + signature
    }
}

/// What a stream counts calls by. Only ever compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallKey(String);

impl CallKey {
    /// The key in an `index` of any form: the number 0, the number 0.0 and the text "0" are one key; null is none.
    #[must_use]
    pub fn of(index: &Value) -> Option<Self> {
        let text = match index {
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (None, Some(float)) if !number.is_u64() => float.to_string(),
                _ => number.to_string(),
            },
            Value::String(text) => text.trim().to_owned(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
        };
        (!text.is_empty()).then_some(Self(text))
    }

    /// What it costs to keep.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// The arguments of a call in any form: text as it is, null and absence as nothing, all else as its JSON.
#[must_use]
pub fn arguments_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The call that it belongs to.
    pub(crate) position: usize,
    /// Whether it began that call.
    pub(crate) begun: bool,
    /// By how many bytes the arguments grew.
    pub(crate) grown: usize,
}

/// The calls of a reply as far as they came.
#[derive(Debug)]
pub(crate) struct ToolCalls {
    limit: usize,
    id_prefix: String,
    calls: Vec<Call>,
    by_key: HashMap<CallKey, usize>,
    by_id: HashMap<String, usize>,
    /// The call that the last piece belonged to.
    last: Option<usize>,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: Arguments,
    key: Option<CallKey>,
    /// The call that was being written when this one began.
    after: Option<usize>,
    thought_signature: Option<String>,
}

impl ToolCalls {
    /// None yet, and at most `limit`. `id_prefix` begins the ids that are made here.
    pub(crate) fn new(limit: usize, id_prefix: String) -> Self {
        let (calls, by_key, by_id) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { limit, id_prefix, calls, by_key, by_id, last: None }
    }

    /// Puts a piece where it belongs. The error names the limit that it breaks.
    pub(crate) fn take(&mut self, delta: &CallDelta<'_>) -> Result<Taken, String> {
        let (position, begun) = self.place(delta)?;
        let grown = self.extend(position, delta);
        Ok(Taken { position, begun, grown })
    }

    /// Puts the whole arguments of a call in the place of what came of them. Errors as [`ToolCalls::take`].
    pub(crate) fn take_whole(&mut self, delta: &CallDelta<'_>) -> Result<Taken, String> {
        let CallDelta { key, id, name, thought_signature, .. } = delta;
        let head = CallDelta {
            key: key.clone(),
            id,
            name,
            arguments: Cow::Borrowed(""),
            thought_signature: *thought_signature,
        };
        let (position, begun) = self.place(&head)?;
        self.extend(position, &head);
        let grown = self.calls[position].arguments.replace(&delta.arguments);
        Ok(Taken { position, begun, grown })
    }

    /// The call that a piece belongs to, and whether the piece begins it.
    fn place(&mut self, delta: &CallDelta<'_>) -> Result<(usize, bool), String> {
        let found = self.find(delta);
        let (position, begun) = match found {
            Some(position) => (position, false),
            None if self.calls.len() >= self.limit => {
                return Err(format!("the reply has more than {} tool calls", self.limit));
            }
            None => {
                self.calls.push(Call { after: self.last, ..Call::default() });
                (self.calls.len() - 1, true)
            }
        };
        self.last = Some(position);
        Ok((position, begun))
    }

    /// The call that a piece continues; none: it begins one.
    fn find(&self, delta: &CallDelta<'_>) -> Option<usize> {
        let by_key = delta.key.as_ref().map(|key| self.by_key.get(key).copied());
        if delta.id.is_empty() {
            let position = by_key.unwrap_or(self.last)?;
            let anew = self.calls[position].is_followed_by(delta, delta.key.is_some());
            return (!anew).then_some(position);
        }
        match self.by_id.get(delta.id).copied() {
            Some(position) => {
                let call = &self.calls[position];
                let elsewhere = delta.key.is_some() && call.key.is_some() && delta.key != call.key;
                let anew = elsewhere && !delta.name.is_empty() || call.is_followed_by(delta, true);
                (!anew).then_some(position)
            }
            None => by_key.unwrap_or(self.last).filter(|&position| self.calls[position].awaits_id(delta)),
        }
    }

    fn extend(&mut self, position: usize, delta: &CallDelta<'_>) -> usize {
        let call = &mut self.calls[position];
        if let Some(key) = &delta.key {
            call.key.get_or_insert_with(|| key.clone());
            if self.by_key.get(key) != Some(&position) {
                self.by_key.insert(key.clone(), position);
            }
        }
        if !delta.id.is_empty() {
            if call.id.is_empty() {
                delta.id.clone_into(&mut call.id);
            }
            if self.by_id.get(delta.id) != Some(&position) {
                self.by_id.insert(delta.id.to_owned(), position);
            }
        }
        if let Some(signature) = delta.thought_signature {
            call.thought_signature = Some(signature.to_owned());
        }
        call.take_name(delta.name);
        call.arguments.push(&delta.arguments)
    }

    /// The calls by their positions; none where a piece turned out to belong to another call, or to be empty.
    pub(crate) fn finish(mut self) -> Vec<Option<ToolCall>> {
        let mut roots: Vec<usize> = Vec::with_capacity(self.calls.len());
        for at in 0..self.calls.len() {
            let root = self.merge(at, &roots).unwrap_or(at);
            roots.push(root);
        }
        let mut ids = Ids::new(self.id_prefix, self.calls.iter().map(|call| call.id.clone()));
        let whole = |(at, call): (usize, Call)| {
            let empty = call.name.trim().is_empty() && call.arguments.is_nothing();
            (!empty && roots[at] == at).then(|| ToolCall {
                id: ids.distinct(call.id),
                name: call.name.trim().to_owned(),
                arguments: call.arguments.finish(),
                thought_signature: call.thought_signature,
            })
        };
        self.calls.into_iter().enumerate().map(whole).collect()
    }

    /// Gives what a nameless call holds to the call that was being written when it began, and returns that one. `roots`
    /// says where the calls before this one went.
    fn merge(&mut self, at: usize, roots: &[usize]) -> Option<usize> {
        let call = &self.calls[at];
        let before = *roots.get(call.after.filter(|_| call.name.is_empty())?)?;
        let other = &self.calls[before];
        let same = call.id.is_empty() || call.key == other.key;
        if !same || other.arguments.is_closed() {
            return None;
        }
        let rest = mem::take(&mut self.calls[at].arguments);
        self.calls[before].arguments.push(rest.text());
        Some(before)
    }
}

impl Call {
    /// Whether a piece that would belong to this call begins another one. `named`: the stream gives an id or an index, so
    /// that a repetition is of this call.
    fn is_followed_by(&self, delta: &CallDelta<'_>, named: bool) -> bool {
        if delta.name.is_empty() || self.name.is_empty() {
            return false;
        }
        if delta.name != self.name {
            // A piece of the name, or another name.
            return !named || !self.arguments.is_empty();
        }
        let repeated = named && self.arguments.is_restated_by(&delta.arguments);
        self.arguments.is_closed() && !delta.arguments.is_empty() && !repeated
    }

    /// Whether this call has no id and the piece, which has a new one, is more of it.
    fn awaits_id(&self, delta: &CallDelta<'_>) -> bool {
        let keyed = delta.key.is_some() || !self.arguments.is_closed();
        self.id.is_empty() && keyed && (delta.name.is_empty() || self.name.is_empty())
    }

    /// A name may come whole, in pieces, as what is known of it so far, or again with each piece of the arguments.
    fn take_name(&mut self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        if piece.starts_with(self.name.as_str()) {
            piece.clone_into(&mut self.name);
        } else if self.arguments.is_empty() {
            self.name.push_str(piece);
        }
    }
}

/// The ids of a reply.
struct Ids {
    prefix: String,
    given: HashSet<String>,
    used: HashSet<String>,
    made: usize,
}

impl Ids {
    fn new(prefix: String, given: impl Iterator<Item = String>) -> Self {
        Self { prefix, given: given.collect(), used: HashSet::new(), made: 0 }
    }

    /// The id itself the first time, then one that no call has.
    fn distinct(&mut self, id: String) -> String {
        let mut id = id;
        while id.is_empty() || !self.used.insert(id.clone()) {
            self.made += 1;
            id = format!("{}{}", self.prefix, self.made);
            if self.given.contains(&id) {
                id.clear();
            }
        }
        id
    }
}

#[cfg(test)]
mod tests;
