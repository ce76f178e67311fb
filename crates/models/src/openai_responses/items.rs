//! The items of a response that is being read, and which item an event belongs to.
//!
//! Servers name the item of an event by the id of the item, by the id of the call, by its place in the output, or not at
//! all; ids may change from event to event, and places may be the same for all items. An id that is known decides, then a
//! place that is known, then the last item of the kind that has not ended.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::Value;

use crate::error::ProviderError;
use crate::reply::Assembly;
use crate::tool_calls::CallKey;

/// What an item costs beyond its texts.
const ITEM_BYTES: usize = 128;
/// What a remembered section costs.
const SECTION_BYTES: usize = 48;

/// The items so far, numbered in the order in which they began.
#[derive(Debug, Default)]
pub struct Items {
    all: Vec<Item>,
    by_id: HashMap<String, usize>,
    by_place: HashMap<CallKey, usize>,
    /// The last item of each kind.
    last: HashMap<Kind, usize>,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Visible text or a refusal.
    Message,
    /// Reasoning, of which something may be shown.
    Reasoning,
    /// A call of a function.
    Call,
    /// Of a tool that the provider runs itself, or not known.
    Other,
}

/// An item as far as it came.
#[derive(Debug)]
pub(super) struct Item {
    kind: Kind,
    /// Whether all of it has come.
    pub(super) is_done: bool,
    /// Whether the call has its name.
    pub(super) is_named: bool,
    /// Whether what the provider says of the purpose of a message is kept.
    pub(super) has_phase: bool,
    /// Which of its sections have come, by what the stream counts them by.
    sections: HashSet<Option<CallKey>>,
}

impl Kind {
    /// The kind of an item.
    pub(super) fn of(item: &Value) -> Self {
        match item["type"].as_str() {
            Some("message") => Self::Message,
            Some("reasoning") => Self::Reasoning,
            Some("function_call") => Self::Call,
            _ => Self::Other,
        }
    }
}

impl Items {
    /// The item of this number.
    pub(super) fn get(&mut self, at: usize) -> Option<&mut Item> {
        self.all.get_mut(at)
    }

    /// The kinds of which an item has come.
    pub(super) fn kinds(&self) -> HashSet<Kind> {
        self.last.keys().copied().collect()
    }

    /// The item that a piece belongs to. Begins one where there is none.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`]; so with all that follow.
    pub(super) fn of_piece(
        &mut self,
        data: &Value,
        kind: Kind,
        reply: &mut Assembly,
    ) -> Result<usize, ProviderError> {
        let (id, place) = (data["item_id"].as_str().unwrap_or_default(), CallKey::of(&data["output_index"]));
        if let Some(known) = self.by_id(&[id], kind).or(self.by_place(place.as_ref(), kind)) {
            return Ok(known);
        }
        let place = place.filter(|place| !self.by_place.contains_key(place));
        let last = self.last.get(&kind).copied().filter(|&at| !self.all[at].is_done);
        match last {
            Some(last) if place.is_none() => Ok(last),
            _ => self.add(kind, &[id], place, reply),
        }
    }

    /// The item that begins, or that began before under the same id.
    pub(super) fn of_beginning(
        &mut self,
        item: &Value,
        place: Option<CallKey>,
        reply: &mut Assembly,
    ) -> Result<usize, ProviderError> {
        match self.by_id(&ids(item), Kind::of(item)) {
            Some(known) => Ok(known),
            None => self.add(Kind::of(item), &ids(item), place, reply),
        }
    }

    /// The item that ends, under its id, or in its place if it has not ended there.
    pub(super) fn of_end(
        &mut self,
        item: &Value,
        place: Option<CallKey>,
        reply: &mut Assembly,
    ) -> Result<usize, ProviderError> {
        let in_place = self.by_place(place.as_ref(), Kind::of(item)).filter(|&at| !self.all[at].is_done);
        match self.by_id(&ids(item), Kind::of(item)).or(in_place) {
            Some(known) => Ok(known),
            None => self.add(Kind::of(item), &ids(item), place, reply),
        }
    }

    /// The item that the whole response has in this place, if it came before.
    pub(super) fn known(&self, item: &Value, place: Option<&CallKey>) -> Option<usize> {
        self.by_id(&ids(item), Kind::of(item)).or(self.by_place(place, Kind::of(item)))
    }

    fn by_id(&self, ids: &[&str], kind: Kind) -> Option<usize> {
        let known = ids.iter().find_map(|id| self.by_id.get(*id).copied());
        known.filter(|&at| self.all[at].kind == kind)
    }

    fn by_place(&self, place: Option<&CallKey>, kind: Kind) -> Option<usize> {
        let known = self.by_place.get(place?).copied();
        known.filter(|&at| self.all[at].kind == kind)
    }

    fn add(
        &mut self,
        kind: Kind,
        ids: &[&str],
        place: Option<CallKey>,
        reply: &mut Assembly,
    ) -> Result<usize, ProviderError> {
        let at = self.all.len();
        let names: usize = ids.iter().map(|id| id.len()).sum();
        reply.account(ITEM_BYTES + names + place.as_ref().map_or(0, CallKey::bytes))?;
        for id in ids.iter().filter(|id| !id.is_empty()) {
            self.by_id.insert((*id).to_owned(), at);
        }
        self.by_place.extend(place.map(|place| (place, at)));
        self.last.insert(kind, at);
        self.all.push(Item::new(kind));
        Ok(at)
    }
}

impl Item {
    fn new(kind: Kind) -> Self {
        Self { kind, is_done: false, is_named: false, has_phase: false, sections: HashSet::new() }
    }

    /// Whether no section of it has come.
    pub(super) fn is_blank(&self) -> bool {
        self.sections.is_empty()
    }

    /// Marks a section as come. Returns whether it had not come before. A section that the stream does not count may be
    /// any of them.
    ///
    /// # Errors
    ///
    /// As [`Assembly::text`].
    pub(super) fn mark(
        &mut self,
        section: Option<CallKey>,
        reply: &mut Assembly,
    ) -> Result<bool, ProviderError> {
        let known = match section {
            Some(_) => self.sections.contains(&section) || self.sections.contains(&None),
            None => !self.sections.is_empty(),
        };
        if !known {
            reply.account(SECTION_BYTES + section.as_ref().map_or(0, CallKey::bytes))?;
            self.sections.insert(section);
        }
        Ok(!known)
    }
}

/// The names by which events may call an item.
fn ids(item: &Value) -> [&str; 2] {
    ["id", "call_id"].map(|field| item[field].as_str().unwrap_or_default())
}
